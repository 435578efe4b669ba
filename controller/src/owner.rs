//! What root makes beside a service user is the service user's: a file or directory that was just made in, the owner of
//! the directory around it given to it.
//!
//! A directory of somebody else's may hold a symlink of his under any name, or a pipe; so files are opened without following
//! one or waiting for the other, and only what was made just now changes hands. What is made is its owner's alone.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt, OpenOptionsExt, PermissionsExt as _, fchown, lchown,
};
use std::path::Path;

use rustix::fs::OFlags;

/// The mode of a directory that is its owner's alone.
pub(crate) const CLOSED: u32 = 0o700;
/// The mode of a directory that others may enter, for a socket with a mode of its own.
pub(crate) const OPEN: u32 = 0o755;
/// The mode of a file that is its owner's alone.
const PRIVATE: u32 = 0o600;

/// Gives a file that was just made the owner and group of its directory. Only root can, and only root has to.
pub(crate) fn of_directory(dir: &Path, made: impl AsFd) -> io::Result<()> {
    match other_owner(dir)? {
        Some((uid, gid)) => fchown(made, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Makes a directory with this mode, and those above it with the usual one, where they are missing; what is made has the
/// owner of `like`, where that is there.
pub(crate) fn directory(path: &Path, like: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        directory(parent, like, OPEN)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    match other_owner(like)? {
        Some((uid, gid)) => lchown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Opens a regular file to read.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// The bytes of a regular file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_to_read(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn flags(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or_default()
}

/// Opens a file to write, at its end if so wanted; made where it is missing, for the owner of its directory.
pub(crate) fn open(path: &Path, append: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).append(append).mode(PRIVATE);
    options.custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK));
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return close(opened?),
    }
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            of_directory(path.parent().unwrap_or(Path::new(".")), &file)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => close(options.open(path)?),
        Err(error) => Err(error),
    }
}

/// Takes from a file of ours what an earlier version has let others do with it.
fn close(file: File) -> io::Result<File> {
    let metadata = file.metadata()?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if is_ours && metadata.is_file() && metadata.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(PRIVATE))?;
    }
    Ok(file)
}

/// Whose a directory is, where we are root and it is not root's.
fn other_owner(dir: &Path) -> io::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let dir = match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        dir => dir?,
    };
    let owner = (dir.uid(), dir.gid());
    Ok((owner != (0, 0)).then_some(owner))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o777
    }

    fn owner(path: &Path) -> (u32, u32) {
        let metadata = path.symlink_metadata().unwrap();
        (metadata.uid(), metadata.gid())
    }

    #[test]
    fn what_is_made_has_the_owner_of_the_directory_and_what_was_there_keeps_its_own() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("roots"), "a").unwrap();
        assert_ne!(mode(&path("roots")), 0o600);
        chown(dir.path(), Some(12), Some(34)).unwrap();
        for text in ["one", "two"] {
            open(&path("new"), true)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        }
        assert_eq!(fs::read_to_string(path("new")).unwrap(), "onetwo");
        assert_eq!(owner(&path("new")), (12, 34));
        drop(open(&path("roots"), false).unwrap());
        assert_eq!(owner(&path("roots")), (0, 0));
        assert_eq!(
            mode(&path("roots")),
            0o600,
            "an earlier version's is closed"
        );
        directory(&path("a/b"), dir.path(), CLOSED).unwrap();
        assert_eq!((mode(&path("a")), mode(&path("a/b"))), (0o755, 0o700));
        assert_eq!(mode(&path("new")), 0o600);
        assert_eq!(
            (owner(&path("a")), owner(&path("a/b"))),
            ((12, 34), (12, 34))
        );
    }

    #[test]
    fn a_symlink_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("lock"));
        fs::write(&victim, "kept").unwrap();
        symlink(&victim, &link).unwrap();
        assert!(open(&link, false).is_err());
        assert!(open(&link, true).is_err());
        assert!(read(&link).is_err());
        assert_eq!(read(&victim).unwrap(), b"kept");
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        assert!(read(&pipe).is_err(), "a pipe that nobody writes to");
        assert!(open(&pipe, true).is_err(), "a pipe that nobody reads");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
    }
}
