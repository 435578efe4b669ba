//! Members of a reply: bytes in, members out.

use super::Member;
use super::packed::{Parts, ip};
use crate::wire::codec::{DecodeError, Reader};

/// Decodes one member after the other, with buffers that all of them share.
#[derive(Default)]
pub(crate) struct MemberDecoder<'a> {
    tags: Vec<(&'a [u8], &'a [u8])>,
    scratch: Vec<u8>,
}

impl<'a> MemberDecoder<'a> {
    /// The array of members that begins here.
    pub(crate) fn members(reader: &mut Reader<'a>) -> Result<Vec<Member>, DecodeError> {
        /// A member takes more than this; it bounds what a false count can allocate.
        const SMALLEST: usize = 64;
        let count = reader.array_len()?;
        let expected = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(reader.remaining() / SMALLEST);
        let mut members = Vec::with_capacity(expected);
        let mut decoder = Self::default();
        for _ in 0..count {
            members.push(decoder.member(reader)?);
        }
        Ok(members)
    }

    fn member(&mut self, reader: &mut Reader<'a>) -> Result<Member, DecodeError> {
        let Self { tags, scratch } = self;
        tags.clear();
        let mut parts = Parts::default();
        let mut name = None;
        reader.fields(|key, value| {
            match key {
                b"Name" => name = Some(value.bytes()?),
                b"Addr" => parts.addr = ip(value.bytes()?)?,
                b"Port" => parts.port = value.number("Port")?,
                b"Status" => parts.status = value.bytes()?,
                b"ProtocolMin" => parts.protocol.min = value.number("ProtocolMin")?,
                b"ProtocolMax" => parts.protocol.max = value.number("ProtocolMax")?,
                b"ProtocolCur" => parts.protocol.current = value.number("ProtocolCur")?,
                b"DelegateMin" => parts.delegate.min = value.number("DelegateMin")?,
                b"DelegateMax" => parts.delegate.max = value.number("DelegateMax")?,
                b"DelegateCur" => parts.delegate.current = value.number("DelegateCur")?,
                b"Tags" => value.fields(|key, value| {
                    tags.push((key, value.bytes()?));
                    Ok(())
                })?,
                _ => value.skip()?,
            }
            Ok(())
        })?;
        parts.name = name.ok_or(DecodeError::Missing { field: "Name" })?;
        Ok(parts.pack(tags, scratch))
    }
}
