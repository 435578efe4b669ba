//! One server of a worker: its settings and what is done to it in, its admin state, health and weight out.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::keyword::{Settings, leading};
use crate::web::Web;

/// `srv_admin_state`: forced into maint.
pub(crate) const MAINT: u8 = 1;
/// `srv_admin_state`: `disabled` in the file; stays for ever.
const BY_FILE: u8 = 4;
/// `srv_admin_state`: forced into drain.
pub(crate) const DRAIN: u8 = 8;

/// A server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) id: u32,
    /// None where it is a name that nobody has resolved, or a unix socket.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: u16,
    /// A new address, and when it comes into force.
    pub(crate) moving: Option<(Duration, IpAddr, u16)>,
    pub(crate) settings: Settings,
    /// Bits of `srv_admin_state`.
    pub(crate) admin: u8,
    pub(crate) weight: u16,
    pub(crate) maxconn: u32,
    /// Whether it is declared up; looked at outside maint only.
    pub(crate) up: bool,
    pub(crate) check: Check,
    pub(crate) agent: Agent,
    pub(crate) in_flight: u64,
    pub(crate) total: u64,
    pub(crate) changed: Duration,
    /// Whether it was added at runtime.
    pub(crate) is_dynamic: bool,
}

/// A server's health check.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(crate) enabled: bool,
    /// 0 to `rise + fall - 1`; up from `rise` on.
    pub(crate) health: u32,
    pub(crate) last: LastCheck,
    /// When its task wakes next, whether it runs or not.
    pub(crate) next: Duration,
}

/// A server's agent check.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) enabled: bool,
    /// Whether the server is down by its word.
    pub(crate) down: bool,
    /// When it is asked next.
    pub(crate) next: Duration,
}

/// What came of the last check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastCheck {
    Initial,
    Passed,
    Refused,
}

impl Server {
    /// A server of the file.
    pub(crate) fn of_file(name: &str, addr: (Option<IpAddr>, u16), settings: Settings) -> Self {
        let admin = if settings.disabled {
            MAINT | BY_FILE
        } else {
            0
        };
        let health = settings.rise;
        Self {
            admin,
            check: Check {
                enabled: settings.check,
                health,
                last: LastCheck::Initial,
                next: Duration::ZERO,
            },
            agent: Agent {
                enabled: settings.agent,
                down: false,
                next: Duration::ZERO,
            },
            up: true,
            is_dynamic: false,
            ..Self::added(name, addr, settings, Duration::ZERO)
        }
    }

    /// A server added at runtime.
    pub(crate) fn added(
        name: &str,
        (ip, port): (Option<IpAddr>, u16),
        settings: Settings,
        now: Duration,
    ) -> Self {
        Self {
            name: name.to_owned(),
            id: 0,
            ip,
            port,
            moving: None,
            admin: match (settings.enabled, settings.disabled) {
                (true, _) => 0,
                (_, true) => MAINT | BY_FILE,
                _ => MAINT,
            },
            weight: settings.weight,
            maxconn: settings.maxconn,
            up: settings.enabled,
            check: Check {
                enabled: false,
                health: if settings.enabled { settings.rise } else { 0 },
                last: LastCheck::Initial,
                // the task runs from now on, enabled or not
                next: now + settings.inter,
            },
            agent: Agent {
                enabled: false,
                // until it says otherwise
                down: true,
                next: now + settings.agent_inter,
            },
            in_flight: 0,
            total: 0,
            changed: now,
            is_dynamic: true,
            settings,
        }
    }

    pub(crate) fn is_maint(&self) -> bool {
        self.admin & MAINT != 0
    }

    /// Whether no new requests are sent to it although it is up.
    pub(crate) fn is_draining(&self) -> bool {
        self.admin & DRAIN != 0 || self.weight == 0
    }

    /// Whether requests are balanced to it.
    pub(crate) fn serves(&self) -> bool {
        !self.is_maint() && !self.is_draining() && self.up
    }

    fn best(&self) -> u32 {
        (self.settings.rise + self.settings.fall).saturating_sub(1)
    }

    pub(crate) fn set_maint(&mut self) {
        self.admin = self.admin & !DRAIN | MAINT;
    }

    pub(crate) fn set_drain(&mut self) {
        self.leave_maint();
        self.admin |= DRAIN;
    }

    pub(crate) fn set_ready(&mut self) {
        self.leave_maint();
        self.admin &= !DRAIN;
    }

    /// It counts as up until its check says otherwise.
    fn leave_maint(&mut self) {
        if self.is_maint() {
            self.admin &= !MAINT;
            self.up = !(self.agent.enabled && self.agent.down);
            if self.check.enabled {
                self.check.health = self.settings.rise;
            }
        }
    }

    /// What `set server … health` does.
    pub(crate) fn set_health(&mut self, up: bool) {
        self.check.health = if up { self.best() } else { 0 };
        if !self.is_maint() {
            self.up = up;
        }
    }

