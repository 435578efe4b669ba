//! What root makes beside a service user is the service user's: a file or directory that was just made in, the owner of
//! the directory around it given to it.
//!
//! A directory of somebody else's may hold a symlink of his under any name; so files are opened without following one,
//! and only what was made just now changes hands.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::Path;

use rustix::fs::OFlags;

/// Gives a file that was just made the owner and group of its directory. Only root can, and only root has to.
pub(crate) fn of_directory(dir: &Path, made: impl AsFd) -> io::Result<()> {
    match other_owner(dir)? {
        Some((uid, gid)) => fchown(made, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Makes a directory, and those above it, where they are missing; what is made has the owner of `like`.
pub(crate) fn directory(path: &Path, like: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        directory(parent, like)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    match other_owner(like)? {
        Some((uid, gid)) => lchown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Opens a file to write, at its end if so wanted; made where it is missing, for the owner of its directory.
pub(crate) fn open(path: &Path, append: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    options.write(true).append(append).custom_flags(flags);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            of_directory(path.parent().unwrap_or(Path::new(".")), &file)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

/// Whose a directory is, where we are root and it is not root's.
fn other_owner(dir: &Path) -> io::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let dir = fs::metadata(dir)?;
    let owner = (dir.uid(), dir.gid());
    Ok((owner != (0, 0)).then_some(owner))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

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
        directory(&path("a/b"), dir.path()).unwrap();
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
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
    }
}
