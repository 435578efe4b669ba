//! What has to survive a restart of the controller: the state directory.
//!
//! It holds the lock (one controller a directory), the members last seen, the servers in rotation and those that were
//! taken out without intent, the history, the texts that
//! a worker may have started with, by stamp, what the running worker has read in other files, the options of the
//! servers that were added to it, and the stamps of other files that were written.
//! Everything in it can be lost without harm to traffic: what is missing costs a reload or a probe, never a server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use planner::model::{
    AddedOptions, BackendName, Endpoint, SerfStatus, ServerKey, ServerName, Weight, Worker,
};
use planner::stamp::Stamp;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serf_rpc::{Entry, Member, MemberStatus, Presence};

use crate::owner;

mod others;
mod outputs;
mod services;

pub(crate) use services::PastService;
use services::SavedService;

/// Texts kept, newest first; the running worker's own is always among them.
const TEXTS: usize = 16;
/// How far two readings of one worker's start may lie apart where they come from its uptime: `show info` counts in whole
/// seconds.
const SAME_START_SECS: u64 = 3;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made, or a file in it cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another controller has it.
    #[error(
        "another serf-haproxy uses the state directory {path}; give each its own `[state] dir`"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
}

/// The state directory, locked for as long as this lives where it was opened.
#[derive(Debug)]
pub(crate) struct StateDir {
    dir: PathBuf,
    _lock: Option<File>,
}

/// The members last seen, the servers in rotation, and what counts against others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PersistedState {
    /// Every member that is not gone.
    pub members: Vec<Member>,
    /// The servers that had traffic.
    pub in_rotation: BTreeMap<ServerKey, Endpoint>,
    /// The servers that were taken out without intent.
    pub removals: BTreeMap<ServerKey, PastRemoval>,
    /// What Serf said of servers that it calls `failed` or `leaving`.
    pub words: BTreeMap<ServerKey, PastReport>,
    /// Those not in rotation who were the first at an address: it is theirs when they come back.
    pub owners: BTreeSet<(ServerKey, SocketAddr)>,
    /// The services that there were.
    pub services: BTreeMap<BackendName, PastService>,
}

/// What Serf said of a server that had traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PastReport {
    /// Where the server is.
    pub endpoint: Endpoint,
    /// `failed` or `leaving`.
    pub gossip: SerfStatus,
    /// Since when, in seconds since 1970; time that gossip was split does not count.
    pub since: u64,
}

/// A server that was taken out without intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PastRemoval {
    /// Where it was.
    pub endpoint: Endpoint,
    /// When it went, in seconds since 1970.
    pub at: u64,
    /// A second witness has said that it is dead.
    pub agreed: bool,
}

