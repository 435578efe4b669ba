//! A text and the one that it replaces in; the server lines that differ, for people, out. Pure.
//!
//! Nothing else of a text is told: passwords may stand there, and whoever sees a server need not see those.

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

/// The longest that is searched for the shortest difference.
const SEARCH: Duration = Duration::from_millis(100);

/// The `server` lines that came with `+`, those that went with `-`, `most` of them; what else differs is counted.
pub fn changed_servers(before: &str, after: &str, most: usize) -> Vec<String> {
    let diff = TextDiff::configure()
        .timeout(SEARCH)
        .diff_lines(before, after);
    let (mut lines, mut servers, mut others) = (Vec::new(), 0, 0);
    for change in diff.iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Equal => continue,
            ChangeTag::Insert => '+',
            ChangeTag::Delete => '-',
        };
        let line = change.value().trim();
        if line.starts_with("server ") {
            servers += 1;
            if servers <= most {
                lines.push(format!("{sign} {line}"));
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            others += 1;
        }
    }
    if servers > most {
        lines.push(format!("and {} more servers", servers - most));
    }
    if others > 0 {
        lines.push(format!(
            "and {others} other lines, which `serf-haproxy plan` shows before they are written"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_and_the_rest_is_counted() {
        let before = "# stamp 1\nuserlist u\n  user a password x\nbackend b\n  server s1 10.0.0.1:80\n  server s2 10.0.0.2:80\n";
        let after = "# stamp 2\nuserlist u\n  user a password y\nbackend b\n  server s2 10.0.0.2:80\n  server s3 10.0.0.3:80\n";
        let told = changed_servers(before, after, 10);
        assert_eq!(told.len(), 3);
        assert_eq!(told[0], "- server s1 10.0.0.1:80");
        assert_eq!(told[1], "+ server s3 10.0.0.3:80");
        assert!(told[2].starts_with("and 2 other lines"), "{told:?}");
        assert_eq!(changed_servers(after, after, 10), [""; 0]);
        let told = changed_servers("", after, 1);
        assert_eq!(told[..2], ["+ server s2 10.0.0.2:80", "and 1 more servers"]);
    }
}
