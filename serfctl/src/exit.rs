//! What went wrong in, an exit code and words that say what to try next out.

use std::{
    borrow::Cow, error::Error, fmt::Write as _, io, path::PathBuf, process::ExitCode,
    time::Duration,
};

use serf_rpc::{CallError, CallErrorKind, ConnectError, Refusal, StreamError};

use crate::terminal::escape;

/// How the process ends. `serf` itself knows 0 and 1 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Failed in another way than those below.
    Failed = 1,
    /// Wrong usage, a malformed regular expression included.
    Usage = 2,
    /// No connection to the agent.
    CannotConnect = 3,
    /// The agent refused: the key, or the command.
    Refused = 4,
    /// The agent did not answer in time.
    TimedOut = 5,
}

impl Exit {
    /// Each, with when the process ends so.
    pub(crate) const TOLD: [(Self, &str); 6] = [
        (Self::Ok, "done"),
        (Self::Failed, "failed"),
        (Self::Usage, "wrong usage"),
        (Self::CannotConnect, "cannot connect to the agent"),
        (Self::Refused, "refused by the agent"),
        (Self::TimedOut, "timed out"),
    ];

    /// The codes for the help, one a line.
    pub(crate) fn help() -> String {
        let mut text = String::from("Exit codes:");
        for (exit, meaning) in Self::TOLD {
            write!(text, "\n  {}  {meaning}", exit as u8).unwrap_or_default();
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No connection to the agent, or not with this key.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The agent was asked and gave no result.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answers to a query stopped coming.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The agent cannot read a regular expression. It says so by closing the connection.
    #[error("the agent cannot read the regular expression {pattern:?} of {flag}")]
    Expression {
        /// The flag as it is written.
        flag: String,
        /// The expression as it was given.
        pattern: String,
    },
    /// The file with the key cannot be read.
    #[error("cannot read {}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was looked for is there: differences, or something to do.
    #[error("{0}")]
    Found(String),
    /// What is asked for makes no sense.
    #[error("{0}")]
    Usage(&'static str),
    /// There is no such command to show the manual page of.
    #[error("there is no command {0:?}")]
    NoSuchCommand(String),
    /// The system lets no connection be waited for.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    /// Members have no network coordinate, or are not known.
    #[error("Could not find a coordinate for node {0}")]
    NoCoordinate(String),
    /// What members say of their place is no place.
    #[error("No time can be told from the coordinate of {0}")]
    BadCoordinate(String),
    /// Members did not do with the keys what they were told.
    #[error("{said}")]
    Keys {
        /// What the agent says of it.
        said: String,
        /// Whether they were to list them.
        listing: bool,
    },
    /// Live members that did not answer.
    #[error("{0} of the live nodes did not answer")]
    Unreachable(usize),
    /// The members were asked for, and did not come in time.
    #[error("members: no reply within {after:?}")]
    Late {
        /// The limit.
        after: Duration,
    },
    /// Not so many members in time.
    #[error("waited {waited} for {wanted} members, there were {found}")]
    TooFew {
        /// How long.
        waited: humantime::FormattedDuration,
        /// How many are wanted.
        wanted: usize,
        /// How many match.
        found: usize,
        /// Why nothing is known of late.
        #[source]
        last: Option<Box<Failure>>,
    },
    /// The reader of stdout has seen enough.
    #[error("nobody reads on")]
    Closed,
    /// Stdout cannot be written.
    #[error("cannot write to stdout")]
    Output(#[source] io::Error),
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Connect(error) => exit_of_connect(error),
            Self::Call(error) => exit_of_call(error),
            Self::Expression { .. } | Self::Usage(_) | Self::NoSuchCommand(_) => Exit::Usage,
            Self::Late { .. } | Self::TooFew { .. } => Exit::TimedOut,
            Self::Closed => Exit::Ok,
            Self::Stream(_)
            | Self::NoCoordinate(_)
            | Self::BadCoordinate(_)
            | Self::Keys { .. }
            | Self::KeyFile { .. }
            | Self::Found(_)
            | Self::Unreachable(_)
            | Self::Runtime(_)
            | Self::Output(_) => Exit::Failed,
        }
    }

    /// Whether no time mends it.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::KeyFile { .. } => true,
            Self::Connect(error @ ConnectError::Resolve { .. }) => error.is_permanent(),
            _ => matches!(self.exit(), Exit::Usage | Exit::Refused),
        }
    }

