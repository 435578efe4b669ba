//! The controller's own probes: targets in, what they found out; `ask` is one of them on the wire.
//!
//! HAProxy's first check of a new server comes a whole `inter` after the server was added, and an enabled server gets
//! requests meanwhile. So the controller asks the server itself, the way HAProxy's check would, before it lets
//! traffic in.

mod ask;
mod lane;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use planner::config::CheckConfig;
use planner::guard::{Probed, Target, Urgency};
use planner::model::{BackendName, ServerKey};
use schedule::{Schedule, Turn};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{sleep_until, timeout};

use crate::clock;

/// The longest that one probe may take, whatever HAProxy's check may.
const DEADLINE: Duration = Duration::from_secs(10);
/// The same where the server may be dead and has traffic: for the connection, and for the whole.
const SUSPECT: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(500));
/// Results that wait to be read; beyond them the probes wait.
const RESULTS: usize = 256;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeResult {
    /// Of which server.
    pub key: ServerKey,
    /// At which address.
    pub addr: SocketAddr,
    /// What.
    pub probed: Probed,
}

/// What is to be asked from now on, otherwise than before.
#[derive(Debug)]
struct Wanted {
    news: Vec<(ServerKey, Option<Target>)>,
    checks: BTreeMap<BackendName, Arc<CheckConfig>>,
    begun: oneshot::Sender<usize>,
}

/// Runs the probes that are wanted, and no others, in a task of its own.
#[derive(Debug)]
pub(crate) struct Prober {
    wanted: mpsc::Sender<Wanted>,
}

impl Prober {
    /// Runs nothing yet; what its probes find comes out of the receiver. Ends when it is dropped.
    pub(crate) fn new() -> (Self, mpsc::Receiver<ProbeResult>) {
        let (found, results) = mpsc::channel(RESULTS);
        let (wanted, wants) = mpsc::channel(1);
        tokio::spawn(Probes::new(found).run(wants));
        (Self { wanted }, results)
    }

    /// Says who is to be asked from now on, otherwise than before, or not any more, and hears how many servers have been
    /// asked for the first time. Nobody is asked of a backend without a check.
    pub(crate) async fn reconcile(
        &self,
        news: Vec<(ServerKey, Option<Target>)>,
        checks: BTreeMap<BackendName, Arc<CheckConfig>>,
    ) -> usize {
        let (begun, answer) = oneshot::channel();
        let wanted = Wanted {
            news,
            checks,
            begun,
        };
        // Where the task has ended, which it does not, nothing is asked.
        if self.wanted.send(wanted).await.is_err() {
            return 0;
        }
        answer.await.unwrap_or(0)
    }
}

/// The probes under way, and those to come.
struct Probes {
    schedule: Schedule,
    checks: BTreeMap<BackendName, Arc<CheckConfig>>,
    tasks: JoinSet<Probed>,
    begun: HashMap<Id, (ServerKey, Urgency)>,
    under_way: BTreeMap<ServerKey, AbortHandle>,
    found: mpsc::Sender<ProbeResult>,
}

impl Probes {
    fn new(found: mpsc::Sender<ProbeResult>) -> Self {
        Self {
            schedule: Schedule::new(clock::now()),
            checks: BTreeMap::new(),
            tasks: JoinSet::new(),
            begun: HashMap::new(),
            under_way: BTreeMap::new(),
            found,
        }
    }

