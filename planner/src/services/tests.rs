use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use serf_rpc::{Member, MemberStatus, Snapshot};

use super::*;
use crate::config::Config;
use crate::model::{BackendName, Naming, Server, ServerKey, Servers};
use crate::pipeline::LoadedConfig;
use crate::render::Renderer;
use crate::route::map;
use crate::select::Defaults;

const CONFIG: &str = r#"
[frontend]
bind = ["*:80"]
[[backend]]
name = "nodes"
tags = { role = "backend" }
port = 3000
[[route]]
host = "www.example.com"
path = "/taken"
backend = "nodes"
[services]
allow = ["shop", "api-*", "nodes"]
default_host = "{service}.example.com"
hosts = ["*.example.com"]
paths = ["/v1", "/taken"]
keep_empty = "10m"
max = 3
[services.defaults]
check = "HEAD /health"
[services.of.shop]
networks = ["10.0.0.0/8"]
balance = "leastconn"
"#;

fn config() -> Config {
    // A glob may have the name of a backend, a name may not.
    let text = CONFIG.replace("\"nodes\"]", "\"node*\"]");
    Config::parse(&text, []).unwrap()
}

fn defaults() -> Defaults {
    Defaults {
        names: Naming::Map,
        tags_are_read: true,
        ..Defaults::default()
    }
}

fn member(name: &str, tags: &[(&str, &str)]) -> Member {
    let member = Member::builder(name).addr([10, 0, 0, 1].into(), 7946);
    let tags = tags.iter();
    tags.fold(member, |member, (tag, value)| member.tag(*tag, *value))
        .build()
}

fn listed(members: impl IntoIterator<Item = Member>) -> Snapshot {
    Snapshot::default().relisted(members.into_iter().collect(), SystemTime::UNIX_EPOCH)
}

fn gathered(members: impl IntoIterator<Item = Member>) -> Gathered {
    gather(&listed(members), &config(), &defaults())
}

/// The servers of all services, with their addresses or why they are left out; and what is refused.
fn told(members: impl IntoIterator<Item = Member>) -> BTreeMap<String, String> {
    let gathered = gathered(members);
    let of_services = gathered.services.iter().flat_map(|(service, found)| {
        found.servers.iter().map(move |(server, candidate)| {
            let said = match &candidate.attributes {
                Ok(it) => format!("{} weight {}", it.endpoint.addr, it.endpoint.weight.get()),
                Err(why) => why.to_string(),
            };
            (format!("{service}/{server}"), said)
        })
    });
    let refused = gathered.refused.iter();
    of_services
        .chain(refused.map(|(what, why)| (what.clone(), why.to_string())))
        .collect()
}

/// A book that has heard these members at this time.
fn heard(book: &mut Book, members: &[Member], now: Instant) -> Gathered {
    let mut gathered = gathered(members.to_vec());
    book.revise(&mut gathered, &config(), true, now);
    gathered
}

fn names(book: &Book) -> Vec<&str> {
    book.iter().map(|(name, _)| name.as_str()).collect()
}

