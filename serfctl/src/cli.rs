//! Arguments and environment in, a [`Cli`] out.
//!
//! Scripts written for `serf` keep working: flags are taken as [`go_flags`](crate::go_flags) says, and a flag given twice counts the last
//! time.

use std::ffi::OsString;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::command::{
    cluster::{EventArgs, ForceLeaveArgs, JoinArgs, TagsArgs},
    doctor::DoctorArgs,
    info::{InfoArgs, VERSION},
    keys::KeysArgs,
    monitor::MonitorArgs,
    query::QueryArgs,
    reachability::ReachabilityArgs,
    rtt::RttArgs,
    wait::WaitArgs,
    watch::WatchArgs,
};
use crate::{agent::AgentArgs, command::members::MembersArgs, exit::Exit, go_flags::two_dashes};

const DASHES: &str = "Every long flag may be written with one dash, as `serf` has them.";

/// Look into a Serf cluster through the RPC of one of its agents
#[derive(Debug, Parser)]
#[command(name = "serfctl", version = VERSION, disable_version_flag = true, args_override_self = true,
    after_help = format!("{}\n\n{DASHES}", Exit::help()))]
pub(crate) struct Cli {
    /// Print the version
    #[arg(short = 'v', long, short_alias = 'V', action = ArgAction::Version)]
    version: Option<bool>,

    #[command(flatten)]
    pub(crate) agent: AgentArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{args::Format, selection::Filter};

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
    fn the_version_is_asked_for_as_of_serf() {
        for flag in ["-v", "-V", "-version", "--version"] {
            let said = read(&[flag]).unwrap_err();
            assert_eq!(said.kind(), clap::error::ErrorKind::DisplayVersion);
            let said = said.to_string().into_bytes();
            assert_eq!(said, crate::command::info::version(), "{flag}");
        }
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
