//! The addresses of this host, read from the system.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

/// More addresses of a host are not read.
const MOST_ADDRESSES: usize = 4096;

/// The addresses of all interfaces of this host, at most 4096, as they are now.
///
/// # Errors
/// When the system does not say.
pub fn addresses() -> io::Result<BTreeSet<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()?;
    let addresses = interfaces
        .into_iter()
        .map(|interface| interface.ip().to_canonical());
    Ok(addresses.take(MOST_ADDRESSES).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_addresses() {
        let addresses = addresses().unwrap();
        assert!(addresses.iter().any(IpAddr::is_loopback), "{addresses:?}");
    }
}
