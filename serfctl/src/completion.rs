//! A command line as far as it is typed in, what may come next out; and the script that asks a shell for it.

use std::{
    env,
    ffi::{OsStr, OsString},
    iter, process,
};

use clap::{Command, CommandFactory as _};
use clap_complete::{
    ArgValueCandidates, CompletionCandidate,
    env::{CompleteEnv, Shells},
};
use serf_rpc::MemberStatus;

use crate::{
    cli::{Cli, flag_name},
    exit::Failure,
};

/// The environment variable by which a shell's completion asks this program.
const COMPLETE: &str = "COMPLETE";

/// Where zsh is told what may come next, and the same for a word with one dash, which is to become two: zsh leaves
/// out what does not begin with the word as it is written.
const ZSH_OFFERS: [&str; 2] = [
    "_describe -V 'values' other",
    "_describe -V 'values' other -M 'b:=-'",
];

/// At what bash parts a word, unlike other shells.
const BASH_BREAKS: &[u8] = b"=:@";

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
        .try_complete(question(), directory.as_deref())
        .unwrap_or_else(|error| error.exit());
    if answered {
        process::exit(0);
    }
}

/// The arguments with which a shell asks: some of its own, `--`, and the words of the command line being completed,
/// written as clap has them. The word to be completed is where it was.
pub(crate) fn question() -> Vec<OsString> {
    let mut args: Vec<_> = env::args_os().collect();
    let own = args.iter().position(|arg| arg == "--");
    let mut words = args.split_off(own.map_or(args.len(), |at| at + 1));
    if let Some(current) = bash_index() {
        words = in_one_piece(words, current);
    }
    args.extend(long_flags(words));
    args
}

/// The word that bash completes, if it is bash that asks.
fn bash_index() -> Option<usize> {
    env::var_os("_CLAP_COMPLETE_COMP_TYPE")?;
    env::var("_CLAP_COMPLETE_INDEX").ok()?.parse().ok()
}

/// The words before that one in one piece each, as `--rpc-addr=127.0.0.1:7373`, which bash has in five. Empty ones
/// after the program's name, where they mean nothing, keep the count.
fn in_one_piece(mut words: Vec<OsString>, current: usize) -> Vec<OsString> {
    let rest = words.split_off(current.min(words.len()));
    let count = words.len();
    let whole = glued(words);
    let padding = iter::repeat_n(OsString::new(), count - whole.len());
    let mut whole = whole.into_iter();
    let name = whole.next();
    name.into_iter()
        .chain(padding)
        .chain(whole)
        .chain(rest)
        .collect()
}

/// The pieces put together. A flag at the end loses its `=`, since bash puts in its value alone.
fn glued(pieces: Vec<OsString>) -> Vec<OsString> {
    let mut whole: Vec<OsString> = Vec::new();
    let mut glue = false;
    for piece in pieces {
        let breaks = is_break(&piece);
        match whole.last_mut() {
            Some(last) if glue || breaks => last.push(piece),
            _ => whole.push(piece),
        }
        glue = breaks;
    }
    if let Some(last) = whole.last_mut()
        && let Some(flag) = last.to_str().and_then(|word| word.strip_suffix('='))
        && flag.starts_with('-')
    {
        *last = flag.into();
    }
    whole
}

fn is_break(word: &OsStr) -> bool {
    let bytes = word.as_encoded_bytes();
    !bytes.is_empty() && bytes.iter().all(|byte| BASH_BREAKS.contains(byte))
}

/// The words with Go's flags as clap has them: `-name` becomes `--name`. Behind a `--` there are none.
fn long_flags(words: Vec<OsString>) -> impl Iterator<Item = OsString> {
    let mut ended = false;
    words.into_iter().map(move |word| {
        ended |= word == "--";
        if ended || word.as_encoded_bytes().starts_with(b"--") || flag_name(&word).is_none() {
            return word;
        }
        let mut flag = OsString::from("-");
        flag.push(word);
        flag
    })
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
    use clap_complete::Shell;

    use super::*;
    use crate::manual;

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    /// What is offered for the last word.
    fn offered(line: &[&str]) -> Vec<String> {
        let line: Vec<_> = long_flags(words(line)).collect();
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
    fn nothing_but_a_flag_of_go_gets_another_dash() {
        let given = [
            "serfctl",
            "-rpc-addr=a:1",
            "query",
            "-",
            "-v",
            "--node",
            "-x=y",
            "a",
            "--",
            "-name",
        ];
        let expected = [
            "serfctl",
            "--rpc-addr=a:1",
            "query",
            "-",
            "-v",
            "--node",
            "-x=y",
            "a",
            "--",
            "-name",
        ];
        assert_eq!(
            long_flags(words(&given)).collect::<Vec<_>>(),
            words(&expected)
        );
    }

    #[test]
    fn words_that_bash_parts_are_put_together_and_as_many() {
        for (given, expected) in [
            ("-rpc-addr = ::1 : 73 rtt", "_ _ _ _ -rpc-addr=::1:73 rtt"),
            ("rtt a @ b c", "_ _ rtt a@b c"),
            ("members -format = js", "_ members -format js"),
            ("members -format js", "members -format js"),
        ] {
            let line = |text: &str| {
                let words = text.split(' ').map(|word| word.trim_matches('_'));
                iter::once("serfctl")
                    .chain(words)
                    .map(OsString::from)
                    .collect::<Vec<_>>()
            };
            let (given, expected) = (line(given), line(expected));
            let current = given.len() - 1;
            assert_eq!(in_one_piece(given, current), expected);
        }
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
