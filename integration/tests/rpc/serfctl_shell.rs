//! What a shell asks of `serfctl` at Tab, beside agents whose names a shell had better not see.

use std::env;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::controller::binary;
use integration::{Agent, Need, TestEnv, test};

const SOON: Duration = Duration::from_secs(10);

/// Names that a terminal or a shell would obey.
const HOSTILE: [&str; 3] = ["zz$(touch x)", "b\n\u{1b}[2J", "-rf"];

/// Sources the completions as a `.bashrc` does, and asks for the last word of the line.
const BASH: &str = r#"
source <(serfctl completions bash)
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_clap_complete_serfctl serfctl "${COMP_WORDS[COMP_CWORD]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

async fn cluster(lab: &TestEnv) -> Result<Vec<Agent>> {
    let mut agents = vec![Agent::on(lab, "a", 1).start().await?];
    let first = agents[0].ip();
    for (name, last) in HOSTILE.into_iter().zip(2..) {
        agents.push(Agent::on(lab, name, last).join(first).start().await?);
    }
    agents[0].knows(agents.len(), "alive", SOON).await?;
    Ok(agents)
}

fn lines(output: Output) -> Result<Vec<String>> {
    ensure!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// What fish is offered for the last word of the line.
fn fish(words: &[&str]) -> Result<Vec<String>> {
    let mut serfctl = Command::new(binary("serfctl")?);
    serfctl
        .env("COMPLETE", "fish")
        .env_remove("SERF_RPC_ADDR")
        .args(["--", "serfctl"])
        .args(words);
    lines(serfctl.output()?)
}

/// What bash is offered for the last word of the line, whose words are parted as bash parts them.
fn bash(words: &[&str]) -> Result<Vec<String>> {
    let serfctl = binary("serfctl")?;
    let here = serfctl.parent().context("a directory")?.to_path_buf();
    let others = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([here].into_iter().chain(env::split_paths(&others)))?;
    let mut bash = Command::new("bash");
    bash.env("PATH", path)
        .env_remove("SERF_RPC_ADDR")
        .args(["--norc", "-c", BASH, "bash", "serfctl"])
        .args(words);
    lines(bash.output()?)
}

/// Of members, as far as the cluster has them.
fn names(offered: Vec<String>) -> Vec<String> {
    let is_flag = |offer: &String| offer.starts_with("--") || offer.starts_with("-h");
    offered
        .into_iter()
        .filter(|offer| !is_flag(offer))
        .collect()
}

#[test]
fn completions_know_the_members_of_the_agent_named() {
    test(&[Need::Serf], async |lab| {
        let agents = cluster(lab).await?;
        let agent = agents[0].rpc_addr().to_string();
        // The names that a shell could not take are left out.
        for addr in ["--rpc-addr", "-rpc-addr"] {
            assert_eq!(names(fish(&[addr, &agent, "force-leave", ""])?), ["a"]);
            for flag in [
                ["members", "-name"],
                ["members", "--name"],
                ["query", "-node"],
            ] {
                let line = [&[addr, agent.as_str()][..], &flag, &[""]].concat();
                assert_eq!(names(fish(&line)?), ["a"], "{line:?}");
            }
        }
        ensure!(fish(&["members", "--col"])?[0].starts_with("--columns\t"));
        Ok(())
    });
}

#[test]
fn bash_is_offered_no_name_that_it_would_run() {
    test(&[Need::Serf, Need::Program("bash")], async |lab| {
        let agents = cluster(lab).await?;
        let agent = agents[0].rpc_addr();
        let (ip, port) = (agent.ip().to_string(), agent.port().to_string());
        let of_agent = ["-rpc-addr", &ip, ":", &port];
        for line in [
            &["force-leave", ""][..],
            &["query", "-node", ""],
            &["members", "-name", "=", ""],
            &["rtt", "a", ""],
        ] {
            let line = [&of_agent, line].concat();
            assert_eq!(names(bash(&line)?), ["a"], "{line:?}");
        }
        let with_equals = ["rtt", "--rpc-addr", "=", &ip, ":", &port, ""];
        assert_eq!(names(bash(&with_equals)?), ["a"]);
        assert_eq!(
            names(bash(&[&of_agent[..], &["rtt", "zz"]].concat())?),
            [""]
        );
        Ok(())
    });
}

#[test]
fn bash_completes_the_flags_of_go_and_what_they_take() {
    test(&[Need::Program("bash")], async |_| {
        let formats = ["text", "json", "ndjson"];
        assert_eq!(bash(&["members", "-format", ""])?, formats);
        assert_eq!(bash(&["members", "--format", "=", "nd"])?, ["ndjson"]);
        assert_eq!(bash(&["members", "-na"])?, ["--name"]);
        assert_eq!(bash(&["wait", "-status", "lea"])?, ["leaving"]);
        assert_eq!(bash(&["man", "force"])?, ["force-leave"]);
        assert_eq!(bash(&["members", "--", "-na"])?, [""]);
        Ok(())
    });
}