    /// Lets it be this late: new addresses come into force, checks come back.
    pub(crate) fn advance(&mut self, now: Duration, key: &str, web: &Web) {
        if let Some((_, ip, port)) = self.moving.take_if(|(due, ..)| *due <= now) {
            (self.ip, self.port) = (Some(ip), port);
        }
        if self.agent.next <= now {
            self.ask_agent(web.says(key));
            self.agent.next = now + self.settings.agent_inter;
        }
        // after so many checks with one result there is nothing more to come of them
        for _ in 0..=self.best() + 1 {
            if self.check.next > now {
                return;
            }
            if self.check.enabled && !self.is_maint() {
                self.checked(self.answers(web));
            }
            self.check.next += self.interval();
        }
        self.check.next = self.check.next.max(now);
    }

    /// Whether the next minute alone changes nothing of it.
    pub(crate) fn is_settled(&self, now: Duration, key: &str, web: &Web) -> bool {
        let mut later = self.clone();
        let soon = now + Duration::from_secs(60);
        if later.is_checked() && later.check.next < soon {
            later.checked(later.answers(web));
        }
        if later.agent.next < soon {
            later.ask_agent(web.says(key));
        }
        let seen = |server: &Self| {
            let Self {
                admin, weight, up, ..
            } = server;
            (*admin, *weight, *up, server.check.health, server.check.last)
        };
        self.moving.is_none() && seen(self) == seen(&later)
    }

    fn answers(&self, web: &Web) -> bool {
        let addr = self.ip.map(|ip| SocketAddr::new(ip, self.port));
        addr.is_none_or(|addr| web.answers(addr))
    }

    /// Does as its agent says: a weight, then an admin state, then whether it is up.
    fn ask_agent(&mut self, words: &str) {
        if !self.agent.enabled {
            return;
        }
        let words = || words.split_ascii_whitespace();
        for percent in words().filter_map(|word| word.strip_suffix('%')) {
            let weight = u32::from(self.settings.weight).saturating_mul(leading(percent)) / 100;
            self.weight = u16::try_from(weight).map_or(256, |weight| weight.min(256));
        }
        for word in words() {
            match word {
                "ready" => self.set_ready(),
                "drain" => self.set_drain(),
                "maint" => self.set_maint(),
                _ => {}
            }
        }
        for word in words() {
            match word {
                "up" => self.agent.down = false,
                "down" | "fail" | "stopped" => self.agent.down = true,
                _ => continue,
            }
            let passes = !self.check.enabled || self.check.health >= self.settings.rise;
            if !self.is_maint() {
                self.up = passes && !self.agent.down;
            }
        }
    }

    /// `inter` in a steady state, `fastinter` on the way, `downinter` while down.
    fn interval(&self) -> Duration {
        let Settings {
            inter,
            fastinter,
            downinter,
            ..
        } = self.settings;
        let interval = if self.check.health == self.best() {
            inter
        } else if self.check.health == 0 {
            downinter.unwrap_or(inter)
        } else {
            fastinter.unwrap_or(inter)
        };
        interval.max(Duration::from_millis(1))
    }

    fn checked(&mut self, passed: bool) {
        let (rise, best) = (self.settings.rise, self.best());
        let check = &mut self.check;
        if passed {
            check.last = LastCheck::Passed;
            if check.health < best {
                check.health += 1;
                if check.health >= rise {
                    check.health = best;
                }
            }
            self.up |= self.check.health >= rise && !(self.agent.enabled && self.agent.down);
        } else {
            check.last = LastCheck::Refused;
            check.health = check.health.saturating_sub(1);
            if check.health < rise {
                check.health = 0;
                self.up = false;
            }
        }
    }

    /// `status` of `show stat`.
    pub(crate) fn status(&self) -> String {
        let Settings { rise, fall, .. } = self.settings;
        let health = self.check.health;
        let on_the_way = self.check.enabled && health < self.best();
        if self.is_maint() {
            "MAINT".to_owned()
        } else if !self.up && self.agent.enabled && self.agent.down {
            "DOWN (agent)".to_owned()
        } else if !self.up && health > 0 {
            format!("DOWN {health}/{rise}")
        } else if !self.up {
            "DOWN".to_owned()
        } else {
            let word = match (self.is_draining(), self.check.enabled || self.agent.enabled) {
                (true, _) => "DRAIN",
                (false, true) => "UP",
                (false, false) => "no check",
            };
            if on_the_way {
                let left = i64::from(health) - i64::from(rise) + 1;
                format!("{word} {left}/{fall}")
            } else {
                word.to_owned()
            }
        }
    }

    /// Whether `show stat` tells what came of the last check.
    pub(crate) fn is_checked(&self) -> bool {
        self.check.enabled && !self.is_maint()
    }
}
