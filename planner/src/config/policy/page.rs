//! Pages that HAProxy answers with itself: a key in, a [`Page`] out; the bytes of its file in, what is wrong with it out. Pure.
//!
//! HAProxy's Configuration Manual, `http-request return`: `errorfile` for a whole response, `file` for a body. It reads a page
//! when it starts, and never again.

use std::path::PathBuf;

use crate::config::node::Node;
use crate::config::value::printed_path;

/// The largest page that HAProxy 2.6 to 3.2 take without a warning: its buffer of 16 kB without what it keeps of it for
/// rewriting (`tune.bufsize`, `tune.maxrewrite`).
pub const MAX_PAGE: usize = 15 * 1024;

/// A file that HAProxy answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The file.
    pub path: PathBuf,
    /// What is in it, by its name.
    pub form: PageForm,
}

/// What a page's file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageForm {
    /// `.http`: a whole response, from its status line on.
    Response,
    /// A body, of this media type.
    Body(&'static str),
}

/// Why a page cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Nothing is in it.
    #[error("is empty; write a page into it, or leave the key out")]
    Empty,
    /// HAProxy would not take it, or warn of it.
    #[error("has {0} bytes, and HAProxy takes {MAX_PAGE} of a page; shorten it")]
    Large(usize),
    /// A body that is a whole response.
    #[error("holds a whole response, and its name says that it is a body; call it .http")]
    Whole,
    /// It does not begin as a response does.
    #[error(
        "is no response: it has to begin with a line such as `HTTP/1.1 503 Service Unavailable`; or call it .html where it is \
         a body alone"
    )]
    NoStatusLine,
    /// Its head does not end.
    #[error("has no empty line between its headers and its body; add one")]
    NoBody,
    /// A header that HAProxy writes itself, or would not take.
    #[error("has a line in its head that cannot be there: `{0}`; take it out")]
    Header(String),
    /// It answers with another status than the key says.
    #[error("answers with status {found}, and status is {expected}; change one of them")]
    Status {
        /// What it says.
        found: u16,
        /// What the config says.
        expected: u16,
    },
}

/// The page of a file, by its name.
pub(in crate::config) fn page(node: &Node<'_>) -> Option<Page> {
    let path = printed_path(node)?;
    let extension = path.extension().and_then(|it| it.to_str());
    let form = match extension {
        Some("http") => PageForm::Response,
        Some("html" | "htm") => PageForm::Body("text/html;charset=utf-8"),
        Some("json") => PageForm::Body("application/json"),
        Some("txt") => PageForm::Body("text/plain;charset=utf-8"),
        _ => {
            return node.refuse(
                "says not what it is; call it .http where it is a whole response with its head, .html, .json or .txt where \
                 it is a body",
            );
        }
    };
    Some(Page { path, form })
}

impl Page {
    /// Looks at the file's bytes; `status` is what its answer is to have, where that is said.
    ///
    /// # Errors
    /// [`PageError`].
    pub fn judge(&self, bytes: &[u8], status: Option<u16>) -> Result<(), PageError> {
        if bytes.is_empty() {
            return Err(PageError::Empty);
        }
        if bytes.len() > MAX_PAGE {
            return Err(PageError::Large(bytes.len()));
        }
        let is_response = bytes.starts_with(b"HTTP/");
        match self.form {
            PageForm::Body(_) if is_response => Err(PageError::Whole),
            PageForm::Body(_) => Ok(()),
            PageForm::Response => response(bytes, status),
        }
    }
}

fn response(bytes: &[u8], expected: Option<u16>) -> Result<(), PageError> {
    let mut rest = bytes;
    let first = line(&mut rest).ok_or(PageError::NoStatusLine)?;
    let found = status_of(first).ok_or(PageError::NoStatusLine)?;
    if let Some(expected) = expected.filter(|expected| *expected != found) {
        return Err(PageError::Status { found, expected });
    }
    let mut length = None;
    loop {
        let header = line(&mut rest).ok_or(PageError::NoBody)?;
        if header.is_empty() {
            break;
        }
        let odd = || PageError::Header(header.escape_ascii().to_string());
        let (name, value) = header_of(header).ok_or_else(odd)?;
        match name.to_ascii_lowercase().as_str() {
            "connection" | "keep-alive" | "transfer-encoding" | "upgrade" => return Err(odd()),
            "content-length" => length = Some(value.parse::<usize>().ok().ok_or_else(odd)?),
            _ => {}
        }
    }
    match length {
        Some(length) if length != rest.len() => {
            Err(PageError::Header(format!("Content-Length: {length}")))
        }
        _ => Ok(()),
    }
}

/// Takes a line, without its end; none where it does not end.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let (line, after) = rest.split_at_checked(end)?;
    *rest = after.get(1..)?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn status_of(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = ["HTTP/1.0 ", "HTTP/1.1 "]
        .iter()
        .find_map(|version| line.strip_prefix(version))?;
    let code = rest.get(..3)?;
    let ends = matches!(rest.as_bytes().get(3), None | Some(b' '));
    let digits = code.bytes().all(|b| b.is_ascii_digit());
    code.parse()
        .ok()
        .filter(|code| ends && digits && (200..=599).contains(code))
}

fn header_of(line: &[u8]) -> Option<(&str, &str)> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let fits = !name.is_empty() && name.bytes().all(is_name);
    let is_plain = !value.bytes().any(|b| b.is_ascii_control() && b != b'\t');
    (fits && is_plain).then(|| (name, value.trim()))
}
