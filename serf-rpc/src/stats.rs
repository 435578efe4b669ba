//! What an agent says of itself: the reply to `stats` in, figures by group and key out.

use std::collections::BTreeMap;

use bstr::{BStr, BString, ByteSlice};

/// The figures of an agent. Every value is text; groups and keys vary between versions of Serf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    groups: BTreeMap<BString, BTreeMap<BString, BString>>,
}

impl Stats {
    /// One figure, for instance `("serf", "members")`.
    pub fn figure(&self, group: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Option<&BStr> {
        let group = self.groups.get(group.as_ref().as_bstr())?;
        group.get(key.as_ref().as_bstr()).map(AsRef::as_ref)
    }

    /// All groups and their figures, in the order of their names.
    pub fn groups(&self) -> &BTreeMap<BString, BTreeMap<BString, BString>> {
        &self.groups
    }

    /// The name of the agent's own node.
    pub fn agent_name(&self) -> Option<&BStr> {
        self.figure("agent", "name")
    }

    pub(crate) fn group_mut(&mut self, group: &[u8]) -> &mut BTreeMap<BString, BString> {
        self.groups.entry(group.into()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Reply;
    use crate::object::Scanner;
    use crate::testing::{LIMITS, fixtures};

    #[test]
    fn the_recorded_figures_are_read() {
        for (name, bytes) in fixtures("stats.resp.bin") {
            let header = Scanner::new(LIMITS).next_end(&bytes).unwrap().unwrap();
            let stats = Stats::decode(&bytes[header..]).unwrap();
            assert!(stats.agent_name().is_some(), "{name}");
            assert!(stats.figure("serf", "members").is_some(), "{name}");
            assert!(stats.figure("serf", "nothing").is_none(), "{name}");
        }
    }
}
