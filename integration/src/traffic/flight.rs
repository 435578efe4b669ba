//! The first bytes a client sends in, what they are out: PROXY headers, a TLS hello, HTTP. Pure.
//!
//! Random values, port numbers of clients and checksums are left out, so that equal settings give equal words.

use std::fmt::Write as _;

/// What the bytes say; whether that is all a client says before it needs an answer, too.
#[must_use]
pub fn read(bytes: &[u8]) -> (String, bool) {
    let mut words = Vec::new();
    let mut rest = bytes;
    while let Some((word, after)) = proxy_header(rest) {
        words.push(word);
        rest = after;
    }
    let whole = if rest.first() == Some(&0x16) {
        let hello = Cursor(rest.get(5..).unwrap_or_default());
        let said = hello.client_hello();
        let whole = said.is_some();
        words.push(said.unwrap_or_else(|| "half a TLS hello".to_owned()));
        whole
    } else if rest.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") {
        words.push("h2".to_owned());
        true
    } else if let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(rest.get(..end).unwrap_or_default());
        words.push(head.replace("\r\n", " | "));
        true
    } else {
        if !rest.is_empty() {
            words.push(format!("{:?}", String::from_utf8_lossy(rest)));
        }
        false
    };
    (words.join(" + "), whole)
}

/// A PROXY header (HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2), and what follows it.
fn proxy_header(bytes: &[u8]) -> Option<(String, &[u8])> {
    if bytes.starts_with(b"PROXY ") {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8_lossy(bytes.get(..end)?);
        // PROXY TCP4 source destination source-port destination-port
        let words = line.split(' ').enumerate();
        let words: Vec<&str> = words
            .filter(|(at, _)| *at != 4)
            .map(|(_, word)| word)
            .collect();
        return Some((words.join(" "), bytes.get(end + 2..)?));
    }
    let rest = bytes.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n".as_slice())?;
    let mut cursor = Cursor(rest);
    let (command, family) = (cursor.byte()?, cursor.byte()?);
    let mut body = Cursor(cursor.prefixed(2)?);
    let addresses = match family >> 4 {
        1 => body.take(12)?,
        2 => body.take(36)?,
        _ => &[],
    };
    let (hosts, ports) = addresses.split_at(addresses.len().saturating_sub(4));
    let mut word = format!(
        "PROXY v2 {command:x} {family:x} {hosts:?} {:?}",
        ports.get(2..)
    );
    while let Some(kind) = body.byte() {
        let value = body.prefixed(2)?;
        // a checksum and a unique id differ from connection to connection
        let shown = if matches!(kind, 3 | 5) { &[] } else { value };
        let _ = write!(word, " {kind:x}={shown:?}");
    }
    Some((word, cursor.0))
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        let digits = self.take(bytes)?.iter();
        Some(digits.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What its length stands before, in so many bytes.
    fn prefixed(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let len = self.number(bytes)?;
        self.take(len)
    }

    /// Numbers of two bytes, in hexadecimal.
    fn pairs(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(number) = self.number(2) {
            words.push(format!("{number:x}"));
        }
        words.join(",")
    }

    /// RFC 8446, section 4.1.2.
    fn client_hello(mut self) -> Option<String> {
        let _kind = self.byte()?;
        let mut hello = Self(self.prefixed(3)?);
        let version = hello.number(2)?;
        let _random = hello.take(32)?;
        let _session = hello.prefixed(1)?;
        let ciphers = Self(hello.prefixed(2)?).pairs();
        let _compression = hello.prefixed(1)?;
        let mut said = format!("TLS {version:x} ciphers={ciphers}");
        let mut extensions = Self(hello.prefixed(2).unwrap_or_default());
        while let Some(kind) = extensions.number(2) {
            let mut value = Self(extensions.prefixed(2)?);
            let _ = match kind {
                0 => write!(said, " sni={}", text(value.0.get(5..)?)),
                16 => write!(said, " alpn={}", text(value.0.get(2..)?)),
                10 => write!(said, " groups={}", Self(value.prefixed(2)?).pairs()),
                13 => write!(said, " sigalgs={}", Self(value.prefixed(2)?).pairs()),
                43 => write!(said, " versions={}", Self(value.prefixed(1)?).pairs()),
                // a key share is random, padding fills what other extensions leave
                51 | 21 => Ok(()),
                other => write!(said, " {other}"),
            };
        }
        Some(said)
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_layers_are_named_in_their_order() {
        let (said, whole) =
            read(b"PROXY TCP4 1.2.3.4 5.6.7.8 999 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            said,
            "PROXY TCP4 1.2.3.4 5.6.7.8 80 + GET / HTTP/1.1 | Host: a"
        );
        assert!(whole);
        assert_eq!(
            read(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"),
            ("PROXY v2 20 0 [] None".to_owned(), false)
        );
        assert_eq!(read(b""), (String::new(), false));
        assert_eq!(read(b"\x16\x03\x01\x02\x00\x01").0, "half a TLS hello");
    }
}
