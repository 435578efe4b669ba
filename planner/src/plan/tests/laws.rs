//! Laws of the plan, on generated texts, against the model. `PROPTEST_CASES` sets how many.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::model::{Haproxy, observed, settled};
use crate::model::{Action, BackendName, ServerKey, Version, WantedAdmin, WantedAdmins};
use crate::plan::{Plan, ReloadReason, draft};
use crate::syntax::{ConfigText, Scope};

const BACKENDS: [&str; 2] = ["one", "two"];

/// Everything of a text that is no server.
#[derive(Clone, Debug)]
struct Shape {
    /// `default-server` words: of two `defaults` sections, and in the middle of each backend.
    defaults: [&'static str; 4],
    listen: bool,
    mode: &'static str,
    /// Server lines of the template's own in each backend, and whether they come before the members'.
    fixed: [(&'static str, bool); 2],
    /// A server line of a backend of somebody else's.
    other: &'static str,
}

#[derive(Clone, Debug)]
struct Server {
    addr: &'static str,
    port: u16,
    values: &'static str,
    options: &'static str,
    disabled: bool,
    /// Whether it stands below the `default-server` line in the middle.
    below: bool,
}

/// The servers of each backend, by number.
type Servers = [BTreeMap<u8, Server>; 2];

/// What a text and the Model say together.
#[derive(Clone, Debug)]
struct RequestedState {
    servers: Servers,
    admins: BTreeMap<(usize, u8), WantedAdmin>,
    in_flight: u64,
    noise: u64,
}

fn shape() -> impl Strategy<Value = Shape> {
    let words = || {
        prop::sample::select(vec![
            "",
            "check inter 1s",
            "weight 7",
            "maxconn 9 check",
            "no-check",
            "inter 2s fall 2",
        ])
    };
    let fixed = || (prop::sample::select(FIXED), any::<bool>());
    (
        [words(), words(), words(), words()],
        any::<bool>(),
        prop::sample::select(vec!["http", "tcp"]),
        [fixed(), fixed()],
        prop::sample::select(FIXED),
    )
        .prop_map(|(defaults, listen, mode, fixed, other)| Shape {
            defaults,
            listen,
            mode,
            fixed,
            other,
        })
}

fn server(options: impl Strategy<Value = &'static str>) -> impl Strategy<Value = Server> {
    (
        prop::sample::select(vec!["127.0.0.1", "10.0.0.9", "[2001:db8::1]"]),
        1u16..4,
        prop::sample::select(vec![
            "",
            "weight 0",
            "weight 256",
            "maxconn 5",
            "weight 9 maxconn 7",
            "maxconn 0",
        ]),
        options,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(addr, port, values, options, disabled, below)| Server {
            addr,
            port,
            values,
            options,
            disabled,
            below,
        })
}

fn requested(options: &'static [&'static str]) -> impl Strategy<Value = RequestedState> {
    let servers =
        move || prop::collection::btree_map(0u8..6, server(prop::sample::select(options)), 0..6);
    let admin = prop::sample::select(vec![
        WantedAdmin::Ready,
        WantedAdmin::Waiting,
        WantedAdmin::Drain,
        WantedAdmin::Maint,
        WantedAdmin::Cut,
    ]);
    let admins = prop::collection::btree_map((0usize..2, 0u8..6), admin, 0..8);
    ([servers(), servers()], admins, 0u64..3, any::<u64>()).prop_map(
        |(servers, admins, in_flight, noise)| RequestedState {
            servers,
            admins,
            in_flight,
            noise,
        },
    )
}

/// Lines that need not be readable: they are nobody's to change.
const FIXED: &[&str] = &[
    "",
    "server sorry 10.0.0.8:80 backup",
    "server sorry ${SORRY}:80 backup",
    "server sorry unix@/run/sorry.sock",
    "server-template x 1-3 sorry.example:80 resolvers r",
    "server \"sorry\" 10.0.0.8:80",
    "server sorry 10.0.0.8:80\n.if defined(X)\nserver old old.example:80 track sorry\n.endif",
];

const ANY_OPTIONS: &[&str] = &[
    "",
    "check",
    "no-check",
    "check inter 3s",
    "minconn 6",
    "cookie c check",
    "backup",
    "odd a b",
];

/// Options that every version takes at runtime, and that do not depend on where the server stands.
const SAME_OPTIONS: &[&str] = &["check inter 1s fall 3 backup"];

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(vec![(2, 6), (3, 0), (3, 2)])
        .prop_map(|(major, minor)| Version { major, minor })
}

fn render(shape: &Shape, servers: &Servers, noise: u64) -> String {
    let [base, web, one, two] = shape.defaults;
    let mut text = format!("global\ndescription \"serf-haproxy {noise:016x}\"\n");
    writeln!(
        text,
        "defaults base\nmode {}\ndefault-server {base}",
        shape.mode
    )
    .unwrap();
    writeln!(
        text,
        "defaults web from base\ndefault-server {web}\ntimeout connect 1s"
    )
    .unwrap();
    writeln!(
        text,
        "backend others\n{}\nserver s1 10.0.0.7:80",
        shape.other
    )
    .unwrap();
    writeln!(text, "backend one from base").unwrap();
    write_servers(&mut text, &servers[0], one, shape.fixed[0]);
    writeln!(
        text,
        "{} two\nbalance leastconn",
        if shape.listen { "listen" } else { "backend" }
    )
    .unwrap();
    write_servers(&mut text, &servers[1], two, shape.fixed[1]);
    noisy(&text, noise)
}

fn scope(shape: &Shape) -> Scope {
    let names = BACKENDS.map(|name| BackendName::new(name).unwrap());
    Scope::new(&names, &render(shape, &Servers::default(), 0))
}

fn write_servers(
    text: &mut String,
    servers: &BTreeMap<u8, Server>,
    middle: &str,
    (fixed, first): (&str, bool),
) {
    for below in [false, true] {
        if below != first {
            writeln!(text, "{fixed}").unwrap();
        }
        for (number, s) in servers.iter().filter(|(_, s)| s.below == below) {
            let disabled = if s.disabled { "disabled" } else { "" };
            writeln!(
                text,
                "server s{number} {}:{} {} {disabled} {}",
                s.addr, s.port, s.values, s.options
            )
            .unwrap();
        }
        if !below {
            writeln!(text, "default-server {middle}").unwrap();
        }
    }
}

/// The same text with comments, blank lines and odd spacing, from a small generator seeded with `noise`.
fn noisy(text: &str, mut noise: u64) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut next = || {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            noise >> 60
        };
        out.push_str(
            [
                "",
                "\t",
                "    ",
                "# it's \"odd\"\n",
                "\n \n",
                "  # server x 1.1.1.1:1\n  ",
            ][(next() % 6) as usize],
        );
        let gap = [" ", "  ", " \t "][(next() % 3) as usize];
        let plain = !line.contains('"');
        out.push_str(&if plain {
            line.replace(' ', gap)
        } else {
            line.to_owned()
        });
        out.push_str(if plain {
            ["", " ", " # tail", "#tail", "\r"][(next() % 5) as usize]
        } else {
            ""
        });
        out.push('\n');
    }
    out
}

