//! The pages of docs/reference: what code says in, whether its page says the same out. Tests of each crate hold theirs.

mod commands;
mod page;

pub use commands::commands;
pub use page::{hold, table};
