//! Which of the controller's own files are open to others: a config in, each such file with the mode wanted out.
//!
//! Others are those that are neither its owner nor in its group, as the mode says it. A folder on the way that they may
//! write in, and that is not sticky, opens all that is in it.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use planner::config::Config;

/// Where Docker and Podman mount secrets, by default for all in the container to read.
const CONTAINER_SECRETS: &str = "/run/secrets";

/// A file that others can read or write, and should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exposure {
    /// The file of the config's.
    path: PathBuf,
    /// The key that names it.
    key: &'static str,
    /// What others may do with it.
    may: &'static str,
    /// What lets them: the file, or a folder that it lies in.
    place: PathBuf,
    mode: u32,
    wanted: u32,
    /// Whether nothing is begun with it.
    pub(crate) is_refused: bool,
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, place) = (self.path.display(), self.place.display());
        write!(f, "{path}: others may {} ", self.may)?;
        if self.place == self.path {
            write!(f, "it, its mode is {:04o}", self.mode)?;
        } else {
            write!(f, "it, the mode of {place} is {:04o}", self.mode)?;
        }
        write!(f, " ({}); chmod {:04o} {place}", self.key, self.wanted)?;
        if self.path.starts_with(CONTAINER_SECRETS) {
            f.write_str(", or give the secret `mode: 0400` and the container's user as `uid` where it is mounted")?;
        }
        Ok(())
    }
}

/// What is asked of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nobody else reads or writes it.
    Key,
    /// Nobody else writes in it.
    State,
    /// Nobody else should write it.
    Text,
}

/// Everything that is open to others.
pub(crate) fn find(config: &Config, config_path: &Path) -> Vec<Exposure> {
    let mut found: Vec<Exposure> = Vec::new();
    for (path, key, kind) in files(config, config_path) {
        let path = std::path::absolute(&path).unwrap_or(path);
        found.extend(look(&path, key, kind));
    }
    // A folder is told of once for each of the files, and no more.
    found.dedup_by(|a, b| (&a.path, &a.place, a.may) == (&b.path, &b.place, b.may));
    found
}

fn files(config: &Config, config_path: &Path) -> Vec<(PathBuf, &'static str, Kind)> {
    let haproxy = &config.haproxy;
    let mut files = vec![(config_path.to_owned(), "the config", Kind::Text)];
    let template = haproxy.template.iter();
    files.extend(template.map(|path| (path.clone(), "[haproxy] template", Kind::Text)));
    files.push((haproxy.config.clone(), "[haproxy] config", Kind::Text));
    let users = config.routing.users_files().into_iter();
    files.extend(users.map(|path| (path, "[[route]] basic_auth_file", Kind::Text)));
    let others = config.files.iter();
    files.extend(others.map(|file| (file.template.clone(), "[[file]] template", Kind::Text)));
    let key = config.serf.auth_key_file.iter();
    files.extend(key.map(|path| (path.clone(), "[serf] auth_key_file", Kind::Key)));
    let token = config
        .http
        .iter()
        .filter_map(|http| http.token_file.clone());
    files.extend(token.map(|path| (path, "[http] token_file", Kind::Key)));
    files.push((config.state.dir.clone(), "[state] dir", Kind::State));
    files
}

/// What opens a file to others: itself, and the folders above it, those behind a symlink too.
fn look(path: &Path, key: &'static str, kind: Kind) -> Vec<Exposure> {
    let exposure = |place: &Path, mode: u32, may, keep: u32| Exposure {
        path: path.to_owned(),
        key,
        may,
        place: place.to_owned(),
        mode,
        wanted: mode & keep,
        is_refused: kind != Kind::Text && !path.starts_with(CONTAINER_SECRETS),
    };
    let mut found = Vec::new();
    let real = fs::canonicalize(path).ok();
    if let Some(mode) = mode(path) {
        match kind {
            Kind::Key if mode & 0o002 != 0 => found.push(exposure(path, mode, "write", 0o770)),
            Kind::Key if mode & 0o004 != 0 => found.push(exposure(path, mode, "read", 0o770)),
            Kind::State if mode & 0o002 != 0 => {
                found.push(exposure(path, mode, "write in", 0o700));
            }
            Kind::Text if mode & 0o002 != 0 => found.push(exposure(path, mode, "write", 0o775)),
            _ => {}
        }
    }
    let above = path.ancestors().skip(1);
    let behind = real.iter().flat_map(|real| real.ancestors().skip(1));
    let behind = behind.filter(|folder| !path.starts_with(folder));
    for folder in above.chain(behind) {
        if let Some(mode) = mode(folder)
            && mode & 0o1002 == 0o002
        {
            found.push(exposure(folder, mode, "replace", 0o775));
        }
    }
    found
}

