//! The definition of the command line in, completions and manual pages out.

use clap::CommandFactory as _;
use clap_complete::env::{CompleteEnv, Shells};

use crate::{cli::Cli, exit::Failure};

/// The environment variable by which a shell's completion asks this program.
const COMPLETE: &str = "COMPLETE";

/// The completions for a shell, for it to source: they call this program for what may come next.
///
/// # Errors
///
/// Never, for a shell that the arguments know.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Vec<u8>, Failure> {
    let name = shell.to_string();
    let mut out = Vec::new();
    let shells = Shells::builtins();
    let completer = shells
        .completer(&name)
        .ok_or_else(|| Failure::NoSuchCommand(name.clone()))?;
    completer
        .write_registration(COMPLETE, "serfctl", "serfctl", "serfctl", &mut out)
        .map_err(Failure::Output)?;
    Ok(out)
}

/// Answers a shell that completes a command line, and ends; returns where none asks.
pub(crate) fn complete() {
    CompleteEnv::with_factory(Cli::command)
        .var(COMPLETE)
        .complete();
}

/// The manual page of serfctl, or of one of its commands, in roff.
///
/// # Errors
///
/// There is no such command.
pub(crate) fn man(command: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut root = Cli::command();
    root.build();
    let page = match command {
        None => root,
        Some(name) => root
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| Failure::NoSuchCommand(name.to_owned()))?,
    };
    let mut out = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut out)
        .map_err(Failure::Output)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_ask_this_program() {
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Zsh,
            clap_complete::Shell::Fish,
        ] {
            let script = String::from_utf8(completions(shell).unwrap()).unwrap();
            assert!(
                script.contains(COMPLETE) && script.contains("serfctl"),
                "{shell}"
            );
        }
    }

    #[test]
    fn each_command_has_a_page_and_no_other() {
        assert!(
            String::from_utf8(man(None).unwrap())
                .unwrap()
                .contains("members")
        );
        assert!(
            String::from_utf8(man(Some("members")).unwrap())
                .unwrap()
                .contains("detailed")
        );
        assert!(man(Some("nothing")).is_err());
    }
}
