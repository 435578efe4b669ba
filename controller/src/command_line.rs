//! What the commands of every program of this project have: environment and runtime, data on standard output, completions
//! and manual.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use clap::Command;
use clap_mangen::roff::{Roff, line_break, roman};

/// What the page of the config is called.
const CONFIG_PAGE: &str = "config";

/// The environment, for a config; bytes that are no text are replaced.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// A runtime of one thread.
///
/// # Errors
/// When the system has none to give.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Writes data to standard output. Whoever read it and has gone has read enough.
///
/// # Errors
/// When it cannot be written for another reason.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// The completions of a program for a shell.
///
/// # Errors
/// When they are no text.
pub fn completions(mut program: Command, shell: clap_complete::Shell) -> anyhow::Result<String> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    Ok(String::from_utf8(script)?)
}

/// The page of a program or of one of its commands, section 8, or that of its config, section 5, whose sample is its manual.
///
/// # Errors
/// When there is no such command.
pub fn manual(
    mut program: Command,
    page: Option<&str>,
    sample: &str,
    see_also: &str,
) -> anyhow::Result<String> {
    program.build();
    let command = match page {
        None => program,
        Some(CONFIG_PAGE) => return Ok(config_page(program.get_name(), sample, see_also)),
        Some(name) => match program.find_subcommand(name) {
            Some(command) => command.clone(),
            None => anyhow::bail!("there is no command {name}"),
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .section("8")
        .render(&mut text)?;
    Ok(String::from_utf8(text)?)
}

fn config_page(program: &str, sample: &str, see_also: &str) -> String {
    let name = format!("{program}-config");
    let mut page = Roff::new();
    page.control("TH", [name.as_str(), "5"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - the config of {program}"))]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(format!(
        "The file is /etc/{program}/config.toml or what --config names, in the format TOML. Below is every key with its \
         default, what it does and what it may be."
    ))]);
    page.control("PP", []);
    page.control("nf", []);
    for line in sample.lines() {
        page.text([roman(line), line_break()]);
    }
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman(see_also)]);
    page.render()
}
