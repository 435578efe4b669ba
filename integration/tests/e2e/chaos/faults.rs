//! What may go wrong: a stage and chance in, another fault of the stage out, with the reloads that it may cause.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use integration::cluster::SOON;
use integration::process::signal_pid;
use integration::scenario::{Scenario, backend};
use integration::{TestEnv, wait_for};
use rustix::process::Signal;
use serf_rpc::MemberStatus;
use tokio::time::sleep;

use super::ledger::{Cause, Ledger};

/// Servers that nothing happens to: the first ones.
pub(super) const UNTOUCHED: usize = 3;
/// All of them.
pub(super) const WEBS: u8 = 8;
/// Web servers that are dead at a time.
const MOST_DEAD: usize = 2;
/// Shorter than any request may take, with what follows.
const STILL: std::ops::Range<u64> = 100..1200;
/// The state directory's room, much more than it needs.
pub(super) const STATE_KIB: u32 = 4096;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A member leaves, with its web server up.
    Leave,
    /// Gossip says that a member's agent is gone.
    Fail,
    /// A member that is away is alive again.
    Join,
    /// A member has another weight.
    Weight,
    /// A web server dies, or lives again.
    Death,
    /// The balancer's agent dies, or lives again.
    Agent,
    /// The worker stands still for a moment.
    Stop,
    /// The controller is killed, and started again.
    Kill,
    /// The controller stands still for a moment.
    Pause,
    /// The texts of workers are gone and cannot be kept, or can again.
    Texts,
    /// The texts of workers are cut in the middle.
    Torn,
    /// There is no room in the state directory, or some again.
    Disk,
    /// Another hand on the Runtime API.
    Hand,
    /// Another hand reloads HAProxy.
    Reload,
    /// Another hand edits the file and reloads HAProxy.
    Edit,
    /// The stats socket's path is away, or back.
    Socket,
    /// A setting is changed.
    Setting,
}

const ALL: [Fault; 17] = [
    Fault::Leave,
    Fault::Fail,
    Fault::Join,
    Fault::Weight,
    Fault::Death,
    Fault::Agent,
    Fault::Stop,
    Fault::Kill,
    Fault::Pause,
    Fault::Texts,
    Fault::Torn,
    Fault::Disk,
    Fault::Hand,
    Fault::Reload,
    Fault::Edit,
    Fault::Socket,
    Fault::Setting,
];

/// A stage on which things go wrong.
pub(super) struct Chaos<'a> {
    pub(super) lab: &'a TestEnv,
    pub(super) stage: Scenario,
    pub(super) rng: Rng,
    pub(super) ledger: Ledger,
    /// Reloads by another hand.
    pub(super) foreign: usize,
    agent_dead: bool,
    texts_gone: bool,
    disk_full: bool,
    socket_away: bool,
    /// The text of the worker may be kept in the controller's memory alone.
    unkept: bool,
    /// How many times something was changed, for values that differ.
    turns: usize,
}

impl<'a> Chaos<'a> {
    pub(super) fn new(lab: &'a TestEnv, stage: Scenario, seed: u64) -> Self {
        Self {
            lab,
            stage,
            rng: Rng::with_seed(seed),
            ledger: Ledger::default(),
            foreign: 0,
            agent_dead: false,
            texts_gone: false,
            disk_full: false,
            socket_away: false,
            unkept: false,
            turns: 0,
        }
    }

    /// Lets something go wrong; says what.
    pub(super) async fn play(&mut self) -> Result<Fault> {
        let fault = ALL[self.rng.usize(..ALL.len())];
        self.turns += 1;
        let number = self.rng.usize(UNTOUCHED..usize::from(WEBS));
        match fault {
            Fault::Leave => self.gossip(number, MemberStatus::Left),
            Fault::Fail => self.gossip(number, MemberStatus::Failed),
            Fault::Join => self.gossip(number, MemberStatus::Alive),
            Fault::Weight => self.weigh(number, (2 + self.turns % 4).to_string())?,
            Fault::Death => self.death(number)?,
            Fault::Agent => self.agent()?,
            Fault::Stop => self.stop().await?,
            Fault::Kill => self.kill().await?,
            Fault::Pause => self.pause().await?,
            Fault::Texts => self.texts()?,
            Fault::Torn => self.tear()?,
            Fault::Disk => self.disk()?,
            Fault::Hand => self.hand(number).await,
            Fault::Reload => self.reload().await?,
            Fault::Edit => self.edit().await?,
            Fault::Socket => self.socket()?,
            Fault::Setting => self.set()?,
        }
        Ok(fault)
    }

    /// Puts right whatever is wrong.
    pub(super) fn mend(&mut self) -> Result<()> {
        if self.agent_dead {
            self.agent()?;
        }
        if self.texts_gone {
            self.texts()?;
        }
        if self.disk_full {
            self.disk()?;
        }
        if self.socket_away {
            self.socket()?;
        }
        for number in 0..usize::from(WEBS) {
            if self.is_dead(number) {
                self.stage.webs[number].listen()?;
            }
            if number >= UNTOUCHED {
                self.weigh(number, "1".to_owned())?;
            }
        }
        Ok(())
    }

    fn gossip(&mut self, number: usize, status: MemberStatus) {
        let name = self.stage.webs[number].name().to_owned();
        self.stage.gossip(&name, status);
    }

    /// A member that is alive, with this weight.
    fn weigh(&mut self, number: usize, weight: String) -> Result<()> {
        let last = u8::try_from(number + 1)?;
        let member = backend(format!("s{last}"), self.stage.ip(self.lab, last));
        self.stage.agent.put(member.tag("weight", weight).build());
        Ok(())
    }

