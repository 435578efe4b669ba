use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serf_rpc::{Member, MemberStatus, Snapshot};

use super::*;
use crate::config::Config;
use crate::guard::{Guard, Probed};
use crate::model::{Admin, Check, RunningServer, RunningServers, ServerKey, ServerStat};
use crate::render::Renderer;
use crate::services::Book;

const CONFIG: &str = r#"
[frontend]
bind = ["*:80"]
[[backend]]
name = "web"
tags = { role = "web" }
port = 3000
"#;

fn desired() -> Desired {
    let config = Config::parse(CONFIG, []).unwrap();
    let loaded = LoadedConfig::new(
        config,
        Renderer::built_in().unwrap(),
        Vec::new(),
        Vec::new(),
    );
    let (scope, guard) = (loaded.scope.clone(), Guard::new(loaded.rules()));
    Desired::new(loaded, scope, Arc::default(), guard, Book::default())
}

fn members(before: &Snapshot, members: &[(&str, MemberStatus)]) -> Arc<Snapshot> {
    let member = |(last, (name, status)): (u8, &(&str, MemberStatus))| {
        let addr = [10, 0, 0, last + 1].into();
        let member = Member::builder(*name).addr(addr, 7946).tag("role", "web");
        member.status(*status).build()
    };
    let members: Vec<Member> = (0..).zip(members).map(member).collect();
    Arc::new(before.relisted(members, SystemTime::UNIX_EPOCH))
}

fn key(server: &str) -> ServerKey {
    ServerKey::read("web", server).unwrap()
}

/// HAProxy has these servers in rotation, and its checks are good.
fn running(servers: &[(&str, u8)]) -> RunningServers {
    let server = |(name, last): &(&str, u8)| {
        let server = RunningServer {
            addr: Some(([10, 0, 0, *last], 3000).into()),
            weight: 1,
            admin: Admin::Ready,
            agent: None,
            stat: Some(ServerStat {
                check: Check::Up,
                said: None,
                in_flight: 0,
                maxconn: None,
                total: 0,
                cookie: None,
            }),
        };
        ((*name).to_owned(), server)
    };
    [("web".to_owned(), servers.iter().map(server).collect())].into()
}

/// The server lines of the text that would be in force now.
fn lines(desired: &mut Desired, now: Instant) -> Vec<String> {
    desired.decide(now);
    let servers = desired.in_force(now).lines();
    desired.render(servers).unwrap();
    let text = desired.wanted().unwrap().rendered.text.clone();
    let lines = text.lines().map(str::trim);
    let servers = lines.filter(|line| line.starts_with("server "));
    servers.map(str::to_owned).collect()
}

#[test]
fn a_member_is_listed_ready_once_its_server_has_answered_and_not_at_all_once_it_has_left() {
    let (mut desired, now) = (desired(), Instant::now());
    let both = [("a", MemberStatus::Alive), ("b", MemberStatus::Alive)];
    let joined = members(&Snapshot::default(), &both);
    assert!(desired.set_members(&joined).unwrap());
    desired.select(now);
    let before = lines(&mut desired, now);
    let is_disabled = |line: &String| line.ends_with(" disabled");
    assert!(before.iter().all(is_disabled), "{before:?}");
    for (name, last) in [("a", 1), ("b", 2)] {
        assert!(desired.observe_probe(&key(name), ([10, 0, 0, last], 3000).into(), Probed::Good));
    }
    let listed = lines(&mut desired, now);
    assert!(!listed.iter().any(is_disabled), "{listed:?}");
    let endpoints = listed.iter().map(|line| line.split(" check").next());
    let endpoints: Vec<_> = endpoints.flatten().collect();
    assert_eq!(
        endpoints,
        ["server a 10.0.0.1:3000", "server b 10.0.0.2:3000"]
    );
    desired.observe_running(&running(&[("a", 1), ("b", 2)]), now);
    let one_left = [("a", MemberStatus::Left), ("b", MemberStatus::Alive)];
    desired.set_members(&members(&joined, &one_left)).unwrap();
    desired.select(now);
    let listed = lines(&mut desired, now);
    assert!(
        listed.len() == 1 && listed[0].starts_with("server b "),
        "{listed:?}"
    );
}

#[test]
fn the_same_members_evidence_and_time_give_the_same_text() {
    let now = Instant::now();
    let all = [
        ("a", MemberStatus::Alive),
        ("b", MemberStatus::Failed),
        ("c", MemberStatus::Alive),
    ];
    let joined = members(&Snapshot::default(), &all);
    let text = || {
        let mut desired = desired();
        desired.set_members(&joined).unwrap();
        desired.select(now);
        desired.observe_probe(&key("c"), ([10, 0, 0, 3], 3000).into(), Probed::Good);
        lines(&mut desired, now);
        desired.wanted().unwrap().rendered.clone()
    };
    assert_eq!(text(), text());
}

#[test]
fn members_that_are_the_same_need_not_be_picked_again() {
    let mut desired = desired();
    let joined = members(&Snapshot::default(), &[("a", MemberStatus::Alive)]);
    assert!(desired.set_members(&joined).unwrap());
    assert!(!desired.set_members(&joined).unwrap());
}
