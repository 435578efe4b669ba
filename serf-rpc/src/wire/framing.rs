//! Where one msgpack value ends: bytes as they arrive in, the length of the next whole value out.
//!
//! The agent's stream has neither a length prefix nor a separator, so the only way to find the end
//! of a value is to walk through it. [`Scanner`] remembers where it stopped, so every byte is
//! looked at once whatever the chunking, and it refuses what exceeds its [`Limits`] as soon as a
//! length announces it, before anything of that size is buffered.

use rmp::Marker;

/// What a value may measure at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of one top-level value.
    pub(crate) max_size: usize,
    /// Arrays and maps that may be open inside each other.
    pub(crate) max_depth: usize,
}

/// Why bytes are not an acceptable msgpack value. Nothing after such a byte can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The byte 0xc1, which begins no value.
    #[error("byte 0xc1 begins no msgpack value")]
    Reserved,
    /// The value is, or announces that it will be, larger than the limit.
    #[error("a value exceeds the limit of {limit} bytes")]
    #[non_exhaustive]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Arrays and maps nest deeper than the limit.
    #[error("a value nests deeper than {limit} levels")]
    #[non_exhaustive]
    TooDeep {
        /// The limit in levels.
        limit: usize,
    },
}

/// The first bytes of a value: what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of the value itself, marker and length included, its children not.
    pub(crate) size: usize,
    /// Values inside it: elements of an array, keys and values of a map.
    pub(crate) children: u64,
    /// Whether it is an array or a map, even an empty one.
    pub(crate) nests: bool,
}

impl Head {
    /// Reads the head at the start of `bytes`; none while its length bytes are not all there.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, ObjectError> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let leaf = |size: usize| {
            Some(Self {
                size,
                children: 0,
                nests: false,
            })
        };
        // Most values are small numbers and short strings.
        match first {
            0x00..=0x7f => return Ok(leaf(1)),
            0xa0..=0xbf => return Ok(leaf(1 + usize::from(first & 0x1f))),
            _ => {}
        }
        let sized = |width: usize, extra: usize| {
            length(rest, width).map(|payload| Self {
                size: usize::try_from(payload)
                    .unwrap_or(usize::MAX)
                    .saturating_add(1 + width + extra),
                children: 0,
                nests: false,
            })
        };
        let nested = |width: usize, factor: u64| {
            length(rest, width).map(|count| Self {
                size: 1 + width,
                children: count * factor,
                nests: true,
            })
        };
        Ok(match Marker::from_u8(first) {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
                leaf(1)
            }
            Marker::U8 | Marker::I8 => leaf(2),
            Marker::U16 | Marker::I16 => leaf(3),
            Marker::U32 | Marker::I32 | Marker::F32 => leaf(5),
            Marker::U64 | Marker::I64 | Marker::F64 => leaf(9),
            Marker::FixStr(len) => leaf(1 + usize::from(len)),
            Marker::Str8 | Marker::Bin8 => sized(1, 0),
            Marker::Str16 | Marker::Bin16 => sized(2, 0),
            Marker::Str32 | Marker::Bin32 => sized(4, 0),
            Marker::FixExt1 => leaf(3),
            Marker::FixExt2 => leaf(4),
            Marker::FixExt4 => leaf(6),
            Marker::FixExt8 => leaf(10),
            Marker::FixExt16 => leaf(18),
            Marker::Ext8 => sized(1, 1),
            Marker::Ext16 => sized(2, 1),
            Marker::Ext32 => sized(4, 1),
            Marker::FixArray(count) => Some(Self {
                size: 1,
                children: count.into(),
                nests: true,
            }),
            Marker::FixMap(count) => Some(Self {
                size: 1,
                children: u64::from(count) * 2,
                nests: true,
            }),
            Marker::Array16 => nested(2, 1),
            Marker::Array32 => nested(4, 1),
            Marker::Map16 => nested(2, 2),
            Marker::Map32 => nested(4, 2),
            Marker::Reserved => return Err(ObjectError::Reserved),
        })
    }
}

/// A big-endian length of `width` bytes; none while they are not all there.
fn length(bytes: &[u8], width: usize) -> Option<u64> {
    let bytes = bytes.get(..width)?;
    Some(
        bytes
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)),
    )
}

/// Finds the end of one value after the other in a buffer that only grows at its end.
#[derive(Debug)]
pub(crate) struct Scanner {
    limits: Limits,
    /// Where the next head stands, counted from the start of the value; may lie beyond the buffer.
    at: usize,
    /// Values still to come at the innermost open level.
    left: u64,
    /// The same of the levels around it, the outermost first.
    open: Vec<u64>,
    /// Values still to come at all levels together.
    to_come: u64,
}

