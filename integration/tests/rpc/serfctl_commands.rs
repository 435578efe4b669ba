//! `serfctl X` beside `serf X`, asked of the same real agent: every command, flag and format that both have.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::controller::binary;
use integration::{Agent, Need, Process, Serf, SerfKind, TestEnv, on_each_serf, test, wait_for};
use serde_json::Value;

use crate::serfctl::serfctl;

/// So often may figures move between two calls of serf.
const TRIES: usize = 20;
const SOON: Duration = Duration::from_secs(10);

/// What prints data of one document or of lines in any order.
const SAME: &[&[&str]] = &[
    &["info"],
    &["info", "-format", "text"],
    &["info", "--format=json"],
    &["event", "hi"],
    &["event", "hi", "payload"],
    &["event", "-coalesce=false", "hi", "payload"],
    &["event", "-coalesce", "with blank"],
    &["event", "hi", "-v1.2"],
    &["event", "hi", "-1"],
    &["tags", "-set", "a=b", "-set=c=d=e"],
    &["tags", "-delete", "a", "-delete=c", "-delete", "never"],
    &["tags", "--set", "x=y", "--delete", "z"],
    &["rtt", "a", "a"],
    &["rtt", "a"],
    &["query", "-timeout=300ms", "ask"],
    &["query", "-timeout", "300ms", "ask", "payload"],
    &["query", "-format=json", "-timeout=300ms", "ask"],
    &["query", "-no-ack", "-timeout=300ms", "ask"],
    &[
        "query",
        "-format",
        "json",
        "-no-ack",
        "-timeout=300ms",
        "ask",
    ],
    &["query", "-node=b", "-timeout=300ms", "ask"],
    &[
        "query",
        "-node",
        "a",
        "-node=b",
        "-relay-factor=1",
        "-timeout=300ms",
        "ask",
    ],
    &["query", "-tag", "role=lb", "-timeout=300ms", "ask"],
    &["query", "-tag=role=nobody", "-timeout=300ms", "ask"],
    // Any part of a tag will do, and no tag at all for an empty expression.
    &["query", "-tag=role=e", "-timeout=300ms", "ask"],
    &["query", "-tag=role=^l", "-timeout=300ms", "ask"],
    &["query", "-tag=role=", "-timeout=300ms", "ask"],
    &["reachability"],
    &["reachability", "-verbose"],
    &["info", "-rpc-addr", "AGENT", "-rpc-auth=KEY"],
    &["join", "-replay", "ANOTHER"],
    &["join", "ANOTHER"],
    &["force-leave", "nobody"],
    &["force-leave", "-prune", "nobody"],
];

/// What fails in both, whatever the words.
const FAIL: &[&[&str]] = &[
    &["event"],
    &["event", "a", "b", "c"],
    &["tags"],
    &["tags", "-set", "nothing"],
    &["rtt"],
    &["rtt", "nobody"],
    &["rtt", "a", "nobody"],
    &["join"],
    &["join", "127.0.0.1:1"],
    &["force-leave"],
    &["keys"],
    &["keys", "-list", "-install=x"],
    // A variable that is not set: no key was removed.
    &["keys", "-remove="],
    &["members", "-rpc-addr="],
    &["query"],
    &["nosuch"],
];

on_each_serf! {
    every_command_flag_and_format_gives_what_serf_gives => same;
    what_fails_with_serf_fails_and_says_nothing_on_stdout => failing;
    keys_are_changed_and_listed_as_by_serf => keys;
    events_and_log_are_shown_as_by_serf => monitor;
}

/// Of the host's Serf.
async fn cluster(lab: &TestEnv) -> Result<[Agent; 2]> {
    cluster_of(lab, &Serf::prepare(lab, SerfKind::Host, None).await?).await
}

async fn cluster_of(lab: &TestEnv, serf: &Serf) -> Result<[Agent; 2]> {
    let a = serf.agent(lab, "a", 1).tag("role", "web").start().await?;
    let b = serf
        .agent(lab, "b", 2)
        .tag("role", "lb")
        .join(a.ip())
        .start()
        .await?;
    a.knows(2, "alive", SOON).await?;
    Ok([a, b])
}

/// serfctl, pointed at an agent that wants no key.
fn run(agent: &Agent, args: &[&str]) -> Result<Output> {
    let output = serfctl(agent, args)?.output();
    output.with_context(|| format!("serfctl {args:?}"))
}

/// serfctl, pointed at an agent that may want a key.
fn with_key(serf: &Serf, agent: &Agent) -> Result<Command> {
    let mut command = serfctl(agent, &[])?;
    command.env("SERF_RPC_AUTH", serf.key().unwrap_or_default());
    Ok(command)
}

