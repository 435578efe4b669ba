//! What a worker started with: workers and what was found in the file in, whether the worker's text is known out. Pure.
//!
//! A worker names the stamp of its text, but a text that another hand has changed below the first lines carries the
//! same. So the content decides: where the file held another hand's text since the last worker that was known, the
//! next worker may have started with it, and what it runs is not known.

use std::time::{Duration, Instant};

use planner::model::Worker;

/// A master that reads a file has its new worker up within this.
const LOADING: Duration = Duration::from_secs(30);

/// What is known of the text of the workers.
#[derive(Debug, Default)]
pub(super) struct WorkerText {
    /// When another hand's text was last in the file.
    edited: Option<Instant>,
    /// When the worker was first seen.
    appeared: Option<Instant>,
    /// The worker that may run another hand's text.
    unknown: Option<Worker>,
    /// The worker that our last reload has brought.
    ours: Option<Worker>,
}

impl WorkerText {
    /// Another hand's text is in the file.
    pub(super) fn found_edit(&mut self, now: Instant) {
        self.edited = Some(now);
    }

    /// Our text took the place of another hand's, in work that began at `started`; `worker` is the one seen last.
    pub(super) fn replaced_edit(
        &mut self,
        worker: Option<&Worker>,
        started: Instant,
        now: Instant,
    ) {
        self.edited = Some(now);
        let meanwhile = self.appeared.is_some_and(|at| at >= started);
        if let Some(worker) = worker.filter(|worker| meanwhile && !self.is_ours(worker)) {
            self.unknown = Some(worker.clone());
        }
    }

    /// A worker is seen for the first time; `genuine` says that there is no other hand's text in the file.
    pub(super) fn appeared(&mut self, worker: &Worker, genuine: bool, now: Instant) {
        self.appeared = Some(now);
        if !genuine {
            self.edited = Some(now);
        }
        let doubtful = self.edited.is_some() && !self.is_ours(worker);
        self.unknown = doubtful.then(|| worker.clone());
    }

    /// The worker goes on; one that would have started with an earlier content of the file would be there by now.
    pub(super) fn goes_on(&mut self, now: Instant) {
        if let Some(edited) = self.edited
            && now.saturating_duration_since(edited) > LOADING
        {
            self.edited = None;
        }
    }

    /// A reload of ours has brought this worker, which has read what we have written.
    pub(super) fn reloaded(&mut self, worker: Worker) {
        self.edited = None;
        if self.unknown.as_ref().is_some_and(|it| it.is_same(&worker)) {
            self.unknown = None;
        }
        self.ours = Some(worker);
    }

    /// Whether this worker's text is the one that its stamp names.
    pub(super) fn is_known(&self, worker: &Worker) -> bool {
        !self.unknown.as_ref().is_some_and(|it| it.is_same(worker))
    }

    fn is_ours(&self, worker: &Worker) -> bool {
        self.ours.as_ref().is_some_and(|it| it.is_same(worker))
    }
}

#[cfg(test)]
mod tests {
    use planner::model::Version;
    use planner::stamp::Stamp;

    use super::*;

    fn worker(pid: u32) -> Worker {
        Worker {
            pid,
            uptime: Duration::ZERO,
            start: Some(u64::from(pid)),
            version: Version { major: 3, minor: 0 },
            stamp: Some(Stamp("0123456789abcdef".into())),
        }
    }

    fn known(worker_text: &WorkerText, pid: u32) -> bool {
        worker_text.is_known(&worker(pid))
    }

    #[test]
    fn a_worker_that_appears_while_the_file_is_ours_is_known() {
        let (mut worker_text, now) = (WorkerText::default(), Instant::now());
        for pid in 1..4 {
            worker_text.appeared(&worker(pid), true, now);
            assert!(known(&worker_text, pid));
        }
    }

    #[test]
    fn a_worker_that_appears_beside_another_hands_text_is_not_until_our_reload() {
        let (mut worker_text, now) = (WorkerText::default(), Instant::now());
        worker_text.appeared(&worker(1), false, now);
        assert!(!known(&worker_text, 1));
        // the job writes our text, reloads, and the cycle sees the new worker before the job has ended
        worker_text.appeared(&worker(2), true, now);
        worker_text.replaced_edit(Some(&worker(2)), now, now);
        worker_text.reloaded(worker(2));
        assert!(known(&worker_text, 2));
        worker_text.appeared(&worker(3), true, now);
        assert!(known(&worker_text, 3), "once for each cause");
    }

    #[test]
    fn an_edit_that_was_written_over_may_have_been_read_shortly_before() {
        let (mut worker_text, now) = (WorkerText::default(), Instant::now());
        worker_text.appeared(&worker(1), true, now);
        worker_text.replaced_edit(Some(&worker(1)), now + LOADING, now + LOADING);
        assert!(known(&worker_text, 1), "it was there before the edit");
        worker_text.goes_on(now + LOADING * 2);
        worker_text.appeared(&worker(2), true, now + LOADING * 2);
        assert!(!known(&worker_text, 2));
    }

    #[test]
    fn an_edit_that_was_written_over_long_ago_was_read_by_nobody() {
        let (mut worker_text, now) = (WorkerText::default(), Instant::now());
        worker_text.appeared(&worker(1), true, now);
        worker_text.found_edit(now);
        worker_text.goes_on(now + LOADING * 2);
        worker_text.appeared(&worker(2), true, now + LOADING * 3);
        assert!(known(&worker_text, 2));
    }

    #[test]
    fn a_worker_that_was_seen_while_our_text_was_written_over_an_edit_is_not_known() {
        let (mut worker_text, now) = (WorkerText::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        worker_text.appeared(&worker(2), true, later);
        worker_text.replaced_edit(Some(&worker(2)), now, later);
        assert!(!known(&worker_text, 2));
    }
}
