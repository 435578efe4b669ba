//! What people see: the loop's parts in, a status and lines of the log out.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Daemon;
use crate::config::Config;
use crate::instances::Seen;
use crate::state::State;
use crate::status::{Problem, Row, Side, Status, TagsStatus};
use crate::tags::{LIMIT, overruled};

/// So many are named in a problem.
const NAMED: usize = 5;

/// What of containers the log was told last.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<(String, Option<String>), (Option<String>, Option<String>)>);

impl Told {
    /// Logs what is otherwise than it was told last.
    pub(super) fn tell(&mut self, status: &Status) {
        let mut now = BTreeMap::new();
        for row in &status.containers {
            let key = (row.id.clone(), row.service.clone());
            let what = (row.place.clone(), row.reason.clone());
            let before = self.0.get(&key);
            if before != Some(&what) {
                tell(row);
            }
            now.insert(key, what);
        }
        for ((id, service), (place, _)) in &self.0 {
            if !now.contains_key(&(id.clone(), service.clone()))
                && let Some(place) = place
            {
                tracing::info!(place, "gone");
            }
        }
        self.0 = now;
    }
}

fn tell(row: &Row) {
    let Row {
        container,
        service,
        place,
        reason,
        note,
        ..
    } = row;
    let service = service.as_deref().unwrap_or_default();
    let note = note.as_deref().unwrap_or_default();
    match (place, reason.as_deref()) {
        (Some(place), _) => tracing::info!(container, place, "there"),
        (
            None,
            Some("label" | "port" | "unpublished" | "network" | "twice" | "conflict" | "room"),
        ) => {
            tracing::warn!(container, service, reason = note, "left out");
        }
        (None, _) => tracing::info!(container, service, reason = note, "not there"),
    }
}

impl Daemon {
    /// How everything stands now.
    pub(super) fn describe(&self, now: Instant) -> Status {
        let mut status = of_state(&self.state, &self.config);
        let side = |at: String, (connected, since): (bool, Instant)| Side {
            at,
            connected,
            for_seconds: now.saturating_duration_since(since).as_secs(),
        };
        status.docker = side(
            self.config.docker.socket.display().to_string(),
            self.sides.docker,
        );
        status.agent = side(self.config.serf.addr.clone(), self.sides.agent);
        status.counters = self.counters;
        let problems = &self.problems;
        let found = [
            &problems.docker,
            &problems.agent,
            &problems.http,
            &problems.config,
        ];
        let found = found.into_iter().flatten().cloned();
        status.problems.splice(0..0, found);
        status
    }
}

/// How everything stands as far as that is decided.
pub(super) fn of_state(state: &State, config: &Config) -> Status {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let chosen = state.chosen();
    let mut services = BTreeMap::new();
    for place in &chosen.places {
        *services.entry(place.service.to_string()).or_insert(0) += 1;
    }
    let containers: Vec<Row> = state
        .seen()
        .iter()
        .flat_map(|seen| rows(seen, state))
        .collect();
    let wanted = chosen
        .tags
        .iter()
        .map(|(tag, value)| (text(tag), text(value)));
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: controller::clock::unix_secs(),
        docker: Side {
            at: config.docker.socket.display().to_string(),
            connected: state.is_listed(),
            for_seconds: 0,
        },
        agent: Side {
            at: config.serf.addr.clone(),
            connected: state.own().is_some(),
            for_seconds: 0,
        },
        member: state.own().map(|own| own.name.clone()),
        tags: TagsStatus {
            in_force: state.is_listed() && state.is_written(),
            bytes: chosen.bytes,
            limit: LIMIT,
            wanted: wanted.collect(),
        },
        services,
        problems: problems(state, &containers),
        containers,
        counters: crate::status::Counters::default(),
    }
}

fn rows(seen: &Seen, state: &State) -> Vec<Row> {
    let row = |(service, instance): &(
        Option<planner::model::BackendName>,
        Result<_, crate::instances::Reason>,
    )| {
        let (place, reason, note) = match instance {
            Ok(instance) => {
                let instance: &crate::instances::Instance = instance;
                let keys = overruled(instance, &state.chosen().tags, state.names());
                let keys: Vec<&str> = keys.into_iter().map(crate::labels::Key::as_str).collect();
                let note = (!keys.is_empty())
                    .then(|| format!("others of its service say otherwise: {}", keys.join(", ")));
                (Some(instance.place.to_string()), None, note)
            }
            Err(reason) => (
                None,
                Some(reason.word().to_owned()),
                Some(reason.to_string()),
            ),
        };
        Row {
            container: seen.name.clone(),
            id: seen.id.clone(),
            service: service.as_ref().map(ToString::to_string),
            place,
            reason,
            note,
        }
    };
    seen.services.iter().map(row).collect()
}

/// Who is left out though he runs, in two problems at most: for want of room, and for what else is wrong.
fn problems(state: &State, rows: &[Row]) -> Vec<Problem> {
    let wrong = |name: &'static str| {
        let services = state.seen().iter().flat_map(|it| &it.services);
        let mut wrong = services
            .filter_map(|(_, it)| it.as_ref().err())
            .filter(|it| it.is_wrong());
        wrong.any(|it| (it.word() == "room") == (name == "room"))
    };
    let named = |is: &dyn Fn(&Row) -> bool| {
        let all: Vec<&str> = rows
            .iter()
            .filter(|row| is(row))
            .map(|row| row.container.as_str())
            .collect();
        let more = if all.len() > NAMED { ", …" } else { "" };
        let first: Vec<&str> = all.iter().take(NAMED).copied().collect();
        format!("{} left out: {}{more}", all.len(), first.join(", "))
    };
    let mut problems = Vec::new();
    if wrong("room") {
        let out = named(&|row| row.reason.as_deref() == Some("room"));
        problems.push(Problem {
            what: "room".to_owned(),
            problem: format!("the tags of this host's member are full, {out}"),
            advice: "shorter names of services, hosts and paths, fewer other tags, or fewer containers on this host".to_owned(),
        });
    }
    if wrong("label") {
        let words = [
            "label",
            "port",
            "unpublished",
            "network",
            "twice",
            "conflict",
        ];
        let out = named(&|row| row.reason.as_deref().is_some_and(|it| words.contains(&it)));
        problems.push(Problem {
            what: "labels".to_owned(),
            problem: format!("what containers say of themselves cannot be used, {out}"),
            advice: "what is wrong stands beside each of them".to_owned(),
        });
    }
    problems
}
