//! What was found out of a migration, for people and for programs. Pure.

use std::fmt;
use std::path::PathBuf;

use planner::migrate::{Difference, Global, ServerFate, WordMap};
use serde::Serialize;
use similar::TextDiff;

/// Everything that is said. Its JSON form is an interface: names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub file: PathBuf,
    /// The HAProxy that it is for.
    pub haproxy: String,
    /// The agent that was asked, and why nothing was heard of it.
    pub agent: AgentSaid,
    /// The backends.
    pub backends: Vec<BackendReport>,
    /// What `global` has, and was given.
    pub global: Global,
    /// Lines whose signs are wrapped in raw.
    pub wrapped: Vec<usize>,
    /// Promises that the file does not keep, each with what to write.
    pub promises: Vec<String>,
    /// Whether HAProxy reads the same.
    pub proof: Proof,
    /// The template.
    pub template: String,
    /// The config.
    pub config: String,
    /// The file as it is.
    #[serde(skip)]
    pub old: String,
}

/// What an agent said.
#[derive(Clone, Debug, Serialize)]
pub struct AgentSaid {
    /// Its RPC.
    pub addr: String,
    /// How many members it lists.
    pub members: Option<usize>,
    /// Why it was not to be asked.
    pub error: Option<String>,
}

/// What is said of a backend.
#[derive(Clone, Debug, Serialize)]
pub struct BackendReport {
    /// Its name.
    pub name: String,
    /// The line that it begins in.
    pub line: usize,
    /// The tags that pick its members.
    pub tags: Vec<String>,
    /// Its server lines.
    pub servers: Vec<ServerFate>,
    /// The line of its members.
    pub member_line: String,
    /// Words that some servers have otherwise.
    pub maps: Vec<WordMap>,
    /// Why its servers cannot join and leave without a reload.
    pub reloads: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Whether HAProxy reads the same of the new text.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// What it would read otherwise.
    pub differences: Vec<Difference>,
    /// How many servers are members'.
    pub members: usize,
    /// Whether the check command takes the file as it is; nothing where it could not be run.
    pub old_is_valid: Option<bool>,
    /// Whether it takes the new text.
    pub new_is_valid: Option<bool>,
    /// What it complains of in the new text and not in the old one; of the old one, where it does not take that.
    pub complaints: Vec<String>,
}

impl Proof {
    /// Whether nothing is worse than it was.
    pub fn holds(&self) -> bool {
        let worse = self.old_is_valid == Some(true) && self.new_is_valid == Some(false);
        self.differences.is_empty() && !worse
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, for HAProxy {}", self.file.display(), self.haproxy)?;
        match (&self.agent.error, self.agent.members) {
            (Some(error), _) => writeln!(
                f,
                "agent {} could not be asked, so that servers are not compared with members: {error}",
                self.agent.addr
            )?,
            (None, members) => writeln!(
                f,
                "agent {}: {} members",
                self.agent.addr,
                members.unwrap_or_default()
            )?,
        }
        for backend in &self.backends {
            write!(f, "\n{backend}")?;
        }
        writeln!(f)?;
        for line in &self.global.lines {
            writeln!(f, "global gets: {line}")?;
        }
        if let Some(hidden) = &self.global.hidden {
            writeln!(
                f,
                "global: `description {hidden}` is not seen any more, ours comes after it"
            )?;
        }
        if self.global.loads_state {
            writeln!(
                f,
                "load-server-state-from-file: what that file says of a server goes before the text at each start, until \
                 serf-haproxy has put it right; take it out"
            )?;
        }
        for line in &self.wrapped {
            writeln!(f, "line {line}: signs of a template's own, wrapped in raw")?;
        }
        for promise in &self.promises {
            writeln!(f, "could be better: {promise}")?;
        }
        write!(f, "\n{}", self.proof)
    }
}

impl Report {
    /// What the template makes of the file.
    pub fn diff(&self) -> String {
        let diff = TextDiff::from_lines(&self.old, &self.template);
        let name = self.file.display().to_string();
        diff.unified_diff().header(&name, "template").to_string()
    }
}

impl fmt::Display for BackendReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags = self.tags.join(", ");
        writeln!(
            f,
            "backend {} (line {}), members with {tags}",
            self.name, self.line
        )?;
        for fate in &self.servers {
            let members = fate.members.join(", ");
            let what = match &fate.stays {
                Some(why) => format!("stays: {why}"),
                None if fate.members.is_empty() => "a member's".to_owned(),
                None => format!("a member's ({members})"),
            };
            let ServerFate {
                line,
                name,
                address,
                ..
            } = fate;
            write!(f, "  line {line}: {name} {address}: {what}")?;
            match &fate.comment {
                Some(comment) => writeln!(f, "; its comment goes: {comment}")?,
                None => writeln!(f)?,
            }
        }
        writeln!(f, "  members' line: {}", self.member_line)?;
        for map in &self.maps {
            let names: Vec<&str> = map.words.keys().map(String::as_str).collect();
            let others = if map.others.is_empty() {
                "nothing"
            } else {
                map.others.as_str()
            };
            writeln!(
                f,
                "  `{}` of {} is kept by name in {}; others get: {others}",
                map.keyword,
                names.join(", "),
                map.variable
            )?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        if self.reloads.is_empty() {
            writeln!(f, "  joins and leaves without a reload")?;
        }
        for reload in &self.reloads {
            writeln!(f, "  each join is a reload: {reload}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.differences.is_empty() {
            writeln!(
                f,
                "proof: every other line is kept byte by byte, and with the servers of now as members all {} are read as before",
                self.members
            )?;
        }
        for difference in &self.differences {
            writeln!(f, "NOT the same: {difference}")?;
        }
        let said = match (self.old_is_valid, self.new_is_valid) {
            (Some(true), Some(true)) => "takes the new text as it takes the old one",
            (Some(true), _) => "takes the old text and NOT the new one",
            (Some(false), Some(true)) => "takes the new text, and not the old one",
            (Some(false), _) => "takes neither text, here",
            (None, _) => "could not be run, so that HAProxy itself was not asked",
        };
        writeln!(f, "proof: the check command {said}")?;
        for complaint in &self.complaints {
            writeln!(f, "  {complaint}")?;
        }
        Ok(())
    }
}
