//! What to do about what is wrong: an error in, a sentence for whoever has to mend it out. Pure.

use std::io;
use std::path::Path;

use planner::config::ReloadMethod;

use crate::haproxy::file::FileError;
use crate::haproxy::reach::LET_IN;
use crate::haproxy::runtime::RuntimeError;
use crate::state::StateError;

/// Of a template that cannot be rendered.
pub(super) const TEMPLATE: &str = "mend the template and reload serf-haproxy; `serf-haproxy check` shows where it fails. \
                                   The file stays as it is until then";
/// Of a config or template that was read again and is not taken.
pub(super) const CONFIG: &str = "mend it and reload serf-haproxy; `serf-haproxy check` says whether it is right. The config \
                                 and template of before are in force until then";
/// Of a template whose reloads nobody could see.
pub(super) const STAMP: &str = "mend the template and reload serf-haproxy; `serf-haproxy check` says whether it is right. \
                                Until then members that join may get no requests";
/// Of keys of the config that a running controller cannot take.
pub(super) const RESTART: &str =
    "restart serf-haproxy (HAProxy goes on meanwhile), or set them back and reload it";
/// Of the control socket.
pub(super) const CONTROL: &str = "mend [control] or the rights of its directory, and restart serf-haproxy; until then \
                                  `status`, `plan` and `approve` may reach nobody";
/// Of a text that would give HAProxy more rights than it has.
pub(super) const RIGHTS: &str = "set `[haproxy] user` and `group` in the config, \"haproxy\" under Debian (or \"root\", if \
                                 that is meant), and reload serf-haproxy. HAProxy and its file stay as they are until then";
/// Of the addresses of this host.
pub(super) const ADDRESSES: &str =
    "a member that claims one of this host's addresses may not be recognised until then";
/// Of more members than may be.
pub(super) const MAX_MEMBERS: &str = "find out who lets them join (`serfctl members`), and close Serf's gossip to them; \
                                      if they are yours, raise `[serf] max_members`";
/// Of HAProxy started with another hand's text.
pub(super) const UNKNOWN_TEXT: &str =
    "serf-haproxy reloads HAProxy with its own file by itself; nothing is to be done";
/// Of other files of HAProxy's configuration.
pub(super) const OTHER_FILES: &str =
    "reload HAProxy after an edit of them, and let serf-haproxy read them";
/// Of a map that HAProxy does not change.
pub(super) const MAP: &str =
    "it is tried again by itself; a reload of HAProxy takes the routes from the file";
/// Of a job that panicked.
pub(super) const PANICKED: &str = "it is tried again by itself; please report it, with the log";

/// Of a file that cannot be read or written.
pub(super) fn of_file(error: &FileError) -> String {
    let dir = |path: &Path| path.parent().unwrap_or(path).display().to_string();
    let again = "it is tried again by itself";
    match error {
        FileError::NoSpace { path, .. } => {
            format!("make room on the file system of {}; {again}", dir(path))
        }
        FileError::Denied { path, .. } => format!(
            "let the user that runs serf-haproxy write to the directory {}; {again}",
            dir(path)
        ),
        FileError::Busy { path, .. } => {
            format!("mount the directory {} instead of the file", dir(path))
        }
        FileError::Foreign { path } => format!(
            "stop serf-haproxy and start it once with `run --adopt`, which takes {} over and keeps a copy; or put the file \
             of before back",
            path.display()
        ),
        FileError::TooManyCopies { path } => format!(
            "remove copies of {} that nobody needs any more, beside it",
            path.display()
        ),
        FileError::NotAFile { path } => format!("make {} a regular file", path.display()),
        FileError::Owner { path, .. } => format!(
            "give {} to the user that runs serf-haproxy; {again}",
            path.display()
        ),
        FileError::Sync { .. } | FileError::Io { .. } => {
            format!("look after the file system; {again}")
        }
    }
}

/// Of the state directory.
pub(super) fn of_state(error: &StateError) -> String {
    match error {
        StateError::Write { path, source } => {
            let dir = path.parent().unwrap_or(path).display();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!(
                    "make room on the file system of {dir}; until then a restart knows less than it should"
                ),
                _ => format!(
                    "let the user that runs serf-haproxy write to {dir}; until then a restart knows less than it should"
                ),
            }
        }
        StateError::Locked { .. } => String::new(),
    }
}

/// Of a HAProxy that does not answer.
pub(super) fn of_haproxy(error: &RuntimeError, way: &ReloadMethod) -> String {
    match error {
        RuntimeError::NoWay { stats, .. } => of_haproxy(stats, way),
        RuntimeError::Connect { source, .. } | RuntimeError::Io { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            LET_IN.to_owned()
        }
        RuntimeError::Denied { .. } => {
            "add `level admin` to that `stats socket` and restart HAProxy".to_owned()
        }
        RuntimeError::Connect { .. } if *way == ReloadMethod::Spawn => {
            "serf-haproxy starts it again by itself; its log says why it ended".to_owned()
        }
        RuntimeError::Connect { .. } => {
            "start it (`systemctl start haproxy`); where it runs, its `stats socket` and `[haproxy] stats_socket` differ"
                .to_owned()
        }
        RuntimeError::Timeout { .. } => {
            "it stands still or is overloaded; it is reloaded by itself where it stays so".to_owned()
        }
        _ => "look into HAProxy's log (`journalctl -u haproxy`)".to_owned(),
    }
}
