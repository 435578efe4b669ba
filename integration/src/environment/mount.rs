//! File systems that misbehave: a directory or file goes in, and it is small, read-only or cannot be replaced.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A mount that is gone when dropped.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
}

impl Mount {
    /// A file system of this many KiB, in the place of a directory.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn small(dir: &Path, kib: u32) -> Result<Self> {
        let size = format!("size={kib}k");
        mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], dir)
    }

    /// A file or directory mounted on itself: a file cannot be replaced then (`EBUSY`).
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn on_itself(path: &Path) -> Result<Self> {
        let source = path.to_string_lossy();
        mount(&["--bind", &source], path)
    }

    /// A directory that is read-only from now on (`EROFS`).
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn read_only(dir: &Path) -> Result<Self> {
        let mounted = Self::on_itself(dir)?;
        run(Command::new("mount")
            .args(["-o", "remount,bind,ro"])
            .arg(dir))?;
        Ok(mounted)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process of the test may still have a file open there.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn mount(args: &[&str], path: &Path) -> Result<Mount> {
    run(Command::new("mount").args(args).arg(path))?;
    let path = path.to_owned();
    Ok(Mount { path })
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("mount")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {complaint}");
    Ok(())
}
