//! The words of the tag with the services: places in, text out, and back. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use planner::services::Announcement;

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

/// Who is in such a text, as balancers read it; what cannot be read is left out.
pub fn read(text: &str) -> BTreeSet<Place> {
    let announced = Announcement::list(text.into()).flatten();
    let places = announced.filter_map(|it| {
        Some(Place {
            service: it.service,
            addr: it.addr,
            port: it.port?,
        })
    });
    places.collect()
}
