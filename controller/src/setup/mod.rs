//! A Debian balancer with Serf and HAProxy in, a serf-haproxy beside them out; and back.
//!
//! Nothing is changed before [`Proposal::carry_out`], and what that changes is undone where HAProxy does not start with it.
//! Written are the config, the key of the agent's RPC, and a drop-in for haproxy.service; no file of the site's.

pub(crate) mod found;
mod questions;
mod unit;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use planner::config::{Config, Diagnostic};
use serf_rpc::{ConnectOptions, Member, WatchError};

pub use found::{Agent, Tag, tag};
pub use questions::{NoAnswer, Questions};
pub use unit::UnitError;

use crate::account;
use crate::haproxy::message::{first_alert, messages};
use crate::haproxy::process::{self, ProcessError};
use crate::printable::printable;

/// The file that HAProxy reads after the site's.
const OURS: &str = "/var/lib/serf-haproxy/haproxy.cfg";
/// Its template, as the package has it.
const TEMPLATE: &str = "/usr/share/serf-haproxy/second-file.cfg.j2";
/// A stats socket beside the site's.
const STATS_SOCKET: &str = "/run/haproxy/serf-haproxy.sock";
/// A socket of HAProxy's master beside Debian's.
const MASTER_SOCKET: &str = "/run/serf-haproxy-master.sock";
/// What makes HAProxy read our file and open that socket.
const DROP_IN: &str = "/etc/systemd/system/haproxy.service.d/serf-haproxy.conf";
/// Its text.
const DROP_IN_TEXT: &str = include_str!("../../../packaging/haproxy.service.conf");
/// Where HAProxy's variables are set, before those of its unit.
const DEFAULTS: &str = "/etc/default/haproxy";
/// Where the agent has its own files.
const SERF: &str = "/etc/serf";
/// Who reads config and key.
const GROUP: &str = "serf-haproxy";

/// How long systemd and HAProxy may take for anything.
const WAIT: Duration = Duration::from_secs(90);

/// Why nothing was set up, or taken away. Everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The agent cannot be asked.
    #[error(
        "the Serf agent at {addr} does not answer; start it (`systemctl start serf`), or name it and its key (--agent, \
         --auth-key-file)"
    )]
    Agent {
        /// Its RPC.
        addr: String,
        /// Why.
        source: Box<WatchError>,
    },
    /// Nothing picks members.
    #[error("no member has a tag; say which one web servers have or will have: --tag role=backend")]
    NoTag,
    /// Several tags may be meant.
    #[error("say which tag picks web servers: {}", .0.iter().take(10).map(|(key, value)| format!("--tag {key}={value}")).collect::<Vec<_>>().join(", "))]
    WhichTag(Vec<Tag>),
    /// Nothing says where they listen.
    #[error("say on which port web servers listen: --port 3000")]
    NoPort,
    /// HAProxy's unit is not Debian's.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// What would be written cannot be used.
    #[error("the config would not be right: {}", .0.iter().map(|found| format!("{}: {}", found.key, found.message)).collect::<Vec<_>>().join("; "))]
    Config(Vec<Diagnostic>),
    /// A file cannot be read or written.
    #[error("cannot write {}; setup is root's to do", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program that is needed does not run.
    #[error(transparent)]
    Run(#[from] ProcessError),
    /// A program said no.
    #[error("`{command}` failed, and everything is as it was: {said}")]
    Failed {
        /// What was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// HAProxy could not start any more.
    #[error(
        "HAProxy does not start without our file: {said}; take out of the site's files what sends requests to its backends, \
         `systemctl reload haproxy`, and try again"
    )]
    StillUsed {
        /// What HAProxy says of the site's files alone.
        said: String,
    },
}

/// What is said beforehand; what is left out is found.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The RPC of the agent.
    pub agent: Option<String>,
    /// A file with its key.
    pub auth_key_file: Option<PathBuf>,
    /// The backend.
    pub backend: String,
    /// The tag that picks its servers.
    pub tag: Option<Tag>,
    /// Where they listen.
    pub port: Option<u16>,
}

/// What is found, before anything is asked.
#[derive(Clone, Debug)]
pub struct Survey {
    agent: Agent,
    key_file: Option<PathBuf>,
    site: Vec<PathBuf>,
    members: Vec<Member>,
}

/// What would be written.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The config, as it will be read.
    pub config: Config,
    /// The members that are to be servers, as of now.
    pub picked: Vec<Member>,
    files: Vec<NewFile>,
    /// The line of the site's that is needed then.
    pub next: String,
}

/// A file, and who may read it.
#[derive(Clone, Debug)]
struct NewFile {
    path: PathBuf,
    text: String,
    mode: u32,
    is_secret: bool,
}

