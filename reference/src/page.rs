//! A page of docs/reference: what code says of it in, whether it stands there out; `UPDATE=1` writes it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the pages are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference")
}

/// Holds a page to `said`, which it has to be from the first line of that on. What is above is written by hand.
///
/// With `UPDATE=1` it is written instead.
///
/// # Panics
/// When the page says something else, or cannot be written.
pub fn hold(page: &str, said: &str) {
    let path = directory().join(page);
    let is = fs::read_to_string(&path).unwrap_or_default();
    let above = above(&is, said);
    let wanted = format!("{above}{said}");
    if std::env::var_os("UPDATE").is_some() {
        let written = fs::write(&path, wanted);
        assert!(written.is_ok(), "docs/reference/{page}: {written:?}");
        return;
    }
    if let Some((number, is, wanted)) = difference(&is, &wanted) {
        assert_eq!(
            is, wanted,
            "docs/reference/{page}, line {number}; with UPDATE=1 this test writes the page"
        );
    }
}

/// What a page has above the first line of `said`, which is all of it where it has no such line.
fn above<'a>(is: &'a str, said: &str) -> &'a str {
    let first = said.lines().next().unwrap_or_default();
    let mut from = 0;
    for line in is.split_inclusive('\n') {
        if line.trim_end() == first {
            return is.get(..from).unwrap_or_default();
        }
        from += line.len();
    }
    is
}

/// The first line that differs, counted from 1, in the one and in the other.
fn difference<'a>(is: &'a str, wanted: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let (mut is, mut wanted) = (is.split('\n'), wanted.split('\n'));
    let mut number = 0;
    loop {
        number += 1;
        match (is.next(), wanted.next()) {
            (None, None) => return None,
            (is, wanted) if is == wanted => {}
            (is, wanted) => {
                return Some((
                    number,
                    is.unwrap_or_default(),
                    wanted.unwrap_or("(the end)"),
                ));
            }
        }
    }
}

/// A table; a `|` in a cell does not end it.
pub fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let line = |cells: [String; N]| {
        format!(
            "| {} |\n",
            cells.map(|it| it.replace('|', "\\|")).join(" | ")
        )
    };
    let rows: String = rows.into_iter().map(line).collect();
    let rule = "|---".repeat(N);
    format!("{}{rule}|\n{rows}", line(head.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_by_hand_above_the_first_line_that_is_said() {
        assert_eq!(
            above("# A\n\nb\n| c |\nold\n", "| c |\nnew\n"),
            "# A\n\nb\n"
        );
        assert_eq!(above("# A\n", "| c |\n"), "# A\n");
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(difference("a\nb\n", "a\nc\n"), Some((2, "b", "c")));
        assert_eq!(difference("a\nb\n", "a\n"), Some((2, "b", "")));
    }

    #[test]
    fn a_table_holds_what_ends_a_cell() {
        let rows = [["a|b", "c"].map(str::to_owned)];
        assert_eq!(
            table(["x", "y"], rows),
            "| x | y |\n|---|---|\n| a\\|b | c |\n"
        );
    }

    /// The index names each page, and no other.
    #[test]
    fn the_index_names_each_page_and_no_other() {
        let index = fs::read_to_string(directory().join("README.md")).unwrap();
        let linked = index
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let mut linked: Vec<String> = linked
            .filter(|it| !it.contains('/'))
            .map(str::to_owned)
            .collect();
        let pages = fs::read_dir(directory()).unwrap();
        let pages = pages.map(|page| page.unwrap().file_name().into_string().unwrap());
        let mut pages: Vec<String> = pages.filter(|page| page != "README.md").collect();
        linked.sort();
        pages.sort();
        assert_eq!(linked, pages);
    }
}
