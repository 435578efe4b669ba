//! Reading and writing msgpack by cursor: the bytes of one whole value in, its parts out, and back.
//!
//! Strings are bytes: node names, tags and payloads of a Serf cluster need not be UTF-8. A nil
//! stands for the empty string, list, map or number, as Go's decoder has it.

use rmp::Marker;

use crate::wire::framing::Head;

/// Why the bytes of a value are not of the expected shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A value ends too early.
    #[error("value ends too early")]
    Truncated,
    /// Bytes follow the value.
    #[error("bytes after the end of the value")]
    Trailing,
    /// A value is of another type than the field has.
    #[error("expected {wanted}, found a value that begins with byte {found:#04x}")]
    #[non_exhaustive]
    Type {
        /// What the field holds.
        wanted: &'static str,
        /// The first byte of what came.
        found: u8,
    },
    /// A number does not fit its field.
    #[error("number out of range for {field}")]
    #[non_exhaustive]
    Range {
        /// The field.
        field: &'static str,
    },
    /// A required field is missing.
    #[error("field {field} is missing")]
    #[non_exhaustive]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// An address has neither 4 nor 16 bytes.
    #[error("address of {len} bytes")]
    #[non_exhaustive]
    Address {
        /// How many it has.
        len: usize,
    },
}

