//! Format and levels in, a subscriber that writes to standard error out: for people, for programs, or for journald.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What of this program has a level of its own.
const MODULES: [&str; 3] = ["controller", "serf_rpc", "serf_haproxy"];

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Takes what `--log-level` takes: a level, or levels by module, `info,serf_rpc=debug`. A module that is not named has
/// the level that is, or `info`.
pub(crate) fn levels(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new().with_default(LevelFilter::INFO);
    for part in text.split(',').map(str::trim) {
        targets = match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some((module, word)) => {
                let root = module.split("::").next().unwrap_or_default();
                if !MODULES.contains(&root) {
                    let known = MODULES.join(", ");
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
pub(crate) fn init(format: Format, levels: Targets) -> anyhow::Result<()> {
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // It would say so on standard error, and panic there: a log that nobody reads any more stops nothing.
        .log_internal_errors(false)
        .with_ansi(colour);
    let registry = tracing_subscriber::registry().with(levels);
    let text = tracing_subscriber::fmt::format().with_target(false);
    let json = tracing_subscriber::fmt::format().json().flatten_event(true);
    match (format, is_journal()) {
        (Format::Text, false) => registry.with(layer.event_format(text)).try_init(),
        (Format::Text, true) => {
            let format = Prioritised(text.without_time());
            registry.with(layer.event_format(format)).try_init()
        }
        (Format::Json, false) => registry.with(layer.json().event_format(json)).try_init(),
        (Format::Json, true) => registry
            .with(layer.json().event_format(Prioritised(json)))
            .try_init(),
    }?;
    Ok(())
}

/// Writes the reason for a failure to standard error, as an error of the journal where that is it.
pub(crate) fn fail(error: &anyhow::Error) {
    let text = format!("{error:#}");
    let mut stderr = anstream::stderr().lock();
    let priority = if is_journal() { "<3>" } else { "" };
    for line in text.lines() {
        // Nobody is left to tell when standard error is gone.
        let _ = writeln!(stderr, "{priority}{line}");
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

/// Every line of an event with its priority before it, by sd-daemon(3).
struct Prioritised<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(ctx, Writer::new(&mut text), event)?;
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        for line in text.trim_start().lines() {
            writeln!(writer, "<{priority}>{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

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

    /// What is written, kept.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_for_the_journal_has_its_priority_and_no_time() {
        let kept = Kept::default();
        let writer = kept.clone();
        let format = tracing_subscriber::fmt::format().with_target(false);
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(Prioritised(format.without_time()));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("one\ntwo");
            tracing::warn!(what = "file", "three");
            tracing::info!("four");
            tracing::debug!("five");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "<3>ERROR one",
                "<3>two",
                "<4>WARN three what=\"file\"",
                "<6>INFO four",
                "<7>DEBUG five",
            ]
        );
    }
}
