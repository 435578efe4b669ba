//! Arguments and environment in, a [`Cli`] out.
//!
//! Scripts written for `serf` keep working: every long flag is also taken with one dash, as Go's `flag` package
//! has them (`-status=alive`, `-status alive`), a flag given twice counts the last time, and a switch may carry
//! its value (`-detailed=false`).

use std::{env, ffi::OsString, fs, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::command::{
    cluster::{EventArgs, ForceLeaveArgs, JoinArgs, TagsArgs},
    doctor::DoctorArgs,
    duration,
    info::InfoArgs,
    keys::KeysArgs,
    monitor::MonitorArgs,
    query::QueryArgs,
    reachability::ReachabilityArgs,
    rtt::RttArgs,
    wait::WaitArgs,
    watch::WatchArgs,
};
use crate::{exit::Failure, members::MembersArgs};

/// Where an agent listens unless told otherwise.
const DEFAULT_ADDR: &str = "127.0.0.1:7373";
/// How long an agent may take to answer, unless told otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  cannot connect to the agent
  4  refused by the agent
  5  timed out

Every long flag may be written with one dash, as `serf` has them.";

/// Look into a Serf cluster through the RPC of one of its agents
#[derive(Debug, Parser)]
#[command(name = "serfctl", version, args_override_self = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) agent: AgentArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Agent")]
pub(crate) struct AgentArgs {
    /// RPC address of the Serf agent [env: SERF_RPC_ADDR] [default: 127.0.0.1:7373]
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = address)]
    rpc_addr: Option<String>,

    /// RPC auth key of the Serf agent; the environment keeps it out of the process list [env: SERF_RPC_AUTH]
    #[arg(long, global = true, value_name = "KEY")]
    rpc_auth: Option<String>,

    /// A file with the RPC auth key, which goes before the key itself [env: SERF_RPC_AUTH_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    rpc_auth_file: Option<PathBuf>,

    /// How long to wait for the connection, and for each answer [default: 10s; longer for what asks all members]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration::parse)]
    rpc_timeout: Option<Duration>,
}

impl AgentArgs {
    /// `host:port`; an empty environment means the default, as for `serf`.
    pub(crate) fn addr(&self) -> String {
        let environment = || env::var("SERF_RPC_ADDR").ok();
        let given = self.rpc_addr.clone().or_else(environment);
        given
            .filter(|addr| !addr.is_empty())
            .unwrap_or_else(|| DEFAULT_ADDR.to_owned())
    }

    /// How long the connection, and each answer, may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.rpc_timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// The same for an answer that takes the agent longer by nature, unless it was said.
    pub(crate) fn timeout_or(&self, patience: Duration) -> Duration {
        self.rpc_timeout.unwrap_or(patience)
    }

