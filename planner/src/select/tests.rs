use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::model::BackendName;
use crate::model::here::{Listener, On, What};

const RULES: &str = r#"
[frontend]
bind = ["*:80"]
[[backend]]
name = "web"
tags = { role = ["web", "www"] }
node = "w-.*"
port = 3000
ports = ["1-65535"]
max_weight = 100
[[backend]]
name = "near"
tags = { role = "near" }
networks = ["127.0.0.0/8"]
ports = ["8000-8999"]
[[backend]]
name = "plain"
tags = { role = "plain" }
port = 3000
"#;

fn backends() -> Vec<BackendConfig> {
    Config::parse(RULES, []).unwrap().backends
}

fn listed(members: impl IntoIterator<Item = Member>) -> Snapshot {
    let members = members.into_iter().collect();
    Snapshot::default().relisted(members, SystemTime::UNIX_EPOCH)
}

fn web(name: &str) -> serf_rpc::MemberBuilder {
    Member::builder(name)
        .addr([10, 0, 0, 1].into(), 7946)
        .tag("role", "web")
}

fn pick(members: impl IntoIterator<Item = Member>) -> Model {
    let listener = |what, on, port| Listener {
        what,
        on,
        ports: port..=port,
    };
    let defaults = Defaults {
        here: Here {
            addresses: [[10, 0, 0, 9].into()].into(),
            listeners: vec![
                listener(What::Haproxy("bind *:80".to_owned()), On::AllV4, 80),
                listener(What::Agent, On::One([10, 0, 0, 9].into()), 7373),
            ],
        },
        loopback: false,
        tags: TagNames::default(),
        names: Naming::Quarantine,
        tags_are_read: false,
        fixed: [key("web", "w-sorry")].into(),
    };
    select(&listed(members), &backends(), &defaults)
}

fn key(backend: &str, server: &str) -> ServerKey {
    ServerKey::read(backend, server).unwrap()
}

fn candidate(model: &Model, backend: &str, server: &str) -> Option<Candidate> {
    let servers = model.backends.get(&BackendName::new(backend)?)?;
    servers.get(&ServerName::new(server)?).cloned()
}

fn quarantine(member: serf_rpc::MemberBuilder) -> Quarantine {
    let model = pick([member.build(), web("w-good").build()]);
    assert!(
        candidate(&model, "web", "w-good")
            .unwrap()
            .attributes
            .is_ok(),
        "nobody else is hurt"
    );
    candidate(&model, "web", "w-bad")
        .unwrap()
        .attributes
        .unwrap_err()
}

#[test]
fn all_tags_must_match_one_of_their_values_and_the_pattern_the_whole_name() {
    let model = pick([
        web("w-1").build(),
        web("w-2").tag("x", "y").build(),
        Member::builder("w-3").tag("role", "db").build(),
        web("xw-4").build(),
    ]);
    let names: Vec<_> = model.candidates().map(|(key, _)| key.to_string()).collect();
    assert_eq!(names, ["web/w-1", "web/w-2"]);
    assert_eq!(model.known.len(), 4, "the others are known all the same");
}

#[test]
fn a_tag_for_the_port_goes_before_the_backends() {
    let model = pick([web("w-1").tag("port", "8080").build()]);
    let attributes = candidate(&model, "web", "w-1").unwrap().attributes.unwrap();
    assert_eq!(attributes.endpoint.addr.to_string(), "10.0.0.1:8080");
}

#[test]
fn a_member_may_be_anywhere_but_where_the_balancer_itself_listens() {
    let here = |port: &str| {
        web("w-bad")
            .addr([10, 0, 0, 9].into(), 7946)
            .tag("port", port)
    };
    for (port, why) in [
        ("80", "HAProxy listens there (`bind *:80`)"),
        ("7373", "the Serf agent is there"),
    ] {
        let words = format!("its address 10.0.0.9:{port} is this balancer's own: {why}");
        assert_eq!(quarantine(here(port)).to_string(), words);
    }
    let elsewhere = web("w-elsewhere").tag("port", "7373");
    let beside = web("w-beside")
        .addr([10, 0, 0, 9].into(), 7946)
        .tag("port", "3000");
    for (name, member) in [("w-elsewhere", elsewhere), ("w-beside", beside)] {
        let model = pick([member.build()]);
        assert!(
            candidate(&model, "web", name).unwrap().attributes.is_ok(),
            "{name}"
        );
    }
}

