//! Backends that take servers from anywhere: a config and the addresses that are known in, what to write out. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use planner::config::Config;

use super::finding::Finding;

/// More networks are not proposed: whoever has so many knows them better.
const MOST: usize = 8;

/// What to say of the backends without `networks`, where the cluster reaches beyond this host. `servers` are the addresses
/// of the members that are picked, `own` those of this host.
pub(super) fn look(
    config: &Config,
    servers: &BTreeSet<IpAddr>,
    own: &BTreeSet<IpAddr>,
) -> Option<Finding> {
    let open = config.backends.iter().filter(|it| it.networks.is_none());
    let names: Vec<String> = open.map(|backend| backend.name.to_string()).collect();
    if names.is_empty() {
        return None;
    }
    let networks = match around(servers) {
        networks if networks.is_empty() => around(own),
        networks => networks,
    };
    let example = if networks.is_empty() {
        String::new()
    } else {
        let networks: Vec<String> = networks.iter().map(|net| format!("\"{net}\"")).collect();
        format!(", for example networks = [{}]", networks.join(", "))
    };
    let names = names.join(", ");
    Some(Finding::warning(format!(
        "[[backend]] {names}: without `networks` a member may name any host as a server; write where servers may be{example}"
    )))
}

/// The usual networks that these addresses are in, those of this host alone left out.
fn around(addresses: &BTreeSet<IpAddr>) -> BTreeSet<IpNet> {
    let network = |address: &IpAddr| match address.to_canonical() {
        IpAddr::V4(ip) if ip.is_loopback() || ip.is_link_local() => None,
        IpAddr::V6(ip) if ip.is_loopback() || ip.is_unicast_link_local() => None,
        IpAddr::V4(ip) => Some(Ipv4Net::new(ip, 24).ok()?.trunc().into()),
        IpAddr::V6(ip) => Some(Ipv6Net::new(ip, 64).ok()?.trunc().into()),
    };
    let networks: BTreeSet<IpNet> = addresses.iter().filter_map(network).collect();
    networks.into_iter().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> BTreeSet<IpAddr> {
        let words = text.split_whitespace();
        words.map(|word| word.parse().unwrap()).collect()
    }

    fn said(backend: &str, servers: &str, own: &str) -> Option<String> {
        let text = format!(
            "[haproxy]\nmaster_socket = \"/m\"\n[frontend]\nbind = [\"*:80\"]\ndefault_backend = \"web\"\n\
             [[backend]]\nname = \"web\"\nport = 80\nnode = \"web-.*\"\n{backend}\n"
        );
        let config = Config::parse(&text, []).unwrap();
        let found = look(&config, &addresses(servers), &addresses(own));
        found.map(|finding| finding.to_string())
    }

    #[test]
    fn what_is_proposed_is_where_the_members_are_or_this_host_is() {
        let own = "127.0.0.1 192.0.2.7 fe80::1 2001:db8::7";
        let text = said("", "10.0.0.5 10.0.0.9 10.0.1.1", own).unwrap();
        assert_eq!(
            text,
            "warning: [[backend]] web: without `networks` a member may name any host as a server; write where servers \
             may be, for example networks = [\"10.0.0.0/24\", \"10.0.1.0/24\"]"
        );
        let text = said("", "", own).unwrap();
        assert!(
            text.ends_with("networks = [\"192.0.2.0/24\", \"2001:db8::/64\"]"),
            "{text}"
        );
        let text = said("", "", "127.0.0.1").unwrap();
        assert!(text.ends_with("write where servers may be"), "{text}");
        assert_eq!(said("networks = [\"10.0.0.0/8\"]", "192.0.2.1", own), None);
    }
}
