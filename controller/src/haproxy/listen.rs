//! Whether HAProxy could listen on what is new in a text: two texts in, the first new address that is taken out.
//!
//! `haproxy -c` binds nothing. A worker that cannot bind makes the old one give its own ports up and take them again,
//! over and over for 2 s, and connections are refused all that time (2.6, measured). So the addresses that are new in
//! a file are tried first.
//!
//! Source: HAProxy's Management Guide, section 4 "Stopping and restarting HAProxy".

use std::io;
use std::net::SocketAddr;

use planner::syntax::listeners::{Bind, binds};
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};

/// An address that a file asks for and HAProxy would not get.
#[derive(Debug, thiserror::Error)]
#[error("HAProxy could not listen on {addr}, which line {line} asks for")]
pub(crate) struct Taken {
    /// The `bind` line, from 1.
    pub line: usize,
    /// What it asks for.
    pub addr: SocketAddr,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// Tries the ports that `text` listens on and `running` does not. Whether a line inside `.if`, or in a section that is
/// `disabled`, is listened on is HAProxy's to know: it is not tried, and a port that `running` has there may be its own.
///
/// # Errors
/// The first that another program has, or whose address this host has not. An address in a form that is not `IP:port`
/// is not tried; and none is where HAProxy's own ports are free, as it runs in another network then.
pub(crate) fn try_new(text: &str, running: &str) -> Result<(), Taken> {
    let old = binds(running);
    let is_here = |old: &Bind| try_bind(old).is_err();
    if !old.iter().find(|old| old.sure).is_some_and(is_here) {
        return Ok(());
    }
    let is_new = |new: &Bind| new.sure && old.iter().all(|old| old.addr.port() != new.addr.port());
    for bind in binds(text).into_iter().filter(is_new) {
        match try_bind(&bind) {
            Err(source)
                if matches!(
                    source.kind(),
                    io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
                ) =>
            {
                let Bind { line, addr, .. } = bind;
                return Err(Taken { line, addr, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Binds without listening, and lets go at once.
fn try_bind(wanted: &Bind) -> io::Result<()> {
    let family = match wanted.addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if wanted.v6only {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(bind(&socket, &wanted.addr)?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_another_program_has_is_found_and_one_that_haproxy_has_is_not_tried() {
        let haproxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = haproxy.local_addr().unwrap();
        let taken = other.local_addr().unwrap();
        let running = format!("bind {own}");
        assert!(try_new(&running, &running).is_ok());
        let wanted = format!("{running}\n\nbind {taken}");
        let found = try_new(&wanted, &running).unwrap_err();
        assert_eq!((found.line, found.addr), (3, taken));
        assert_eq!(found.source.kind(), io::ErrorKind::AddrInUse);
        drop(other);
        assert!(try_new(&wanted, &running).is_ok());
        let nowhere = format!("{running}\nbind 192.0.2.1:1");
        let found = try_new(&nowhere, &running).unwrap_err();
        assert_eq!(found.source.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn a_port_that_another_program_has_may_stand_in_a_condition() {
        let haproxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let running = format!("bind {}", haproxy.local_addr().unwrap());
        let taken = format!("bind {}", other.local_addr().unwrap());
        let wanted = format!("{running}\n.if streq(\"$SITE\",blue)\n{taken}\n.endif\n");
        assert!(try_new(&wanted, &running).is_ok());
        // HAProxy itself may have it, and keeps it.
        let plain = format!("{running}\n{taken}");
        assert!(try_new(&plain, &wanted).is_ok());
        assert!(try_new(&plain, &running).is_err());
    }

    #[test]
    fn nothing_is_said_of_a_network_that_haproxy_is_not_in() {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = format!("bind {}", other.local_addr().unwrap());
        assert!(try_new(&wanted, &format!("bind {free}")).is_ok());
        assert!(try_new(&wanted, "").is_ok());
    }
}
