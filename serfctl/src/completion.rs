//! A command line as far as it is typed in, what may come next out; and the script that asks a shell for it.

use std::{env, process};

use clap::{Command, CommandFactory as _};
use clap_complete::{
    ArgValueCandidates, CompletionCandidate,
    env::{CompleteEnv, Shells},
};
use serf_rpc::MemberStatus;

use crate::{cli::Cli, exit::Failure, go_flags};

/// The environment variable by which a shell's completion asks this program.
const COMPLETE: &str = "COMPLETE";

/// Where zsh is told what may come next, and the same for a word with one dash, which is to become two: zsh leaves
/// out what does not begin with the word as it is written.
const ZSH_OFFERS: [&str; 2] = [
    "_describe -V 'values' other",
    "_describe -V 'values' other -M 'b:=-'",
];

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
    let [offers, offers_go_flags] = ZSH_OFFERS;
    Ok(String::from_utf8_lossy(&out)
        .replace(offers, offers_go_flags)
        .into_bytes())
}

/// Answers a shell that completes a command line, and ends; returns where none asks.
pub(crate) fn complete() {
    let directory = env::current_dir().ok();
    let answered = CompleteEnv::with_factory(completed)
        .var(COMPLETE)
        .try_complete(go_flags::question(), directory.as_deref())
        .unwrap_or_else(|error| error.exit());
    if answered {
        process::exit(0);
    }
}

/// The definition, with values to offer where it takes any.
fn completed() -> Command {
    Cli::command().mut_subcommands(|command| {
        let is_man = command.get_name() == "man";
        command.mut_args(|arg| match arg.get_long() {
            Some("status") => arg.add(ArgValueCandidates::new(statuses)),
            None if is_man => arg.add(ArgValueCandidates::new(commands)),
            _ => arg,
        })
    })
}

fn statuses() -> Vec<CompletionCandidate> {
    [
        MemberStatus::Alive,
        MemberStatus::Leaving,
        MemberStatus::Left,
        MemberStatus::Failed,
    ]
    .map(|status| CompletionCandidate::new(status.as_str()))
    .into()
}

fn commands() -> Vec<CompletionCandidate> {
    Cli::command()
        .get_subcommands()
        .map(|command| {
            CompletionCandidate::new(command.get_name()).help(command.get_about().cloned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap_complete::Shell;

    use super::*;
    use crate::manual;

    /// What is offered for the last word.
    fn offered(line: &[&str]) -> Vec<String> {
        let line = line.iter().map(OsString::from).collect();
        let line: Vec<_> = go_flags::long_flags(line).collect();
        let last = line.len() - 1;
        clap_complete::engine::complete(&mut completed(), line, last, None)
            .unwrap()
            .iter()
            .map(|candidate| candidate.get_value().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn completions_ask_this_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(shell).unwrap()).unwrap();
            assert!(
                script.contains(COMPLETE) && script.contains("serfctl"),
                "{shell}"
            );
            assert_eq!(script.contains(ZSH_OFFERS[1]), shell == Shell::Zsh);
        }
    }

    #[test]
    fn flags_of_go_are_completed_like_long_ones() {
        let formats = ["text", "json", "ndjson"];
        for flag in ["-format", "--format"] {
            assert_eq!(offered(&["serfctl", "members", flag, ""]), formats);
        }
        assert_eq!(offered(&["serfctl", "members", "-na"]), ["--name"]);
        assert_eq!(
            offered(&["serfctl", "members", "-format=js"]),
            ["--format=json"]
        );
    }

    #[test]
    fn statuses_and_the_commands_with_a_page_are_offered() {
        let alive = ["alive", "leaving", "left", "failed"];
        for command in ["members", "wait"] {
            assert_eq!(offered(&["serfctl", command, "--status", ""]), alive);
        }
        let pages = offered(&["serfctl", "man", ""]);
        assert!(pages.contains(&"force-leave".to_owned()), "{pages:?}");
        for command in pages.iter().filter(|offer| !offer.starts_with('-')) {
            manual::man(Some(command)).unwrap();
        }
    }
}
