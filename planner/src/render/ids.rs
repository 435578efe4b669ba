//! Names of servers in, their numeric ids out: the same name has the same id after every render and on every balancer. Pure.
//!
//! `hash-type consistent` places a server by `id × 4096` in 32 bits, so that only the lowest 20 bits of an id count
//! (`chash_compute_server_key` of HAProxy 2.6, and again since its fix 03e9a5a1e of October 2025; in between the whole
//! id was hashed): ids lie from 1 to 2²⁰ − 1, which suits both.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::model::ServerName;

/// The greatest id.
const MAX: u32 = (1 << 20) - 1;

/// An id for each name, unique among them.
///
/// An id depends on its name alone unless two names meet, which among 20 has a chance of 1 in 5,000; then the
/// one that sorts first keeps it, whatever the order they came in.
pub(super) fn ids<'a>(
    names: impl IntoIterator<Item = &'a ServerName>,
) -> BTreeMap<&'a ServerName, u32> {
    let names: BTreeSet<&ServerName> = names.into_iter().collect();
    let mut taken = BTreeSet::new();
    let mut free = |name: &ServerName| {
        (0_u32..)
            .map(|attempt| hash(name, attempt))
            .find(|id| taken.insert(*id))
    };
    names
        .into_iter()
        .filter_map(|name| Some((name, free(name)?)))
        .collect()
}

fn hash(name: &ServerName, attempt: u32) -> u32 {
    let digest = Sha256::new()
        .chain_update(attempt.to_be_bytes())
        .chain_update(name.as_str())
        .finalize();
    let number = digest
        .iter()
        .take(4)
        .fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    number % MAX + 1
}
