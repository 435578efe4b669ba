//! The agent's log and its events, as they come.

use std::{borrow::Cow, fmt::Write as _};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serf_rpc::{
    Event, EventFilter, EventKind, EventName, LogEntry, LogLevel, MemberEventKind, StreamError,
};

use crate::{
    agent::AgentArgs,
    args::LineFormat,
    command::watch::now,
    connect::connect,
    exit::Failure,
    json::{base64_of, line_of},
    member::{Row, socket_addr, tags},
    output,
    terminal::{escape, lossy},
};

/// Follow the agent's log and its events
///
/// Ends with Ctrl-C, or when the agent goes. Where it cannot follow, it says how much is left out and goes on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl monitor --log-level debug
  serfctl monitor --events member,user:deploy")]
pub(crate) struct MonitorArgs {
    /// From which level up log lines are shown
    #[arg(long, value_enum, default_value_t = Level::Info, ignore_case = true)]
    log_level: Level,

    /// Only these events and no log lines, with commas between: member, member-join, member-leave, member-failed,
    /// member-update, member-reap, user, user:NAME, query, query:NAME
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = kinds, conflicts_with = "log_level")]
    events: Vec<Kinds>,

    /// How to print them
    #[arg(long, value_enum, default_value_t = LineFormat::Text)]
    format: LineFormat,
}

/// The levels as `serf` has them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Err,
}

#[derive(Clone, Debug)]
struct Kinds(Vec<EventKind>);

const MEMBER: [MemberEventKind; 5] = [
    MemberEventKind::Join,
    MemberEventKind::Leave,
    MemberEventKind::Failed,
    MemberEventKind::Update,
    MemberEventKind::Reap,
];

fn kinds(text: &str) -> Result<Kinds, String> {
    let named = |name: &str| EventName::new(name).ok_or("a name is wanted after the colon");
    let one = |kind| Ok(Kinds(vec![kind]));
    match text.split_once(':') {
        Some(("user", name)) => one(EventKind::UserNamed(named(name)?)),
        Some(("query", name)) => one(EventKind::QueryNamed(named(name)?)),
        None if text == "user" => one(EventKind::User),
        None if text == "query" => one(EventKind::Query),
        None if text == "member" => Ok(Kinds(MEMBER.map(EventKind::Member).to_vec())),
        _ => MEMBER
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .map(|kind| Kinds(vec![EventKind::Member(kind)]))
            .ok_or_else(|| {
                "member, member-join, user, user:NAME, query or query:NAME is wanted".to_owned()
            }),
    }
}

/// Prints until the agent goes or nobody reads on.
///
/// # Errors
///
/// No connection, or the agent is lost.
pub(crate) async fn run(agent: &AgentArgs, args: &MonitorArgs) -> Result<Vec<u8>, Failure> {
    output::follow(lines(agent, args)).await
}

async fn lines(agent: &AgentArgs, args: &MonitorArgs) -> Result<Vec<u8>, Failure> {
    let client = connect(agent).await?;
    if !args.events.is_empty() {
        let kinds = args.events.iter().flat_map(|kinds| kinds.0.clone());
        let mut events = client.stream(EventFilter::of(kinds)).await?;
        while let Some(event) = events.next().await {
            args.event(event)?;
        }
        return Ok(Vec::new());
    }
    let mut events = client.stream(EventFilter::all()).await?;
    let mut log = client.monitor(args.log_level.into()).await?;
    loop {
        tokio::select! {
            Some(event) = events.next() => args.event(event)?,
            Some(line) = log.next() => args.log(line)?,
            else => return Ok(Vec::new()),
        }
    }
}

impl MonitorArgs {
    fn event(&self, event: Result<Event, StreamError>) -> Result<(), Failure> {
        let event = match event {
            Ok(Event::Lagged(missed)) => return self.lagged(missed),
            Ok(event) => event,
            Err(error) => return gap(error),
        };
        match self.format {
            LineFormat::Text => output::write(block(&event).as_bytes()),
            LineFormat::Ndjson => output::write(&line_of(&Line::of(&event))),
        }
    }

    fn log(&self, entry: Result<LogEntry, StreamError>) -> Result<(), Failure> {
        let line = match entry {
            Ok(LogEntry::Line(line)) => line,
            Ok(LogEntry::Lagged(missed)) => return self.lagged(missed),
            Ok(_) => return Ok(()),
            Err(error) => return gap(error),
        };
        let line: &[u8] = line.as_bytes();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        match self.format {
            LineFormat::Text => output::line(&escape(line)),
            LineFormat::Ndjson => output::write(&line_of(&Line {
                line: Some(lossy(line)),
                line_base64: base64_of(line),
                ..Line::new("log".into())
            })),
        }
    }

