//! The controller's own probes: targets in, what they found out; `ask` is one of them on the wire.
//!
//! HAProxy's first check of a new server comes a whole `inter` after the server was added, and an enabled server gets
//! requests meanwhile. So the controller asks the server itself, the way HAProxy's check would, before it lets
//! traffic in.

mod ask;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::config::Check;
use crate::guard::{Probed, Target, Urgency};
use crate::model::{BackendName, Key};

/// The longest that one probe may take, whatever HAProxy's check may.
const DEADLINE: Duration = Duration::from_secs(10);
/// The same where the server may be dead and has traffic, and how often such a one is asked, answered or not.
const SUSPECT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(200));
/// Probes under way at once.
const AT_ONCE: usize = 64;
/// The pause between two probes of a server that waits for traffic: from the first to the last.
const ADMISSION_PAUSE: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(200));
/// The pause between two probes of a server that is only watched.
const WATCH_PAUSE: Duration = Duration::from_millis(500);
/// Results that wait to be read; beyond them the probes wait.
const RESULTS: usize = 256;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of which server.
    pub key: Key,
    /// At which address.
    pub addr: SocketAddr,
    /// What.
    pub probed: Probed,
}

/// Runs the probes that are wanted, and no others.
#[derive(Debug)]
pub struct Prober {
    running: BTreeMap<Key, (Target, Arc<Check>, AbortHandle)>,
    tasks: JoinSet<()>,
    permits: Arc<Semaphore>,
    found: mpsc::Sender<Found>,
}

impl Prober {
    /// Runs nothing yet; what its probes find comes out of the receiver.
    pub fn new() -> (Self, mpsc::Receiver<Found>) {
        let (found, results) = mpsc::channel(RESULTS);
        let prober = Self {
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            found,
        };
        (prober, results)
    }

    /// Starts the probes that are new, ends those that are not wanted any more; says how many are new.
    pub fn want(
        &mut self,
        targets: &BTreeMap<Key, Target>,
        checks: &BTreeMap<BackendName, Arc<Check>>,
    ) -> usize {
        self.running.retain(|key, (target, check, task)| {
            let kept = targets.get(key) == Some(target) && checks.get(&key.backend) == Some(check);
            if !kept {
                task.abort();
            }
            kept
        });
        while self.tasks.try_join_next().is_some() {}
        let mut started = 0;
        for (key, target) in targets {
            let Some(check) = checks.get(&key.backend) else {
                continue;
            };
            if self.running.contains_key(key) {
                continue;
            }
            let probe = probe_for_ever(
                key.clone(),
                *target,
                Arc::clone(check),
                Arc::clone(&self.permits),
                self.found.clone(),
            );
            let task = self.tasks.spawn(probe);
            self.running
                .insert(key.clone(), (*target, Arc::clone(check), task));
            started += 1;
        }
        started
    }
}

async fn probe_for_ever(
    key: Key,
    target: Target,
    check: Arc<Check>,
    permits: Arc<Semaphore>,
    found: mpsc::Sender<Found>,
) {
    let addr = target.addr;
    let patience = check.timeout.unwrap_or(check.interval).min(DEADLINE);
    let (deadline, first, last) = match target.urgency {
        Urgency::Admission => (patience, ADMISSION_PAUSE.0, ADMISSION_PAUSE.1),
        Urgency::Watch => (patience, WATCH_PAUSE, WATCH_PAUSE),
        Urgency::Suspect => (patience.min(SUSPECT.0), SUSPECT.1, SUSPECT.1),
    };
    let once = || {
        let (key, check) = (key.clone(), Arc::clone(&check));
        let (permits, found) = (Arc::clone(&permits), found.clone());
        async move {
            let _permit = permits.acquire().await.ok()?;
            let probed = probe(addr, &check, deadline).await;
            found.send(Found { key, addr, probed }).await.ok()
        }
    };
    let mut pause = first;
    let mut under_way = JoinSet::new();
    loop {
        if target.urgency != Urgency::Admission {
            // None waits for the one before: three that run out of time have to do so within a second, and a network
            // that heals is noticed at the next one.
            under_way.spawn(once());
            while under_way.try_join_next().is_some() {}
        } else if once().await.is_none() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 5 / 4).min(last);
    }
}

/// Asks once.
async fn probe(addr: SocketAddr, check: &Check, deadline: Duration) -> Probed {
    match timeout(deadline, ask::ask(addr, check)).await {
        Ok(Ok(true)) => Probed::Good,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Probed::Refused,
        _ => Probed::Failed,
    }
}
