//! Members' names that can be no server's, and what their servers are called instead: any bytes in, a name out, and back.
//!
//! A mapped name begins with `_`, which no member's own name does that is used as it is. Every byte but letters, digits, `.`
//! and `-` is written `_` and its two hex digits: `00:11:22:aa` is `_00_3a11_3a22_3aaa`. So it is read back, and no two
//! members have one. What is longer than 64 bytes then has its beginning, `_x`, and 160 bits of its SHA-256 instead: no
//! escape is `_x`, and nobody finds two names with one hash.

use std::fmt::Write as _;

use super::plain;
use crate::stamp::digest;

/// What a server's name may have before its port.
const LONGEST: usize = 64;
/// Hex digits of the hash.
const HASH: usize = 40;
/// What is left for the beginning of a long name.
const BEGINNING: usize = LONGEST - HASH - "__x".len();

fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
}

/// The name for this one, of at most 64 bytes.
pub(super) fn map(name: &[u8]) -> String {
    let mut whole = "_".to_owned();
    let mut beginning = whole.clone();
    for byte in name {
        if is_kept(*byte) {
            whole.push(char::from(*byte));
        } else {
            // A `String` takes all that is written.
            let _ = write!(whole, "_{byte:02x}");
        }
        if whole.len() <= BEGINNING + 1 {
            beginning.clone_from(&whole);
        }
        if whole.len() > LONGEST {
            return format!("{beginning}_x{}", digest([name], HASH / 2));
        }
    }
    whole
}

/// The name that was mapped to this one, where that was written out.
pub(super) fn unmap(mapped: &str) -> Option<Vec<u8>> {
    let mut bytes = mapped.strip_prefix('_')?.bytes();
    let mut name = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'_' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = str::from_utf8(&digits).ok()?;
            name.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            name.push(byte);
        }
    }
    Some(name)
}

/// Whether some member's name is mapped to this one.
pub(super) fn is_mapped(text: &str) -> bool {
    if let Some(name) = unmap(text) {
        return plain(&name).is_none() && map(&name) == text;
    }
    let Some((beginning, hash)) = text.rsplit_once("_x") else {
        return false;
    };
    let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let begins = beginning.len() <= BEGINNING + 1
        && unmap(beginning).is_some_and(|name| map(&name) == beginning);
    begins && hash.len() == HASH && hash.bytes().all(is_hex)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::model::{Naming, ServerName};

    fn mapped(name: &[u8]) -> ServerName {
        Naming::Map.server(name).unwrap()
    }

    #[test]
    fn names_that_can_be_no_servers_are_told_apart_and_read_back() {
        for (name, server) in [
            ("web-1", "web-1"),
            ("00:11:22:aa:bb:cc", "_00_3a11_3a22_3aaa_3abb_3acc"),
            ("host:8080", "_host_3a8080"),
            ("_foo", "__5ffoo"),
            ("müller", "_m_c3_bcller"),
            ("-x.", "_-x."),
            ("", "_"),
            ("a b", "_a_20b"),
        ] {
            assert_eq!(mapped(name.as_bytes()).as_str(), server);
            assert_eq!(mapped(name.as_bytes()).original().unwrap(), name.as_bytes());
        }
        let long = "x".repeat(80);
        let server = mapped(long.as_bytes());
        assert_eq!(server.as_str().len(), 64);
        assert!(
            server.as_str().starts_with("_xxxxxxxxxxxxxxxxxxxxx_x"),
            "{server}"
        );
        assert_eq!(server.original(), None);
        assert!(ServerName::new(server.at(None, 80).as_str()).is_some());
    }

    #[test]
    fn only_what_is_mapped_is_read_as_that() {
        for other in [
            "_web", "_a_62", "_A_3A", "_a_3", "_a_", "_a_xzz", "__", "_\u{e4}", "_a b",
        ] {
            assert_eq!(ServerName::new(other), None, "{other}");
        }
        for odd in ["a:0", "a:080", "a:65536", "a:", ":80", "a:80:80", "a:+80"] {
            assert_eq!(ServerName::new(odd), None, "{odd}");
        }
        for odd in [
            "a:10.0.0.1",
            "a:10.0.0.1:0",
            "a:010.0.0.1:1",
            "a:host:1",
            "a:[::1]:1",
            "a:FD00::1:1",
        ] {
            assert_eq!(ServerName::new(odd), None, "{odd}");
        }
        for (name, addr) in [
            ("a:80", None),
            ("a:10.0.0.1:80", Some("10.0.0.1")),
            ("a:fd00::5:80", Some("fd00::5")),
        ] {
            let server = ServerName::new(name).unwrap();
            assert_eq!(server.member(), "a");
            assert_eq!(
                server.at(addr.map(|addr| addr.parse().unwrap()), 80),
                server
            );
        }
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        let alike = prop::collection::vec(prop::sample::select(b"ab_:x3.-0\xc3".to_vec()), 0..70);
        prop_oneof![alike, prop::collection::vec(any::<u8>(), 0..140)]
    }

    proptest! {
        #[test]
        fn no_two_members_have_one_server(a in name(), b in name()) {
            let [of_a, of_b] = [&a, &b].map(|name| mapped(name));
            prop_assert_eq!(a == b, of_a == of_b);
            for (name, server) in [(a, of_a), (b, of_b)] {
                let text = server.as_str();
                prop_assert!(text.len() <= 64);
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)));
                prop_assert_eq!(ServerName::new(text), Some(server.clone()));
                prop_assert_eq!(server.original().is_none_or(|it| it == name), true);
                let instance = server.at(None, 65535);
                prop_assert_eq!(ServerName::new(instance.as_str()), Some(instance.clone()));
                prop_assert_eq!(instance.member(), text);
            }
        }
    }
}