    /// So many were too much to follow.
    fn lagged(&self, missed: u64) -> Result<(), Failure> {
        match self.format {
            LineFormat::Ndjson => output::write(&line_of(&Line {
                missed: Some(missed),
                ..Line::new("lagged".into())
            })),
            LineFormat::Text => {
                output::complain(&format!("{missed} records left out"));
                Ok(())
            }
        }
    }
}

/// One that cannot be read is passed over.
fn gap(error: StreamError) -> Result<(), Failure> {
    match error {
        lost @ StreamError::Lost(_) => Err(lost.into()),
        error => {
            output::complain(&error.to_string());
            Ok(())
        }
    }
}

/// One line of ndjson.
#[derive(Default, Serialize)]
struct Line<'a> {
    time: String,
    event: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<Row<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ltime: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coalesce: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

impl<'a> Line<'a> {
    fn new(event: Cow<'a, str>) -> Self {
        Self {
            time: now(),
            event,
            ..Self::default()
        }
    }

    fn of(event: &'a Event) -> Self {
        let named = |event: &'static str, ltime: u64, name: &'a [u8], payload: &'a [u8]| Self {
            ltime: Some(ltime),
            name: Some(lossy(name)),
            name_base64: base64_of(name),
            payload: Some(lossy(payload)),
            payload_base64: base64_of(payload),
            ..Self::new(event.into())
        };
        match event {
            Event::Member { kind, members } => Self {
                members: Some(members.iter().map(Row::new).collect()),
                ..Self::new(kind.as_str().into())
            },
            Event::User {
                ltime,
                name,
                payload,
                coalesce,
            } => Self {
                coalesce: Some(*coalesce),
                ..named("user", *ltime, name, payload)
            },
            Event::Query {
                ltime,
                name,
                payload,
                ..
            } => named("query", *ltime, name, payload),
            Event::Unknown { kind } => Self::new(lossy(kind)),
            _ => Self::new("unknown".into()),
        }
    }
}

/// What `serf monitor` prints of an event, its lines in a fixed order; of members it has a line each.
fn block(event: &Event) -> String {
    let mut out = String::from("Event Info:\n");
    let mut figure = |key: &str, value: String| {
        writeln!(out, "\t{key}: {value}").unwrap_or_default();
    };
    match event {
        Event::Member { kind, members } => {
            figure("Event", format!("{:?}", kind.as_str()));
            for member in members {
                let (name, addr) = (escape(member.name()), socket_addr(member));
                figure(
                    "Member",
                    format!("{name} {addr} {} {}", member.status(), tags(member))
                        .trim_end()
                        .to_owned(),
                );
            }
        }
        Event::User {
            ltime,
            name,
            payload,
            coalesce,
        } => {
            figure("Event", "\"user\"".to_owned());
            figure("LTime", ltime.to_string());
            figure("Name", format!("\"{}\"", escape(name)));
            figure("Payload", bytes(payload));
            figure("Coalesce", coalesce.to_string());
        }
        Event::Query {
            id,
            ltime,
            name,
            payload,
        } => {
            figure("Event", "\"query\"".to_owned());
            figure("ID", id.number().to_string());
            figure("LTime", ltime.to_string());
            figure("Name", format!("\"{}\"", escape(name)));
            figure("Payload", bytes(payload));
        }
        Event::Unknown { kind } => figure("Event", format!("\"{}\"", escape(kind))),
        _ => {}
    }
    out
}

/// Bytes as Go prints them; of an empty payload the agent makes none.
fn bytes(payload: &[u8]) -> String {
    if payload.is_empty() {
        return "<nil>".to_owned();
    }
    let bytes: Vec<String> = payload.iter().map(|byte| format!("0x{byte:x}")).collect();
    format!("[]byte{{{}}}", bytes.join(", "))
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Err => Self::Err,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_serf_writes_them() {
        for (text, count) in [
            ("member", 5),
            ("member-join", 1),
            ("user", 1),
            ("user:deploy", 1),
            ("query:x", 1),
        ] {
            assert_eq!(kinds(text).map(|kinds| kinds.0.len()), Ok(count), "{text}");
        }
        for text in ["", "members", "user:", "member:x", "deploy"] {
            assert!(kinds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn payloads_are_printed_as_go_does() {
        assert_eq!(bytes(b"v1"), "[]byte{0x76, 0x31}");
        assert_eq!(bytes(b""), "<nil>");
    }
}
