//! The names and values that may reach HAProxy: hostile bytes in, whitelisted types out.
//!
//! A value of one of these types is safe to print into a configuration file and into a line of the Runtime API
//! (HAProxy's Configuration Manual, section 2.2 "Quoting and escaping"; Management Guide, section 9.3).

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// A clone shares it.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes 1 to 64 bytes of `[A-Za-z0-9_.-]` that start with a letter or digit, refuses all else.
            pub fn new(name: impl AsRef<[u8]>) -> Option<Self> {
                let bytes = name.as_ref();
                let (first, rest) = bytes.split_first()?;
                let fits = bytes.len() <= 64
                    && first.is_ascii_alphanumeric()
                    && rest.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
                if !fits {
                    return None;
                }
                str::from_utf8(bytes).ok().map(|name| Self(name.into()))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Ord for $name {
            /// In the order of their bytes; of two that are shared nothing has to be read.
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.0, &other.0) {
                    return Ordering::Equal;
                }
                self.0.cmp(&other.0)
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a HAProxy backend.
    BackendName
}
name! {
    /// The name of a server: the member's name as it is.
    ServerName
}

impl BackendName {
    /// A name for a backend that was given none: its config is refused.
    pub(crate) fn unnamed() -> Self {
        Self("unnamed".into())
    }
}

/// An absolute weight, 0 to 256 (HAProxy's Configuration Manual, `weight`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Weight(u16);

impl Weight {
    /// HAProxy's default.
    pub const DEFAULT: Self = Self(1);
    /// No new requests, as far as others have any weight.
    pub const ZERO: Self = Self(0);
    /// Ten times the default.
    pub(crate) const TEN: Self = Self(10);

    /// Takes 0 to 256.
    pub fn new(weight: u16) -> Option<Self> {
        (weight <= 256).then_some(Self(weight))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// A server of a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct ServerKey {
    /// The backend.
    pub backend: BackendName,
    /// The server in it.
    pub server: ServerName,
}

impl ServerKey {
    /// The server of that name in that backend.
    pub fn new(backend: &BackendName, server: &ServerName) -> Self {
        Self {
            backend: backend.clone(),
            server: server.clone(),
        }
    }

    /// Takes names as HAProxy has them; none where either cannot be a member's.
    pub fn read(backend: &str, server: &str) -> Option<Self> {
        Some(Self {
            backend: BackendName::new(backend)?,
            server: ServerName::new(server)?,
        })
    }
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend, self.server)
    }
}
