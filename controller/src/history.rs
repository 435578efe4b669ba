//! What was changed, why, how and how long that took: outcomes in, a bounded book on the disk and lines for people out.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::owner;

/// Entries kept.
const MOST: usize = 500;
/// Lines that the file may have before it is written anew with the entries kept.
const MOST_LINES: usize = 4 * MOST;
/// Changes told in one entry; a burst of more says how many there were.
const MOST_CHANGES: usize = 64;
/// A longer line was not written by this program.
const LINE_BYTES: usize = 1 << 20;

/// Something that was done, or tried. Its JSON form is an interface: names are stable, values are added only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it began, in milliseconds since 1970.
    pub at_ms: u64,
    /// `runtime`, `write`, `reload`, `file`; or `found` for what somebody else did.
    pub how: String,
    /// What was changed.
    pub changes: Vec<String>,
    /// The servers that a written file has and the one before had not, and the reverse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<String>,
    /// Why.
    pub reasons: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// What went wrong; none if nothing did.
    pub error: Option<String>,
}

/// The last entries, and the file that keeps them.
#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    entries: VecDeque<Arc<Entry>>,
    /// Lines in the file.
    lines: usize,
    seen: Arc<[Arc<Entry>]>,
}

impl History {
    /// Reads what an earlier process kept. What cannot be read is left out: a book is no reason not to start.
    pub(crate) fn load(path: &Path) -> Self {
        let mut history = Self {
            path: path.to_owned(),
            entries: VecDeque::new(),
            lines: 0,
            seen: Arc::new([]),
        };
        match owner::open_to_read(path) {
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
                    history.lines += 1;
                    if line.len() <= LINE_BYTES
                        && let Ok(entry) = serde_json::from_slice(&line)
                    {
                        history.push(Arc::new(entry));
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the history");
            }
        }
        history.seen = history.entries.iter().cloned().collect();
        history
    }

    /// The entries kept, in the order of their starts.
    pub(crate) fn entries(&self) -> Arc<[Arc<Entry>]> {
        Arc::clone(&self.seen)
    }

    /// Takes another entry.
    ///
    /// # Errors
    /// The file could not be written; the entry is kept in memory all the same.
    pub(crate) fn add(&mut self, mut entry: Entry) -> io::Result<()> {
        shorten(&mut entry.changes);
        shorten(&mut entry.reasons);
        let entry = Arc::new(entry);
        self.push(Arc::clone(&entry));
        self.seen = self.entries.iter().cloned().collect();
        if self.lines >= MOST_LINES {
            return self.rewrite();
        }
        let mut file = owner::open(&self.path, true)?;
        file.write_all(&line(&entry)?)?;
        self.lines += 1;
        Ok(())
    }

    /// In the order of the starts: what took long is told at its end, and may have begun before what was told already.
    fn push(&mut self, entry: Arc<Entry>) {
        let before = |known: &Arc<Entry>| known.at_ms <= entry.at_ms;
        let at = self.entries.partition_point(before);
        self.entries.insert(at, entry);
        if self.entries.len() > MOST {
            self.entries.pop_front();
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let mut staged = tempfile::NamedTempFile::new_in(dir)?;
        for entry in &self.entries {
            staged.write_all(&line(entry)?)?;
        }
        owner::of_directory(dir, staged.as_file())?;
        staged.persist(&self.path)?;
        self.lines = self.entries.len();
        Ok(())
    }
}

fn line(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line)
}

fn shorten(lines: &mut Vec<String>) {
    if lines.len() > MOST_CHANGES {
        let more = lines.len() - MOST_CHANGES;
        lines.truncate(MOST_CHANGES);
        lines.push(format!("and {more} more"));
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = UNIX_EPOCH + Duration::from_millis(self.at_ms);
        let at = humantime::format_rfc3339_millis(at);
        let took = self.took_ms;
        write!(f, "{at}  {:8} {took:.1} ms", self.how)?;
        match &self.error {
            None => writeln!(f)?,
            Some(error) => writeln!(f, "  FAILED: {error}")?,
        }
        for change in &self.changes {
            writeln!(f, "    {change}")?;
        }
        for reason in &self.reasons {
            writeln!(f, "    because {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at_ms: u64) -> Entry {
        Entry {
            at_ms,
            how: "runtime".to_owned(),
            changes: vec!["add nodes/s1".to_owned()],
            diff: Vec::new(),
            reasons: vec!["nodes/s1: alive and answering".to_owned()],
            took_ms: 1.25,
            error: None,
        }
    }

    #[test]
    fn what_took_long_stands_where_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let mut history = History::load(&path);
        for at_ms in [5, 9, 7, 12, 7] {
            history.add(entry(at_ms)).unwrap();
        }
        let times = |history: &History| -> Vec<u64> {
            history.entries().iter().map(|entry| entry.at_ms).collect()
        };
        assert_eq!(times(&history), [5, 7, 7, 9, 12]);
        assert_eq!(times(&History::load(&path)), [5, 7, 7, 9, 12]);
    }

    #[test]
    fn entries_survive_a_restart_and_are_bounded_in_memory_and_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let mut history = History::load(&path);
        for at in 0..5000 {
            history.add(entry(at)).unwrap();
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!((MOST..=MOST_LINES).contains(&lines), "{lines} lines");
        let again = History::load(&path);
        assert_eq!(again.entries(), history.entries());
        assert_eq!(again.entries().len(), MOST);
        assert_eq!(again.entries().last().unwrap().at_ms, 4999);
    }

    #[test]
    fn a_damaged_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        History::load(&path).add(entry(1)).unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.insert_str(0, "{\"at_ms\": 7, \"ho\n\u{0}\n");
        std::fs::write(&path, text).unwrap();
        assert_eq!(History::load(&path).entries().len(), 1);
    }

    #[test]
    fn a_burst_is_told_in_one_entry_of_bounded_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::load(&dir.path().join("history.jsonl"));
        let changes = (0..1000).map(|n| format!("add nodes/s{n}")).collect();
        history
            .add(Entry {
                changes,
                ..entry(1)
            })
            .unwrap();
        let told = &history.entries()[0].changes;
        assert_eq!(told.len(), MOST_CHANGES + 1);
        assert_eq!(told.last().unwrap(), "and 936 more");
    }

    #[test]
    fn an_entry_reads_like_a_log() {
        let failed = Entry {
            error: Some("HAProxy did not answer".to_owned()),
            ..entry(1_764_000_000_123)
        };
        assert_eq!(
            failed.to_string(),
            "2025-11-24T16:00:00.123Z  runtime  1.2 ms  FAILED: HAProxy did not answer\n    \
             add nodes/s1\n    because nodes/s1: alive and answering\n"
        );
    }
}