fn name(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

#[test]
fn every_instance_of_a_member_is_a_server_of_its_own() {
    let told = told([member(
        "web-1",
        &[
            (
                "svc",
                "shop:3000,shop:3001@10.9.9.9,api-a:4000,api-b:4000@192.168.0.9,shop:3002@192.168.0.9",
            ),
            ("weight.shop", "5"),
            ("weight.shop:3001", "7"),
            ("weight", "2"),
        ],
    )]);
    assert_eq!(told["shop/web-1:3000"], "10.0.0.1:3000 weight 5");
    assert_eq!(told["shop/web-1:10.9.9.9:3001"], "10.9.9.9:3001 weight 7");
    assert_eq!(told["api-a/web-1:4000"], "10.0.0.1:4000 weight 2");
    assert_eq!(
        told["api-b/web-1:192.168.0.9:4000"],
        "192.168.0.9:4000 weight 2"
    );
    assert!(told["shop/web-1:192.168.0.9:3002"].contains("outside the networks"));
}

#[test]
fn what_may_not_be_announced_is_left_out_and_the_rest_of_the_member_goes_on() {
    let told = told([member(
        "web-1",
        &[
            (
                "svc",
                "shop:3000,admin:1,nodes:3000,api-a:22,api-b:4000,api-c:4000,api-d:4000,shop:3000,a b",
            ),
            ("host.api-b", "bank.example.org"),
            ("path.api-c", "/"),
            ("proto.api-d", "gopher"),
        ],
    )]);
    assert_eq!(told["shop/web-1:3000"], "10.0.0.1:3000 weight 1");
    for (what, why) in [
        ("admin/web-1", "`[services] allow`"),
        ("nodes/web-1", "a [[backend]] has this name"),
        ("api-a/web-1:22", "port 22 is not allowed"),
        ("api-b/web-1:4000", "host bank.example.org"),
        ("api-c/web-1:4000", "path /, which"),
        ("api-d/web-1:4000", "`proto.api-d` is \"gopher\""),
        ("shop/web-1", "announced twice"),
        ("a b/web-1", "no service"),
    ] {
        assert!(told[what].contains(why), "{what}: {}", told[what]);
    }
}

#[test]
fn a_service_stays_until_nobody_has_served_it_for_keep_empty() {
    let (start, mut book) = (Instant::now(), Book::default());
    let shop = member("web-1", &[("svc", "shop:3000")]);
    heard(&mut book, std::slice::from_ref(&shop), start);
    book.observe_serving(|_| true, start);
    assert_eq!(
        (names(&book), book.deadline(&config())),
        (vec!["shop"], None)
    );
    // Its member is gone, and its server answers still: then that, too, is over.
    let later = start + Duration::from_secs(60);
    heard(&mut book, &[], later);
    book.observe_serving(|_| true, later);
    assert_eq!(book.deadline(&config()), None);
    book.observe_serving(|_| false, later);
    let end = later + Duration::from_secs(600);
    assert_eq!(book.deadline(&config()), Some(end));
    heard(&mut book, &[], end - Duration::from_millis(1));
    assert_eq!(names(&book), ["shop"]);
    // Before an agent has answered none goes, and one that comes back is as it was.
    let mut unheard = book.clone();
    unheard.revise(&mut Gathered::default(), &config(), false, end);
    assert_eq!(names(&unheard), ["shop"]);
    let mut back = book.clone();
    heard(&mut back, &[shop], end);
    back.observe_serving(|_| false, end);
    assert_eq!(
        (names(&back), back.deadline(&config())),
        (vec!["shop"], None)
    );
    heard(&mut book, &[], end);
    assert_eq!(names(&book), [""; 0]);
}

#[test]
fn a_failed_member_names_no_new_service() {
    let mut book = Book::default();
    let failed = Member::builder("web-1").addr([10, 0, 0, 1].into(), 7946);
    let failed = failed
        .status(MemberStatus::Failed)
        .tag("svc", "shop:3000")
        .build();
    heard(&mut book, &[failed], Instant::now());
    assert_eq!(names(&book), [""; 0]);
}

#[test]
fn there_are_as_many_services_as_may_be_and_those_there_first_stay() {
    let (now, mut book) = (Instant::now(), Book::default());
    heard(
        &mut book,
        &[member("m1", &[("svc", "shop:3000,api-z:1024")])],
        now,
    );
    let many = member("m2", &[("svc", "api-a:3000,api-b:3000,api-c:3000")]);
    let gathered = heard(&mut book, &[many], now);
    assert_eq!(names(&book), ["api-a", "api-z", "shop"]);
    assert!(
        gathered.refused["api-b/m2:3000"]
            .to_string()
            .contains("as many as")
    );
    assert!(!gathered.services.contains_key(&name("api-c")));
}

#[test]
fn what_more_members_say_of_a_service_holds_and_the_dispute_is_told() {
    let (now, mut book) = (Instant::now(), Book::default());
    let says = |name: &str, host: &str| member(name, &[("svc", "shop:3000"), ("host.shop", host)]);
    heard(
        &mut book,
        &[says("m1", "b.example.com"), says("m2", "a.example.com")],
        now,
    );
    let service = |book: &Book| book.iter().next().map(|(_, it)| it.clone()).unwrap();
    assert_eq!(service(&book).to_string(), "a.example.com/");
    let members = [
        says("m1", "b.example.com"),
        says("m2", "a.example.com"),
        says("m3", "b.example.com"),
    ];
    heard(&mut book, &members, now);
    assert_eq!(service(&book).to_string(), "b.example.com/");
    let dispute = service(&book).disputes[0].to_string();
    assert!(
        dispute.contains("m1") && dispute.contains("m2"),
        "{dispute}"
    );
    // Whoever says nothing says the default: one member alone takes a service nowhere.
    let silent = |name: &str| member(name, &[("svc", "shop:3000")]);
    heard(
        &mut book,
        &[silent("m1"), silent("m2"), says("m3", "b.example.com")],
        now,
    );
    assert_eq!(service(&book).to_string(), "shop.example.com/");
    heard(&mut book, &[], now);
    assert_eq!(
        service(&book).to_string(),
        "shop.example.com/",
        "nobody is left who would say else"
    );
}

#[test]
fn the_operators_route_goes_before_a_services_and_the_older_service_before_the_newer() {
    let (start, mut book) = (Instant::now(), Book::default());
    let claims = |name: &str, service: &str, path: &str| {
        let tags = [
            ("svc", format!("{service}:3000")),
            ("host", "www.example.com".to_owned()),
            ("path", path.to_owned()),
        ];
        let tags: Vec<(&str, &str)> = tags
            .iter()
            .map(|(tag, value)| (*tag, value.as_str()))
            .collect();
        member(name, &tags)
    };
    let old = claims("m1", "shop", "/v1");
    heard(&mut book, std::slice::from_ref(&old), start);
    let members = [
        old,
        claims("m2", "api-a", "/v1"),
        claims("m3", "api-b", "/taken"),
    ];
    heard(&mut book, &members, start + Duration::from_secs(1));
    let effect = book.effect(&config());
    let routed: Vec<String> = effect
        .routing
        .iter()
        .map(|it| format!("{} {}", it.origin, it.matches()))
        .collect();
    assert_eq!(routed.len(), 2, "{routed:?}");
    assert!(
        routed.contains(&"service shop www.example.com/v1".to_owned()),
        "{routed:?}"
    );
    assert!(matches!(
        effect.unrouted[&name("api-a")],
        Unrouted::Service(..)
    ));
    assert!(matches!(
        effect.unrouted[&name("api-b")],
        Unrouted::Config(..)
    ));
    assert_eq!(effect.backends.len(), 3);
}

#[test]
fn a_service_has_the_settings_of_all_and_its_own() {
    let (now, mut book) = (Instant::now(), Book::default());
    let members = [member(
        "m1",
        &[
            ("svc", "shop:3000,api-a:4000,api-b:5000"),
            ("proto.api-b", "tcp"),
        ],
    )];
    heard(&mut book, &members, now);
    let effect = book.effect(&config());
    let of = |wanted: &str| {
        effect
            .backends
            .iter()
            .find(|it| it.name == name(wanted))
            .unwrap()
    };
    assert_eq!(
        (of("shop").balance.as_str(), of("api-a").balance.as_str()),
        ("leastconn", "roundrobin")
    );
    assert_eq!(of("shop").check, of("api-a").check);
    assert!(of("shop").check.is_some() && of("shop").is_service && of("shop").may_have(1024));
    assert_eq!(effect.unrouted[&name("api-b")], Unrouted::Tcp);
}

const TEMPLATE: &str = r#"global
    description "serf-haproxy {{ stamp }}"
{% for backend in backends %}
backend {{ backend.name }}
{% for server in backend.servers %}
    server {{ server.name }} {{ server.addr }} weight {{ server.weight }} cookie {{ server.tags.zone | default("-") }}
    {%- for name, value in server.tags | items %} {{ name }}={{ value }}{% endfor %}
    {%- if server.backup %} backup{% endif %}
    {%- if not server.ready %} disabled{% endif +%}
{% endfor %}
{% endfor %}
"#;

/// What HAProxy would read of these members: the text, and the file of the map.
fn rendered(members: Vec<Member>) -> (String, String, usize) {
    let renderer = Renderer::new("t", TEMPLATE.to_owned()).unwrap();
    let loaded = LoadedConfig::new(config(), renderer, Vec::new(), Vec::new());
    let (now, mut book) = (Instant::now(), Book::default());
    let mut gathered = gathered(members);
    book.revise(&mut gathered, &config(), true, now);
    let loaded = loaded.with_services(book.effect(&config()), &[]);
    let mut servers = Servers::new();
    for (service, found) in &gathered.services {
        for (server, candidate) in &found.servers {
            let Ok(attributes) = &candidate.attributes else {
                continue;
            };
            let details = found.details.get(&ServerKey::new(service, server)).cloned();
            servers.entry(service.clone()).or_default().push(Server {
                name: server.clone(),
                addr: attributes.endpoint.addr,
                weight: attributes.endpoint.weight,
                ready: true,
                details: Arc::new(details.unwrap_or_default()),
            });
        }
    }
    let count = servers.values().map(Vec::len).sum();
    let text = loaded
        .renderer
        .render(&loaded.config, &servers)
        .unwrap()
        .text;
    let map = map::text(&map::entries(&loaded.config.routing));
    (text, map, count)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let alike = "(shop|api-[a-c]|nodes)(:[0-9]{0,5})?(@[0-9.:\\[\\]a-f]{0,12})?,?";
    let near = prop::collection::vec(
        prop::sample::select(b"shop:30,@ \n\r\t#\"'\\${};|<>%/.*-_=\xff\0".to_vec()),
        0..40,
    );
    // Harmless but for one byte: what a whitelist with one byte too many would let through.
    let odd = prop::sample::select(b" \n\r\t#\"'\\${};|<>%*\xff\0".to_vec());
    let one_odd = ("[a-z0-9]{1,4}", odd, "[a-z0-9]{0,4}");
    let one_odd = one_odd
        .prop_map(|(before, odd, after)| [before.as_bytes(), &[odd], after.as_bytes()].concat());
    prop_oneof![
        4 => prop::collection::vec(alike, 0..4).prop_map(|parts| parts.concat().into_bytes()),
        2 => near,
        3 => one_odd,
        1 => prop::collection::vec(any::<u8>(), 0..80),
        2 => "(www|x)\\.example\\.com|/v1(/[a-z]{1,3})?|h2|tcp|http|[01]|eu-[1-3]".prop_map(String::into_bytes),
    ]
}

const TAGS: [&[u8]; 14] = [
    b"svc",
    b"svc",
    b"svc",
    b"host",
    b"host.shop",
    b"path.shop",
    b"path",
    b"proto.api-a",
    b"backup.shop",
    b"weight.shop",
    b"state",
    b"zone",
    b"a b\n",
    b"\xff",
];

proptest! {
    /// Whatever members say: nothing but whitelisted types reaches the text, the map, or a line of the Runtime API.
    #[test]
    fn hostile_tags_add_no_line_and_no_word(
        said in prop::collection::vec((bytes(), prop::collection::vec((0..TAGS.len(), bytes()), 1..8)), 1..5),
    ) {
        // One that is served whatever the others say, with the same tags but those that would keep it out.
        let harmless = said.iter().flat_map(|(_, tags)| tags);
        let harmless = harmless.filter(|(tag, _)| TAGS[*tag] == b"zone");
        let served = Member::builder("served").addr([10, 0, 0, 2].into(), 7946);
        let served = served.tag("svc", "shop:3000");
        let served = harmless.fold(served, |member, (tag, value)| member.tag(TAGS[*tag], value.clone()));
        let members = said.into_iter().map(|(name, tags)| {
            let member = Member::builder(name).addr([10, 0, 0, 1].into(), 7946);
            let tags = tags.into_iter();
            tags.fold(member, |member, (tag, value)| member.tag(TAGS[tag], value)).build()
        });
        let members: Vec<Member> = members.chain([served.build()]).collect();
        let (text, map, count) = rendered(members);
        prop_assert!(count > 0);
        let safe = |b: u8| b.is_ascii_alphanumeric() || b" _.-:/@+=,[]".contains(&b);
        let lines: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("server ")).collect();
        prop_assert_eq!(lines.len(), count);
        let others = text.lines().filter(|line| !line.trim().is_empty()).count() - count;
        let backends = text.lines().filter(|line| line.starts_with("backend ")).count();
        prop_assert_eq!(others, 3 + backends, "{}", text);
        for line in lines {
            prop_assert!(line.bytes().all(safe), "{}", line);
            let words: Vec<&str> = line.split_whitespace().collect();
            prop_assert!(crate::model::ServerName::new(words[1]).is_some());
            prop_assert!(words[2].parse::<std::net::SocketAddr>().is_ok());
            prop_assert!(words[7..].iter().all(|word| word.contains('=') || *word == "backup"), "{}", line);
        }
        for entry in map.lines().skip(1) {
            let words: Vec<&str> = entry.split(' ').collect();
            prop_assert_eq!(words.len(), 2, "{}", entry);
            prop_assert!(entry.bytes().all(|b| safe(b) || b"*~".contains(&b)), "{}", entry);
        }
    }
}
