//! The last lines of the agent's log in, what they tell and nothing else does out. A line may be any node's words: it is
//! shown and no more.

use std::{collections::BTreeSet, time::Duration};

use serf_rpc::{Client, LogLevel};
use tokio::time::timeout;

use super::Finding;
use crate::{exit::Failure, terminal::escape};

/// The agent's log comes at once; a pause this long is its end.
const PAUSE: Duration = Duration::from_millis(200);
/// More of it is not read, and of a line not more than this.
const LINES_MAX: usize = 1024;
const LINE_MAX: usize = 400;
/// So many of those who sent what cannot be read are named.
const SENDERS: usize = 5;
/// How Serf speaks of two nodes with one name.
const CONFLICTS: [&str; 2] = ["serf: Name conflict for ", "Conflicting address for "];
/// How it speaks of gossip that it cannot read, and why it cannot.
const UNREADABLE: [(&str, &str); 3] = [
    (
        "No installed keys could decrypt",
        "it is encrypted with none of this agent's keys",
    ),
    (
        "Encryption is configured but remote state is not encrypted",
        "it is not encrypted, and this agent's is",
    ),
    (
        "Remote state is encrypted and encryption is not configured",
        "it is encrypted, and this agent has no key",
    ),
];

/// What the agent has logged of late, escaped.
///
/// # Errors
///
/// The agent is lost.
pub(super) async fn read(client: &Client) -> Result<Vec<String>, Failure> {
    let mut log = client.monitor(LogLevel::Warn).await?;
    let mut lines = Vec::new();
    for _ in 0..LINES_MAX {
        let Ok(Some(line)) = timeout(PAUSE, log.next()).await else {
            break;
        };
        let Some(line) = line?.into_line() else {
            continue;
        };
        let line = escape(line.as_bytes().trim_ascii_end()).into_owned();
        lines.push(line.chars().take(LINE_MAX).collect());
    }
    Ok(lines)
}

/// Names that two nodes claim, for one of the two is no member; and nodes whose keys do not fit, which are none either.
pub(super) fn of(lines: &[String]) -> Vec<Finding> {
    let last = |words: &[&str]| {
        let mut said = lines.iter().rev();
        said.find(|line| words.iter().any(|words| line.contains(words)))
    };
    let conflict = last(&CONFLICTS).map(|line| {
        Finding::new(
            format!("the agent has logged a conflict of names: {line}"),
            "two nodes claim one name: give each its own -node and restart the newer one",
        )
    });
    let unreadable = UNREADABLE.iter().filter_map(|(words, why)| {
        let line = last(&[words])?;
        let from = senders(lines.iter().filter(|line| line.contains(words)));
        Some(Finding::new(
            format!("the agent cannot read the gossip of {from}: {why}; its log: {line}"),
            "give all agents the same key (`encrypt_key` or `keyring_file`; serfctl keys --list shows those of this \
             cluster), and restart the one whose key is wrong",
        ))
    });
    conflict.into_iter().chain(unreadable).collect()
}

/// Whose messages these are, as far as the lines say: `from=10.0.0.5:41234`, without the port.
fn senders<'a>(lines: impl Iterator<Item = &'a String>) -> String {
    let from = |line: &'a String| {
        let (_, from) = line.rsplit_once("from=")?;
        let from = from.split_whitespace().next()?;
        Some(from.rsplit_once(':').map_or(from, |(host, _)| host))
    };
    let senders: BTreeSet<&str> = lines.filter_map(from).collect();
    let named: Vec<&str> = senders.iter().copied().take(SENDERS).collect();
    match (named.len(), senders.len() - named.len()) {
        (0, _) => "another agent".to_owned(),
        (_, 0) => named.join(", "),
        (_, more) => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_that_do_not_fit_are_told_by_the_log_with_their_senders() {
        let log = lines(&[
            "2026/11/26 20:38:35 [WARN] memberlist: Was able to connect to b over TCP but UDP probes failed",
            "2026/11/26 20:38:36 [ERR] memberlist: failed to receive: No installed keys could decrypt the message from=10.0.0.7:39484",
            "2026/11/26 20:38:37 [ERR] memberlist: Decrypt packet failed: No installed keys could decrypt the message from=10.0.0.5:7946",
            "2026/11/26 20:38:38 [ERR] memberlist: Decrypt packet failed: No installed keys could decrypt the message from=10.0.0.7:7946",
        ]);
        let found = of(&log);
        assert_eq!(found.len(), 1, "{found:?}");
        let text = &found[0].0;
        assert!(
            text.contains("the gossip of 10.0.0.5, 10.0.0.7: it is encrypted with none")
                && text.contains("20:38:38"),
            "{text}"
        );
    }

    #[test]
    fn an_agent_that_cannot_join_for_its_key_is_told_so_without_a_sender() {
        let found = of(&lines(&[
            "[WARN] agent: Join failed: 1 error occurred:\\n\\t* Failed to join 10.0.0.2: No installed keys could decrypt the message",
        ]));
        assert!(
            found[0].0.contains("the gossip of another agent:"),
            "{found:?}"
        );
    }

    #[test]
    fn names_in_conflict_are_told_by_the_log() {
        let found = of(&lines(&[
            "x",
            "[ERR] serf: Name conflict for 'a' with 10.0.0.1",
            "y",
        ]));
        assert!(found[0].0.contains("conflict of names: [ERR]"), "{found:?}");
        assert_eq!(of(&lines(&["x", "y"])), []);
    }
}
