//! The configuration file: whose it is, and a new text put in its place, checked and whole or not at all.
//!
//! A text is staged in a dot-file beside it, which HAProxy does not load from a directory, checked under that name, and
//! renamed over it. Owner, group, mode and a symlink to it are kept. The work on the disk is done off the runtime's threads.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::message::{HaproxyMessage, messages};
use super::process::{self, ProcessError};
use crate::{account, owner};
use copies::Series;

pub(super) mod copies;

/// The mode of a file that did not exist before, that of Debian's haproxy.cfg.
const NEW_MODE: u32 = 0o644;
/// That of HAProxy's own, where its group is there and may be given to it.
const HAPROXYS_MODE: u32 = 0o640;
/// HAProxy's group, as Debian and others call it.
const GROUP: &str = "haproxy";

/// What the name of a staged file ends in, before its random part.
const TEMPORARY: &str = ".serf-haproxy-";

/// The age at which a staged file can only be a leftover.
const STALE: Duration = Duration::from_secs(3600);

/// The file that HAProxy loads.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    first_line: String,
    may: May,
}

/// Which texts of somebody else's may be overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
enum May {
    /// None.
    Nothing,
    /// This one, of which a copy is kept.
    Adopted(Arc<[u8]>),
    /// Any: which are ours cannot be told.
    Anything,
}

/// What a new text has taken the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// Nothing, or a text that is known.
    Known,
    /// A text of somebody else's that was taken over.
    Adopted,
    /// A text that another hand has written or changed; a copy is kept there.
    Edited(PathBuf),
}

/// Whose the file is, told by its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// There is none.
    Missing,
    /// Its first line is ours.
    Ours,
    /// It has another first line.
    Foreign,
}

