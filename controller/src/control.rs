//! The control socket: what the running controller last published, and what it would do with the files of now.
//!
//! One line of JSON each way over a unix socket that is the owner's alone unless the config says else. Answers come from
//! what the last cycle published, so that a client never waits for a cycle and a cycle never for a client; only approvals
//! go to the loop itself, and plans ask it for what it goes by, and are worked out beside it.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use planner::config;
use planner::pending::PendingPlan;
use rustix::fs::Mode;
use rustix::process::umask;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::account;
use crate::clock;
use crate::history::Entry;
use crate::preview::of_now;
use crate::published::{Approve, Approving, Asking, Published};
use crate::status::Status;

/// How long a client may take, and how long one waits.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a plan may take: it reads config and templates, and HAProxy.
const PLAN_DEADLINE: Duration = Duration::from_secs(20);
/// Clients at once.
const CLIENTS: usize = 16;
/// The longest request.
const REQUEST_BYTES: u64 = 4096;
/// The longest answer: a file of some 10,000 servers.
const ANSWER_BYTES: u64 = 64 << 20;

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// How everything stands.
    Status,
    /// What would be done now, with config and templates as they are in their files.
    Plan,
    /// What was done.
    History,
    /// Let servers go that the guard holds.
    Approve(Approve),
}

