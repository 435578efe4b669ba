//! `serfctl members` beside `serf members`, asked of the same real agent.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use integration::controller::binary;
use integration::{Agent, Need, Serf, SerfKind, TestEnv, on_serf, test, wait_for};
use rustix::process::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

/// What members may be asked for, in the ways of writing it.
const SELECTIONS: &[&[&str]] = &[
    &[],
    &["-name=a"],
    &["--name", "bravo.*"],
    &["-name", "nobody"],
    &["-name", ""],
    &["-name=a", "-name=left"],
    &["-status", "alive"],
    &["--status=left"],
    &["-status=alive|left"],
    &["-status=failed"],
    &["-tag", "role=web"],
    &["--tag=role=(web|lb)", "-tag", "port=30.."],
    &["-tag", "role="],
    &["-tag", "role=web", "-tag", "role=lb"],
    &["-tag=note=a=b"],
    &["-role", "lb"],
    &["-role=web", "-tag", "role=lb", "-status", "alive"],
];

const FORMATS: &[&[&str]] = &[
    &[],
    &["-format", "text"],
    &["--format=text", "-detailed"],
    &["-detailed=true"],
    &["-detailed", "-detailed=false"],
    &["-format=json"],
    &["-detailed", "--format", "json"],
];

mod host {
    super::on_serf! { super::SerfKind::Host, None, every_flag_and_format_gives_what_serf_gives => same; }
}
mod trixie {
    super::on_serf! { super::SerfKind::Trixie, Some("sesame"), every_flag_and_format_gives_what_serf_gives => same; }
}

async fn same(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let (a, _others) = cluster_of(lab, serf).await?;
    for selection in SELECTIONS {
        for format in FORMATS {
            let args = [*selection, *format].concat();
            let theirs = serf.command_line(&a).arg("members").args(&args).output()?;
            let ours = serfctl(&a, &args)?
                .env("SERF_RPC_AUTH", serf.key().unwrap_or_default())
                .output()?;
            ensure!(
                theirs.status.success() && ours.status.success(),
                "{args:?}: {ours:?}"
            );
            let json = format.contains(&"json") || format.contains(&"-format=json");
            let role = selection.iter().any(|arg| arg.starts_with("-role"));
            let theirs = without_warning(&theirs.stdout, role)?;
            if json {
                assert_eq!(data(&ours.stdout)?, data(theirs)?, "{args:?}");
            } else {
                assert_eq!(rows(&ours.stdout)?, rows(theirs)?, "{args:?}");
            }
            assert_eq!(ours.stderr.is_empty(), !role, "{args:?}");
        }
    }
    Ok(())
}

#[test]
fn members_and_tags_are_sorted() {
    test(&[Need::Serf], async |lab| {
        let (a, _others) = cluster(lab).await?;
        let text = String::from_utf8(serfctl(&a, &[])?.output()?.stdout)?;
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(names, ["a", "bravo-länger", "left"]);
        assert!(text.contains("  port=3000,role=web\n"), "{text}");
        Ok(())
    });
}

#[test]
fn alternatives_are_whole_values_where_serf_matches_a_part() {
    test(&[Need::Serf], async |lab| {
        let (a, _others) = cluster(lab).await?;
        let [serf, ours] = both(&a, &["-name=nobody|t"])?;
        assert_eq!(rows(&serf.stdout)?.len(), 1, "^nobody or t$");
        assert_eq!(ours.stdout, b"\n");
        Ok(())
    });
}