    fn is_dead(&self, number: usize) -> bool {
        !self.stage.webs[number].listens()
    }

    fn death(&mut self, number: usize) -> Result<()> {
        let dead = (0..self.stage.webs.len()).filter(|web| self.is_dead(*web));
        let dead = dead.count();
        if self.is_dead(number) {
            self.stage.webs[number].listen()?;
        } else if dead < MOST_DEAD {
            self.stage.webs[number].close();
        }
        Ok(())
    }

    fn agent(&mut self) -> Result<()> {
        if self.agent_dead {
            self.stage.agent.listen()?;
        } else {
            self.stage.agent.die();
        }
        self.agent_dead = !self.agent_dead;
        Ok(())
    }

    fn moment(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(STILL))
    }

    async fn stop(&mut self) -> Result<()> {
        let worker = self.stage.haproxy.newest_worker()?;
        let moment = self.moment();
        signal_pid(worker, Signal::STOP)?;
        sleep(moment).await;
        signal_pid(worker, Signal::CONT)
    }

    /// A text that is in its memory alone is forgotten with it.
    async fn kill(&mut self) -> Result<()> {
        if self.unkept {
            self.ledger.allow(Cause::UnknownText);
        }
        self.unkept = self.texts_gone || self.disk_full;
        self.stage.controller.kill();
        sleep(self.moment() / 2).await;
        self.stage.controller.restart()
    }

    async fn pause(&mut self) -> Result<()> {
        let moment = self.moment();
        let process = self.stage.controller.process();
        process.signal(Signal::STOP)?;
        sleep(moment).await;
        self.stage.controller.process().signal(Signal::CONT)
    }

    fn texts_dir(&mut self) -> PathBuf {
        self.stage.controller.options().state_dir().join("texts")
    }

    fn texts(&mut self) -> Result<()> {
        let texts = self.texts_dir();
        if self.texts_gone {
            fs::remove_file(&texts)?;
            fs::create_dir(&texts)?;
        } else {
            fs::remove_dir_all(&texts)?;
            fs::write(&texts, "")?;
        }
        self.unkept = true;
        self.texts_gone = !self.texts_gone;
        Ok(())
    }

    fn tear(&mut self) -> Result<()> {
        if self.texts_gone {
            return Ok(());
        }
        for text in fs::read_dir(self.texts_dir())? {
            let Ok(file) = fs::File::options().write(true).open(text?.path()) else {
                continue;
            };
            file.set_len(file.metadata()?.len() / 2)?;
        }
        self.unkept = true;
        Ok(())
    }

    fn disk(&mut self) -> Result<()> {
        let filler = self.stage.controller.options().state_dir().join("filler");
        if self.disk_full {
            fs::remove_file(&filler)?;
        } else {
            let all = vec![0; usize::try_from(STATE_KIB)? * 1024];
            let full = fs::write(&filler, all);
            full.err().context("the state directory is not small")?;
        }
        self.unkept = true;
        self.disk_full = !self.disk_full;
        Ok(())
    }

    /// Whether HAProxy takes it is all one.
    async fn hand(&mut self, number: usize) {
        let server = format!("set server nodes/s{}", number + 1);
        let elsewhere = self.stage.webs[UNTOUCHED].addr();
        let (ip, port) = (elsewhere.ip(), elsewhere.port());
        let command = match self.rng.u8(..4) {
            0 => format!("{server} weight 7"),
            1 => format!("{server} state maint"),
            2 => format!("{server} state drain"),
            _ => format!("{server} addr {ip} port {port}"),
        };
        let _ = self.stage.haproxy.command(&command).await;
    }

    /// Returns when there is another worker. A signal is lost on a master that reloads just then.
    async fn reload(&mut self) -> Result<()> {
        let haproxy = &self.stage.haproxy;
        let before = haproxy.newest_worker()?;
        self.foreign += 1;
        let mut tries = 0;
        loop {
            signal_pid(haproxy.master_pid()?, Signal::USR2)?;
            let another = wait_for("another worker", SOON / 3, async || {
                haproxy.newest_worker().is_ok_and(|worker| worker != before)
            });
            tries += 1;
            match another.await {
                Err(error) if tries == 3 => return Err(error),
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn edit(&mut self) -> Result<()> {
        let path = self.stage.haproxy.config();
        let text = fs::read_to_string(&path)?;
        let edited = text.replace("balance roundrobin", "balance leastconn");
        fs::write(path, edited)?;
        self.ledger.allow(Cause::UnknownText);
        self.reload().await
    }

    fn socket(&mut self) -> Result<()> {
        let path = self.stage.haproxy.stats_socket();
        let away = path.with_extension("away");
        if !self.socket_away {
            fs::rename(&path, &away)?;
        } else if path.exists() {
            // A new worker has made another.
            fs::remove_file(&away)?;
        } else {
            fs::rename(&away, &path)?;
        }
        self.socket_away = !self.socket_away;
        Ok(())
    }

    fn set(&mut self) -> Result<()> {
        let path = self.stage.controller.options().path();
        let text = fs::read_to_string(&path)?;
        let (before, rest) = text.split_once("server = \"").context("a setting")?;
        let (_, after) = rest.split_once('"').context("a setting's end")?;
        let seconds = 30 + self.turns;
        fs::write(&path, format!("{before}server = \"{seconds}s\"{after}"))?;
        self.ledger.allow(Cause::Setting);
        self.stage.controller.reload()
    }
}