/// A cursor over the bytes of one value.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(value: &'a [u8]) -> Self {
        Self { rest: value }
    }

    /// Decodes one value and makes sure that nothing follows it.
    pub(crate) fn whole<T>(
        value: &'a [u8],
        decode: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let mut reader = Self::new(value);
        let decoded = decode(&mut reader)?;
        if reader.rest.is_empty() {
            Ok(decoded)
        } else {
            Err(DecodeError::Trailing)
        }
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// A string or a byte string.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = match self.marker()? {
            Marker::Null => 0,
            Marker::FixStr(len) => u32::from(len),
            Marker::Str8 | Marker::Bin8 => u32::from(u8::from_be_bytes(self.array()?)),
            Marker::Str16 | Marker::Bin16 => u32::from(u16::from_be_bytes(self.array()?)),
            Marker::Str32 | Marker::Bin32 => u32::from_be_bytes(self.array()?),
            other => return Err(unexpected("a string", other)),
        };
        self.take(usize::try_from(len).map_err(|_| DecodeError::Truncated)?)
    }

    /// A number that is not negative, in any of the forms msgpack has for it.
    pub(crate) fn uint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let signed = match self.marker()? {
            Marker::Null => 0,
            Marker::FixPos(value) => return Ok(value.into()),
            Marker::U8 => return Ok(u8::from_be_bytes(self.array()?).into()),
            Marker::U16 => return Ok(u16::from_be_bytes(self.array()?).into()),
            Marker::U32 => return Ok(u32::from_be_bytes(self.array()?).into()),
            Marker::U64 => return Ok(u64::from_be_bytes(self.array()?)),
            Marker::FixNeg(value) => i64::from(value),
            Marker::I8 => i8::from_be_bytes(self.array()?).into(),
            Marker::I16 => i16::from_be_bytes(self.array()?).into(),
            Marker::I32 => i32::from_be_bytes(self.array()?).into(),
            Marker::I64 => i64::from_be_bytes(self.array()?),
            other => return Err(unexpected("a number", other)),
        };
        u64::try_from(signed).map_err(|_| DecodeError::Range { field })
    }

    /// A number of a narrower type.
    pub(crate) fn number<T: TryFrom<u64>>(
        &mut self,
        field: &'static str,
    ) -> Result<T, DecodeError> {
        T::try_from(self.uint(field)?).map_err(|_| DecodeError::Range { field })
    }

    /// A truth value.
    pub(crate) fn boolean(&mut self) -> Result<bool, DecodeError> {
        match self.marker()? {
            Marker::True => Ok(true),
            Marker::False | Marker::Null => Ok(false),
            other => Err(unexpected("a boolean", other)),
        }
    }

    /// A number with a fraction, or one without.
    pub(crate) fn float(&mut self) -> Result<f64, DecodeError> {
        match self.marker()? {
            Marker::Null => Ok(0.0),
            Marker::F64 => Ok(f64::from_be_bytes(self.array()?)),
            Marker::F32 => Ok(f32::from_be_bytes(self.array()?).into()),
            Marker::FixPos(value) => Ok(value.into()),
            Marker::FixNeg(value) => Ok(value.into()),
            other => Err(unexpected("a number", other)),
        }
    }

    /// The number of elements of the array that begins here.
    pub(crate) fn array_len(&mut self) -> Result<u32, DecodeError> {
        match self.marker()? {
            Marker::Null => Ok(0),
            Marker::FixArray(len) => Ok(len.into()),
            Marker::Array16 => Ok(u16::from_be_bytes(self.array()?).into()),
            Marker::Array32 => Ok(u32::from_be_bytes(self.array()?)),
            other => Err(unexpected("an array", other)),
        }
    }

    /// The number of pairs of the map that begins here.
    pub(crate) fn map_len(&mut self) -> Result<u32, DecodeError> {
        match self.marker()? {
            Marker::Null => Ok(0),
            Marker::FixMap(len) => Ok(len.into()),
            Marker::Map16 => Ok(u16::from_be_bytes(self.array()?).into()),
            Marker::Map32 => Ok(u32::from_be_bytes(self.array()?)),
            other => Err(unexpected("a map", other)),
        }
    }

    /// Hands each key of a map to `field`, which must consume exactly the value after it.
    pub(crate) fn fields(
        &mut self,
        mut field: impl FnMut(&'a [u8], &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.map_len()? {
            let key = self.bytes()?;
            field(key, self)?;
        }
        Ok(())
    }

    /// Passes one value of any kind.
    pub(crate) fn skip(&mut self) -> Result<(), DecodeError> {
        let mut to_come = 1_u64;
        while to_come > 0 {
            let found = self.rest.first().copied().ok_or(DecodeError::Truncated)?;
            let head = Head::read(self.rest)
                .map_err(|_| DecodeError::Type {
                    wanted: "a value",
                    found,
                })?
                .ok_or(DecodeError::Truncated)?;
            self.take(head.size)?;
            to_come = to_come - 1 + head.children;
        }
        Ok(())
    }

    #[inline]
    fn marker(&mut self) -> Result<Marker, DecodeError> {
        let [byte] = self.array()?;
        Ok(Marker::from_u8(byte))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn unexpected(wanted: &'static str, found: Marker) -> DecodeError {
    DecodeError::Type {
        wanted,
        found: found.to_u8(),
    }
}

/// Appends values to a request. Strings take the forms that agents of every age accept.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Begins a map of at most 15 fields known by name, or of any number of others.
    pub(crate) fn map(&mut self, len: usize) -> &mut Self {
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(len @ 0..=15), _) => self.marker(Marker::FixMap(len)),
            (_, Ok(len)) => self.marker(Marker::Map16).raw(&len.to_be_bytes()),
            _ => self
                .marker(Marker::Map32)
                .raw(&saturated(len).to_be_bytes()),
        }
    }

    /// Appends a string: never as a byte string, which closes the connection.
    pub(crate) fn str(&mut self, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        match (u8::try_from(value.len()), u16::try_from(value.len())) {
            (Ok(len @ 0..=31), _) => self.marker(Marker::FixStr(len)),
            (_, Ok(len)) => self.marker(Marker::Str16).raw(&len.to_be_bytes()),
            _ => self
                .marker(Marker::Str32)
                .raw(&saturated(value.len()).to_be_bytes()),
        };
        self.raw(value)
    }

    /// Appends a number in its shortest form.
    pub(crate) fn uint(&mut self, value: u64) -> &mut Self {
        match (
            u8::try_from(value),
            u16::try_from(value),
            u32::try_from(value),
        ) {
            (Ok(value @ 0..=127), ..) => self.marker(Marker::FixPos(value)),
            (Ok(value), ..) => self.marker(Marker::U8).raw(&[value]),
            (_, Ok(value), _) => self.marker(Marker::U16).raw(&value.to_be_bytes()),
            (_, _, Ok(value)) => self.marker(Marker::U32).raw(&value.to_be_bytes()),
            _ => self.marker(Marker::U64).raw(&value.to_be_bytes()),
        }
    }

    /// Appends a truth value.
    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.marker(if value { Marker::True } else { Marker::False })
    }

    /// Appends a list of strings.
    pub(crate) fn strings(&mut self, values: &[impl AsRef<[u8]>]) -> &mut Self {
        match (u8::try_from(values.len()), u16::try_from(values.len())) {
            (Ok(len @ 0..=15), _) => self.marker(Marker::FixArray(len)),
            (_, Ok(len)) => self.marker(Marker::Array16).raw(&len.to_be_bytes()),
            _ => self
                .marker(Marker::Array32)
                .raw(&saturated(values.len()).to_be_bytes()),
        };
        for value in values {
            self.str(value);
        }
        self
    }

    fn marker(&mut self, marker: Marker) -> &mut Self {
        self.out.push(marker.to_u8());
        self
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }
}