/// Why the file could not be read or written; the file is as it was, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The rights do not suffice, or the file system is read-only (`EACCES`, `EPERM`, `EROFS`).
    #[error("not permitted to {action} {}", path.display())]
    Denied {
        /// What was to be done.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk or a quota is full (`ENOSPC`, `EDQUOT`).
    #[error("no space left to {action} {}", path.display())]
    NoSpace {
        /// What was to be done.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file itself is a mount point and cannot be replaced (`EBUSY`): its directory has to be mounted instead.
    #[error("{} is a mount point and cannot be replaced: mount its directory instead", path.display())]
    Busy {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a device or the like.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// It is not ours.
    #[error("{} was not written by serf-haproxy and is not overwritten", path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
    },
    /// Too many files were taken over already.
    #[error("there are too many copies of {} already; remove those that nobody needs", path.display())]
    TooManyCopies {
        /// The path.
        path: PathBuf,
    },
    /// Its owner or group cannot be given to the new file.
    #[error("cannot keep {uid}:{gid} as owner of {}", path.display())]
    Owner {
        /// The path.
        path: PathBuf,
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Why.
        source: io::Error,
    },
    /// The new text is in place, but may be lost if the machine stops now.
    #[error("cannot sync {}", path.display())]
    Sync {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FileError {
    fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{
            PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, ResourceBusy, StorageFull,
        };
        let path = path.to_owned();
        match source.kind() {
            PermissionDenied | ReadOnlyFilesystem => Self::Denied {
                action,
                path,
                source,
            },
            StorageFull | QuotaExceeded => Self::NoSpace {
                action,
                path,
                source,
            },
            ResourceBusy => Self::Busy { path, source },
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}

impl ConfigFile {
    /// The file at this path; `first_line` is the line, without its end, that files of ours begin with.
    pub fn new(path: impl Into<PathBuf>, first_line: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            first_line: first_line.into(),
            may: May::Nothing,
        }
    }

    /// A file of ours by the word of the config alone: its format has no place for a first line.
    pub fn unmarked(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            first_line: String::new(),
            may: May::Anything,
        }
    }

    /// Its path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is now; an empty file is nobody's and counts as missing.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be read or is no regular file.
    pub async fn owner(&self) -> Result<Owner, FileError> {
        let file = self.clone();
        off_runtime("read", &self.path, move || file.owner_now()).await
    }

    /// Whether it may be written: it is ours, missing, or adopted. One that cannot be read is not held to be another's.
    pub async fn may_replace(&self) -> bool {
        let file = self.clone();
        let may = off_runtime("read", &self.path, move || {
            Ok(file.may_replace_text(read(&file.path)?.as_deref()))
        });
        may.await.unwrap_or(true)
    }

    /// Its text; none when it is missing. What is not UTF-8 in it is replaced.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be read or is no regular file.
    pub async fn read(&self) -> Result<Option<String>, FileError> {
        let file = self.clone();
        off_runtime("read", &self.path, move || file.read_now()).await
    }

    /// The same, at once: it blocks while it reads.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub(crate) fn read_now(&self) -> Result<Option<String>, FileError> {
        let bytes = read(&self.path)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Allows to overwrite the file as it is now, if it is not ours, and no other. A copy is kept beside it, and never
    /// overwritten: `<name>.before-serf-haproxy`, then `….2` and so on. Says where; nothing where the file is ours.
    ///
    /// # Errors
    /// [`FileError`] when the copy cannot be written; then nothing is allowed.
    pub async fn adopt(&mut self) -> Result<Option<PathBuf>, FileError> {
        let file = self.clone();
        let adopted = off_runtime("copy", &self.path, move || file.keep_copy()).await?;
        Ok(adopted.map(|(text, copy)| {
            self.may = May::Adopted(text.into());
            copy
        }))
    }

    /// Writes a text into a dot-file in the same directory; it is removed again when dropped.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn stage(&self, text: impl Into<String>) -> Result<Staged, FileError> {
        let (file, text) = (self.clone(), text.into());
        off_runtime("stage", &self.path, move || file.stage_now(text.as_bytes())).await
    }

    /// Lets who reads a file that was not there read it: HAProxy's group, where HAProxy alone does.
    fn open_new(&self, new: &File) -> Result<(), FileError> {
        let is_haproxys = self.may != May::Anything;
        let group = || account::gid(GROUP).and_then(|gid| fchown(new, None, Some(gid)));
        let mode = if is_haproxys && group().is_ok() {
            HAPROXYS_MODE
        } else {
            NEW_MODE
        };
        new.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(|source| FileError::new("set the mode of", &self.path, source))
    }

    fn owner_now(&self) -> Result<Owner, FileError> {
        Ok(self.owner_of(read(&self.path)?.as_deref()))
    }

    fn owner_of(&self, text: Option<&[u8]>) -> Owner {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Owner::Missing;
        };
        match text.split(|&b| b == b'\n').next() {
            Some(line) if line.trim_ascii_end() == self.first_line.as_bytes() => Owner::Ours,
            _ => Owner::Foreign,
        }
    }

    fn may_replace_text(&self, text: Option<&[u8]>) -> bool {
        match &self.may {
            May::Anything => true,
            May::Adopted(adopted) if text == Some(adopted) => true,
            _ => self.owner_of(text) != Owner::Foreign,
        }
    }

    /// The text of somebody else's, and where its copy is.
    fn keep_copy(&self) -> Result<Option<(Vec<u8>, PathBuf)>, FileError> {
        let Some(text) = read(&self.path)? else {
            return Ok(None);
        };
        if self.owner_of(Some(&text)) != Owner::Foreign {
            return Ok(None);
        }
        let copy = self.keep(&text, Series::Before)?;
        Ok(Some((text, copy)))
    }

    fn keep(&self, text: &[u8], series: Series) -> Result<PathBuf, FileError> {
        let target = resolve(&self.path)?;
        let metadata = fs::metadata(&target)
            .map_err(|source| FileError::new("keep a copy of", &target, source))?;
        copies::keep(&target, text, &metadata, series)
    }

    fn stage_now(&self, text: &[u8]) -> Result<Staged, FileError> {
        let target = resolve(&self.path)?;
        let metadata = regular(&target)?;
        let mut temporary = temporary(&target)?;
        temporary
            .as_file_mut()
            .write_all(text)
            .map_err(|source| FileError::new("write", &target, source))?;
        match metadata {
            Some(old) => copy_metadata(temporary.as_file(), &old, &self.path)?,
            None => {
                owner::of_directory(directory_of(&target), temporary.as_file())
                    .map_err(|source| FileError::new("set the owner of", &target, source))?;
                self.open_new(temporary.as_file())?;
            }
        }
        Ok(Staged {
            file: self.clone(),
            target,
            temporary,
        })
    }
}

/// A text on its way into the file; gone without a trace when dropped.
#[derive(Debug)]
pub struct Staged {
    file: ConfigFile,
    target: PathBuf,
    temporary: NamedTempFile,
}

/// What a check command said of a staged text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether it ended with code 0.
    pub valid: bool,
    /// `exit code 1`, `signal 9`.
    pub status: String,
    /// What it complained of, warnings too; the staged file stands there under the name of the file it is to become, the
    /// lines are those of the staged text.
    pub messages: Vec<HaproxyMessage>,
    /// The end of all it printed.
    pub output: String,
}

impl Staged {
    /// Where the text is now.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Runs a check command with `{path}` replaced by the staged file's path in each word.
    ///
    /// # Errors
    /// `ProcessError` when the command did not come to an end; a text that is not valid is no error.
    pub async fn check(
        &self,
        command: &[String],
        timeout: Duration,
    ) -> Result<Checked, ProcessError> {
        judge(command, self.path(), &self.file.path, None, timeout).await
    }

