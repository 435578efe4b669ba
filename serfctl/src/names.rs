//! The command line being completed in, the names of members that the agent knows out.

use std::time::Duration;

use clap_complete::CompletionCandidate;

use crate::{cli::AgentArgs, connect::connect, terminal::is_unsafe};

/// A prompt waits for its completion.
const PATIENCE: Duration = Duration::from_millis(500);

/// The names, as far as a shell can show and take them: text without control characters. None where no agent answers.
pub(crate) fn candidates() -> Vec<CompletionCandidate> {
    let agent = AgentArgs::of_completion(std::env::args_os(), PATIENCE);
    let names = async {
        let members = connect(&agent).await.ok()?.members().await.ok()?;
        let names = members
            .iter()
            .filter_map(|member| str::from_utf8(member.name()).ok());
        let safe = names.filter(|name| !name.is_empty() && !name.contains(is_unsafe));
        Some(safe.map(CompletionCandidate::new).collect())
    };
    crate::block_on(async { Ok(names.await) })
        .ok()
        .flatten()
        .unwrap_or_default()
}
