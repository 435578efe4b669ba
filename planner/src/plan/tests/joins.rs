//! What `check` says of a join, against what the planner then does.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::model::Haproxy;
use crate::model::{BackendName, ServerKey, ServerName, Version, WantedAdmins};
use crate::plan::{Join, Obstacle};
use crate::syntax::Scope;

const V2_6: Version = Version { major: 2, minor: 6 };
const V3_0: Version = Version { major: 3, minor: 0 };

/// A template: everything but who is there.
#[derive(Clone, Debug)]
struct Template {
    defaults: &'static str,
    /// The words of `balance`, a `hash-type`, and whether that takes servers at runtime.
    balance: (&'static str, &'static str, bool),
    cookie: &'static str,
    default_server: &'static str,
    fixed: &'static str,
    /// Words of each member's line, `{name}` and `{endpoint}` in it.
    words: &'static str,
    /// A line that is printed for each member before them.
    each: &'static str,
    /// A line of the front end with the number of members in it.
    count: &'static str,
    /// Whether the backend is printed where it has a member only.
    hidden: bool,
}

impl Template {
    /// With these members in the two backends.
    fn text(&self, members: &[&[u8]; 2]) -> String {
        let count = members[0].len().to_string();
        let mut text = format!(
            "global\n description serf-haproxy 0123456789abcdef\ndefaults\n mode http\n{}\nfrontend f\n bind :80\n{}\n\
             backend lone\n server l 10.0.0.8:80 ssl ca-file /loaded.pem\n",
            self.defaults,
            self.count.replace("{count}", &count)
        );
        for (backend, members) in ["one", "two"].into_iter().zip(members) {
            let plain = backend == "two";
            if self.hidden && !plain && members.is_empty() {
                continue;
            }
            writeln!(text, "backend {backend}").unwrap();
            if plain {
                text.push_str(" balance roundrobin\n");
            } else {
                let (balance, hash_type, _) = self.balance;
                let lines = [
                    balance,
                    hash_type,
                    self.cookie,
                    self.default_server,
                    self.fixed,
                ];
                for line in lines.iter().filter(|line| !line.is_empty()) {
                    writeln!(text, " {line}").unwrap();
                }
            }
            for number in *members {
                let name = format!("s{number}");
                writeln!(text, " {}", self.each.replace("{name}", &name)).unwrap();
            }
            for (place, number) in members.iter().enumerate() {
                let words = if plain { "check" } else { self.words };
                let name = format!("s{number}");
                let words = words
                    .replace("{name}", &name)
                    .replace("{place}", &place.to_string())
                    .replace("{first}", if place == 0 { "backup" } else { "" });
                writeln!(text, " server {name} 10.0.0.{number}:80 {words}").unwrap();
            }
        }
        text
    }

    fn scope(&self) -> Scope {
        let names = ["one", "two"].map(|name| BackendName::new(name).unwrap());
        Scope::new(&names, &self.text(&[&[], &[]]))
    }

    /// What `check` says of `s9` that joins the first backend, beside these members; and what the planner does then, on a
    /// worker that has started with the text and to which its members might have been added.
    fn both(&self, version: Version, there: &[u8], others: &[u8]) -> (Vec<Obstacle>, String) {
        let mut with: Vec<u8> = there.iter().copied().chain([9]).collect();
        with.sort_unstable();
        let (before, after) = (self.text(&[there, others]), self.text(&[&with, others]));
        let scope = self.scope();
        let (before, after) = (&before, scope.read(&after));
        let mut haproxy = Haproxy::start_in(scope.clone(), version, before);
        let accepts = self.balance.2;
        haproxy
            .accepts_add
            .insert(BackendName::new("one").unwrap(), accepts);
        let before = scope.read(before);
        for backend in before.backends() {
            for line in before.servers(backend) {
                let words = line
                    .options
                    .words_to_add(version, line.weight, line.maxconn);
                let key = ServerKey::new(backend, &line.name);
                haproxy.added.insert(key, words);
            }
        }
        let plan = haproxy.plan(&after, &WantedAdmins::new());
        if plan.reload.is_empty() {
            haproxy.apply(&plan.steps);
            let left = haproxy.plan(&after, &WantedAdmins::new());
            assert!(left.is_empty(), "{left}");
        }
        let reload: Vec<String> = plan.reload.iter().map(ToString::to_string).collect();
        let join = Join {
            version,
            before: &before,
            after: &after,
        };
        (join.obstacles(), reload.join("\n"))
    }
}

