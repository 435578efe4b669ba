//! An error in, it and its causes in one line out.

use std::error::Error;

/// The error and its causes, each after a colon.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = anyhow::Chain::new(error).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}
