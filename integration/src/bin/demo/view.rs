//! The live view: what the clients and HAProxy say goes in, a picture that repaints itself comes out;
//! plain lines where standard output is no terminal.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use integration::haproxy::{StatLine, stat};
use integration::load::{Load, Seen};
use tokio::task::JoinHandle;

const FRAME: Duration = Duration::from_millis(250);
/// Frames between two summaries where there is no terminal.
const SUMMARY: u32 = 20;
/// Shares are taken over this many frames.
const WINDOW: usize = 4;
const EVENTS: usize = 4;
const BAR: usize = 30;
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &[u8] = b"\x1b[?25h";

/// The view; cheap to share.
pub(crate) struct View {
    board: Arc<Mutex<Board>>,
    painter: Mutex<Option<JoinHandle<()>>>,
}

struct Board {
    start: Instant,
    terminal: bool,
    act: String,
    events: VecDeque<String>,
    /// What the clients had seen at the last frames, the newest last.
    history: VecDeque<Seen>,
    /// Lines of the picture on the screen, to paint over.
    painted: usize,
}

impl View {
    pub(crate) fn new() -> Self {
        let board = Board {
            start: Instant::now(),
            terminal: std::io::stdout().is_terminal(),
            act: String::new(),
            events: VecDeque::new(),
            history: VecDeque::new(),
            painted: 0,
        };
        Self {
            board: Arc::new(Mutex::new(board)),
            painter: Mutex::new(None),
        }
    }

    /// A new act begins.
    pub(crate) fn act(&self, title: &str) {
        let mut board = lock(&self.board);
        title.clone_into(&mut board.act);
        if !board.terminal {
            let at = board.clock();
            board.print(&format!("{at} == {title}"));
        }
    }

    /// Something happened.
    pub(crate) fn tell(&self, event: String) {
        let mut board = lock(&self.board);
        let line = format!("{}  {event}", board.clock());
        if !board.terminal || board.history.is_empty() {
            board.print(&line);
        }
        board.events.push_back(line);
        if board.events.len() > EVENTS {
            board.events.pop_front();
        }
    }

    /// Paints from now on.
    pub(crate) fn watch(&self, load: Arc<Load>, stats_socket: PathBuf) {
        let board = Arc::clone(&self.board);
        let painter = tokio::spawn(async move {
            let mut frames = tokio::time::interval(FRAME);
            for frame in 0_u32.. {
                frames.tick().await;
                let servers = stat(&stats_socket).await.unwrap_or_default();
                lock(&board).paint(load.seen(), &servers, frame);
            }
        });
        *self.painter.lock().unwrap_or_else(PoisonError::into_inner) = Some(painter);
    }

    /// Paints no more; the last picture stays.
    pub(crate) fn end(&self) {
        let painter = self
            .painter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(painter) = painter else { return };
        painter.abort();
        // The clients are its to share until it is gone.
        while !painter.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if lock(&self.board).terminal {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(SHOW_CURSOR).and_then(|()| out.flush());
        }
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    fn clock(&self) -> String {
        format!("{:5.1}s", self.start.elapsed().as_secs_f64())
    }

    /// Writes a line; whoever does not want it any more is no reason to stop.
    fn print(&mut self, line: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    fn paint(&mut self, seen: Seen, servers: &[StatLine], frame: u32) {
        self.history.push_back(seen);
        if self.history.len() > WINDOW + 1 {
            self.history.pop_front();
        }
        let shares = self.shares();
        if !self.terminal {
            if frame % SUMMARY == SUMMARY - 1 {
                let line = self.summary(&shares);
                self.print(&line);
            }
            return;
        }
        let picture = self.picture(&shares, servers);
        let lines = picture.lines().count();
        let mut text = String::from(HIDE_CURSOR);
        if self.painted > 0 {
            let _ = write!(text, "\x1b[{}F", self.painted);
        }
        for line in picture.lines() {
            let _ = writeln!(text, "{line}\x1b[K");
        }
        text.push_str("\x1b[J");
        self.painted = lines;
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Answers of each server over the last frames.
    fn shares(&self) -> BTreeMap<String, u64> {
        let (Some(first), Some(last)) = (self.history.front(), self.history.back()) else {
            return BTreeMap::new();
        };
        let before = |name: &String| first.answers.get(name).copied().unwrap_or(0);
        last.answers
            .iter()
            .map(|(name, count)| (name.clone(), count - before(name)))
            .collect()
    }

    fn rate(&self, shares: &BTreeMap<String, u64>) -> f64 {
        let frames = self.history.len().saturating_sub(1).max(1);
        shares.values().sum::<u64>() as f64 / (frames as f64 * FRAME.as_secs_f64())
    }

    fn summary(&self, shares: &BTreeMap<String, u64>) -> String {
        let total = shares.values().sum::<u64>().max(1);
        let mut line = format!("{}  {:.0} requests/s:", self.clock(), self.rate(shares));
        for (name, count) in sorted(shares).into_iter().filter(|(_, count)| **count > 0) {
            let _ = write!(line, " {name} {}%", count * 100 / total);
        }
        let failed = self.history.back().map_or(0, |seen| seen.failed);
        let _ = write!(line, "; {failed} failed");
        line
    }

    fn picture(&self, shares: &BTreeMap<String, u64>, servers: &[StatLine]) -> String {
        let total = shares.values().sum::<u64>().max(1);
        let mut text = format!("{}  \x1b[1m{}\x1b[0m\n\n", self.clock(), self.act);
        let most = shares.values().copied().max().unwrap_or(0).max(1);
        for (name, count) in sorted(shares) {
            let status = servers.iter().find(|line| line.get("svname") == name);
            let status = status.map_or("gone", |line| line.get("status"));
            let percent = count * 100 / total;
            let bar = "█".repeat(usize::try_from(*count * BAR as u64 / most).unwrap_or(0));
            let _ = writeln!(
                text,
                "  {name:4} {percent:3}% \x1b[32m{bar:BAR$}\x1b[0m  {status}"
            );
        }
        let seen = self.history.back();
        let (requests, failed) = seen.map_or((0, 0), |seen| (seen.total(), seen.failed));
        let rate = self.rate(shares);
        let colour = if failed == 0 { "32" } else { "31" };
        let _ = writeln!(
            text,
            "\n  {rate:.0} requests/s, {requests} in all, \x1b[{colour}m{failed} failed\x1b[0m\n"
        );
        for event in &self.events {
            let _ = writeln!(text, "{event}");
        }
        text
    }
}

/// By number, so that s10 follows s9.
fn sorted(shares: &BTreeMap<String, u64>) -> Vec<(&String, &u64)> {
    let mut servers: Vec<_> = shares.iter().collect();
    servers.sort_by_key(|(name, _)| (name.len(), *name));
    servers
}
