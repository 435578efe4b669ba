//! What is this balancer itself: the addresses of this host and what listens on them in, whether a member claims one
//! of those places out. Pure.
//!
//! A member may advertise any address. With this host's, and a port that HAProxy listens on here, HAProxy would become
//! its own server, and one request would go round until nothing more fits in.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// This host's addresses, and what of this balancer listens on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// The addresses of all interfaces, in their canonical form; loopback need not be among them.
    pub addresses: BTreeSet<IpAddr>,
    /// What listens here. Of those on one place the first is named.
    pub listeners: Vec<Listener>,
}

/// Something that listens on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What it is, for people.
    pub what: What,
    /// On which of the host's addresses.
    pub on: On,
    /// On which ports.
    pub ports: RangeInclusive<u16>,
}

/// What listens on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// HAProxy, by a line with this word and address.
    Haproxy(String),
    /// The controller's own HTTP listener.
    Controller,
    /// The Serf agent, its RPC or its gossip.
    Agent,
}

/// On which of the host's addresses something listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// On this one.
    One(IpAddr),
    /// On all of IPv4.
    AllV4,
    /// On all of IPv6.
    AllV6,
    /// On all of them, or on one that is not known.
    Any,
}

impl Here {
    /// What of this balancer listens at a place, if that is on this host at all.
    pub fn listener(&self, place: SocketAddr) -> Option<&Listener> {
        let ip = reached(place.ip());
        let is_own = ip.is_loopback() || self.addresses.contains(&ip);
        let covers = |listener: &&Listener| {
            let on = match listener.on {
                On::One(addr) => reached(addr) == ip,
                On::AllV4 => ip.is_ipv4(),
                On::AllV6 => ip.is_ipv6(),
                On::Any => true,
            };
            on && listener.ports.contains(&place.port())
        };
        self.listeners.iter().find(covers).filter(|_| is_own)
    }
}

/// The address that a connection to this one reaches: an IPv4 address may be written as one of IPv6, and the
/// unspecified one is the host itself.
fn reached(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Haproxy(line) => write!(f, "HAProxy listens there (`{line}`)"),
            Self::Controller => write!(f, "`[http] listen` is there"),
            Self::Agent => write!(f, "the Serf agent is there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listener(on: On, ports: RangeInclusive<u16>) -> Listener {
        Listener {
            what: What::Controller,
            on,
            ports,
        }
    }

    fn here(on: On, ports: RangeInclusive<u16>) -> Here {
        let own = ["10.0.0.1", "2001:db8::1"];
        Here {
            addresses: own.map(|ip| ip.parse().unwrap()).into(),
            listeners: vec![listener(on, ports)],
        }
    }

    fn is_refused(here: &Here, place: &str) -> bool {
        here.listener(place.parse().unwrap()).is_some()
    }

    #[test]
    fn a_listener_on_all_addresses_is_on_each_of_this_host_and_on_no_other() {
        let all = here(On::AllV4, 80..=80);
        for own in [
            "10.0.0.1:80",
            "127.0.0.1:80",
            "127.9.8.7:80",
            "0.0.0.0:80",
            "[::ffff:10.0.0.1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_refused(&all, own), "{own}");
        }
        for other in [
            "10.0.0.2:80",
            "10.0.0.1:81",
            "[2001:db8::1]:80",
            "[::1]:80",
            "[::ffff:10.0.0.2]:80",
        ] {
            assert!(!is_refused(&all, other), "{other}");
        }
        let v6 = here(On::AllV6, 80..=80);
        assert!(is_refused(&v6, "[2001:db8::1]:80") && is_refused(&v6, "[::]:80"));
        assert!(!is_refused(&v6, "10.0.0.1:80") && !is_refused(&v6, "[2001:db8::2]:80"));
        let any = here(On::Any, 80..=80);
        assert!(is_refused(&any, "[2001:db8::1]:80") && is_refused(&any, "10.0.0.1:80"));
    }

    #[test]
    fn a_listener_on_one_address_is_on_no_other_of_this_host() {
        let one = here(On::One([127, 0, 0, 5].into()), 80..=89);
        assert!(is_refused(&one, "127.0.0.5:80") && is_refused(&one, "127.0.0.5:89"));
        assert!(!is_refused(&one, "127.0.0.6:80") && !is_refused(&one, "127.0.0.5:90"));
        // Another host's, whoever listens there.
        let elsewhere = here(On::One([10, 0, 0, 9].into()), 80..=80);
        assert!(!is_refused(&elsewhere, "10.0.0.9:80"));
    }

    proptest! {
        #[test]
        fn only_a_place_of_this_host_that_a_listener_covers_is_refused(
            own in prop::collection::btree_set(0..8_u8, 0..4),
            listens in prop::collection::vec((prop::option::of(0..8_u8), 0..4_u16, 0..3_u16), 0..4),
            last in 0..8_u8,
            port in 0..6_u16,
        ) {
            let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
            let here = Here {
                addresses: own.iter().copied().map(ip).collect(),
                listeners: listens.iter().map(|(on, from, more)| {
                    listener(on.map_or(On::AllV4, |last| On::One(ip(last))), *from..=from + more)
                }).collect(),
            };
            let covered = listens.iter().any(|(on, from, more)| {
                on.is_none_or(|on| on == last) && (*from..=from + more).contains(&port)
            });
            let refused = here.listener(SocketAddr::new(ip(last), port)).is_some();
            prop_assert_eq!(refused, own.contains(&last) && covered);
        }
    }
}
