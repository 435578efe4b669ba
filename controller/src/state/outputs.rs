//! What was last written into other files (`[[file]]`), whose format may have no place to say so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use planner::stamp::Stamp;

use super::{StateDir, StateError};

/// Files that are remembered.
const MOST: usize = 1000;

impl StateDir {
    /// The stamp of the text that was last written there.
    pub(crate) fn load_output(&self, path: &Path) -> Option<Stamp> {
        self.outputs().remove(path).map(Stamp)
    }

    /// Saves the stamp of what was written there.
    ///
    /// # Errors
    /// [`StateError::Write`]; what was saved before is still there.
    pub(crate) fn save_output(&self, path: &Path, stamp: &Stamp) -> Result<(), StateError> {
        let mut outputs = self.outputs();
        if outputs.get(path) == Some(&stamp.0) {
            return Ok(());
        }
        while outputs.len() >= MOST && !outputs.contains_key(path) {
            outputs.pop_first();
        }
        outputs.insert(path.to_owned(), stamp.0.clone());
        self.write_json("outputs.json", &outputs)
    }

    fn outputs(&self) -> BTreeMap<PathBuf, String> {
        self.read_json("outputs.json").unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_where_is_remembered_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let path = |number: usize| PathBuf::from(format!("/etc/{number:05}"));
        assert_eq!(state.load_output(&path(0)), None);
        for number in 0..=MOST {
            state
                .save_output(&path(number), &Stamp::of_blank("text"))
                .unwrap();
        }
        let again = StateDir::peek(dir.path());
        assert_eq!(again.load_output(&path(0)), None);
        assert_eq!(
            again.load_output(&path(MOST)),
            Some(Stamp::of_blank("text"))
        );
    }
}
