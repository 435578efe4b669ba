//! serfctl where something is wrong: what `doctor` finds, what hints say, and how it ends.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::controller::binary;
use integration::{
    Agent, Haproxy, HaproxyKind, Need, Process, TestEnv, Web, on_each_haproxy, test, wait_for,
    wait_some,
};
use rustix::process::Signal;
use serde_json::Value;
use serf_rpc::{ConnectOptions, Event, EventFilter, EventKind};

use crate::serfctl::serfctl;

const SOON: Duration = Duration::from_secs(10);

on_each_haproxy! {
    the_doctor_compares_haproxy_with_the_members => haproxy;
}

fn run(agent: &Agent, args: &[&str]) -> Result<Output> {
    let output = serfctl(agent, args)?.output();
    output.with_context(|| format!("serfctl {args:?}"))
}

/// What the doctor prints, who has found something.
fn doctor(agent: &Agent, args: &[&str]) -> Result<String> {
    let output = run(agent, &[&["doctor"], args].concat())?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

async fn pair(lab: &TestEnv) -> Result<[Agent; 2]> {
    let a = Agent::on(lab, "a", 1).start().await?;
    let b = Agent::on(lab, "b", 2).join(a.ip()).start().await?;
    for agent in [&a, &b] {
        agent.knows(2, "alive", SOON).await?;
    }
    Ok([a, b])
}

/// Makes b, which lives, count as leaving: with nobody else to hear of it, its word against that is lost.
async fn force(a: &Agent) -> Result<()> {
    ensure!(run(a, &["force-leave", "b"])?.status.success());
    a.knows(1, "leaving", SOON).await
}

/// Answers each query with its own name, after so long.
async fn answering(agent: &Agent, after: Duration) -> Result<tokio::task::JoinHandle<Result<()>>> {
    let options = ConnectOptions::new(agent.rpc_addr().to_string());
    let client = options.connect().await?;
    let mut queries = client.stream(EventFilter::of([EventKind::Query])).await?;
    client.stats().await?;
    let name = [agent.name().as_bytes(), b"\0\xff\n"].concat();
    Ok(tokio::spawn(async move {
        while let Some(event) = queries.next().await {
            if let Event::Query { id, .. } = event? {
                tokio::time::sleep(after).await;
                client.respond(id, &name).await?;
            }
        }
        Ok(())
    }))
}

#[test]
fn a_query_waits_for_the_living_whoever_else_answers() {
    test(&[Need::Serf], async |lab| {
        let [a, b] = pair(lab).await?;
        force(&a).await?;
        let _slow = answering(&a, Duration::from_millis(1500)).await?;
        let _leaver = answering(&b, Duration::ZERO).await?;
        let query = ["query", "--timeout=20s", "--format=json", "who"];
        let began = Instant::now();
        let answered = run(&a, &query)?;
        ensure!(answered.status.success(), "{answered:?}");
        ensure!(began.elapsed() < Duration::from_secs(15), "the whole time");
        let answers: Value = serde_json::from_slice(&answered.stdout)?;
        ensure!(answers["Responses"]["a"].is_string(), "{answers}");
        Ok(())
    });
}

#[test]
fn raw_answers_are_the_bytes_that_were_sent() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let _answers = answering(&a, Duration::ZERO).await?;
        let raw = run(&a, &["query", "--raw", "--timeout=20s", "who"])?;
        ensure!(raw.status.success() && raw.stderr.is_empty(), "{raw:?}");
        assert_eq!(raw.stdout, b"a\0\xff\n");
        Ok(())
    });
}

#[test]
fn who_lives_and_counts_as_leaving_is_found_and_comes_back_as_the_doctor_says() {
    test(&[Need::Serf], async |lab| {
        let [a, b] = pair(lab).await?;
        force(&a).await?;
        let text = doctor(&a, &[])?;
        ensure!(text.contains("alive, but counts as leaving: b;"), "{text}");
        ensure!(text.contains("try: on its host: serfctl join"), "{text}");
        ensure!(run(&b, &["join", &a.ip().to_string()])?.status.success());
        a.knows(2, "alive", SOON).await?;
        ensure!(run(&a, &["doctor"])?.status.success());
        Ok(())
    });
}

