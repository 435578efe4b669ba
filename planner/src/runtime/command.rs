//! A [`Step`] in, the lines of the Runtime API that do it out. Pure.
//!
//! HAProxy's command line knows `;` and line ends as separators, `\` as escape, a last word `<<` as the start of a payload and
//! takes quotes literally (Management Guide, section 9.3): a word with any of these is refused here, whatever the
//! caller checked. One command a line: only then has every command exactly one reply.

use std::net::SocketAddr;

use crate::model::{Action, BackendName, ServerName, Step};

/// The longest line sent; HAProxy 3.2 takes up to `tune.bufsize`, 16 kB.
pub(crate) const MAX_LINE: usize = 8000;

/// One command: what it is, which decides how its reply reads, and its text without the line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What it does.
    pub verb: Verb,
    /// Its text, one line.
    pub text: String,
}

/// What a [`Command`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `add server`.
    Add,
    /// `set server … addr`.
    Address,
    /// `del server`.
    Delete,
    /// Any command that says nothing when it was done.
    Silent,
}

/// Why a [`Step`] cannot be said in the Runtime API; nothing was sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommandError {
    /// A word of the options holds a character that the command line would not take as it is.
    #[error("option {word:?} of server {backend}/{server} cannot be written in a command")]
    Word {
        /// The backend.
        backend: BackendName,
        /// The server.
        server: ServerName,
        /// The word.
        word: String,
    },
    /// Port 0, which HAProxy takes as "any".
    #[error("server {backend}/{server} has port 0")]
    Port {
        /// The backend.
        backend: BackendName,
        /// The server.
        server: ServerName,
    },
    /// The line is longer than HAProxy takes.
    #[error(
        "the command for server {backend}/{server} is {len} bytes long, more than HAProxy takes"
    )]
    Long {
        /// The backend.
        backend: BackendName,
        /// The server.
        server: ServerName,
        /// Its length in bytes.
        len: usize,
    },
}

/// The commands that do a step, in order.
///
/// # Errors
/// [`CommandError`] when an option, the port or the length cannot be sent.
pub fn commands(step: &Step) -> Result<Vec<Command>, CommandError> {
    let Step {
        backend,
        server,
        action,
    } = step;
    let silent = |text: String| Command {
        verb: Verb::Silent,
        text,
    };
    let state = |state: &str| silent(format!("set server {backend}/{server} state {state}"));
    let health = |switch: &str| silent(format!("{switch} health {backend}/{server}"));
    Ok(match action {
        Action::Add { addr, options } => vec![add(step, *addr, options)?],
        Action::Address(addr) => {
            let (ip, port) = (addr.ip(), port(step, *addr)?);
            vec![Command {
                verb: Verb::Address,
                text: format!("set server {backend}/{server} addr {ip} port {port}"),
            }]
        }
        Action::Weight(weight) => vec![silent(format!(
            "set server {backend}/{server} weight {}",
            weight.get()
        ))],
        Action::Maxconn(maxconn) => vec![silent(format!(
            "set maxconn server {backend}/{server} {maxconn}"
        ))],
        Action::Ready { check: true } => vec![health("enable"), state("ready")],
        Action::Ready { check: false } => vec![state("ready")],
        Action::Drain {
            check: true,
            keep_check: true,
        } => vec![state("drain"), health("enable")],
        Action::Drain {
            check: true,
            keep_check: false,
        } => vec![state("drain"), health("disable")],
        Action::Drain { check: false, .. } => vec![state("drain")],
        Action::CookieKey(key) => vec![silent(format!(
            "set dynamic-cookie-key backend {backend} {}",
            plain(step, key)?
        ))],
        Action::Agent { asked } => {
            let switch = if *asked { "enable" } else { "disable" };
            vec![silent(format!("{switch} agent {backend}/{server}"))]
        }
        Action::Maint => vec![state("maint")],
        Action::Shut => vec![silent(format!(
            "shutdown sessions server {backend}/{server}"
        ))],
        Action::Delete => vec![Command {
            verb: Verb::Delete,
            text: format!("del server {backend}/{server}"),
        }],
    })
}

fn add(step: &Step, addr: SocketAddr, options: &[String]) -> Result<Command, CommandError> {
    let Step {
        backend, server, ..
    } = step;
    port(step, addr)?;
    let mut text = format!("add server {backend}/{server} {}", without_scope(addr));
    for word in options {
        text.push(' ');
        text.push_str(plain(step, word)?);
    }
    if text.len() > MAX_LINE {
        return Err(CommandError::Long {
            backend: backend.clone(),
            server: server.clone(),
            len: text.len(),
        });
    }
    Ok(Command {
        verb: Verb::Add,
        text,
    })
}

fn plain<'a>(step: &Step, word: &'a str) -> Result<&'a str, CommandError> {
    if is_plain(word) {
        return Ok(word);
    }
    Err(CommandError::Word {
        backend: step.backend.clone(),
        server: step.server.clone(),
        word: word.to_owned(),
    })
}

fn port(step: &Step, addr: SocketAddr) -> Result<u16, CommandError> {
    match addr.port() {
        0 => Err(CommandError::Port {
            backend: step.backend.clone(),
            server: step.server.clone(),
        }),
        port => Ok(port),
    }
}

/// `1.2.3.4:80` or `[::1]:80`, without the `%scope` that HAProxy does not know.
fn without_scope(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip(), addr.port())
}

