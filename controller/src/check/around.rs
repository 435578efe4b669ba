//! What is around a controller, as it is now: the file on the disk, HAProxy's sockets, the programs, the agent. Each is
//! asked once and changed in nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use planner::config::{Config, ReloadMethod};
use planner::model::{Version, Worker};
use planner::pipeline::LoadedConfig;
use planner::render::FIRST_LINE;
use serf_rpc::{ConnectError, WatchError};

use super::finding::Finding;
use crate::error_chain::chain;
use crate::haproxy::file::{ConfigFile, Owner};
use crate::haproxy::process;
use crate::haproxy::reload::show_proc;
use crate::haproxy::runtime::{RuntimeApi, RuntimeError};
use crate::reconcile::{Adopt, RunError, may_adopt};

/// How long HAProxy, and each question to a program, may take.
const WAIT: Duration = Duration::from_secs(3);

/// What was seen of HAProxy.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) found: Vec<Finding>,
    /// What runs, else what checks.
    pub(super) version: Option<Version>,
    /// The working directory of the HAProxy that runs.
    pub(super) directory: Option<PathBuf>,
}

/// Whether the file may be written: one of somebody else's is taken over only where that is asked for, and what it loses
/// then is told.
pub(super) async fn file(config: &Config, adopt: bool) -> Option<Finding> {
    let path = &config.haproxy.config;
    let shown = path.display();
    let file = ConfigFile::new(path, FIRST_LINE);
    match file.owner().await {
        Ok(Owner::Foreign) if adopt => None,
        Ok(Owner::Foreign) => Some(Finding::error(format!(
            "{shown}:1: not written by serf-haproxy, so `run` refuses to start; start once with `run --adopt`, which \
             takes it over and keeps a copy (`check --adopt` says what would be lost)"
        ))),
        Ok(Owner::Missing | Owner::Ours) => None,
        Err(error) => Some(Finding::error(format!(
            "{}; [haproxy] config has to name a file that can be read, or none",
            chain(&error)
        ))),
    }
}

/// What `run --adopt` would say of a file of somebody else's.
pub(super) async fn adoption(loaded: &LoadedConfig) -> Option<Finding> {
    let path = &loaded.config.haproxy.config;
    let file = ConfigFile::new(path, FIRST_LINE);
    if !matches!(file.owner().await, Ok(Owner::Foreign)) {
        return None;
    }
    let theirs = file.read().await.ok().flatten()?;
    let shown = path.display();
    Some(
        match may_adopt(&theirs, path.clone(), loaded, Adopt::Lossless) {
            Ok(()) => Finding::warning(format!(
                "{shown}:1: not written by serf-haproxy; `run --adopt` takes it over, loses nothing of it and keeps a copy"
            )),
            Err(RunError::WouldLose { loss, .. }) => Finding::warning(format!(
                "{shown}:1: not written by serf-haproxy; `run --adopt --yes` takes it over and keeps a copy, and this of \
                 it would be gone:\n{}",
                loss.to_string().trim_end()
            )),
            Err(error) => Finding::error(chain(&error)),
        },
    )
}

/// Why no agent answers; a key that is not accepted is an error, for waiting does not help.
pub(super) fn agents(silent: &[(String, WatchError)], answers: bool) -> Vec<Finding> {
    let finding = |(_, error): &(String, WatchError)| {
        let said = chain(error);
        let refused = |way_out: &str| {
            let text = format!("[serf] addr: {said}; {way_out}");
            if answers {
                Finding::warning(text)
            } else {
                Finding::error(text)
            }
        };
        match error {
            WatchError::Connect(ConnectError::MissingKey { .. }) => {
                refused("put its rpc_auth into a file and name that in `[serf] auth_key_file`")
            }
            WatchError::Connect(ConnectError::BadKey { .. }) => refused(
                "write its rpc_auth into the file of `[serf] auth_key_file`; take the key out where it has none",
            ),
            WatchError::Connect(
                ConnectError::BadVersion { .. } | ConnectError::Handshake { .. },
            ) => refused("that is no Serf agent; name its rpc_addr, by default 127.0.0.1:7373"),
            WatchError::Connect(ConnectError::Resolve { .. }) => refused("correct the address"),
            WatchError::Connect(ConnectError::Key { .. }) => {
                refused("write the agent's rpc_auth there")
            }
            _ => Finding::warning(format!(
                "[serf] addr: {said}; start it, or name its rpc_addr. Until one answers the members last seen are all there are"
            )),
        }
    };
    // A file that is missing or not to be opened is said with the rights of files.
    let is_said = |error: &WatchError| matches!(error, WatchError::Connect(ConnectError::Key { reason, .. }) if reason.kind() != io::ErrorKind::InvalidData);
    let silent = silent.iter().filter(|(_, error)| !is_said(error));
    silent.map(finding).collect()
}

