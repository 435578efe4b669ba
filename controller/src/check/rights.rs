//! What a user may do with files: whoever calls, and the user that the controller runs as where that can be told.
//!
//! Of the caller the system is asked. Of another user the mode bits are read, path by path; access lists are not.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use planner::config::{Config, ReloadMethod};
use rustix::fs::Access;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::finding::Finding;
use crate::exposure::{self, Exposure};
use crate::haproxy::reach::LET_IN;

/// The key of the socket that HAProxy makes as the config says.
const STATS_SOCKET: &str = "[haproxy] stats_socket";

/// How long the controller may take to be connected to.
const CONNECT: Duration = Duration::from_secs(1);

/// What is wanted of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// To read it.
    Read,
    /// To make and replace files in this folder; where it is not there, to make it.
    Fill,
    /// To connect to it.
    Connect,
}

/// A file that `run` needs.
#[derive(Debug)]
struct Need {
    path: PathBuf,
    want: Want,
    /// The key that names it.
    key: &'static str,
}

/// Another user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    uid: u32,
    groups: Vec<u32>,
    name: String,
}

/// Everything that the caller, or the user that the controller runs as, may not do and has to.
pub(super) async fn look(config: &Config, config_path: &Path) -> Vec<Finding> {
    let needs = needs(config, config_path);
    let own = needs.iter().filter_map(|need| {
        let blocked = need.blocked(|path, access| rustix::fs::access(path, access).is_ok())?;
        Some(need.finding(&blocked, None))
    });
    let mut found: Vec<Finding> = own.collect();
    found.extend(missing_keys(config));
    found.extend(exposure::find(config, config_path).iter().map(exposed));
    if rustix::process::geteuid().is_root()
        && let Some(user) = service_user(config).await
    {
        found.extend(needs.iter().filter_map(|need| {
            let blocked = need.blocked(|path, access| user.may(path, access))?;
            Some(need.finding(&blocked, Some(&user)))
        }));
    }
    found
}

/// A file that is open to others.
fn exposed(exposure: &Exposure) -> Finding {
    if exposure.is_refused {
        Finding::error(format!("{exposure}; `run` refuses to start"))
    } else {
        Finding::warning(exposure.to_string())
    }
}

