//! What members say of the keys that encrypt their gossip.

use std::collections::BTreeMap;
use std::fmt;

use bstr::BString;

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
