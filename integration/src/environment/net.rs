//! Loopback networks: a lock file goes in, a `127.x.y.0/24` that nobody else uses comes out.

use std::fs::{self, File, OpenOptions, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// The second octets tests share.
const SECOND: std::ops::Range<u8> = 64..112;
/// How often this process has taken one.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A `127.x.y.0/24` of one's own until dropped. The lock goes with the process, however that ends.
#[derive(Debug)]
pub struct Net {
    second: u8,
    third: u8,
    _lock: File,
}

impl Net {
    /// Takes the first free network, beginning at a place that differs between processes and from one time to the
    /// next: on a network that was somebody's until now, closed connections may still hold ports.
    ///
    /// # Errors
    /// When all networks are taken or the lock directory cannot be used.
    pub fn take() -> Result<Self> {
        let networks: Vec<(u8, u8)> = SECOND
            .flat_map(|second| (0..=255).map(move |third| (second, third)))
            .collect();
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        let start = (std::process::id() as usize * 61 + taken) % networks.len();
        for (second, third) in networks
            .iter()
            .cycle()
            .skip(start)
            .take(networks.len())
            .copied()
        {
            if let Some(lock) = lock(&format!("127.{second}.{third}"))? {
                return Ok(Self {
                    second,
                    third,
                    _lock: lock,
                });
            }
        }
        bail!("every loopback network is locked")
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

/// A file to lock, shared by all users of this machine.
pub(crate) fn shared_file(name: &str) -> Result<File> {
    let dir = std::env::temp_dir().join("serf-haproxy-locks");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // As the temporary directory itself; only the owners may change modes.
    let _ = fs::set_permissions(&dir, Permissions::from_mode(0o1777));
    let path = dir.join(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let _ = fs::set_permissions(&path, Permissions::from_mode(0o666));
    Ok(file)
}

/// The locked file, none where somebody else holds it.
fn lock(name: &str) -> Result<Option<File>> {
    let file = shared_file(name)?;
    Ok(flock(&file, FlockOperation::NonBlockingLockExclusive)
        .is_ok()
        .then_some(file))
}

#[cfg(test)]
mod tests {
    use super::{Net, lock};

    #[test]
    fn two_networks_differ_and_a_dropped_one_is_free_again() {
        let first = Net::take().unwrap();
        let second = Net::take().unwrap();
        assert_ne!(first.ip(1), second.ip(1));
        let name = format!("127.{}.{}", first.second, first.third);
        assert!(lock(&name).unwrap().is_none());
        drop(first);
        assert!(lock(&name).unwrap().is_some());
    }
}
