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
    /// Takes `shop`, `shop:3000`, `shop:3000@172.18.0.5` or `shop:3000@[fd00::5]`.
    pub fn read(text: &BStr) -> Option<Self> {
        let text = text.to_str().ok()?;
        let (text, addr) = match text.split_once('@') {
            Some((text, addr)) => (text, Some(address(addr)?)),
            None => (text, None),
        };
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => {
                let port = number(port.into()).filter(|port| *port != 0);
                (name, Some(port?))
            }
            None => (text, None),
        };
        let service = BackendName::new(name)?;
        Some(Self {
            service,
            port,
            addr,
        })
    }

    /// Takes a list of them, with blanks around the commas or not: each, or what cannot be read of it.
    pub fn list(value: &BStr) -> impl Iterator<Item = Result<Self, &BStr>> {
        let entries = value.split_str(",").map(|entry| BStr::new(entry.trim()));
        let entries = entries.filter(|entry| !entry.is_empty());
        entries.map(|entry| Self::read(entry).ok_or(entry))
    }
}

fn address(text: &str) -> Option<IpAddr> {
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