    /// The chain of causes on one line, safe for a terminal, and below it what to try, each line ended.
    pub(crate) fn report(&self) -> String {
        let text = chain(self);
        // An agent ends its words with newlines; within them they stay visible.
        let mut out = format!("serfctl: {}\n", escape(text.trim_end().as_bytes()));
        if let Some(hint) = self.hint() {
            writeln!(out, "  try: {hint}").unwrap_or_default();
        }
        out
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Call(error) if error.refusal().is_some() => {
                hint_of_refusal(error.command, error.refusal()?)
            }
            Self::TooFew {
                last: Some(last), ..
            } if last.hint().is_some() => last.hint(),
            _ => self.fixed_hint().map(Cow::Borrowed),
        }
    }

    /// One that depends on nothing but the kind of failure.
    fn fixed_hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect(error) => hint_of_connect(error),
            Self::Call(error) => hint_of_call(&error.kind),
            Self::Late { .. } => Some(SUSPENDED),
            Self::Stream(StreamError::Lost(_)) => Some(STOPPED),
            Self::Expression { .. } => Some(EXPRESSION),
            Self::NoSuchCommand(_) => Some("`serfctl --help` lists the commands"),
            Self::NoCoordinate(_) => Some(
                "`serfctl members` lists the names; a new member has a coordinate after its first pings, and none where \
                 `disable_coordinates` is set",
            ),
            Self::BadCoordinate(_) => Some(
                "its agent claims figures that are none; restarted without its snapshot it begins anew",
            ),
            Self::Unreachable(_) => Some(
                "their bind address and port (7946, TCP and UDP) must be reachable from every node: \
                 look at firewalls, NAT and `-advertise`",
            ),
            Self::TooFew { .. } => {
                Some("`serfctl members` shows who is there; --timeout waits longer")
            }
            Self::Keys { listing: true, .. } => Some(
                "`serfctl reachability` shows who does not answer; an agent without a keyring has no keys to list \
                 (`encrypt_key` or `keyring_file`)",
            ),
            Self::Keys { listing: false, .. } => Some(
                "`serfctl keys --list` shows who has which key, `serfctl reachability` who does not answer",
            ),
            Self::Usage(_) => Some("`serfctl help COMMAND` has examples"),
            Self::KeyFile { .. } => Some("the file has the key of `rpc_auth`, in one line"),
            Self::Found(_)
            | Self::Stream(_)
            | Self::Closed
            | Self::Runtime(_)
            | Self::Output(_) => None,
        }
    }
}

const SUSPENDED: &str = "is the agent suspended or busy? --rpc-timeout waits longer";
const STOPPED: &str = "did the agent stop? its log says why";
const EXPRESSION: &str = "Go's syntax is wanted (https://github.com/google/re2/wiki/Syntax), \
                          with `\\(` and `\\{` for the brackets themselves";

fn hint_of_call(kind: &CallErrorKind) -> Option<&'static str> {
    match kind {
        CallErrorKind::Timeout { .. } => Some(SUSPENDED),
        CallErrorKind::Lost { .. } => Some(STOPPED),
        CallErrorKind::Join { .. } => Some(
            "is an agent with the same encryption key there, on its gossip address (7946, TCP and UDP)?",
        ),
        CallErrorKind::Filter { .. } => Some(EXPRESSION),
        _ => None,
    }
}

/// What helps against the agent's no. A limit is the agent's own.
fn hint_of_refusal(command: &str, refusal: Refusal) -> Option<Cow<'static, str>> {
    let limit = match refusal {
        Refusal::TooLong { limit, .. } => limit,
        _ => None,
    };
    let hint = match (command, limit) {
        ("event", Some(limit)) => format!(
            "this agent takes events of {limit} bytes, name and payload and what is around them (user_event_size_limit)"
        ),
        ("query", Some(limit)) => format!(
            "this agent takes queries of {limit} bytes, with their filters (query_size_limit)"
        ),
        ("tags", Some(limit)) => format!(
            "all tags of a node may have {limit} bytes together; `serfctl info` shows those of this one"
        ),
        ("query", None) if refusal == Refusal::ReservedName => {
            "names that begin with `_serf_` are Serf's own: take another".to_owned()
        }
        ("install-key" | "use-key" | "remove-key" | "list-keys", _) => {
            "is the cluster encrypted? agents need -encrypt or a keyring".to_owned()
        }
        _ => return None,
    };
    Some(Cow::Owned(hint))
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes: Vec<String> = anyhow::Chain::new(error).map(ToString::to_string).collect();
    causes.join(": ")
}

fn exit_of_connect(error: &ConnectError) -> Exit {
    match error {
        ConnectError::BadKey { .. } | ConnectError::MissingKey { .. } => Exit::Refused,
        ConnectError::Timeout { .. } => Exit::TimedOut,
        // The limits of the connection and of its first call are the same, and either may come first.
        ConnectError::Handshake { reason, .. } if reason.is_timeout() => Exit::TimedOut,
        _ => Exit::CannotConnect,
    }
}

fn exit_of_call(error: &CallError) -> Exit {
    match error.kind {
        CallErrorKind::Refused { .. } => Exit::Refused,
        CallErrorKind::Timeout { .. } => Exit::TimedOut,
        CallErrorKind::Filter { .. } => Exit::Usage,
        _ => Exit::Failed,
    }
}