fn saturated(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nil_stands_for_everything_empty() {
        let nil = [0xc0];
        assert_eq!(Reader::new(&nil).bytes(), Ok(&b""[..]));
        assert_eq!(Reader::new(&nil).uint("n"), Ok(0));
        assert_eq!(Reader::new(&nil).array_len(), Ok(0));
        assert_eq!(Reader::new(&nil).map_len(), Ok(0));
        assert_eq!(Reader::new(&nil).boolean(), Ok(false));
    }

    #[test]
    fn numbers_are_read_in_any_form_and_never_negative() {
        for form in [
            &[5][..],
            &[0xcc, 5],
            &[0xcd, 0, 5],
            &[0xd0, 5],
            &[0xd3, 0, 0, 0, 0, 0, 0, 0, 5],
        ] {
            assert_eq!(Reader::new(form).uint("n"), Ok(5));
        }
        assert_eq!(
            Reader::new(&[0xff]).uint("n"),
            Err(DecodeError::Range { field: "n" })
        );
        assert_eq!(
            Reader::new(&[0xcd, 1, 0]).number::<u8>("n"),
            Err(DecodeError::Range { field: "n" })
        );
    }

    #[test]
    fn a_wrong_type_says_what_was_wanted() {
        let error = Reader::new(&[0x90]).bytes().unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected a string, found a value that begins with byte 0x90"
        );
    }

    #[test]
    fn bytes_after_the_value_are_an_error() {
        assert_eq!(
            Reader::whole(&[1, 2], |r| r.uint("n")),
            Err(DecodeError::Trailing)
        );
    }

    fn depth_limited() -> impl Strategy<Value = rmpv::Value> {
        let leaf = prop_oneof![
            Just(rmpv::Value::Nil),
            any::<bool>().prop_map(rmpv::Value::Boolean),
            any::<i64>().prop_map(rmpv::Value::from),
            any::<u64>().prop_map(rmpv::Value::from),
            any::<f64>().prop_map(rmpv::Value::F64),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(rmpv::Value::Binary),
            ".{0,80}".prop_map(rmpv::Value::from),
            (any::<i8>(), prop::collection::vec(any::<u8>(), 0..40))
                .prop_map(|(t, b)| rmpv::Value::Ext(t, b)),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(rmpv::Value::Array),
                prop::collection::vec((inner.clone(), inner), 0..20).prop_map(rmpv::Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn skip_and_scanner_agree_with_another_encoder(value in depth_limited(), tail in any::<u8>()) {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &value).unwrap();
            let len = bytes.len();
            bytes.push(tail);
            let mut reader = Reader::new(&bytes);
            reader.skip().unwrap();
            prop_assert_eq!(reader.remaining(), 1);
            let limits = crate::wire::framing::Limits { max_size: 1 << 24, max_depth: 8 };
            let mut scanner = crate::wire::framing::Scanner::new(limits);
            for have in 0..len {
                prop_assert_eq!(scanner.next_end(&bytes[..have]), Ok(None));
            }
            prop_assert_eq!(scanner.next_end(&bytes), Ok(Some(len)));
        }

        #[test]
        fn written_values_are_read_back(text in prop::collection::vec(any::<u8>(), 0..70_000), number in any::<u64>()) {
            let mut bytes = Vec::new();
            Writer::new(&mut bytes).map(1).str(&text).uint(number);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.map_len(), Ok(1));
            prop_assert_eq!(reader.bytes(), Ok(&text[..]));
            prop_assert_eq!(reader.uint("n"), Ok(number));
            prop_assert_eq!(reader.remaining(), 0);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader::new(&bytes).skip();
            let _ = Reader::new(&bytes).fields(|_, value| value.skip());
        }
    }
}
