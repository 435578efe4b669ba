//! The agent that does not answer: what the watcher knows of the agents in, what is wrong and what to do about it out.
//! Pure.

use serf_rpc::{AgentState, ConnectError, Unreached, WatchError};

use crate::error_chain::chain;

/// While it is so.
const MEANWHILE: &str =
    "until then nobody hears who joins or leaves, and all servers stay as they are";

/// What is wrong with the agents, and what to do; nothing while one answers.
pub(super) fn problem(
    agent: &AgentState,
    unreached: &[Unreached],
    key_file: Option<&str>,
) -> Option<(String, String)> {
    match agent {
        AgentState::Connected { .. } => None,
        AgentState::Silent { addr, .. } => Some((
            format!("the Serf agent {addr} is connected and does not answer"),
            format!(
                "it stands still or is overloaded: look at it (`systemctl status serf`), restart it if need be; {MEANWHILE}"
            ),
        )),
        _ => {
            let first = unreached.first()?;
            let said: Vec<String> = unreached.iter().map(|one| said(&one.error)).collect();
            // A key that is refused is told before an agent that is not there: it is the nearer cause.
            let worst = unreached.iter().find(|one| is_refusal(&one.error));
            let advice = advice(&worst.unwrap_or(first).error, key_file);
            Some((said.join("; "), format!("{advice}; {MEANWHILE}")))
        }
    }
}

fn said(error: &WatchError) -> String {
    match error {
        WatchError::Connect(ConnectError::Refused { addr, .. }) => {
            format!("no Serf agent listens on {addr}")
        }
        WatchError::Connect(error) => chain(error),
        WatchError::Call(_) | WatchError::Lost(_) | WatchError::Silent { .. } => {
            format!("the Serf agent was lost: {}", chain(error))
        }
        other => chain(other),
    }
}

fn is_refusal(error: &WatchError) -> bool {
    matches!(
        error,
        WatchError::Connect(
            ConnectError::BadKey { .. }
                | ConnectError::MissingKey { .. }
                | ConnectError::Key { .. }
        )
    )
}

fn advice(error: &WatchError, key_file: Option<&str>) -> String {
    match (error, key_file) {
        (WatchError::Connect(ConnectError::BadKey { .. }), Some(path)) => {
            format!("write the agent's `rpc_auth` to {path}: it is read again at each attempt")
        }
        (
            WatchError::Connect(ConnectError::BadKey { .. } | ConnectError::MissingKey { .. }),
            _,
        ) => "name a file with the agent's `rpc_auth` in `[serf] auth_key_file` and reload serf-haproxy"
            .to_owned(),
        (WatchError::Connect(ConnectError::Key { path, .. }), _) => format!(
            "let the user that runs serf-haproxy read {}: it is read again at each attempt",
            path.display()
        ),
        (WatchError::Connect(ConnectError::Refused { .. }), _) => {
            "start it (`systemctl start serf`); where it runs, its `rpc_addr` and `[serf] addr` differ"
                .to_owned()
        }
        (WatchError::Connect(ConnectError::Resolve { .. }), _) => {
            "mend `[serf] addr` or the name service".to_owned()
        }
        (WatchError::Connect(ConnectError::BadVersion { .. }), _) => {
            "`[serf] addr` is to be the RPC of Serf 0.9 or 0.10".to_owned()
        }
        _ => "look at it: `systemctl status serf`, `serf info`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use serf_rpc::testing::errors;

    use super::*;

    const ADDR: &str = "127.0.0.1:7373";

    fn unreached(error: ConnectError) -> Unreached {
        Unreached {
            addr: ADDR.to_owned(),
            error: Arc::new(error.into()),
            since: SystemTime::UNIX_EPOCH,
        }
    }

    fn lost(errors: impl IntoIterator<Item = ConnectError>) -> (String, String) {
        let list: Vec<_> = errors.into_iter().map(unreached).collect();
        problem(&AgentState::NeverReached, &list, Some("/etc/key")).unwrap()
    }

    #[test]
    fn an_agent_that_is_not_there_one_that_refuses_and_one_that_is_silent_want_different_things() {
        let addr = || ADDR.to_owned();
        let (said, advice) = lost([errors::refused(addr())]);
        assert_eq!(said, "no Serf agent listens on 127.0.0.1:7373");
        assert!(advice.starts_with("start it"), "{advice}");
        let (said, advice) = lost([errors::bad_key(addr())]);
        assert_eq!(said, "agent 127.0.0.1:7373 does not accept the key");
        assert!(advice.contains("/etc/key"), "{advice}");
        let silent = AgentState::Silent {
            addr: addr(),
            since: SystemTime::UNIX_EPOCH,
        };
        let (said, advice) = problem(&silent, &[], None).unwrap();
        assert!(said.contains("does not answer"), "{said}");
        assert!(advice.contains("stands still"), "{advice}");
        let connected = AgentState::Connected { addr: addr() };
        let refused = unreached(errors::refused(addr()));
        assert_eq!(
            problem(&connected, &[refused], None),
            None,
            "another answers"
        );
    }

    #[test]
    fn of_several_agents_each_is_told_and_the_refused_key_is_advised_on() {
        let addr = |port: u16| format!("127.0.0.1:{port}");
        let after = Duration::from_secs(3);
        let (said, advice) = lost([
            errors::connect_timeout(addr(1), after),
            errors::missing_key(addr(2)),
        ]);
        assert_eq!(
            said,
            "agent 127.0.0.1:1 did not answer within 3s; agent 127.0.0.1:2 wants an authentication key"
        );
        assert!(advice.contains("auth_key_file"), "{advice}");
    }
}