#[test]
fn gateways_to_ordinary_addresses_are_ordinary() {
    for addr in [
        "64:ff9b::10.0.0.1",
        "2002:c633:6401::1",
        "fd00::1",
        "100.64.0.1",
    ] {
        let addr: IpAddr = addr.parse().unwrap();
        let model = pick([web("w-1").addr(addr, 7946).build()]);
        let attributes = candidate(&model, "web", "w-1").unwrap().attributes;
        assert!(attributes.is_ok(), "{attributes:?}");
    }
}

#[test]
fn without_ports_a_server_has_the_port_of_its_backend() {
    let plain = |port: &str| {
        let member = Member::builder("p-1").addr([10, 0, 0, 1].into(), 7946);
        let model = pick([member.tag("role", "plain").tag("port", port).build()]);
        candidate(&model, "plain", "p-1").unwrap().attributes
    };
    assert_eq!(plain("2375").unwrap_err(), Quarantine::Port(2375));
    assert_eq!(plain("3000").unwrap().endpoint.addr.port(), 3000);
}

#[test]
fn what_a_member_may_not_claim_quarantines_it_alone() {
    let bad = || web("w-bad");
    for addr in [
        "127.0.0.1",
        "169.254.1.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fe80::1",
        "ff02::1",
        "::",
        "240.0.0.1",
        "fec0::1",
        // Where the machines of clouds get their credentials.
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        // Ways to an IPv4 address that is refused: NAT64, 6to4, IPv4-compatible.
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::127.0.0.1",
        "2002:7f00:1::1",
        "::127.0.0.1",
    ] {
        let addr: IpAddr = addr.parse().unwrap();
        assert_eq!(
            quarantine(bad().addr(addr, 7946)),
            Quarantine::Network(addr)
        );
    }
    for (tag, value) in [
        ("port", "0"),
        ("port", "+1"),
        ("port", "99999"),
        ("port", ""),
        ("weight", "-1"),
        ("weight", "257"),
        ("state", "Ready"),
    ] {
        let found = quarantine(bad().tag(tag, value));
        assert!(
            matches!(&found, Quarantine::Tag { tag: t, .. } if t == tag),
            "{found:?}"
        );
    }
}

#[test]
fn a_backends_own_networks_and_ports_go_before_the_defaults() {
    let near = |addr: [u8; 4], port: &str| {
        let member = Member::builder("n")
            .addr(addr.into(), 7946)
            .tag("role", "near")
            .tag("port", port);
        candidate(&pick([member.build()]), "near", "n")
            .unwrap()
            .attributes
    };
    assert!(near([127, 0, 0, 1], "8080").is_ok());
    assert_eq!(near([127, 0, 0, 1], "80"), Err(Quarantine::Port(80)));
    assert_eq!(
        near([10, 0, 0, 1], "8080"),
        Err(Quarantine::Network([10, 0, 0, 1].into()))
    );
}

#[test]
fn a_greater_weight_than_the_backend_allows_counts_as_the_greatest() {
    let model = pick([web("w-1").tag("weight", "256").build()]);
    let attributes = candidate(&model, "web", "w-1").unwrap().attributes.unwrap();
    assert_eq!(attributes.endpoint.weight.get(), 100);
}

