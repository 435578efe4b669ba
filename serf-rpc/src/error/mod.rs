//! What can go wrong, by boundary: making a connection, one call, one stream, and all of them for whoever keeps an agent.
//!
//! The text of each error is one line that names its reason, so none has a `source` that would say it again.

mod call;
mod connect;
mod connection;
mod watch;

pub(crate) use call::ErrorBody;
pub use call::{CallError, CallErrorKind, Outcome, Retry};
pub use connect::ConnectError;
pub(crate) use connect::Reach;
pub use connection::{ConnectionError, StreamError};
pub use watch::WatchError;

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn refused(message: &str) -> CallError {
        CallError::refused("join", message.into(), ErrorBody::Nothing)
    }

    #[test]
    fn an_error_is_one_line_with_its_reason() {
        let words = "1 error occurred:\n\t* Failed to join 127.0.0.99: \x1b[2J\n\n";
        assert_eq!(
            refused(words).to_string(),
            "join: 1 error occurred: * Failed to join 127.0.0.99: \\u{1b}[2J"
        );
        let reason = ConnectionError::Io(Arc::new(io::Error::other("reset by peer")));
        let lost = CallError::new("members", CallErrorKind::Lost { reason, sent: true });
        let handshake = ConnectError::Handshake {
            addr: "agent:7373".into(),
            reason: lost,
        };
        assert_eq!(
            handshake.to_string(),
            "handshake with agent agent:7373 failed: members: connection lost: connection failed: reset by peer"
        );
        let source: Option<&dyn std::error::Error> = std::error::Error::source(&handshake);
        assert!(source.is_none(), "a chain would say it twice");
    }

    #[test]
    fn an_error_says_where_to_try_again_and_whether_it_may_have_been_done() {
        let lost = |sent| CallErrorKind::Lost {
            reason: ConnectionError::Closed,
            sent,
        };
        let late = |sent| CallErrorKind::Timeout {
            after: Duration::ZERO,
            sent,
        };
        for (kind, retry, outcome) in [
            (lost(true), Retry::NewConnection, Outcome::Unknown),
            (lost(false), Retry::NewConnection, Outcome::NotSent),
            (late(true), Retry::SameConnection, Outcome::Unknown),
            (late(false), Retry::SameConnection, Outcome::NotSent),
            (
                refused("Unsupported command").kind,
                Retry::Never,
                Outcome::Refused,
            ),
            (
                refused("timeout waiting for update broadcast").kind,
                Retry::SameConnection,
                Outcome::Refused,
            ),
            (
                CallErrorKind::OtherConnection,
                Retry::Never,
                Outcome::NotSent,
            ),
        ] {
            let error = CallError::new("event", kind);
            assert_eq!(
                (error.retry(), error.outcome()),
                (retry, outcome),
                "{error}"
            );
        }
    }
}
