//! How a command ended in, the code that the shell sees out.

use std::fmt::Write as _;
use std::process::ExitCode;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// It failed, or `check` or `status` found something wrong.
    Failed,
    /// It was called in a wrong way.
    Usage,
    /// The config cannot be used: trying again is of no use.
    Config,
}

impl Exit {
    pub(super) const TOLD: [(Self, &str); 4] = [
        (Self::Done, "done"),
        (Self::Failed, "failed, or something is wrong"),
        (Self::Usage, "wrong usage"),
        (Self::Config, "the config cannot be used"),
    ];

    /// The code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 64,
            Self::Config => 78,
        }
    }

    /// The codes for the help, one a line.
    pub(super) fn help() -> String {
        let mut text = String::from("Exit codes:");
        for (exit, meaning) in Self::TOLD {
            // Writing to a string does not fail.
            let _ = write!(text, "\n  {:<2}  {meaning}", exit.code());
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
