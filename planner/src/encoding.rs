//! The bytes of a file that a person wrote in, its text out, or the place of the first byte that is none. Pure.

use std::fmt;

/// What editors on Windows put before UTF-8; it is no part of the text.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Bytes that are no UTF-8, and where the first of them is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUtf8 {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// In bytes of the file, from 0.
    offset: usize,
    byte: u8,
    /// What it may be instead, in the words of `iconv -f`.
    encoding: &'static str,
}

/// The text without a byte order mark.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotUtf8> {
    let skipped = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    let encoding = match bytes.get(..2) {
        Some([0xff, 0xfe] | [0xfe, 0xff]) => "UTF-16",
        _ => "ISO-8859-1",
    };
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let before = bytes.get(skipped.min(offset)..offset).unwrap_or_default();
        let before = String::from_utf8_lossy(before);
        let line = before.rsplit('\n').next().unwrap_or_default();
        NotUtf8 {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            offset,
            byte: bytes.get(offset).copied().unwrap_or_default(),
            encoding,
        }
    })?;
    text.drain(..skipped);
    Ok(text)
}

impl fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the file is not UTF-8: byte {:#04x} at offset {}; if it is {encoding}, `iconv -f {encoding} -t UTF-8` converts it",
            self.byte,
            self.offset,
            encoding = self.encoding
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(
            decode(b"\xef\xbb\xbfglobal\n".to_vec()).unwrap(),
            "global\n"
        );
        assert_eq!(decode(b"\xef\xbb\xbf".to_vec()).unwrap(), "");
        assert_eq!(decode(b"a\xef\xbb\xbf".to_vec()).unwrap(), "a\u{feff}");
    }

    #[test]
    fn the_first_wrong_byte_is_told_with_its_place_and_what_helps() {
        let error = decode(b"\xef\xbb\xbf# \xc3\xa9\n# f\xfcr\n".to_vec()).unwrap_err();
        assert_eq!((error.line, error.column), (2, 4));
        assert_eq!(
            error.to_string(),
            "the file is not UTF-8: byte 0xfc at offset 11; if it is ISO-8859-1, `iconv -f ISO-8859-1 -t UTF-8` \
             converts it"
        );
        let error = decode(b"\xff\xfeg\0l\0".to_vec()).unwrap_err();
        assert_eq!((error.line, error.column), (1, 1));
        assert!(error.to_string().contains("iconv -f UTF-16"), "{error}");
    }

    proptest! {
        #[test]
        fn text_comes_back_and_any_bytes_are_taken_or_refused(bytes: Vec<u8>, text: String) {
            let text = text.trim_start_matches('\u{feff}');
            prop_assert_eq!(decode(text.as_bytes().to_vec()).unwrap(), text);
            if let Err(error) = decode(bytes.clone()) {
                prop_assert!(error.offset < bytes.len());
            }
        }
    }
}
