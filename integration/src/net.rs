//! Loopback networks: a lock file goes in, a `127.x.y.0/24` that nobody else uses comes out.

use std::fs::{self, File, OpenOptions, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// The second octets tests share.
const SECOND: std::ops::Range<u8> = 64..112;

/// A `127.x.y.0/24` of one's own until dropped. The lock goes with the process, however that ends.
#[derive(Debug)]
pub struct Net {
    second: u8,
    third: u8,
    _lock: File,
}

impl Net {
    /// Takes the first free network, beginning at a place that differs between processes.
    ///
    /// # Errors
    /// When all networks are taken or the lock directory cannot be used.
    pub fn take() -> Result<Self> {
        let dir = std::env::temp_dir().join("serf-haproxy-nets");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // Shared by all users, as the temporary directory itself; the owner alone may change it.
        let _ = fs::set_permissions(&dir, Permissions::from_mode(0o1777));
        let networks: Vec<(u8, u8)> = SECOND
            .flat_map(|second| (0..=255).map(move |third| (second, third)))
            .collect();
        let start = std::process::id() as usize * 61 % networks.len();
        for (second, third) in networks
            .iter()
            .cycle()
            .skip(start)
            .take(networks.len())
            .copied()
        {
            if let Some(lock) = lock(&dir.join(format!("127.{second}.{third}"))) {
                return Ok(Self {
                    second,
                    third,
                    _lock: lock,
                });
            }
        }
        bail!("every loopback network is locked in {}", dir.display())
    }

    /// The address with this last octet.
    #[must_use]
    pub fn ip(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, last)
    }

    /// A socket address of this network.
    #[must_use]
    pub fn addr(&self, last: u8, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip(last), port))
    }
}

fn lock(path: &Path) -> Option<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::Net;

    #[test]
    fn two_networks_differ_and_a_dropped_one_is_free_again() {
        let first = Net::take().unwrap();
        let second = Net::take().unwrap();
        assert_ne!(first.ip(1), second.ip(1));
        let ip = first.ip(1);
        drop(first);
        assert_eq!(Net::take().unwrap().ip(1), ip);
    }
}