/// Both, in a moment when nothing else happens; serf first.
fn both(serf: &Serf, agent: &Agent, args: &[&str]) -> Result<[Output; 2]> {
    let theirs = serf.command_line(agent).args(args).output();
    let ours = with_key(serf, agent)?.args(args).output();
    Ok([
        theirs.with_context(|| format!("serf {args:?}"))?,
        ours.with_context(|| format!("serfctl {args:?}"))?,
    ])
}

/// What both print, serf's figures being the same before and after: coordinates move at any time.
fn while_nothing_moves(serf: &Serf, agent: &Agent, args: &[&str]) -> Result<[Printed; 2]> {
    let printed = |output: &Output| {
        ensure!(output.status.success(), "{args:?}: {output:?}");
        if args.iter().any(|arg| arg.contains("json")) {
            Ok(Printed::Data(data(output)?))
        } else {
            Ok(Printed::Lines(lines(output)))
        }
    };
    for _ in 0..TRIES {
        let [theirs, ours] = both(serf, agent, args)?;
        let [theirs, ours] = [printed(&theirs)?, printed(&ours)?];
        if theirs == ours || theirs == printed(&serf.command_line(agent).args(args).output()?)? {
            return Ok([theirs, ours]);
        }
    }
    bail!("serf {args:?} never prints the same twice")
}

/// What a command printed, figures that change between two calls aside.
#[derive(Debug, PartialEq)]
enum Printed {
    Lines(Vec<String>),
    Data(Value),
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<String> = text.lines().map(moving).collect();
    lines.sort();
    lines
}

/// Figures that change between two calls count as there or not.
fn moving(line: &str) -> String {
    let figures = ["goroutines", "_queue", "_time", "health_score"];
    match line.split_once(" = ") {
        Some((key, _)) if figures.iter().any(|figure| key.contains(figure)) => key.to_owned(),
        _ if line.starts_with("Query time: ") => "Query time".to_owned(),
        _ => line.to_owned(),
    }
}

fn data(output: &Output) -> Result<Value> {
    let mut data: Value = serde_json::from_slice(&output.stdout)?;
    for group in ["serf", "runtime"] {
        if let Some(Value::Object(figures)) = data.get_mut(group) {
            for (key, value) in figures {
                if moving(&format!("{key} = {value}")) == *key {
                    *value = Value::Null;
                }
            }
        }
    }
    if let Some(Value::Array(acks)) = data.get_mut("Acks") {
        acks.sort_by_key(ToString::to_string);
    }
    Ok(data)
}

async fn same(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [a, b] = cluster_of(lab, serf).await?;
    let (agent, another) = (a.rpc_addr().to_string(), b.ip().to_string());
    let key = format!("-rpc-auth={}", serf.key().unwrap_or_default());
    for args in SAME {
        let filled = args.iter().map(|arg| match *arg {
            "AGENT" => &agent,
            "ANOTHER" => &another,
            "-rpc-auth=KEY" => &key,
            arg => arg,
        });
        let args: Vec<&str> = filled.collect();
        let [theirs, ours] = while_nothing_moves(serf, &a, &args)?;
        assert_eq!(ours, theirs, "{args:?}");
    }
    Ok(())
}

async fn failing(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [a, _b] = cluster_of(lab, serf).await?;
    for args in FAIL {
        let [theirs, ours] = both(serf, &a, args)?;
        ensure!(!theirs.status.success(), "{args:?}: {theirs:?}");
        ensure!(!ours.status.success(), "{args:?}: {ours:?}");
        ensure!(
            ours.stdout.is_empty() && !ours.stderr.is_empty(),
            "{args:?}: {ours:?}"
        );
    }
    Ok(())
}

/// The keys of a cluster, changed by one and looked at by both.
async fn keys(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [first, second] = [
        "iHjMOBX39mTRN/XzzKCMRYMsPEOAqCJb5yU6KdwzqVI=",
        "itFyTpkih2T2lUP+Egok5e/C787NnpU9X9/oWo3WwJk=",
    ];
    let encrypt = format!("-encrypt={first}");
    let a = serf.agent(lab, "a", 1).arg(&encrypt).start().await?;
    let b = serf
        .agent(lab, "b", 2)
        .arg(&encrypt)
        .join(a.ip())
        .start()
        .await?;
    a.knows(2, "alive", SOON).await?;
    for arg in [
        format!("-install={second}"),
        format!("-use={second}"),
        "-list=true".to_owned(),
        format!("-remove={second}"),
        format!("-use={first}"),
        format!("-remove={second}"),
        "-list".to_owned(),
        format!("-use={second}"),
        "-install=x".to_owned(),
    ] {
        let [theirs, ours] = both(serf, &a, &["keys", &arg])?;
        let mut expected = lines(&theirs);
        // Serf has its verdict on stdout; here it is on stderr, where errors are.
        expected.retain(|line| !line.starts_with("Error "));
        assert_eq!(lines(&ours), expected, "{arg}");
        assert_eq!(ours.status.success(), theirs.status.success(), "{arg}");
    }
    let json = with_key(serf, &a)?
        .args(["keys", "--list", "--format=json"])
        .output()?;
    let json: Value = serde_json::from_slice(&json.stdout)?;
    assert_eq!(
        (&json["nodes"], &json["keys"][first]),
        (&2.into(), &2.into())
    );
    drop(b);
    Ok(())
}

