//! What the running worker has read in other files of its configuration, for a controller that starts later.

use std::path::PathBuf;

use planner::model::Worker;
use planner::syntax::OtherFile;
use serde::{Deserialize, Serialize};

use super::{SavedWorker, StateDir, StateError};

impl StateDir {
    /// What this worker has read in these files and directories; none where that was not saved.
    pub(crate) fn load_others(
        &self,
        worker: &Worker,
        now_secs: u64,
        named: &[PathBuf],
    ) -> Option<Vec<OtherFile>> {
        let saved = self.read_json::<SavedOthers>("others.json")?;
        let fits = saved.worker.is(worker, now_secs) && saved.named == named;
        let file = |file: SavedOther| OtherFile {
            path: file.path.into(),
            text: Some(file.text.into()),
        };
        fits.then(|| saved.files.into_iter().map(file).collect())
    }

    /// Saves what this worker has read in these files and directories; nothing where one of them cannot be seen.
    ///
    /// # Errors
    /// [`StateError::Write`]; what was saved before is still there.
    pub(crate) fn save_others(
        &self,
        worker: &Worker,
        now_secs: u64,
        named: &[PathBuf],
        files: &[OtherFile],
    ) -> Result<(), StateError> {
        let file = |file: &OtherFile| {
            let text = file.text.as_ref()?.to_string();
            let path = file.path.to_str()?.to_owned();
            Some(SavedOther { path, text })
        };
        let Some(files) = files.iter().map(file).collect() else {
            return Ok(());
        };
        let saved = SavedOthers {
            worker: SavedWorker::of(worker, now_secs),
            named: named.to_vec(),
            files,
        };
        self.write_json("others.json", &saved)
    }
}

#[derive(Serialize, Deserialize)]
struct SavedOthers {
    #[serde(flatten)]
    worker: SavedWorker,
    named: Vec<PathBuf>,
    files: Vec<SavedOther>,
}

#[derive(Serialize, Deserialize)]
struct SavedOther {
    path: String,
    text: String,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use planner::model::Version;

    use super::*;

    #[test]
    fn what_a_worker_has_read_is_remembered_for_that_worker_and_these_files() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let worker = Worker {
            pid: 8,
            uptime: Duration::ZERO,
            start: Some(1_700_000_000),
            version: Version { major: 3, minor: 0 },
            stamp: None,
        };
        let named = [PathBuf::from("/etc/haproxy/base.cfg")];
        let file = |text: Option<&str>| OtherFile {
            path: named[0].clone(),
            text: text.map(Into::into),
        };
        let seen = [file(Some("defaults"))];
        state.save_others(&worker, 0, &named, &seen).unwrap();
        let load = |worker, named| state.load_others(worker, 0, named);
        assert_eq!(load(&worker, &named).unwrap(), seen);
        assert_eq!(load(&worker, &[]), None);
        let other = Worker {
            pid: 9,
            ..worker.clone()
        };
        assert_eq!(load(&other, &named), None);
        // What cannot be seen may be seen by the next one.
        state.save_others(&other, 0, &named, &[file(None)]).unwrap();
        assert_eq!(load(&other, &named), None);
    }
}
