//! The words of the tag with the services: places in, text out, and back. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use planner::model::BackendName;

use crate::instances::Place;

/// The shortest text that says this, in the order of services, ports and addresses.
pub fn write<'a>(places: impl IntoIterator<Item = &'a Place>) -> String {
    let mut places: Vec<&Place> = places.into_iter().collect();
    // An address repeats a port more often than the other way round.
    places.sort_by_key(|it| (&it.service, it.addr.is_some(), it.port, it.addr));
    places.dedup();
    let mut text = String::new();
    let mut before: Option<&Place> = None;
    for place in places {
        if before.is_some() {
            text.push(',');
        }
        let same = before.filter(|it| it.service == place.service);
        if same.is_none() {
            push(&mut text, format_args!("{}:", place.service));
        }
        // A port that is left out needs an address in its place.
        if same.is_none_or(|it| it.port != place.port || place.addr.is_none()) {
            push(&mut text, format_args!("{}", place.port));
        }
        match place.addr {
            None => {}
            Some(IpAddr::V6(addr)) => push(&mut text, format_args!("@[{addr}]")),
            Some(IpAddr::V4(addr)) => match before.and_then(|it| it.addr) {
                Some(IpAddr::V4(other)) if addr.octets()[..3] == other.octets()[..3] => {
                    push(&mut text, format_args!("@.{}", addr.octets()[3]));
                }
                _ => push(&mut text, format_args!("@{addr}")),
            },
        }
        before = Some(place);
    }
    text
}

fn push(text: &mut String, words: std::fmt::Arguments<'_>) {
    // A `String` takes all that is written.
    let _ = text.write_fmt(words);
}

/// Who is in such a text; what cannot be read is left out.
pub fn read(text: &str) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    let mut before: Option<Place> = None;
    for entry in text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        let place = entry_after(entry, before.as_ref());
        places.extend(place.clone());
        before = place;
    }
    places
}

fn entry_after(entry: &str, before: Option<&Place>) -> Option<Place> {
    let (what, addr) = match entry.split_once('@') {
        Some((what, addr)) => (what, Some(address(addr, before)?)),
        None => (entry, None),
    };
    let port = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        text.parse::<u16>().ok().filter(|_| plain)
    };
    let (service, port) = match what.split_once(':') {
        Some((service, text)) => (BackendName::new(service)?, port(text)?),
        None if what.is_empty() => (before?.service.clone(), before?.port),
        None => (before?.service.clone(), port(what)?),
    };
    Some(Place {
        service,
        addr,
        port,
    })
}

fn address(text: &str, before: Option<&Place>) -> Option<IpAddr> {
    if let Some(last) = text.strip_prefix('.') {
        let Some(IpAddr::V4(other)) = before?.addr else {
            return None;
        };
        let [a, b, c, _] = other.octets();
        return last
            .parse()
            .ok()
            .map(|last| Ipv4Addr::new(a, b, c, last).into());
    }
    match text.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}
