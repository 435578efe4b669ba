//! What goes to a client in one piece: a header, a body, and what befalls the connection meanwhile.

use bytes::Bytes;

use super::setting::Trap;

/// Something to send in one piece, and what befalls the connection on the way.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) header: Bytes,
    pub(super) body: Bytes,
    pub(super) trap: Option<Trap>,
}

impl Message {
    pub(super) fn new(header: Bytes, body: Bytes) -> Self {
        Self {
            header,
            body,
            trap: None,
        }
    }

    pub(super) fn with_trap(self, trap: Option<Trap>) -> Self {
        Self { trap, ..self }
    }
}
