//! HAProxy as systemd starts it: what `systemctl show` prints in, whether our drop-in fits and which files the site has out.

use std::path::PathBuf;

/// The unit's command, as Debian has it from bookworm to sid, and as our drop-in has it.
const KNOWN: &str = "/usr/sbin/haproxy -Ws -f $CONFIG ";

/// Why a unit is left alone.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    /// systemd does not know it.
    #[error("there is no haproxy.service; install Debian's package haproxy first")]
    Missing,
    /// Its command is another than Debian's.
    #[error(
        "haproxy.service starts `{0}`, and what setup knows is `{KNOWN}…`; write the drop-in by hand, after that of \
         /usr/share/doc/serf-haproxy/examples, or `systemctl revert haproxy`"
    )]
    Unknown(String),
}

/// The files of the site, in the order in which HAProxy reads them: from what `systemctl show haproxy.service` prints, and
/// /etc/default/haproxy, where an assignment wins.
pub(super) fn files(shown: &str, defaults: &str) -> Result<Vec<PathBuf>, UnitError> {
    let value = |key: &str| {
        let mut lines = shown.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    if value("LoadState") != Some("loaded") {
        return Err(UnitError::Missing);
    }
    let command = value("ExecStart")
        .and_then(|start| start.split_once("argv[]="))
        .map_or("", |(_, rest)| rest.split(" ;").next().unwrap_or(rest));
    if !command.starts_with(KNOWN) {
        return Err(UnitError::Unknown(command.to_owned()));
    }
    let of_unit = value("Environment").and_then(|variables| config(&split(variables)));
    let of_defaults = config(&split(defaults));
    let config = of_defaults.or(of_unit);
    let config = config.unwrap_or_else(|| "/etc/haproxy/haproxy.cfg".to_owned());
    let files = config.split_whitespace().filter(|word| *word != "-f");
    Ok(files.map(PathBuf::from).collect())
}

/// The last assignment of CONFIG, without its quotes.
fn config(assignments: &[String]) -> Option<String> {
    let mut values = assignments
        .iter()
        .filter_map(|word| word.strip_prefix("CONFIG="));
    values.next_back().map(str::to_owned)
}

/// Words of a line or of an environment file: quotes hold them together and fall away, comments are left out.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for line in text.lines().filter(|line| !line.trim().starts_with('#')) {
        let (mut word, mut quote) = (String::new(), None);
        for letter in line.chars() {
            match (letter, quote) {
                ('"' | '\'', None) => quote = Some(letter),
                (_, Some(open)) if letter == open => quote = None,
                (_, None) if letter.is_whitespace() => words.push(std::mem::take(&mut word)),
                _ => word.push(letter),
            }
        }
        words.push(word);
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "LoadState=loaded\n\
        Environment=\"CONFIG=/etc/haproxy/haproxy.cfg\" PIDFILE=/run/haproxy.pid \"EXTRAOPTS=-S /run/haproxy-master.sock\"\n\
        ExecStart={ path=/usr/sbin/haproxy ; argv[]=/usr/sbin/haproxy -Ws -f $CONFIG -p $PIDFILE $EXTRAOPTS ; pid=0 }\n";

    #[test]
    fn an_assignment_in_the_defaults_goes_before_that_of_the_unit() {
        let paths = |paths: &[&str]| Ok(paths.iter().map(PathBuf::from).collect());
        assert_eq!(
            files(SHOWN, "#CONFIG=/a\n"),
            paths(&["/etc/haproxy/haproxy.cfg"])
        );
        let defaults = "CONFIG=\"/a.cfg -f /b.cfg\" # mine\nEXTRAOPTS='-de -m 16'\n";
        assert_eq!(files(SHOWN, defaults), paths(&["/a.cfg", "/b.cfg"]));
    }

    #[test]
    fn a_unit_that_is_missing_or_starts_otherwise_is_left_alone() {
        assert_eq!(files("LoadState=not-found\n", ""), Err(UnitError::Missing));
        let other = SHOWN.replace("-Ws -f $CONFIG", "-Ws -f /my.cfg");
        assert!(matches!(files(&other, ""), Err(UnitError::Unknown(_))));
    }
}
