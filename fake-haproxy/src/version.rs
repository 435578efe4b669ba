//! The versions of HAProxy that are imitated, and in what they differ.

/// A version of HAProxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 2.6.12, Debian bookworm's.
    V2_6,
    /// 3.0.11, Debian trixie's.
    V3_0,
    /// 3.2.26, Debian sid's.
    V3_2,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V2_6, Self::V3_0, Self::V3_2];

    /// What it prints of itself.
    pub fn text(self) -> &'static str {
        match self {
            Self::V2_6 => "2.6.12-1+deb12u4",
            Self::V3_0 => "3.0.11-1+deb13u4",
            Self::V3_2 => "3.2.26-1",
        }
    }

    /// Whether it is 3.0 or later.
    pub(crate) fn is_3(self) -> bool {
        self >= Self::V3_0
    }
}
