//! Errors as the client would return them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bstr::BString;

use crate::error::ErrorBody;
use crate::error::{CallError, CallErrorKind, ConnectError, ConnectionError};

/// The address has no agent.
pub fn unresolved(addr: impl Into<String>, reason: io::Error) -> ConnectError {
    ConnectError::Resolve {
        addr: addr.into(),
        reason: Arc::new(reason),
    }
}

/// Nothing listens there.
pub fn refused(addr: impl Into<String>) -> ConnectError {
    ConnectError::Refused { addr: addr.into() }
}

/// The agent does not accept the key that was given.
pub fn bad_key(addr: impl Into<String>) -> ConnectError {
    ConnectError::BadKey {
        addr: addr.into(),
        key_file: None,
    }
}

/// The agent wants a key and none was given.
pub fn missing_key(addr: impl Into<String>) -> ConnectError {
    ConnectError::MissingKey {
        addr: addr.into(),
        key_file: None,
    }
}

/// Connecting took too long.
pub fn connect_timeout(addr: impl Into<String>, after: Duration) -> ConnectError {
    ConnectError::Timeout {
        addr: addr.into(),
        after,
    }
}

/// The agent took the connection, and this came of the handshake.
pub fn handshake_failed(addr: impl Into<String>, reason: CallError) -> ConnectError {
    ConnectError::Handshake {
        addr: addr.into(),
        reason,
    }
}

/// The agent refuses a command in these words.
pub fn call_refused(command: &'static str, message: impl AsRef<[u8]>) -> CallError {
    let message = BString::from(message.as_ref());
    CallError::refused(command, message, ErrorBody::Nothing)
}

/// A command was sent and there is no reply.
pub fn call_timeout(command: &'static str, after: Duration) -> CallError {
    CallError::new(command, CallErrorKind::Timeout { after, sent: true })
}

/// A command was sent and the connection is gone.
pub fn call_lost(command: &'static str, reason: ConnectionError) -> CallError {
    CallError::new(command, CallErrorKind::Lost { reason, sent: true })
}