/// Looks at HAProxy's sockets and programs; `master` is where its master is expected.
pub(super) async fn haproxy(config: &Config, master: Option<&Path>) -> Seen {
    let stats = RuntimeApi::new(&config.haproxy.stats_socket).timeout(WAIT);
    let worker = stats.worker().await;
    let mut found = Vec::new();
    found.extend(reload_command(config));
    let is_masters = show_proc(&stats).await.is_ok();
    let masters = match master {
        Some(socket) => {
            let api = RuntimeApi::new(socket).timeout(WAIT);
            Some((socket, show_proc(&api).await, api))
        }
        None => None,
    };
    let master_answers = masters.as_ref().is_some_and(|(_, said, _)| said.is_ok());
    match &worker {
        _ if is_masters => found.push(Finding::error(format!(
            "[haproxy] stats_socket: {} is the socket of HAProxy's master; name the one of its `stats socket` line",
            stats.socket().display()
        ))),
        Ok(_) => found.extend(level(&stats).await),
        Err(error) => found.extend(no_stats(config, error, master_answers)),
    }
    if let Some((socket, Err(error), api)) = &masters
        && config.haproxy.reload != ReloadMethod::Spawn
    {
        let is_stats = api.worker().await.is_ok();
        let worker = worker.as_ref().ok().filter(|_| !is_masters);
        found.extend(no_master(socket, error, is_stats, worker));
    }
    let checks = checking_version(config).await;
    let runs = worker.as_ref().ok().map(|worker| worker.version);
    if let (Some(runs), Some(checks)) = (runs, checks)
        && runs != checks
    {
        found.push(Finding::warning(format!(
            "[haproxy] check_command: HAProxy {runs} runs and {checks} checks, so that one may pass what the other \
             does not load; restart HAProxy, or name the program that runs"
        )));
    }
    Seen {
        found,
        version: runs.or(checks),
        directory: worker
            .ok()
            .and_then(|worker| process::master_of(worker.pid))
            .and_then(|master| process::directory_of(master.pid)),
    }
}

async fn level(stats: &RuntimeApi) -> Option<Finding> {
    let socket = stats.socket().display();
    match stats.level().await {
        Ok(level) if level == "admin" => None,
        Ok(level) if matches!(level.as_str(), "operator" | "user") => {
            Some(Finding::error(format!(
                "[haproxy] stats_socket: {socket} permits no more than `level {level}` in the HAProxy that runs; write `level \
             admin` in its `stats socket` line and reload it"
            )))
        }
        // what does not say its level is asked for more when it is needed
        _ => None,
    }
}

/// Nobody answers on the stats socket.
fn no_stats(config: &Config, error: &RuntimeError, master_answers: bool) -> Option<Finding> {
    let said = chain(error);
    let key = "[haproxy] stats_socket";
    if is_denied(error) {
        // the rights of files say so already
        return None;
    }
    Some(match &config.haproxy.reload {
        ReloadMethod::Spawn => return None,
        _ if master_answers => Finding::warning(format!(
            "{key}: {said}, though HAProxy runs: its `stats socket` is elsewhere, or deleted; correct the key, or restart \
             HAProxy once its file names this one"
        )),
        _ => Finding::warning(format!(
            "{key}: {said}; HAProxy does not run, or listens elsewhere: start it once `run` has written its file, or \
             correct the key"
        )),
    })
}

