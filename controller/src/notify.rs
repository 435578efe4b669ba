//! How everything stands in, words to the supervisor that started this process out: systemd's socket, and s6's file
//! descriptor.
//!
//! systemd hears READY once `status` is served, whatever else is missing, and again when a reload has come to its end; a
//! sentence whenever it changes; and a ping from each turn of the loop that one is due in. s6 hears once, when HAProxy and
//! its file are as they should be.
//!
//! Source: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) `Type=notify-reload`; s6's "notification-fd".

use std::fs::File;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use sd_notify::NotifyState;

use crate::clock;
use crate::status::Status;

/// How long the end of a reload is held back until HAProxy has taken or refused the new text.
const RELOAD: Duration = Duration::from_secs(10);
/// Characters of the sentence.
const LONGEST: usize = 300;

/// Whom to tell, and what was told.
#[derive(Debug)]
pub struct Notifier {
    s6: Option<File>,
    settled: bool,
    serving: bool,
    /// When the reload began that has not been told to be over.
    reload: Option<Instant>,
    said: String,
    watchdog: Option<Watchdog>,
}

/// When the next ping is due.
#[derive(Clone, Copy, Debug)]
struct Watchdog {
    period: Duration,
    next: Instant,
}

impl Watchdog {
    /// Pings twice within the time that the supervisor waits for one.
    fn new(patience: Duration, now: Instant) -> Self {
        Self {
            period: patience / 2,
            next: now,
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.period;
        }
        due
    }
}

impl Notifier {
    /// With the file descriptor of s6's `notification-fd`, if there is one; systemd's variables are looked for anyway. To
    /// be made before anything is opened that could get the same number.
    ///
    /// # Errors
    /// When nothing is open under that number.
    pub fn new(notification_fd: Option<u32>) -> io::Result<Self> {
        let now = clock::now();
        Ok(Self {
            s6: notification_fd.map(inherited).transpose()?,
            settled: false,
            serving: false,
            reload: None,
            said: String::new(),
            watchdog: sd_notify::watchdog_enabled().map(|patience| Watchdog::new(patience, now)),
        })
    }

    /// HAProxy and its file are as they should be; s6 is told the first time. A supervisor that went away is no reason to
    /// stop.
    pub fn settled(&mut self) {
        if self.settled {
            return;
        }
        self.settled = true;
        tracing::info!("HAProxy and its file are as they should be");
        if let Some(mut s6) = self.s6.take()
            && let Err(error) = s6.write_all(b"\n")
        {
            tracing::debug!(%error, "cannot write to the notification file descriptor");
        }
    }

    /// Config and template are read again.
    pub fn reloading(&mut self, now: Instant) {
        self.reload = Some(now);
        match NotifyState::monotonic_usec_now() {
            Ok(clock) => send(&[NotifyState::Reloading, clock]),
            Err(error) => tracing::debug!(%error, "no monotonic clock"),
        }
    }

    /// The loop has turned: everything stands so, `status` says it too, and what was read again is `decided`, taken or
    /// refused.
    pub fn turned(&mut self, now: Instant, standing: &str, decided: bool) {
        let mut words = Vec::new();
        let reloaded = self
            .reload
            .is_some_and(|began| decided || now >= began + RELOAD);
        if !self.serving || reloaded {
            self.serving = true;
            self.reload = self.reload.filter(|_| !reloaded);
            words.push(NotifyState::Ready);
        }
        if self.said != standing {
            self.said = standing.to_owned();
            words.push(NotifyState::Status(standing));
        }
        let ping = |watchdog: &mut Watchdog| watchdog.is_due(now);
        if self.watchdog.as_mut().is_some_and(ping) {
            words.push(NotifyState::Watchdog);
        }
        if !words.is_empty() {
            send(&words);
        }
    }

    /// The loop has ended.
    pub fn stopping(&self) {
        send(&[NotifyState::Stopping]);
    }

    /// When the loop has to turn again for the supervisor's sake.
    pub fn deadline(&self) -> Option<Instant> {
        let ping = self.watchdog.map(|watchdog| watchdog.next);
        let reloaded = self.reload.map(|began| began + RELOAD);
        ping.into_iter().chain(reloaded).min()
    }
}

