//! What is wrong with a config file, and where.

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Where.
    pub location: Location,
    /// The key, `section.key`; empty for a syntax error.
    pub key: String,
    /// What is wrong; what to do.
    pub message: String,
}

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// In the config file.
    File {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// In this environment variable.
    Variable(String),
}