fn admins(requested: &RequestedState) -> WantedAdmins {
    let name = |(backend, number): &(usize, u8)| {
        ServerKey::read(BACKENDS[*backend], &format!("s{number}")).unwrap()
    };
    requested
        .admins
        .iter()
        .map(|(key, admin)| (name(key), *admin))
        .collect()
}

/// Plans and applies until nothing is left to do at runtime; the requests in flight finish after the first time.
fn follow(haproxy: &mut Haproxy, wanted: &ConfigText, admins: &WantedAdmins) -> Plan {
    for round in 0.. {
        let plan = haproxy.plan(wanted, admins);
        if plan.steps.is_empty() && round > 0 {
            return plan;
        }
        assert!(round < 4, "still not settled:\n{plan}");
        assert_ordered(&plan);
        haproxy.apply(&plan.steps);
        haproxy.drain_out();
    }
    unreachable!()
}

fn assert_ordered(plan: &Plan) {
    assert!(
        plan.steps.is_sorted_by(|a, b| a.backend <= b.backend),
        "{plan}"
    );
    for backend in BACKENDS {
        let steps: Vec<_> = plan
            .steps
            .iter()
            .filter(|s| s.backend.as_str() == backend)
            .collect();
        let last_add = steps
            .iter()
            .rposition(|step| matches!(step.action, Action::Add { .. }));
        let leaves = |step: &crate::model::Step| match step.action {
            Action::Shut => true,
            Action::Maint => !steps
                .iter()
                .any(|s| s.server == step.server && matches!(s.action, Action::Ready { .. })),
            _ => false,
        };
        if let (Some(add), Some(leave)) = (last_add, steps.iter().position(|step| leaves(step))) {
            assert!(add < leave, "{plan}");
        }
    }
}

