//! What a node's tags come to: names and values in, bytes out. Pure.

/// What all tags of a node may come to, encoded: memberlist's `MetaMaxSize`.
pub const LIMIT: usize = 512;

/// How many bytes these tags are on the wire: a byte that says so, and a map of MessagePack by its older rules, in which a
/// text has one byte before it up to 31 bytes, and three beyond (Serf's `encodeTags`).
pub fn size<'a>(tags: impl IntoIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> usize {
    let (mut count, mut bytes) = (0_usize, 0_usize);
    for (name, value) in tags {
        count += 1;
        bytes += text(name) + text(value);
    }
    let head = if count < 16 { 1 } else { 3 };
    1 + head + bytes
}

fn text(text: &[u8]) -> usize {
    let head = if text.len() < 32 { 1 } else { 3 };
    head + text.len()
}