    /// The auth key: of flags and then of the environment, from its file where one is given, else the key itself. An
    /// empty one is none.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(crate) fn auth_key(&self) -> Result<Option<String>, Failure> {
        let given = (self.rpc_auth_file.clone(), self.rpc_auth.clone());
        let (file, key) = match given {
            (None, None) => (
                env::var_os("SERF_RPC_AUTH_FILE").map(PathBuf::from),
                env::var("SERF_RPC_AUTH").ok(),
            ),
            given => given,
        };
        let key = match file.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => match fs::read_to_string(&path) {
                Ok(key) => Some(key.lines().next().unwrap_or_default().to_owned()),
                Err(source) => return Err(Failure::KeyFile { path, source }),
            },
            None => key,
        };
        Ok(key.filter(|key| !key.is_empty()))
    }

    /// The agent that a command line being completed names, as far as it goes, else the environment.
    pub(crate) fn of_completion(
        args: impl IntoIterator<Item = OsString>,
        patience: Duration,
    ) -> Self {
        let mut args = args
            .into_iter()
            .filter_map(|arg| arg.into_string().ok())
            .peekable();
        let mut agent = Self {
            rpc_addr: None,
            rpc_auth: None,
            rpc_auth_file: None,
            rpc_timeout: Some(patience),
        };
        while let Some(arg) = args.next() {
            let name = arg.trim_start_matches('-');
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, args.peek().cloned()),
            };
            match name {
                "rpc-addr" => agent.rpc_addr = value,
                "rpc-auth" => agent.rpc_auth = value,
                "rpc-auth-file" => agent.rpc_auth_file = value.map(PathBuf::from),
                _ => {}
            }
        }
        agent
    }

    /// The same for another agent.
    pub(crate) fn at(&self, addr: &str) -> Self {
        Self {
            rpc_addr: Some(addr.to_owned()),
            rpc_auth: self.rpc_auth.clone(),
            rpc_auth_file: self.rpc_auth_file.clone(),
            rpc_timeout: self.rpc_timeout,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Members(MembersArgs),

    Doctor(DoctorArgs),
    Info(InfoArgs),
    Event(EventArgs),
    Query(QueryArgs),
    Join(JoinArgs),

    /// Let the agent leave the cluster and end
    #[command(after_help = "\
Examples:
  serfctl leave
  serfctl leave --rpc-addr 10.0.0.5:7373")]
    Leave,
    ForceLeave(ForceLeaveArgs),
    Tags(TagsArgs),
    Keys(KeysArgs),

    /// Print a new key for encryption (32 random bytes in base64)
    #[command(after_help = "\
Examples:
  serfctl keygen
  serfctl keys --install $(serfctl keygen)")]
    Keygen,
    Rtt(RttArgs),
    Reachability(ReachabilityArgs),
    Monitor(MonitorArgs),
    Watch(WatchArgs),
    Wait(WaitArgs),

    /// Print the version
    Version,

    /// Print the completions for a shell, which ask the agent for the names of members
    #[command(after_help = "\
Examples:
  serfctl completions bash > /etc/bash_completion.d/serfctl
  serfctl completions zsh > ~/.zfunc/_serfctl
  serfctl completions fish > ~/.config/fish/completions/serfctl.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// Print the manual page of serfctl or of one of its commands
    #[command(after_help = "\
Examples:
  serfctl man members | man -l -
  serfctl man > /usr/local/share/man/man1/serfctl.1")]
    Man {
        /// The command
        command: Option<String>,
    },
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people, as `serf` prints it
    Text,
    /// One document, in the shape of `serf` where it has one
    Json,
    /// A document on each line
    Ndjson,
}

/// How is printed what goes on and on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineFormat {
    /// For people
    Text,
    /// A document on each line
    Ndjson,
}

impl Cli {
    /// Reads the arguments, the program's name first.
    ///
    /// # Errors
    ///
    /// Wrong usage; also `--help` and `--version`, with what is to be printed.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let args = two_dashes(&command, args);
        let matches = command.try_get_matches_from_mut(args)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// The arguments with Go's flags written as clap has them: `-name x` becomes `--name=x`.
///
/// A value is never looked into, even where it starts with a dash, and neither is anything after `--`. A single
/// letter stays what it is.
fn two_dashes(root: &clap::Command, args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
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
pub(crate) fn flag_name(arg: &OsString) -> Option<&str> {
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

fn address(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("HOST:PORT is wanted"),
        addr => Ok(addr.to_owned()),
    }
}

/// The values Go's `flag` package takes for a switch.
pub(crate) fn go_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false is wanted"),
    }
}

