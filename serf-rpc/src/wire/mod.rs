//! The wire format: the agent's bytes in, whole values and what they answer out. No socket, no command.

pub(crate) mod codec;
pub(crate) mod framing;
pub(crate) mod protocol;
pub(crate) mod session;