/// Follows one wish after another, with a reload wherever the plan asks for one; says how many it took.
fn live_through(version: Version, static_two: bool, wishes: &[(Shape, RequestedState)]) -> usize {
    let mut reloads = 0;
    let mut haproxy: Option<(Haproxy, String)> = None;
    for (shape, requested) in wishes {
        let text = render(shape, &requested.servers, requested.noise);
        let scope = scope(shape);
        let (wanted, admins) = (scope.read(&text), admins(requested));
        let start = || {
            let mut fresh = Haproxy::start_in(scope.clone(), version, &text);
            fresh
                .accepts_add
                .insert(BackendName::new("two").unwrap(), !static_two);
            fresh
        };
        let (running, started_with) = haproxy.get_or_insert_with(|| (start(), text.clone()));
        running.scope = scope.clone();
        running.text = scope.read(started_with);
        for stat in running
            .servers
            .values_mut()
            .flat_map(|s| s.values_mut())
            .filter_map(|s| s.stat.as_mut())
        {
            stat.in_flight = requested.in_flight;
        }
        let left = follow(running, &wanted, &admins);
        if !left.reload.is_empty() {
            reloads += 1;
            (*running, *started_with) = (start(), text.clone());
            let left = follow(running, &wanted, &admins);
            assert!(left.is_empty(), "a reload does not cure:\n{left}");
        }
        assert_eq!(observed(running, &wanted), settled(&wanted, &admins));
        assert_eq!(
            retired_in_vain(running, &wanted, &admins),
            Vec::<String>::new()
        );
    }
    reloads
}

/// Servers of nobody that could have been deleted.
fn retired_in_vain(haproxy: &Haproxy, wanted: &ConfigText, admins: &WantedAdmins) -> Vec<String> {
    let mut left = Vec::new();
    for (backend, name) in haproxy
        .ours()
        .iter()
        .flat_map(|(b, servers)| servers.keys().map(move |s| (b, s)))
    {
        let key = ServerKey::read(backend, name).unwrap();
        let kept = wanted.server(&key.backend, &key.server).is_some()
            || admins.get(&key) == Some(&WantedAdmin::Drain);
        let restorable = haproxy.accepts_add.get(&key.backend) != Some(&false)
            && haproxy
                .options(&key.backend, &key.server)
                .not_dynamic(haproxy.version)
                .next()
                .is_none();
        if !kept && restorable && haproxy.version >= (Version { major: 3, minor: 0 }) {
            left.push(format!("{backend}/{name}"));
        }
    }
    left
}

