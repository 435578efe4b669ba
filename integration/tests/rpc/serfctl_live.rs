//! What `serf` has not: tables, documents a line, and an end when nobody reads on.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::{Agent, Need, Process, TestEnv, test, wait_for};
use rustix::process::Signal;
use serde_json::Value;

use crate::serfctl::serfctl;

const SOON: Duration = Duration::from_secs(10);

async fn cluster(lab: &TestEnv) -> Result<[Agent; 2]> {
    let a = Agent::on(lab, "a", 1).tag("role", "web").start().await?;
    let b = Agent::on(lab, "b\n\u{1b}[2J", 2)
        .tag("role", "lb")
        .join(a.ip())
        .start()
        .await?;
    a.knows(2, "alive", SOON).await?;
    Ok([a, b])
}

/// The documents of its lines, none of which may hold what a terminal obeys.
fn documents(output: &Output) -> Result<Vec<Value>> {
    let text = str::from_utf8(&output.stdout)?;
    ensure!(
        !text.replace('\n', "").contains(char::is_control),
        "{text:?}"
    );
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}

#[test]
fn a_table_has_the_columns_asked_for_and_follows_the_members() {
    test(&[Need::Serf], async |lab| {
        let [a, b] = cluster(lab).await?;
        let columns = ["members", "--columns", "tag:role,name,status"];
        let once = serfctl(&a, &columns)?.output()?;
        let first =
            "ROLE  NAME          STATUS\nlb    b\\n\\u{1b}[2J  alive\nweb   a             alive\n";
        assert_eq!(str::from_utf8(&once.stdout)?, first);

        let live = [&columns[..], &["--watch"]].concat();
        let watch = Process::start("serfctl", &serfctl(&a, &live)?, lab.path("table.log"))?;
        let summary = "2 members: 2 alive\n";
        let begins = format!("{summary}{first}");
        wait_for("the table", SOON, async || watch.log().contains(&begins)).await?;
        b.set_tag("role", "db").await?;
        let second = begins.replace("lb  ", "db  ");
        wait_for("the next", SOON, async || watch.log().contains(&second)).await?;
        ensure!(!watch.log().contains('\u{1b}'), "no colour in a file");
        Ok(())
    });
}

#[test]
fn each_line_of_ndjson_is_a_document() {
    test(&[Need::Serf], async |lab| {
        let [a, b] = cluster(lab).await?;
        let other = Agent::on(lab, "c", 3).start().await?;
        let hostile = "b\n\u{1b}[2J";
        let ask = |args: &[&str]| -> Result<Vec<Value>> {
            documents(&serfctl(&a, args)?.arg("--format=ndjson").output()?)
        };
        let members = ask(&["members"])?;
        assert_eq!(members.len(), 2);
        assert_eq!(members[1]["name"], hostile);
        assert_eq!(ask(&["info"])?[0]["agent"]["name"], "a");
        let query = ask(&["query", "-timeout=300ms", "ask"])?;
        let acks = query.iter().filter(|line| line["event"] == "ack");
        assert_eq!(acks.count(), 2, "{query:?}");
        assert_eq!(query.last().map(|line| &line["acks"]), Some(&2.into()));
        assert!(ask(&["rtt", "a"])?[0]["rtt_ms"].is_number());
        let reached = ask(&["reachability"])?;
        assert_eq!(reached[0]["missing"], Value::Array(Vec::new()));
        assert_eq!(ask(&["doctor"])?[0]["findings"], Value::Array(Vec::new()));
        let differing = ask(&["members", "--diff", &other.rpc_addr().to_string()])?;
        assert_eq!(differing.len(), 3, "{differing:?}");
        assert_eq!(differing[2]["there"], "alive");

        let monitor = serfctl(&a, &["monitor", "--format=ndjson", "--events=user,member"])?;
        let monitor = Process::start("serfctl", &monitor, lab.path("monitor.log"))?;
        let seen = |event: &str| {
            let lines = monitor.log();
            let mut documents = lines
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            documents.any(|line| line["event"] == event)
        };
        wait_for("a user event", SOON, async || {
            let sent = serfctl(&a, &["event", "deploy\n", "v1"]).and_then(|mut c| Ok(c.output()?));
            sent.is_ok() && seen("user")
        })
        .await?;
        b.set_tag("canary", "1").await?;
        wait_for("the change", SOON, async || seen("member-update")).await
    });
}