#[test]
fn who_is_just_leaving_is_no_trouble() {
    test(&[Need::Serf], async |lab| {
        let [a, mut b] = pair(lab).await?;
        let leave = serfctl(&b, &["leave"])?.stdout(Stdio::null()).spawn()?;
        wait_for("the leave to begin", SOON, async || {
            let members = a.members().await.unwrap_or_default();
            members.iter().any(|member| member.status != "alive")
        })
        .await?;
        let looked = run(&a, &["doctor"])?;
        let text = String::from_utf8(looked.stdout)?;
        ensure!(!text.contains("leaving"), "{text}");
        b.process().exited(SOON).await?;
        drop(leave);
        Ok(())
    });
}

#[test]
fn an_agent_that_has_been_among_others_and_knows_only_itself_is_found() {
    test(&[Need::Serf], async |lab| {
        let [a, mut b] = pair(lab).await?;
        b.leave().await?;
        a.sees_off(&["b"]).await?;
        ensure!(run(&a, &["force-leave", "--prune", "b"])?.status.success());
        a.knows(0, "left", SOON).await?;
        let text = doctor(&a, &[])?;
        ensure!(
            text.contains(
                "! the agent knows only itself, though it has been among others before\n"
            ),
            "{text}"
        );
        let fresh = Agent::on(lab, "c", 3).start().await?;
        let text = doctor(&fresh, &[])?;
        ensure!(text.contains("! the agent knows only itself\n"), "{text}");
        Ok(())
    });
}

