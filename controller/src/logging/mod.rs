//! Format and levels in, a subscriber that writes to standard error out: for people, for programs, or for journald.
//!
//! Whatever a name or a message has in it, an event is one line of printable text; how many there are is bounded.

mod limit;
mod limited;
mod line;
mod queue;

use std::io::{IsTerminal as _, Write as _};

use crate::printable::printable;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::DefaultFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use limited::Limited;
use line::{Line, Printable};
use queue::Queue;

/// What of this program has a level of its own.
const MODULES: [&str; 3] = ["controller", "serf_rpc", "serf_haproxy"];

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// The log of this process; what was logged is written out, as far as somebody takes it, when this is dropped.
#[derive(Debug)]
pub struct Log {
    limited: Limited,
    queue: Queue,
}

impl Log {
    /// Logs now and then what was left out, for ever.
    pub fn tell(&self) -> impl Future<Output = ()> + use<> {
        self.limited.clone().tell(self.queue.clone())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.flush();
    }
}

/// Takes what `--log-level` takes: a level, or levels by module, `info,serf_rpc=debug`. A module that is not named has
/// the level that is, or `info`.
///
/// # Errors
/// What is wrong with it, for people.
pub fn levels(text: &str) -> Result<Targets, String> {
    levels_of(&MODULES, text)
}

/// [`levels`] of a program that has these modules.
///
/// # Errors
/// What is wrong with it, for people.
pub fn levels_of(modules: &[&str], text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new().with_default(LevelFilter::INFO);
    for part in text.split(',').map(str::trim) {
        targets = match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some((module, word)) => {
                let root = module.split("::").next().unwrap_or_default();
                if !modules.contains(&root) {
                    let known = modules.join(", ");
                    return Err(format!("there is no module `{module}`; there are {known}"));
                }
                targets.with_target(module, level(word)?)
            }
        };
    }
    Ok(targets)
}

fn level(word: &str) -> Result<LevelFilter, String> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => {
            let known = "off, error, warn, info, debug or trace";
            return Err(format!("`{word}` is no level; write {known}"));
        }
    })
}

/// Sends the log to standard error from now on; coloured on a terminal unless `NO_COLOR` is set. Journald gets no colour,
/// no time, which it has itself, and each line's priority.
///
/// # Errors
/// When a subscriber is there already.
pub fn init(format: Format, levels: Targets) -> anyhow::Result<Log> {
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let queue = Queue::before(std::io::stderr());
    let writer = queue.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(move || writer.clone())
        // It would say so on standard error, and panic there: a log that nobody reads any more stops nothing.
        .log_internal_errors(false)
        .with_ansi(colour);
    let limited = Limited::default();
    let registry = tracing_subscriber::registry()
        .with(levels)
        .with(limited.clone());
    let text = tracing_subscriber::fmt::format().with_target(false);
    let fields = Printable(DefaultFields::new());
    match (format, is_journal()) {
        (Format::Text, false) => registry
            .with(layer.fmt_fields(fields).event_format(text))
            .try_init(),
        (Format::Text, true) => {
            let format = Line::text(text.without_time());
            let layer = layer.fmt_fields(fields).event_format(format);
            registry.with(layer).try_init()
        }
        (Format::Json, journal) => {
            let json = tracing_subscriber::fmt::format().json().flatten_event(true);
            let format = Line::json(json, journal);
            registry.with(layer.json().event_format(format)).try_init()
        }
    }?;
    Ok(Log { limited, queue })
}

/// Writes the reason for a failure to standard error, as an error of the journal where that is it.
pub fn fail(error: &anyhow::Error) {
    let text = format!("{error:#}");
    let mut stderr = anstream::stderr().lock();
    let priority = if is_journal() { "<3>" } else { "" };
    for line in text.lines() {
        // Nobody is left to tell when standard error is gone.
        let _ = writeln!(stderr, "{priority}{}", printable(line));
    }
}

/// Whether standard error goes straight to journald, by systemd.exec(5), `$JOURNAL_STREAM`.
fn is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|stderr| {
        stream.to_str() == Some(&format!("{}:{}", stderr.st_dev, stderr.st_ino))
    })
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_are_words_that_are_known_for_modules_that_are_there() {
        for text in [
            "info",
            "WARN",
            "off",
            "info,serf_rpc=debug",
            "controller::probe=trace",
            "error, serf_haproxy=info",
        ] {
            assert!(levels(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "verbose",
            "info,",
            "info,serf_rpc",
            "serf_rpc=loud",
            "serf_prc=debug",
            "a=b=c",
            "[span]=debug",
        ] {
            assert!(levels(text).is_err(), "{text}");
        }
        let other = levels("serf_rpc=debug").unwrap();
        assert!(other.would_enable("serf_rpc::watcher", &Level::DEBUG));
        assert!(other.would_enable("controller", &Level::INFO));
        assert!(!other.would_enable("controller", &Level::DEBUG));
    }
}
