//! What is found on a balancer before there is a config: Serf's own files and members in, what a config would say out. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use planner::select::TAGS;
use serde_json::Value;
use serf_rpc::{Member, MemberStatus};

/// The agent's RPC where its files say nothing else.
const RPC: &str = "127.0.0.1:7373";

/// The agent of this host, as its own files have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its RPC address.
    pub addr: String,
    /// Its `rpc_auth`.
    pub auth_key: Option<String>,
}

impl Agent {
    /// What its files say, in the order in which it reads them; what is no JSON says nothing.
    pub(super) fn read<'a>(files: impl IntoIterator<Item = &'a str>) -> Self {
        let mut agent = Self {
            addr: RPC.to_owned(),
            auth_key: None,
        };
        for file in files {
            let Ok(value) = serde_json::from_str::<Value>(file) else {
                continue;
            };
            let word = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
            if let Some(addr) = word("rpc_addr") {
                // It listens everywhere: also here.
                agent.addr = addr.replace("0.0.0.0:", "127.0.0.1:");
            }
            agent.auth_key = word("rpc_auth").or(agent.auth_key);
        }
        agent
    }
}

/// A tag that picks members, `role=backend`.
pub type Tag = (String, String);

/// Reads `role=backend`.
///
/// # Errors
/// What is wrong with it.
pub fn tag(word: &str) -> Result<Tag, String> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("want KEY=VALUE, as in role=backend, got {word:?}")),
    }
}

fn alive(members: &[Member]) -> impl Iterator<Item = &Member> {
    members
        .iter()
        .filter(|member| member.status() == MemberStatus::Alive)
}

/// The tags of members that are alive, those of most members first, and `role` before others. Whoever reads them may copy
/// one to a shell, so those that are no plain words are left out: they can still be said.
pub(crate) fn tags(members: &[Member]) -> Vec<Tag> {
    let mut counts: BTreeMap<Tag, usize> = BTreeMap::new();
    for (key, value) in alive(members).flat_map(Member::tags) {
        let tag = (key.to_string(), value.to_string());
        let is_ours = TAGS.iter().any(|ours| ours.name == tag.0);
        if !is_ours && is_plain(&tag.0) && is_plain(&tag.1) {
            *counts.entry(tag).or_default() += 1;
        }
    }
    let mut tags: Vec<(Tag, usize)> = counts.into_iter().collect();
    tags.sort_by_key(|((key, _), count)| (key != "role", std::cmp::Reverse(*count)));
    tags.into_iter().map(|(tag, _)| tag).collect()
}

fn is_plain(word: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_.:-".contains(letter);
    !word.is_empty() && word.chars().all(is_plain) && !word.starts_with('-')
}

/// The members that are alive and have this tag.
pub(super) fn picked<'a>(members: &'a [Member], tag: &'a Tag) -> impl Iterator<Item = &'a Member> {
    let (key, value) = tag;
    alive(members).filter(move |member| member.tag(key).is_some_and(|has| has == value.as_str()))
}

/// The ports that members with this tag name by their tag `port`.
pub(super) fn ports(members: &[Member], tag: &Tag) -> BTreeSet<u16> {
    let port = |member: &Member| member.tag("port")?.to_string().parse().ok();
    picked(members, tag).filter_map(port).collect()
}

/// The networks that the members are in.
pub(super) fn networks(members: &[Member]) -> BTreeSet<IpNet> {
    let addrs = alive(members).filter_map(Member::addr);
    around(addrs.filter(|addr| !addr.is_loopback()))
}

/// The networks around addresses, as narrow as is usual: a /24 or a /64.
pub(crate) fn around(addrs: impl Iterator<Item = IpAddr>) -> BTreeSet<IpNet> {
    let net = |addr: IpAddr| {
        let length = if addr.is_ipv4() { 24 } else { 64 };
        IpNet::new(addr, length).map(|net| net.trunc()).ok()
    };
    addrs.filter_map(net).collect()
}

/// What a config says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) agent: String,
    pub(super) key_file: Option<PathBuf>,
    pub(super) site: Vec<PathBuf>,
    pub(super) backend: String,
    pub(super) tag: Tag,
    pub(super) port: u16,
    /// Others that members name.
    pub(super) ports: BTreeSet<u16>,
    pub(super) networks: BTreeSet<IpNet>,
}

