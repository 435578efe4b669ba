//! Random pairs of configurations on the real HAProxy: one that was started with the first and changed at runtime
//! shows the same servers as one that was started with the second. `PAIRS=200` for a campaign.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;
use controller::haproxy::runtime::RuntimeApi;
use fastrand::Rng;
use integration::on_each_haproxy;
use integration::{Haproxy, HaproxyKind, TestEnv};
use planner::model::Admin;
use planner::syntax::ConfigText;

use crate::follow::follow;

on_each_haproxy! {
    changed_at_runtime_is_as_good_as_started_anew => pairs;
}

/// So many without being asked for more.
const PAIRS: usize = 20;
const NAMES: u8 = 6;
const BACKENDS: [&str; 3] = ["one", "two", "three"];

#[derive(Clone, Debug, PartialEq)]
struct Server {
    host: u8,
    port: u16,
    weight: Option<u16>,
    maxconn: Option<u32>,
    options: &'static str,
    disabled: bool,
    /// Below the second `default-server` line of its section.
    below: bool,
}

/// What is no server: `default-server` words of two `defaults` and of each section, and noise that means nothing.
#[derive(Clone, Debug)]
struct Shape {
    defaults: [&'static str; 5],
    noise: u64,
}

type Servers = [BTreeMap<u8, Server>; 3];

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn shape(rng: &mut Rng) -> Shape {
    let words = [
        "",
        "check inter 1s",
        "weight 7",
        "maxconn 9 check",
        "inter 2s fall 2",
        "no-check",
    ];
    Shape {
        defaults: std::array::from_fn(|_| pick(rng, &words)),
        noise: rng.u64(..),
    }
}

fn server(rng: &mut Rng) -> Server {
    Server {
        host: rng.u8(2..20),
        port: rng.u16(3000..3004),
        weight: pick(rng, &[None, Some(0), Some(1), Some(9), Some(256)]),
        maxconn: pick(rng, &[None, Some(0), Some(5), Some(100)]),
        options: pick(
            rng,
            &[
                "",
                "check",
                "cookie c1 check",
                "cookie c2",
                "backup",
                "check fall 5",
            ],
        ),
        disabled: rng.u8(..4) == 0,
        below: rng.bool(),
    }
}

fn servers(rng: &mut Rng) -> Servers {
    std::array::from_fn(|_| {
        let numbers: Vec<u8> = (0..NAMES).filter(|_| rng.bool()).collect();
        numbers
            .into_iter()
            .map(|number| (number, server(rng)))
            .collect()
    })
}

/// What may become of servers: most of it needs no reload.
fn changed(rng: &mut Rng, before: &Servers) -> Servers {
    let mut after = before.clone();
    for servers in &mut after {
        for _ in 0..rng.usize(..6) {
            let number = rng.u8(..NAMES);
            let Some(old) = servers.get(&number).cloned() else {
                servers.insert(number, server(rng));
                continue;
            };
            let new = server(rng);
            let next = match rng.u8(..16) {
                0..4 => None,
                4..7 => Some(Server {
                    weight: new.weight,
                    ..old
                }),
                7..10 => Some(Server {
                    host: new.host,
                    port: new.port,
                    ..old
                }),
                10..12 => Some(Server {
                    maxconn: new.maxconn,
                    ..old
                }),
                12..15 => Some(Server {
                    disabled: !old.disabled,
                    ..old
                }),
                _ => Some(Server {
                    options: new.options,
                    ..old
                }),
            };
            match next {
                None => servers.remove(&number),
                Some(next) => servers.insert(number, next),
            };
        }
    }
    after
}

fn text(lab: &TestEnv, haproxy: &Haproxy, front: u8, shape: &Shape, servers: &Servers) -> String {
    let [base, web, middles @ ..] = &shape.defaults;
    let mut text = format!(
        "global\n    description \"serf-haproxy {:016x}\"\n    stats socket {} mode 600 level admin\n",
        shape.noise,
        haproxy.stats_socket().display()
    );
    let times = "timeout connect 500ms\n    timeout client 5s\n    timeout server 5s";
    let _ = write!(
        text,
        "defaults base\n    mode http\n    {times}\n    default-server {base}\n\
         defaults web from base\n    default-server {web}\n\
         frontend front\n    bind {}\n    default_backend one\n",
        lab.net().addr(front, 8080)
    );
    let titles = [
        "backend one from base\n    balance roundrobin\n    cookie c insert".to_owned(),
        "backend two from web\n    balance leastconn\n    cookie c insert".to_owned(),
        format!(
            "listen three from web\n    bind {}\n    cookie c insert",
            lab.net().addr(front, 8081)
        ),
    ];
    for ((title, middle), servers) in titles.iter().zip(middles).zip(servers) {
        let _ = writeln!(text, "{title}");
        for below in [false, true] {
            for (number, server) in servers.iter().filter(|(_, server)| server.below == below) {
                let _ = writeln!(text, "    {}", line(lab, *number, server));
            }
            if !below {
                let _ = writeln!(text, "    default-server {middle}");
            }
        }
    }
    noisy(&text, shape.noise)
}

fn line(lab: &TestEnv, number: u8, server: &Server) -> String {
    let mut line = format!(
        "server s{number} {}:{}",
        lab.net().ip(server.host),
        server.port
    );
    if let Some(weight) = server.weight {
        let _ = write!(line, " weight {weight}");
    }
    if let Some(maxconn) = server.maxconn {
        let _ = write!(line, " maxconn {maxconn}");
    }
    if server.disabled {
        line.push_str(" disabled");
    }
    format!("{line} {}", server.options)
}

/// The same with comments, blank lines and odd spacing.
fn noisy(text: &str, seed: u64) -> String {
    let mut rng = Rng::with_seed(seed);
    let mut out = String::new();
    for line in text.lines() {
        out.push_str(pick(&mut rng, &["", "\t", "  ", "# it's odd\n", "\n \n"]));
        out.push_str(&line.replace(
            ' ',
            if line.contains('"') {
                " "
            } else {
                pick(&mut rng, &[" ", "  ", " \t "])
            },
        ));
        out.push_str(if line.contains('"') {
            ""
        } else {
            pick(&mut rng, &["", " ", " # tail"])
        });
        out.push('\n');
    }
    out
}

/// What a server looks like from outside.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    addr: String,
    weight: String,
    maxconn: String,
    cookie: String,
    admin: Admin,
    /// Whether it is checked, where it is in use.
    check: Option<bool>,
}

