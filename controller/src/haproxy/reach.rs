//! Which socket the worker is spoken to on: how each answered last in, in which order they are tried out. Pure.
//!
//! A worker is reached on its stats socket, and as `@1` on its master's (Management Guide, section 9.4 "Master CLI").
//! A socket that refuses a connection costs nothing and is tried each time. One that takes it and is silent costs a wait;
//! and on the master's it keeps one of ten connections besides, for as long as the worker is silent (measured with 2.6,
//! 3.0 and 3.2), which a reload could not do without. So whoever is silent is left alone for longer and longer.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The first pause of a silent stats socket, and the longest.
const STATS_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The pauses of a silent master's socket; the last one stays.
const MASTER_PAUSES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(600),
];

/// A way to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The worker's own stats socket.
    Stats,
    /// `@1` on the socket of its master.
    Master,
}

/// How the two ways have fared.
#[derive(Debug, Default)]
pub(super) struct Reach {
    stats: Silence,
    master: Silence,
    /// Why the stats socket was not used the last time that the master's was.
    detour: Option<Why>,
}

/// How often in a row a socket was silent, and until when it is left alone.
#[derive(Debug, Default)]
struct Silence {
    times: u32,
    until: Option<Instant>,
}

/// Why the stats socket is no way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It took the connection and said nothing.
    Silent,
    /// What went wrong.
    Failed(String),
    /// It does not let this user in.
    Closed(String),
}

/// What helps where a stats socket does not let the controller's user in.
pub(crate) const LET_IN: &str = "set `[haproxy] stats_socket_group` to a group of the user that runs serf-haproxy, or in a \
     template of your own `stats socket … mode 660 group …`, and restart HAProxy: a reload hands the socket on as it is";

/// The worker is spoken to on its master's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detour {
    pub(super) stats: PathBuf,
    pub(super) master: PathBuf,
    pub(super) why: Why,
}

impl fmt::Display for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stats, master) = (self.stats.display(), self.master.display());
        match &self.why {
            Why::Silent => write!(f, "nobody answers on {stats}")?,
            Why::Failed(error) | Why::Closed(error) => write!(f, "{error}")?,
        }
        write!(
            f,
            "; meanwhile HAProxy is spoken to on its master's socket {master}"
        )
    }
}

impl Detour {
    /// What opens the stats socket again.
    pub fn advice(&self) -> &'static str {
        match self.why {
            Why::Silent => "all its connections may be taken (`stats maxconn`): close them",
            // A reload hands the socket on as it is, without its path (measured with 2.6, 3.0 and 3.2).
            Why::Closed(_) => LET_IN,
            Why::Failed(_) => "a restart of HAProxy opens it again, a reload does not",
        }
    }
}

impl Reach {
    /// The ways to try, the better one first; never none.
    pub(super) fn order(&self, now: Instant) -> &'static [Way] {
        match (self.stats.is_over(now), self.master.is_over(now)) {
            (true, true) => &[Way::Stats, Way::Master],
            (false, true) => &[Way::Master, Way::Stats],
            (_, false) => &[Way::Stats],
        }
    }

    /// The worker has answered this way.
    pub(super) fn answered(&mut self, way: Way) {
        match way {
            Way::Stats => *self = Self::default(),
            Way::Master => self.master = Silence::default(),
        }
    }

    /// The stats socket has failed, or was silent.
    pub(super) fn stats_failed(&mut self, why: Why, now: Instant) {
        if why == Why::Silent {
            let doubled = STATS_PAUSE.0 * 2u32.saturating_pow(self.stats.times.min(8));
            self.stats.fell_silent(doubled.min(STATS_PAUSE.1), now);
        } else {
            self.stats = Silence::default();
        }
        self.detour = Some(why);
    }

    /// The master's socket was silent.
    pub(super) fn master_fell_silent(&mut self, now: Instant) {
        let [.., longest] = MASTER_PAUSES;
        let times = usize::try_from(self.master.times).unwrap_or(usize::MAX);
        let pause = MASTER_PAUSES.get(times).copied().unwrap_or(longest);
        self.master.fell_silent(pause, now);
    }

    /// Why the stats socket is not used, where it is not.
    pub(super) fn detour(&self) -> Option<&Why> {
        self.detour.as_ref()
    }
}

impl Silence {
    fn fell_silent(&mut self, pause: Duration, now: Instant) {
        self.times = self.times.saturating_add(1);
        self.until = Some(now + pause);
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Way; 2] = [Way::Stats, Way::Master];

    #[test]
    fn a_socket_that_refuses_is_tried_first_each_time() {
        let (mut reach, now) = (Reach::default(), Instant::now());
        for _ in 0..9 {
            assert_eq!(reach.order(now), BOTH);
            reach.stats_failed(Why::Failed("gone".into()), now);
            reach.answered(Way::Master);
        }
        assert!(reach.detour().is_some());
        reach.answered(Way::Stats);
        assert_eq!(reach.detour(), None);
    }

    #[test]
    fn a_silent_stats_socket_is_tried_last_for_longer_and_longer() {
        let (mut reach, mut now) = (Reach::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            reach.stats_failed(Why::Silent, now);
            reach.answered(Way::Master);
            let mut pause = 0;
            while reach.order(now) != BOTH {
                assert_eq!(reach.order(now), [Way::Master, Way::Stats]);
                now += Duration::from_secs(1);
                pause += 1;
            }
            pauses.push(pause);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        reach.answered(Way::Stats);
        assert_eq!(reach.order(now), BOTH);
    }

    #[test]
    fn a_silent_master_keeps_connections_enough_for_a_reload() {
        let (mut reach, mut now) = (Reach::default(), Instant::now());
        let ends = now + Duration::from_secs(3600);
        let mut tried = 0;
        while now < ends {
            if reach.order(now).contains(&Way::Master) {
                reach.master_fell_silent(now);
                tried += 1;
            }
            now += Duration::from_secs(1);
        }
        assert!(tried <= 8, "{tried} in an hour");
        reach.answered(Way::Master);
        assert_eq!(reach.order(now), BOTH);
    }
}
