//! A request as routes see it: what a client wrote in, one form for host and path out. Pure.
//!
//! The template has HAProxy bring both into the same form (`templates/routes.cfg.j2`); the request itself goes on as it
//! came. The host is compared in small letters, without port and final dot. The path is compared decoded, several `/` as
//! one, its letters as they are. A path that cannot be decoded, or has a byte 0 or a segment `.` or `..`, whether these are
//! written as `%2e` or not, gets 400: servers disagree about what it means, so no route could keep somebody out.

use std::net::IpAddr;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its host in the form in which it is compared; none where it names none that could be one.
    host: Option<String>,
    /// Its path likewise.
    path: Result<String, BadRequest>,
    /// Its headers in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// Who asks; none is not known.
    pub from: Option<IpAddr>,
    /// The front end that it came to.
    pub frontend: String,
}

/// Why a request gets 400 whatever the routes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// A `%` without two hexadecimal digits behind it.
    #[error("a `%` of its path has no two hexadecimal digits behind it")]
    Escape,
    /// `%00`.
    #[error("its path has a byte 0")]
    Zero,
    /// A segment `.` or `..`.
    #[error("its path has a segment `.` or `..`")]
    DotSegment,
}

impl Request {
    /// A request with this method for the host of its `Host` header and this path, both as they were sent; the path without
    /// `?` and what follows. It came to the front end `main`.
    pub fn new(method: &str, host: Option<&str>, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            host: host.and_then(comparable_host),
            path: comparable_path(path),
            headers: Vec::new(),
            from: None,
            frontend: "main".to_owned(),
        }
    }

    /// Its host in the form in which it is compared.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Its path in the form in which it is compared.
    ///
    /// # Errors
    /// Why there is none.
    pub fn path(&self) -> Result<&str, BadRequest> {
        self.path.as_deref().map_err(|bad| *bad)
    }

    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        let found = self.headers.iter().find(named);
        found.map(|(_, value)| value.trim_matches([' ', '\t']))
    }
}

fn comparable_host(text: &str) -> Option<String> {
    let small = text.trim_matches([' ', '\t']).to_ascii_lowercase();
    let without_digits = small.trim_end_matches(|c: char| c.is_ascii_digit());
    let host = without_digits.strip_suffix(':').unwrap_or(&small);
    let host = host.strip_suffix('.').unwrap_or(host);
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._[]:-".contains(&b);
    let is_host = !host.is_empty() && host != "-" && host.bytes().all(fits);
    is_host.then(|| host.to_owned())
}

fn comparable_path(text: &str) -> Result<String, BadRequest> {
    if !text.starts_with('/') {
        // `*`, and the target of CONNECT, are no paths.
        return Ok("/".to_owned());
    }
    let decoded = decode(text).ok_or(BadRequest::Escape)?;
    if text.contains("%00") {
        return Err(BadRequest::Zero);
    }
    let mut path = String::with_capacity(decoded.len());
    for c in decoded.chars() {
        if c != '/' || !path.ends_with('/') {
            path.push(c);
        }
    }
    // The `$` of HAProxy's expression is before a final newline, too.
    let mut segments = path.strip_suffix('\n').unwrap_or(&path).split('/');
    if segments.any(|segment| matches!(segment, "." | "..")) {
        return Err(BadRequest::DotSegment);
    }
    Ok(path)
}

/// Percent escapes as the bytes that they stand for; what is no UTF-8 then is replaced, for no route has it.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let hex = |b: Option<u8>| char::from(b?).to_digit(16);
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let (high, low) = (hex(bytes.next())?, hex(bytes.next())?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(b);
        }
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

/// What a URL says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// Host and port; none where it has none.
    pub authority: Option<&'a str>,
    /// The path, `/` where it has none.
    pub path: &'a str,
}

impl<'a> Url<'a> {
    /// Takes `https://host:port/path?query`, the same without a scheme, or a path.
    pub fn parse(text: &'a str) -> Option<Self> {
        let bare = text.split(['?', '#']).next()?;
        let rest = match bare.split_once("://") {
            Some(("http" | "https", rest)) => rest,
            Some(_) => return None,
            None => bare,
        };
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let authority = authority.rsplit('@').next().filter(|it| !it.is_empty());
        if authority.is_none() && path.is_empty() {
            return None;
        }
        let path = if path.is_empty() { "/" } else { path };
        Some(Self { authority, path })
    }
}
