//! Data in, JSON that is safe for a terminal out: indented by two as `serf` prints it, or on one line.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use crate::terminal::is_unsafe;

/// One document, its last newline included.
pub(crate) fn document_of(value: &impl Serialize) -> Vec<u8> {
    written(value, PrettyFormatter::new())
}

/// One document on one line, its newline included.
pub(crate) fn line_of(value: &impl Serialize) -> Vec<u8> {
    written(value, CompactFormatter)
}

/// The bytes in base64 where text cannot carry them; none where it can. JSON has the text in `name`, with U+FFFD in
/// place of each byte that is not UTF-8 as `serf` has it, and then these in `name_base64`, so that nothing is lost.
pub(crate) fn base64_of(bytes: &[u8]) -> Option<String> {
    str::from_utf8(bytes)
        .is_err()
        .then(|| STANDARD.encode(bytes))
}

/// The same of an entry of a map: both in base64 where either is not UTF-8.
pub(crate) fn base64_pair(key: &[u8], value: &[u8]) -> Option<(String, String)> {
    let text = str::from_utf8(key).is_ok() && str::from_utf8(value).is_ok();
    (!text).then(|| (STANDARD.encode(key), STANDARD.encode(value)))
}

fn written(value: &impl Serialize, formatter: impl Formatter) -> Vec<u8> {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Safe(formatter));
    #[expect(
        clippy::expect_used,
        reason = "writing strings and numbers to memory cannot fail"
    )]
    value
        .serialize(&mut serializer)
        .expect("keys are strings and the writer is memory");
    out.push(b'\n');
    out
}

/// JSON in which what a terminal might obey is written as `\u009b`; those below U+0020 always are.
struct Safe<F>(F);

impl<F: Formatter> Formatter for Safe<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_unsafe(c)) {
            let (before, after) = rest.split_at(at);
            write!(writer, "{before}\\u{:04x}", u32::from(c))?;
            rest = after.strip_prefix(c).unwrap_or_default();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}
