//! The checked certificates of a front end on the disk, from which HAProxy starts: texts in, files that are whole at any
//! moment out.
//!
//! They are their owner's alone. Where the directory of all was made beforehand and lets a group in, the group may read them:
//! for a HAProxy that another user starts.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use planner::config::CertificatePlace;

use super::pem::{self, Certificate};
use crate::owner;

/// What a group needs of a directory.
const GROUP: u32 = 0o050;

/// Where the certificates of one front end lie.
#[derive(Clone, Debug)]
pub(super) struct Store(pub(super) CertificatePlace);

impl Store {
    /// The path of a certificate, as HAProxy knows it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.certificates.join(format!("{name}.pem"))
    }

    /// The folder of all its files.
    pub(super) fn folder(&self) -> &Path {
        self.0.default.parent().unwrap_or(&self.0.default)
    }

    /// What was put there before, as far as it can be read: the default one, and the others.
    pub(super) fn load(&self) -> (Option<Certificate>, BTreeMap<String, Certificate>) {
        let read = |path: &Path| pem::read(&[owner::read(path).ok()?]).ok();
        let list = fs::read_to_string(&self.0.list).unwrap_or_default();
        let named = list.lines().filter_map(|path| {
            let path = Path::new(path);
            let name = path.file_stem()?.to_str()?;
            (path == self.path(name)).then(|| Some((name.to_owned(), read(path)?)))?
        });
        (read(&self.0.default), named.collect())
    }

    /// Whether HAProxy finds all that it was given.
    pub(super) fn is_whole(&self) -> bool {
        let Ok(list) = fs::read_to_string(&self.0.list) else {
            return false;
        };
        self.0.default.is_file() && list.lines().all(|path| Path::new(path).is_file())
    }

    /// Puts these there, and takes away the others.
    ///
    /// # Errors
    /// When it cannot; what HAProxy finds is whole all the same.
    pub(super) fn write(
        &self,
        default: &Certificate,
        others: &BTreeMap<String, Certificate>,
    ) -> io::Result<()> {
        let mode = self.make_folders()?;
        let mut list = String::new();
        for (name, certificate) in others {
            let path = self.path(name);
            put(&path, &certificate.pem, mode)?;
            list.push_str(&format!("{}\n", path.display()));
        }
        put(&self.0.list, &list, mode)?;
        put(&self.0.default, &default.pem, mode)?;
        for entry in fs::read_dir(&self.0.certificates)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str());
            if !name.is_some_and(|name| others.contains_key(name) && path == self.path(name)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Makes the folders where they are missing; gives the mode of their files.
    pub(super) fn make_folders(&self) -> io::Result<u32> {
        let folder = self.folder();
        let all = folder.parent().unwrap_or(folder);
        let beside = all.parent().unwrap_or(all);
        owner::directory(all, beside, owner::CLOSED)?;
        let shared = fs::metadata(all)?.permissions().mode() & GROUP == GROUP;
        let (of_folder, of_file) = if shared {
            (owner::CLOSED | GROUP, 0o640)
        } else {
            (owner::CLOSED, 0o600)
        };
        owner::directory(folder, all, of_folder)?;
        owner::directory(&self.0.certificates, all, of_folder)?;
        Ok(of_file)
    }
}

/// Puts a text in the place of a file, whole or not at all.
pub(super) fn put(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    owner::of_directory(folder, new.as_file())?;
    new.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use planner::config::Config;

    use super::super::placeholder;
    use super::*;

    fn store(folder: &Path) -> Store {
        let text = format!(
            "haproxy = {{ config = '{}/haproxy.cfg' }}\n[frontend]\nbind = ':80'\n\
             [[backend]]\nname = 'nodes'\ntags = {{ role = 'backend' }}\nport = 3000\n",
            folder.display()
        );
        let config = Config::parse(&text, []).unwrap();
        Store(config.certificate_place(&config.frontends[0].name))
    }

    #[test]
    fn what_is_put_there_is_its_owners_alone_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert!(!store.is_whole());
        assert_eq!(store.load(), (None, BTreeMap::new()));
        let made: Vec<Certificate> = (0..3).map(|_| placeholder::make().unwrap()).collect();
        let two = BTreeMap::from([
            ("a".to_owned(), made[1].clone()),
            ("b.c".to_owned(), made[2].clone()),
        ]);
        store.write(&made[0], &two).unwrap();
        assert!(store.is_whole());
        assert_eq!(store.load(), (Some(made[0].clone()), two.clone()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.path("a")), 0o600);
        assert_eq!(mode(store.folder()), 0o700);
        let one = BTreeMap::from([("b.c".to_owned(), made[1].clone())]);
        store.write(&made[0], &one).unwrap();
        assert!(!store.path("a").exists());
        assert_eq!(store.load().1, one);
        fs::remove_file(store.path("b.c")).unwrap();
        assert!(!store.is_whole());
    }

    #[test]
    fn a_group_that_was_let_in_beforehand_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let all = dir.path().join("haproxy.certificates");
        fs::create_dir(&all).unwrap();
        fs::set_permissions(&all, Permissions::from_mode(0o2750)).unwrap();
        let store = store(dir.path());
        store
            .write(&placeholder::make().unwrap(), &BTreeMap::new())
            .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.0.default), 0o640);
        assert_eq!(mode(store.folder()), 0o750);
    }
}