impl Survey {
    /// Looks at HAProxy's unit, the agent's files and its members.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn take(asked: &Asked) -> Result<Self, SetupError> {
        let site = site_files().await?;
        let agent = agent(asked.agent.as_deref(), asked.auth_key_file.as_deref())?;
        let members = members(&agent).await.map_err(|source| SetupError::Agent {
            addr: agent.addr.clone(),
            source: Box::new(source),
        })?;
        let key_file = asked.auth_key_file.clone();
        Ok(Self {
            agent,
            key_file,
            site,
            members,
        })
    }

    /// The tags that members have, the likeliest first.
    pub fn tags(&self) -> Vec<Tag> {
        found::tags(&self.members)
    }

    /// How many members that are alive have this tag.
    pub fn count(&self, tag: &Tag) -> usize {
        found::picked(&self.members, tag).count()
    }

    /// The port that members with this tag name, where it is one.
    pub fn port(&self, tag: &Tag) -> Option<u16> {
        let ports = found::ports(&self.members, tag);
        ports.first().copied().filter(|_| ports.len() == 1)
    }

    /// What would be written, the config to this path.
    ///
    /// # Errors
    /// [`SetupError`], where something has to be said that cannot be found.
    pub fn propose(&self, asked: &Asked, path: &Path) -> Result<Proposal, SetupError> {
        let tag = match (&asked.tag, self.tags().as_slice()) {
            (Some(tag), _) | (None, [tag]) => tag.clone(),
            (None, []) => return Err(SetupError::NoTag),
            (None, tags) => return Err(SetupError::WhichTag(tags.to_vec())),
        };
        let port = asked.port.or_else(|| self.port(&tag));
        let port = port.ok_or(SetupError::NoPort)?;
        let key = path.with_file_name("rpc.key");
        let mut files = Vec::new();
        let mut key_file = self.key_file.clone();
        if let (Some(secret), None) = (&self.agent.auth_key, &key_file) {
            files.push(NewFile {
                path: key.clone(),
                text: format!("{secret}\n"),
                mode: 0o640,
                is_secret: true,
            });
            key_file = Some(key);
        }
        let wanted = found::Wanted {
            agent: self.agent.addr.clone(),
            key_file,
            site: self.site.clone(),
            backend: asked.backend.clone(),
            ports: found::ports(&self.members, &tag),
            tag,
            port,
            networks: found::networks(&self.members),
        };
        let text = wanted.text();
        let config = Config::read(text.clone().into_bytes(), []).map_err(SetupError::Config)?;
        files.push(NewFile {
            path: path.to_owned(),
            text,
            mode: 0o640,
            is_secret: false,
        });
        files.push(NewFile {
            path: DROP_IN.into(),
            text: DROP_IN_TEXT.to_owned(),
            mode: 0o644,
            is_secret: false,
        });
        let site = self.site.first().map(|path| path.display().to_string());
        let picked = found::picked(&self.members, &wanted.tag).cloned();
        Ok(Proposal {
            config,
            picked: picked.collect(),
            files,
            next: format!(
                "next: let a front end of {} send requests there, `default_backend {}`, and `systemctl reload haproxy`",
                site.unwrap_or_default(),
                asked.backend
            ),
        })
    }
}

impl Proposal {
    /// What would be written, each file with its text, but for secrets.
    pub fn describe(&self) -> String {
        let mut said = String::new();
        for file in &self.files {
            said += &format!("would write {}:\n", file.path.display());
            let secret = "(the agent's rpc_auth)\n";
            let text = if file.is_secret { secret } else { &file.text };
            for line in text.lines() {
                said += format!("    {}", printable(line)).trim_end();
                said.push('\n');
            }
            said.push('\n');
        }
        let name = |member: &Member| printable(&member.name().to_string()).into_owned();
        let names: Vec<String> = self.picked.iter().map(name).collect();
        let names = if names.is_empty() {
            "nobody yet".to_owned()
        } else {
            names.join(", ")
        };
        said += &format!("has that tag now: {names}\n");
        said + "would restart haproxy.service, once, so that it reads both files, and start serf-haproxy.service\n"
    }

    /// Writes the files, has HAProxy read ours, and starts the controller.
    ///
    /// # Errors
    /// [`SetupError`]; then what was written is gone again, and HAProxy runs as before.
    pub async fn carry_out(&self) -> Result<(), SetupError> {
        let ready = self.prepare().await;
        let is_ready = ready.is_ok();
        let outcome = match ready {
            Ok(()) => start().await,
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            // What failed is what is said; the way back is tried to its end.
            let _ = systemctl(&["stop", "serf-haproxy.service"]).await;
            for file in &self.files {
                let _ = fs::remove_file(&file.path);
            }
            let _ = systemctl(&["daemon-reload"]).await;
            if is_ready {
                let _ = restart_haproxy(&["restart"]).await;
            }
        }
        outcome
    }

    /// Everything that HAProxy does not notice.
    async fn prepare(&self) -> Result<(), SetupError> {
        for file in &self.files {
            file.write()?;
        }
        systemctl(&["daemon-reload"]).await?;
        systemctl(&["start", "serf-haproxy-check.socket"]).await?;
        systemctl(&["start", "serf-haproxy-init.service"]).await
    }
}

/// Restarts it, however often that was done in the last seconds: systemd refuses the sixth start within ten.
async fn restart_haproxy(how: &[&str]) -> Result<(), SetupError> {
    systemctl(&["reset-failed", "haproxy.service"]).await?;
    systemctl(&[how, &["haproxy.service"]].concat()).await
}

