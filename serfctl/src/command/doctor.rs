//! An agent and its view of the cluster in, what is wrong and what to do about it out.

use std::collections::{BTreeMap, BTreeSet};

use bstr::BString;
use serf_rpc::{Client, Member, MemberStatus, Query, QueryReply, Stats};

use crate::{
    cli::AgentArgs, connect::connect, exit::Failure, members::socket_addr, output, terminal::escape,
};

/// The bytes that all tags of a node may have together (`memberlist.MetaMaxSize`).
const TAGS_MAX: usize = 512;
/// From so many on it is time to say something.
const TAGS_NEAR: usize = 450;
/// Messages that wait to be gossiped, from so many on.
const QUEUE_LONG: u64 = 100;

/// What was found: a line and what to do.
struct Finding(String, &'static str);

/// Looks, and prints what it finds.
///
/// # Errors
///
/// No connection, or there is something to do.
pub(crate) async fn run(agent: &AgentArgs) -> Result<Vec<u8>, Failure> {
    let client = connect(agent).await?;
    let (stats, members) = (client.stats().await?, client.members().await?);
    let alive: Vec<&Member> = members
        .iter()
        .filter(|member| member.status() == MemberStatus::Alive)
        .collect();
    let name = stats.agent_name().map(|name| escape(name).into_owned());
    output::line(&format!(
        "agent {} at {}: {} members, {} alive",
        name.unwrap_or_default(),
        escape(agent.addr().as_bytes()),
        members.len(),
        alive.len()
    ))?;
    let mut findings = Vec::new();
    findings.extend(clear_key(agent)?);
    findings.extend(of_stats(&stats));
    findings.extend(of_members(&members));
    findings.extend(of_tags(&alive));
    findings.extend(silent(&client, &alive).await?);
    for Finding(what, advice) in &findings {
        output::line(&format!("! {what}\n  try: {advice}"))?;
    }
    match findings.len() {
        0 => Ok(b"nothing to do\n".to_vec()),
        1 => Err(Failure::Found("1 thing to do".to_owned())),
        count => Err(Failure::Found(format!("{count} things to do"))),
    }
}

/// The RPC is not encrypted: beyond this host anybody on the way reads the key.
fn clear_key(agent: &AgentArgs) -> Result<Option<Finding>, Failure> {
    let host = agent.addr().rsplit_once(':').map_or("", |(host, _)| host);
    let local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
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

/// Live members that a question does not reach, or whose answer gets lost.
async fn silent(client: &Client, alive: &[&Member]) -> Result<Option<Finding>, Failure> {
    let mut missing: BTreeSet<BString> = alive
        .iter()
        .map(|member| member.name().to_owned())
        .collect();
    let mut replies = client
        .query(&Query::new("_serf_ping").request_ack(true))
        .await?;
    while !missing.is_empty() {
        match replies.next().await.transpose()? {
            Some(QueryReply::Ack { from }) => drop(missing.remove(&from)),
            Some(_) => {}
            None => break,
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