const PLAIN: Template = Template {
    defaults: "",
    balance: ("balance roundrobin", "", true),
    cookie: "",
    default_server: "",
    fixed: "",
    words: "check",
    each: "",
    count: "",
    hidden: false,
};

fn said(template: &Template, version: Version, there: &[u8]) -> String {
    let (obstacles, _) = template.both(version, there, &[]);
    let lines = obstacles.iter().map(|obstacle| {
        let line = obstacle.line().map(|line| format!("{line}: "));
        format!("{}{obstacle}\n", line.unwrap_or_default())
    });
    lines.collect()
}

#[test]
fn a_join_that_needs_a_reload_is_said_before_anybody_is_there_with_the_way_out() {
    let cookie = Template {
        cookie: "cookie SRV insert",
        words: "check cookie {name} namespace n",
        ..PLAIN
    };
    let dynamic = Template {
        cookie: "cookie SRV insert dynamic",
        ..PLAIN
    };
    let hash = Template {
        balance: ("balance source", "", false),
        ..PLAIN
    };
    let file = Template {
        words: "ssl ca-file /new.pem crt /own.pem",
        ..PLAIN
    };
    let used = Template {
        each: "use-server {name} if TRUE",
        ..PLAIN
    };
    let counted = Template {
        count: " acl few nbsrv(one) lt {count}",
        ..PLAIN
    };
    let hidden = Template {
        hidden: true,
        ..PLAIN
    };
    let tracking = Template {
        words: "track two/{name}",
        ..PLAIN
    };
    let odd = Template {
        words: "check cookie \"{name}\"",
        ..PLAIN
    };
    let backup = Template {
        words: "{first}",
        ..PLAIN
    };
    let all = [
        said(&cookie, V2_6, &[]),
        said(&cookie, V3_0, &[]),
        said(&dynamic, V2_6, &[]),
        said(&dynamic, V3_0, &[]),
        said(&hash, V3_0, &[]),
        said(&file, V3_0, &[]),
        said(&file, V3_0, &[1]),
        said(&used, V3_0, &[]),
        said(&counted, V3_0, &[1]),
        said(&hidden, V3_0, &[]),
        said(&tracking, V3_0, &[]),
        said(&odd, V3_0, &[]),
        said(&backup, V3_0, &[10]),
    ];
    insta::assert_snapshot!(all.join("--\n"), @r#"
    `cookie` cannot be had by a server added at runtime; HAProxy 3.0 can do it, or do without it
    `namespace` cannot be had by a server added at runtime; do without it
    --
    `namespace` cannot be had by a server added at runtime; do without it
    --
    `dynamic-cookie-key` cannot be had by a server added at runtime; HAProxy 3.0 can do it, or do without it
    --
    --
    `balance source` is static; add: hash-type consistent
    --
    /new.pem is loaded with the first server that names it, by a reload; a line above loads it before: default-server ca-file /new.pem
    /own.pem is loaded with the first server that names it, by a reload; a server line of yours loads it before: server loader 127.0.0.1:9 ssl verify none crt /own.pem disabled
    --
    --
    13: with the members more changes in `backend one` than their server lines; print nothing else by them
    --
    8: with the members more changes in `frontend f` than their server lines; print nothing else by them
    --
    11: with the members more changes in `backend one` than their server lines; print nothing else by them
    --
    `track` cannot be had by a server added at runtime; do without it
    --
    14: servers are not plain lines (a quote, backslash, `$`, `{`, `;`, `<` or a byte that is not printable ASCII); write it without
    --
    one/s10: `backup` changed while it is in service; let a server's words depend on no other
    "#);
}

#[test]
fn what_means_nothing_to_an_ip_address_or_is_loaded_is_no_obstacle() {
    for words in [
        "check resolvers dns init-addr none",
        "ssl ca-file /loaded.pem",
        "track lone/l",
        "backup weight 0 maxconn 5",
    ] {
        let template = Template { words, ..PLAIN };
        assert_eq!(said(&template, V2_6, &[]), "", "{words}");
    }
}

#[test]
fn servers_that_something_names_leave_by_a_reload() {
    let template = Template {
        fixed: "use-server s1 if TRUE",
        ..PLAIN
    };
    let scope = template.scope();
    let text = scope.read(&template.text(&[&[1, 2], &[]]));
    let join = Join {
        version: V3_0,
        before: &text,
        after: &text,
    };
    let server = ServerName::new("s1").unwrap();
    let one = BackendName::new("one").unwrap();
    assert_eq!(join.named(&one), [Obstacle::Referenced { server }]);
    assert_eq!(join.obstacles(), []);
}

fn template() -> impl Strategy<Value = Template> {
    let pick = |words: &'static [&'static str]| prop::sample::select(words);
    let balance = prop::sample::select(vec![
        ("balance roundrobin", "", true),
        ("", "", true),
        ("balance leastconn", "", true),
        ("balance first", "", true),
        ("balance random(2)", "", true),
        ("balance uri depth 2", "hash-type consistent", true),
        ("balance source", "hash-type map-based", false),
        ("balance hdr(host)", "", false),
        ("balance static-rr", "", false),
    ]);
    let words = pick(&[
        "check",
        "",
        "cookie {name} check",
        "check inter 1s fall 3 weight 7",
        "ssl verify none check",
        "ssl ca-file /new.pem",
        "ssl ca-file /loaded.pem crt /new.pem",
        "track lone/l",
        "track two/s1",
        "track two/s9",
        "track s1",
        "check resolvers dns init-addr none",
        "namespace n",
        "proto h2",
        "init-state up",
        "guid {name}",
        "odd words",
        "id {place}",
        "maxconn {place}",
        "minconn {place}",
        "check {first}",
        "cookie \"{name}\"",
        "check $X",
        "agent-check agent-port 9",
        "backup disabled",
    ]);
    let default_server = pick(&[
        "",
        "default-server check inter 2s",
        "default-server namespace n",
        "default-server cookie \"c\"",
        "default-server ssl ca-file /new.pem",
        "default-server track lone/l",
    ]);
    let fixed = pick(&[
        "",
        "server old old.example:80 backup",
        "server _x ${X}",
        "server-template t 3 t.example:80 resolvers dns",
        "use-server s1 if TRUE",
        "use-server s9 if TRUE",
        "server old 10.0.0.7:80 track s1",
        ".if defined(X)\n server old 10.0.0.7\n.endif",
    ]);
    let each = pick(&["", "", "", "use-server {name} if TRUE", "# {name}"]);
    let count = pick(&[
        "",
        "",
        " acl few nbsrv(one) lt {count}",
        "# {count}",
        ".if defined(X)\nfrontend g\n bind :81\n.endif",
    ]);
    let defaults = pick(&[
        "",
        " balance source",
        " default-server namespace n",
        " default-server inter \"3s\"",
        " cookie SRV insert dynamic",
    ]);
    let cookie = pick(&["", "cookie SRV insert", "cookie SRV insert dynamic"]);
    let hidden = prop::bool::weighted(0.1);
    (
        defaults,
        balance,
        cookie,
        default_server,
        fixed,
        words,
        each,
        count,
        hidden,
    )
        .prop_map(
            |(defaults, balance, cookie, default_server, fixed, words, each, count, hidden)| {
                // an algorithm that is inherited is that of the backend
                let balance = match balance {
                    ("", _, _) if defaults == " balance source" => ("", "", false),
                    balance => balance,
                };
                Template {
                    defaults,
                    balance,
                    cookie,
                    default_server,
                    fixed,
                    words,
                    each,
                    count,
                    hidden,
                }
            },
        )
}

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(vec![(2, 6), (3, 0), (3, 2)])
        .prop_map(|(major, minor)| Version { major, minor })
}

proptest! {
    #[test]
    fn a_reload_is_said_exactly_where_a_join_then_needs_one(
        template in template(), version in version(),
        there in prop::collection::btree_set(prop::sample::select(vec![1u8, 2, 10]), 0..3), others in prop::collection::btree_set(1u8..4, 0..3),
    ) {
        let (there, others): (Vec<u8>, Vec<u8>) = (there.into_iter().collect(), others.into_iter().collect());
        let (obstacles, reload) = template.both(version, &there, &others);
        let text = template.text(&[&there, &others]);
        prop_assert_eq!(obstacles.is_empty(), reload.is_empty(), "{:?}\n{}\n{}", obstacles, reload, text);
    }
}
