//! `setup`: a balancer without a config in, one that follows the cluster out, after a yes.

use std::io::{IsTerminal as _, stdin};
use std::path::{Path, PathBuf};

use clap::Args;
use controller::preview::beforehand;
use controller::setup::{self, Asked, Questions, SetupError, Survey, Tag};
use tokio::runtime::Runtime;

use super::{Exit, print, runtime, tell};

/// An agent that does not answer is asked for again so often.
const AGENTS: usize = 3;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serf-haproxy setup
      ask for what cannot be found, and show what would be done
  serf-haproxy setup --tag role=backend --port 3000 --yes
      the same from a script
  serf-haproxy setup --undo
      HAProxy goes on with the site's files alone")]
pub(super) struct SetupArgs {
    /// The RPC of the Serf agent; left out: as its files in /etc/serf say
    #[arg(long, value_name = "ADDR")]
    agent: Option<String>,
    /// A file with the agent's `rpc_auth`; left out: it is taken from its files in /etc/serf
    #[arg(long, value_name = "FILE")]
    auth_key_file: Option<PathBuf>,
    /// What the backend is called
    #[arg(long, value_name = "NAME", default_value = "nodes")]
    backend: String,
    /// The tag that web servers have
    #[arg(long, value_name = "KEY=VALUE", value_parser = setup::tag)]
    tag: Option<Tag>,
    /// Where web servers listen; a member's tag `port` goes before it
    #[arg(long)]
    port: Option<u16>,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Take away what setup has written
    #[arg(long, conflicts_with_all = ["agent", "auth_key_file", "tag", "port"])]
    undo: bool,
}

pub(super) fn setup(path: &Path, args: &SetupArgs) -> anyhow::Result<Exit> {
    if args.undo {
        return undo(path, args);
    }
    if setup::is_set_up(path) {
        return print(&format!(
            "it is set up already, {} is yours to edit (`serf-haproxy check`, `systemctl reload serf-haproxy`); nothing is changed\n",
            path.display()
        ));
    }
    let mut asked = Asked {
        agent: args.agent.clone(),
        auth_key_file: args.auth_key_file.clone(),
        backend: args.backend.clone(),
        tag: args.tag.clone(),
        port: args.port,
    };
    let runtime = runtime()?;
    let survey = if args.yes || !stdin().is_terminal() {
        runtime.block_on(Survey::take(&asked))?
    } else {
        ask_for_what_is_left_out(&runtime, &mut asked)?
    };
    let proposal = survey.propose(&asked, path)?;
    print(&proposal.describe())?;
    let pending = runtime.block_on(beforehand(&proposal.config, &proposal.picked))?;
    print(&format!(
        "\nonce they answer, the file has them:\n{pending}\n"
    ))?;
    if !args.yes && !agrees("do it?")? {
        return Ok(Exit::Pending);
    }
    runtime.block_on(proposal.carry_out())?;
    print(&format!("done; {}\n", proposal.next))
}

fn undo(path: &Path, args: &SetupArgs) -> anyhow::Result<Exit> {
    if !setup::is_set_up(path) {
        return print("nothing is set up, and nothing to take away\n");
    }
    if !args.yes
        && !agrees(
            "take config and drop-in away, and restart HAProxy with the site's files alone?",
        )?
    {
        return Ok(Exit::Pending);
    }
    runtime()?.block_on(setup::undo(path))?;
    print("done; HAProxy runs with the site's files alone\n")
}

/// Asks where the agent is if it does not answer, and then for the rest.
fn ask_for_what_is_left_out(runtime: &Runtime, asked: &mut Asked) -> anyhow::Result<Survey> {
    let mut questions = Questions::new(stdin().lock(), anstream::stderr());
    let mut found = runtime.block_on(Survey::take(asked));
    for _ in 0..AGENTS {
        let Err(SetupError::Agent { addr, .. }) = &found else {
            break;
        };
        let addr = addr.clone();
        if let Err(error) = found {
            tell(&format!("{:#}", anyhow::Error::new(error)));
        }
        questions.agent(&addr, asked)?;
        found = runtime.block_on(Survey::take(asked));
    }
    let survey = found?;
    questions.rest(&survey, asked)?;
    Ok(survey)
}

/// Whether somebody says yes; nobody at a terminal says no.
fn agrees(question: &str) -> anyhow::Result<bool> {
    if !stdin().is_terminal() {
        tell("nothing was changed; --yes does it");
        return Ok(false);
    }
    let agrees = Questions::new(stdin().lock(), anstream::stderr()).agrees(question)?;
    if !agrees {
        tell("nothing was changed");
    }
    Ok(agrees)
}
