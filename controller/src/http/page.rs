//! The page: what the loop last published in, HTML out. All that comes from the network is escaped by the templates.

mod backends;
mod history;

use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::body::Bytes;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use rustix::system::uname;
use serde::Serialize;

use crate::published::Published;
use crate::status::{Counters, Status};
use backends::{Held, Row, backends, held};
use history::{Done, Left};

pub(super) const STYLE: &str = include_str!("page/page.css");
pub(super) const SCRIPT: &str = include_str!("page/page.js");
pub(super) const ICON: &str = include_str!("page/icon.svg");

/// Members without a part that are shown one by one.
const LEFT_OUT: usize = 500;

/// The templates of the page.
#[derive(Debug)]
pub(super) struct Page {
    templates: Environment<'static>,
    host: String,
}

/// Something that needs a person.
#[derive(Serialize)]
struct Problem<'a> {
    problem: &'a str,
    advice: &'a str,
    lasts: String,
    since: String,
}

/// How something stands, and how old what is known of it is.
#[derive(Serialize)]
struct Fact {
    name: &'static str,
    /// `ok`, `warn` or `bad`.
    class: &'static str,
    says: String,
    /// By what of it was read; the page's script spreads them to the servers.
    ages: Vec<(&'static str, String)>,
}

/// What the head is made of.
#[derive(Serialize)]
struct Head<'a> {
    host: &'a str,
    time: String,
    /// Whether a cycle has ended.
    begun: bool,
    /// For how long the loop has stood still.
    stuck: Option<String>,
    problems: Vec<Problem<'a>>,
    facts: Vec<Fact>,
}

/// What the body is made of.
#[derive(Serialize)]
struct Body<'a> {
    ages: Ages,
    backends: Vec<Row<'a>>,
    held: Vec<Held<'a>>,
    left_out: Vec<(&'a String, &'a String)>,
    more_left_out: usize,
    plan: Option<Left<'a>>,
    history: Vec<Done<'a>>,
    counters: &'a Counters,
    revision: u64,
}

/// How old what each witness says is.
#[derive(Serialize)]
struct Ages {
    agent: String,
    haproxy: String,
    checks: String,
}

impl Page {
    /// # Errors
    /// A template is none, which a test would say.
    pub(super) fn new() -> Result<Self, minijinja::Error> {
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        templates.set_syntax(syntax.build()?);
        templates.add_template("page", include_str!("page/page.html.j2"))?;
        templates.add_template("words", include_str!("page/words.html.j2"))?;
        templates.add_template("head", include_str!("page/head.html.j2"))?;
        templates.add_template("body", include_str!("page/body.html.j2"))?;
        let host = uname().nodename().to_string_lossy().into_owned();
        Ok(Self { templates, host })
    }

    /// What needs a person, and how old everything is; `stuck` says for how long the loop has stood still.
    pub(super) fn head(
        &self,
        published: &Published,
        stuck: Option<Duration>,
        now: Instant,
    ) -> Bytes {
        let status = published.summary_at(now);
        let problems = status.problems.iter().map(|problem| Problem {
            problem: &problem.problem,
            advice: &problem.advice,
            lasts: ago(status.time.saturating_sub(problem.since)),
            since: clock_time(problem.since),
        });
        self.render(
            "head",
            Head {
                host: &self.host,
                time: clock_time(status.time),
                begun: published.readings.is_some(),
                stuck: stuck.map(|since| ago(since.as_secs())),
                problems: problems.collect(),
                facts: facts(&status),
            },
        )
    }

    /// Backends, who is held or left out, what is left to be done, and what was.
    pub(super) fn body(&self, published: &Published, now: Instant) -> Bytes {
        let (kept, dated) = (&published.status, published.summary_at(now));
        let ages = Ages {
            agent: was(dated.agent.members_age_seconds),
            haproxy: was(dated.haproxy.age_seconds),
            checks: was(dated.haproxy.checks_age_seconds),
        };
        self.render(
            "body",
            Body {
                ages,
                backends: backends(&kept.backends, dated.time),
                held: held(kept),
                left_out: kept.quarantined.iter().take(LEFT_OUT).collect(),
                more_left_out: kept.quarantined.len().saturating_sub(LEFT_OUT),
                plan: history::plan(&published.plan),
                history: history::entries(&published.history),
                counters: &kept.counters,
                revision: kept.revision,
            },
        )
    }

    /// The page with both.
    pub(super) fn whole(&self, head: &Bytes, body: &Bytes) -> Bytes {
        let rendered =
            |bytes: &Bytes| Value::from_safe_string(String::from_utf8_lossy(bytes).into_owned());
        let values = context! {
            host => self.host.as_str(),
            head => rendered(head),
            body => rendered(body),
        };
        self.written("page", values)
    }

    fn render(&self, name: &str, values: impl Serialize) -> Bytes {
        self.written(name, Value::from(Serde(values)))
    }

    fn written(&self, name: &str, values: Value) -> Bytes {
        let template = self.templates.get_template(name);
        match template.and_then(|template| template.render(values)) {
            Ok(text) => text.into(),
            Err(error) => {
                tracing::error!(%error, "cannot render the page");
                Bytes::from_static(b"<p>The page cannot be rendered; see the log, and /status.</p>")
            }
        }
    }
}

fn facts(status: &Status) -> Vec<Fact> {
    let (agent, haproxy, file) = (&status.agent, &status.haproxy, &status.file);
    let at = agent.addr.iter().map(|addr| format!(" at {addr}"));
    let at: String = at.collect();
    let version = haproxy.version.iter();
    let version: String = version.map(|it| format!(", version {it}")).collect();
    let pid = haproxy.pid.iter().map(|it| format!(", worker {it}"));
    let pid: String = pid.collect();
    let old = match haproxy.old_workers {
        None | Some(0) => String::new(),
        Some(count) => format!(", {count} old"),
    };
    vec![
        Fact {
            name: "Members",
            class: match &*agent.state {
                "connected" => "ok",
                "waiting" => "warn",
                _ => "bad",
            },
            says: format!(
                "{} listed, {} known; Serf agent{at} {}",
                agent.listed, agent.members, agent.state
            ),
            ages: vec![("agent", was(agent.members_age_seconds))],
        },
        Fact {
            name: "HAProxy",
            class: if haproxy.state == "running" {
                "ok"
            } else {
                "bad"
            },
            says: format!("{}{version}{pid}{old}", haproxy.state),
            ages: vec![
                ("haproxy", was(haproxy.age_seconds)),
                ("checks", was(haproxy.checks_age_seconds)),
            ],
        },
        Fact {
            name: "File",
            class: if file.state == "current" {
                "ok"
            } else {
                "warn"
            },
            says: format!("{} {}", file.path, file.state),
            ages: vec![("file", was(file.age_seconds))],
        },
    ]
}

/// How long ago something was read.
fn was(age: Option<u64>) -> String {
    age.map_or_else(
        || "never read".to_owned(),
        |age| format!("read {} ago", ago(age)),
    )
}

/// A time in its greatest unit.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `2026-01-02 03:04:05 UTC`.
fn clock_time(seconds: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(seconds);
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}
