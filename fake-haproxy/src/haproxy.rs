//! A master and its workers: commands, reloads and the time that passes in, what they answer and run out.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Config;
use crate::fault::Fault;
use crate::version::Version;
use crate::web::Web;
use crate::worker::Worker;

/// How long a reload takes: what 2.6 and 3.x need for a small file.
const LOAD: Duration = Duration::from_millis(50);

/// The master's process id.
const MASTER_PID: u32 = 7;

/// What the file is called in what is printed.
const FILE: &str = "haproxy.cfg";

/// A socket of HAProxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// The worker's `stats socket`.
    Stats,
    /// The master's (`-S`).
    Master,
}

/// What HAProxy says of a text that it does not load.
#[derive(Debug, PartialEq, Eq)]
pub struct LoadError(String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// A reload under way: when it ends.
#[derive(Clone, Copy, Debug)]
struct Loading {
    ends: Duration,
}

/// Something to happen once after a command.
type Then = Box<dyn FnOnce(&mut Haproxy) + Send>;

/// A HAProxy in master-worker mode; time passes in it by [`Haproxy::advance`] only.
pub struct Haproxy {
    version: Version,
    now: Duration,
    file: String,
    /// All that live, in the order of their start; the last one serves.
    workers: Vec<Worker>,
    next_pid: u32,
    reloads: u32,
    failed: u32,
    loading: Option<Loading>,
    /// What the last reload printed.
    printed: String,
    web: Web,
    holds_addresses: bool,
    faults: [Option<Fault>; 2],
    then: Vec<(String, Then)>,
}

impl fmt::Debug for Haproxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version, workers, ..
        } = self;
        write!(f, "a fake {version:?} with {} workers", workers.len())
    }
}

impl Haproxy {
    /// Starts with this file.
    ///
    /// # Errors
    /// When this version would not load it.
    pub fn start(version: Version, file: &str) -> Result<Self, LoadError> {
        let config =
            Config::read(file, version).map_err(|(line, text)| LoadError(alert(line, &text)))?;
        let pid = MASTER_PID + 1;
        Ok(Self {
            version,
            now: Duration::ZERO,
            file: file.to_owned(),
            workers: vec![Worker::start(pid, version, Duration::ZERO, config)],
            next_pid: pid + 1,
            reloads: 0,
            failed: 0,
            loading: None,
            printed: String::new(),
            web: Web::default(),
            holds_addresses: false,
            faults: [None, None],
            then: Vec::new(),
        })
    }

    /// Lets time pass: checks come back, addresses come into force, a reload ends.
    pub fn advance(&mut self, by: Duration) {
        self.advance_to(self.now + by);
    }

    pub(crate) fn advance_to(&mut self, now: Duration) {
        if let Some(loading) = self.loading.take_if(|loading| loading.ends <= now) {
            self.pass(loading.ends);
            self.load();
        }
        self.pass(now);
        self.workers.retain(|worker| !worker.is_done());
    }

    fn pass(&mut self, now: Duration) {
        self.now = now.max(self.now);
        for worker in &mut self.workers {
            worker.advance(self.now, &self.web);
        }
    }

    /// Puts another file in place; it comes into force with the next reload.
    pub fn write(&mut self, file: impl Into<String>) {
        self.file = file.into();
    }

    /// Begins a reload, as `SIGUSR2` does or `reload` on the master's socket.
    pub fn reload(&mut self) {
        let ends = self.now + LOAD;
        self.loading.get_or_insert(Loading { ends });
    }

    /// Reloads, and is done with it; says whether a worker came of it.
    pub fn reload_now(&mut self) -> bool {
        self.reload();
        self.advance(LOAD);
        self.failed == 0
    }

    /// When the reload that is under way ends.
    pub(crate) fn loading_ends(&self) -> Option<Duration> {
        self.loading.map(|loading| loading.ends)
    }

    fn load(&mut self) {
        self.reloads += 1;
        for worker in &mut self.workers {
            worker.reloads += 1;
        }
        let master = format!("({MASTER_PID}) : ");
        match Config::read(&self.file, self.version) {
            Ok(config) => {
                let pid = self.next_pid;
                self.next_pid += 1;
                self.failed = 0;
                self.printed = format!(
                    "[NOTICE]   {master}New worker ({pid}) forked\n[NOTICE]   {master}Loading success.\n"
                );
                for worker in &mut self.workers {
                    worker.is_leaving = true;
                }
                let mut worker = Worker::start(pid, self.version, self.now, config);
                worker.holds_addresses = self.holds_addresses;
                self.workers.push(worker);
            }
            Err((line, text)) => {
                // 3.2 does not count further than that
                self.failed = match self.version {
                    Version::V3_2 => 1,
                    _ => self.failed + 1,
                };
                self.printed = format!(
                    "[ALERT]    {master}{}\n[ALERT]    {master}config : Fatal errors found in configuration.\n\
                     [WARNING]  {master}Loading failure!\n",
                    alert(line, &text)
                );
            }
        }
    }

    /// A command by somebody else, who has a connection of his own and may do anything; says the reply.
    pub fn run(&mut self, command: &str) -> String {
        match self.workers.last() {
            Some(worker) => self
                .command(worker.pid, command, "admin")
                .unwrap_or_default(),
            None => String::new(),
        }
    }

