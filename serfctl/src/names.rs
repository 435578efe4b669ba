//! The command line being completed in, the names of members that the agent knows out.

use std::time::Duration;

use clap_complete::CompletionCandidate;

use crate::{agent::AgentArgs, connect::connect, go_flags};

/// A prompt waits for its completion.
const PATIENCE: Duration = Duration::from_millis(500);

/// The names that a shell takes as they are. None where no agent answers.
///
/// Members choose their names, and bash puts one into the command line without quotes: any other might run as a command.
pub(crate) fn candidates() -> Vec<CompletionCandidate> {
    let agent = AgentArgs::of_completion(go_flags::question(), PATIENCE);
    let names = async {
        let members = connect(&agent).await.ok()?.members().await.ok()?;
        let names = members
            .iter()
            .filter_map(|member| str::from_utf8(member.name()).ok());
        let safe = names.filter(|name| needs_no_quotes(name));
        Some(safe.map(CompletionCandidate::new).collect())
    };
    crate::block_on(async { Ok(names.await) })
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Whether the name means itself in any shell, and is no flag.
fn needs_no_quotes(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:@%+-".contains(c);
    !name.is_empty() && !name.starts_with('-') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_no_shell_obeys_need_no_quotes() {
        for name in ["a", "web-1.example.org", "10.0.0.1:80", "a_b@c%d+e"] {
            assert!(needs_no_quotes(name), "{name}");
        }
        for name in [
            "",
            "-rf",
            "--rpc-addr",
            "zz$(touch x)",
            "a`b`",
            "a;b",
            "a b",
            "a\nb",
            "a'b",
            "a\"b",
            "a\\b",
            "~root",
            "a*",
            "a?",
            "[a]",
            "{a,b}",
            "a&b",
            "a|b",
            "a>b",
            "a<b",
            "a#b",
            "a!b",
            "a=b",
            "a/b",
            "ä",
            "\u{1b}[2J",
        ] {
            assert!(!needs_no_quotes(name), "{name}");
        }
    }
}
