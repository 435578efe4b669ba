//! Whether all balancers do the same: their reports in, what they differ in out. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write as _;

use serde::Serialize;
use tabwriter::TabWriter;

use super::Report;
use crate::printable::printable;

/// A list that was read longer ago than this is old, in seconds: it is read every 10 s unless `[serf] resync` says else.
const OLD: u64 = 60;

const HEAD: [&str; 9] = [
    "balancer",
    "version",
    "config",
    "stamp",
    "haproxy",
    "members",
    "read",
    "held",
    "in rotation",
];

/// A balancer that was asked, or should have answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Balancer {
    /// What it said; none where it did not answer.
    #[serde(flatten)]
    pub report: Option<Report>,
    /// What is wrong with it; empty where it does what the others do.
    pub differs: Vec<String>,
}

/// All balancers, by the names of their nodes, escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fleet {
    /// Whether all are well and do the same.
    pub agree: bool,
    /// What is wrong with none of them in particular.
    pub problems: Vec<String>,
    /// Each.
    pub balancers: BTreeMap<String, Balancer>,
}

impl Fleet {
    /// Compares the answers. `silent` should have answered and did not, `expected` is how many balancers there should be at
    /// least; `same_config` whether their configs should be the same.
    pub fn new(
        reports: BTreeMap<String, Report>,
        silent: impl IntoIterator<Item = String>,
        expected: usize,
        same_config: bool,
    ) -> Self {
        let mut problems = Vec::new();
        if reports.len() < expected {
            problems.push(format!("{} answer of {expected}", reports.len()));
        }
        let first = |of: fn(&Report) -> &str| {
            let said = usual(reports.values().map(|report| Reverse(of(report))));
            said.map(|Reverse(said)| said).unwrap_or_default()
        };
        let (config, servers) = (first(|it| &it.config), first(|it| &it.servers));
        // Whoever is cut off lists fewer.
        let members = usual(reports.values().map(|report| report.members)).unwrap_or_default();
        let pattern = reports.values().find(|report| report.servers == servers);
        let mut balancers = BTreeMap::new();
        for (name, report) in &reports {
            let mut differs = ailing(report);
            if same_config && report.config != config {
                differs.push("another config than most".to_owned());
            }
            if report.members != members {
                differs.push(format!(
                    "lists {} members, most list {members}",
                    report.members
                ));
            }
            if let Some(pattern) = pattern.filter(|_| report.servers != servers) {
                differs.push(other_servers(report, pattern));
            }
            let report = Some(report.clone());
            balancers.insert(name.clone(), Balancer { report, differs });
        }
        for name in silent {
            let balancer = Balancer {
                report: None,
                differs: vec!["does not answer".to_owned()],
            };
            balancers.entry(name).or_insert(balancer);
        }
        if balancers.is_empty() {
            problems.push("no balancer answers".to_owned());
        }
        let well = balancers.values().all(|b| b.differs.is_empty());
        Self {
            agree: well && problems.is_empty(),
            problems,
            balancers,
        }
    }
}

/// What is wrong with a balancer, whatever the others do.
fn ailing(report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    if report.agent != "connected" {
        found.push(format!("its agent is {}", report.agent));
    }
    if let Some(age) = report.age.filter(|age| *age > OLD) {
        found.push(format!("its list of members is {age} s old"));
    }
    if report.haproxy.is_none() {
        found.push("its HAProxy does not answer".to_owned());
    }
    if report.behind {
        found.push("its file is behind".to_owned());
    }
    if report.held > 0 {
        found.push(format!("{} held", report.held));
    }
    match (&report.problem, report.problems) {
        (Some(problem), 1) => found.push(problem.clone()),
        (Some(problem), count) if count > 1 => {
            found.push(format!("{problem} (and {} more)", count - 1));
        }
        _ => {}
    }
    found
}

/// Which backends serve with others than most do.
fn other_servers(report: &Report, pattern: &Report) -> String {
    let names: BTreeSet<_> = report
        .backends
        .keys()
        .chain(pattern.backends.keys())
        .collect();
    let other = |name: &&String| {
        let servers = |report: &Report| {
            let serving = report.backends.get(*name);
            serving.map(|serving| serving.servers.clone())
        };
        servers(report) != servers(pattern)
    };
    let names: Vec<_> = names.into_iter().filter(other).cloned().collect();
    if names.is_empty() {
        return "other servers than most".to_owned();
    }
    format!("other servers than most in {}", names.join(", "))
}

