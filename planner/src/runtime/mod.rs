//! The words of HAProxy's Runtime API: steps in, command lines out; replies in, what they say out.

pub mod certificates;
pub mod command;
pub mod refusal;
pub mod reply;
