//! What members announce: the bytes of a tag in, services with ports and addresses out. Hostile bytes are refused one by one.

use std::net::IpAddr;

use bstr::{BStr, ByteSlice};

use crate::model::BackendName;
use crate::select::number;

/// A service that a member says it has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announcement {
    /// Its name, which is its backend's.
    pub service: BackendName,
    /// Where it listens; else that is said by another tag or by the config.
    pub port: Option<u16>,
    /// Its address, where that is not the member's.
    pub addr: Option<IpAddr>,
}

impl Announcement {
    /// Takes `shop`, `shop:3000`, `shop:3000@172.18.0.5` or `shop:3000@[fd00::5]`; and what goes on with the entry before it: a
    /// bare `3001` is another port of its service, a bare `@172.18.0.6` its service and port at another address, and of an
    /// address that differs from the one before in its last number only that one need stand, `@.6`.
    pub fn read(text: &BStr, before: Option<&Self>) -> Option<Self> {
        let text = text.to_str().ok()?;
        let (text, addr) = match text.split_once('@') {
            Some((text, addr)) => (text, Some(address(addr, before)?)),
            None => (text, None),
        };
        let port = |text: &str| number(text.into()).filter(|port| *port != 0);
        let is_port = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let (service, port) = match text.split_once(':') {
            Some((name, text)) => (BackendName::new(name)?, Some(port(text)?)),
            None if text.is_empty() => (before?.service.clone(), before?.port),
            None if is_port(text) => (before?.service.clone(), Some(port(text)?)),
            None => (BackendName::new(text)?, None),
        };
        // It would be read as a port where it stands alone.
        let is_service = !is_port(service.as_str());
        is_service.then_some(Self {
            service,
            port,
            addr,
        })
    }

    /// Takes a list of them, with blanks around the commas or not: each, or what cannot be read of it.
    pub fn list(value: &BStr) -> impl Iterator<Item = Result<Self, &BStr>> {
        let entries = value.split_str(",").map(|entry| BStr::new(entry.trim()));
        let entries = entries.filter(|entry| !entry.is_empty());
        entries.scan(None, |before: &mut Option<Self>, entry| {
            *before = Self::read(entry, before.as_ref());
            Some(before.clone().ok_or(entry))
        })
    }
}

fn address(text: &str, before: Option<&Announcement>) -> Option<IpAddr> {
    if let Some(last) = text.strip_prefix('.') {
        let Some(IpAddr::V4(other)) = before?.addr else {
            return None;
        };
        let [a, b, c, _] = other.octets();
        return last.parse().ok().map(|last| IpAddr::from([a, b, c, last]));
    }
    match text.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(value: &[u8]) -> Vec<String> {
        let list = Announcement::list(value.into());
        let shown = list.map(|entry| match entry {
            Ok(Announcement {
                service,
                port,
                addr,
            }) => format!("{service} {port:?} {addr:?}"),
            Err(entry) => format!("? {entry}"),
        });
        shown.collect()
    }

    #[test]
    fn a_list_names_services_with_ports_and_addresses() {
        assert_eq!(
            shown(b"shop:3000,api:4000, shop:3001@172.18.0.5 ,web,x:1@[fd00::5],"),
            [
                "shop Some(3000) None",
                "api Some(4000) None",
                "shop Some(3001) Some(172.18.0.5)",
                "web None None",
                "x Some(1) Some(fd00::5)",
            ]
        );
        assert!(shown(b"").is_empty() && shown(b" , ,").is_empty());
    }

    #[test]
    fn an_entry_goes_on_with_the_one_before_it() {
        assert_eq!(
            shown(
                b"shop:32768,32769,3000@172.18.0.5,@.6,@172.19.0.6,4000,api:1@[fd00::5],@[fd00::6]"
            ),
            [
                "shop Some(32768) None",
                "shop Some(32769) None",
                "shop Some(3000) Some(172.18.0.5)",
                "shop Some(3000) Some(172.18.0.6)",
                "shop Some(3000) Some(172.19.0.6)",
                "shop Some(4000) None",
                "api Some(1) Some(fd00::5)",
                "api Some(1) Some(fd00::6)",
            ]
        );
        // With one that cannot be read nothing goes on.
        assert_eq!(
            shown(b"shop:0,81,@10.0.0.1,80"),
            ["? shop:0", "? 81", "? @10.0.0.1", "? 80"]
        );
        assert_eq!(
            shown(b"shop:1,@.5,80:1"),
            ["shop Some(1) None", "? @.5", "? 80:1"]
        );
    }

    #[test]
    fn what_is_no_service_is_refused_and_the_others_are_not() {
        for odd in [
            "shop:",
            "shop:0",
            "shop:080000",
            "shop:+80",
            "shop:80:80",
            "shop:80@",
            "shop:80@host",
            "shop:80@fd00::5",
            "shop:80@[10.0.0.1]",
            "shop:80@10.0.0.1:80",
            ":80",
            "@10.0.0.1",
            "a b",
            "-a:80",
            "a/b:80",
            "a\nb",
            "*:80",
        ] {
            assert_eq!(
                shown(format!("{odd},api:1").as_bytes()),
                [format!("? {odd}"), "api Some(1) None".to_owned()]
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_services_or_are_not(value in prop::collection::vec(any::<u8>(), 0..200), alike in "[a-c0-9:@.,\\[\\] ]{0,40}") {
            for value in [&value[..], alike.as_bytes()] {
                for service in Announcement::list(value.into()).flatten() {
                    prop_assert!(BackendName::new(service.service.as_str()).is_some());
                    prop_assert!(service.port != Some(0));
                }
            }
        }
    }
}