#[test]
fn an_agent_of_another_key_is_found_on_both_sides_and_no_hint_repeats_what_failed() {
    test(&[Need::Serf], async |lab| {
        let keys = [
            "iHjMOBX39mTRN/XzzKCMRYMsPEOAqCJb5yU6KdwzqVI=",
            "itFyTpkih2T2lUP+Egok5e/C787NnpU9X9/oWo3WwJk=",
        ]
        .map(|key| format!("-encrypt={key}"));
        let a = Agent::on(lab, "a", 1).arg(&keys[0]).start().await?;
        let b = Agent::on(lab, "b", 2).arg(&keys[1]).start().await?;
        ensure!(!run(&b, &["join", &a.ip().to_string()])?.status.success());
        let text = doctor(&a, &[])?;
        ensure!(
            text.contains("! the agent cannot read the gossip of 127.")
                && text.contains("none of this agent's keys"),
            "{text}"
        );

        let open = Agent::on(lab, "c", 3).start().await?;
        let listed = run(&open, &["keys", "--list"])?;
        let said = String::from_utf8(listed.stderr)?;
        ensure!(
            said.contains("try:") && !said.contains("keys --list"),
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn a_limit_is_told_as_the_agent_has_it() {
    test(&[Need::Serf], async |lab| {
        let limits = lab.path("limits.json");
        fs::write(
            &limits,
            r#"{"user_event_size_limit": 1500, "query_size_limit": 2000}"#,
        )?;
        let config = format!("-config-file={}", limits.display());
        let a = Agent::on(lab, "a", 1).arg(config).start().await?;
        let payload = "x".repeat(3000);
        for (command, limit) in [("event", "1500 bytes"), ("query", "2000 bytes")] {
            let refused = run(&a, &[command, "big", &payload])?;
            assert_eq!(refused.status.code(), Some(4), "{refused:?}");
            let said = String::from_utf8(refused.stderr)?;
            let (_, hint) = said.split_once("try:").context("a hint")?;
            ensure!(hint.contains(limit), "{hint}");
        }
        Ok(())
    });
}

/// To the first process of its container the kernel applies no default: `exec serfctl watch` would not end.
#[test]
fn the_first_process_of_a_container_ends_at_a_signal() {
    test(&[Need::Serf, Need::Mounts], async |lab| {
        let a = Agent::on(lab, "a", 1).start().await?;
        let serfctl = binary("serfctl")?;
        for (args, signal, code) in [
            (&["watch"][..], Signal::TERM, 143),
            (&["monitor"], Signal::INT, 130),
            (&["wait", "--count=9", "--timeout=60s"], Signal::TERM, 143),
            (&["query", "--timeout=60s", "who"], Signal::INT, 130),
        ] {
            let mut command = Command::new("unshare");
            command
                .args(["--pid", "--fork", "--kill-child"])
                .arg(&serfctl)
                .args(args)
                .env("SERF_RPC_ADDR", a.rpc_addr().to_string());
            let log = lab.path(&format!("{}.log", args[0]));
            let mut outer = Process::start("unshare", &command, log)?;
            let first = wait_some("the first process", SOON, async || {
                first_process(outer.pid(), "serfctl")
            })
            .await?;
            // It listens to signals before anything else; a word of it is no proof, where it says none.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let began = Instant::now();
            integration::process::signal_pid(first, signal)?;
            let status = outer.exited(SOON).await?;
            println!("{args:?} ended after {:?}: {status}", began.elapsed());
            assert_eq!(status.code(), Some(code), "{args:?}: {status}");
        }
        Ok(())
    });
}

/// The child of a process that runs a program of that name.
fn first_process(parent: u32, name: &str) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let child = children.split_whitespace().next()?.parse().ok()?;
    let comm = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (comm.trim() == name).then_some(child)
}

/// The members of a cluster beside HAProxy's servers: one fits, one is down, one has no server, one server no member.
async fn haproxy(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let agent = |name: &str, last| Agent::on(lab, name, last).tag("role", "web");
    let a = Agent::on(lab, "lb", 1).start().await?;
    let first = a.ip();
    let _web1 = agent("web1", 2).join(first).start().await?;
    let _web2 = agent("web2", 3).join(first).start().await?;
    let _web3 = agent("web3", 4).join(first).start().await?;
    a.knows(4, "alive", SOON).await?;
    let [up, down, gone] = [2, 3, 9].map(|last| lab.net().addr(last, 3000));
    let _serves = Web::start("web1", up)?;
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    fs::write(
        haproxy.config(),
        format!(
            "global\n    stats socket {} mode 600 level admin\n\
             defaults\n    mode http\n    timeout connect 500ms\n    timeout client 10s\n    timeout server 10s\n\
             backend nodes\n    default-server check inter 200ms\n\
             \x20   server web1 {up}\n    server web2 {down}\n    server web9 {gone}\n",
            haproxy.stats_socket().display()
        ),
    )?;
    haproxy.start().await?;
    wait_for("the checks", SOON, async || {
        let stat = haproxy.stat().await.unwrap_or_default();
        let is_down = |line: &&integration::haproxy::StatLine| line.get("status") == "DOWN";
        stat.iter()
            .filter(|line| line.is_server())
            .filter(is_down)
            .count()
            == 2
    })
    .await?;
    let master = haproxy.master_socket().display().to_string();
    let text = doctor(&a, &["--haproxy-socket", &master])?;
    for line in [
        "! alive, and no server of HAProxy: web3\n",
        "! servers of backend nodes that no living member has: web9\n",
        "! alive, but down in backend nodes: web2 (L4CON)\n",
        ": 3 servers, 1 up, 0 old workers\n",
    ] {
        ensure!(text.contains(line), "{line}\n{text}");
    }
    let stats = haproxy.stats_socket().display().to_string();
    let text = doctor(&a, &["--haproxy-socket", &stats, "--format=json"])?;
    let json: Value = serde_json::from_str(&text)?;
    assert_eq!(json["haproxy"]["servers"], 3, "{json}");
    assert_eq!(json["findings"].as_array().map(Vec::len), Some(3), "{json}");
    let text = doctor(&a, &["--haproxy-socket", "/nonexistent.sock"])?;
    ensure!(
        text.contains("/nonexistent.sock is not read: No such file"),
        "{text}"
    );
    Ok(())
}