/// What most say; of several that are said as often the greatest.
fn usual<T: Ord>(said: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for one in said {
        *counts.entry(one).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(one, _)| one)
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = TabWriter::new(Vec::new()).padding(2);
        let mut row = |cells: &[String]| {
            let cells: Vec<_> = cells
                .iter()
                .map(|cell| printable(cell).to_string())
                .collect();
            writeln!(table, "{}", cells.join("\t")).map_err(|_| fmt::Error)
        };
        row(&HEAD.map(str::to_owned))?;
        for (name, balancer) in &self.balancers {
            let Some(report) = &balancer.report else {
                let mut cells = HEAD.map(|_| String::new());
                cells[0].clone_from(name);
                "no answer".clone_into(&mut cells[1]);
                row(&cells)?;
                continue;
            };
            let none = || "-".to_owned();
            row(&[
                name.clone(),
                report.version.clone(),
                report.config.clone(),
                report.stamp.clone().unwrap_or_else(none),
                report.haproxy.clone().unwrap_or_else(none),
                report.members.to_string(),
                report.age.map_or_else(none, |age| format!("{age}s ago")),
                report.held.to_string(),
                in_rotation(report),
            ])?;
        }
        let table = table.into_inner().map_err(|_| fmt::Error)?;
        for line in String::from_utf8_lossy(&table).lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        for problem in &self.problems {
            writeln!(f, "PROBLEM  {problem}")?;
        }
        for (name, balancer) in &self.balancers {
            for problem in &balancer.differs {
                writeln!(f, "PROBLEM  {}: {}", printable(name), printable(problem))?;
            }
        }
        if self.agree {
            writeln!(f, "all agree")?;
        }
        Ok(())
    }
}

/// `nodes 3, api 2 (1 answering)`.
fn in_rotation(report: &Report) -> String {
    let one = |(name, serving): (&String, &super::Serving)| {
        let count = |count: Option<usize>| count.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let rotation = count(serving.rotation);
        if serving.rotation == serving.answering {
            format!("{name} {rotation}")
        } else {
            format!("{name} {rotation} ({} answering)", count(serving.answering))
        }
    };
    let all: Vec<_> = report.backends.iter().map(one).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Serving;

    fn report(servers: &str) -> Report {
        let serving = Serving {
            rotation: Some(2),
            answering: Some(2),
            servers: servers.to_owned(),
        };
        Report {
            version: "0.1.0".to_owned(),
            config: "c0".to_owned(),
            haproxy: Some("3.0".to_owned()),
            stamp: Some("0123456789abcdef".to_owned()),
            agent: "connected".to_owned(),
            age: Some(3),
            members: 5,
            servers: servers.to_owned(),
            backends: [("nodes".to_owned(), serving)].into(),
            ..Report::default()
        }
    }

    fn fleet(reports: &[(&str, Report)], silent: &[&str], expected: usize) -> Fleet {
        let reports = reports
            .iter()
            .map(|(name, report)| ((*name).to_owned(), report.clone()));
        let silent = silent.iter().map(|name| (*name).to_owned());
        Fleet::new(reports.collect(), silent, expected, true)
    }

    #[test]
    fn balancers_that_do_the_same_agree() {
        let fleet = fleet(&[("lb-1", report("s")), ("lb-2", report("s"))], &[], 2);
        assert_eq!(
            fleet.to_string(),
            "\
balancer  version  config  stamp             haproxy  members  read    held  in rotation
lb-1      0.1.0    c0      0123456789abcdef  3.0      5        3s ago  0     nodes 2
lb-2      0.1.0    c0      0123456789abcdef  3.0      5        3s ago  0     nodes 2
all agree
"
        );
        assert!(fleet.agree);
    }

    #[test]
    fn what_one_does_otherwise_is_told() {
        let cut_off = Report {
            agent: "lost".to_owned(),
            age: Some(90),
            members: 1,
            ..report("other")
        };
        let old = Report {
            config: "c1".to_owned(),
            problems: 2,
            problem: Some("the file\nis foreign".to_owned()),
            ..report("s")
        };
        let fleet = fleet(
            &[
                ("a", report("s")),
                ("b", report("s")),
                ("c", cut_off),
                ("d", old),
            ],
            &["e\u{1b}[2J", "a"],
            6,
        );
        assert!(!fleet.agree);
        let said = fleet.to_string();
        let problems: Vec<_> = said
            .lines()
            .filter(|line| line.starts_with("PROBLEM"))
            .collect();
        assert_eq!(
            problems,
            [
                "PROBLEM  4 answer of 6",
                "PROBLEM  c: its agent is lost",
                "PROBLEM  c: its list of members is 90 s old",
                "PROBLEM  c: lists 1 members, most list 5",
                "PROBLEM  c: other servers than most in nodes",
                "PROBLEM  d: the file\\nis foreign (and 1 more)",
                "PROBLEM  d: another config than most",
                "PROBLEM  e\\u{1b}[2J: does not answer",
            ]
        );
    }

    #[test]
    fn nobody_is_no_fleet_that_agrees() {
        assert!(!fleet(&[], &[], 0).agree);
    }
}