impl StateDir {
    /// Makes the directory where it is missing, and takes its lock.
    ///
    /// # Errors
    /// [`StateError::Locked`] while another process has it, [`StateError::Write`] where it cannot be made.
    pub(crate) fn open(dir: &Path) -> Result<Self, StateError> {
        let texts = dir.join("texts");
        owner::directory(dir, dir, owner::CLOSED)
            .and_then(|()| owner::directory(&texts, dir, owner::CLOSED))
            .map_err(|source| StateError::Write {
                path: texts,
                source,
            })?;
        let path = dir.join("lock");
        let lock =
            owner::open(&path, false).map_err(|source| StateError::Write { path, source })?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            StateError::Locked {
                path: dir.to_owned(),
            }
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            _lock: Some(lock),
        })
    }

    /// The directory for reading only, without its lock.
    pub(crate) fn peek(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            _lock: None,
        }
    }

    /// What was last saved; empty where nothing readable was.
    pub(crate) fn load(&self) -> PersistedState {
        let saved: SavedState = self.read_json("members.json").unwrap_or_default();
        PersistedState {
            members: saved.members,
            in_rotation: saved
                .in_rotation
                .into_iter()
                .filter_map(SavedServer::into_endpoint)
                .collect(),
            removals: saved
                .removals
                .into_iter()
                .filter_map(SavedRemoval::into_removed)
                .collect(),
            words: saved
                .words
                .into_iter()
                .filter_map(SavedReport::into_said)
                .collect(),
            owners: saved
                .owners
                .into_iter()
                .filter_map(SavedOwner::into_owner)
                .collect(),
            services: services::read(saved.services),
        }
    }

    /// Saves the members and the servers in rotation.
    ///
    /// # Errors
    /// [`StateError::Write`]; what was saved before is still there.
    pub(crate) fn save(&self, state: &PersistedState) -> Result<(), StateError> {
        let saved = SavedState {
            members: state.members.clone(),
            in_rotation: state
                .in_rotation
                .iter()
                .map(|(key, endpoint)| SavedServer::from_endpoint(key, *endpoint))
                .collect(),
            removals: state
                .removals
                .iter()
                .map(|(key, removed)| SavedRemoval {
                    server: SavedServer::from_endpoint(key, removed.endpoint),
                    at: removed.at,
                    agreed: removed.agreed,
                })
                .collect(),
            words: state
                .words
                .iter()
                .map(|(key, said)| SavedReport {
                    server: SavedServer::from_endpoint(key, said.endpoint),
                    gossip: said.gossip,
                    since: said.since,
                })
                .collect(),
            owners: state
                .owners
                .iter()
                .map(|(key, addr)| SavedOwner {
                    backend: key.backend.to_string(),
                    server: key.server.to_string(),
                    addr: *addr,
                })
                .collect(),
            services: state
                .services
                .iter()
                .map(|(name, service)| SavedService::of(name, service))
                .collect(),
        };
        self.write_json("members.json", &saved)
    }

    /// The options of the servers that were added to this worker; none where it is another worker than the one last
    /// saved.
    pub(crate) fn load_added(&self, worker: &Worker, now_secs: u64) -> Option<AddedOptions> {
        let saved: SavedAdded = self.read_json("added.json")?;
        if !saved.worker.is(worker, now_secs) {
            return None;
        }
        let name = |entry: SavedOptions| {
            let key = ServerKey::read(&entry.backend, &entry.server)?;
            Some((key, entry.options))
        };
        Some(saved.servers.into_iter().filter_map(name).collect())
    }

    /// Saves which worker runs and the options of the servers that were added to it.
    ///
    /// # Errors
    /// [`StateError::Write`]; what was saved before is still there.
    pub(crate) fn save_added(
        &self,
        worker: &Worker,
        now_secs: u64,
        added: &AddedOptions,
    ) -> Result<(), StateError> {
        let servers = added
            .iter()
            .map(|(key, options)| SavedOptions {
                backend: key.backend.to_string(),
                server: key.server.to_string(),
                options: options.clone(),
            })
            .collect();
        let worker = SavedWorker::of(worker, now_secs);
        self.write_json("added.json", &SavedAdded { worker, servers })
    }

    /// The process id of the worker that was last known.
    pub(crate) fn remembered_pid(&self) -> Option<u32> {
        let saved: SavedAdded = self.read_json("added.json")?;
        Some(saved.worker.pid)
    }

    /// Where the master of a HAProxy of our own listens.
    pub(crate) fn master_socket(&self) -> PathBuf {
        self.dir.join("master.sock")
    }

    /// Where the process id of a HAProxy of our own is kept.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.dir.join("haproxy.pid")
    }

    /// Where the history is kept.
    pub(crate) fn history_path(&self) -> PathBuf {
        self.dir.join("history.jsonl")
    }

    /// The text with that stamp, if it was saved; one whose content has another stamp is not believed.
    pub(crate) fn load_text(&self, stamp: &Stamp) -> Option<String> {
        let path = self.text_path(stamp);
        let text = String::from_utf8(owner::read(&path).ok()?).ok()?;
        if Stamp::genuine(&text).as_ref() != Some(stamp) {
            tracing::warn!(path = %path.display(), "a saved text is not what its name says; going on without it");
            return None;
        }
        Some(text)
    }

    /// Saves a text that a worker may start with, and forgets the oldest ones but those to keep.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub(crate) fn save_text(
        &self,
        stamp: &Stamp,
        text: &str,
        keep: &[&Stamp],
    ) -> Result<(), StateError> {
        replace(&self.text_path(stamp), text.as_bytes(), Durable::Yes)?;
        self.prune_texts(keep);
        Ok(())
    }

    fn prune_texts(&self, keep: &[&Stamp]) {
        let Ok(entries) = fs::read_dir(self.dir.join("texts")) else {
            return;
        };
        let mut texts: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        texts.sort();
        let kept = |path: &Path| keep.iter().any(|stamp| self.text_path(stamp) == path);
        for (_, path) in texts
            .iter()
            .rev()
            .skip(TEXTS)
            .filter(|(_, path)| !kept(path))
        {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old text");
            }
        }
    }

    fn text_path(&self, stamp: &Stamp) -> PathBuf {
        self.dir.join("texts").join(format!("{stamp}.cfg"))
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.dir.join(name);
        let bytes = match owner::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read saved state; going on without it");
                return None;
            }
        };
        serde_json::from_slice(&bytes)
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "saved state is damaged; going on without it");
            })
            .ok()
    }

    fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let path = self.dir.join(name);
        let bytes = serde_json::to_vec(value).map_err(|error| StateError::Write {
            path: path.clone(),
            source: error.into(),
        })?;
        replace(&path, &bytes, Durable::No)
    }
}

/// Whether a file has to be whole after a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durable {
    /// It is flushed to the disk: HAProxy is started with the file of the same text, which is.
    Yes,
    /// It changes with every member, and the loop does not wait for a disk: HAProxy does not outlive a crash either, and
    /// without such files the controller starts from its own configuration file.
    No,
}