    /// Puts the text in the file's place, for good: synced, renamed, the directory synced. Of a text that is not `known` a
    /// copy is kept first.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::Foreign`] when the file is not ours, or no longer, and was not adopted. The staged text is
    /// gone.
    pub async fn commit(
        self,
        known: impl FnOnce(&str) -> bool + Send + 'static,
    ) -> Result<Replaced, FileError> {
        let path = self.file.path.clone();
        off_runtime("replace", &path, move || self.commit_now(known)).await
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be removed.
    pub async fn discard(self) -> Result<(), FileError> {
        let path = self.path().to_owned();
        let failed = path.clone();
        off_runtime("remove", &path, move || {
            self.temporary
                .close()
                .map_err(|source| FileError::new("remove", &failed, source))
        })
        .await
    }

    fn commit_now(self, known: impl FnOnce(&str) -> bool) -> Result<Replaced, FileError> {
        let before = read(&self.file.path)?;
        if !self.file.may_replace_text(before.as_deref()) {
            let path = self.file.path;
            return Err(FileError::Foreign { path });
        }
        let owner = self.file.owner_of(before.as_deref());
        let before = before.unwrap_or_default();
        let replaced = match (owner, &self.file.may) {
            (Owner::Missing, _) => Replaced::Known,
            (Owner::Foreign, May::Adopted(_)) => Replaced::Adopted,
            _ if known(&String::from_utf8_lossy(&before)) => Replaced::Known,
            _ => Replaced::Edited(self.file.keep(&before, Series::Edited)?),
        };
        self.temporary
            .as_file()
            .sync_all()
            .map_err(|source| FileError::new("sync", self.temporary.path(), source))?;
        match self.temporary.persist(&self.target) {
            Ok(_) => sync_directory(&self.target).map(|()| replaced),
            Err(error) => Err(FileError::new("replace", &self.target, error.error)),
        }
    }
}

/// Runs a check command with `{path}` replaced by this path in each word, in a working directory of its own where one is
/// given; what it says of the path is told of `shown`.
///
/// # Errors
/// `ProcessError` when the command did not come to an end; a text that is not valid is no error.
pub async fn judge(
    command: &[String],
    path: &Path,
    shown: &Path,
    directory: Option<&Path>,
    timeout: Duration,
) -> Result<Checked, ProcessError> {
    let path = path.to_string_lossy();
    let command: Vec<String> = command
        .iter()
        .map(|word| word.replace("{path}", &path))
        .collect();
    let finished = process::run_in(&command, directory, timeout).await?;
    let output = finished
        .output
        .replace(path.as_ref(), &shown.to_string_lossy());
    Ok(Checked {
        valid: finished.status.success(),
        status: process::describe(finished.status),
        messages: messages(&output),
        output,
    })
}

async fn off_runtime<T: Send + 'static>(
    action: &'static str,
    path: &Path,
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(FileError::new(action, path, io::Error::other(error))))
}

/// The bytes of a regular file; none when it is missing.
fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let Some(_) = regular(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let outcome = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    outcome.map_err(|source| FileError::new("read", path, source))?;
    Ok(Some(bytes))
}

/// What is known of the file; none when it is missing.
fn regular(path: &Path) -> Result<Option<Metadata>, FileError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(_) => Err(FileError::NotAFile {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::new("read", path, source)),
    }
}

/// Where the symlinks end, also when nothing is there yet.
fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(next) => {
                path = path
                    .parent()
                    .map_or(next.clone(), |directory| directory.join(&next))
            }
            // no symlink, or nothing at all
            Err(_) => return Ok(path),
        }
    }
    Err(FileError::NotAFile { path })
}

/// `.haproxy.cfg.serf-haproxy-XXXXXX` beside the file.
fn temporary(target: &Path) -> Result<NamedTempFile, FileError> {
    let (directory, prefix) = (directory_of(target), sibling(target, ".", TEMPORARY));
    sweep(directory, prefix.file_name().unwrap_or_default());
    let made = tempfile::Builder::new()
        .prefix(prefix.file_name().unwrap_or_default())
        .tempfile_in(directory);
    // Without the name, which is another each time: the same failure has the same words, and is said once.
    made.map_err(|error| FileError::new("create a file beside", target, error.kind().into()))
}

/// Removes what killed runs left behind; a staged file lives for seconds.
fn sweep(directory: &Path, prefix: &OsStr) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(prefix.as_encoded_bytes());
        let modified = || {
            entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
        };
        if ours
            && modified()
                .and_then(|at| at.elapsed().ok())
                .is_some_and(|age| age > STALE)
        {
            // best effort: it is in nobody's way
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn sibling(target: &Path, before: &str, after: &str) -> PathBuf {
    let mut name = OsString::from(before);
    name.push(target.file_name().unwrap_or_default());
    name.push(after);
    target.with_file_name(name)
}

/// Gives the new file the owner, group and mode of the old one.
fn copy_metadata(new: &File, old: &Metadata, path: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::new("set the mode of", path, source);
    let (uid, gid) = (old.uid(), old.gid());
    let now = new.metadata().map_err(failed)?;
    if (now.uid(), now.gid()) != (uid, gid) {
        let kept = fchown(new, (now.uid() != uid).then_some(uid), Some(gid));
        kept.map_err(|source| FileError::Owner {
            path: path.to_owned(),
            uid,
            gid,
            source,
        })?;
    }
    new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))
        .map_err(failed)
}

fn sync_directory(path: &Path) -> Result<(), FileError> {
    let directory = directory_of(path);
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| FileError::Sync {
        path: directory.to_owned(),
        source,
    })
}

fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
