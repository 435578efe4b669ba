//! The config of another program of ours: bytes of its file and its environment in, what its reader makes of them out. Pure.

use toml::de::DeTable;

use super::error::{Diagnostic, Location};
use super::node::Node;
use super::source::{Source, Variables};
use crate::encoding::decode;

/// Reads a file's bytes, with the variables of `env` over it, as `reader` wants them; `between` looks at what several keys must not
/// say together.
///
/// # Errors
/// All errors of the file's syntax, or all of single keys, or all between keys, whichever comes first, ordered by place.
pub fn read<T>(
    bytes: Vec<u8>,
    variables: Variables,
    env: impl IntoIterator<Item = (String, String)>,
    reader: impl FnOnce(&Node<'_>) -> Option<T>,
    between: impl FnOnce(&T, &Node<'_>),
) -> Result<T, Vec<Diagnostic>> {
    let text = decode(bytes).map_err(|error| {
        let (line, column) = (error.line, error.column);
        vec![Diagnostic {
            location: Location::File { line, column },
            key: String::new(),
            message: error.to_string(),
        }]
    })?;
    let (table, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        let syntax = |error| super::syntax(&text, error);
        return Err(errors.iter().map(syntax).collect());
    }
    let source = Source::new(&text, table.into_inner(), variables, env);
    let read = reader(&source.root());
    if let Some(read) = read.as_ref().filter(|_| source.is_clean()) {
        between(read, &source.root());
    }
    let diagnostics = source.finish();
    match read {
        Some(read) if diagnostics.is_empty() => Ok(read),
        _ => Err(diagnostics),
    }
}