#[test]
fn who_follows_ends_when_nobody_reads_on() {
    test(&[Need::Serf], async |lab| {
        let [a, _b] = cluster(lab).await?;
        for args in [&["watch"][..], &["members", "--watch"], &["monitor"]] {
            let mut follower = serfctl(&a, args)?
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let mut reader = BufReader::new(follower.stdout.take().context("a pipe")?);
            reader.read_line(&mut String::new())?;
            drop(reader);
            wait_for("its end", SOON, async || {
                matches!(follower.try_wait(), Ok(Some(_)))
            })
            .await?;
            let ended = follower.wait_with_output()?;
            ensure!(
                ended.status.success() && ended.stderr.is_empty(),
                "{args:?}: {ended:?}"
            );
        }
        Ok(())
    });
}

/// Nothing waits for an agent that says nothing any more, whatever it was about to say.
#[test]
fn an_agent_that_is_stopped_is_not_waited_for() {
    test(&[Need::Serf], async |lab| {
        let [a, _b] = cluster(lab).await?;
        let query = ["query", "--timeout=60s", "--rpc-timeout=1s", "ask"];
        let mut query = Process::start("query", &serfctl(&a, &query)?, lab.path("query.log"))?;
        wait_for("acknowledgements", SOON, async || {
            query.log().matches("Ack from").count() == 2
        })
        .await?;
        a.signal(Signal::STOP)?;
        let status = query.exited(SOON).await?;
        let waited = serfctl(&a, &["wait", "--timeout=1s"])?.output()?;
        a.signal(Signal::CONT)?;
        assert_eq!(status.code(), Some(5), "{}", query.log());
        assert_eq!(waited.status.code(), Some(5), "{waited:?}");
        let said = String::from_utf8(waited.stderr)?;
        assert!(said.contains("there were 0: members: no reply"), "{said}");
        Ok(())
    });
}

#[test]
fn who_follows_gives_up_on_a_wrong_key() {
    test(&[Need::Serf], async |lab| {
        let a = Agent::on(lab, "a", 1).rpc_auth("secret").start().await?;
        for args in [&["watch"][..], &["members", "--watch"], &["wait"]] {
            let refused = serfctl(&a, &[args, &["--rpc-auth=wrong"]].concat())?.output()?;
            assert_eq!(refused.status.code(), Some(4), "{args:?}: {refused:?}");
            let said = String::from_utf8(refused.stderr)?;
            assert!(said.contains("does not accept the key"), "{said}");
        }
        Ok(())
    });
}

#[test]
fn names_payloads_and_tags_may_be_any_bytes() {
    test(&[Need::Serf], async |lab| {
        let [a, _b] = cluster(lab).await?;
        let monitor = serfctl(&a, &["monitor", "--format=ndjson", "--events=user"])?;
        let monitor = Process::start("serfctl", &monitor, lab.path("monitor.log"))?;
        let bytes = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
        wait_for("the event", SOON, async || {
            let sent = serfctl(&a, &["event", "--coalesce=false"]);
            let sent = sent
                .and_then(|mut sent| Ok(sent.args([bytes(b"n\xff"), bytes(b"p\xfe")]).output()?));
            sent.is_ok_and(|sent| sent.status.success())
                && monitor.log().contains("\"payload_base64\":\"cP4=\"")
        })
        .await?;
        let set = serfctl(&a, &["tags", "--set"])?
            .arg(bytes(b"k=\xff"))
            .output()?;
        ensure!(set.status.success(), "{set:?}");
        let members = serfctl(&a, &["members", "--name=a", "--format=ndjson"])?.output()?;
        let members = documents(&members)?;
        assert_eq!(members[0]["tags_base64"]["aw=="], "/w==");
        Ok(())
    });
}
