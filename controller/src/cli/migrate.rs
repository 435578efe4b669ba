//! `migrate`: a site's haproxy.cfg in, a template and a config that go on with it out.

use std::path::{Path, PathBuf};

use clap::Args;
use controller::migrate::{self, Files, Outcome, Report, TEMPLATE, Undone, Wanted};
use controller::setup::{Tag, tag};
use planner::migrate::{Already, backends, found};
use planner::model::BackendName;

use super::{Exit, Format, FormatArgs, print, print_json, runtime, tell};

/// Where the package expects config and template.
const FOLDER: &str = "/etc/serf-haproxy";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serf-haproxy migrate /etc/haproxy/haproxy.cfg --backend web=role=web
      what would become of it, with the config and a diff; nothing is written
  serf-haproxy migrate /etc/haproxy/haproxy.cfg --backend web=role=web --backend api=role=api --out /etc/serf-haproxy
      write template, config and report there, over nothing
  serf-haproxy migrate --undo --out /etc/serf-haproxy
      take them away again, if nobody has changed them")]
pub(super) struct MigrateArgs {
    /// The site's file
    #[arg(value_name = "HAPROXY.CFG", required_unless_present = "undo")]
    file: Option<PathBuf>,
    /// A backend whose servers are to be members, and the tags that these have, as in web=role=web,dc=a; may be repeated.
    /// Without tags: those that the members at its servers' addresses have in common
    #[arg(long = "backend", value_name = "NAME[=TAG=VALUE,…]", value_parser = backend)]
    backends: Vec<(BackendName, Vec<Tag>)>,
    /// Write template, config and report into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The RPC of the Serf agent; left out: as its files in /etc/serf say
    #[arg(long, value_name = "ADDR")]
    agent: Option<String>,
    /// A file with the agent's `rpc_auth`; left out: it is taken from its files in /etc/serf
    #[arg(long, value_name = "FILE")]
    auth_key_file: Option<PathBuf>,
    /// The command that judges a file, `{path}` standing for it; left out: haproxy -c -f {path}
    #[arg(long, value_name = "COMMAND")]
    check_command: Option<String>,
    /// Take away what migrate has written into --out
    #[arg(long, requires = "out", conflicts_with_all = ["file", "backends", "agent", "auth_key_file", "check_command"])]
    undo: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Reads `web=role=web,dc=a`.
fn backend(word: &str) -> Result<(BackendName, Vec<Tag>), String> {
    let (name, tags) = word.split_once('=').unwrap_or((word, ""));
    let name = BackendName::new(name).ok_or_else(|| {
        format!("want NAME or NAME=TAG=VALUE, a name of 1 to 64 of A-Z a-z 0-9 _ . -, got {word:?}")
    })?;
    let tags = tags.split(',').filter(|word| !word.is_empty());
    let tags: Result<Vec<Tag>, String> = tags.map(tag).collect();
    Ok((name, tags?))
}

pub(super) fn migrate(args: &MigrateArgs) -> anyhow::Result<Exit> {
    let Some(file) = args.file.as_ref().filter(|_| !args.undo) else {
        return undo(args.out.as_deref().unwrap_or(Path::new(FOLDER)));
    };
    let folder = std::path::absolute(args.out.as_deref().unwrap_or(Path::new(FOLDER)))?;
    let words = |command: &String| command.split_whitespace().map(str::to_owned).collect();
    let wanted = Wanted {
        file: std::path::absolute(file)?,
        backends: args.backends.clone(),
        template: folder.join(TEMPLATE),
        agent: args.agent.clone(),
        auth_key_file: args.auth_key_file.clone(),
        check_command: args.check_command.as_ref().map(words),
    };
    if wanted.backends.is_empty() {
        let known = backends(&migrate::read(&wanted.file)?);
        tell(&format!(
            "say which backends are the members', --backend NAME=TAG=VALUE; {}",
            found(&known)
        ));
        return Ok(Exit::Usage);
    }
    match runtime()?.block_on(migrate::propose(&wanted))? {
        Outcome::Already(already) => told(&wanted.file, already),
        Outcome::Proposed(report) => proposed(args, &folder, &report),
    }
}

fn told(file: &Path, already: Already) -> anyhow::Result<Exit> {
    let said = match already {
        Already::Ours => {
            "is written by serf-haproxy from a template already; another backend is added there"
        }
        Already::Edited => {
            "was written by serf-haproxy and changed by hand; what is changed belongs into its template"
        }
        Already::Template => "is a template already",
    };
    print(&format!("nothing to do: {} {said}\n", file.display()))
}

fn proposed(args: &MigrateArgs, folder: &Path, report: &Report) -> anyhow::Result<Exit> {
    match args.format.format {
        Format::Json => print_json(report)?,
        Format::Text if args.out.is_some() => print(&report.to_string())?,
        Format::Text => print(&format!(
            "{report}\nconfig.toml:\n{}\ntemplate:\n{}",
            report.config,
            report.diff()
        ))?,
    };
    let holds = report.proof.holds();
    if args.out.is_none() {
        return Ok(if holds { Exit::Done } else { Exit::Failed });
    }
    anyhow::ensure!(
        holds,
        "HAProxy would not read the same of it, and nothing is written; please report it with the file"
    );
    let files = Files::new(folder, report)?;
    if files.are_there() {
        tell(&format!(
            "nothing to do: {} has all of it",
            folder.display()
        ));
        return Ok(Exit::Done);
    }
    for path in files.write()? {
        tell(&format!("wrote {}", path.display()));
    }
    tell(&format!(
        "next: read {0}/config.toml, `serf-haproxy check --adopt -c {0}/config.toml`; the file goes over by \
         `serf-haproxy run --adopt --yes`, which keeps a copy",
        folder.display()
    ));
    Ok(Exit::Done)
}

fn undo(folder: &Path) -> anyhow::Result<Exit> {
    match migrate::undo(folder)? {
        Undone::Nothing => print("migrate has written nothing there, and nothing is taken away\n"),
        Undone::Gone(paths) => {
            let lines: String = paths
                .iter()
                .map(|path| format!("gone: {}\n", path.display()))
                .collect();
            print(&lines)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_named_with_its_tags_or_without() {
        let read = |word: &str| {
            let (name, tags) = backend(word)?;
            let tags: Vec<String> = tags.iter().map(|(k, v)| format!("{k}:{v}")).collect();
            Ok::<_, String>(format!("{name} {}", tags.join(" ")))
        };
        assert_eq!(read("web").unwrap(), "web ");
        assert_eq!(read("web=role=a=b,dc=x").unwrap(), "web role:a=b dc:x");
        assert!(read("=role=a").unwrap_err().contains("want NAME"));
        assert!(read("web=role").unwrap_err().contains("want KEY=VALUE"));
    }
}
