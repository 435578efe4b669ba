//! Data in, the JSON that `serf` prints out: indented by two, and safe for a terminal.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::terminal::is_unsafe;

/// One document, its last newline included.
pub(crate) fn document_of(value: &impl Serialize) -> Vec<u8> {
    written(value, SafeFormatter(PrettyFormatter::new()))
}

/// One document on one line, its newline included.
pub(crate) fn line_of(value: &impl Serialize) -> Vec<u8> {
    written(value, SafeLine)
}

fn written(value: &impl Serialize, formatter: impl Formatter) -> Vec<u8> {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
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

/// Writes a string's characters, those that a terminal may obey as `\u`.
fn safe_fragment<W: ?Sized + io::Write>(writer: &mut W, fragment: &str) -> io::Result<()> {
    let mut rest = fragment;
    while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_unsafe(c)) {
        let (before, after) = rest.split_at(at);
        write!(writer, "{before}\\u{:04x}", u32::from(c))?;
        rest = after.strip_prefix(c).unwrap_or_default();
    }
    writer.write_all(rest.as_bytes())
}

/// Everything on one line.
struct SafeLine;

impl Formatter for SafeLine {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        safe_fragment(writer, fragment)
    }
}

/// Indented JSON in which what a terminal might obey is written as `\u009b`; those below U+0020 always are.
struct SafeFormatter(PrettyFormatter<'static>);

impl Formatter for SafeFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        safe_fragment(writer, fragment)
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
