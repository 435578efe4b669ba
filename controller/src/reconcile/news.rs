//! What the loop waits for: members, suspicions, probes, questions, jobs and the clock in; whether a cycle has to follow out.

use std::time::Instant;

use super::Reconciler;
use super::advice;
use super::feed::News;
use super::installer::{Ended, Installed, Target};
use crate::clock;
use crate::probe::ProbeResult;
use crate::published::Asking;

/// What came of waiting.
pub(super) enum Wakeup {
    /// Something that a cycle has to look at.
    News,
    /// Nothing: it is time to look at HAProxy.
    Clock,
    /// Nothing may follow from it.
    NothingNew,
    /// Nothing will come any more.
    End,
}

impl Reconciler {
    /// Waits for something that a cycle has to look at.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn next_news(&mut self) -> Wakeup {
        loop {
            let wakeup = self.listen().await;
            let owes = self.options.notifier.deadline();
            let nothing = match wakeup {
                Wakeup::NothingNew => true,
                Wakeup::Clock => !self.applier.look(&mut self.journal).await,
                wakeup => return wakeup,
            };
            if !nothing || owes.is_some_and(|at| clock::now() >= at) {
                return Wakeup::News;
            }
        }
    }

    /// Waits for something to happen, and takes it.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn listen(&mut self) -> Wakeup {
        self.journal.meters.turned();
        let wake = self.next_wake();
        // A HAProxy that does not answer is tried more often than it is looked at.
        let look = self.applier.look_at().min(wake);
        let looks = look < wake;
        // News first: while HAProxy is silent a cycle takes longer than the pauses, and the clock is always due.
        let matters = tokio::select! {
            biased;
            news = self.feed.next(&mut self.journal) => return self.observe_news(news),
            Some(asking) = self.askings.recv() => self.answer(asking),
            Some(found) = self.probed.recv() => self.observe_probe(&found),
            ended = self.installer.next_done() => {
                self.finish(ended);
                true
            }
            () = tokio::time::sleep_until(look.into()) => {
                if looks {
                    return Wakeup::Clock;
                }
                true
            }
        };
        if matters {
            Wakeup::News
        } else {
            Wakeup::NothingNew
        }
    }

    /// When the loop has to turn again, if nothing else happens.
    fn next_wake(&self) -> Instant {
        let now = clock::now();
        if self.applier.is_unfinished() {
            return now;
        }
        let config = &self.desired.loaded().config;
        let poll = self.applier.poll(self.desired.decisions().poll);
        let reload = !self.applier.plan().reload.is_empty();
        let own = [self.feed.deadline(), self.options.notifier.deadline()];
        let due_later = own
            .into_iter()
            .flatten()
            .chain(self.applier.deadlines())
            .chain(self.web.deadline())
            .chain(self.installer.deadlines(config.reload.min_interval, reload))
            .chain(self.journal.deadlines())
            .filter(|&at| at > now);
        self.desired
            .deadlines()
            .chain(self.installer.write_at())
            .chain(self.journal.publish_at())
            .chain(due_later)
            .chain(poll.map(|poll| now + poll))
            .fold(self.next_drift, Instant::min)
    }

    /// Takes what the feed has to say.
    pub(super) fn observe_news(&mut self, news: News) -> Wakeup {
        match news {
            News::End => Wakeup::End,
            News::Agents => Wakeup::News,
            News::Members(snapshot) => {
                match self.desired.set_members(&snapshot) {
                    Ok(others) => {
                        self.journal.problems.clear("max_members");
                        if others {
                            self.hinted = self.hinted.or(snapshot.hinted_at());
                            self.select();
                        }
                    }
                    Err(error) => {
                        let problems = &mut self.journal.problems;
                        problems.set("max_members", error.to_string(), advice::MAX_MEMBERS);
                    }
                }
                Wakeup::News
            }
            News::Suspicion(name) => {
                let matters = self.desired.observe_suspicion(&name, clock::now());
                if matters {
                    Wakeup::News
                } else {
                    Wakeup::NothingNew
                }
            }
        }
    }

    /// Takes what a probe found; says whether anything may follow from it.
    pub(super) fn observe_probe(&mut self, found: &ProbeResult) -> bool {
        self.journal.meters.probed(found.probed);
        self.desired
            .observe_probe(&found.key, found.addr, found.probed)
    }

    /// Takes the end of a job.
    fn finish(&mut self, ended: Ended) {
        let target = Target::of(&self.desired, &self.applier);
        match self.installer.finish(ended, &target, &mut self.journal) {
            Installed::Nothing => {}
            Installed::Done { stamp, reloaded } => {
                let wanted = self.desired.wanted();
                let current = wanted.is_some_and(|wanted| wanted.text.stamp == stamp);
                if current && (reloaded.is_some() || self.applier.plan().reload.is_empty()) {
                    self.fallback = None;
                }
                if let Some(worker) = reloaded {
                    if self.applier.is_current(&worker) {
                        self.remember_worker(&worker);
                    }
                    self.applier.reloaded();
                }
            }
            Installed::Refused {
                problem,
                advice,
                of_the_text,
                offenders,
            } => {
                if self.fallback.is_none() && !offenders.is_empty() {
                    for (key, offender) in &offenders {
                        tracing::warn!(backend = %key.backend, server = %key.server, "the file is invalid with it, and goes on without: {}", offender.reason);
                    }
                    self.desired.blame(offenders);
                    self.installer.try_again();
                } else if of_the_text && self.fallback.is_some() {
                    self.revert_config(&problem);
                } else {
                    self.journal.problems.set("file", problem, advice);
                }
            }
        }
    }

    /// Answers a client; says whether anything may follow from it.
    fn answer(&mut self, asking: Asking) -> bool {
        match asking {
            Asking::Approve(approving) => {
                self.approve(approving);
                true
            }
            Asking::InForce(answer) => {
                // Whoever asked may have gone away.
                let _ = answer.send(self.in_force());
                false
            }
        }
    }
}
