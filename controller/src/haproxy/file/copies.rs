//! Copies of texts that another hand has written, kept beside the file before one of ours takes their place: a text in,
//! the path of its copy out. No copy is ever overwritten, and no text is kept twice.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{FileError, copy_metadata, directory_of, resolve, sibling, sync_directory, temporary};

/// Copies of files that were taken over. One that cannot be kept is not taken over.
const MOST_BEFORE: usize = 100;
/// Copies of edits; the oldest make room.
const MOST_EDITS: usize = 10;

/// What a copy is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Series {
    /// A file of somebody else's, before it was taken over: `haproxy.cfg.before-serf-haproxy`, then `….2`, `….3`.
    Before,
    /// A file of ours as another hand has changed it: `haproxy.cfg.edited`, then `….2`, `….3`.
    Edited,
}

impl Series {
    fn suffix(self) -> &'static str {
        match self {
            Self::Before => ".before-serf-haproxy",
            Self::Edited => ".edited",
        }
    }
}

/// The last copy of a file that was taken over.
pub(crate) fn newest(path: &Path) -> Option<PathBuf> {
    let target = resolve(path).ok()?;
    let (_, newest) = there(&target, Series::Before).pop_last()?;
    Some(newest)
}

/// Keeps a text with the owner, group and mode of its file; says where it is, also if it was there before.
pub(super) fn keep(
    target: &Path,
    text: &[u8],
    metadata: &Metadata,
    series: Series,
) -> Result<PathBuf, FileError> {
    let known = there(target, series);
    let same = |path: &&PathBuf| fs::read(path).is_ok_and(|kept| kept == text);
    if let Some(same) = known.values().rev().find(same) {
        return Ok(same.clone());
    }
    if series == Series::Before && known.len() >= MOST_BEFORE {
        return Err(FileError::TooManyCopies {
            path: target.to_owned(),
        });
    }
    let mut number = known.last_key_value().map_or(0, |(number, _)| *number);
    let mut kept = temporary(target)?;
    let failed = |source| FileError::new("keep a copy of", target, source);
    kept.write_all(text).map_err(failed)?;
    copy_metadata(kept.as_file(), metadata, target)?;
    kept.as_file().sync_all().map_err(failed)?;
    loop {
        number += 1;
        let copy = numbered(target, series, number);
        match kept.persist_noclobber(&copy) {
            Ok(_) => {
                sync_directory(&copy)?;
                if series == Series::Edited {
                    make_room(&known);
                }
                return Ok(copy);
            }
            // Somebody else has just made it.
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => kept = error.file,
            Err(error) => return Err(failed(error.error)),
        }
    }
}

fn make_room(known: &BTreeMap<u64, PathBuf>) {
    let over = (known.len() + 1).saturating_sub(MOST_EDITS);
    for old in known.values().take(over) {
        if let Err(error) = fs::remove_file(old) {
            tracing::warn!(path = %old.display(), %error, "cannot remove an old copy");
        }
    }
}

fn numbered(target: &Path, series: Series, number: u64) -> PathBuf {
    match number {
        1 => sibling(target, "", series.suffix()),
        number => sibling(target, "", &format!("{}.{number}", series.suffix())),
    }
}

/// The copies that are there, by number.
fn there(target: &Path, series: Series) -> BTreeMap<u64, PathBuf> {
    let first = numbered(target, series, 1);
    let first = first.file_name().unwrap_or_default().as_encoded_bytes();
    let entries = fs::read_dir(directory_of(target)).into_iter().flatten();
    let number = |name: &[u8]| match name.strip_prefix(first)? {
        b"" => Some(1),
        rest => {
            let digits = std::str::from_utf8(rest.strip_prefix(b".")?).ok()?;
            digits.parse().ok().filter(|number| *number > 1)
        }
    };
    let copies = entries.flatten().filter_map(|entry| {
        let number = number(entry.file_name().as_encoded_bytes())?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        is_file.then(|| (number, entry.path()))
    });
    copies.collect()
}
