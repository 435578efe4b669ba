//! An agent and its view of the cluster in, what is wrong and what to do about it out; on request HAProxy's side too.

mod agent;
mod answers;
mod haproxy;
mod log;
mod members;

use std::{borrow::Cow, fmt::Write as _, path::PathBuf};

use clap::Args;
use serde::Serialize;
use serf_rpc::{Member, MemberStatus};

use crate::{
    agent::AgentArgs,
    args::Format,
    connect::connect,
    exit::Failure,
    json::{document_of, line_of},
    output,
    progress::Progress,
    terminal::{escape, lossy},
};

/// Look for what is wrong with an agent and its view of the cluster, and say what to do
///
/// Looks whether the agent knows anybody, at its health, queues and clocks, at failed members, those that live and count
/// as leaving, protocol versions, tags near their limit, names and addresses in conflict or on loopback, live nodes that
/// do not answer, and an RPC that is open to the network. Conflicts of names, and keys that do not fit, are found in the
/// agent's log, whose last lines it shows for as long as they are the last. With a socket of HAProxy it looks there too:
/// which members have no server, which servers no member, who is down. Exits 1 if there is anything to do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl doctor
  serfctl doctor --haproxy-socket /run/haproxy-master.sock
  serfctl doctor --rpc-addr 10.0.0.5:7373 --format json")]
pub(crate) struct DoctorArgs {
    /// HAProxy's stats socket, or its master's, which also tells of old workers; nothing is changed there
    #[arg(long, value_name = "PATH")]
    haproxy_socket: Option<PathBuf>,

    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What was found: a line and what to do.
#[derive(Debug, PartialEq, Eq)]
struct Finding(String, Cow<'static, str>);

#[derive(Serialize)]
struct Report<'a> {
    agent: Cow<'a, str>,
    addr: &'a str,
    members: usize,
    alive: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    haproxy: Option<haproxy::Summary>,
    findings: Vec<Advice<'a>>,
}

#[derive(Serialize)]
struct Advice<'a> {
    found: &'a str,
    r#try: &'a str,
}

/// Looks, and prints what it finds.
///
/// # Errors
///
/// No connection, or there is something to do.
pub(crate) async fn run(agent: &AgentArgs, args: &DoctorArgs) -> Result<Vec<u8>, Failure> {
    let client = connect(agent).await?;
    let (stats, members) = (client.stats().await?, client.members().await?);
    let alive: Vec<&Member> = members
        .iter()
        .filter(|member| member.status() == MemberStatus::Alive)
        .collect();
    let mut findings = Vec::new();
    findings.extend(agent::clear_key(agent)?);
    findings.extend(agent::alone(&stats, &members));
    findings.extend(agent::of_stats(&stats));
    findings.extend(members::of(&members));
    findings.extend(log::of(&log::read(&client).await?));
    let mut summary = None;
    if let Some(path) = &args.haproxy_socket {
        let (found, said) = haproxy::look(path, agent.timeout(), &members).await;
        summary = found;
        findings.extend(said);
    }
    let progress = Progress::new();
    findings.extend(answers::of(&client, &members, &progress).await?);
    drop(progress);
    let addr = agent.addr();
    let name = stats.agent_name().map_or(&b""[..], |name| name);
    let report = Report {
        agent: lossy(name),
        addr: &addr,
        members: members.len(),
        alive: alive.len(),
        haproxy: summary,
        findings: findings.iter().map(Finding::advice).collect(),
    };
    output::write(&match args.format {
        Format::Text => text(&report, name).into_bytes(),
        Format::Json => document_of(&report),
        Format::Ndjson => line_of(&report),
    })?;
    match findings.len() {
        0 => Ok(Vec::new()),
        1 => Err(Failure::Found("1 thing to do".to_owned())),
        count => Err(Failure::Found(format!("{count} things to do"))),
    }
}

impl Finding {
    fn new(found: String, advice: impl Into<Cow<'static, str>>) -> Self {
        Self(found, advice.into())
    }

    fn advice(&self) -> Advice<'_> {
        Advice {
            found: &self.0,
            r#try: &self.1,
        }
    }
}

fn text(report: &Report<'_>, name: &[u8]) -> String {
    let mut out = format!(
        "agent {} at {}: {} members, {} alive\n",
        escape(name),
        escape(report.addr.as_bytes()),
        report.members,
        report.alive
    );
    if let Some(haproxy) = &report.haproxy {
        writeln!(out, "{haproxy}").unwrap_or_default();
    }
    for Advice { found, r#try } in &report.findings {
        writeln!(out, "! {found}\n  try: {try}").unwrap_or_default();
    }
    if report.findings.is_empty() {
        out.push_str("nothing to do\n");
    }
    out
}

fn name(member: &Member) -> &[u8] {
    member.name()
}

/// The names of members, safe for a terminal: of many the first.
fn names<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> String {
    const SHOWN: usize = 10;
    let names: Vec<_> = names.into_iter().map(escape).collect();
    let some: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_some_are_shown_and_none_is_obeyed() {
        assert_eq!(names([&b"a"[..], b"b\n"]), "a, b\\n");
        let many = names([&b"x"[..]; 12]);
        assert!(many.ends_with("x, x and 2 more"), "{many}");
    }
}