/// The mode of what is there.
fn mode(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    Some(metadata.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn said(path: &Path, kind: Kind) -> Vec<String> {
        let found = look(path, "[serf] auth_key_file", kind);
        assert!(found.iter().all(|found| found.is_refused));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_key_is_the_owners_and_the_groups() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("rpc.key");
        fs::write(&key, "k").unwrap();
        // What systemd's credentials, and secrets with a mode, have.
        for sound in [0o400, 0o440, 0o600, 0o640, 0o660] {
            set(&key, sound);
            assert_eq!(said(&key, Kind::Key), Vec::<String>::new());
        }
        let path = key.display();
        for (mode, may, wanted) in [
            (0o644, "read", "0640"),
            (0o604, "read", "0600"),
            (0o444, "read", "0440"),
            (0o666, "write", "0660"),
        ] {
            set(&key, mode);
            let whole = format!(
                "{path}: others may {may} it, its mode is {mode:04o} ([serf] auth_key_file); chmod {wanted} {path}"
            );
            assert_eq!(said(&key, Kind::Key), [whole]);
        }
    }

    #[test]
    fn a_folder_that_others_write_in_opens_what_is_in_it_unless_it_is_sticky() {
        let dir = tempfile::tempdir().unwrap();
        let (open, other) = (dir.path().join("open"), dir.path().join("other"));
        fs::create_dir_all(open.join("deep")).unwrap();
        fs::create_dir(&other).unwrap();
        let key = open.join("deep/rpc.key");
        fs::write(&key, "k").unwrap();
        set(&key, 0o600);
        set(&open, 0o777);
        let found = said(&key, Kind::Key);
        let folder = open.display();
        let whole = format!("others may replace it, the mode of {folder} is 0777");
        assert!(found.len() == 1 && found[0].contains(&whole), "{found:?}");
        assert!(
            found[0].ends_with(&format!("chmod 0775 {folder}")),
            "{found:?}"
        );
        let link = other.join("link");
        symlink(&key, &link).unwrap();
        assert_eq!(said(&link, Kind::Key).len(), 1, "where the symlink ends");
        set(&open, 0o1777);
        assert_eq!(said(&key, Kind::Key), Vec::<String>::new());
    }

    #[test]
    fn a_state_directory_is_nobody_elses_to_write_in_sticky_or_not() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, open) in [(0o700, 0), (0o755, 0), (0o777, 1), (0o1777, 1)] {
            set(dir.path(), mode);
            assert_eq!(said(dir.path(), Kind::State).len(), open, "{mode:o}");
        }
        set(dir.path(), 0o700);
        let missing = dir.path().join("state");
        assert_eq!(said(&missing, Kind::State), Vec::<String>::new());
    }

    #[test]
    fn a_text_is_said_and_a_containers_secret_too_and_neither_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("config.toml");
        fs::write(&text, "").unwrap();
        set(&text, 0o666);
        let found = look(&text, "the config", Kind::Text);
        assert!(found.len() == 1 && !found[0].is_refused);
        assert!(found[0].to_string().contains("others may write it"));
        let secret = Exposure {
            path: "/run/secrets/key".into(),
            place: "/run/secrets/key".into(),
            key: "[serf] auth_key_file",
            may: "read",
            mode: 0o444,
            wanted: 0o440,
            is_refused: false,
        };
        assert!(secret.to_string().contains("`mode: 0400`"));
    }
}
