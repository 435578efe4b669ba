//! The files of HAProxy's configuration beside ours: the words of the check command in, paths out. Pure.
//!
//! Source: HAProxy's Management Guide, section 3 "Starting HAProxy": `-f <cfg>`, and `--` before a list of them.

use std::path::{Path, PathBuf};

/// The command that checks our file after these.
pub(super) fn check_command(files: &[PathBuf]) -> Vec<String> {
    let mut words = vec!["haproxy".to_owned(), "-c".to_owned()];
    for file in files {
        words.extend(["-f".to_owned(), file.display().to_string()]);
    }
    words.extend(["-f".to_owned(), "{path}".to_owned()]);
    words
}

/// What a check command gives HAProxy to read before our file; nothing where no word of it is a `haproxy`.
pub(super) fn files(check_command: &[String]) -> Vec<PathBuf> {
    let before = check_command.split(|word| word.contains("{path}")).next();
    let words = before.unwrap_or_default();
    let is_named = |word: &str| {
        Path::new(word)
            .file_name()
            .is_some_and(|name| name == "haproxy")
    };
    let names = words.windows(2).enumerate().rev();
    let mut programs = names.filter(|(index, pair)| {
        let [word, next] = pair else { return false };
        let before = index.checked_sub(1).and_then(|index| words.get(index));
        is_named(word) && next.starts_with('-') && before.is_none_or(|before| before != "-f")
    });
    let Some((program, _)) = programs.next() else {
        return Vec::new();
    };
    let arguments = words.get(program + 1..).unwrap_or_default();
    let mut files = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-f" => files.extend(words.next()),
            "--" => files.extend(words.by_ref()),
            _ => {}
        }
    }
    files.into_iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(command: &str) -> String {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let files = files(&words);
        let shown = files.iter().map(|path| path.display().to_string());
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn files_before_ours_are_those_of_the_configuration() {
        for (command, files) in [
            ("haproxy -c -f {path}", ""),
            ("haproxy -c -f /a.cfg -f {path}", "/a.cfg"),
            (
                "/usr/sbin/haproxy -f /a.cfg -c -f /b.d -f {path} -f /c.cfg",
                "/a.cfg /b.d",
            ),
            ("haproxy -c -q -- /a.cfg /b.cfg {path}", "/a.cfg /b.cfg"),
            ("haproxy -c -f /a.cfg -- /b.cfg {path}", "/a.cfg /b.cfg"),
            (
                "docker compose -f /compose.yml exec lb haproxy -c -f /a.cfg -f {path}",
                "/a.cfg",
            ),
            (
                "docker exec haproxy haproxy -c -f /etc/haproxy -f {path}",
                "/etc/haproxy",
            ),
            (
                "kubectl exec lb -- haproxy -c -- /etc/haproxy {path}",
                "/etc/haproxy",
            ),
            ("check-haproxy -f /a.cfg {path}", ""),
        ] {
            assert_eq!(named(command), files, "{command}");
        }
    }

    #[test]
    fn the_command_that_is_made_names_the_files_it_was_made_of() {
        let paths = [PathBuf::from("/a.cfg"), PathBuf::from("/b.d")];
        assert_eq!(files(&check_command(&paths)), paths);
        assert_eq!(files(&check_command(&[])), Vec::<PathBuf>::new());
    }
}
