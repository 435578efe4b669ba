//! The status as text for people: what stands in columns, and how long ago things were. Pure.

use std::fmt;

use super::{Agent, Backend, Haproxy, Problem, Server, Service, Status};

impl Problem {
    fn write(&self, f: &mut fmt::Formatter<'_>, now: u64) -> fmt::Result {
        let lasted = ago(now.saturating_sub(self.since));
        writeln!(f, "PROBLEM  {} (for {lasted})", self.problem)?;
        if !self.advice.is_empty() {
            writeln!(f, "         → {}", self.advice)?;
        }
        Ok(())
    }
}

impl Agent {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = self.addr.as_ref().map(|addr| format!(" {addr}"));
        let was =
            |age: Option<u64>| age.map_or_else(|| "never".to_owned(), |age| ago(age) + " ago");
        writeln!(
            f,
            "agent    {}{}, {} {}, {} listed, read {}, changed {}",
            self.state,
            addr.unwrap_or_default(),
            self.members,
            plural(self.members == 1, "member"),
            self.listed,
            was(self.members_age_seconds),
            was(self.changed_age_seconds),
        )
    }
}

/// What is older than this is told with its age: HAProxy is read more often.
const EXPECTED: u64 = 5;
/// The same of what is looked at less often, as long as `[drift] interval` is as it is by default.
const EXPECTED_SELDOM: u64 = 15;

impl Haproxy {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = |age: &u64| *age > EXPECTED;
        if self.state != "running" {
            let age = self.age_seconds.map_or_else(
                || "never read".to_owned(),
                |age| format!("last read {} ago", ago(age)),
            );
            return writeln!(f, "haproxy  {}, {age}", self.state);
        }
        let none = || "-".to_owned();
        let pid = self.pid.map_or_else(none, |pid| pid.to_string());
        let version = self.version.clone().unwrap_or_else(none);
        let stamp = self.stamp.clone().unwrap_or_else(none);
        write!(
            f,
            "haproxy  running, version {version}, worker {pid}, started with {stamp}"
        )?;
        if let Some(age) = self.age_seconds.filter(late) {
            write!(f, ", read {} ago", ago(age))?;
        }
        if let Some(age) = self.checks_age_seconds.filter(late) {
            write!(f, ", its checks {} ago", ago(age))?;
        }
        writeln!(f)
    }

    fn write_old(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.old.is_empty() {
            return Ok(());
        }
        let sessions: u64 = self.old.iter().filter_map(|old| old.sessions).sum();
        let workers = self.old.len();
        write!(
            f,
            "old      {workers} {} of earlier reloads, with {sessions} {}",
            plural(workers == 1, "worker"),
            plural(sessions == 1, "session")
        )?;
        let silent = self.old.iter().filter(|old| old.sessions.is_none()).count();
        if silent > 0 {
            write!(f, " and those of {silent} that did not say")?;
        }
        write!(f, ", keep the servers of their time")?;
        let age = self.old_workers_age_seconds;
        if let Some(age) = age.filter(|age| *age > EXPECTED_SELDOM) {
            write!(f, " (counted {} ago)", ago(age))?;
        }
        writeln!(f)
    }
}

fn plural(is_one: bool, what: &str) -> String {
    format!("{what}{}", if is_one { "" } else { "s" })
}

impl Backend {
    fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        now: u64,
        age: Option<u64>,
    ) -> fmt::Result {
        write!(f, "\nbackend {name}: ")?;
        match (self.in_rotation, self.answering) {
            (Some(in_rotation), Some(answering)) if self.checked => {
                write!(f, "{in_rotation} in rotation, {answering} answering")?;
            }
            (Some(in_rotation), _) => write!(f, "{in_rotation} in rotation, not checked")?,
            (None, _) => match age {
                Some(age) => write!(f, "not read for {}", ago(age))?,
                None => write!(f, "not read yet")?,
            },
        }
        writeln!(
            f,
            "; {} removed of {} that may go on one witness's word",
            self.removed, self.may_go
        )?;
        if self.servers.is_empty() {
            return writeln!(f, "  no servers: no member matches {}", self.picks);
        }
        let width = |text: fn(&Server) -> String| {
            let widths = self.servers.values().map(|server| text(server).len());
            widths.max().unwrap_or(0)
        };
        let names = self
            .servers
            .keys()
            .map(String::len)
            .max()
            .unwrap_or(0)
            .max(4);
        let addresses = width(|server| server.address.to_string()).max(7);
        let checks = width(|server| server.check.clone()).max(8);
        writeln!(
            f,
            "  {:names$}  {:8}{:>5}  {:addresses$} {:>6}  {:8} {:checks$} {:8} why",
            "name", "state", "for", "address", "weight", "gossip", "check", "probe"
        )?;
        for (name, server) in &self.servers {
            let address = server.address.to_string();
            let mark = if server.suspected { " (suspected)" } else { "" };
            let member = server.member.as_ref();
            let member = member.map_or_else(String::new, |name| format!(" (member {name})"));
            let agent = match server.agent.as_str() {
                "" | "none" | "ready" => String::new(),
                says => format!(" (agent: {says})"),
            };
            writeln!(
                f,
                "  {name:names$}  {:8}{:>5}  {address:addresses$} {:>6}  {:8} {:checks$} {:8} {}{mark}{member}{agent}",
                server.state,
                ago(now.saturating_sub(server.since)),
                server.weight,
                server.gossip,
                server.check,
                server.probe,
                server.why
            )?;
        }
        Ok(())
    }
}