/// Of user events and queries; those of members differ on purpose.
async fn monitor(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [a, _b] = cluster_of(lab, serf).await?;
    let follow = ["monitor", "-log-level=err"];
    let mut theirs = serf.command_line(&a);
    let theirs = Process::start("serf", theirs.args(follow), lab.path("serf.log"))?;
    let mut ours = with_key(serf, &a)?;
    let ours = Process::start("serfctl", ours.args(follow), lab.path("serfctl.log"))?;
    let send = |args: &[&str]| with_key(serf, &a)?.args(args).output().context("serfctl");
    let shown = |name: &str| [&theirs, &ours].map(|process| blocks(&process.log(), name));
    wait_for("both to follow", SOON, async || {
        let sent = send(&["event", "-coalesce=false", "first"]);
        sent.is_ok() && shown("first").iter().all(|blocks| !blocks.is_empty())
    })
    .await?;
    send(&["event", "-coalesce=false", "deploy", "v1\n"])?;
    send(&["query", "-timeout=300ms", "ask", "who"])?;
    send(&["query", "-timeout=300ms", "again"])?;
    for name in ["deploy", "ask", "again"] {
        wait_for(name, SOON, async || {
            shown(name).iter().all(|blocks| !blocks.is_empty())
        })
        .await?;
        let [theirs, ours] = shown(name);
        assert_eq!(ours, theirs);
    }
    Ok(())
}

