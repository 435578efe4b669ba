//! How everything stands, for people and programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use controller::printable::printable;
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// When this was said, in seconds since 1970.
    pub time: u64,
    /// Docker.
    pub docker: Side,
    /// The agent.
    pub agent: Side,
    /// The agent's member.
    pub member: Option<String>,
    /// The tags of the agent.
    pub tags: TagsStatus,
    /// How many instances each service has in the tags.
    pub services: BTreeMap<String, usize>,
    /// Each container with labels of ours, and each service of it.
    pub containers: Vec<Row>,
    /// What needs a person.
    pub problems: Vec<Problem>,
    /// What was done since the start.
    pub counters: Counters,
}

/// Docker, or the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Side {
    /// Where it is asked.
    pub at: String,
    /// Whether it answers.
    pub connected: bool,
    /// How long it has been so, in seconds.
    pub for_seconds: u64,
}

/// The tags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TagsStatus {
    /// Whether the agent has them as they are to be.
    pub in_force: bool,
    /// What all tags of the member come to with them, encoded.
    pub bytes: usize,
    /// What they may come to.
    pub limit: usize,
    /// Ours, as they are to be.
    pub wanted: BTreeMap<String, String>,
}

/// A service of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// The container's name.
    pub container: String,
    /// Its id.
    pub id: String,
    /// The service; none where its labels are wrong.
    pub service: Option<String>,
    /// Where it is, as the tag says it: `shop:32768`; none where it is not in the tags.
    pub place: Option<String>,
    /// Why it is not, in a word.
    pub reason: Option<String>,
    /// The same for people, or what of its labels does not hold.
    pub note: Option<String>,
}

/// What needs a person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// What it is about: `docker`, `agent`, `tags`, `http`, `config`, `labels` or `room`.
    pub what: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub advice: String,
}

/// What was done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Events of Docker that counted.
    pub events: u64,
    /// Times that the containers were listed.
    pub lists: u64,
    /// Times that the tags were written.
    pub writes: u64,
    /// Times that they could not be.
    pub failures: u64,
    /// Times that Docker was lost.
    pub docker_losses: u64,
    /// Times that the agent had other tags of ours than were written.
    pub repairs: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Side| {
            let word = if side.connected {
                "connected"
            } else {
                "not reached"
            };
            format!("{} {word} for {} s", printable(&side.at), side.for_seconds)
        };
        writeln!(f, "docker   {}", side(&self.docker))?;
        writeln!(f, "agent    {}", side(&self.agent))?;
        if let Some(member) = &self.member {
            writeln!(f, "member   {}", printable(member))?;
        }
        let TagsStatus {
            in_force,
            bytes,
            limit,
            wanted,
        } = &self.tags;
        let word = if *in_force {
            "in force"
        } else {
            "not in force yet"
        };
        writeln!(f, "tags     {bytes} of {limit} bytes, {word}")?;
        for (tag, value) in wanted {
            writeln!(f, "         {}={}", printable(tag), printable(value))?;
        }
        for problem in &self.problems {
            writeln!(f, "problem  {}", printable(&problem.problem))?;
            writeln!(f, "         {}", printable(&problem.advice))?;
        }
        if self.containers.is_empty() {
            return writeln!(f, "\nno container has labels of ours");
        }
        let mut table = tabwriter::TabWriter::new(Vec::new()).padding(2);
        let _ = std::io::Write::write_all(&mut table, self.rows().as_bytes());
        let table = table.into_inner().unwrap_or_default();
        write!(f, "\n{}", String::from_utf8_lossy(&table))
    }
}

impl Status {
    fn rows(&self) -> String {
        let mut text = String::from("CONTAINER\tSERVICE\tPLACE\tNOTE\n");
        for row in &self.containers {
            let service = row.service.as_deref().unwrap_or("-");
            let place = match (&row.place, &row.reason) {
                (Some(place), _) => place.as_str(),
                (None, Some(reason)) => reason,
                (None, None) => "-",
            };
            let note = row.note.as_deref().unwrap_or_default();
            // A `String` takes all that is written.
            let _ = writeln!(
                text,
                "{}\t{service}\t{place}\t{}",
                printable(&row.container),
                printable(note)
            );
        }
        text
    }

    /// How everything stands, in one line.
    pub fn standing(&self) -> String {
        let instances: usize = self.services.values().sum();
        match &self.problems[..] {
            [] => format!("{instances} instances of {} services", self.services.len()),
            [one] => format!("1 problem: {}", printable(&one.problem)),
            [first, ..] => format!(
                "{} problems: {}; …",
                self.problems.len(),
                printable(&first.problem)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_for_people_is_a_table_whatever_names_there_are() {
        let row = |container: &str,
                   service: Option<&str>,
                   place: Option<&str>,
                   reason: Option<&str>| Row {
            container: container.to_owned(),
            service: service.map(str::to_owned),
            place: place.map(str::to_owned),
            reason: reason.map(str::to_owned),
            note: reason.map(|_| "it\nis so".to_owned()),
            ..Row::default()
        };
        let status = Status {
            docker: Side {
                at: "/run/docker.sock".to_owned(),
                connected: true,
                for_seconds: 5,
            },
            containers: vec![
                row("web-1", Some("shop"), Some("shop:32768"), None),
                row("ev\u{1b}il", None, None, Some("label")),
            ],
            ..Status::default()
        };
        let text = status.to_string();
        assert!(
            text.contains("docker   /run/docker.sock connected for 5 s\n"),
            "{text}"
        );
        assert!(
            text.contains("web-1       shop     shop:32768  \n"),
            "{text}"
        );
        assert!(
            text.contains("ev\\u{1b}il  -        label       it\\nis so\n"),
            "{text}"
        );
    }
}