pub(crate) fn key_value(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=REGEXP is wanted, as in role=web"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::Filter;

    fn read(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::read(
            std::iter::once("serfctl")
                .chain(args.iter().copied())
                .map(OsString::from),
        )
    }

    fn members(args: &[&str]) -> MembersArgs {
        match read(args).unwrap().command {
            Command::Members(members) => members,
            other => panic!("{other:?}"),
        }
    }

    fn tag(key: &str, pattern: &str) -> Filter {
        Filter::Tag(key.to_owned(), pattern.to_owned())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_go_are_read_as_long_ones() {
        for args in [
            &[
                "members",
                "-detailed",
                "-format=json",
                "-status",
                "alive",
                "-tag",
                "role=web",
                "-name=a.*",
            ][..],
            &[
                "members",
                "--detailed",
                "--format",
                "json",
                "--status=alive",
                "--tag=role=web",
                "--name",
                "a.*",
            ],
            &[
                "members",
                "-detailed=1",
                "-format",
                "json",
                "-status=alive",
                "-tag=role=web",
                "-name",
                "a.*",
            ],
        ] {
            let members = members(args);
            assert!(members.detailed);
            assert_eq!(members.format, Format::Json);
            let expected = [
                Filter::Name("a.*".into()),
                Filter::Status("alive".into()),
                tag("role", "web"),
            ];
            assert_eq!(members.selection.filters(), expected);
        }
    }

    #[test]
    fn a_value_that_looks_like_a_flag_stays_a_value() {
        let members = members(&[
            "members",
            "-name",
            "-detailed",
            "--status",
            "--",
            "-tag",
            "-k=-v",
        ]);
        assert!(!members.detailed);
        let expected = [
            Filter::Name("-detailed".into()),
            Filter::Status("--".into()),
            tag("-k", "-v"),
        ];
        assert_eq!(members.selection.filters(), expected);
    }

    #[test]
    fn a_flag_given_twice_counts_the_last_time_and_tags_gather() {
        let members = members(&[
            "members",
            "-name=a",
            "-name=b",
            "-detailed",
            "-detailed=false",
            "-tag=x=1",
            "-tag=y=",
            "-tag=x=2",
        ]);
        assert!(!members.detailed);
        assert_eq!(
            members.selection.filters(),
            [Filter::Name("b".into()), tag("x", "2"), tag("y", "")]
        );
    }

    #[test]
    fn role_is_the_tag_role_and_wins() {
        let members = members(&["members", "-role=web", "-tag", "role=lb"]);
        assert!(members.selection.uses_role());
        assert_eq!(members.selection.filters(), [tag("role", "web")]);
    }

    #[test]
    fn the_agent_may_be_named_before_and_after_the_command() {
        for args in [
            &["-rpc-addr=127.0.0.9:1", "-rpc-auth", "-key", "members"][..],
            &["members", "--rpc-addr", "127.0.0.9:1", "-rpc-auth=-key"],
        ] {
            let cli = read(args).unwrap();
            assert_eq!(cli.agent.addr(), "127.0.0.9:1");
            assert_eq!(cli.agent.auth_key().unwrap().as_deref(), Some("-key"));
        }
    }

    #[test]
    fn an_empty_address_is_refused_and_an_empty_key_is_none() {
        // Else `leave -rpc-addr="$UNSET"` would end the agent of this host.
        assert!(read(&["leave", "-rpc-addr="]).is_err());
        let cli = read(&["members", "-rpc-auth="]).unwrap();
        assert_eq!(cli.agent.auth_key().unwrap(), None);
    }

    #[test]
    fn a_payload_may_look_like_a_flag_that_there_is_not() {
        for args in [
            &["event", "-coalesce=false", "deploy", "-v1.2"][..],
            &["event", "deploy", "-v1.2", "-coalesce=0"],
        ] {
            match read(args).unwrap().command {
                Command::Event(event) => assert_eq!(
                    event.parts(),
                    ("deploy".as_ref(), Some("-v1.2".as_ref()), false)
                ),
                other => panic!("{other:?}"),
            }
        }
        assert!(read(&["query", "load", "-1"]).is_ok());
    }

    #[test]
    fn nothing_after_two_dashes_is_a_flag() {
        assert!(
            read(&["members", "--", "-detailed"])
                .unwrap_err()
                .to_string()
                .contains("'-detailed'")
        );
    }

    #[test]
    fn wrong_usage_is_said() {
        for (args, complaint) in [
            (&["members", "-tag", "role"][..], "KEY=REGEXP is wanted"),
            (&["members", "-tag", "=x"], "KEY=REGEXP is wanted"),
            (&["members", "-detailed=maybe"], "true or false is wanted"),
            (
                &["members", "-format", "yaml"],
                "possible values: text, json",
            ),
            (&["members", "-bogus"], "unexpected argument '--bogus'"),
            (&["members", "extra"], "unexpected argument 'extra'"),
            (&["members", "-name"], "a value is required"),
            (&["members", "-d"], "unexpected argument '-d'"),
        ] {
            let error = read(args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(error.to_string().contains(complaint), "{args:?}: {error}");
        }
    }
}
