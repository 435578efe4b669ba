//! What one test has to itself: a name goes in, a network, a directory and, where it fails, the tails of all logs come
//! out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::net::Net;
use super::process::read_lossy;

/// Lines of each log that a failed test shows.
const TAIL: usize = 40;

/// What one test has to itself: a network and a directory, both gone afterwards.
#[derive(Debug)]
pub struct TestEnv {
    name: String,
    net: Net,
    dir: TempDir,
}

impl TestEnv {
    /// A network and a directory under a name that shows up in failures.
    ///
    /// # Errors
    /// When no network is free or no directory can be made.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        // Short, since a unix socket's path holds 107 bytes at most.
        let dir = tempfile::Builder::new()
            .prefix("sh-")
            .tempdir()
            .context("no temporary directory")?;
        Ok(Self {
            name: name.into(),
            net: Net::take()?,
            dir,
        })
    }

    /// The test's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network.
    #[must_use]
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in its directory.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// A file in its directory that nobody else reads, with this text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn secret(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed\n{}", self.name, log_tails(self.dir()));
        }
    }
}

/// The last lines of every log in a directory.
#[must_use]
pub fn log_tails(dir: &Path) -> String {
    let mut logs: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs.iter().map(|log| tail(log)).collect()
}

fn tail(log: &Path) -> String {
    let text = read_lossy(log);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines
        .get(lines.len().saturating_sub(TAIL)..)
        .unwrap_or_default()
        .join("\n");
    format!(
        "--- {}\n{shown}\n",
        log.file_name().unwrap_or_default().display()
    )
}