impl Service {
    fn write(&self, f: &mut fmt::Formatter<'_>, now: u64) -> fmt::Result {
        match &self.route {
            Some(route) => write!(f, "{route}")?,
            None => write!(f, "no requests of a front end: {}", self.unrouted)?,
        }
        if let Some(proto) = &self.proto {
            write!(f, ", {proto}")?;
        }
        write!(f, ", for {}", ago(now.saturating_sub(self.since)))?;
        if let Some(empty) = self.empty_since {
            write!(
                f,
                ", served by nobody for {}",
                ago(now.saturating_sub(empty))
            )?;
        }
        for dispute in &self.disputes {
            write!(f, "; {dispute}")?;
        }
        writeln!(f)
    }
}

/// A time in its greatest unit: `12s`, `3m`, `5h`, `2d`.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            problem.write(f, self.time)?;
        }
        let none = || "-".to_owned();
        self.agent.write(f)?;
        self.haproxy.write(f)?;
        self.haproxy.write_old(f)?;
        let stamp = self.file.stamp.clone().unwrap_or_else(none);
        writeln!(
            f,
            "file     {}, {}, {stamp}",
            self.file.path, self.file.state
        )?;
        let counters = &self.counters;
        writeln!(
            f,
            "done     {} applies, {} admissions, {} writes, {} reloads, {} failures",
            counters.applies,
            counters.admissions,
            counters.writes,
            counters.reloads,
            counters.failures
        )?;
        writeln!(f, "revision {}", self.revision)?;
        for (name, backend) in &self.backends {
            backend.write(f, name, self.time, self.haproxy.age_seconds)?;
        }
        if !self.services.is_empty() {
            writeln!(f, "\nservices")?;
        }
        let names = self.services.keys().map(String::len).max().unwrap_or(0);
        for (name, service) in &self.services {
            write!(f, "  {name:names$}  ")?;
            service.write(f, self.time)?;
        }
        if !self.quarantined.is_empty() {
            writeln!(f, "\nquarantined")?;
        }
        for (name, reason) in &self.quarantined {
            writeln!(f, "  {name}: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::OldWorker;
    use super::*;

    #[test]
    fn old_workers_are_told_with_the_sessions_they_hold() {
        let old = |sessions: &[Option<u64>]| {
            let status = Status {
                haproxy: Haproxy {
                    old: sessions
                        .iter()
                        .map(|&sessions| OldWorker { pid: 7, sessions })
                        .collect(),
                    ..Haproxy::default()
                },
                ..Status::default()
            };
            let text = status.to_string();
            let line = text.lines().find(|line| line.starts_with("old"));
            line.unwrap_or_default().to_owned()
        };
        assert_eq!(old(&[]), "");
        assert_eq!(
            old(&[Some(1)]),
            "old      1 worker of earlier reloads, with 1 session, keep the servers of their time"
        );
        assert_eq!(
            old(&[Some(11), None, Some(2)]),
            "old      3 workers of earlier reloads, with 13 sessions and those of 1 that did not say, keep the servers of their time"
        );
    }

    #[test]
    fn a_problem_is_told_with_its_age_and_what_to_do() {
        let problem = |advice: &str| Problem {
            what: "haproxy".to_owned(),
            problem: "HAProxy does not answer".to_owned(),
            since: 1000,
            advice: advice.to_owned(),
        };
        let status = Status {
            time: 1190,
            problems: vec![problem("start it"), problem("")],
            ..Status::default()
        };
        let text = status.to_string();
        let lines: Vec<_> = text.lines().take(3).collect();
        assert_eq!(
            lines,
            [
                "PROBLEM  HAProxy does not answer (for 3m)",
                "         → start it",
                "PROBLEM  HAProxy does not answer (for 3m)",
            ]
        );
    }
}
