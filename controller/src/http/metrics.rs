//! What monitoring reads: what the loop published and measured in, Prometheus' text format out.
//!
//! Names of members are no labels: there may be any number of them, and others choose them. Backends are the config's,
//! and bounded here all the same.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;

use super::Feed;
use super::writer::Writer;
use crate::clock;
use crate::published::Published;
use crate::status::{Backend, Status};

pub(super) use prometheus_text::CONTENT_TYPE;

/// Backends that are told one by one, in the order of their names.
const BACKENDS: usize = 256;
/// Certificates that are told one by one, those that end first.
const CERTIFICATES: usize = 256;
/// Every state that a certificate may be in.
const CERTIFICATE_STATES: [&str; 4] = ["in force", "pending", "kept", "refused"];
/// Every state that a server may be in.
const STATES: [&str; 10] = [
    "ready", "down", "pending", "waiting", "drain", "maint", "leaving", "out", "gone", "unknown",
];
/// What a config that is not in force is a problem of.
const CONFIG: [&str; 4] = ["config", "design", "restart", "template"];

/// All metrics of what is fed.
pub(super) fn registry(feed: Feed) -> Registry {
    let mut registry = Registry::with_prefix("serf_haproxy");
    registry.register(
        "cycle_seconds",
        "How long the cycles of the loop took",
        feed.meters.cycles.clone(),
    );
    registry.register(
        "hint_to_applied_seconds",
        "From the first hint at a change of the members to the end of the apply that followed; what took longer than 10 s \
         has waited for a probe or a check and is left out",
        feed.meters.latency.clone(),
    );
    registry.register_collector(Box::new(Scrape(feed)));
    registry
}

/// The text of now.
pub(super) fn text(registry: &Registry) -> String {
    let mut text = String::new();
    if prometheus_text::encode(&mut text, registry).is_err() {
        // A string takes everything.
        text.clear();
    }
    text
}

#[derive(Debug)]
struct Scrape(Feed);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let published = self.0.published.borrow().clone();
        let status = published.summary_at(clock::now());
        let mut writer = Writer(encoder);
        writer.one_info(
            "build_info",
            "The version of serf-haproxy that runs",
            [("version", env!("CARGO_PKG_VERSION"))],
        )?;
        self.of_loop(&mut writer, &status)?;
        of_members(&mut writer, &published, &status)?;
        of_haproxy(&mut writer, &status)?;
        of_work(&mut writer, &status)?;
        let probes = self.0.meters.probes();
        let probes = probes.map(|(result, count)| ([("result", result)], count));
        writer.counters(
            "probes",
            "Probes that came to their end, by what they found",
            probes,
        )?;
        of_certificates(&mut writer, &status)?;
        of_backends(&mut writer, &published.status)
    }
}

impl Scrape {
    fn of_loop(&self, writer: &mut Writer<'_>, status: &Status) -> fmt::Result {
        let turned = self.0.meters.turn_age().as_secs_f64();
        writer.gauge(
            "loop_turn_age_seconds",
            "How long ago the loop last turned",
            Some(turned),
        )?;
        let applied = u64::from(self.0.meters.has_applied());
        let help = "Whether HAProxy and its file have been as they should be, once";
        writer.gauge("applied", help, Some(applied))?;
        let help = "What needs a person, each a problem in the status";
        writer.gauge("problems", help, Some(status.problems.len()))?;
        let in_force = !CONFIG.iter().any(|what| has(status, what));
        let help = "Whether config and template are in force as they were read last";
        writer.gauge("config_in_force", help, Some(u64::from(in_force)))?;
        let age = status.time.saturating_sub(status.config.since);
        let help = "How long ago the config in force was taken";
        writer.gauge("config_age_seconds", help, Some(age))
    }
}