/// Replaces a file whole.
fn replace(path: &Path, bytes: &[u8], durable: Durable) -> Result<(), StateError> {
    let write = || {
        let dir = path.parent().unwrap_or(Path::new("."));
        // The same failure has the same words each time, so that it is said once: a staged file's name is another each time.
        let mut staged =
            tempfile::NamedTempFile::new_in(dir).map_err(|error| io::Error::from(error.kind()))?;
        staged.as_file_mut().write_all(bytes)?;
        owner::of_directory(dir, staged.as_file())?;
        if durable == Durable::Yes {
            staged.as_file().sync_all()?;
        }
        staged.persist(path).map_err(|error| error.error)?;
        if durable == Durable::Yes {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|source| StateError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Whether a member has to be remembered: whoever left is gone, unless it is still `in_use`; the others may come back.
pub(crate) fn is_remembered(entry: &Entry, in_use: bool) -> bool {
    let left = entry.member.status() == MemberStatus::Left;
    in_use || entry.presence == Presence::Listed || !left
}

#[derive(Default, Serialize, Deserialize)]
struct SavedState {
    members: Vec<Member>,
    in_rotation: Vec<SavedServer>,
    #[serde(default)]
    removals: Vec<SavedRemoval>,
    #[serde(default)]
    words: Vec<SavedReport>,
    #[serde(default)]
    owners: Vec<SavedOwner>,
    #[serde(default)]
    services: Vec<SavedService>,
}

#[derive(Serialize, Deserialize)]
struct SavedServer {
    backend: String,
    server: String,
    addr: SocketAddr,
    weight: u16,
}

#[derive(Serialize, Deserialize)]
struct SavedRemoval {
    #[serde(flatten)]
    server: SavedServer,
    at: u64,
    agreed: bool,
}

#[derive(Serialize, Deserialize)]
struct SavedReport {
    #[serde(flatten)]
    server: SavedServer,
    gossip: SerfStatus,
    since: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedOwner {
    backend: String,
    server: String,
    addr: SocketAddr,
}

impl SavedOwner {
    fn into_owner(self) -> Option<(ServerKey, SocketAddr)> {
        let backend = BackendName::new(self.backend)?;
        let server = ServerName::new(self.server)?;
        Some((ServerKey { backend, server }, self.addr))
    }
}

#[derive(Serialize, Deserialize)]
struct SavedAdded {
    #[serde(flatten)]
    worker: SavedWorker,
    servers: Vec<SavedOptions>,
}

/// Which worker it was.
#[derive(Serialize, Deserialize)]
struct SavedWorker {
    pid: u32,
    /// When it started, in seconds since 1970.
    started: u64,
    /// The worker itself has told its start, which is exact then; earlier versions always went by its uptime.
    #[serde(default)]
    told: bool,
    /// The stamp of the text it started with, where it was one of ours; earlier versions did not write it down.
    #[serde(default)]
    stamp: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SavedOptions {
    backend: String,
    server: String,
    options: Vec<String>,
}

impl SavedWorker {
    fn of(worker: &Worker, now_secs: u64) -> Self {
        let counted = now_secs.saturating_sub(worker.uptime.as_secs());
        Self {
            pid: worker.pid,
            started: worker.start.unwrap_or(counted),
            told: worker.start.is_some(),
            stamp: worker.stamp.as_ref().map(ToString::to_string),
        }
    }

    /// Whether it is this worker, that runs now.
    fn is(&self, worker: &Worker, now_secs: u64) -> bool {
        let now = Self::of(worker, now_secs);
        let apart = self.started.abs_diff(now.started);
        let same_start = apart
            <= if self.told && now.told {
                0
            } else {
                SAME_START_SECS
            };
        let same_stamp = self.stamp.is_none() || self.stamp == now.stamp;
        self.pid == now.pid && same_start && same_stamp
    }
}

impl SavedRemoval {
    fn into_removed(self) -> Option<(ServerKey, PastRemoval)> {
        let (key, endpoint) = self.server.into_endpoint()?;
        let (at, agreed) = (self.at, self.agreed);
        Some((
            key,
            PastRemoval {
                endpoint,
                at,
                agreed,
            },
        ))
    }
}

impl SavedReport {
    fn into_said(self) -> Option<(ServerKey, PastReport)> {
        let (key, endpoint) = self.server.into_endpoint()?;
        let (gossip, since) = (self.gossip, self.since);
        let said = PastReport {
            endpoint,
            gossip,
            since,
        };
        Some((key, said))
    }
}

impl SavedServer {
    fn from_endpoint(key: &ServerKey, endpoint: Endpoint) -> Self {
        Self {
            backend: key.backend.to_string(),
            server: key.server.to_string(),
            addr: endpoint.addr,
            weight: endpoint.weight.get(),
        }
    }

    fn into_endpoint(self) -> Option<(ServerKey, Endpoint)> {
        let key = ServerKey {
            backend: BackendName::new(self.backend)?,
            server: ServerName::new(self.server)?,
        };
        Some((
            key,
            Endpoint {
                addr: self.addr,
                weight: Weight::new(self.weight)?,
            },
        ))
    }
}

#[cfg(test)]
mod tests;
