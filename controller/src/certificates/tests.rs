//! A directory as it changes, with a check command that takes what has no word `unwanted` in its name.

use std::fs;
use std::path::{Path, PathBuf};

use planner::config::Config;

use super::judge::Judge;
use super::shelf::Shelf;
use super::{pem, shelves};

struct Site {
    dir: tempfile::TempDir,
    config: Config,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let text = format!(
            "[haproxy]\nconfig = '{at}/haproxy.cfg'\n\
             check_command = ['sh', '-c', '! grep -q unwanted $(dirname $0)/crt-list', '{{path}}']\n\
             [frontend]\ntls_bind = '127.0.0.1:443'\ncertificates = '{at}/certs'\n\
             [[backend]]\nname = 'nodes'\ntags = {{ role = 'backend' }}\nport = 3000\n"
        );
        fs::create_dir(dir.path().join("certs")).unwrap();
        let config = Config::parse(&text, []).unwrap();
        Self { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("certs").join(name)
    }

    fn put(&self, name: &str) {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let mut text = String::new();
        pem::write_section(&mut text, "CERTIFICATE", made.cert.der());
        pem::write_section(&mut text, "PRIVATE KEY", &made.signing_key.serialize_der());
        fs::write(self.path(name), text).unwrap();
    }

    fn shelf(&self) -> Shelf {
        shelves(&self.config).next().unwrap()
    }

    fn judge(&self) -> Judge {
        Judge::of(&self.config)
    }
}

fn names(shelf: &Shelf) -> Vec<&str> {
    shelf.good.keys().map(String::as_str).collect()
}

fn list(shelf: &Shelf) -> Vec<String> {
    let list = fs::read_to_string(&shelf.store.0.list).unwrap();
    let name = |path: &str| {
        Path::new(path)
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    list.lines().map(name).collect()
}

#[tokio::test]
async fn what_is_broken_or_refused_never_takes_the_place_of_what_is_good() {
    let site = Site::new();
    let (mut shelf, judge) = (site.shelf(), site.judge());
    assert!(shelf.look(&judge, true).await);
    assert!(shelf.store.is_whole() && names(&shelf).is_empty());
    let placeholder = shelf.default.clone();
    site.put("a.pem");
    site.put("unwanted.pem");
    shelf.look(&judge, false).await;
    assert!(names(&shelf).is_empty(), "read before it stood still");
    assert!(shelf.look(&judge, false).await);
    assert_eq!(names(&shelf), ["a"]);
    assert!(
        shelf.bad["unwanted"].starts_with("HAProxy refuses it"),
        "{:?}",
        shelf.bad
    );
    assert_ne!(shelf.default, placeholder);
    assert_eq!(list(&shelf), ["a"]);
    assert!(!shelf.look(&judge, false).await);

    let before = shelf.good.clone();
    fs::write(site.path("a.pem"), "cut").unwrap();
    fs::remove_file(site.path("unwanted.pem")).unwrap();
    shelf.look(&judge, false).await;
    assert!(shelf.look(&judge, false).await);
    assert_eq!(shelf.good, before);
    assert_eq!(shelf.bad.keys().collect::<Vec<_>>(), ["a"]);
    // and another process finds it as it was
    let mut next = site.shelf();
    next.look(&judge, true).await;
    assert_eq!((next.good, next.bad), (before, shelf.bad));
}

#[tokio::test]
async fn a_directory_that_is_empty_or_gone_takes_nothing_away_and_another_file_does() {
    let site = Site::new();
    let (mut shelf, judge) = (site.shelf(), site.judge());
    site.put("a.pem");
    site.put("default.pem");
    shelf.look(&judge, true).await;
    assert_eq!(names(&shelf), ["a", "default"]);
    assert_eq!(shelf.default.as_ref(), shelf.good.get("default"));
    fs::remove_file(site.path("default.pem")).unwrap();
    assert!(shelf.look(&judge, false).await);
    assert_eq!(list(&shelf), ["a"]);
    assert_eq!(shelf.default.as_ref(), shelf.good.get("a"));
    fs::remove_file(site.path("a.pem")).unwrap();
    shelf.look(&judge, false).await;
    assert_eq!(names(&shelf), ["a"]);
    assert!(
        shelf
            .trouble
            .as_ref()
            .unwrap()
            .contains("no certificate left")
    );
    fs::remove_dir(site.dir.path().join("certs")).unwrap();
    shelf.look(&judge, false).await;
    assert_eq!(list(&shelf), ["a"]);
    assert!(shelf.trouble.as_ref().unwrap().contains("stay in force"));
}

#[tokio::test]
async fn copies_that_another_hand_has_removed_are_put_back() {
    let site = Site::new();
    let (mut shelf, judge) = (site.shelf(), site.judge());
    site.put("a.pem");
    shelf.look(&judge, true).await;
    fs::remove_dir_all(shelf.store.folder()).unwrap();
    shelf.look(&judge, false).await;
    assert!(shelf.store.is_whole());
    assert_eq!(list(&shelf), ["a"]);
}