fn of_members(writer: &mut Writer<'_>, published: &Published, status: &Status) -> fmt::Result {
    let agent = &status.agent;
    let connected = u64::from(agent.state == "connected");
    let help = "Whether a Serf agent is connected and answers";
    writer.gauge("agent_connected", help, Some(connected))?;
    let alone = u64::from(has(status, "cluster"));
    let help = "Whether the agent knows only itself, though others are remembered";
    writer.gauge("agent_alone", help, Some(alone))?;
    let help = "Members known, those that are remembered among them";
    writer.gauge("members", help, Some(agent.members))?;
    let help = "Members that the agent lists, itself among them";
    writer.gauge("members_listed", help, Some(agent.listed))?;
    let refused = u64::from(has(status, "max_members"));
    let help =
        "Whether the list read last has more than max_members, so that the one before is in force";
    writer.gauge("members_refused", help, Some(refused))?;
    let help = "How long ago the members were last read";
    writer.gauge("members_age_seconds", help, agent.members_age_seconds)?;
    let help = "How long ago the members were last otherwise than before";
    writer.gauge(
        "members_changed_age_seconds",
        help,
        agent.changed_age_seconds,
    )?;
    let quarantined = published.status.quarantined.len();
    let help = "Members that a rule picks and that cannot be used";
    writer.gauge("quarantined_members", help, Some(quarantined))?;
    let members = published.members.as_ref().map(serf_rpc::Latest::latest);
    let hints = members.as_ref().map_or(0, |members| members.hints());
    let help = "Hints at a change of the members, in the agent's events and log";
    writer.counter("hints", help, hints)?;
    let fetches = members.map_or(0, |members| members.reads());
    writer.counter("fetches", "Times that the members were read", fetches)
}

fn of_haproxy(writer: &mut Writer<'_>, status: &Status) -> fmt::Result {
    let haproxy = &status.haproxy;
    let up = u64::from(haproxy.state == "running");
    writer.gauge("haproxy_up", "Whether HAProxy answers", Some(up))?;
    let help = "How long ago HAProxy was last read";
    writer.gauge("haproxy_age_seconds", help, haproxy.age_seconds)?;
    let help = "Workers of earlier reloads that still finish what they had begun";
    writer.gauge("old_workers", help, haproxy.old_workers)?;
    let sessions = haproxy
        .old
        .iter()
        .filter_map(|old| old.sessions)
        .sum::<u64>();
    let sessions = haproxy.old_workers.map(|_| sessions);
    writer.gauge(
        "old_worker_sessions",
        "Connections that workers of earlier reloads hold",
        sessions,
    )?;
    let behind = u64::from(status.file.state == "behind");
    let help = "Whether the file on the disk is another than it should be";
    writer.gauge("file_behind", help, Some(behind))?;
    let help = "How long ago the file was last read or written";
    writer.gauge("file_age_seconds", help, status.file.age_seconds)
}

fn of_work(writer: &mut Writer<'_>, status: &Status) -> fmt::Result {
    let done = &status.counters;
    let applies = [
        ([("kind", "change")], done.applies),
        ([("kind", "admission")], done.admissions),
    ];
    let help = "Exchanges with the Runtime API that carried out steps; an admission only lets in who had to prove himself";
    writer.counters("applies", help, applies)?;
    writer.counter(
        "steps",
        "Steps through the Runtime API that were tried",
        done.steps,
    )?;
    writer.counter("refusals", "Steps that HAProxy refused", done.refused)?;
    let help = "Exchanges that put back what another hand had changed in HAProxy";
    writer.counter("drift_repairs", help, done.repairs)?;
    writer.counter("file_writes", "Files of HAProxy written", done.writes)?;
    let reloads = done.reloads_by_reason.iter();
    let reloads = reloads.map(|(reason, count)| ([("reason", reason.as_str())], *count));
    let help = "Reloads that took effect, by their first reason";
    writer.counters("reloads", help, reloads)?;
    writer.counter(
        "failures",
        "What the history tells as failed",
        done.failures,
    )
}

