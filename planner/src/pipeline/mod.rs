//! From members, evidence and the time to what HAProxy is to run: the same for `run`, `once`, `plan` and `check`.

mod desired;
mod loaded;
#[cfg(test)]
mod tests;
mod texts;

pub use desired::{Desired, OffendingServer, Text, TooManyMembers, Wanted};
pub use loaded::LoadedConfig;
pub use texts::KnownTexts;