    async fn run(mut self, mut wants: mpsc::Receiver<Wanted>) {
        loop {
            let now = clock::now();
            let wake = self.schedule.wakes_at(now);
            let wake = wake.unwrap_or(now + DEADLINE).into();
            tokio::select! {
                wanted = wants.recv() => match wanted {
                    Some(wanted) => {
                        let begun = wanted.begun;
                        self.take(wanted.news, wanted.checks);
                        // Whoever does not wait for the number does not need it.
                        let _ = begun.send(self.begin());
                        continue;
                    }
                    None => return,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.end(ended),
                () = sleep_until(wake) => {}
            }
            self.begin();
        }
    }

    /// Takes targets in the place of those that their servers had; those of a backend whose check is another are asked
    /// anew.
    fn take(
        &mut self,
        news: Vec<(ServerKey, Option<Target>)>,
        checks: BTreeMap<BackendName, Arc<CheckConfig>>,
    ) {
        let now = clock::now();
        if self.checks != checks {
            let before = std::mem::replace(&mut self.checks, checks);
            let after = &self.checks;
            let is_asked_otherwise =
                |key: &ServerKey| before.get(&key.backend) != after.get(&key.backend);
            let known = self.schedule.targets();
            let anew = known.filter(|(key, _)| is_asked_otherwise(key));
            let anew: Vec<_> = anew.map(|(key, target)| (key.clone(), target)).collect();
            for (key, target) in anew {
                self.put(&key, target, now);
            }
        }
        for (key, target) in news {
            let known = self.schedule.target(&key);
            match target {
                None => self.drop_target(&key),
                Some(target) if known.is_some_and(|known| known.is_same(&target)) => {
                    self.schedule.revive(&key, target.sign, now);
                }
                Some(target) => self.put(&key, target, now),
            }
        }
    }

    fn put(&mut self, key: &ServerKey, target: Target, now: Instant) {
        self.drop_target(key);
        if self.checks.contains_key(&key.backend) {
            self.schedule.add(key, target, now);
        }
    }

    fn drop_target(&mut self, key: &ServerKey) {
        self.schedule.remove(key);
        if let Some(task) = self.under_way.remove(key) {
            task.abort();
        }
    }

    /// Begins all probes that may begin now; says how many of them ask a server for the first time.
    fn begin(&mut self) -> usize {
        let now = clock::now();
        let mut first = 0;
        while let Some(Turn {
            key,
            target,
            is_first,
        }) = self.schedule.next(now)
        {
            let Some(check) = self.checks.get(&key.backend) else {
                continue;
            };
            first += usize::from(is_first);
            let once = once(key.clone(), target, Arc::clone(check), self.found.clone());
            let task = self.tasks.spawn(once);
            self.begun.insert(task.id(), (key.clone(), target.urgency));
            self.under_way.insert(key, task);
        }
        first
    }

    /// Takes the end of a probe; that of one whose target is another now says nothing.
    fn end(&mut self, ended: Result<(Id, Probed), JoinError>) {
        let (id, probed) = match ended {
            Ok((id, probed)) => (id, Some(probed)),
            Err(error) => (error.id(), None),
        };
        let Some((key, urgency)) = self.begun.remove(&id) else {
            return;
        };
        self.schedule.ended(urgency);
        if self.under_way.get(&key).is_some_and(|task| task.id() == id) {
            self.under_way.remove(&key);
            let probed = probed.unwrap_or(Probed::Failed);
            self.schedule.found(&key, probed, clock::now());
        }
    }
}

/// Asks once, and tells what was found.
async fn once(
    key: ServerKey,
    target: Target,
    check: Arc<CheckConfig>,
    found: mpsc::Sender<ProbeResult>,
) -> Probed {
    let addr = target.addr;
    let probed = probe(addr, &check, target.urgency).await;
    // Where nobody listens any more, the controller is about to end.
    let _ = found.send(ProbeResult { key, addr, probed }).await;
    probed
}

async fn probe(addr: SocketAddr, check: &CheckConfig, urgency: Urgency) -> Probed {
    let patience = check.timeout.unwrap_or(check.interval).min(DEADLINE);
    let (to_connect, in_all) = match urgency {
        Urgency::Admission | Urgency::Watch => (patience, patience),
        Urgency::Suspect => (patience.min(SUSPECT.0), patience.min(SUSPECT.1)),
    };
    let asked = timeout(in_all, async {
        let addr = SocketAddr::new(addr.ip(), check.port.unwrap_or(addr.port()));
        let stream = timeout(to_connect, TcpStream::connect(addr)).await??;
        ask::ask(stream, check).await
    });
    match asked.await {
        Ok(Ok(true)) => Probed::Good,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Probed::Refused,
        _ => Probed::Failed,
    }
}