fn of_certificates(writer: &mut Writer<'_>, status: &Status) -> fmt::Result {
    let all = &status.certificates;
    let mut counts = CERTIFICATE_STATES.map(|state| (state, 0_u64));
    for certificate in all {
        let mut counts = counts.iter_mut();
        if let Some((_, count)) = counts.find(|(state, _)| *state == certificate.state) {
            *count += 1;
        }
    }
    let counts = counts.map(|(state, count)| ([("state", state)], count));
    let help = "Certificates of the front ends, by their state";
    writer.gauges("certificates", help, counts)?;
    let mut dated: Vec<_> = all
        .iter()
        .filter_map(|certificate| Some((certificate.expires?, certificate)))
        .collect();
    dated.sort_by_key(|(expires, certificate)| (*expires, &certificate.name));
    let dated = dated.into_iter().take(CERTIFICATES).map(|(expires, it)| {
        let labels = [
            ("certificate", it.name.as_str()),
            ("frontend", it.frontend.as_str()),
        ];
        (labels, expires)
    });
    let help = "When a certificate ends, in seconds since 1970; of the 256 that end first";
    writer.gauges("certificate_expiry_timestamp_seconds", help, dated)
}

fn of_backends(writer: &mut Writer<'_>, status: &Status) -> fmt::Result {
    let backends = &status.backends;
    let told = || backends.iter().take(BACKENDS);
    writer.gauge(
        "backends",
        "Backends; 256 of them are told one by one",
        Some(backends.len()),
    )?;
    let mut figure = |name: &str, help: &str, of: fn(&Backend) -> Option<usize>| {
        let lines =
            told().filter_map(|(name, backend)| Some(([("backend", name.as_str())], of(backend)?)));
        writer.gauges(name, help, lines)
    };
    figure(
        "backend_in_rotation",
        "Servers that HAProxy has ready, whatever its checks say; none while it does not answer",
        |backend| backend.in_rotation,
    )?;
    figure(
        "backend_answering",
        "Servers in rotation that nobody calls down; none while HAProxy does not answer",
        |backend| backend.answering,
    )?;
    figure(
        "backend_held",
        "Servers that one witness would have out, and the guard keeps",
        |backend| {
            Some(
                backend
                    .servers
                    .values()
                    .filter(|server| server.held)
                    .count(),
            )
        },
    )?;
    figure(
        "backend_removed",
        "Servers that went without intent and count still",
        |backend| Some(backend.removed),
    )?;
    figure(
        "backend_may_go",
        "So many may go on the word of one witness",
        |backend| Some(backend.may_go),
    )?;
    figure(
        "backend_roles",
        "Whether its check tells roles, so that some servers in rotation do not answer",
        |backend| Some(usize::from(backend.roles)),
    )?;
    let unserved = |name: &str| u64::from(has(status, &format!("backend {name}")));
    let lines = told().map(|(name, _)| ([("backend", name.as_str())], unserved(name)));
    let help = "Whether it serves nobody, though it has servers that are to serve";
    writer.gauges("backend_unserved", help, lines)?;
    of_states(writer, backends)
}

fn of_states(writer: &mut Writer<'_>, backends: &BTreeMap<String, Backend>) -> fmt::Result {
    let lines = backends.iter().take(BACKENDS).flat_map(|(name, backend)| {
        let mut counts = STATES.map(|state| (state, 0_u64));
        for server in backend.servers.values() {
            let mut counts = counts.iter_mut();
            if let Some((_, count)) = counts.find(|(state, _)| *state == server.state) {
                *count += 1;
            }
        }
        counts.map(|(state, count)| ([("backend", name.as_str()), ("state", state)], count))
    });
    writer.gauges("backend_servers", "Servers, by their state", lines)
}

fn has(status: &Status, what: &str) -> bool {
    status.problems.iter().any(|problem| problem.what == what)
}
