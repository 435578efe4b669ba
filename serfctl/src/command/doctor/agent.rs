//! What an agent says of itself in, what is wrong with it out.

use std::net::ToSocketAddrs as _;

use serf_rpc::{Member, MemberStatus, Stats};

use super::Finding;
use crate::{agent::AgentArgs, exit::Failure};

/// Messages that wait to be gossiped, from so many on.
const QUEUE_LONG: u64 = 100;
/// Beyond it no clock of events gets by counting them; whoever forges an event can set it there, and members then
/// take real events for old ones.
const CLOCK_ABSURD: u64 = 1 << 40;
/// Where the clock of members stands from an agent's start until it hears of another: nothing of its own moves it.
const CLOCK_BEGINS: u64 = 1;

/// The RPC is not encrypted: beyond this host anybody on the way reads the key.
///
/// # Errors
///
/// The file with the key cannot be read.
pub(super) fn clear_key(agent: &AgentArgs) -> Result<Option<Finding>, Failure> {
    let local = agent
        .addr()
        .to_socket_addrs()
        .is_ok_and(|mut addrs| addrs.all(|addr| addr.ip().to_canonical().is_loopback()));
    let what = match (local, agent.auth_key()?.is_some()) {
        (true, _) => return Ok(None),
        (false, true) => "the RPC key goes over the network in clear",
        (false, false) => "the RPC is open to the network, without a key",
    };
    Ok(Some(Finding::new(
        what.to_owned(),
        "let the agent's `-rpc-addr` be 127.0.0.1:7373, and reach it through ssh",
    )))
}

/// A cluster of one: whoever starts an agent means to have others. Whether it had any, the clock of members tells: it
/// comes back with a snapshot, and begins anew without one.
pub(super) fn alone(stats: &Stats, members: &[Member]) -> Option<Finding> {
    let was = stats.member_time().is_some_and(|time| time > CLOCK_BEGINS);
    let failed = |member: &&Member| member.status() == MemberStatus::Failed;
    let others = members.len().saturating_sub(1);
    if others > 1 && members.iter().filter(failed).count() == others {
        return Some(Finding::new(
            format!("all {others} other members have failed"),
            "more likely this host is cut off than all others ended: look at its network and at firewalls (7946, TCP \
             and UDP), and at the same on another member",
        ));
    }
    (others == 0).then(|| {
        let before = if was {
            ", though it has been among others before"
        } else {
            ""
        };
        Finding::new(
            format!("the agent knows only itself{before}"),
            "serfctl join ADDRESS of another member; `retry_join` or `snapshot_path` in the agent's configuration \
             lets it find the others by itself after a restart",
        )
    })
}

/// Its health, queues and clocks.
pub(super) fn of_stats(stats: &Stats) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(score) = stats.health_score().filter(|score| *score > 0) {
        findings.push(Finding::new(
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
            findings.push(Finding::new(
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
            findings.push(Finding::new(
                format!("the clock of {clock} stands at {time}: somebody forged a message"),
                "encrypt the gossip (serfctl keygen, serf agent -encrypt) and restart all agents without their snapshots",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(statuses: &[MemberStatus]) -> Vec<Member> {
        let member = |status| Member::builder("m").status(status).build();
        statuses.iter().copied().map(member).collect()
    }

    fn found(statuses: &[MemberStatus]) -> String {
        let finding = alone(&Stats::default(), &members(statuses));
        finding.map(|finding| finding.0).unwrap_or_default()
    }

    #[test]
    fn who_knows_nobody_and_who_has_lost_everybody_is_told() {
        use MemberStatus::{Alive, Failed, Left};
        assert_eq!(found(&[Alive]), "the agent knows only itself");
        assert_eq!(
            found(&[Alive, Failed, Failed]),
            "all 2 other members have failed"
        );
        for fine in [
            &[Alive, Alive][..],
            &[Alive, Failed],
            &[Alive, Left, Left],
            &[Alive, Alive, Failed],
        ] {
            assert_eq!(found(fine), "", "{fine:?}");
        }
    }
}
