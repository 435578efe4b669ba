//! The certificates of a directory: its path in, who has which files out.
//!
//! HAProxy's layout and those of the usual ACME clients: `NAME.pem` with its key in it; `NAME.pem` or `NAME.crt` with its key in
//! `NAME.pem.key`, `NAME.crt.key` or `NAME.key`; a directory `NAME` with `fullchain.pem` and `privkey.pem`. Symlinks are
//! followed, as Certbot's are ones. Whatever begins with a dot, or has another ending, is left alone.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A file that is larger is no certificate.
const MOST_BYTES: u64 = 256 * 1024;
/// More are not looked at.
pub(super) const MOST: usize = 1000;

/// What tells a file from another, and from what it was before.
pub(super) type Print = Vec<(u64, u64, i64, i64)>;

/// The files of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// The one that people know it by.
    pub(super) path: PathBuf,
    key: Option<PathBuf>,
    pub(super) print: Print,
}

/// What a directory has.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The certificates by their names, which are safe in HAProxy's configuration.
    pub(super) by_name: BTreeMap<String, Files>,
    /// What cannot be used, with the reason.
    pub(super) strange: BTreeMap<String, String>,
}

/// Looks who is there.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn find(directory: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory)? {
        entries.push(entry?.path());
    }
    entries.sort();
    for path in entries {
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some((name, files)) = candidate(&path, file) else {
            continue;
        };
        let why = if !is_name(&name) {
            "its name may have letters, digits, `_`, `.` and `-` only, 64 at most".to_owned()
        } else if found.by_name.contains_key(&name) {
            format!("there is another {name}")
        } else if found.by_name.len() == MOST {
            format!("there are more than {MOST} certificates")
        } else {
            found.by_name.insert(name, files);
            continue;
        };
        // of a directory that is something else a few say it
        if found.strange.len() < MOST {
            found.strange.insert(file.to_owned(), why);
        }
    }
    Ok(found)
}

/// The certificate that an entry of the directory stands for.
fn candidate(path: &Path, file: &str) -> Option<(String, Files)> {
    if file.starts_with('.') || file.ends_with(".issuer.crt") {
        return None;
    }
    if path.is_dir() {
        let (chain, key) = (path.join("fullchain.pem"), path.join("privkey.pem"));
        return chain
            .exists()
            .then(|| (file.to_owned(), Files::of(chain, Some(key))));
    }
    let stem = file
        .strip_suffix(".pem")
        .or_else(|| file.strip_suffix(".crt"))?;
    let keys = [format!("{file}.key"), format!("{stem}.key")];
    let mut keys = keys.into_iter().map(|key| path.with_file_name(key));
    let key = keys.find(|key| key.exists());
    Some((stem.to_owned(), Files::of(path.to_owned(), key)))
}

impl Files {
    fn of(path: PathBuf, key: Option<PathBuf>) -> Self {
        let all = [Some(&path), key.as_ref()];
        let print = |metadata: Metadata| {
            let (ino, size) = (metadata.ino(), metadata.size());
            (ino, size, metadata.mtime(), metadata.mtime_nsec())
        };
        let prints = all.into_iter().flatten();
        let prints = prints.map(|path| fs::metadata(path).map_or((0, 0, 0, 0), print));
        Self {
            print: prints.collect(),
            path,
            key,
        }
    }

    /// Their bytes, with the chain first.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(super) fn read(&self) -> Result<Vec<Vec<u8>>, String> {
        let all = [Some(&self.path), self.key.as_ref()];
        let read =
            |path: &PathBuf| read(path).map_err(|error| format!("{}: {error}", path.display()));
        all.into_iter().flatten().map(read).collect()
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // a pipe would be waited for
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("it is too large for a certificate"));
    }
    Ok(bytes)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let is_safe = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    !name.is_empty() && name.len() <= 64 && bytes.all(is_safe)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_layouts_of_haproxy_and_of_the_usual_clients_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| fs::write(dir.path().join(name), name).unwrap();
        for name in [
            "whole.pem",
            "apart.pem",
            "apart.pem.key",
            "lego.crt",
            "lego.key",
            "lego.issuer.crt",
            "lego.json",
            ".hidden.pem",
            "README",
            "bad name.pem",
            "twice.crt",
            "twice.pem",
        ] {
            put(name);
        }
        let live = dir.path().join("certbot");
        fs::create_dir(&live).unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        fs::write(dir.path().join("chain1"), "chain").unwrap();
        symlink("../chain1", live.join("fullchain.pem")).unwrap();
        fs::write(live.join("privkey.pem"), "key").unwrap();
        let found = find(dir.path()).unwrap();
        let names: Vec<&str> = found.by_name.keys().map(String::as_str).collect();
        assert_eq!(names, ["apart", "certbot", "lego", "twice", "whole"]);
        let read = |name: &str| found.by_name[name].read().unwrap();
        assert_eq!(read("whole"), [b"whole.pem".to_vec()]);
        assert_eq!(
            read("apart"),
            [b"apart.pem".to_vec(), b"apart.pem.key".to_vec()]
        );
        assert_eq!(read("lego"), [b"lego.crt".to_vec(), b"lego.key".to_vec()]);
        assert_eq!(read("certbot"), [b"chain".to_vec(), b"key".to_vec()]);
        let strange: Vec<&str> = found.strange.keys().map(String::as_str).collect();
        assert_eq!(strange, ["bad name.pem", "twice.pem"]);
        // a file that another takes the place of, under its name, is another one
        let before = found.by_name["certbot"].print.clone();
        fs::write(dir.path().join("chain2"), "chain").unwrap();
        fs::remove_file(live.join("fullchain.pem")).unwrap();
        symlink("../chain2", live.join("fullchain.pem")).unwrap();
        assert_ne!(find(dir.path()).unwrap().by_name["certbot"].print, before);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("p.pem");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        fs::write(dir.path().join("big.pem"), vec![b'a'; 300_000]).unwrap();
        let found = find(dir.path()).unwrap();
        assert!(
            found.by_name["p"]
                .read()
                .unwrap_err()
                .contains("no regular file")
        );
        assert!(
            found.by_name["big"]
                .read()
                .unwrap_err()
                .contains("too large")
        );
        assert!(find(&dir.path().join("none")).is_err());
    }
}
