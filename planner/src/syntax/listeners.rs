//! What HAProxy listens on: a text in, its listeners out.
//!
//! Source: HAProxy's Configuration Manual, sections 5.1 "Bind options" and 11 "Address formats".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::lines::{Line, Lines};
use crate::model::here::{Listener, On, What};

/// The TCP ports of this host that a worker listens on which runs this text: those of its front ends, and those of its
/// Runtime API and of its peers where they have one. Of two on one place the first comes first.
///
/// An address that is known to nobody but HAProxy, such as a host's name or a variable, may be any of this host; a port
/// that is none is left out.
pub fn listeners(text: &str) -> Vec<Listener> {
    let text = Lines::parse(text);
    let lines = text.sections().flat_map(|section| &section.lines);
    lines
        .filter_map(Asked::read)
        .filter(|asked| !asked.has("namespace"))
        .flat_map(|asked| asked.listeners().collect::<Vec<_>>())
        .collect()
}

/// The listeners of one text, read once however often they are asked for.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    text: Option<Arc<str>>,
    found: Vec<Listener>,
}

impl Listeners {
    /// Takes a text, which may be the one of before.
    pub fn read(&mut self, text: &Arc<str>) {
        let same = |known: &Arc<str>| Arc::ptr_eq(known, text);
        if !self.text.as_ref().is_some_and(same) {
            self.found = listeners(text);
            self.text = Some(Arc::clone(text));
        }
    }

    /// Those of the text that was last taken.
    pub(crate) fn of_text(&self) -> &[Listener] {
        &self.found
    }
}

/// A line that asks for listeners.
struct Asked<'a> {
    /// The words before the address.
    keyword: &'static str,
    /// One or more, parted by commas.
    addresses: &'a str,
    options: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    fn read(line: &'a Line) -> Option<Self> {
        let mut words = line.words.iter().map(String::as_str);
        let keyword = match words.next()? {
            "bind" => "bind",
            "stats" => words
                .next()
                .filter(|word| *word == "socket")
                .map(|_| "stats socket")?,
            "peer" => words.next().map(|_name| "peer")?,
            _ => return None,
        };
        Some(Self {
            keyword,
            addresses: words.next()?,
            options: words.collect(),
        })
    }

    fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }

    fn addresses(&self) -> impl Iterator<Item = (&'a str, Address)> {
        let addresses = self.addresses.split(',');
        addresses.filter_map(|address| Some((address, Address::parse(address)?)))
    }

    fn listeners(&self) -> impl Iterator<Item = Listener> {
        let v6only = self.has("v6only");
        self.addresses().map(move |(address, parsed)| Listener {
            what: What::Haproxy(format!("{} {address}", self.keyword)),
            on: match parsed.ip {
                None => On::Any,
                Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => On::AllV4,
                Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) if v6only => On::AllV6,
                Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => On::Any,
                Some(ip) => On::One(ip),
            },
            ports: parsed.ports,
        })
    }
}

/// An address that HAProxy is to listen on.
struct Address {
    /// None where only HAProxy knows it.
    ip: Option<IpAddr>,
    ports: RangeInclusive<u16>,
}

impl Address {
    /// None where it is of no TCP port: a path, a file descriptor, QUIC.
    fn parse(address: &str) -> Option<Self> {
        let (family, rest) = address.split_once('@').unwrap_or(("", address));
        if !matches!(
            family,
            "" | "ipv4" | "ipv6" | "tcp" | "tcp4" | "tcp6" | "mptcp" | "mptcp4" | "mptcp6"
        ) {
            return None;
        }
        let (host, ports) = rest.rsplit_once(':')?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let ports = first.parse().ok()?..=last.parse().ok()?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let ip = match bare.unwrap_or(host) {
            "" | "*" if family.ends_with('6') => Some(Ipv6Addr::UNSPECIFIED.into()),
            "" | "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
            host => host.parse().ok(),
        };
        Some(Self { ip, ports })
    }
}

/// One port of an address that a `bind` line asks for, on the network that HAProxy itself is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The line, from 1.
    pub line: usize,
    /// What it asks for.
    pub addr: SocketAddr,
    /// Whether it leaves IPv4 alone.
    pub v6only: bool,
    /// Whether HAProxy listens there for certain.
    pub sure: bool,
}

/// What the `bind` lines of a text ask for, as far as it is `IP:port`, and whether HAProxy listens there or may leave it out.
pub fn binds(text: &str) -> Vec<Bind> {
    let text = Lines::parse(text);
    let mut found = Vec::new();
    for section in text.sections() {
        let says = |line: &Line| matches!(line.word(0), "disabled" | "enabled");
        let off = |line: &Line| line.word(0) == "disabled" || line.conditional;
        let on = !text.last(section, says).is_some_and(off);
        for line in &section.lines {
            found.extend(binds_of(line, on && !line.conditional));
        }
    }
    found
}

