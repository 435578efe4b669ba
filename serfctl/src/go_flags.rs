//! Arguments as Go's `flag` package and shells have them in, as clap has them out.
//!
//! Every long flag is also taken with one dash (`-status=alive`, `-status alive`), and a switch may carry its value
//! (`-detailed=false`).

use std::{
    env,
    ffi::{OsStr, OsString},
    iter,
};

/// At what bash parts a word, unlike other shells.
const BASH_BREAKS: &[u8] = b"=:@";

/// The arguments with Go's flags written as clap has them: `-name x` becomes `--name=x`.
///
/// A value is never looked into, even where it starts with a dash, and neither is anything after `--`. A single
/// letter stays what it is.
pub(crate) fn two_dashes(
    root: &clap::Command,
    args: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    let mut command = root;
    while let Some(arg) = args.next() {
        if arg == "--" {
            out.push(arg);
            out.extend(args);
            break;
        }
        let Some(name) = flag_name(&arg) else {
            command = arg
                .to_str()
                .and_then(|name| command.find_subcommand(name))
                .unwrap_or(command);
            out.push(arg);
            continue;
        };
        if takes_hyphens(command) && !knows(root, name) && !knows(command, name) {
            out.push(arg);
            continue;
        }
        let mut flag = OsString::from(if arg.as_encoded_bytes().starts_with(b"--") {
            ""
        } else {
            "-"
        });
        flag.push(&arg);
        if (takes_next(root, name) || takes_next(command, name))
            && let Some(value) = args.next()
        {
            flag.push("=");
            flag.push(value);
        }
        out.push(flag);
    }
    out
}

/// `name` of `-name`, `--name` and `-name=value`, the last with its `=value`.
fn flag_name(arg: &OsString) -> Option<&str> {
    let name = arg.to_str()?.strip_prefix('-')?;
    let name = name.strip_prefix('-').unwrap_or(name);
    (name.split('=').next()?.chars().count() > 1).then_some(name)
}

/// Whether the argument after `--name` is its value.
fn takes_next(command: &clap::Command, name: &str) -> bool {
    flag_of(command, name)
        .is_some_and(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set())
}

/// Whether the command has that flag, written with its value or without.
fn knows(command: &clap::Command, name: &str) -> bool {
    let name = name.split('=').next().unwrap_or_default();
    name == "help" || flag_of(command, name).is_some()
}

fn flag_of<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name))
}

/// Whether what looks like a flag may be data there: the payload of an event.
fn takes_hyphens(command: &clap::Command) -> bool {
    command
        .get_positionals()
        .any(clap::Arg::is_allow_hyphen_values_set)
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
pub(crate) fn long_flags(words: Vec<OsString>) -> impl Iterator<Item = OsString> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
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
}