/// Files with keys that are not there. What else is missing is said by whoever reads it.
fn missing_keys(config: &Config) -> impl Iterator<Item = Finding> {
    let is_missing = |path: &Path| matches!(fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
    let key = config.serf.auth_key_file.iter();
    let key = key.map(|path| (path, "[serf] auth_key_file", "the agent's rpc_auth"));
    let token = config.http.iter().flat_map(|http| &http.token_file);
    let token = token.map(|path| (path, "[http] token_file", "a word that nobody guesses"));
    let missing = key.chain(token).filter(move |(path, ..)| is_missing(path));
    missing.map(|(path, key, what)| {
        Finding::error(format!(
            "{}: is not there ({key}); write {what} there, or take the key out",
            path.display()
        ))
    })
}

fn needs(config: &Config, config_path: &Path) -> Vec<Need> {
    let haproxy = &config.haproxy;
    let folder = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let read = |path: &Path, key| Need {
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        want: Want::Read,
        key,
    };
    let fill = |path: PathBuf, key| Need {
        path,
        want: Want::Fill,
        key,
    };
    let connect = |path: &Path, key| Need {
        path: path.to_owned(),
        want: Want::Connect,
        key,
    };
    let mut needs = vec![read(config_path, "the config")];
    let template = haproxy.template.iter();
    needs.extend(template.map(|path| read(path, "[haproxy] template")));
    let key = config.serf.auth_key_file.iter();
    needs.extend(key.map(|path| read(path, "[serf] auth_key_file")));
    let token = config
        .http
        .iter()
        .filter_map(|http| http.token_file.as_ref());
    needs.extend(token.map(|path| read(path, "[http] token_file")));
    let target = fs::canonicalize(&haproxy.config).unwrap_or_else(|_| haproxy.config.clone());
    if target.exists() {
        needs.push(read(&target, "[haproxy] config"));
    }
    needs.push(fill(folder(&target), "[haproxy] config"));
    for file in &config.files {
        needs.push(read(&file.template, "[[file]] template"));
        needs.push(fill(folder(&file.path), "[[file]] path"));
    }
    needs.push(fill(config.state.dir.clone(), "[state] dir"));
    needs.push(fill(folder(&config.control.socket), "[control] socket"));
    if haproxy.stats_socket.exists() {
        needs.push(connect(&haproxy.stats_socket, STATS_SOCKET));
    }
    if let ReloadMethod::MasterSocket(socket) = &haproxy.reload
        && socket.exists()
    {
        needs.push(connect(socket, "[haproxy] master_socket"));
    }
    needs
}

impl Need {
    /// The file or folder that is in the way; none where nothing is. One that is missing is another's to say, but for a
    /// folder that cannot be made.
    fn blocked(&self, may: impl Fn(&Path, Access) -> bool) -> Option<PathBuf> {
        let mut target = self.path.as_path();
        if self.want == Want::Fill {
            while !target.exists() {
                target = target.parent()?;
            }
        }
        let above: Vec<&Path> = target.ancestors().skip(1).collect();
        let mut above = above.into_iter().rev();
        if let Some(closed) = above.find(|folder| !may(folder, Access::EXEC_OK)) {
            return Some(closed.to_owned());
        }
        if !target.exists() {
            return None;
        }
        let access = match self.want {
            Want::Read => Access::READ_OK,
            Want::Connect => Access::WRITE_OK,
            Want::Fill => Access::WRITE_OK | Access::EXEC_OK,
        };
        (!may(target, access)).then(|| target.to_owned())
    }

    fn finding(&self, blocked: &Path, user: Option<&User>) -> Finding {
        let path = self.path.display();
        let what = match self.want {
            Want::Read => "be read",
            Want::Fill if self.path.exists() => "be written in",
            Want::Fill => "be made",
            Want::Connect => "be connected to",
        };
        let key = self.key;
        let who = match user {
            Some(user) => format!("by {}, whom the controller runs as", user.name),
            None => format!("by {}", name_of(rustix::process::geteuid().as_raw())),
        };
        let to_be_made = self.want == Want::Fill && !self.path.exists();
        let right = match self.want {
            _ if blocked != self.path && !to_be_made => "enter",
            Want::Read => "read",
            Want::Fill | Want::Connect => "write to",
        };
        let place = blocked.display();
        let unit = match key {
            "[state] dir" if to_be_made => ", or let its unit make it (StateDirectory=)",
            "[control] socket" if to_be_made => ", or let its unit make it (RuntimeDirectory=)",
            _ => "",
        };
        let way_out = if key == STATS_SOCKET && blocked == self.path {
            LET_IN.to_owned()
        } else {
            format!("let that user {right} {place}, or run as another{unit}")
        };
        let text = format!("{path}: cannot {what} {who} ({key}); {way_out}");
        // without a control socket the controller goes on
        if key == "[control] socket" {
            Finding::warning(text)
        } else {
            Finding::error(text)
        }
    }
}

/// The user that the controller runs as, or ran: whoever listens on its control socket, else who has its state; none
/// for root, who may do everything.
async fn service_user(config: &Config) -> Option<User> {
    let stream = timeout(CONNECT, UnixStream::connect(&config.control.socket)).await;
    let listening = stream.ok().and_then(Result::ok);
    let listening = listening.and_then(|stream| Some(stream.peer_cred().ok()?.uid()));
    let owner = || Some(fs::metadata(&config.state.dir).ok()?.uid());
    let uid = listening.or_else(owner)?;
    (uid != 0).then(|| User::of(uid))
}

impl User {
    /// With its groups, as the files of this host tell.
    fn of(uid: u32) -> Self {
        let name = name_of(uid);
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = fs::read_to_string("/etc/group").unwrap_or_default();
        Self {
            uid,
            groups: groups_of(&name, uid, &passwd, &group),
            name,
        }
    }

    fn may(&self, path: &Path, access: Access) -> bool {
        fs::metadata(path).is_ok_and(|metadata| self.may_by(&metadata, access))
    }

    fn may_by(&self, metadata: &Metadata, access: Access) -> bool {
        self.allows(metadata.uid(), metadata.gid(), metadata.mode(), access)
    }

    fn allows(&self, owner: u32, group: u32, mode: u32, access: Access) -> bool {
        let shift = if owner == self.uid {
            6
        } else if self.groups.contains(&group) {
            3
        } else {
            0
        };
        let bits = mode >> shift;
        let wanted = [
            (Access::READ_OK, 4),
            (Access::WRITE_OK, 2),
            (Access::EXEC_OK, 1),
        ];
        wanted
            .iter()
            .all(|(flag, bit)| !access.contains(*flag) || bits & bit != 0)
    }
}

fn name_of(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut lines = passwd.lines().map(|line| line.split(':'));
    let name = lines.find_map(|mut fields| {
        let name = fields.next()?;
        let is_it = fields.nth(1)?.parse() == Ok(uid);
        is_it.then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("user {uid}"))
}

/// The primary group and all others.
fn groups_of(name: &str, uid: u32, passwd: &str, group: &str) -> Vec<u32> {
    let of_uid = |line: &str| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse() == Ok(uid)).then_some(())?;
        fields.next()?.parse().ok()
    };
    let has_name = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        let mut members = fields.next()?.split(',');
        members.any(|member| member == name).then_some(gid)
    };
    let primary = passwd.lines().find_map(of_uid);
    let others = group.lines().filter_map(has_name);
    primary.into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_the_primary_one_and_those_that_list_the_name() {
        let passwd = "root:x:0:0::/:/bin/sh\nsvc:x:990:991::/:/bin/false\n";
        let group = "haproxy:x:105:other,svc\nsvc:x:991:\nodd\nxsvc:x:7:svc2\n";
        assert_eq!(groups_of("svc", 990, passwd, group), [991, 105]);
        assert_eq!(groups_of("nobody", 1, passwd, group), Vec::<u32>::new());
    }

    #[test]
    fn the_first_class_that_a_user_is_in_decides() {
        let user = User {
            uid: 990,
            groups: vec![991, 105],
            name: "svc".to_owned(),
        };
        let read = Access::READ_OK;
        assert!(user.allows(0, 0, 0o644, read));
        assert!(!user.allows(0, 0, 0o640, read));
        assert!(user.allows(0, 105, 0o640, read));
        assert!(!user.allows(0, 105, 0o604, read), "the group decides");
        assert!(!user.allows(990, 0, 0o077, read), "the owner decides");
        let fill = Access::WRITE_OK | Access::EXEC_OK;
        assert!(user.allows(990, 0, 0o300, fill));
        assert!(!user.allows(990, 0, 0o200, fill));
    }

    #[test]
    fn what_is_in_the_way_is_the_first_folder_that_is_closed_or_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("open/closed/file");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        let need = |path: &Path, want| Need {
            path: path.to_owned(),
            want,
            key: "the config",
        };
        let closed = path.parent().unwrap();
        let may = |blocked: &'static str| move |path: &Path, _: Access| !path.ends_with(blocked);
        assert_eq!(need(&path, Want::Read).blocked(may("nothing")), None);
        assert_eq!(
            need(&path, Want::Read).blocked(may("closed")).as_deref(),
            Some(closed)
        );
        assert_eq!(
            need(&path, Want::Read).blocked(may("file")),
            Some(path.clone())
        );
        let new = closed.join("new/er");
        assert_eq!(
            need(&new, Want::Fill).blocked(may("closed")).as_deref(),
            Some(closed)
        );
        let missing = closed.join("missing");
        assert_eq!(need(&missing, Want::Read).blocked(may("missing")), None);
    }

    #[test]
    fn a_finding_names_file_key_user_and_way_out() {
        let user = User {
            uid: 990,
            groups: Vec::new(),
            name: "svc".to_owned(),
        };
        let need = Need {
            path: "/".into(),
            want: Want::Fill,
            key: "[state] dir",
        };
        assert_eq!(
            need.finding(Path::new("/"), Some(&user)).text,
            "/: cannot be written in by svc, whom the controller runs as ([state] dir); let that user write to /, \
             or run as another"
        );
        let socket = |path: &str| Need {
            path: path.into(),
            want: Want::Connect,
            key: STATS_SOCKET,
        };
        let shut = socket("/s").finding(Path::new("/s"), Some(&user)).text;
        assert!(shut.contains("`[haproxy] stats_socket_group`"), "{shut}");
        let behind = socket("/closed/s").finding(Path::new("/closed"), Some(&user));
        assert!(behind.text.contains("let that user enter /closed"));
    }
}
