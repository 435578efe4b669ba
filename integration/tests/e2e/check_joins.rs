//! What `check` says of members that are not there yet: whether they join without a reload, and what is wrong with
//! their lines.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::cluster::{SOON, WEB_PORT};
use integration::controller::ControllerOptions;
use integration::process::output;
use integration::scenario::Scenario;
use integration::{
    Controller, FakeAgent, Haproxy, HaproxyKind, Need, TestEnv, Web, on_each_haproxy, test,
};

use crate::checked::{SOCKET, check, template};

const HOST: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];

/// A backend of the config and its lines in the template.
struct Case {
    name: &'static str,
    /// Lines of its `[[backend]]`.
    config: &'static str,
    /// Lines before the members'; without any, the built-in backend.
    before: Option<&'static str>,
    /// The words of each member's line.
    words: &'static str,
    /// Lines behind them.
    after: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "plain",
        config: "",
        before: None,
        words: "",
        after: "",
    },
    Case {
        name: "hash",
        config: "balance = \"uri\"",
        before: None,
        words: "",
        after: "",
    },
    Case {
        name: "static",
        config: "balance = \"static-rr\"",
        before: None,
        words: "",
        after: "",
    },
    Case {
        name: "cookie",
        config: "",
        before: Some("cookie SRV insert indirect nocache"),
        words: "check cookie {{ server.name }}",
        after: "",
    },
    Case {
        name: "dynamic",
        config: "",
        before: Some("cookie SRV insert dynamic\n dynamic-cookie-key k"),
        words: "check",
        after: "",
    },
    Case {
        name: "resolved",
        config: "",
        before: Some(""),
        words: "check resolvers dns init-addr none",
        after: "",
    },
    Case {
        name: "proto",
        config: "",
        before: Some(""),
        words: "proto h1",
        after: "",
    },
    Case {
        name: "space",
        config: "",
        before: Some("http-send-name-header X-Server"),
        words: "check non-stick",
        after: "",
    },
    Case {
        name: "ca",
        config: "",
        before: Some(""),
        words: "ssl ca-file {{ haproxy.config }}.pem",
        after: "",
    },
    Case {
        name: "used",
        config: "",
        before: Some(
            "{% for server in backend.servers %}\n use-server {{ server.name }} if { always_false }\n{% endfor %}",
        ),
        words: "check",
        after: "",
    },
    Case {
        name: "named",
        config: "",
        before: Some(""),
        words: "track named/old",
        after: "server old 127.0.0.9:9 check inter 1h backup",
    },
    Case {
        name: "tracking",
        config: "",
        before: Some(""),
        words: "track plain/{{ server.name }}",
        after: "",
    },
    Case {
        name: "host",
        config: "",
        before: Some(""),
        words: "check",
        after: "server old localhost:9 backup",
    },
    Case {
        name: "variable",
        config: "",
        before: Some(""),
        words: "check",
        after: "server old \"${HOME}.invalid:9\" backup init-addr none resolvers dns",
    },
    Case {
        name: "portless",
        config: "",
        before: Some(""),
        words: "check",
        after: "server old 127.0.0.9 backup",
    },
    Case {
        name: "unix",
        config: "",
        before: Some(""),
        words: "check",
        after: "server old unix@/run/none.sock backup",
    },
    Case {
        name: "template",
        config: "",
        before: Some("server-template old 1-3 old.invalid:9 backup init-addr none resolvers dns"),
        words: "check",
        after: "",
    },
    Case {
        name: "underscore",
        config: "",
        before: Some("server _old 127.0.0.9:9 backup"),
        words: "check",
        after: "",
    },
    Case {
        name: "quoted",
        config: "",
        before: Some(""),
        words: "check",
        after: "server old 127.0.0.9:9 backup source \"127.0.0.1\"",
    },
    Case {
        name: "tabs",
        config: "",
        before: Some("\tserver\told\t127.0.0.9:9\tbackup"),
        words: "\tcheck\tinter\t1s",
        after: "",
    },
    Case {
        name: "around",
        config: "",
        before: Some(""),
        words: "check",
        after: ".if defined(NOTHING)\nfrontend around\n bind 127.0.0.1:1\n.endif",
    },
];

/// The template with all cases, `plain` the one that the front end leads to.
fn cases() -> String {
    let mut text = template(SOCKET).replace(
        "{% include \"backends.cfg.j2\" %}",
        "resolvers dns\n    nameserver none 127.0.0.9:53\n",
    );
    text = text.replace("default_backend nodes", "default_backend plain");
    text.push_str("{% for backend in backends if backend.name == \"nodes\" %}\nbackend nodes\n{% include \"servers.cfg.j2\" %}\n{% endfor %}\n");
    for Case {
        name,
        before,
        words,
        after,
        ..
    } in CASES
    {
        let _ = writeln!(
            text,
            "{{% for backend in backends if backend.name == \"{name}\" %}}\nbackend {name}"
        );
        match before {
            None => text.push_str("    balance {{ backend.balance }}\n{% if backend.hash %}\n    hash-type consistent\n{% endif %}\n{% include \"servers.cfg.j2\" %}\n"),
            Some(before) => {
                let _ = writeln!(
                    text,
                    "    balance roundrobin\n    {before}\n{{% for server in backend.servers %}}\n\
                     \tserver\t{{{{ server.name }}}}\t{{{{ server.addr }}}}\t{words}{{% if not server.ready %}} disabled{{% endif +%}}\n\
                     {{% endfor %}}\n    {after}"
                );
            }
        }
        text.push_str("{% endfor %}\n");
    }
    text
}

