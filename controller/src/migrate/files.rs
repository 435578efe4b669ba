//! The folder that a migration is written into: files that are not there yet, and the way back.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use planner::migrate::{Already, already};
use planner::stamp::Stamp;
use serde::{Deserialize, Serialize};

use super::Report;

/// What the template is called.
pub const TEMPLATE: &str = "haproxy.cfg.j2";
/// What the config is called.
pub const CONFIG: &str = "config.toml";
/// What was found out, and by what the others are known again.
const REPORT: &str = "migrate.json";

/// Why nothing was written, or taken away.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Something is there already.
    #[error(
        "{} is there already and says something else; nothing is overwritten: name another folder, or take it away",
        .0.display()
    )]
    There(PathBuf),
    /// Something was changed since.
    #[error(
        "{} is not as migrate wrote it, and nothing is taken away; it is yours to keep or to delete",
        .0.display()
    )]
    Changed(PathBuf),
    /// The file is rendered from the template by now.
    #[error(
        "{file} is written from this template by now; first go back: stop serf-haproxy, put {file}.before-serf-haproxy in its \
         place, and reload HAProxy",
        file = .0.display()
    )]
    InUse(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What `--undo` came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Undone {
    /// Nothing was there.
    Nothing,
    /// These are gone.
    Gone(Vec<PathBuf>),
}

/// What is written.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    texts: [(&'static str, String); 2],
    report: String,
}

/// What of the report is read again.
#[derive(Deserialize)]
struct Written {
    file: PathBuf,
    /// Of each file what it is known by.
    files: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct WithFiles<'a> {
    #[serde(flatten)]
    report: &'a Report,
    files: BTreeMap<&'a str, String>,
}

impl Files {
    /// The files of a proposal in a folder.
    ///
    /// # Errors
    /// None in a tested build: what is said can be written as JSON.
    pub fn new(folder: &Path, report: &Report) -> Result<Self, serde_json::Error> {
        let texts = [
            (TEMPLATE, report.template.clone()),
            (CONFIG, report.config.clone()),
        ];
        let known = texts.iter();
        let known = known.map(|(name, text)| (*name, Stamp::of_blank(text).0));
        let with_files = WithFiles {
            report,
            files: known.collect(),
        };
        Ok(Self {
            folder: folder.to_owned(),
            report: serde_json::to_string_pretty(&with_files)? + "\n",
            texts,
        })
    }

    /// Whether all of it is there already.
    pub fn are_there(&self) -> bool {
        let says = |(name, text): &(&str, String)| {
            fs::read_to_string(self.folder.join(name)).is_ok_and(|there| there == *text)
        };
        self.texts.iter().all(says)
    }

    /// Writes them; returns where.
    ///
    /// # Errors
    /// [`FilesError`]; then none of them is there that was not before.
    pub fn write(&self) -> Result<Vec<PathBuf>, FilesError> {
        let texts = self.texts.iter().map(|(name, text)| (*name, text));
        let all: Vec<(PathBuf, &String)> = texts
            .chain([(REPORT, &self.report)])
            .map(|(name, text)| (self.folder.join(name), text))
            .collect();
        let there = all.iter().find(|(path, _)| path.symlink_metadata().is_ok());
        if let Some((path, _)) = there {
            return Err(FilesError::There(path.clone()));
        }
        let mut written = Vec::new();
        for (path, text) in all {
            if let Err(source) = self.write_one(&path, text) {
                for path in written {
                    let _ = fs::remove_file(path);
                }
                return Err(FilesError::File { path, source });
            }
            written.push(path);
        }
        Ok(written)
    }

    fn write_one(&self, path: &Path, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = fs::File::create_new(path)?;
        let outcome = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all());
        if outcome.is_err() {
            let _ = fs::remove_file(path);
        }
        outcome
    }
}

/// Takes away what [`Files::write`] wrote, if it is as it was written and nothing goes by it.
///
/// # Errors
/// [`FilesError`]; then nothing is taken away.
pub fn undo(folder: &Path) -> Result<Undone, FilesError> {
    let report = folder.join(REPORT);
    let text = match fs::read_to_string(&report) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Undone::Nothing),
        Err(source) => {
            return Err(FilesError::File {
                path: report,
                source,
            });
        }
    };
    let Ok(written) = serde_json::from_str::<Written>(&text) else {
        return Err(FilesError::Changed(report));
    };
    let mut gone = Vec::new();
    for name in [TEMPLATE, CONFIG] {
        let path = folder.join(name);
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        if written.files.get(name) != Some(&Stamp::of_blank(&text).0) {
            return Err(FilesError::Changed(path));
        }
        gone.push(path);
    }
    let site = fs::read_to_string(&written.file).unwrap_or_default();
    if matches!(already(&site), Some(Already::Ours | Already::Edited)) {
        return Err(FilesError::InUse(written.file));
    }
    gone.push(report);
    for path in &gone {
        fs::remove_file(path).map_err(|source| FilesError::File {
            path: path.clone(),
            source,
        })?;
    }
    Ok(Undone::Gone(gone))
}

#[cfg(test)]
mod tests;
