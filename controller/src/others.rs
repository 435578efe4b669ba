//! The other files of HAProxy's configuration: their paths in, what the running worker has read in them out, as far as
//! that can be told.
//!
//! They are read when another worker is there, and not again while it lives: what a server inherits from them is what
//! the worker has, whatever they say since. A file that has changed after the worker started, or that cannot be read, is
//! one that cannot be seen; what was read while a worker was new is remembered for a controller that starts later.
//!
//! Source: HAProxy's Management Guide, section 3 "Starting HAProxy", `-f`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use planner::model::Worker;
use planner::syntax::OtherFile;

use crate::state::StateDir;

/// Files longer than this, together, are not read.
const MOST_BYTES: u64 = 4 << 20;
/// More files than this, in all directories together, are not read.
const MOST_FILES: usize = 256;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// The files in the order HAProxy reads them, directories as what is in them.
    pub(crate) files: Vec<OtherFile>,
    /// Why some cannot be seen.
    pub(crate) unseen: Vec<Unseen>,
}

/// Why it cannot be told what HAProxy has read in a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unseen {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is neither a file nor a directory", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is too much to read: beyond {MOST_FILES} files or {MOST_BYTES} bytes", path.display())]
    TooMuch { path: PathBuf },
    #[error("{} has changed since HAProxy started", path.display())]
    Changed { path: PathBuf },
}

impl Others {
    /// Reads the files as they are now.
    pub(crate) fn now(named: &[PathBuf]) -> Self {
        Self::read(named, None)
    }

    /// What this worker has read: as remembered, else as the files are now if they are older than the worker.
    pub(crate) fn of(named: &[PathBuf], worker: &Worker, state: &StateDir, now_secs: u64) -> Self {
        if named.is_empty() {
            return Self::default();
        }
        let remembered = state.load_others(worker, now_secs, named);
        if let Some(files) = remembered {
            return Self {
                files,
                unseen: Vec::new(),
            };
        }
        let counted = now_secs.saturating_sub(worker.uptime.as_secs());
        Self::read(named, Some(worker.start.unwrap_or(counted)))
    }

    /// What to tell people of it.
    pub(crate) fn problem(&self) -> Option<String> {
        let why = self.unseen.first()?;
        Some(format!(
            "{why}; backends that may inherit from it change with a reload"
        ))
    }

    fn read(named: &[PathBuf], started: Option<u64>) -> Self {
        let mut others = Self::default();
        let mut left = MOST_BYTES;
        for path in named {
            let read = listed(path, started).and_then(|paths| {
                if others.files.len() + paths.len() > MOST_FILES {
                    return Err(Unseen::TooMuch { path: path.clone() });
                }
                Ok(paths)
            });
            match read {
                Err(why) => others.push(path.clone(), Err(why)),
                Ok(paths) => {
                    for path in paths {
                        let text = text(&path, &mut left, started);
                        others.push(path, text);
                    }
                }
            }
        }
        others
    }

    fn push(&mut self, path: PathBuf, text: Result<String, Unseen>) {
        let text = text.map_err(|why| self.unseen.push(why)).ok();
        self.files.push(OtherFile {
            path,
            text: text.map(Into::into),
        });
    }
}