#[test]
fn hostile_names_and_tags_are_escaped_in_text_and_valid_json() {
    test(&[Need::Serf], async |lab| {
        let tag = OsString::from_vec(b"t\n=\x1b[2J\xff|x".to_vec());
        let a = Agent::on(lab, "evil\nweb  127.0.0.1:1  alive\x1b[31m\u{9b}", 1)
            .arg("-tag")
            .arg(tag)
            .start()
            .await?;
        let text = String::from_utf8(serfctl(&a, &[])?.output()?.stdout)?;
        let expected = format!(
            "evil\\nweb  127.0.0.1:1  alive\\u{{1b}}[31m\\u{{9b}}  {}:7946  alive  t\\n=\\u{{1b}}[2J\\xff|x\n",
            a.ip()
        );
        assert_eq!(text, expected);

        let [serf, ours] = both(&a, &["-format=json"])?;
        let mut read = data(&ours.stdout)?;
        // What text cannot carry is there a second time, in base64, and nothing else is different.
        let member = read["members"][0].as_object_mut().context("a member")?;
        let key = STANDARD.encode(b"t\n");
        let value = STANDARD.encode(b"\x1b[2J\xff|x");
        assert_eq!(
            member.remove("tags_base64"),
            Some(serde_json::json!({ key: value }))
        );
        assert_eq!(read, data(&serf.stdout)?);
        let text = String::from_utf8(ours.stdout)?;
        assert!(!text.replace('\n', "").contains(char::is_control), "{text}");
        Ok(())
    });
}

#[test]
fn a_key_comes_from_the_flag_or_the_environment() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).rpc_auth("secret").start().await?;
        for key in ["-rpc-auth=secret", "--rpc-auth=secret"] {
            let [serf, ours] = both(&a, &[key])?;
            assert_eq!(rows(&ours.stdout)?, rows(&serf.stdout)?);
            assert_eq!(rows(&ours.stdout)?.len(), 1);
        }
        let from_environment = serfctl(&a, &[])?.env("SERF_RPC_AUTH", "secret").output()?;
        assert_eq!(rows(&from_environment.stdout)?.len(), 1);

        fails(&mut serfctl(&a, &[])?, 4, "wants an authentication key")?;
        fails(
            &mut serfctl(&a, &["-rpc-auth=wrong"])?,
            4,
            "does not accept the key",
        )
    });
}

#[test]
fn failures_have_exit_codes_and_say_what_to_try() {
    test(&[Need::Serf], async |lab| {
        let mut a = Agent::on(lab, "a", 1).start().await?;
        for expression in ["(", "(?x)a", "[[:nothing:]]"] {
            let tag = format!("-tag=role={expression}");
            fails(&mut serfctl(&a, &["-name=a", &tag])?, 2, "expression")?;
        }
        fails(&mut serfctl(&a, &["-format=yaml"])?, 2, "json")?;
        fails(&mut serfctl(&a, &["-tag=role"])?, 2, "KEY=REGEXP")?;

        let gossip = format!("-rpc-addr={}:7946", a.ip());
        fails(&mut serfctl(&a, &[&gossip])?, 3, "7373")?;

        a.process().signal(Signal::STOP)?;
        fails(
            &mut serfctl(&a, &["--rpc-timeout=100ms"])?,
            5,
            "--rpc-timeout",
        )?;
        a.kill();
        let nobody = format!("-rpc-addr={}", lab.net().addr(99, 7373));
        fails(&mut serfctl(&a, &[&nobody])?, 3, "is the agent running?")
    });
}

#[test]
fn a_closed_pipe_and_an_interrupt_end_it_quietly() {
    test(&[Need::Serf], async |lab| {
        let mut a = Agent::on(lab, "a", 1).start().await?;
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let unread = serfctl(&a, &[])?.stdout(writer).output()?;
        assert!(
            unread.status.success() && unread.stderr.is_empty(),
            "{unread:?}"
        );

        a.process().signal(Signal::STOP)?;
        // A shell that runs the tests in the background has them, and all below, ignore SIGINT.
        let mut heeding = Command::new("env");
        heeding.arg("--default-signal=INT").arg(binary("serfctl")?);
        let waiting = members(&mut heeding, &a, &[])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        wait_for("serfctl to run", SOON, async || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", waiting.id()));
            name.is_ok_and(|name| name.trim() == "serfctl")
        })
        .await?;
        let pid = rustix::process::Pid::from_child(&waiting);
        rustix::process::kill_process(pid, Signal::INT)?;
        let ended = waiting.wait_with_output()?;
        assert_eq!(ended.status.signal(), Some(Signal::INT.as_raw()));
        assert!(
            ended.stdout.is_empty() && ended.stderr.is_empty(),
            "{ended:?}"
        );
        Ok(())
    });
}