/// A certificate beside HAProxy's file.
async fn authority(lab: &TestEnv) -> Result<()> {
    let mut make = Command::new("openssl");
    let words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca.example";
    make.args(words.split(' '));
    make.arg("-keyout").arg(lab.path("key.pem"));
    make.arg("-out").arg(lab.path("haproxy.cfg.pem"));
    output(&mut make).await.map(drop)
}

/// A member joins each backend in turn: HAProxy is reloaded for those that `check` has said it of, before anybody was
/// there, and for no other.
async fn said_exactly(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let path = lab.path("cases.cfg.j2");
    std::fs::write(&path, cases())?;
    authority(lab).await?;
    let backends: String = CASES
        .iter()
        .map(|Case { name, config, .. }| {
            // who is in `tracking` has to be in `plain` too
            let roles = if *name == "plain" { "[\"plain\", \"tracking\"]".to_owned() } else { format!("\"{name}\"") };
            format!("[[backend]]\nname = \"{name}\"\ntags = {{ role = {roles} }}\nport = 3000\n{config}\n")
        })
        .collect();
    let sections = format!("{backends}[reload]\nmin_interval = \"10ms\"\n");
    let configure = |options: ControllerOptions| options.template(path).sections(&sections);
    let mut stage = Scenario::start_on(lab, kind, 0, configure).await?;
    stage.settled().await?;
    let said = check(&stage.controller.options().clone(), &[]).await?;
    ensure!(said.code == Some(0), "{said:?}");
    for (case, last) in CASES.iter().zip(100..) {
        let reloads = stage.controller.status().await?.counter("reloads");
        let needs = format!("backend {}: needs a reload", case.name);
        let without = format!("backend {}: changes without a reload", case.name);
        ensure!(
            said.out.contains(&needs) != said.out.contains(&without),
            "{}: {said:?}",
            case.name
        );
        let web = Web::start(format!("m{last}"), lab.net().addr(last, WEB_PORT))?;
        let member = integration::fake_agent::node(web.name(), lab.net().ip(last));
        stage.agent.put(member.tag("role", case.name).build());
        let joined = stage.controller.settles(case.name, SOON * 2, |status| {
            let servers = status.0["backends"][case.name]["servers"].as_object();
            servers.is_some_and(|servers| !servers.is_empty()) && status.is_whole()
        });
        joined
            .await
            .with_context(|| format!("{}: {}", case.name, stage.controller.log()))?;
        stage.settled().await?;
        let reloaded = stage.controller.status().await?.counter("reloads") > reloads;
        ensure!(
            reloaded == said.out.contains(&needs),
            "{}: reloaded: {reloaded}; {}\n{}",
            case.name,
            said.out,
            stage.controller.log()
        );
        stage.webs.push(web);
    }
    Ok(())
}

on_each_haproxy! {
    a_reload_is_said_exactly_where_a_join_then_needs_one => said_exactly;
}

#[test]
fn what_is_wrong_with_a_members_line_is_found_where_there_is_no_member() {
    test(&HOST, async |lab| {
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        for (words, part) in [
            ("frobnicate", "frobnicate"),
            ("ssl ca-file /nowhere.pem", "/nowhere.pem"),
        ] {
            let options = Controller::on(lab, agent.rpc_addr(), &haproxy)
                .backend(&format!("server_options = {words:?}"));
            options.write()?;
            let said = check(&options, &[]).await?;
            said.is_wrong(&[
                "haproxy.cfg:",
                "with one more member",
                part,
                "(from servers.cfg.j2:",
            ]);
        }
        Ok(())
    });
}

#[test]
fn members_that_are_given_go_the_way_of_all_others() {
    test(&HOST, async |lab| {
        let stage = Scenario::start(lab, 1, |options| options).await?;
        stage.settled().await?;
        let mut controller = stage.controller;
        let options = controller.options().clone();
        let given = format!("new={},role=backend", lab.net().addr(120, WEB_PORT));
        let odd = format!(
            "odd={},role=backend,weight=1000",
            lab.net().addr(121, WEB_PORT)
        );
        let none = format!("none={},role=other", lab.net().addr(122, WEB_PORT));
        let args = ["--member", &given, "--member", &odd, "--member", &none];
        let said = check(&options, &args).await?;
        said.warns(&["--member odd: nodes/odd is left out: its tag `weight` is \"1000\""]);
        said.warns(&["--member none: no backend picks it; nodes wants role=backend"]);
        let render = options.run("render", &args).await?;
        let text = String::from_utf8(render.stdout)?;
        let line = format!("server new {}", lab.net().addr(120, WEB_PORT));
        assert!(
            text.contains(&line) && text.contains("server s1 "),
            "{text}"
        );
        assert!(
            !text.contains("server odd") && !text.contains("server none"),
            "{text}"
        );
        let plan = options.run("plan", &args).await?;
        let text = String::from_utf8(plan.stdout)?;
        assert_eq!(plan.status.code(), Some(2), "{text}");
        let step = format!("runtime  nodes/new: add {}", lab.net().addr(120, WEB_PORT));
        assert!(text.contains(&step) && !text.contains("reload"), "{text}");
        let wrong = options.run("check", &["--member", "new=nowhere"]).await?;
        assert_eq!(wrong.status.code(), Some(64));
        // The running one knows nothing of them.
        assert_eq!(controller.status().await?.servers("ready"), 1);
        Ok(())
    });
}