const SILENT: &str =
    "is the agent suspended, or is that another service? --rpc-timeout waits longer";

fn hint_of_connect(error: &ConnectError) -> Option<&'static str> {
    Some(match error {
        ConnectError::Resolve { .. } => {
            "give the agent's RPC address as HOST:PORT with --rpc-addr or SERF_RPC_ADDR"
        }
        ConnectError::Refused { .. } => {
            "is the agent running? its log names its RPC address; \
             --rpc-addr or SERF_RPC_ADDR take another than 127.0.0.1:7373"
        }
        ConnectError::Timeout { .. } => SILENT,
        ConnectError::Handshake { reason, .. } if reason.is_timeout() => SILENT,
        ConnectError::BadKey { .. } => {
            "compare the key (--rpc-auth-file, --rpc-auth, SERF_RPC_AUTH_FILE, SERF_RPC_AUTH) with rpc_auth of the \
             agent; an agent without one takes none"
        }
        ConnectError::MissingKey { .. } => {
            "set --rpc-auth-file, SERF_RPC_AUTH_FILE or SERF_RPC_AUTH to rpc_auth of the agent"
        }
        ConnectError::Handshake { .. } | ConnectError::BadVersion { .. } => {
            "is that the RPC address of a Serf agent (7373), and not its gossip address (7946)?"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serf_rpc::testing::errors;

    use super::*;

    fn addr() -> String {
        "127.0.0.1:7373".into()
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        let after = Duration::from_secs(1);
        let agent = errors::call_refused("members", "no");
        let late = |command| errors::call_timeout(command, after);
        for (failure, exit) in [
            (Failure::from(errors::refused(addr())), Exit::CannotConnect),
            (errors::bad_key(addr()).into(), Exit::Refused),
            (errors::missing_key(addr()).into(), Exit::Refused),
            (
                errors::connect_timeout(addr(), after).into(),
                Exit::TimedOut,
            ),
            (
                errors::handshake_failed(addr(), late("handshake")).into(),
                Exit::TimedOut,
            ),
            (agent.into(), Exit::Refused),
            (late("members").into(), Exit::TimedOut),
            (
                Failure::Expression {
                    flag: "--name".into(),
                    pattern: "(".into(),
                },
                Exit::Usage,
            ),
            (
                Failure::Output(io::ErrorKind::StorageFull.into()),
                Exit::Failed,
            ),
        ] {
            assert_eq!(failure.exit(), exit, "{failure}");
        }
    }

    #[test]
    fn a_report_names_the_cause_and_what_to_try() {
        let source = io::Error::other("no such host");
        let report = Failure::from(errors::unresolved("x", source)).report();
        assert!(
            report.starts_with("serfctl: cannot resolve agent address x: no such host\n  try: "),
            "{report}"
        );
    }

    #[test]
    fn a_limit_is_that_of_the_agent_and_nothing_else_is_blamed_on_one() {
        let hint =
            |command, message: &str| Failure::from(errors::call_refused(command, message)).report();
        for (command, message, told) in [
            (
                "event",
                "user event exceeds configured limit of 2048 bytes before encoding",
                "events of 2048 bytes",
            ),
            (
                "event",
                "encoded user event exceeds configured limit of 600 bytes after encoding",
                "events of 600 bytes",
            ),
            (
                "query",
                "query exceeds limit of 4096 bytes",
                "queries of 4096 bytes",
            ),
            (
                "tags",
                "Encoded length of tags exceeds limit of 512 bytes",
                "have 512 bytes",
            ),
            (
                "query",
                "Queries cannot contain the '_serf_' prefix",
                "Serf's own",
            ),
        ] {
            let report = hint(command, message);
            assert!(report.contains(told), "{report}");
        }
        for (command, message) in [
            ("event", "Agent is leaving"),
            ("tags", "timeout waiting for update broadcast"),
            ("query", "limit of nothing"),
        ] {
            let report = hint(command, message);
            assert!(!report.contains("try:"), "{report}");
        }
    }

    #[test]
    fn no_hint_is_to_do_again_what_failed() {
        let hint = |listing| {
            let said = "no".to_owned();
            Failure::Keys { said, listing }.report()
        };
        assert!(hint(false).contains("keys --list"));
        assert!(!hint(true).contains("keys --list") && hint(true).contains("reachability"));
    }

    #[test]
    fn the_words_of_an_agent_cannot_reach_the_terminal_unescaped() {
        let agent = errors::call_refused("members", "\x1b[2J\nserfctl: all is well");
        let report = Failure::from(agent).report();
        assert_eq!(
            report,
            "serfctl: members: \\u{1b}[2J serfctl: all is well\n"
        );
    }
}