fn soup() -> impl Strategy<Value = String> {
    let words = vec![
        "backend",
        "listen",
        "defaults",
        "frontend",
        "peers",
        "global",
        "server",
        "server-template",
        "default-server",
        "from",
        "a",
        "b",
        "a:b",
        "127.0.0.1:80",
        "[::1]:1",
        ".if",
        ".endif",
        ".else",
        "check",
        "no-check",
        "weight",
        "3",
        "300",
        "\"q\"",
        "x\\ y",
        "#",
        "$X",
        "track",
        "a/b",
        "use-server",
        "{ srv_is_up(a/b) }",
        "srv_queue(",
        "\u{e9}",
        "description",
        "serf-haproxy",
        "deadbeef",
        "source",
        "usesrc",
        "disabled",
    ];
    let line =
        prop::collection::vec(prop::sample::select(words), 0..6).prop_map(|words| words.join(" "));
    prop::collection::vec(line, 0..20).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn nothing_is_to_be_done_where_nothing_differs(
        shape in shape(), requested in requested(ANY_OPTIONS), noise in any::<u64>(), version in version(),
    ) {
        let scope = scope(&shape);
        let same = scope.read(&render(&shape, &requested.servers, noise));
        let haproxy = Haproxy::start_in(scope, version, &render(&shape, &requested.servers, requested.noise));
        prop_assert_eq!(haproxy.plan(&same, &WantedAdmins::new()), Plan::default());
    }

    #[test]
    fn whatever_the_text_it_differs_in_nothing_from_itself(text in soup(), version in version()) {
        let haproxy = Haproxy::start(version, &text);
        prop_assert_eq!(haproxy.plan(&ConfigText::parse(&text), &WantedAdmins::new()), Plan::default());
    }

    #[test]
    fn plans_are_legal_and_lead_to_what_is_wanted(
        wishes in prop::collection::vec((shape(), requested(ANY_OPTIONS)), 2..4),
        same_shape in any::<bool>(), static_two in any::<bool>(), version in version(),
    ) {
        let first = wishes[0].0.clone();
        let shaped = |(shape, requested)| (if same_shape { first.clone() } else { shape }, requested);
        live_through(version, static_two, &wishes.into_iter().map(shaped).collect::<Vec<_>>());
    }

    #[test]
    fn joins_leaves_moves_and_weights_need_no_reload(
        wishes in prop::collection::vec(requested(SAME_OPTIONS), 2..6), version in version(),
        fixed in prop::sample::select(FIXED), first in any::<bool>(), other in prop::sample::select(FIXED),
    ) {
        let fixed = [(fixed, first), (fixed, !first)];
        let shape = Shape {
            defaults: ["weight 3", "maxconn 4", "weight 5", "maxconn 6"],
            listen: true,
            mode: "http",
            fixed,
            other,
        };
        let wishes: Vec<_> = wishes.into_iter().map(|requested| (shape.clone(), requested)).collect();
        prop_assert_eq!(live_through(version, false, &wishes), 0);
    }

    #[test]
    fn a_changed_skeleton_is_always_noticed(a in shape(), b in shape(), requested in requested(ANY_OPTIONS), version in version()) {
        let b = Shape { fixed: a.fixed, other: a.other, ..b };
        let scope = scope(&b);
        let wanted = scope.read(&render(&b, &requested.servers, requested.noise));
        let haproxy = Haproxy::start_in(scope, version, &render(&a, &requested.servers, requested.noise));
        let plan = haproxy.plan(&wanted, &admins(&requested));
        let noticed = plan.reload.iter().any(|reason| matches!(reason, ReloadReason::SkeletonChanged { .. }));
        prop_assert_eq!(noticed, format!("{a:?}") != format!("{b:?}"));
    }

    #[test]
    fn only_backends_that_need_it_are_probed(requested in requested(SAME_OPTIONS), other in requested(SAME_OPTIONS), version in version()) {
        let shape = Shape { defaults: [""; 4], listen: false, mode: "http", fixed: [("", true); 2], other: "" };
        let (running, admins) = (render(&shape, &requested.servers, 0), admins(&other));
        let wanted = ConfigText::parse(&render(&shape, &other.servers, 0));
        let plain = Haproxy::start(version, &running);
        prop_assert_eq!(draft(&plain.input(&wanted, &admins)).unprobed.len(), 0, "the text says it");
        let balance = |text: &str| {
            let text = text.replace("leastconn", "rdp-cookie(x)");
            text.replace("http", "http\nbalance rdp-cookie(x)")
        };
        let wanted = ConfigText::parse(&balance(&render(&shape, &other.servers, 0)));
        let haproxy = Haproxy::start(version, &balance(&running));
        let input = haproxy.input(&wanted, &admins);
        let mut touched: Vec<_> = haproxy.plan(&wanted, &admins).steps.into_iter()
            .filter(|step| matches!(step.action, Action::Add { .. } | Action::Weight(_) | Action::Delete))
            .map(|step| step.backend).collect();
        touched.dedup();
        prop_assert_eq!(draft(&input).unprobed.into_iter().collect::<Vec<_>>(), touched);
        let unknown = crate::plan::Input { running: None, ..input };
        let reasons = crate::plan::plan(&unknown).reload;
        prop_assert_eq!(reasons, [ReloadReason::UnknownWorker { server: None }]);
    }
}