/// What one line asks for.
fn binds_of(line: &Line, sure: bool) -> Vec<Bind> {
    let Some(asked) = Asked::read(line).filter(|asked| asked.keyword == "bind") else {
        return Vec::new();
    };
    let elsewhere = ["namespace", "transparent", "interface"];
    if elsewhere.iter().any(|option| asked.has(option)) {
        return Vec::new();
    }
    let bind = |(_, Address { ip, ports }): (&str, Address)| {
        (ports.start() == ports.end()).then_some(Bind {
            line: line.number,
            addr: SocketAddr::new(ip?, *ports.start()),
            v6only: asked.has("v6only"),
            sure,
        })
    };
    asked.addresses().filter_map(bind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        let sure = binds(text).into_iter().filter(|bind| bind.sure);
        sure.map(|bind| bind.addr.to_string()).collect()
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
    fn every_tcp_port_that_haproxy_listens_on_is_known_with_its_addresses() {
        let text = "global\n  stats socket ipv4@127.0.0.1:9999 level admin\n  stats socket /run/x mode 600\n\
            peers p\n  peer here 10.0.0.1:1024\nfrontend web\n  bind *:80,:81\n  bind \"*:82\" # x\n  bind :::83 v6only\n\
            bind [::]:84 ssl crt x\n  bind ipv6@*:85\n  bind 10.0.0.1:8000-8009 interface eth0\n  bind www.example:86\n\
            bind \"${ADDR}:87\" transparent\n  bind 2001:db8::1:88\n  bind tcp@10.0.0.2:89\n";
        let one = |ip: &str| On::One(ip.parse().unwrap());
        let known = [
            (
                "stats socket ipv4@127.0.0.1:9999",
                one("127.0.0.1"),
                9999..=9999,
            ),
            ("peer 10.0.0.1:1024", one("10.0.0.1"), 1024..=1024),
            ("bind *:80", On::AllV4, 80..=80),
            ("bind :81", On::AllV4, 81..=81),
            ("bind *:82", On::AllV4, 82..=82),
            ("bind :::83", On::AllV6, 83..=83),
            ("bind [::]:84", On::Any, 84..=84),
            ("bind ipv6@*:85", On::Any, 85..=85),
            ("bind 10.0.0.1:8000-8009", one("10.0.0.1"), 8000..=8009),
            ("bind www.example:86", On::Any, 86..=86),
            ("bind ${ADDR}:87", On::Any, 87..=87),
            ("bind 2001:db8::1:88", one("2001:db8::1"), 88..=88),
            ("bind tcp@10.0.0.2:89", one("10.0.0.2"), 89..=89),
        ];
        let found = listeners(text);
        let found = found.iter().map(|l| (&l.what, l.on, l.ports.clone()));
        let known = known.map(|(what, on, ports)| (What::Haproxy(what.to_owned()), on, ports));
        let known: Vec<_> = known.iter().map(|(w, on, p)| (w, *on, p.clone())).collect();
        assert_eq!(found.collect::<Vec<_>>(), known);
        let none = "bind\nbind /run/x.sock\nbind fd@3\nbind abns@x\nbind quic4@:443\n#bind *:80\nbinds *:1\n\
            bind *:80 namespace blue\nbind *:\nbind *:99999\nstats enable\nstats uri /x:80\npeer here\n";
        assert_eq!(listeners(none), []);
    }

    #[test]
    fn the_listeners_of_another_text_are_others() {
        let mut listeners = Listeners::default();
        assert_eq!(listeners.of_text(), []);
        for (text, count) in [("bind :1", 1), ("bind :1\nbind :2", 2), ("", 0)] {
            let text: Arc<str> = text.into();
            for _ in 0..2 {
                listeners.read(&text);
                assert_eq!(listeners.of_text().len(), count);
            }
        }
    }

    #[test]
    fn what_haproxy_may_leave_out_is_not_tried() {
        let text = "frontend a\n bind :1\n.if defined(X)\n bind :2\n.elif defined(Y)\n bind :3\n.else\n\
            .if 1\n bind :4\n.endif\n bind :5\n.endif\n bind :6\n\
            frontend b\n bind :7\n disabled\n\
            defaults off\n disabled\n\
            frontend c from off\n bind :8\n\
            frontend d from off\n bind :9\n enabled\n\
            frontend e from off\n bind :10\n.if 1\n enabled\n.endif\n";
        let sure = ["0.0.0.0:1", "0.0.0.0:6", "0.0.0.0:9"];
        assert_eq!(addresses(text), sure);
        assert_eq!(binds(text).len(), 10);
    }
}