/// The file itself, or the files of a directory as HAProxy takes them: `*.cfg`, not hidden, in the order of their bytes.
fn listed(path: &Path, started: Option<u64>) -> Result<Vec<PathBuf>, Unseen> {
    let metadata = metadata(path)?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    is_older(path, &metadata, started)?;
    let failed = |source| Unseen::Read {
        path: path.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.ends_with(b".cfg") && !bytes.starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    let paths = names.into_iter().map(|name| path.join(name));
    Ok(paths.filter(|path| path.is_file()).collect())
}

fn text(path: &Path, left: &mut u64, started: Option<u64>) -> Result<String, Unseen> {
    let metadata = metadata(path)?;
    if !metadata.is_file() {
        return Err(Unseen::NotAFile {
            path: path.to_owned(),
        });
    }
    is_older(path, &metadata, started)?;
    let failed = |source| Unseen::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let length = file.take(*left + 1).read_to_end(&mut bytes);
    let length = u64::try_from(length.map_err(failed)?).unwrap_or(u64::MAX);
    *left = left.checked_sub(length).ok_or_else(|| Unseen::TooMuch {
        path: path.to_owned(),
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn metadata(path: &Path) -> Result<fs::Metadata, Unseen> {
    fs::metadata(path).map_err(|source| Unseen::Read {
        path: path.to_owned(),
        source,
    })
}

/// Whether it is as it was when a worker started, in seconds since 1970. A change that leaves `mtime` as it was, like
/// that of a package, shows in `ctime`.
fn is_older(path: &Path, metadata: &fs::Metadata, started: Option<u64>) -> Result<(), Unseen> {
    let changed = u64::try_from(metadata.ctime()).unwrap_or_default();
    if started.is_some_and(|started| changed > started) {
        return Err(Unseen::Changed {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(others: &Others) -> Vec<(String, Option<&str>)> {
        let name = |file: &OtherFile| file.path.file_name().unwrap().to_str().unwrap().to_owned();
        let files = others.files.iter();
        files
            .map(|file| (name(file), file.text.as_deref()))
            .collect()
    }

    #[test]
    fn files_are_read_in_order_and_directories_as_haproxy_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("conf.d");
        fs::create_dir(&conf).unwrap();
        for name in ["b.cfg", "a.cfg", "B.cfg", ".hidden.cfg", "c.cfg.bak"] {
            fs::write(conf.join(name), name).unwrap();
        }
        fs::create_dir(conf.join("d.cfg")).unwrap();
        fs::write(dir.path().join("z.cfg"), "z").unwrap();
        let others = Others::now(&[dir.path().join("z.cfg"), conf]);
        let seen = [
            ("z.cfg", "z"),
            ("B.cfg", "B.cfg"),
            ("a.cfg", "a.cfg"),
            ("b.cfg", "b.cfg"),
        ];
        let seen = seen.map(|(name, text)| (name.to_owned(), Some(text)));
        assert_eq!(texts(&others), seen);
        assert!(others.problem().is_none());
    }

    #[test]
    fn what_is_missing_odd_or_too_long_cannot_be_seen_and_the_rest_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let length = usize::try_from(MOST_BYTES).unwrap();
        fs::write(path("long"), vec![b'x'; length]).unwrap();
        fs::write(path("good"), "good").unwrap();
        let named = [
            path("missing"),
            "/dev/null".into(),
            path("good"),
            path("long"),
        ];
        let others = Others::now(&named);
        assert_eq!(
            texts(&others),
            [
                ("missing".into(), None),
                ("null".into(), None),
                ("good".into(), Some("good")),
                ("long".into(), None),
            ]
        );
        let why: Vec<String> = others.unseen.iter().map(ToString::to_string).collect();
        assert!(why[0].starts_with("cannot read "), "{why:?}");
        assert_eq!(why[1], "/dev/null is neither a file nor a directory");
        assert!(why[2].contains("long is too much to read"), "{why:?}");
        assert!(others.problem().unwrap().ends_with("change with a reload"));
    }

    #[test]
    fn a_file_that_is_younger_than_the_worker_cannot_be_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base.cfg");
        fs::write(&path, "defaults").unwrap();
        let written = u64::try_from(fs::metadata(&path).unwrap().ctime()).unwrap();
        let seen = |path: &Path, started| {
            let others = Others::read(&[path.to_owned()], Some(started));
            others.files.iter().all(|file| file.text.is_some())
        };
        assert!(seen(&path, written));
        assert!(!seen(&path, written - 1));
        assert!(!seen(dir.path(), written - 1));
    }
}