/// How everything stands, in one line for `systemctl status`. Names and HAProxy's own words may be in it, so that nothing
/// is left that could begin another assignment.
pub(crate) fn standing(status: &Status) -> String {
    let servers = status.backends.values().flat_map(|b| b.servers.values());
    let servers = servers.filter(|server| server.state != "gone").count();
    let in_rotation = status.backends.values().filter_map(|b| b.in_rotation);
    let in_rotation: usize = in_rotation.sum();
    let problems: Vec<&str> = status.problems.iter().map(|p| &*p.problem).collect();
    let text = match (status.problems.len(), servers) {
        (0, 0) => "no servers yet".to_owned(),
        (0, _) => format!("{in_rotation} of {servers} servers in rotation"),
        (1, _) => format!("1 problem: {}", problems.join("; ")),
        (count, _) => format!("{count} problems: {}", problems.join("; ")),
    };
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    if line.clone().count() <= LONGEST {
        return line.collect();
    }
    line.take(LONGEST - 1).chain(['…']).collect()
}

fn send(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!(%error, "cannot notify the supervisor");
    }
}

/// What this process was started with under that number. `/proc/self/fd` would ask for rights anew, which a pipe of
/// root's does not give to the user that `s6-setuidgid` made of it; it serves where a sandbox forbids the other way.
fn inherited(fd: u32) -> io::Result<File> {
    let number = i32::try_from(fd).map_err(|_| Errno::BADF)?;
    let own = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()));
    match own {
        Ok(own) => Ok(own.into()),
        Err(Errno::BADF) => Err(Errno::BADF.into()),
        Err(_) => File::options()
            .write(true)
            .open(format!("/proc/self/fd/{fd}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::status::{Backend, Problem};

    #[test]
    fn s6_is_told_once() {
        let (mut reader, writer) = io::pipe().unwrap();
        let fd = u32::try_from(writer.as_raw_fd()).unwrap();
        let mut notifier = Notifier::new(Some(fd)).unwrap();
        drop(writer);
        notifier.settled();
        notifier.settled();
        let mut told = String::new();
        reader.read_to_string(&mut told).unwrap();
        assert_eq!(told, "\n");
    }

    #[test]
    fn a_number_that_nothing_is_open_under_is_an_error() {
        assert!(Notifier::new(Some(999_999)).is_err());
    }

    #[test]
    fn a_ping_is_due_twice_within_the_patience_and_none_is_made_up_for() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Duration::from_secs(30), start);
        let mut due = |seconds| watchdog.is_due(start + Duration::from_secs(seconds));
        assert!(due(0));
        assert!(!due(14));
        assert!(due(15));
        // A loop that hung pings once when it turns again, not for each turn that it missed.
        assert!(due(80));
        assert!(!due(81));
        assert!(due(95));
    }

    #[test]
    fn a_loop_that_has_to_ping_wakes_for_it() {
        let start = Instant::now();
        let mut notifier = Notifier::new(None).unwrap();
        assert_eq!(notifier.deadline(), None);
        notifier.watchdog = Some(Watchdog::new(Duration::from_secs(30), start));
        notifier.turned(start, "", true);
        assert_eq!(notifier.deadline(), Some(start + Duration::from_secs(15)));
        notifier.reloading(start);
        assert_eq!(notifier.deadline(), Some(start + RELOAD));
        notifier.turned(start, "", false);
        assert_eq!(notifier.deadline(), Some(start + RELOAD));
        notifier.turned(start, "", true);
        assert_eq!(notifier.deadline(), Some(start + Duration::from_secs(15)));
    }

    #[test]
    fn the_sentence_is_one_short_line_whatever_a_problem_says() {
        let mut status = Status::default();
        assert_eq!(standing(&status), "no servers yet");
        status
            .backends
            .insert("nodes".to_owned(), Backend::default());
        let problem = |problem: &str| Problem {
            problem: problem.to_owned(),
            ..Problem::default()
        };
        status.problems = vec![problem("cannot\nREADY=1\u{85}write")];
        assert_eq!(standing(&status), "1 problem: cannot READY=1 write");
        status.problems.push(problem(&"x".repeat(500)));
        let long = standing(&status);
        assert!(long.starts_with("2 problems: cannot"), "{long}");
        assert_eq!(long.chars().count(), LONGEST);
        assert!(long.ends_with('…'), "{long}");
    }
}