impl Request {
    fn deadline(&self) -> Duration {
        match self {
            Self::Plan => PLAN_DEADLINE,
            _ => DEADLINE,
        }
    }
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Plan`].
    Plan {
        /// The config file that the controller runs with.
        config: PathBuf,
        /// What is left to be done.
        plan: PendingPlan,
    },
    /// To [`Request::History`], the oldest first.
    History(Vec<Entry>),
    /// To [`Request::Approve`]: who goes.
    Approved(Vec<String>),
    /// To [`Request::Approve`]: why nobody goes.
    Refused(String),
    /// The request was not understood.
    Error(String),
}

/// Why no controller answered.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No controller listens there.
    #[error("no running serf-haproxy at {path}")]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be used.
    #[error("cannot use the control socket {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be given the group or mode of the config; it stays its owner's alone.
    #[error("cannot give the control socket {path} the group and mode of [control]")]
    Rights {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What came back is no answer.
    #[error("the controller at {path} gave no usable answer; is it another version?")]
    Answer {
        /// The socket.
        path: PathBuf,
    },
}

/// Asks the running controller.
///
/// # Errors
/// [`ControlError::NotRunning`] where nobody listens; the others say what went wrong.
pub async fn ask(path: &Path, request: Request) -> Result<Answer, ControlError> {
    let io = |source| ControlError::Io {
        path: path.to_owned(),
        source,
    };
    let deadline = request.deadline();
    let mut stream = UnixStream::connect(path)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ControlError::NotRunning {
                    path: path.to_owned(),
                }
            }
            _ => io(error),
        })?;
    let exchange = async {
        stream.write_all(&line(&request)?).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer = timeout(deadline, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(io)?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Error(_)) | Err(_) => Err(ControlError::Answer {
            path: path.to_owned(),
        }),
        Ok(answer) => Ok(answer),
    }
}

/// The listening socket; removed again when this is dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    listener: UnixListener,
}

impl Control {
    /// Listens, for the owner alone. A socket that a dead controller left behind is replaced.
    ///
    /// # Errors
    /// [`ControlError::Io`]; `AddrInUse` where another controller answers there.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let bind = || {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // A mode that is set afterwards would be too late: for a moment anybody could connect.
            let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
            let listener = UnixListener::bind(path);
            umask(before);
            listener
        };
        let listener = bind().map_err(|source| ControlError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            listener,
        })
    }

    /// Lets those in whom the config names.
    ///
    /// # Errors
    /// [`ControlError::Rights`], where the group is unknown or none of the process's own; nobody else is let in then.
    pub fn open_to(&self, settings: &config::Control) -> Result<(), ControlError> {
        let open = || {
            if let Some(group) = &settings.group {
                chown(&self.path, None, Some(account::gid(group)?))?;
            }
            let mode = PermissionsExt::from_mode(settings.mode.bits());
            std::fs::set_permissions(&self.path, mode)
        };
        open().map_err(|source| ControlError::Rights {
            path: self.path.clone(),
            source,
        })
    }

    /// The next client.
    ///
    /// # Errors
    /// What the system says.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Answers clients, until it is dropped.
    pub async fn serve(
        self,
        published: watch::Receiver<Arc<Published>>,
        askings: mpsc::Sender<Asking>,
    ) {
        let permits = Arc::new(Semaphore::new(CLIENTS));
        let planning = Arc::new(Semaphore::new(1));
        let mut clients = JoinSet::new();
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let published = published.borrow().clone();
                    let (askings, planning) = (askings.clone(), Arc::clone(&planning));
                    clients.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = answer(stream, &published, &askings, &planning).await {
                            tracing::debug!(%error, "a control client went away");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control client");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            while clients.try_join_next().is_some() {}
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket was gone already");
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    published: &Published,
    askings: &mpsc::Sender<Asking>,
    planning: &Arc<Semaphore>,
) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut request = String::new();
    let mut reader = BufReader::new(read.take(REQUEST_BYTES));
    timeout(DEADLINE, reader.read_line(&mut request)).await??;
    let request = serde_json::from_str::<Request>(&request);
    let deadline = request.as_ref().map_or(DEADLINE, Request::deadline);
    let answer = async {
        match request {
            Ok(Request::Status) => Answer::Status(Box::new(published.status_at(clock::now()))),
            Ok(Request::Plan) => plan(published, askings, planning).await,
            Ok(Request::History) => {
                let entries = published.history.iter();
                Answer::History(entries.map(|entry| Entry::clone(entry)).collect())
            }
            Ok(Request::Approve(approve)) => pass_on(approve, askings).await,
            Err(error) => Answer::Error(error.to_string()),
        }
    };
    let answer = timeout(deadline, answer).await?;
    timeout(DEADLINE, write.write_all(&line(&answer)?)).await?
}

/// A plan is worked out on a thread of its own, one at a time: neither the loop nor another client waits for it.
async fn plan(
    published: &Published,
    askings: &mpsc::Sender<Asking>,
    planning: &Arc<Semaphore>,
) -> Answer {
    let stopping = || Answer::Refused("the controller is stopping".to_owned());
    let Ok(permit) = Arc::clone(planning).acquire_owned().await else {
        return stopping();
    };
    let (answer, answered) = oneshot::channel();
    if askings.send(Asking::InForce(answer)).await.is_err() {
        return stopping();
    }
    let Ok(evidence) = answered.await else {
        return stopping();
    };
    let (runtime, in_force) = (Handle::current(), published.plan.clone());
    let planned = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let config = evidence.config_path();
        let plan = runtime.block_on(of_now(evidence, in_force));
        Answer::Plan { config, plan }
    });
    let failed = |error: JoinError| Answer::Error(error.to_string());
    planned.await.unwrap_or_else(failed)
}

/// An approval is the one thing that a client changes: the loop takes it and says what came of it.
async fn pass_on(approve: Approve, askings: &mpsc::Sender<Asking>) -> Answer {
    let (answer, answered) = oneshot::channel();
    let gone = || Answer::Refused("the controller is stopping".to_owned());
    let asking = Asking::Approve(Approving { approve, answer });
    if askings.send(asking).await.is_err() {
        return gone();
    }
    match answered.await {
        Ok(Ok(approved)) => Answer::Approved(approved),
        Ok(Err(refusal)) => Answer::Refused(refusal),
        Err(_) => gone(),
    }
}

fn line<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use planner::config::SocketMode;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn the_socket_is_the_owners_alone_until_the_config_lets_others_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let control = Control::bind(&path).unwrap();
        // No mode was set so far: it was made so.
        assert_eq!(mode(&path), 0o600);
        let settings = |group: &str| config::Control {
            socket: path.clone(),
            mode: SocketMode::GROUP,
            group: Some(group.to_owned()),
        };
        let error = control.open_to(&settings("no-such-group")).unwrap_err();
        assert!(matches!(error, ControlError::Rights { .. }), "{error:?}");
        assert_eq!(mode(&path), 0o600);
        let own = rustix::process::getgid().as_raw().to_string();
        control.open_to(&settings(&own)).unwrap();
        assert_eq!(mode(&path), 0o660);
    }
}
