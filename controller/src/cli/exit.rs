//! How a command ended in, the code that the shell sees out.

use std::fmt::Write as _;
use std::process::ExitCode;

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or nothing to do.
    Done,
    /// It failed, or `check` or `status` found something wrong.
    Failed,
    /// `plan` found something to do.
    Pending,
    /// It was called in a wrong way.
    Usage,
    /// Config or template cannot be used, or the file is somebody else's: trying again is of no use.
    Config,
    /// As a program ended that was called.
    Called(u8),
}

impl Exit {
    /// Those that the help tells: a program that is called has its own.
    pub(crate) const TOLD: [(Self, &str); 5] = [
        (Self::Done, "done, or nothing to do"),
        (Self::Failed, "failed, or something is wrong"),
        (
            Self::Pending,
            "plan: something to do; setup: nobody said yes",
        ),
        (Self::Usage, "wrong usage"),
        (
            Self::Config,
            "config or template cannot be used, or the file is somebody else's",
        ),
    ];

    /// The code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Pending => 2,
            Self::Usage => 64,
            Self::Config => 78,
            Self::Called(code) => code,
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