/// Whether the command line takes the word as it is.
fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && !word.contains("<<")
        && word.bytes().all(|b| {
            b.is_ascii_graphic() && !matches!(b, b';' | b'\\' | b'#' | b'"' | b'\'' | b'$')
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Weight;

    fn step(action: Action) -> Step {
        Step {
            backend: BackendName::new("nodes").unwrap(),
            server: ServerName::new("web-1").unwrap(),
            action,
        }
    }

    fn texts(action: Action) -> Vec<String> {
        commands(&step(action))
            .unwrap()
            .into_iter()
            .map(|command| command.text)
            .collect()
    }

    fn add(addr: &str, options: &[&str]) -> Action {
        Action::Add {
            addr: addr.parse().unwrap(),
            options: options.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    #[test]
    fn every_action_has_its_lines() {
        assert_eq!(
            texts(add("10.0.0.1:3000", &["check", "inter", "1s"])),
            ["add server nodes/web-1 10.0.0.1:3000 check inter 1s"]
        );
        assert_eq!(
            texts(add("[::1]:3000", &[])),
            ["add server nodes/web-1 [::1]:3000"]
        );
        assert_eq!(
            texts(add("[fe80::1%2]:3000", &[])),
            ["add server nodes/web-1 [fe80::1]:3000"]
        );
        assert_eq!(
            texts(Action::Address("10.0.0.2:81".parse().unwrap())),
            ["set server nodes/web-1 addr 10.0.0.2 port 81"]
        );
        assert_eq!(
            texts(Action::Address("[::1]:81".parse().unwrap())),
            ["set server nodes/web-1 addr ::1 port 81"]
        );
        assert_eq!(
            texts(Action::Weight(Weight::new(7).unwrap())),
            ["set server nodes/web-1 weight 7"]
        );
        assert_eq!(
            texts(Action::Maxconn(0)),
            ["set maxconn server nodes/web-1 0"]
        );
        assert_eq!(
            texts(Action::Ready { check: true }),
            [
                "enable health nodes/web-1",
                "set server nodes/web-1 state ready"
            ]
        );
        assert_eq!(
            texts(Action::Ready { check: false }),
            ["set server nodes/web-1 state ready"]
        );
        assert_eq!(
            texts(Action::Drain {
                check: true,
                keep_check: false
            }),
            [
                "set server nodes/web-1 state drain",
                "disable health nodes/web-1"
            ]
        );
        assert_eq!(
            texts(Action::Drain {
                check: true,
                keep_check: true
            }),
            [
                "set server nodes/web-1 state drain",
                "enable health nodes/web-1"
            ]
        );
        assert_eq!(
            texts(Action::Drain {
                check: false,
                keep_check: true
            }),
            ["set server nodes/web-1 state drain"]
        );
        assert_eq!(
            texts(Action::CookieKey("k-1".into())),
            ["set dynamic-cookie-key backend nodes k-1"]
        );
        assert_eq!(
            texts(Action::Agent { asked: true }),
            ["enable agent nodes/web-1"]
        );
        assert_eq!(
            texts(Action::Agent { asked: false }),
            ["disable agent nodes/web-1"]
        );
        assert_eq!(texts(Action::Maint), ["set server nodes/web-1 state maint"]);
        assert_eq!(
            texts(Action::Shut),
            ["shutdown sessions server nodes/web-1"]
        );
        assert_eq!(texts(Action::Delete), ["del server nodes/web-1"]);
    }

    #[test]
    fn what_the_command_line_would_read_otherwise_is_refused() {
        for word in [
            "a;b", "a\nb", "a\rb", "a b", "a\\b", "<<", "<<%EOF%", "#", "a#", "\"a\"", "'a'",
            "$HOME", "", "é", "\0",
        ] {
            let refused = commands(&step(add("10.0.0.1:80", &["check", word])));
            assert!(
                matches!(refused, Err(CommandError::Word { .. })),
                "{word:?}"
            );
        }
        assert!(matches!(
            commands(&step(add("10.0.0.1:0", &[]))),
            Err(CommandError::Port { .. })
        ));
        assert!(matches!(
            commands(&step(Action::Address("[::]:0".parse().unwrap()))),
            Err(CommandError::Port { .. })
        ));
        assert!(matches!(
            commands(&step(Action::CookieKey("a;b".into()))),
            Err(CommandError::Word { .. })
        ));
        let long = "x".repeat(MAX_LINE);
        assert!(matches!(
            commands(&step(add("10.0.0.1:80", &[&long]))),
            Err(CommandError::Long { .. })
        ));
    }

    proptest! {
        #[test]
        fn whatever_the_options_a_step_is_one_line_of_the_words_given(options in prop::collection::vec(any::<String>(), 0..6)) {
            let words: Vec<&str> = options.iter().map(String::as_str).collect();
            if let Ok(sent) = commands(&step(add("10.0.0.1:80", &words))) {
                prop_assert_eq!(sent.len(), 1);
                let text = &sent[0].text;
                prop_assert!(text.len() <= MAX_LINE);
                prop_assert!(text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
                prop_assert!(!text.contains(';') && !text.contains('\\') && !text.contains("<<"));
                let read: Vec<&str> = text.split(' ').skip(4).collect();
                prop_assert_eq!(read, words);
            }
        }
    }
}