    /// The reply of a worker; none where it is no more.
    pub(crate) fn command(&mut self, pid: u32, line: &str, level: &str) -> Option<String> {
        let worker = self.workers.iter_mut().find(|worker| worker.pid == pid)?;
        let reply = worker.command(line, level);
        let due = self
            .then
            .iter()
            .position(|(start, _)| line.starts_with(start.as_str()));
        if let Some(due) = due {
            let (_, then) = self.then.remove(due);
            then(self);
        }
        Some(reply)
    }

    /// Lets something happen once, right after a command that starts like this.
    pub fn after(&mut self, command: &str, then: impl FnOnce(&mut Self) + Send + 'static) {
        self.then.push((command.to_owned(), Box::new(then)));
    }

    /// From now on, a web server answers HAProxy's checks at this address, or refuses the connection.
    pub fn answers(&mut self, addr: SocketAddr, answers: bool) {
        if answers {
            self.web.refusing.remove(&addr);
        } else {
            self.web.refusing.insert(addr);
        }
    }

    /// From now on, a server's agent says this when it is asked: `ready`, `drain`, `maint`, `up`, `down`, `50%`, or several.
    pub fn agent_says(&mut self, backend: &str, server: &str, words: &str) {
        let key = format!("{backend}/{server}");
        self.web.agents.insert(key, words.to_owned());
    }

    /// From now on, new addresses never come into force.
    pub fn hold_addresses(&mut self) {
        self.holds_addresses = true;
        for worker in &mut self.workers {
            worker.holds_addresses = true;
        }
    }

    /// So many requests run on a server from now on; those of before are over.
    pub fn in_flight(&mut self, backend: &str, server: &str, requests: u64) {
        let worker = self.workers.last_mut();
        if let Some(server) = worker.and_then(|worker| worker.server(backend, server)) {
            server.total += requests.saturating_sub(server.in_flight);
            server.in_flight = requests;
        }
    }

    /// Lets all requests on workers of earlier reloads end.
    pub fn finish_old(&mut self) {
        for worker in self.workers.iter_mut().filter(|worker| worker.is_leaving) {
            for server in worker
                .config
                .backends
                .iter_mut()
                .flat_map(|b| &mut b.servers)
            {
                server.in_flight = 0;
            }
        }
        self.workers.retain(|worker| !worker.is_done());
    }

    /// What is wrong with a socket from now on, if anything.
    pub fn fail(&mut self, socket: Socket, fault: Option<Fault>) {
        let [stats, master] = &mut self.faults;
        match socket {
            Socket::Stats => *stats = fault,
            Socket::Master => *master = fault,
        }
    }

    pub(crate) fn fault(&self, socket: Socket) -> Option<&Fault> {
        let [stats, master] = &self.faults;
        match socket {
            Socket::Stats => stats.as_ref(),
            Socket::Master => master.as_ref(),
        }
    }

    /// Which version it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether no check and no new address is to change anything within a minute.
    pub fn is_settled(&self) -> bool {
        let mut workers = self.workers.iter();
        workers.all(|worker| worker.is_settled(&self.web))
    }

    pub(crate) fn serving(&mut self) -> Option<&mut Worker> {
        self.workers.last_mut()
    }

    pub(crate) fn worker(&mut self, pid: u32) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.pid == pid)
    }

    /// What `reload` on the master's socket answers when it is done; 2.6 says nothing.
    pub(crate) fn reload_reply(&self) -> String {
        if !self.version.is_3() {
            return String::new();
        }
        let success = u8::from(self.failed == 0);
        format!("Success={success}\n--\n{}", self.printed)
    }

    pub(crate) fn master_prompt(&self) -> &'static str {
        if self.failed == 0 {
            "master> "
        } else {
            "master[ReloadFailed]> "
        }
    }

    pub(crate) fn show_proc(&self) -> String {
        let uptime = |since: Duration| {
            let secs = (self.now - since).as_secs();
            let (days, hours) = (secs / 86_400, secs / 3600 % 24);
            format!("{days}d{hours:02}h{:02}m{:02}s", secs / 60 % 60, secs % 60)
        };
        let version = self.version.text();
        let row = |pid: u32, kind: &str, reloads: &str, since| {
            format!(
                "{pid:<15} {kind:<15} {reloads:<15} {:<15} {version:<15}\n",
                uptime(since)
            )
        };
        let failed = format!("{} [failed: {}]", self.reloads, self.failed);
        let mut text =
            "#<PID>          <type>          <reloads>       <uptime>        <version>      \n"
                .to_owned();
        text += &row(MASTER_PID, "master", &failed, Duration::ZERO);
        // since 3.2 a worker counts as old once another has tried to take over
        let is_old = |worker: &&Worker| {
            worker.is_leaving || self.version >= Version::V3_2 && worker.reloads > 0
        };
        let rows = |workers: &mut dyn Iterator<Item = &Worker>| -> String {
            let row = |w: &Worker| row(w.pid, "worker", &w.reloads.to_string(), w.started);
            workers.map(row).collect()
        };
        text += "# workers\n";
        text += &rows(&mut self.workers.iter().filter(|worker| !is_old(worker)));
        let old = rows(&mut self.workers.iter().filter(is_old));
        if !old.is_empty() {
            text += "# old workers\n";
            text += &old;
        }
        if self.version < Version::V3_2 {
            text += "# programs\n";
        }
        text
    }
}

fn alert(line: usize, text: &str) -> String {
    format!("config : parsing [{FILE}:{line}] : {text}")
}
