//! What Serf says of a member: its word in, a status out.

use std::fmt;

/// What Serf says of a member (`serf/serf.go`, `MemberStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberStatus {
    /// `none`: the agent has heard of it and knows nothing else.
    None,
    /// `alive`.
    Alive,
    /// `leaving`: it has announced a graceful leave.
    Leaving,
    /// `left`: it has left gracefully.
    Left,
    /// `failed`: it was declared dead.
    Failed,
    /// A status this library does not know; see [`Member::status_word`](super::Member::status_word).
    Unknown,
}

impl MemberStatus {
    pub(super) const ALL: [Self; 6] = [
        Self::None,
        Self::Alive,
        Self::Leaving,
        Self::Left,
        Self::Failed,
        Self::Unknown,
    ];

    /// Serf's word for it; `unknown` for one that this library does not know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// The status of that word; [`Self::Unknown`] for any other.
    pub fn parse(word: impl AsRef<[u8]>) -> Self {
        let word = word.as_ref();
        Self::ALL
            .into_iter()
            .find(|status| status.as_str().as_bytes() == word)
            .unwrap_or(Self::Unknown)
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Alive => 1,
            Self::Leaving => 2,
            Self::Left => 3,
            Self::Failed => 4,
            Self::Unknown => 5,
        }
    }

    pub(super) fn from_code(code: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|status| status.code() == code)
            .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for MemberStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
