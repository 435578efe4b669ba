//! What HAProxy prints when it reads a configuration in, its complaints with file and line out. Pure.
//!
//! The form is that of `haproxy -c` and of the master's `reload`:
//! `[ALERT]    (123) : config : parsing [/etc/haproxy/haproxy.cfg:13] : unknown keyword …`.

use std::fmt;
use std::path::PathBuf;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For information.
    Notice,
    /// It starts all the same.
    Warning,
    /// It does not start.
    Alert,
}

/// One complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaproxyMessage {
    /// How bad it is.
    pub level: Level,
    /// The file and the line, from 1, where it says so; what is found after parsing has none.
    pub location: Option<(PathBuf, usize)>,
    /// What it says, without the place; may hold several lines.
    pub text: String,
}

impl fmt::Display for HaproxyMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((path, line)) = &self.location {
            write!(f, "{}:{line}: ", path.display())?;
        }
        f.write_str(&self.text)
    }
}

/// The complaints in what HAProxy printed, in order; other lines are left out, lines that continue one are kept with it.
pub fn messages(output: &str) -> Vec<HaproxyMessage> {
    let mut messages: Vec<HaproxyMessage> = Vec::new();
    for line in output.lines() {
        if let Some(more) = line.strip_prefix("  | ") {
            if let Some(last) = messages.last_mut() {
                last.text.push('\n');
                last.text.push_str(more);
            }
        } else {
            messages.extend(message(line));
        }
    }
    messages
}

/// The first of them for which HAProxy does not start; it begins with notices of its version.
pub(crate) fn first_alert(messages: &[HaproxyMessage]) -> Option<&HaproxyMessage> {
    let mut messages = messages.iter();
    messages.find(|message| message.level == Level::Alert)
}

fn message(line: &str) -> Option<HaproxyMessage> {
    let (level, rest) = line.strip_prefix('[')?.split_once(']')?;
    let level = match level {
        "NOTICE" => Level::Notice,
        "WARNING" => Level::Warning,
        "ALERT" => Level::Alert,
        _ => return None,
    };
    let (pid, rest) = rest.trim_start().strip_prefix('(')?.split_once(") : ")?;
    if pid.is_empty() || !pid.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let text = rest.strip_prefix("config : ").unwrap_or(rest);
    let (location, text) =
        location(text).map_or((None, text), |(location, text)| (Some(location), text));
    Some(HaproxyMessage {
        level,
        location,
        text: text.to_owned(),
    })
}

/// `parsing [/path:13] : text`, `[/path:13] : text`, `Binding [/path:13] for frontend f: text`.
fn location(text: &str) -> Option<((PathBuf, usize), &str)> {
    let start = text.strip_prefix("parsing ").unwrap_or(text);
    let inside = start
        .strip_prefix('[')
        .or_else(|| start.strip_prefix("Binding ["))?;
    let (location, rest) = inside.split_once(']')?;
    let (path, line) = location.rsplit_once(':')?;
    let said = rest.trim_start_matches([' ', ':']);
    Some(((PathBuf::from(path), line.parse().ok()?), said))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn alerts_carry_their_place() {
        let output = "[NOTICE]   (9) : haproxy version is 2.6.12-1+deb12u4\n\
            [NOTICE]   (9) : path to executable is /usr/sbin/haproxy\n\
            [ALERT]    (9) : config : parsing [/etc/a b.cfg:13] : unknown keyword 'bogus' in 'backend' section\n\
            [ALERT]    (9) : config : [/etc/a b.cfg:14] : 'server b/s2' : invalid port '99999'\n\
            [WARNING]  (9) : config : first\n  | second\n\
            [ALERT]    (9) : Proxy 'f': unable to find required default_backend: 'nob'.\n\
            Configuration file is valid\n";
        let found = messages(output);
        let shown: Vec<String> = found.iter().map(|c| format!("{:?} {c}", c.level)).collect();
        assert_eq!(
            shown,
            [
                "Notice haproxy version is 2.6.12-1+deb12u4",
                "Notice path to executable is /usr/sbin/haproxy",
                "Alert /etc/a b.cfg:13: unknown keyword 'bogus' in 'backend' section",
                "Alert /etc/a b.cfg:14: 'server b/s2' : invalid port '99999'",
                "Warning first\nsecond",
                "Alert Proxy 'f': unable to find required default_backend: 'nob'.",
            ]
        );
    }

    #[test]
    fn a_listener_that_cannot_bind_carries_its_place() {
        let output = "[ALERT]    (24080) : Binding [/tmp/a.cfg:11] for frontend f: protocol tcpv4: cannot bind socket \
            (Cannot assign requested address) for [9.9.9.9:80].\n";
        let found = messages(output);
        assert_eq!(found[0].location, Some(("/tmp/a.cfg".into(), 11)));
        assert!(
            found[0]
                .text
                .starts_with("for frontend f: protocol tcpv4: cannot bind")
        );
    }

    #[test]
    fn what_has_no_place_keeps_its_brackets() {
        let found = messages(
            "[ALERT]    (9) : [haproxy.main()] Some protocols failed to start their listeners! Exiting.\n",
        );
        assert_eq!(found[0].location, None);
        assert!(found[0].text.starts_with("[haproxy.main()]"));
    }

    proptest! {
        #[test]
        fn any_output_is_read_without_a_panic(output in "(\\[(ALERT|NOTICE)\\] |\\(1\\) : |parsing |\\[|\\]|:|\n|  \\| |.){0,40}") {
            let _ = messages(&output);
        }
    }
}
