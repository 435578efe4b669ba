//! What a file of somebody else's goes on with under us, read from the file or the copy that was kept of it.

use std::path::Path;

use planner::review::taken_over::TakenOver;

use super::file::copies;

/// Takes the lines of the file in this place; where it is missing, those of the copy that was kept last. Nothing where
/// neither can be read: whoever is to write the file says so.
pub(crate) fn read(path: &Path, first_line: &str) -> TakenOver {
    let bytes = std::fs::read(path).ok().filter(|bytes| !bytes.is_empty());
    let bytes = bytes.or_else(|| std::fs::read(copies::newest(path)?).ok());
    bytes.map_or_else(TakenOver::default, |bytes| {
        TakenOver::of(&String::from_utf8_lossy(&bytes), first_line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "# ours";

    #[test]
    fn a_file_that_is_gone_is_remembered_by_the_copy_that_was_kept_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("haproxy.cfg");
        assert_eq!(read(&path, OURS), TakenOver::default());
        for (name, user) in [("", "one"), (".9", "nine"), (".10", "ten")] {
            let copy = dir
                .path()
                .join(format!("haproxy.cfg.before-serf-haproxy{name}"));
            std::fs::write(copy, format!("global\n user {user}\n")).unwrap();
        }
        let ten = TakenOver::of("global\n user ten\n", OURS);
        assert_eq!(read(&path, OURS), ten);
        std::fs::write(&path, "global\n user now\n").unwrap();
        assert_ne!(read(&path, OURS), ten);
    }
}