/// The lines of each event of this name, sorted.
fn blocks(log: &str, name: &str) -> Vec<Vec<String>> {
    let named = format!("\tName: \"{name}\"");
    let block = |block: &str| {
        let lines = block.lines().filter(|line| line.starts_with('\t'));
        let mut lines: Vec<String> = lines.map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    log.split("Event Info:")
        .map(block)
        .filter(|block| block.contains(&named))
        .collect()
}

#[test]
fn a_new_key_is_one_that_serf_takes_and_leave_ends_the_agent() {
    test(&[Need::Serf], async |lab| {
        let none = Agent::on(lab, "none", 9).start().await?;
        let serf = Command::new("serf").arg("keygen").output()?;
        let ours = run(&none, &["keygen"])?;
        assert_eq!(ours.stdout.len(), serf.stdout.len());
        let key = String::from_utf8(ours.stdout)?;
        let mut a = Agent::on(lab, "a", 1)
            .arg(format!("-encrypt={}", key.trim()))
            .start()
            .await?;
        let left = run(&a, &["leave"])?;
        assert_eq!(String::from_utf8(left.stdout)?, "Graceful leave complete\n");
        a.process().exited(SOON).await?;
        Ok(())
    });
}

#[test]
fn waiting_ends_when_they_are_there_or_the_time_is_up() {
    test(&[Need::Serf], async |lab| {
        let ours = binary("serfctl")?;
        let [a, _b] = cluster(lab).await?;
        let wait = |args: &[&str]| run(&a, &[&["wait"], args].concat());
        let there = wait(&["--count", "1", "--role", "lb"])?;
        assert_eq!(
            (there.status.code(), &*there.stdout),
            (Some(0), &b"1\n"[..])
        );
        let late = wait(&["--count=2", "--role=lb", "--timeout=500ms"])?;
        assert_eq!(late.status.code(), Some(5), "{late:?}");
        assert!(String::from_utf8(late.stderr)?.contains("there were 1"));
        let third = Agent::on(lab, "c", 3).tag("role", "lb").join(a.ip());
        let (waited, third) = tokio::join!(
            tokio::task::spawn_blocking({
                let (ours, addr) = (ours.clone(), a.rpc_addr());
                move || {
                    Command::new(ours)
                        .args(["wait", "--count=2", "--role=lb"])
                        .env("SERF_RPC_ADDR", addr.to_string())
                        .output()
                }
            }),
            third.start()
        );
        assert_eq!(waited??.status.code(), Some(0));
        drop(third?);
        Ok(())
    });
}

/// Follows an agent that is killed and comes back: the gap is shown, and nobody is lost or invented.
#[test]
fn watching_goes_on_over_a_restart_of_the_agent() {
    test(&[Need::Serf], async |lab| {
        let [mut a, b] = cluster(lab).await?;
        let mut command = Command::new(binary("serfctl")?);
        command
            .args(["watch", "--format", "ndjson"])
            .env("SERF_RPC_ADDR", a.rpc_addr().to_string());
        let watch = Process::start("serfctl", &command, lab.path("watch.log"))?;
        let events = || -> Vec<(String, String)> {
            let log = watch.log();
            let lines = log
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let event = |line: Value| {
                let name = line["member"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                (line["event"].as_str().unwrap_or_default().to_owned(), name)
            };
            lines.map(event).collect()
        };
        let has = |event: &str, name: &str| {
            let wanted = (event.to_owned(), name.to_owned());
            events().contains(&wanted)
        };
        wait_for("the first members", SOON, async || has("member", "b")).await?;
        a.kill();
        wait_for("the gap", SOON, async || has("agent-lost", "")).await?;
        a.restart().await?;
        let replied = run(&a, &["join", &b.ip().to_string()])?;
        ensure!(replied.status.success(), "{replied:?}");
        a.knows(2, "alive", SOON).await?;
        let answers = || {
            events()
                .iter()
                .filter(|(event, _)| event == "agent-connected")
                .count()
        };
        wait_for("the agent again", SOON, async || answers() == 2).await?;
        b.set_tag("canary", "1").await?;
        wait_for("a change of b", SOON, async || has("updated", "b")).await?;
        let known = ["a", "b", ""];
        let events = events();
        ensure!(
            events
                .iter()
                .all(|(_, name)| known.contains(&name.as_str())),
            "{events:?}"
        );
        let gone = ["failed", "left", "reaped", "forgotten"];
        ensure!(
            !events
                .iter()
                .any(|(event, _)| gone.contains(&event.as_str())),
            "{events:?}"
        );
        Ok(())
    });
}

#[test]
fn two_agents_are_compared() {
    test(&[Need::Serf], async |lab| {
        let [a, b] = cluster(lab).await?;
        b.knows(2, "alive", SOON).await?;
        let stranger = Agent::on(lab, "c", 3).start().await?;
        let diff = |other: &Agent| run(&a, &["members", "--diff", &other.rpc_addr().to_string()]);
        let same = diff(&b)?;
        assert_eq!(
            (same.status.code(), same.stdout.len()),
            (Some(0), 0),
            "{same:?}"
        );
        let other = diff(&stranger)?;
        let text = String::from_utf8(other.stdout)?;
        assert_eq!(
            (other.status.code(), &*text),
            (Some(1), "- a alive\n- b alive\n+ c alive\n")
        );
        Ok(())
    });
}

#[test]
fn the_doctor_finds_what_is_wrong_and_nothing_else() {
    test(&[Need::Serf], async |lab| {
        let [a, b] = cluster(lab).await?;
        let doctor = || run(&a, &["doctor"]);
        let well = doctor()?;
        let text = String::from_utf8(well.stdout)?;
        assert_eq!(well.status.code(), Some(0), "{text}");
        assert!(
            text.ends_with("2 members, 2 alive\nnothing to do\n"),
            "{text}"
        );
        b.set_tag("long", &"x".repeat(460)).await?;
        wait_for("the tag", SOON, async || {
            a.members()
                .await
                .is_ok_and(|members| members.iter().any(|m| m.tags.contains_key("long")))
        })
        .await?;
        b.signal(rustix::process::Signal::STOP)?;
        let ill = doctor()?;
        b.signal(rustix::process::Signal::CONT)?;
        let text = String::from_utf8(ill.stdout)?;
        assert_eq!(ill.status.code(), Some(1), "{text}");
        assert!(
            text.contains("the tags of b have about") && text.contains("try: "),
            "{text}"
        );
        assert!(text.contains("alive, but not reached: b"), "{text}");
        Ok(())
    });
}

#[test]
fn the_key_may_come_from_a_file() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).rpc_auth("secret").start().await?;
        let path = lab.path("rpc.key");
        std::fs::write(&path, "secret\n")?;
        let path_text = path.to_string_lossy();
        let args = ["members", "--rpc-auth-file", &path_text];
        let with = run(&a, &args)?;
        ensure!(with.status.success(), "{with:?}");
        std::fs::remove_file(&path)?;
        let without = run(&a, &args)?;
        assert_eq!(without.status.code(), Some(1), "{without:?}");
        assert!(String::from_utf8(without.stderr)?.contains("rpc.key: No such file"));
        Ok(())
    });
}