/// Three nodes, one of which has left; the first is the one to ask.
async fn cluster(lab: &TestEnv) -> Result<(Agent, Vec<Agent>)> {
    cluster_of(lab, &Serf::prepare(lab, SerfKind::Host, None).await?).await
}

async fn cluster_of(lab: &TestEnv, serf: &Serf) -> Result<(Agent, Vec<Agent>)> {
    let a = serf
        .agent(lab, "a", 1)
        .tag("role", "web")
        .tag("port", "3000")
        .start()
        .await?;
    let bravo = serf
        .agent(lab, "bravo-länger", 2)
        .tag("role", "lb")
        .tag("note", "a=b")
        .tag("html", "<ä&ö>")
        .join(a.ip())
        .start()
        .await?;
    let mut left = serf.agent(lab, "left", 3).join(a.ip()).start().await?;
    a.knows(3, "alive", SOON).await?;
    left.leave().await?;
    a.knows(1, "left", SOON).await?;
    Ok((a, vec![bravo, left]))
}

fn both(agent: &Agent, args: &[&str]) -> Result<[Output; 2]> {
    let mut serf = Command::new("serf");
    let serf = members(&mut serf, agent, args).output()?;
    Ok([serf, serfctl(agent, args)?.output()?])
}

fn serfctl(agent: &Agent, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("serfctl")?);
    members(&mut command, agent, args);
    Ok(command)
}

/// The address by the environment, so that a flag may name another.
fn members<'a>(command: &'a mut Command, agent: &Agent, args: &[&str]) -> &'a mut Command {
    command
        .arg("members")
        .args(args)
        .env("SERF_RPC_ADDR", agent.rpc_addr().to_string())
        .env_remove("SERF_RPC_AUTH")
}

fn fails(command: &mut Command, code: i32, says: &str) -> Result<()> {
    let output = command.output()?;
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(code) && output.stdout.is_empty() && stderr.contains(says),
        "{command:?} was to exit {code} and say {says:?}: {} {stderr}",
        output.status
    );
    Ok(())
}

/// Serf warns of `-role` on stdout; serfctl does so on stderr.
fn without_warning(stdout: &[u8], warned: bool) -> Result<&[u8]> {
    if !warned {
        return Ok(stdout);
    }
    let end = stdout.iter().position(|&byte| byte == b'\n');
    let (warning, rest) = stdout.split_at(end.context("a warning")? + 1);
    ensure!(warning.starts_with(b"Deprecation warning"), "no warning");
    Ok(rest)
}

/// The lines with their tags sorted, as a set: members and tags come in any order, and Serf trims the end.
fn rows(text: &[u8]) -> Result<BTreeSet<String>> {
    let sorted = |field: &str| {
        let mut tags: Vec<_> = field.split(',').collect();
        tags.sort_unstable();
        tags.join(",")
    };
    let line = |line: &str| {
        let fields: Vec<_> = line
            .trim_end()
            .split(' ')
            .map(|field| {
                if field.contains('=') {
                    sorted(field)
                } else {
                    field.to_owned()
                }
            })
            .collect();
        fields.join(" ")
    };
    let text = str::from_utf8(text)?.strip_suffix('\n');
    Ok(text
        .context("a last newline")?
        .split('\n')
        .map(line)
        .collect())
}

/// The document with its members sorted by name.
fn data(json: &[u8]) -> Result<Value> {
    ensure!(json.ends_with(b"}\n"), "no last newline");
    let mut document: Value = serde_json::from_slice(json)?;
    if let Some(members) = document.get_mut("members").and_then(Value::as_array_mut) {
        members.sort_by_key(|member| member["name"].to_string());
    }
    Ok(document)
}
