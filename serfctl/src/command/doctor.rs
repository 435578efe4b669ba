//! An agent and its view of the cluster in, what is wrong and what to do about it out.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::ToSocketAddrs as _,
    time::Duration,
};

use bstr::BString;
use clap::Args;
use serde::Serialize;
use serf_rpc::{Client, LogLevel, Member, MemberStatus, Query, QueryReply, Stats};
use tokio::time::timeout;

use crate::{
    agent::AgentArgs,
    args::Format,
    command::answers,
    connect::connect,
    exit::Failure,
    json::{document_of, line_of},
    members::socket_addr,
    output,
    progress::Progress,
    terminal::{escape, lossy},
};

/// The bytes that all tags of a node may have together (`memberlist.MetaMaxSize`).
const TAGS_MAX: usize = 512;
/// From so many on it is time to say something.
const TAGS_NEAR: usize = 450;
/// Messages that wait to be gossiped, from so many on.
const QUEUE_LONG: u64 = 100;

/// Beyond it no clock of events gets by counting them; whoever forges an event can set it there, and members then
/// take real events for old ones.
const CLOCK_ABSURD: u64 = 1 << 40;
/// An acknowledgement is a single packet, and may get lost once.
const ASKED: usize = 3;
/// The names of a query, in bytes; all of it may have 1024.
const NAMES_MAX: usize = 512;
/// The agent's log comes at once; a pause this long is its end.
const LOG_PAUSE: Duration = Duration::from_millis(200);
/// How Serf speaks of two nodes with one name.
const CONFLICTS: [&str; 2] = ["serf: Name conflict for ", "Conflicting address for "];
/// More of it is not read.
const LOG_MAX: usize = 1024;

/// Look for what is wrong with an agent and its view of the cluster, and say what to do
///
/// Looks whether the agent knows anybody, at its health, queues and clocks, at failed members, protocol versions, tags near their limit, names
/// and addresses in conflict, live nodes that do not answer, and an RPC that is open to the network. Exits 1 if there
/// is anything to do. A conflict of names is found in the agent's log, whose last lines it shows for as long as they
/// are the last.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl doctor
  serfctl doctor --rpc-addr 10.0.0.5:7373 --format json")]
pub(crate) struct DoctorArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What was found: a line and what to do.
struct Finding(String, &'static str);

#[derive(Serialize)]
struct Report<'a> {
    agent: Cow<'a, str>,
    addr: &'a str,
    members: usize,
    alive: usize,
    findings: Vec<Advice<'a>>,
}

#[derive(Serialize)]
struct Advice<'a> {
    found: &'a str,
    r#try: &'static str,
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
    let progress = Progress::new();
    progress.show("asking every live member");
    let mut findings = Vec::new();
    findings.extend(clear_key(agent)?);
    findings.extend(alone(&members));
    findings.extend(of_stats(&stats));
    findings.extend(of_members(&members));
    findings.extend(of_tags(&alive));
    findings.extend(conflicts(&client).await?);
    findings.extend(silent(&client, &alive).await?);
    drop(progress);
    let addr = agent.addr();
    let name = stats.agent_name().map_or(&b""[..], |name| name);
    let report = Report {
        agent: lossy(name),
        addr: &addr,
        members: members.len(),
        alive: alive.len(),
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
    fn advice(&self) -> Advice<'_> {
        Advice {
            found: &self.0,
            r#try: self.1,
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
    for Advice { found, r#try } in &report.findings {
        writeln!(out, "! {found}\n  try: {try}").unwrap_or_default();
    }
    if report.findings.is_empty() {
        out.push_str("nothing to do\n");
    }
    out
}

/// What the agent has logged of names that two nodes claim: nothing else tells, for one of the two is no member. A
/// line may be any node's words; it is shown and no more.
async fn conflicts(client: &Client) -> Result<Option<Finding>, Failure> {
    let mut log = client.monitor(LogLevel::Warn).await?;
    let mut last = None;
    for _ in 0..LOG_MAX {
        let Ok(Some(line)) = timeout(LOG_PAUSE, log.next()).await else {
            break;
        };
        let line = escape(&line?.0).trim_end().to_owned();
        if CONFLICTS.iter().any(|words| line.contains(words)) {
            last = Some(line);
        }
    }
    Ok(last.map(|line| {
        Finding(
            format!("the agent has logged a conflict of names: {line}"),
            "two nodes claim one name: give each its own -node and restart the newer one",
        )
    }))
}

/// The RPC is not encrypted: beyond this host anybody on the way reads the key.
fn clear_key(agent: &AgentArgs) -> Result<Option<Finding>, Failure> {
    let local = agent
        .addr()
        .to_socket_addrs()
        .is_ok_and(|mut addrs| addrs.all(|addr| addr.ip().to_canonical().is_loopback()));
    let what = match (local, agent.auth_key()?.is_some()) {
        (true, _) => return Ok(None),
        (false, true) => "the RPC key goes over the network in clear",
        (false, false) => "the RPC is open to the network, without a key",
    };
    Ok(Some(Finding(
        what.to_owned(),
        "let the agent's `-rpc-addr` be 127.0.0.1:7373, and reach it through ssh",
    )))
}

/// A cluster of one: whoever starts an agent means to have others.
fn alone(members: &[Member]) -> Option<Finding> {
    (members.len() == 1).then(|| {
        Finding(
            "the agent knows only itself".to_owned(),
            "serfctl join ADDRESS of another member; `retry_join` or `snapshot_path` in the agent's configuration \
             lets it find the others by itself after a restart",
        )
    })
}

fn of_stats(stats: &Stats) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(score) = stats.health_score().filter(|score| *score > 0) {
        findings.push(Finding(
            format!("the agent's health score is {score}: it is slow to answer probes itself"),
            "look at its CPU and its network before you believe whom it calls failed",
        ));
    }
    for (queue, length) in [
        ("intents", stats.intent_queue()),
        ("events", stats.event_queue()),
        ("queries", stats.query_queue()),
    ] {
        if let Some(length) = length.filter(|length| *length >= QUEUE_LONG) {
            findings.push(Finding(
                format!("{length} {queue} wait to be gossiped"),
                "send fewer events and queries, or find who floods the cluster: serfctl monitor",
            ));
        }
    }
    for (clock, time) in [
        ("events", stats.event_time()),
        ("queries", stats.query_time()),
        ("members", stats.member_time()),
    ] {
        if let Some(time) = time.filter(|time| *time >= CLOCK_ABSURD) {
            findings.push(Finding(
                format!("the clock of {clock} stands at {time}: somebody forged a message"),
                "encrypt the gossip (serfctl keygen, serf agent -encrypt) and restart all agents without their snapshots",
            ));
        }
    }
    findings
}

