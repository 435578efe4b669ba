//! The HTTP listener: the status in; `/healthz`, `/readyz`, `/metrics` and `/status` out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use controller::clock;
use controller::http::{Access, HttpError, Server, Writer, guarded};
use planner::config::Http;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::instances::Reason;
use crate::status::Status;

/// The loop turns every two seconds.
const STUCK: Duration = Duration::from_secs(10);
/// Services that are told one by one.
const SERVICES: usize = 256;

/// When the loop last turned.
#[derive(Debug)]
pub(crate) struct Turns {
    start: Instant,
    last: AtomicU64,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            start: clock::now(),
            last: AtomicU64::new(0),
        }
    }

    /// It turns now.
    pub(crate) fn turned(&self) {
        let millis = clock::since(self.start).as_millis();
        self.last
            .store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        clock::since(self.start)
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// What is served.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub(crate) status: watch::Receiver<Arc<Status>>,
    pub(crate) turns: Arc<Turns>,
}

/// A listener as the config wants it, in place of the one before.
///
/// # Errors
/// [`HttpError`].
pub(crate) fn listener(
    before: Option<Server>,
    wanted: Option<&Http>,
    feed: &Feed,
) -> Result<Option<Server>, HttpError> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let access = Access::read(wanted)?;
    if let Some(server) = before.filter(|server| server.listen() == wanted.listen) {
        server.set_access(access);
        return Ok(Some(server));
    }
    let feed = feed.clone();
    Server::answering(wanted.listen, access, move |accesses| {
        Ok(guarded(router(feed), accesses))
    })
    .map(Some)
}

fn router(feed: Feed) -> Router {
    let mut registry = Registry::with_prefix("serf_docker");
    registry.register_collector(Box::new(Scrape(feed.clone())));
    let registry = Arc::new(registry);
    let Feed { status, turns } = feed;
    let ready = status.clone();
    Router::new()
        .route("/healthz", get(async move || healthz(&turns)))
        .route("/readyz", get(async move || readyz(&ready.borrow())))
        .route(
            "/status",
            get(async move || {
                let json = serde_json::to_string_pretty(&**status.borrow()).unwrap_or_default();
                ([(CONTENT_TYPE, "application/json")], json)
            }),
        )
        .route("/metrics", get(async move || metrics(&registry)))
        .fallback(async || {
            (
                StatusCode::NOT_FOUND,
                "there is /status, /metrics, /healthz and /readyz\n",
            )
        })
}

fn healthz(turns: &Turns) -> Response {
    let age = turns.age();
    let code = if age < STUCK {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, format!("the loop turned {} s ago\n", age.as_secs())).into_response()
}

fn readyz(status: &Status) -> Response {
    if status.tags.in_force {
        return "the tags are as they are to be\n".into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "the tags are not as they are to be\n",
    )
        .into_response()
}

fn metrics(registry: &Registry) -> Response {
    let mut all = String::new();
    if prometheus_text::encode(&mut all, registry).is_err() {
        // A string takes everything.
        all.clear();
    }
    ([(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], all).into_response()
}

#[derive(Debug)]
struct Scrape(Feed);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = Arc::clone(&self.0.status.borrow());
        let mut writer = Writer(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        writer.one_info(
            "build_info",
            "The version of serf-docker that runs",
            version,
        )?;
        let turned = self.0.turns.age().as_secs_f64();
        writer.gauge(
            "loop_turn_age_seconds",
            "How long ago the loop last turned",
            Some(turned),
        )?;
        let help = "Whether Docker answers";
        writer.gauge(
            "docker_connected",
            help,
            Some(u64::from(status.docker.connected)),
        )?;
        let help = "Whether the agent answers";
        writer.gauge(
            "agent_connected",
            help,
            Some(u64::from(status.agent.connected)),
        )?;
        let help = "What needs a person, each a problem in the status";
        writer.gauge("problems", help, Some(status.problems.len()))?;
        of_tags(&mut writer, &status)?;
        of_work(&mut writer, &status)
    }
}

fn of_tags(writer: &mut Writer<'_>, status: &Status) -> fmt::Result {
    let tags = &status.tags;
    let help = "Whether the agent has our tags as they are to be";
    writer.gauge("tags_in_force", help, Some(u64::from(tags.in_force)))?;
    let help = "What all tags of the member come to, encoded";
    writer.gauge("tags_bytes", help, Some(tags.bytes))?;
    writer.gauge(
        "tags_limit_bytes",
        "What they may come to",
        Some(tags.limit),
    )?;
    let services = status.services.iter().take(SERVICES);
    let services = services.map(|(service, count)| ([("service", service.as_str())], *count));
    let help = "Instances in the tags, by service; 256 services are told";
    writer.gauges("instances", help, services)?;
    let left_out = Reason::TOLD.map(|(word, _)| {
        let rows = status.containers.iter();
        let count = rows
            .filter(|row| row.reason.as_deref() == Some(word))
            .count();
        ([("reason", word)], count)
    });
    writer.gauges(
        "left_out",
        "Services of containers that are not in the tags, by reason",
        left_out,
    )
}

fn of_work(writer: &mut Writer<'_>, status: &Status) -> fmt::Result {
    let done = status.counters;
    for (name, help, count) in [
        ("events", "Events of Docker that counted", done.events),
        ("lists", "Times that the containers were listed", done.lists),
        (
            "tag_writes",
            "Times that the tags were written",
            done.writes,
        ),
        (
            "tag_write_failures",
            "Times that they could not be",
            done.failures,
        ),
        (
            "tag_repairs",
            "Times that the agent had other tags of ours than were written",
            done.repairs,
        ),
        (
            "docker_losses",
            "Times that Docker was lost",
            done.docker_losses,
        ),
    ] {
        writer.counter(name, help, count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/reference/serf-docker-metrics.md, from what is served.
    #[test]
    fn every_metric_is_documented_and_no_other() {
        let feed = Feed {
            status: watch::channel(Arc::new(Status::default())).1,
            turns: Arc::new(Turns::new()),
        };
        let mut registry = Registry::with_prefix("serf_docker");
        registry.register_collector(Box::new(Scrape(feed)));
        let mut all = String::new();
        prometheus_text::encode(&mut all, &registry).unwrap();
        let words = |line: &str, what: &str| {
            let (name, text) = line.strip_prefix(what)?.split_once(' ')?;
            Some((name.to_owned(), text.to_owned()))
        };
        let types: std::collections::BTreeMap<String, String> = all
            .lines()
            .filter_map(|line| words(line, "# TYPE "))
            .collect();
        let helps = all.lines().filter_map(|line| words(line, "# HELP "));
        let rows = helps.map(|(name, help)| {
            [
                format!("`{name}`"),
                types.get(&name).cloned().unwrap_or_default(),
                help,
            ]
        });
        let table = reference::table(["metric", "type", "what it says"], rows);
        reference::hold("serf-docker-metrics.md", &table);
    }
}
