//! An event in, one line out: printable text or JSON, with its priority before it where journald reads it.

use std::fmt;

use crate::printable::{printable, printable_json};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The fields of an event, its message among them, as printable text.
#[derive(Debug)]
pub(super) struct Printable<F>(pub(super) F);

impl<'writer, F> FormatFields<'writer> for Printable<F>
where
    F: for<'a> FormatFields<'a>,
{
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&printable(&text))
    }
}

/// Every event as one line.
#[derive(Debug)]
pub(super) struct Line<F> {
    format: F,
    is_json: bool,
    /// With its priority before it, by sd-daemon(3).
    prioritised: bool,
}

impl<F> Line<F> {
    /// Text for journald, whose fields are printable already.
    pub(super) fn text(format: F) -> Self {
        Self {
            format,
            is_json: false,
            prioritised: true,
        }
    }

    /// An object, for journald or not.
    pub(super) fn json(format: F, prioritised: bool) -> Self {
        Self {
            format,
            is_json: true,
            prioritised,
        }
    }
}

impl<S, N, F> FormatEvent<S, N> for Line<F>
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
        self.format
            .format_event(ctx, Writer::new(&mut text), event)?;
        if self.prioritised {
            let priority = match *event.metadata().level() {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                Level::DEBUG | Level::TRACE => 7,
            };
            write!(writer, "<{priority}>")?;
        }
        let text = text.trim();
        if self.is_json {
            writeln!(writer, "{}", printable_json(text))
        } else {
            writeln!(writer, "{text}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::Layer;
    use tracing_subscriber::Registry;
    use tracing_subscriber::fmt::format::{DefaultFields, Format};
    use tracing_subscriber::fmt::{format, layer};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

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

    /// The lines that events come to.
    fn lines<L: Layer<Registry> + Send + Sync + 'static>(
        made: impl FnOnce(Kept) -> L,
        events: impl FnOnce(),
    ) -> Vec<String> {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::registry().with(made(kept.clone()));
        tracing::subscriber::with_default(subscriber, events);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn plain() -> Format {
        format().with_target(false)
    }

    const HOSTILE: &str = "x\x1b[2J\n<0>ERROR forged \u{202e}\u{9b}";

    #[test]
    fn every_line_for_the_journal_has_its_priority_and_no_time() {
        let journal = |kept: Kept| {
            layer()
                .with_writer(move || kept.clone())
                .with_ansi(false)
                .fmt_fields(Printable(DefaultFields::new()))
                .event_format(Line::text(plain().without_time()))
        };
        let said = lines(journal, || {
            tracing::error!("one\ntwo");
            tracing::warn!(what = "file", "three");
            tracing::info!("four");
            tracing::debug!(member = %HOSTILE, "five");
        });
        assert_eq!(
            said,
            [
                "<3>ERROR one\\ntwo",
                "<4>WARN three what=\"file\"",
                "<6>INFO four",
                "<7>DEBUG five member=x\\u{1b}[2J\\n<0>ERROR forged \\u{202e}\\u{9b}",
            ]
        );
    }

    #[test]
    fn json_is_one_line_that_says_the_same() {
        let json = |kept: Kept| {
            let format = format().json().flatten_event(true).without_time();
            layer()
                .with_writer(move || kept.clone())
                .json()
                .event_format(Line::json(format, false))
        };
        let said = lines(json, || tracing::warn!(member = %HOSTILE, "left"));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].is_ascii(), "{said:?}");
        let object: serde_json::Value = serde_json::from_str(&said[0]).unwrap();
        assert_eq!(object["member"], HOSTILE);
    }
}
