//! What an application needs to be tested without an agent (feature `test-util`): everything it may be handed, made to
//! order.

pub mod errors;
