//! HAProxy's configuration language: the text of a file in, its sections, lines and servers out.

pub(crate) mod keywords;
pub(crate) mod lexed;
pub mod lines;
pub mod listeners;
pub(crate) mod options;
mod reader;
mod scope;
pub(crate) mod text;
pub mod time;

pub use options::Options;
pub use scope::{OtherFile, Scope};
pub use text::{ConfigText, Opaque, OpaqueCause, SECTIONS, ServerLine};