/// Nobody answers on the master's socket as a master does.
fn no_master(
    socket: &Path,
    error: &RuntimeError,
    is_stats: bool,
    worker: Option<&Worker>,
) -> Option<Finding> {
    let key = "[haproxy] master_socket";
    let shown = socket.display();
    if is_stats {
        return Some(Finding::error(format!(
            "{key}: {shown} is a worker's `stats socket`; name what HAProxy is started with behind -S"
        )));
    }
    if is_denied(error) {
        return None;
    }
    // Nothing runs: what is said of the stats socket is enough.
    let worker = worker?;
    let said = chain(error);
    let or = "or set `[haproxy] reload_command`";
    let text = match process::master_of(worker.pid) {
        Some(master) => match master.socket() {
            Some(other) => format!(
                "{key}: {said}; HAProxy's master listens on {}: name that",
                other.display()
            ),
            None => format!(
                "{key}: {said}; HAProxy's master has no socket: start it with -S {shown} (Debian: EXTRAOPTS in \
                 /etc/default/haproxy), {or}"
            ),
        },
        None if process::is_haproxy(worker.pid) => format!(
            "{key}: {said}; HAProxy runs without a master, so that nobody can reload it: start it with -W -S {shown}, {or}"
        ),
        None => format!("{key}: {said}; start HAProxy with -W -S {shown}, {or}"),
    };
    Some(Finding::error(text))
}

fn is_denied(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

fn reload_command(config: &Config) -> Option<Finding> {
    let ReloadMethod::Command(command) = &config.haproxy.reload else {
        return None;
    };
    let program = command.first()?;
    (!process::is_program(program)).then(|| {
        Finding::error(format!(
            "[haproxy] reload_command: there is no program {program}; name one that can be run"
        ))
    })
}

/// The version of the program that checks, where it is HAProxy or runs it: `haproxy`, `docker exec lb haproxy`.
pub(crate) async fn checking_version(config: &Config) -> Option<Version> {
    let command = &config.haproxy.check_command;
    let is_haproxy = |word: &String| Path::new(word).file_name() == Some("haproxy".as_ref());
    let at = command.iter().position(is_haproxy)?;
    let mut ask: Vec<String> = command.get(..=at)?.to_vec();
    ask.push("-v".to_owned());
    let said = process::run(&ask, WAIT).await.ok()?;
    version(&said.output)
}

/// `HAProxy version 2.6.12-1+deb12u4 2026/01/01`.
fn version(said: &str) -> Option<Version> {
    let rest = said.lines().find_map(|line| {
        line.strip_prefix("HAProxy version ")
            .or_else(|| line.strip_prefix("HA-Proxy version "))
    })?;
    Version::parse(rest.split_whitespace().next()?)
}

#[cfg(test)]
mod tests {
    use serf_rpc::testing::errors;

    use super::*;

    #[test]
    fn the_version_is_that_of_haproxy_and_of_no_other_program() {
        let found = |said| version(said).map(|version| version.to_string());
        let debian =
            "HAProxy version 2.6.12-1+deb12u4 2026/01/01 - https://haproxy.org/\nStatus: x\n";
        assert_eq!(found(debian).as_deref(), Some("2.6"));
        assert_eq!(
            found("Docker version 20.10.24+dfsg1, build 297e128\n"),
            None
        );
        assert_eq!(found(""), None);
    }

    #[test]
    fn an_agent_that_is_not_there_is_a_warning_and_a_key_that_does_not_fit_an_error() {
        let addr = || "127.0.0.1:7373".to_owned();
        let silent = |error: ConnectError| vec![(addr(), WatchError::Connect(error))];
        let said = |error, answers| {
            let found = agents(&silent(error), answers);
            found.first().unwrap().to_string()
        };
        let refused = said(errors::refused(addr()), false);
        assert!(
            refused
                .starts_with("warning: [serf] addr: no agent listens on 127.0.0.1:7373; start it")
        );
        let key = said(errors::bad_key(addr()), false);
        assert!(
            key.starts_with("[serf] addr: agent 127.0.0.1:7373 does not accept the key; write")
        );
        let key = said(errors::missing_key(addr()), false);
        assert!(key.contains("`[serf] auth_key_file`"));
        let other = said(errors::missing_key(addr()), true);
        assert!(other.starts_with("warning: "), "another agent answers");
    }
}
