//! The membership as it changes: who is there first, then each change and each gap, a line each.

use std::time::SystemTime;

use clap::Args;
use serde::Serialize;
use serf_rpc::{Change, ConnectError, Member, WatchError, WatchEvent, Watcher};

use crate::{
    agent::AgentArgs,
    args::LineFormat,
    connect,
    exit::{Failure, chain},
    member::{Row, socket_addr, tags},
    output,
    terminal::{Style, escape},
};

/// Follow the members as they come and go
///
/// First a line for each member, then one for each change. It goes on over restarts of the agent: a line says that the
/// agent is lost, another that it answers again, and between them the changes that were missed. An agent that is stopped
/// counts as lost after some 20 s. Ends with Ctrl-C, or when the agent refuses the key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl watch
  serfctl watch --format ndjson | jq -r .member.name")]
pub(crate) struct WatchArgs {
    /// How to print them
    #[arg(long, value_enum, default_value_t = LineFormat::Text)]
    format: LineFormat,
}

#[derive(Default, Serialize)]
struct Line<'a> {
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<Row<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

/// Prints until nobody reads on.
///
/// # Errors
///
/// A key or an address that is wrong; a lost agent is waited for.
pub(crate) async fn run(agent: &AgentArgs, args: &WatchArgs) -> Result<Vec<u8>, Failure> {
    output::follow(lines(agent, args)).await
}

async fn lines(agent: &AgentArgs, args: &WatchArgs) -> Result<Vec<u8>, Failure> {
    if let Err(failure) = connect::connect(agent).await
        && failure.is_final()
    {
        return Err(failure);
    }
    let watcher = Watcher::spawn(connect::options(agent)?);
    let mut events = watcher.changes();
    let mut seen = None;
    let mut lost = None;
    while let Some(event) = events.next().await {
        match event {
            WatchEvent::Connected { addr } => {
                lost = None;
                args.gap("agent-connected", &addr, None)?;
                if seen.is_none() {
                    let Ok(snapshot) = watcher.ready().await else {
                        break;
                    };
                    for entry in snapshot.entries() {
                        args.member("member", &entry.member)?;
                    }
                    seen = Some(snapshot.revision());
                }
            }
            // It is tried again and again; a reason is said once.
            WatchEvent::Unreachable { addr, error } => {
                let reason = Some(chain(&*error));
                if lost != reason {
                    args.gap("agent-lost", &addr, reason.clone())?;
                    lost = reason;
                }
                if wants_another_key(&error) {
                    connect::connect(agent).await?;
                }
            }
            WatchEvent::Changed { revision, change }
                if seen.is_some_and(|seen| revision > seen) =>
            {
                args.member(word(&change), change.member())?;
            }
            WatchEvent::Lagged(missed) => args.lagged(missed)?,
            _ => {}
        }
    }
    Ok(Vec::new())
}

/// No time mends that.
fn wants_another_key(error: &WatchError) -> bool {
    let WatchError::Connect(error) = error else {
        return false;
    };
    matches!(
        error,
        ConnectError::BadKey { .. } | ConnectError::MissingKey { .. }
    )
}

fn word(change: &Change) -> &'static str {
    match change {
        Change::Joined(_) => "joined",
        Change::Leaving(_) => "leaving",
        Change::Left(_) => "left",
        Change::Failed(_) => "failed",
        Change::Updated { .. } => "updated",
        Change::Absent(_) => "absent",
        Change::Returned { .. } => "returned",
        Change::Reaped(_) => "reaped",
        Change::Forgotten(_) => "forgotten",
        _ => "changed",
    }
}

impl WatchArgs {
    fn member(&self, event: &'static str, member: &Member) -> Result<(), Failure> {
        if self.format == LineFormat::Ndjson {
            return ndjson(&Line {
                member: Some(Row::new(member)),
                ..line(event)
            });
        }
        let (name, addr) = (escape(member.name()), socket_addr(member));
        let status = Style::of_stdout().status(member.status(), member.status().as_str());
        let text = format!("{event} {name} {addr} {status} {}", tags(member));
        say(text.trim_end())
    }

    fn gap(&self, event: &'static str, addr: &str, reason: Option<String>) -> Result<(), Failure> {
        if self.format == LineFormat::Ndjson {
            return ndjson(&Line {
                agent: Some(addr),
                reason,
                ..line(event)
            });
        }
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        say(&escape(format!("{event} {addr}{reason}").as_bytes()))
    }

    fn lagged(&self, missed: u64) -> Result<(), Failure> {
        if self.format == LineFormat::Ndjson {
            return ndjson(&Line {
                missed: Some(missed),
                ..line("lagged")
            });
        }
        say(&format!("lagged {missed} changes were left out"))
    }
}

/// The time as lines have it.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn line(event: &'static str) -> Line<'static> {
    Line {
        time: now(),
        event,
        ..Line::default()
    }
}

fn say(text: &str) -> Result<(), Failure> {
    output::line(&format!("{} {text}", now()))
}

fn ndjson(line: &Line<'_>) -> Result<(), Failure> {
    output::write(&crate::json::line_of(line))
}
