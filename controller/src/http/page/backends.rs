//! Backends and their servers: a status in, what is shown of them out. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ago, clock_time};
use crate::status::{Backend, Server, Status};

/// Servers of a backend that are shown; who needs a look goes first.
const CELLS: usize = 1500;

/// A backend.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    name: &'a str,
    /// `ok`, `warn` or `bad`.
    class: &'static str,
    says: String,
    picks: &'a str,
    /// Servers that are not as they should be, or not known to be.
    look: Vec<Cell<'a>>,
    well: Vec<Cell<'a>>,
    /// `narrow`, `medium` or `wide`, as their names are long.
    width: &'static str,
    /// Servers that are to have no traffic.
    idle: Vec<Cell<'a>>,
    /// Servers that are not shown.
    more: usize,
}

/// A server.
#[derive(Serialize)]
struct Cell<'a> {
    name: &'a str,
    class: &'static str,
    sign: &'static str,
    state: &'a str,
    held: bool,
    suspected: bool,
    why: &'a str,
    address: String,
    weight: u16,
    gossip: &'a str,
    check: &'a str,
    probe: &'a str,
    /// What its agent check says; none where it has none.
    agent: Option<&'a str>,
    origin: &'a str,
    lasts: String,
    since: String,
}

/// Servers that the guard keeps, and what lets them go.
#[derive(Serialize)]
pub(super) struct Held<'a> {
    backend: &'a str,
    servers: Vec<&'a str>,
    why: &'a str,
    command: String,
}

/// Every backend, with its servers.
pub(super) fn backends(backends: &BTreeMap<String, Backend>, now: u64) -> Vec<Row<'_>> {
    let rows = backends.iter();
    rows.map(|(name, backend)| row(name, backend, now))
        .collect()
}

fn row<'a>(name: &'a str, backend: &'a Backend, now: u64) -> Row<'a> {
    let cells = backend.servers.iter();
    let cells = cells.map(|(name, server)| cell(name, server, now));
    let (mut well, others): (Vec<_>, Vec<_>) = cells.partition(|cell| cell.class == "ok");
    let (mut idle, mut look): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|cell| cell.class == "idle");
    look.sort_by_key(|cell| cell.class != "bad");
    let mut places = CELLS;
    for cells in [&mut look, &mut idle, &mut well] {
        cells.truncate(places);
        places -= cells.len();
    }
    let longest = well.iter().map(|cell| cell.name.chars().count()).max();
    Row {
        name,
        width: match longest.unwrap_or_default() {
            0..=8 => "narrow",
            9..=14 => "medium",
            _ => "wide",
        },
        class: class(backend, &look),
        says: says(backend),
        picks: &backend.picks,
        look,
        well,
        idle,
        more: backend.servers.len().saturating_sub(CELLS),
    }
}

fn says(backend: &Backend) -> String {
    let in_rotation = match (backend.in_rotation, backend.answering) {
        (Some(in_rotation), Some(answering)) if backend.checked => {
            format!("{in_rotation} in rotation, {answering} answering")
        }
        (Some(in_rotation), _) => format!("{in_rotation} in rotation, not checked"),
        (None, _) => "HAProxy is not read".to_owned(),
    };
    format!(
        "{in_rotation}; {} removed of {} that may go on one witness's word",
        backend.removed, backend.may_go
    )
}

fn class(backend: &Backend, look: &[Cell<'_>]) -> &'static str {
    let serves = backend.answering.is_some_and(|count| count > 0);
    match () {
        () if !backend.servers.is_empty() && !serves => "bad",
        () if !look.is_empty() => "warn",
        () => "ok",
    }
}

fn cell<'a>(name: &'a str, server: &'a Server, now: u64) -> Cell<'a> {
    let (class, sign) = look(server);
    let agent = Some(server.agent.as_str());
    Cell {
        name,
        class,
        sign,
        state: &server.state,
        held: server.held,
        suspected: server.suspected,
        why: &server.why,
        address: server.address.to_string(),
        weight: server.weight,
        gossip: &server.gossip,
        check: &server.check,
        probe: &server.probe,
        agent: agent.filter(|says| !matches!(*says, "" | "none")),
        origin: match &*server.origin {
            "member" => "a member of the cluster",
            "before" => "from before the start of this controller",
            "worker" => "found in HAProxy's worker",
            other => other,
        },
        lasts: ago(now.saturating_sub(server.since)),
        since: clock_time(server.since),
    }
}

/// How a state looks: the sign says it to whoever does not see the colour.
fn look(server: &Server) -> (&'static str, &'static str) {
    match &*server.state {
        "ready" if server.held => ("warn", "⚑"),
        "ready" if server.suspected => ("warn", "?"),
        "ready" => ("ok", "✓"),
        "down" => ("bad", "✗"),
        "unknown" => ("bad", "?"),
        "pending" | "waiting" => ("warn", "…"),
        "drain" | "leaving" => ("idle", "↓"),
        "maint" => ("idle", "‖"),
        "gone" => ("idle", "·"),
        _ => ("idle", "–"),
    }
}

/// Everybody who is held, by backend.
pub(super) fn held(status: &Status) -> Vec<Held<'_>> {
    let mut held: Vec<Held<'_>> = Vec::new();
    for (name, backend) in &status.backends {
        for (server, of) in backend.servers.iter().filter(|(_, server)| server.held) {
            let last = held.last_mut();
            match last.filter(|last| last.backend == name && last.why == of.why) {
                Some(last) => last.servers.push(server),
                None => held.push(Held {
                    backend: name,
                    servers: vec![server],
                    why: &of.why,
                    command: String::new(),
                }),
            }
        }
    }
    for held in &mut held {
        held.command = command(held, status.revision);
    }
    held
}

/// What lets them go, if nothing has changed since.
fn command(held: &Held<'_>, revision: u64) -> String {
    let mut command = format!("serf-haproxy approve --revision {revision}");
    for server in &held.servers {
        command.push_str(&format!(" {}/{server}", held.backend));
    }
    command
}
