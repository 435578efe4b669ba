//! Format and level in, a subscriber that writes to standard error out.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Takes what `--log-level` takes: a level, or levels by module, `info,serf_rpc=debug`.
pub(crate) fn level(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// Sends the log to standard error from now on; coloured on a terminal unless `NO_COLOR` is set.
///
/// # Errors
/// When the level is none, or a subscriber is there already.
pub(crate) fn init(format: Format, level: &str) -> anyhow::Result<()> {
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(level)?)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    let set = match format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!(error))
}