async fn seen(haproxy: &Haproxy, api: &RuntimeApi) -> Result<BTreeMap<String, Seen>> {
    let state = api.read(true).await?;
    let mut seen = BTreeMap::new();
    for line in haproxy.stat().await?.iter().filter(|line| line.is_server()) {
        let (backend, name) = (line.get("pxname"), line.get("svname"));
        let running = &state.servers[backend][name];
        let server = Seen {
            addr: line.get("addr").to_owned(),
            weight: line.get("uweight").to_owned(),
            maxconn: line.get("slim").to_owned(),
            cookie: line.get("cookie").to_owned(),
            admin: running.admin,
            check: (running.admin == Admin::Ready).then(|| !line.get("check_status").is_empty()),
        };
        seen.insert(format!("{backend}/{name}"), server);
    }
    Ok(seen)
}

async fn started(haproxy: &mut Haproxy, text: &str) -> Result<()> {
    std::fs::write(haproxy.config(), text)?;
    haproxy.start().await
}

async fn pairs(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let wanted = std::env::var("PAIRS")
        .ok()
        .and_then(|pairs| pairs.parse().ok());
    let wanted: usize = wanted.unwrap_or(PAIRS);
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut rng = Rng::with_seed(seed.unwrap_or(6));
    let dirs = [lab.path("runtime"), lab.path("fresh")];
    for dir in &dirs {
        std::fs::create_dir(dir)?;
    }
    let mut changing = Haproxy::prepare_in(&dirs[0], kind).await?;
    let mut fresh = Haproxy::prepare_in(&dirs[1], kind).await?;
    let (api, fresh_api) = (
        RuntimeApi::new(changing.stats_socket()),
        RuntimeApi::new(fresh.stats_socket()),
    );
    let mut compared = 0;
    let mut reloads = 0;
    let mut retired = 0;
    let mut pair = 0;
    while pair < wanted {
        let shape = shape(&mut rng);
        let before = servers(&mut rng);
        let after = changed(&mut rng, &before);
        let noise = Shape {
            noise: rng.u64(..),
            ..shape.clone()
        };
        let first = text(lab, &changing, 1, &shape, &before);
        let second = text(lab, &changing, 1, &noise, &after);
        started(&mut changing, &first).await?;
        let left = follow(
            &api,
            &ConfigText::parse(&first),
            &ConfigText::parse(&second),
        )
        .await?;
        if !left.reload.is_empty() {
            // An option changed: what is left to be done then is the reload's.
            reloads += 1;
            continue;
        }
        let second_anew = text(lab, &fresh, 30, &noise, &after);
        started(&mut fresh, &second_anew).await?;
        let mut runtime = seen(&changing, &api).await?;
        let anew = seen(&fresh, &fresh_api).await?;
        let extra: BTreeSet<String> = runtime
            .keys()
            .filter(|key| !anew.contains_key(*key))
            .cloned()
            .collect();
        for key in &extra {
            assert_eq!(runtime[key].admin, Admin::Maint, "{key} takes requests");
            assert_eq!(kind, HaproxyKind::Host, "{key} is left on {kind:?}");
            runtime.remove(key);
        }
        retired += extra.len();
        assert_eq!(runtime, anew, "pair {pair}:\n{first}\n--- to\n{second}");
        compared += anew.len();
        pair += 1;
    }
    println!(
        "{kind:?}: {wanted} pairs, {compared} servers equal, {retired} retired, {reloads} other pairs needed a reload"
    );
    assert!(
        compared > wanted,
        "{} backends have servers",
        BACKENDS.len()
    );
    Ok(())
}
