//! Whether a new file's listeners can be had: two texts in, the first address that is taken out.
//!
//! `haproxy -c` binds nothing. A worker that cannot bind makes the old one give its own ports up and take them again,
//! over and over for 2 s, and connections are refused all that time (2.6, measured). So the addresses that are new in
//! a file are tried first.
//!
//! Source: HAProxy's Configuration Manual, section 5.1 "Bind options", and its Management Guide, section 4 "Stopping
//! and restarting HAProxy".

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};

/// An address that a file asks for and HAProxy would not get.
#[derive(Debug, thiserror::Error)]
#[error("HAProxy could not listen on {addr}, which line {line} asks for")]
pub struct Taken {
    /// The `bind` line, from 1.
    pub line: usize,
    /// What it asks for.
    pub addr: SocketAddr,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// Tries the ports that `text` listens on and `running` does not.
///
/// # Errors
/// The first that another program has, or whose address this host has not. An address in a form that is not `IP:port`
/// is not tried; and none is where HAProxy's own ports are free, as it runs in another network then.
pub fn try_new(text: &str, running: &str) -> Result<(), Taken> {
    let old: Vec<Listener> = listeners(running).collect();
    let is_here = |listener: &Listener| listener.try_bind().is_err();
    if !old.first().is_some_and(is_here) {
        return Ok(());
    }
    let is_new = |new: &Listener| old.iter().all(|old| old.addr.port() != new.addr.port());
    for listener in listeners(text).filter(is_new) {
        match listener.try_bind() {
            Err(source)
                if matches!(
                    source.kind(),
                    io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
                ) =>
            {
                let Listener { line, addr, .. } = listener;
                return Err(Taken { line, addr, source });
            }
            _ => {}
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    line: usize,
    addr: SocketAddr,
    v6only: bool,
}

impl Listener {
    /// Binds without listening, and lets go at once.
    fn try_bind(&self) -> io::Result<()> {
        let family = match self.addr {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = socket(family, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if self.v6only {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        Ok(bind(&socket, &self.addr)?)
    }
}

/// The TCP listeners of a text, as far as they are plain addresses on the network that HAProxy itself is in.
fn listeners(text: &str) -> impl Iterator<Item = Listener> {
    let numbered = text.lines().enumerate();
    numbered.flat_map(|(index, line)| {
        let mut words = line.split_whitespace();
        let addresses = words
            .next()
            .filter(|first| *first == "bind")
            .and_then(|_| words.next())
            .unwrap_or_default();
        let options: Vec<&str> = words.take_while(|word| !word.starts_with('#')).collect();
        let elsewhere = ["namespace", "transparent", "interface"];
        let elsewhere = options.iter().any(|option| elsewhere.contains(option));
        let v6only = options.contains(&"v6only");
        let here = addresses.split(',').filter(move |_| !elsewhere);
        here.filter_map(move |address| {
            Some(Listener {
                line: index + 1,
                addr: parse(address)?,
                v6only,
            })
        })
    })
}

fn parse(address: &str) -> Option<SocketAddr> {
    let address = ["ipv4@", "ipv6@"]
        .iter()
        .find_map(|family| address.strip_prefix(family))
        .unwrap_or(address);
    if let Ok(addr) = address.parse() {
        return Some(addr);
    }
    let port = address.strip_prefix('*').unwrap_or(address);
    let port: u16 = port.strip_prefix(':')?.parse().ok()?;
    Some((Ipv4Addr::UNSPECIFIED, port).into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        listeners(text).map(|l| l.addr.to_string()).collect()
    }

    #[test]
    fn plain_addresses_are_read_and_no_others() {
        let text = "frontend web\n  bind *:80\n bind :81,127.0.0.1:82 # x\n bind [::]:83 v6only\n bind ipv4@10.0.0.1:84";
        let found = [
            "0.0.0.0:80",
            "0.0.0.0:81",
            "127.0.0.1:82",
            "[::]:83",
            "10.0.0.1:84",
        ];
        assert_eq!(addresses(text), found);
        let others = "bind\nbind /run/x.sock\nbind fd@3\nbind *:80-90\nbind \"$X\":80\nbind abns@x\n#bind *:80\nbinds *:1\nbind *:80 namespace blue\nbind *:80 transparent";
        assert_eq!(addresses(others), Vec::<String>::new());
    }

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
