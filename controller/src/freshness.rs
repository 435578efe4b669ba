//! How old what is published is: when each thing was last read in, its age in a status out. Pure.

use std::time::{Duration, Instant, SystemTime};

use serf_rpc::Snapshot;

use crate::clock_anchor::ClockAnchor;
use crate::status::Status;

/// When each thing was last read; none where it never was.
#[derive(Clone, Copy, Debug)]
pub struct Readings {
    /// Ties the times to the calendar.
    pub anchor: ClockAnchor,
    /// HAProxy's worker and its servers.
    pub haproxy: Option<Instant>,
    /// What HAProxy's checks say.
    pub checks: Option<Instant>,
    /// The workers of earlier reloads.
    pub old_workers: Option<Instant>,
    /// The file on the disk.
    pub file: Option<Instant>,
}

impl Readings {
    /// Nothing was read yet.
    pub fn new(anchor: ClockAnchor) -> Self {
        Self {
            anchor,
            haproxy: None,
            checks: None,
            old_workers: None,
            file: None,
        }
    }

    /// Makes a status that was published earlier one of now: with the age of everything in it.
    pub fn date(&self, status: &mut Status, now: Instant) {
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at).as_secs());
        status.time = self.anchor.unix_secs(now);
        status.haproxy.age_seconds = age(self.haproxy);
        status.haproxy.checks_age_seconds = age(self.checks);
        status.haproxy.old_workers_age_seconds = age(self.old_workers);
        status.file.age_seconds = age(self.file);
    }
}

/// The same for the members: the snapshot is the latest, also where nobody was told of it as it is like the one before.
pub(crate) fn date_members(snapshot: &Snapshot, status: &mut Status, now: SystemTime) {
    let age = |at: Option<SystemTime>| {
        let age = at.and_then(|at| now.duration_since(at).ok());
        age.as_ref().map(Duration::as_secs)
    };
    status.agent.members_age_seconds = age(snapshot.read_at());
    status.agent.changed_age_seconds = age(snapshot.changed_at());
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serf_rpc::Member;

    use super::*;

    #[test]
    fn everything_ages_while_nothing_is_read() {
        let at = UNIX_EPOCH + Duration::from_secs(1000);
        let start = Instant::now();
        let readings = Readings {
            haproxy: Some(start),
            file: Some(start + Duration::from_secs(2)),
            ..Readings::new(ClockAnchor::new(start, at))
        };
        let mut status = Status::default();
        readings.date(&mut status, start + Duration::from_secs(7));
        assert_eq!(status.time, 1007);
        assert_eq!(status.haproxy.age_seconds, Some(7));
        assert_eq!(status.file.age_seconds, Some(5));
        assert_eq!(status.haproxy.checks_age_seconds, None);
    }

    #[test]
    fn a_list_that_is_read_without_a_change_is_new_though_its_last_change_is_old() {
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        let members = || vec![Member::builder("a").build()];
        let first = Snapshot::default().relisted(members(), at(10));
        let second = first.relisted(members(), at(50));
        let mut status = Status::default();
        date_members(&second, &mut status, at(57));
        assert_eq!(status.agent.members_age_seconds, Some(7));
        assert_eq!(status.agent.changed_age_seconds, Some(47));
    }
}