fn of_members(members: &[Member]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let failed: Vec<_> = members
        .iter()
        .filter(|member| member.status() == MemberStatus::Failed)
        .map(|member| escape(member.name()).into_owned())
        .collect();
    if !failed.is_empty() {
        findings.push(Finding(
            format!("{} failed: {}", failed.len(), failed.join(", ")),
            "see whether their hosts are up; serfctl force-leave NAME for those that are gone for good",
        ));
    }
    let mut at: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut versions = BTreeSet::new();
    for member in members
        .iter()
        .filter(|member| member.status() == MemberStatus::Alive)
    {
        let name = escape(member.name()).into_owned();
        at.entry(socket_addr(member)).or_default().push(name);
        versions.insert(member.delegate().current);
    }
    for (addr, names) in at.iter().filter(|(_, names)| names.len() > 1) {
        findings.push(Finding(
            format!("{addr} is the address of {}", names.join(" and ")),
            "a node was renamed, or two advertise one address: -node and -advertise must be unique",
        ));
    }
    if versions.len() > 1 {
        let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
        findings.push(Finding(
            format!("members speak protocols {}", versions.join(" and ")),
            "finish the upgrade: serfctl members --detailed shows who is behind",
        ));
    }
    findings
}

fn of_tags(alive: &[&Member]) -> Vec<Finding> {
    let near = alive.iter().filter_map(|member| {
        // A map of short strings: a byte before each, and one or three before all, after a byte of the kind.
        let bytes: usize = member
            .tags()
            .map(|(key, value)| key.len() + value.len() + 4)
            .sum();
        (bytes >= TAGS_NEAR).then(|| {
            Finding(
                format!(
                    "the tags of {} have about {bytes} of {TAGS_MAX} bytes",
                    escape(member.name())
                ),
                "shorten them: an agent whose tags are too long does not start",
            )
        })
    });
    near.collect()
}

/// Live members that a question does not reach, or whose answer gets lost again and again.
async fn silent(client: &Client, alive: &[&Member]) -> Result<Option<Finding>, Failure> {
    let mut missing: BTreeSet<BString> = alive
        .iter()
        .map(|member| member.name().to_owned())
        .collect();
    for _ in 0..ASKED {
        if missing.is_empty() {
            break;
        }
        let mut replies = client.query(&ping(&missing)).await?;
        while !missing.is_empty() {
            match answers::next(client, &mut replies).await? {
                Some(QueryReply::Ack { from }) => drop(missing.remove(&from)),
                Some(_) => {}
                None => break,
            }
        }
    }
    let names: Vec<_> = missing
        .iter()
        .map(|name| escape(name).into_owned())
        .collect();
    Ok((!names.is_empty()).then(|| {
        Finding(
            format!("alive, but not reached: {}", names.join(", ")),
            "look for firewalls, NAT and wrong -advertise addresses between them and this agent (7946, TCP and UDP)",
        )
    }))
}

/// A ping of these; of everybody, where their names do not fit into a query.
fn ping(names: &BTreeSet<BString>) -> Query {
    let ping = answers::ping();
    let bytes: usize = names.iter().map(|name| name.len()).sum();
    if bytes > NAMES_MAX {
        return ping;
    }
    names.iter().fold(ping, |ping, name| ping.node(name))
}