impl Wanted {
    /// The text of the config.
    pub(super) fn text(&self) -> String {
        let quote = |text: &str| Value::from(text).to_string();
        let list = |items: &mut dyn Iterator<Item = String>| {
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        };
        let mut text = format!(
            "# Written by `serf-haproxy setup`; it is yours to edit. All keys: man serf-haproxy-config.\n\n\
             [serf]\naddr = {}\n",
            quote(&self.agent)
        );
        if let Some(path) = &self.key_file {
            let _ = writeln!(text, "auth_key_file = {}", quote(&path.to_string_lossy()));
        }
        let site = list(&mut self.site.iter().map(|path| quote(&path.to_string_lossy())));
        let (key, value) = &self.tag;
        let is_bare = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
        let key = if key.chars().all(is_bare) {
            key.clone()
        } else {
            quote(key)
        };
        let _ = write!(
            text,
            "\n# HAProxy reads the site's files first, which are never written, and then ours.\n\
             [haproxy]\nfiles = {site}\nconfig = {}\ntemplate = {}\nstats_socket = {}\n\
             stats_socket_group = \"serf-haproxy\"\nmaster_socket = {}\n\
             check_command = [\"serf-haproxy\", \"check-file\", \"{{path}}\"]\n\n\
             [[backend]]\nname = {}\ntags = {{ {} = {} }}\nport = {}\n",
            quote(super::OURS),
            quote(super::TEMPLATE),
            quote(super::STATS_SOCKET),
            quote(super::MASTER_SOCKET),
            quote(&self.backend),
            key,
            quote(value),
            self.port
        );
        if self.ports.iter().any(|port| *port != self.port) {
            let ports = self.ports.iter().chain([&self.port]);
            let ports: BTreeSet<&u16> = ports.collect();
            let _ = writeln!(
                text,
                "ports = {}",
                list(&mut ports.iter().map(ToString::to_string))
            );
        }
        if !self.networks.is_empty() {
            let networks = self.networks.iter().map(|net| quote(&net.to_string()));
            let _ = writeln!(text, "networks = {}", list(&mut { networks }));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use planner::config::Config;

    use super::*;

    fn member(name: &str, addr: &str, tags: &[(&str, &str)]) -> Member {
        let builder = Member::builder(name).addr(addr.parse().unwrap(), 7946);
        let builder = builder.status(MemberStatus::Alive);
        let tags = tags.iter();
        tags.fold(builder, |builder, (key, value)| builder.tag(key, value))
            .build()
    }

    #[test]
    fn the_agents_own_files_say_where_it_listens_and_its_key() {
        let agent = |files: &[&str]| Agent::read(files.iter().copied());
        let said = |addr: &str, key: Option<&str>| Agent {
            addr: addr.to_owned(),
            auth_key: key.map(str::to_owned),
        };
        assert_eq!(agent(&[]), said("127.0.0.1:7373", None));
        assert_eq!(agent(&["{", "{}"]), said("127.0.0.1:7373", None));
        let files = [r#"{"rpc_auth": "a"}"#, r#"{"rpc_addr": "0.0.0.0:7374"}"#];
        assert_eq!(agent(&files), said("127.0.0.1:7374", Some("a")));
    }

    #[test]
    fn the_role_of_most_members_is_proposed_with_their_ports_and_networks() {
        let members = [
            member("lb", "10.0.0.2", &[("role", "lb")]),
            member(
                "a",
                "10.0.0.3",
                &[("role", "web"), ("port", "8080"), ("dc", "x")],
            ),
            member(
                "b",
                "10.0.1.4",
                &[("role", "web"), ("port", "8081"), ("dc", "x")],
            ),
            member(
                "c",
                "10.0.1.5",
                &[("role", "web"), ("port", "?"), ("dc", "x")],
            ),
        ];
        let tags = tags(&members);
        let web = tag("role=web").unwrap();
        assert_eq!(tags.first(), Some(&web));
        assert_eq!(tags.len(), 3);
        assert_eq!(ports(&members, &web), BTreeSet::from([8080, 8081]));
        let networks: Vec<String> = networks(&members).iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/24", "10.0.1.0/24"]);
    }

    #[test]
    fn the_config_that_is_written_can_be_read() {
        let wanted = Wanted {
            agent: "127.0.0.1:7373".to_owned(),
            key_file: Some("/etc/serf-haproxy/rpc.key".into()),
            site: vec!["/etc/haproxy/haproxy.cfg".into()],
            backend: "nodes".to_owned(),
            tag: ("role".to_owned(), "back\"end".to_owned()),
            port: 3000,
            ports: BTreeSet::from([3001]),
            networks: BTreeSet::from(["10.0.0.0/24".parse().unwrap()]),
        };
        let config = Config::read(wanted.text().into_bytes(), []).unwrap();
        assert_eq!(config.haproxy.files, wanted.site);
        assert_eq!(config.backends[0].name.as_str(), "nodes");
    }
}