impl Scanner {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            at: 0,
            left: 1,
            open: Vec::new(),
            to_come: 1,
        }
    }

    /// The length of the value at the start of `buffer`, once it is whole; the next call then
    /// expects a buffer that begins with the value after it. Until then the next call expects the
    /// same buffer with more bytes at its end.
    ///
    /// # Errors
    /// The value is malformed or exceeds a limit. The scanner is of no use afterwards.
    pub(crate) fn next_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, ObjectError> {
        while self.to_come > 0 {
            let Some(ahead) = buffer.get(self.at..) else {
                return Ok(None);
            };
            let Some(head) = Head::read(ahead)? else {
                return Ok(None);
            };
            self.pass(head)?;
        }
        if self.at > buffer.len() {
            return Ok(None);
        }
        let end = self.at;
        self.at = 0;
        self.left = 1;
        self.to_come = 1;
        Ok(Some(end))
    }

    #[inline]
    fn pass(&mut self, head: Head) -> Result<(), ObjectError> {
        self.at = self.at.saturating_add(head.size);
        self.to_come = self.to_come - 1 + head.children;
        self.left -= 1;
        if head.nests {
            if self.open.len() >= self.limits.max_depth {
                return Err(ObjectError::TooDeep {
                    limit: self.limits.max_depth,
                });
            }
            self.open
                .push(std::mem::replace(&mut self.left, head.children));
        }
        while self.left == 0
            && let Some(outer) = self.open.pop()
        {
            self.left = outer;
        }
        // Every value still to come takes at least one byte.
        let at_least = usize::try_from(self.to_come)
            .unwrap_or(usize::MAX)
            .saturating_add(self.at);
        if at_least > self.limits.max_size {
            return Err(ObjectError::TooLarge {
                limit: self.limits.max_size,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_size: 1 << 20,
        max_depth: 4,
    };

    #[test]
    fn values_end_where_they_end() {
        let cases: [&[u8]; 9] = [
            &[0xc0],
            &[0x7f],
            &[0xcf, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0xa2, b'a', b'b'],
            &[0xc4, 0],
            &[0x80],
            &[0x82, 0xa1, b'a', 0x90, 0xa1, b'b', 0x91, 0xc2],
            &[0xdc, 0, 2, 1, 2],
            &[0xc7, 1, 5, 9],
        ];
        for case in cases {
            let mut bytes = case.to_vec();
            bytes.push(0xc1);
            for cut in 0..case.len() {
                assert_eq!(
                    Scanner::new(LIMITS).next_end(&bytes[..cut]),
                    Ok(None),
                    "{case:x?}"
                );
            }
            assert_eq!(
                Scanner::new(LIMITS).next_end(&bytes),
                Ok(Some(case.len())),
                "{case:x?}"
            );
        }
    }

    #[test]
    fn one_byte_at_a_time_gives_the_same_ends() {
        let bytes = [
            0x82, 0xa1, b'a', 0x90, 0xa1, b'b', 0x92, 0xc2, 0xd9, 2, b'x', b'y', 0x93, 1, 2, 3,
        ];
        let mut scanner = Scanner::new(LIMITS);
        let (mut start, mut ends) = (0, Vec::new());
        for have in 1..=bytes.len() {
            while let Some(len) = scanner.next_end(&bytes[start..have]).unwrap() {
                start += len;
                ends.push(start);
            }
        }
        assert_eq!(ends, [12, 16]);
    }

    #[test]
    fn an_announced_giant_is_refused_before_it_arrives() {
        for bytes in [
            &[0xdb, 0xff, 0xff, 0xff, 0xff][..],
            &[0xdd, 0xff, 0xff, 0xff, 0xff],
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
            &[0xc6, 0x00, 0x10, 0x00, 0x00],
        ] {
            let refused = Scanner::new(LIMITS).next_end(bytes);
            assert_eq!(
                refused,
                Err(ObjectError::TooLarge { limit: 1 << 20 }),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn nesting_is_limited() {
        assert_eq!(
            Scanner::new(LIMITS).next_end(&[0x91, 0x91, 0x91, 0x90]),
            Ok(Some(4))
        );
        let refused = Scanner::new(LIMITS).next_end(&[0x91, 0x91, 0x91, 0x91, 0x90]);
        assert_eq!(refused, Err(ObjectError::TooDeep { limit: 4 }));
    }

    #[test]
    fn the_reserved_byte_is_refused() {
        assert_eq!(
            Scanner::new(LIMITS).next_end(&[0x91, 0xc1]),
            Err(ObjectError::Reserved)
        );
    }
}
