//! Any bytes as text that loses nothing, and back: `\xff` stands for a byte that is no UTF-8, `\\` for a backslash.

use bstr::{BStr, BString, ByteSlice, ByteVec};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes as such text.
pub(crate) fn escape(bytes: &BStr) -> String {
    bytes.escape_bytes().to_string()
}

/// The bytes of such text.
pub(crate) fn unescape(text: &str) -> BString {
    Vec::unescape_bytes(text).into()
}

/// For `#[serde(with)]` of bytes that may be missing.
pub(crate) mod option {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<BString>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = bytes.as_ref().map(|bytes| escape(bytes.as_bstr()));
        text.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<BString>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.as_deref().map(unescape))
    }
}
