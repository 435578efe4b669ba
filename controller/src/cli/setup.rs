//! `setup`: a balancer without a config in, one that follows the cluster out, after a yes.

use std::io::{BufRead as _, IsTerminal as _, Write as _, stdin};
use std::path::{Path, PathBuf};

use clap::Args;
use controller::preview::beforehand;
use controller::setup::{self, Asked, Survey, Tag};

use super::{Exit, print, runtime, tell};

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
    let survey = runtime.block_on(Survey::take(&asked))?;
    if !args.yes && stdin().is_terminal() {
        ask_for_what_is_left_out(&survey, &mut asked)?;
    }
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

fn ask_for_what_is_left_out(survey: &Survey, asked: &mut Asked) -> anyhow::Result<()> {
    if asked.tag.is_none() {
        let likeliest = survey.tags().into_iter().next();
        let proposed = likeliest.map(|(key, value)| format!("{key}={value}"));
        let answer = answer("which tag do web servers have?", proposed.as_deref())?;
        asked.tag = Some(setup::tag(&answer).map_err(anyhow::Error::msg)?);
    }
    if let (Some(tag), None) = (&asked.tag, asked.port) {
        let proposed = survey.port(tag).map(|port| port.to_string());
        asked.port = Some(answer("on which port do they listen?", proposed.as_deref())?.parse()?);
    }
    Ok(())
}

/// A line of the terminal; an empty one is what was proposed.
fn answer(question: &str, proposed: Option<&str>) -> anyhow::Result<String> {
    let hint = proposed.map(|proposed| format!(" [{proposed}]"));
    let _ = write!(
        anstream::stderr(),
        "{question}{} ",
        hint.unwrap_or_default()
    );
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    let line = line.trim();
    Ok(if line.is_empty() {
        proposed.unwrap_or_default()
    } else {
        line
    }
    .to_owned())
}

/// Whether somebody says yes; nobody at a terminal says no.
fn agrees(question: &str) -> anyhow::Result<bool> {
    if !stdin().is_terminal() {
        tell("nothing was changed; --yes does it");
        return Ok(false);
    }
    Ok(matches!(
        answer(question, Some("no"))?.as_str(),
        "y" | "yes"
    ))
}
