//! Members that are given by hand, `--member NAME=ADDR:PORT[,TAG=VALUE]…`: a word in, a member of Serf out. Pure.
//!
//! Such a member is taken as Serf would list it, alive, and goes the way of all others: what it is picked by, and what
//! it is kept out for, is the same.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

use planner::config::{BackendConfig, Config};
use planner::model::Model;
use planner::select::shown;
use serf_rpc::{Member, MemberStatus, Presence, Snapshot};

/// The port that agents gossip on.
const GOSSIP_PORT: u16 = 7946;

/// Why a word is no member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GivenError {
    /// There is no name, or nothing behind it.
    #[error("`{0}` is no member; write NAME=ADDR:PORT, as in web-1=192.0.2.7:3000,role=backend")]
    Form(String),
    /// The address cannot be read.
    #[error("`{0}` is no IP address with a port; write it as 192.0.2.7:3000 or [2001:db8::7]:3000")]
    Address(String),
    /// A tag has no value.
    #[error("the tag `{0}` has no value; write {0}=VALUE")]
    Tag(String),
    /// A tag is given twice.
    #[error("the tag `{0}` is given twice; leave one out")]
    Twice(String),
    /// The port is said with the address.
    #[error("the tag `port` is what stands behind the address; leave port= out")]
    Port,
}

/// Reads one member.
///
/// # Errors
/// [`GivenError`].
pub fn parse(word: &str) -> Result<Member, GivenError> {
    let form = || GivenError::Form(word.to_owned());
    let (name, rest) = word.split_once('=').ok_or_else(form)?;
    let mut parts = rest.split(',');
    let addr = parts.next().unwrap_or_default();
    if name.is_empty() || addr.is_empty() {
        return Err(form());
    }
    let addr: SocketAddr = addr
        .parse()
        .ok()
        .filter(|addr: &SocketAddr| addr.port() != 0)
        .ok_or_else(|| GivenError::Address(addr.to_owned()))?;
    let mut member = Member::builder(name)
        .addr(addr.ip(), GOSSIP_PORT)
        .status(MemberStatus::Alive)
        .tag("port", addr.port().to_string());
    let mut keys = BTreeSet::new();
    for tag in parts {
        let (key, value) = tag
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| GivenError::Tag(tag.to_owned()))?;
        if key == "port" {
            return Err(GivenError::Port);
        }
        if !keys.insert(key) {
            return Err(GivenError::Twice(key.to_owned()));
        }
        member = member.tag(key, value);
    }
    Ok(member.build())
}

/// The snapshot as it would be with these members beside those that are listed, in place of any of the same name.
pub(crate) fn beside(snapshot: Snapshot, given: &[Member]) -> Snapshot {
    if given.is_empty() {
        return snapshot;
    }
    let is_given = |name: &bstr::BStr| given.iter().any(|member| member.name() == name);
    let listed = snapshot
        .entries()
        .iter()
        .filter(|entry| entry.presence == Presence::Listed && !is_given(entry.member.name()));
    let members: Vec<Member> = listed
        .map(|entry| entry.member.clone())
        .chain(given.iter().cloned())
        .collect();
    let now = SystemTime::now();
    snapshot.relisted(members, now)
}

/// The given members that become no server, each with the reason and what helps.
pub fn left_out(given: &[Member], model: &Model, config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for member in given {
        let name = member.name();
        let server = config.serf.names.server(name);
        let mut of_it = model
            .candidates()
            .filter(|(key, _)| {
                let server = server.as_ref();
                server.is_some_and(|server| server.member() == key.server.member())
            })
            .peekable();
        let shown = shown(name);
        if let Some(why) = model.unnameable.get(&shown) {
            found.push(format!("--member {shown}: is left out: {why}"));
        } else if of_it.peek().is_none() && !announces(member, config) {
            found.push(format!(
                "--member {shown}: no backend picks it; {}",
                wanted(config)
            ));
        }
        found.extend(of_it.filter_map(|(key, candidate)| {
            let why = candidate.attributes.as_ref().err()?;
            Some(format!("--member {shown}: {key} is left out: {why}"))
        }));
    }
    found
}

