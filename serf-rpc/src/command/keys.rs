//! Commands for the keys that encrypt the gossip of a cluster.

use crate::types::KeyReply;
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::protocol::ResponseShape;

use super::{Command, Response};
use crate::error::ErrorBody;

impl Response for KeyReply {
    const SHAPE: ResponseShape = ResponseShape::Body;

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reply = Self::default();
        Reader::whole(body, |reader| {
            reader.fields(|field, value| {
                match field {
                    b"Messages" => value.fields(|node, message| {
                        reply.messages.insert(node.into(), message.bytes()?.into());
                        Ok(())
                    })?,
                    b"Keys" => value.fields(|key, count| {
                        reply.keys.insert(key.into(), count.uint("Keys")?);
                        Ok(())
                    })?,
                    b"NumNodes" => reply.nodes = value.uint("NumNodes")?,
                    b"NumErr" => reply.errors = value.uint("NumErr")?,
                    b"NumResp" => reply.responses = value.uint("NumResp")?,
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        Ok(reply)
    }

    fn error_body(body: &[u8]) -> ErrorBody {
        Self::decode(body).map_or(ErrorBody::Nothing, |reply| ErrorBody::Keys(Box::new(reply)))
    }
}

fn write_key(body: &mut Vec<u8>, key: &str) {
    Writer::new(body).map(1).str("Key").str(key);
}

/// `install-key`: adds a key to the keyrings of all members.
pub(crate) struct InstallKey<'a>(pub(crate) &'a str);

impl Command for InstallKey<'_> {
    const NAME: &'static str = "install-key";
    type Response = KeyReply;

    fn write_body(&self, body: &mut Vec<u8>) {
        write_key(body, self.0);
    }
}

/// `use-key`: makes a key the one that all members encrypt with.
pub(crate) struct UseKey<'a>(pub(crate) &'a str);

impl Command for UseKey<'_> {
    const NAME: &'static str = "use-key";
    type Response = KeyReply;

    fn write_body(&self, body: &mut Vec<u8>) {
        write_key(body, self.0);
    }
}

/// `remove-key`: takes a key out of the keyrings of all members.
pub(crate) struct RemoveKey<'a>(pub(crate) &'a str);

impl Command for RemoveKey<'_> {
    const NAME: &'static str = "remove-key";
    type Response = KeyReply;

    fn write_body(&self, body: &mut Vec<u8>) {
        write_key(body, self.0);
    }
}

/// `list-keys`: the keys of all members.
pub(crate) struct ListKeys;

impl Command for ListKeys {
    const NAME: &'static str = "list-keys";
    type Response = KeyReply;

    fn write_body(&self, _: &mut Vec<u8>) {}
}