#[test]
fn a_name_that_can_be_no_servers_is_shown_escaped() {
    let mut rules = backends();
    rules.iter_mut().for_each(|backend| backend.node = None);
    let model = select(
        &listed([web("a\n;\u{1b}[1m").build()]),
        &rules,
        &Defaults::default(),
    );
    assert_eq!(
        model.unnameable.keys().collect::<Vec<_>>(),
        ["a\\n;\\x1b[1m"]
    );
    assert!(model.known.is_empty());
}

#[test]
fn gossip_is_believed_of_listed_members_and_no_bad_word_is_taken_back_by_silence() {
    use serf_rpc::MemberStatus::{Alive, Failed, Leaving, Left, None};
    let said = |status| {
        let listed = listed([web("w-1").status(status).build()]);
        let absent = listed.relisted(Vec::new(), SystemTime::UNIX_EPOCH);
        [listed, absent].map(|snapshot| {
            candidate(
                &select(&snapshot, &backends(), &Defaults::default()),
                "web",
                "w-1",
            )
            .unwrap()
            .gossip
        })
    };
    assert_eq!(said(Alive), [SerfStatus::Alive, SerfStatus::Absent]);
    assert_eq!(said(Failed), [SerfStatus::Failed, SerfStatus::Failed]);
    assert_eq!(said(Leaving), [SerfStatus::Leaving, SerfStatus::Leaving]);
    assert_eq!(said(Left), [SerfStatus::Left, SerfStatus::Left]);
    assert_eq!(said(None), [SerfStatus::Absent, SerfStatus::Absent]);
}

proptest! {
    /// Names and tags of any bytes: what is picked is whitelisted, what is shown is printable.
    #[test]
    fn nothing_but_whitelisted_values_comes_out_of_hostile_members(
        name in prop::collection::vec(any::<u8>(), 0..80),
        tags in prop::collection::vec(("port|weight|state", prop::collection::vec(any::<u8>(), 0..12)), 0..4),
    ) {
        let mut rules = backends();
        rules.iter_mut().for_each(|backend| backend.node = None);
        let mut member = Member::builder(&name).addr([10, 0, 0, 1].into(), 1).tag("role", "web");
        for (tag, value) in &tags {
            member = member.tag(tag, value);
        }
        let model = select(&listed([member.build()]), &rules, &Defaults::default());
        for (key, candidate) in model.candidates() {
            prop_assert!(key.server.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)));
            if let Err(reason) = &candidate.attributes {
                prop_assert!(reason.to_string().bytes().all(|b| (b' '..=b'~').contains(&b)));
            }
        }
        prop_assert!(model.unnameable.keys().all(|name| name.bytes().all(|b| (b' '..=b'~').contains(&b))));
        prop_assert_eq!(model.candidates().count() + model.unnameable.len(), 1);
    }
}

#[test]
fn tags_are_called_what_the_config_says_and_a_backends_port_what_it_says() {
    let rules = r#"
[frontend]
bind = ["*:80"]
default_backend = "web"
[tags]
port = "p"
weight = "w"
state = "s"
[[backend]]
name = "web"
tags = { role = "web" }
ports = ["1-65535"]
[[backend]]
name = "admin"
tags = { role = "web" }
port_tag = "admin"
ports = ["1-65535"]
"#;
    let config = Config::parse(rules, []).unwrap();
    let defaults = Defaults {
        tags: config.tags.clone(),
        ..Defaults::default()
    };
    let member = web("a").tag("p", "3000").tag("admin", "9000").tag("w", "5");
    let member = member.tag("port", "x").tag("weight", "x").tag("state", "x");
    let attributes = |member: serf_rpc::MemberBuilder| {
        let model = select(&listed([member.build()]), &config.backends, &defaults);
        let found = model.candidates().map(|(_, it)| it.attributes.clone());
        found.collect::<Vec<_>>()
    };
    let found = attributes(member.clone().tag("s", "drain"));
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    let ports: Vec<_> = found.iter().map(|it| it.endpoint.addr.port()).collect();
    assert_eq!(ports, [9000, 3000]);
    assert!(found.iter().all(|it| it.requested == RequestedState::Drain));
    assert!(found.iter().all(|it| it.endpoint.weight.get() == 5));
    let wrong = attributes(member.tag("s", "x"))[0].clone().unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "its tag `s` is \"x\", want ready, drain or maint"
    );
}

