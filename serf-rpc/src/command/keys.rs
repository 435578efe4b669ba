//! Commands for the keys that encrypt the gossip of a cluster.

use std::collections::BTreeMap;
use std::fmt;

use bstr::BString;

use crate::codec::{DecodeError, Reader, Writer};
use crate::error::CallError;
use crate::protocol::ReplyShape;

use super::{Command, Reply};

/// What the members of a cluster say of a change of its keys, or of the keys they have.
///
/// Its `Debug` form does not show the keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyReply {
    /// What members have to say, by their name; those that agree say nothing.
    pub messages: BTreeMap<BString, BString>,
    /// Only from `list-keys`: how many members have each key (base64).
    pub keys: BTreeMap<BString, u64>,
    /// How many members there are.
    pub nodes: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How many of them answered.
    pub responses: u64,
}

impl fmt::Debug for KeyReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            messages,
            keys,
            nodes,
            errors,
            responses,
        } = self;
        f.debug_struct("KeyReply")
            .field("messages", messages)
            .field("keys", &format_args!("[{} keys]", keys.len()))
            .field("nodes", nodes)
            .field("errors", errors)
            .field("responses", responses)
            .finish()
    }
}

impl Reply for KeyReply {
    const SHAPE: ReplyShape = ReplyShape::Body;

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

    fn refusal(command: &'static str, message: BString, body: &[u8]) -> CallError {
        match Self::decode(body) {
            Ok(reply) => CallError::Keys {
                command,
                message,
                reply: Box::new(reply),
            },
            Err(_) => CallError::Agent { command, message },
        }
    }
}

fn write_key(body: &mut Vec<u8>, key: &str) {
    Writer::new(body).map(1).str("Key").str(key);
}

/// `install-key`: adds a key to the keyrings of all members.
pub(crate) struct InstallKey<'a>(pub(crate) &'a str);

impl Command for InstallKey<'_> {
    const NAME: &'static str = "install-key";
    type Reply = KeyReply;

    fn write_body(&self, body: &mut Vec<u8>) {
        write_key(body, self.0);
    }
}

/// `use-key`: makes a key the one that all members encrypt with.
pub(crate) struct UseKey<'a>(pub(crate) &'a str);

impl Command for UseKey<'_> {
    const NAME: &'static str = "use-key";
    type Reply = KeyReply;

    fn write_body(&self, body: &mut Vec<u8>) {
        write_key(body, self.0);
    }
}

/// `remove-key`: takes a key out of the keyrings of all members.
pub(crate) struct RemoveKey<'a>(pub(crate) &'a str);

impl Command for RemoveKey<'_> {
    const NAME: &'static str = "remove-key";
    type Reply = KeyReply;

    fn write_body(&self, body: &mut Vec<u8>) {
        write_key(body, self.0);
    }
}

/// `list-keys`: the keys of all members.
pub(crate) struct ListKeys;

impl Command for ListKeys {
    const NAME: &'static str = "list-keys";
    type Reply = KeyReply;

    fn write_body(&self, _: &mut Vec<u8>) {}
}