/// Whether it names services: what comes of those is said of each.
fn announces(member: &Member, config: &Config) -> bool {
    config.services.is_some() && member.tag(&config.tags.services).is_some()
}

/// What the backends pick, in the words of the option.
fn wanted(config: &Config) -> String {
    let of_backend = |backend: &BackendConfig| {
        let tags = backend.tags.iter();
        let tags = tags.map(|(tag, pattern)| format!(",{}", pattern.of(tag)));
        let tags: String = tags.collect();
        let node = backend
            .node
            .as_ref()
            .map(|_| " and a name that its node matches");
        let tags = tags.trim_start_matches(',');
        let tags = if tags.is_empty() { "no tag" } else { tags };
        format!("{} wants {tags}{}", backend.name, node.unwrap_or_default())
    };
    let all: Vec<String> = config.backends.iter().map(of_backend).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_member_with_its_port_and_tags() {
        let member = parse("web-1=192.0.2.7:3000,role=backend,weight=5,note=").unwrap();
        assert_eq!(member.name(), "web-1");
        assert_eq!(member.addr(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(member.status(), MemberStatus::Alive);
        let tag = |key| member.tag(key).map(ToString::to_string);
        assert_eq!(tag("port").as_deref(), Some("3000"));
        assert_eq!(tag("role").as_deref(), Some("backend"));
        assert_eq!(tag("weight").as_deref(), Some("5"));
        assert_eq!(tag("note").as_deref(), Some(""));
        let v6 = parse("a=[2001:db8::7]:80").unwrap();
        assert_eq!(v6.addr(), Some("2001:db8::7".parse().unwrap()));
    }

    #[test]
    fn what_is_no_member_is_said_with_what_to_write() {
        for (word, part) in [
            ("web-1", "write NAME=ADDR:PORT"),
            ("=192.0.2.7:80", "write NAME=ADDR:PORT"),
            ("web-1=", "write NAME=ADDR:PORT"),
            (
                "web-1=192.0.2.7",
                "`192.0.2.7` is no IP address with a port",
            ),
            ("web-1=192.0.2.7:0", "is no IP address with a port"),
            ("web-1=2001:db8::7:80x", "is no IP address with a port"),
            ("web-1=localhost:80", "`localhost:80` is no IP address"),
            ("web-1=192.0.2.7:80,role", "the tag `role` has no value"),
            ("web-1=192.0.2.7:80,=x", "the tag `=x` has no value"),
            ("web-1=192.0.2.7:80,a=1,a=2", "`a` is given twice"),
            ("web-1=192.0.2.7:80,port=81", "leave port= out"),
        ] {
            let error = parse(word).unwrap_err().to_string();
            assert!(error.contains(part), "{word}: {error}");
        }
    }

    #[test]
    fn a_given_member_takes_the_place_of_a_listed_one_and_the_rest_stays() {
        let known = parse("old=192.0.2.1:80").unwrap();
        let snapshot = Snapshot::restored([known], SystemTime::now());
        let listed = ["a=192.0.2.2:80", "b=192.0.2.3:80"].map(|word| parse(word).unwrap());
        let snapshot = snapshot.relisted(listed.to_vec(), SystemTime::now());
        let given = ["b=192.0.2.9:80", "c=192.0.2.4:80"].map(|word| parse(word).unwrap());
        let after = beside(snapshot, &given);
        let shown = after.entries().iter().map(|entry| {
            let addr = entry.member.addr().unwrap();
            let listed = entry.presence == Presence::Listed;
            format!("{} {addr} {listed}", entry.member.name())
        });
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                "a 192.0.2.2 true",
                "b 192.0.2.9 true",
                "c 192.0.2.4 true",
                "old 192.0.2.1 false"
            ]
        );
    }
}
