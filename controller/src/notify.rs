//! "Everything is in place" in, a word to the supervisor that started this process out: systemd's socket or s6's
//! file descriptor.

use std::fs::File;
use std::io::{self, Write as _};

use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Whom to tell, once.
#[derive(Debug)]
pub struct Readiness {
    told: bool,
    s6: Option<File>,
}

impl Readiness {
    /// With the file descriptor of s6's `notification-fd`, if there is one; `NOTIFY_SOCKET` is looked for anyway. To be
    /// made before anything is opened that could get the same number.
    ///
    /// # Errors
    /// When nothing is open under that number.
    pub fn new(notification_fd: Option<u32>) -> io::Result<Self> {
        Ok(Self {
            told: false,
            s6: notification_fd.map(inherited).transpose()?,
        })
    }

    /// Tells, the first time only. A supervisor that went away is no reason to stop.
    pub fn tell(&mut self) {
        if self.told {
            return;
        }
        self.told = true;
        tracing::info!("HAProxy and its file are as they should be");
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::debug!(%error, "cannot notify the supervisor");
        }
        if let Some(mut s6) = self.s6.take()
            && let Err(error) = s6.write_all(b"\n")
        {
            tracing::debug!(%error, "cannot write to the notification file descriptor");
        }
    }
}

/// What this process was started with under that number. `/proc/self/fd` would ask for rights anew, which a pipe of
/// root's does not give to the user that `s6-setuidgid` made of it; it serves where a sandbox forbids the other way.
fn inherited(fd: u32) -> io::Result<File> {
    let number = i32::try_from(fd).map_err(|_| Errno::BADF)?;
    let own = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()));
    match own {
        Ok(own) => Ok(own.into()),
        Err(Errno::BADF) => Err(Errno::BADF.into()),
        Err(_) => File::options()
            .write(true)
            .open(format!("/proc/self/fd/{fd}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn s6_is_told_once() {
        let (mut reader, writer) = io::pipe().unwrap();
        let fd = u32::try_from(writer.as_raw_fd()).unwrap();
        let mut readiness = Readiness::new(Some(fd)).unwrap();
        drop(writer);
        readiness.tell();
        readiness.tell();
        let mut told = String::new();
        reader.read_to_string(&mut told).unwrap();
        assert_eq!(told, "\n");
    }

    #[test]
    fn a_number_that_nothing_is_open_under_is_an_error() {
        assert!(Readiness::new(Some(999_999)).is_err());
    }
}