#[test]
fn a_value_is_picked_out_of_a_list_or_by_an_expression() {
    let rules = r#"
[frontend]
bind = ["*:80"]
default_backend = "list"
[[backend]]
name = "list"
tags = { role = { contains = "backend" } }
port = 3000
[[backend]]
name = "expression"
tags = { role = { matches = "back(end)?" } }
port = 3000
"#;
    let backends = Config::parse(rules, []).unwrap().backends;
    let picked = |role: &[u8]| {
        let member = Member::builder("a").addr([10, 0, 0, 1].into(), 7946);
        let snapshot = listed([member.tag("role", role).build()]);
        let model = select(&snapshot, &backends, &Defaults::default());
        let picked = model
            .backends
            .iter()
            .filter(|(_, picked)| !picked.is_empty());
        picked.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(picked(b"backend"), ["expression", "list"]);
    assert_eq!(picked(b"app, backend"), ["list"]);
    assert_eq!(picked(b"back"), ["expression"]);
    assert_eq!(picked(b"backends"), Vec::<String>::new());
    assert_eq!(picked(b"backend,\xff"), ["list"]);
}

#[test]
fn a_member_with_the_name_of_a_line_of_the_templates_own_is_kept_out() {
    let model = pick([web("w-sorry").build(), web("w-1").build()]);
    let of = |name| candidate(&model, "web", name).unwrap().attributes;
    assert_eq!(of("w-sorry").unwrap_err(), Quarantine::Fixed);
    assert!(of("w-1").is_ok());
}

/// The tables of docs/reference/tags.md.
#[test]
fn every_tag_is_documented_with_what_comes_of_it() {
    let rows = TAGS.map(|tag| {
        [
            format!("`{}`", tag.name),
            tag.want.into(),
            tag.absent.into(),
            tag.about.into(),
        ]
    });
    let tags = reference::table(
        ["tag", "what it may be", "without it", "what it does"],
        rows,
    );
    let comes_of = |given: &[(&str, &str)]| {
        let member = Member::builder("web-1")
            .addr([10, 0, 0, 1].into(), 7946)
            .tag("role", "plain");
        let member = given
            .iter()
            .fold(member, |member, (tag, value)| member.tag(tag, value));
        let found = candidate(&pick([member.build()]), "plain", "web-1").unwrap();
        match found.attributes {
            Ok(Attributes {
                endpoint,
                requested,
            }) => format!(
                "{}, weight {}, {requested:?}",
                endpoint.addr,
                endpoint.weight.get()
            )
            .to_lowercase(),
            Err(quarantine) => format!("left out: {quarantine}"),
        }
    };
    let mut examples: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
    for (tag, values) in [
        ("port", &["3000", "8080", "0", "https", "+80"][..]),
        ("weight", &["0", "7", "256", "257", "-1", "high"]),
        ("state", &["ready", "drain", "maint", "Drain", ""]),
    ] {
        assert!(TAGS.iter().any(|it| it.name == tag));
        examples.extend(values.iter().map(|value| vec![(tag, *value)]));
    }
    let shown = |given: &[(&str, &str)]| match given {
        [] => "no such tag".to_owned(),
        given => given
            .iter()
            .map(|(tag, value)| format!("`{tag}={value}`"))
            .collect::<Vec<_>>()
            .join(" "),
    };
    let rows = examples.iter().map(|given| [shown(given), comes_of(given)]);
    let examples = reference::table(["tags", "what comes of them"], rows);
    reference::hold(
        "tags.md",
        &format!(
            "{tags}\nOf a member at 10.0.0.1, in a backend with `port = 3000` that says nothing else of ports and weights:\n\n{examples}"
        ),
    );
}
