//! A folder of our own in which a text lies for a check command as if it lay where it belongs; gone when dropped.
//!
//! HAProxy takes relative paths from its working directory; by `default-path config` or `parent` from the folder that a
//! file lies in, or the one above. For those that ask so, both are rebuilt here of symlinks.
//!
//! Source: HAProxy's Configuration Manual, section 3.1 "Process management and security", `default-path`.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use planner::syntax::lines::Lines;
use tempfile::TempDir;

/// More neighbours than these are left out.
const MOST: usize = 4096;

/// The folder.
#[derive(Debug)]
pub(crate) struct Scratch {
    _root: TempDir,
    file: PathBuf,
}

impl Scratch {
    /// Puts a text into a folder below the one for temporary files, `TMPDIR` or `/tmp`; `others` are the other texts of the
    /// configuration, and `place` is where the text belongs.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) fn new<'a>(
        text: &'a str,
        others: impl Iterator<Item = &'a str>,
        place: &Path,
    ) -> io::Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("serf-haproxy-check-")
            .tempdir()?;
        let folder = place.parent().unwrap_or(Path::new("/"));
        let name = folder.file_name().unwrap_or("root".as_ref());
        let inner = root.path().join(name);
        fs::create_dir(&inner)?;
        if asks_for_neighbours(others.chain([text])) {
            mirror(folder, &inner, place.file_name());
            if let Some(outer) = folder.parent() {
                mirror(outer, root.path(), Some(name));
            }
        }
        let file = inner.join(place.file_name().unwrap_or("haproxy.cfg".as_ref()));
        let mut written = fs::File::create_new(&file)?;
        written.write_all(text.as_bytes())?;
        Ok(Self { _root: root, file })
    }

    /// Where the text is.
    pub(crate) fn path(&self) -> &Path {
        &self.file
    }
}

fn asks_for_neighbours<'a>(texts: impl Iterator<Item = &'a str>) -> bool {
    let lines = Lines::parse_all(texts);
    let mut all = lines.sections().flat_map(|section| &section.lines);
    all.any(|line| line.word(0) == "default-path" && matches!(line.word(1), "config" | "parent"))
}

/// Lets everything in a folder but one name be found in another, as far as it can be read.
fn mirror(from: &Path, to: &Path, but: Option<&std::ffi::OsStr>) {
    let Ok(entries) = fs::read_dir(from) else {
        return;
    };
    for entry in entries.flatten().take(MOST) {
        let name = entry.file_name();
        if Some(name.as_os_str()) != but {
            // one that cannot be made is one that HAProxy does not find, and says so
            let _ = symlink(entry.path(), to.join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_lies_alone_unless_paths_are_taken_from_its_folder() {
        let site = tempfile::tempdir().unwrap();
        let folder = site.path().join("haproxy");
        fs::create_dir_all(folder.join("errors")).unwrap();
        fs::write(folder.join("haproxy.cfg"), "old").unwrap();
        fs::write(folder.join("site.pem"), "key").unwrap();
        fs::write(site.path().join("up.map"), "map").unwrap();
        let place = folder.join("haproxy.cfg");
        let put = |text: &str, other: &'static str| {
            Scratch::new(text, std::iter::once(other), &place).unwrap()
        };
        let alone = put("global\n", "");
        assert_eq!(fs::read_to_string(alone.path()).unwrap(), "global\n");
        assert!(!alone.path().with_file_name("site.pem").exists());
        for (text, other) in [
            ("global\n default-path config\n", ""),
            ("global\n", "global\n default-path\tparent # x\n"),
        ] {
            let scratch = put(text, other);
            let path = scratch.path().to_owned();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let beside = |name| path.with_file_name(name);
            assert_eq!(fs::read_to_string(beside("site.pem")).unwrap(), "key");
            assert!(beside("errors").is_dir());
            let up = path.parent().unwrap().join("../up.map");
            assert_eq!(fs::read_to_string(up).unwrap(), "map");
            drop(scratch);
            assert!(!path.exists());
        }
        assert_eq!(fs::read_to_string(&place).unwrap(), "old");
        assert_eq!(fs::read_to_string(folder.join("site.pem")).unwrap(), "key");
    }
}