/// serf-haproxy-init.service has run just now. Pulled in by the restart it would run again, and between stop and start.
async fn start() -> Result<(), SetupError> {
    restart_haproxy(&["restart", "--job-mode=ignore-dependencies"]).await?;
    systemctl(&["restart", "serf-haproxy.service"]).await
}

impl NewFile {
    fn write(&self) -> Result<(), SetupError> {
        let path = &self.path;
        let write = || {
            let directory = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(directory)?;
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            io::Write::write_all(&mut file, self.text.as_bytes())?;
            let permissions = Permissions::from_mode(self.mode);
            fs::set_permissions(file.path(), permissions)?;
            if self.mode & 0o004 == 0 {
                chown(file.path(), None, Some(account::gid(GROUP)?))?;
            }
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| SetupError::File {
            path: path.clone(),
            source,
        })
    }
}

/// Whether there is anything to take away.
pub fn is_set_up(config: &Path) -> bool {
    config.exists() || Path::new(DROP_IN).exists()
}

/// Takes away what [`Proposal::carry_out`] wrote; HAProxy goes on with the site's files. Says whether there was anything.
///
/// # Errors
/// [`SetupError`], [`SetupError::StillUsed`] where HAProxy would not start; then nothing is taken away.
pub async fn undo(config: &Path) -> Result<bool, SetupError> {
    if !is_set_up(config) {
        return Ok(false);
    }
    let drop_in = Path::new(DROP_IN);
    if drop_in.exists() {
        let mut check = vec!["haproxy".to_owned(), "-c".to_owned()];
        for file in site_files().await? {
            check.extend(["-f".to_owned(), file.display().to_string()]);
        }
        let checked = process::run(&check, WAIT).await?;
        if !checked.status.success() {
            let messages = messages(&checked.output);
            let alert = first_alert(&messages).map(ToString::to_string);
            let last = || checked.output.lines().last().unwrap_or_default().to_owned();
            let said = alert.unwrap_or_else(last);
            return Err(SetupError::StillUsed { said });
        }
    }
    systemctl(&["stop", "serf-haproxy.service"]).await?;
    let key = config.with_file_name("rpc.key");
    for path in [drop_in, config, &key, Path::new(OURS)] {
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                let path = path.to_owned();
                return Err(SetupError::File { path, source });
            }
            _ => {}
        }
    }
    if let Some(directory) = drop_in.parent() {
        // Drop-ins of others stay there.
        let _ = fs::remove_dir(directory);
    }
    systemctl(&["daemon-reload"]).await?;
    restart_haproxy(&["try-restart"]).await?;
    // HAProxy leaves it behind.
    let _ = fs::remove_file(MASTER_SOCKET);
    Ok(true)
}

async fn site_files() -> Result<Vec<PathBuf>, SetupError> {
    let properties = "--property=LoadState,Environment,ExecStart";
    let command = ["systemctl", "show", properties, "haproxy.service"];
    let shown = process::run(&command.map(str::to_owned), WAIT).await?;
    let defaults = read(Path::new(DEFAULTS)).unwrap_or_default();
    Ok(unit::files(&shown.output, &defaults)?)
}

/// The agent's own files, in the order in which it reads them.
fn serf_files() -> Vec<String> {
    let entries = fs::read_dir(SERF).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    paths.sort();
    let texts = paths.iter().map(|path| read(path));
    texts.filter_map(Result::ok).collect()
}

fn read(path: &Path) -> Result<String, SetupError> {
    let bytes = fs::read(path).map_err(|source| SetupError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The agent of this host, as its own files have it; what is named here goes before that.
pub(crate) fn agent(addr: Option<&str>, auth_key_file: Option<&Path>) -> Result<Agent, SetupError> {
    let mut agent = Agent::read(serf_files().iter().map(String::as_str));
    if let Some(addr) = addr {
        addr.clone_into(&mut agent.addr);
    }
    if let Some(path) = auth_key_file {
        agent.auth_key = Some(read(path)?.trim().to_owned());
    }
    Ok(agent)
}

pub(crate) async fn members(agent: &Agent) -> Result<Vec<Member>, WatchError> {
    let options = ConnectOptions::new(agent.addr.clone());
    let options = match &agent.auth_key {
        Some(key) => options.auth_key(key.clone()),
        None => options,
    };
    let client = options.connect().await?;
    Ok(client.members().await?)
}

async fn systemctl(arguments: &[&str]) -> Result<(), SetupError> {
    let command: Vec<String> = ["systemctl"]
        .iter()
        .chain(arguments)
        .map(|&word| word.to_owned())
        .collect();
    let finished = process::run(&command, WAIT).await?;
    if finished.status.success() {
        return Ok(());
    }
    let mut said = finished.output;
    if let Some(unit) = command.last() {
        let journal = [
            "journalctl",
            "--no-pager",
            "-o",
            "cat",
            "-n",
            "8",
            "-u",
            unit,
        ];
        let log = process::run(&journal.map(str::to_owned), WAIT).await?;
        said = log.output;
    }
    let said = said.trim().replace('\n', "; ");
    let command = command.join(" ");
    Err(SetupError::Failed { command, said })
}
