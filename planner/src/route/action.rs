//! What a route does with a request, and how often a client may ask. Pure.

use std::fmt;
use std::time::Duration;

use super::header::HeaderValue;
use crate::model::BackendName;

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to a backend, or to another that has a share.
    Backend {
        /// The backend.
        backend: BackendName,
        /// Who gets some of it.
        split: Split,
    },
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// HAProxy answers itself.
    Respond(Response),
}

/// Shares that go to other backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Each with its share, by name; together at most 100 percent.
    pub to: Vec<SplitTo>,
    /// Whether a client stays where its first request went, by a cookie.
    pub sticky: bool,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitTo {
    /// The backend.
    pub backend: BackendName,
    /// Its share, 0 to 100 percent.
    pub percent: u8,
}

/// Where a client is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The beginning of the new URL where `keeps_path`, else the whole.
    pub to: HeaderValue,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Whether path and query of the request are put behind `to`.
    pub keeps_path: bool,
}

/// An answer of HAProxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Printable ASCII, blanks, tabs and newlines, at most 4096 bytes; empty is none.
    pub body: String,
    /// Of a body.
    pub content_type: HeaderValue,
}

/// So many requests in so long a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// 1 to 1,000,000.
    pub requests: u32,
    /// 1 s to 1 h.
    pub period: Duration,
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            self.requests,
            humantime::format_duration(self.period)
        )
    }
}

/// In a few words: `api, 5% api-v2`, `301 https://…`, `403`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend { backend, split } => {
                write!(f, "{backend}")?;
                let mut to = split.to.iter();
                to.try_for_each(|to| write!(f, ", {}% {}", to.percent, to.backend))
            }
            Self::Redirect(Redirect { to, status, .. }) => write!(f, "{status} {}", to.as_str()),
            Self::Respond(response) => write!(f, "{}", response.status),
        }
    }
}
