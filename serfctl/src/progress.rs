//! How far something is in, a line on the terminal that the next one overwrites out; nothing where stderr is none.

use std::{
    cell::Cell,
    io::{self, IsTerminal as _, Write as _},
};

use crate::terminal::{escape, is_dumb};

/// To the first column, and nothing right of it.
const CLEAR: &str = "\r\x1b[K";
/// Longer lines would wrap, and then not be overwritten.
const WIDTH: usize = 78;

/// The line; it goes away with this.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    shown: Cell<bool>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal() && !is_dumb(),
            shown: Cell::new(false),
        }
    }

    /// Shows it in place of what was shown.
    pub(crate) fn show(&self, text: &str) {
        if self.terminal {
            let line: String = escape(text.as_bytes()).chars().take(WIDTH).collect();
            self.write(&format!("{CLEAR}{line}"));
            self.shown.set(true);
        }
    }

    /// Takes it away, so that a line of data can be printed.
    pub(crate) fn clear(&self) {
        if self.shown.replace(false) {
            self.write(CLEAR);
        }
    }

    fn write(&self, text: &str) {
        // Without it all goes on.
        io::stderr().write_all(text.as_bytes()).unwrap_or_default();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
