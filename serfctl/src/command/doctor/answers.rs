//! The members in, who of them does not answer though he should, and who answers though he is leaving, out.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bstr::BString;
use serf_rpc::{Client, Member, MemberStatus, Query, QueryReply};

use super::{Finding, names};
use crate::{command::answers, exit::Failure, progress::Progress};

/// An acknowledgement is a single packet, and may get lost once.
const ASKED: usize = 3;
/// The names of a query, in bytes; all of it may have 1024.
const NAMES_MAX: usize = 512;
/// A leave takes no longer until it is `left`: its word has 5 s to spread.
const LEAVE_TAKES: Duration = Duration::from_secs(6);
/// Between two looks at who is leaving.
const LOOK: Duration = Duration::from_millis(250);

/// Asks all who are alive or leaving.
///
/// # Errors
///
/// The agent is lost.
pub(super) async fn of(
    client: &Client,
    members: &[Member],
    progress: &Progress,
) -> Result<Vec<Finding>, Failure> {
    let seen = Instant::now();
    let (alive, leaving) = (
        named(members, MemberStatus::Alive),
        named(members, MemberStatus::Leaving),
    );
    progress.show("asking every live member");
    let silent = silent(client, &alive | &leaving).await?;
    let mut findings = Vec::new();
    let unreached: Vec<&[u8]> = silent.intersection(&alive).map(|name| &name[..]).collect();
    if !unreached.is_empty() {
        findings.push(Finding::new(
            format!("alive, but not reached: {}", names(unreached)),
            "look for firewalls, NAT and wrong -advertise addresses between them and this agent (7946, TCP and UDP)",
        ));
    }
    let mut stuck = &leaving - &silent;
    while !stuck.is_empty() && seen.elapsed() < LEAVE_TAKES {
        progress.show("seeing whether who is leaving goes");
        tokio::time::sleep(LOOK).await;
        stuck = &stuck & &named(&client.members().await?, MemberStatus::Leaving);
    }
    if !stuck.is_empty() {
        let stuck = names(stuck.iter().map(|name| &name[..]));
        findings.push(Finding::new(
            format!("alive, but counts as leaving: {stuck}; somebody forced it (force-leave), and its word against that was lost"),
            "on its host: serfctl join ADDRESS of another member, which brings it back",
        ));
    }
    Ok(findings)
}

fn named(members: &[Member], status: MemberStatus) -> BTreeSet<BString> {
    let members = members.iter().filter(|member| member.status() == status);
    members.map(|member| member.name().to_owned()).collect()
}

/// Of these, those that a question does not reach, or whose answer gets lost again and again.
async fn silent(
    client: &Client,
    mut missing: BTreeSet<BString>,
) -> Result<BTreeSet<BString>, Failure> {
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
    Ok(missing)
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
