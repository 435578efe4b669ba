//! The operator's trial: three machines of Debian with systemd, docs/whole-file.md followed word by word, then everything that
//! goes wrong in a year. Whatever happens, `status` says what is the case and what to do.
//!
//! On trixie always; on bookworm too where `CAMPAIGN` is set (`scripts/test-image operator-bookworm` builds its image).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::compose::is_campaign;
use integration::machines::{Machine, Machines, Release};
use integration::{Need, test_alone, wait_for};

/// What is the case has to be said within 5 s; a busy machine may take longer.
const SAID: Duration = Duration::from_secs(20);
/// And is over within this: Serf may take a while to call a member alive.
const MENDED: Duration = Duration::from_secs(60);

#[test]
fn an_operator_on_trixie_is_told_what_is_the_case_and_what_to_do() {
    let release = Release::Trixie;
    test_alone(&[Need::Machines(release)], async |_| trial(release).await);
}

#[test]
fn an_operator_on_bookworm_is_told_what_is_the_case_and_what_to_do() {
    let release = Release::Bookworm;
    if !is_campaign() {
        return;
    }
    test_alone(&[Need::Machines(release)], async |_| trial(release).await);
}

async fn trial(release: Release) -> Result<()> {
    let machines = Machines::start(release, &["lb", "web1", "web2"]).await?;
    let [lb, web1, web2] = [0, 1, 2].map(|at| machines.machine(at));
    web_servers(lb, [web1, web2]).await?;
    install(lb).await?;
    let mut trial = Trial {
        lb,
        failures: Vec::new(),
    };
    trial.well("the installation").await;
    let answered = lb.run("curl -sS --max-time 5 http://localhost/").await?;
    ensure!(answered.contains("hello"), "{answered}");
    trial.config().await?;
    trial.keys().await?;
    trial.services().await?;
    trial.disk().await?;
    trial.web_server(web1).await?;
    for machine in [web2, lb] {
        machine.reboot().await?;
        trial.well(&format!("a reboot of {}", machine.ip())).await;
    }
    let failures = trial.failures;
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

/// Serf's agents as Debian starts them, and a web application on two machines.
async fn web_servers(lb: &Machine, webs: [&Machine; 2]) -> Result<()> {
    for web in webs {
        let agent = format!(
            r#"{{"tags": {{"role": "backend"}}, "retry_join": ["{}"]}}"#,
            lb.ip()
        );
        web.write("/etc/serf/serf.json", &agent).await?;
        web.run("cp lab/operator/webapp.service /etc/systemd/system/ && systemctl enable --now webapp && systemctl restart serf")
            .await?;
    }
    let others = webs.map(|web| format!("{:?}", web.ip())).join(", ");
    let agent = format!(r#"{{"retry_join": [{others}]}}"#);
    lb.write("/etc/serf/serf.json", &agent).await?;
    lb.run("systemctl restart serf").await?;
    Ok(())
}

/// docs/whole-file.md, word by word: its configuration, and the commands that make a service of it.
async fn install(lb: &Machine) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/whole-file.md");
    let page = fs::read_to_string(page)?;
    let block = |after: &str, kind: &str| {
        let (_, rest) = page.split_once(after)?;
        let (_, rest) = rest.split_once(kind)?;
        Some(rest.split_once("```")?.0.to_owned())
    };
    let config = block("# One template", "```toml\n").context("a configuration")?;
    lb.write("config.toml", &config).await?;
    let commands = block("## As a service", "```sh\n").context("commands")?;
    let said = lb.run(&format!("set -eux\n{commands}")).await?;
    println!("{said}");
    Ok(())
}

/// The balancer, and what it should have said and did not: all of it is tried, whatever fails.
struct Trial<'a> {
    lb: &'a Machine,
    failures: Vec<String>,
}

impl Trial<'_> {
    /// Nothing is wrong any more, and both web servers are in.
    async fn well(&mut self, after: &str) {
        let is_well = |code: i32, said: &str| {
            code == 0 && said.contains("2 in rotation") && said.contains("2 answering")
        };
        let what = format!("all well after {after}");
        self.says(&what, MENDED, is_well).await;
    }

    /// Does it, and waits until `status` exits 1 and says these words, with what to do.
    async fn trouble(&mut self, what: &str, script: &str, words: &[&str]) -> Result<()> {
        self.lb.try_run(script).await?;
        let is_told = |code: i32, said: &str| {
            let problem = said.contains("PROBLEM") && said.contains('→');
            code == 1 && problem && words.iter().all(|words| said.contains(words))
        };
        self.says(what, SAID, is_told).await;
        Ok(())
    }

    /// Waits until `status` says it.
    async fn says(&mut self, what: &str, within: Duration, says: impl Fn(i32, &str) -> bool) {
        let (began, mut last) = (Instant::now(), String::new());
        let told = wait_for(what, within, async || {
            let status = self.lb.try_run("serf-haproxy status").await;
            let (code, said) = status.unwrap_or_default();
            last = said;
            says(code, &last)
        });
        let told = told.await;
        println!("{what}: {:?}\n{last}", began.elapsed());
        if told.is_err() {
            self.failures.push(format!("{what}: it says\n{last}"));
        }
    }

    /// A slip in the configuration, on a reload.
    async fn config(&mut self) -> Result<()> {
        let slip = edit("s/^port = 3000/prot = 3000/");
        let told = ["prot", "did you mean `port`"];
        self.trouble("a slip in the configuration", &slip, &told)
            .await?;
        let (code, said) = self.lb.try_run("serf-haproxy check").await?;
        if code == 0 || !said.contains(told[1]) {
            self.failures.push(format!("check: {code}: {said}"));
        }
        self.lb.run(&edit("s/^prot/port/")).await?;
        self.well("the slip").await;
        Ok(())
    }

    /// The key of the agent's RPC, given to both and changed.
    async fn keys(&mut self) -> Result<()> {
        let agent =
            |edit: &str| format!("sed -i '{edit}' /etc/serf/serf.json; systemctl restart serf");
        let wants = agent(r#"s/^{/{"rpc_auth": "one", /"#);
        self.trouble("an agent that wants a key", &wants, &["key"])
            .await?;
        self.lb
            .run("cd /etc/serf-haproxy; echo one >rpc.key; chgrp serf-haproxy rpc.key; chmod 640 rpc.key")
            .await?;
        let key = r#"s,^\[serf\],&\nauth_key_file = "/etc/serf-haproxy/rpc.key","#;
        self.lb.run(&edit(key)).await?;
        self.well("the key").await;
        let other = agent(r#"s/"one"/"two"/"#);
        self.trouble("an agent with another key", &other, &["key"])
            .await?;
        self.lb.run("echo two >/etc/serf-haproxy/rpc.key").await?;
        self.well("the other key").await;
        Ok(())
    }

    /// The agent, and HAProxy, stopped and started.
    async fn services(&mut self) -> Result<()> {
        for (service, word) in [("serf", "agent"), ("haproxy", "HAProxy")] {
            let stop = format!("systemctl stop {service}");
            self.trouble(&stop, &stop, &[word]).await?;
            let start = format!("systemctl start {service}");
            self.lb.run(&start).await?;
            self.well(&start).await;
        }
        Ok(())
    }

    /// No room where the state is kept, nor where the file lies.
    async fn disk(&mut self) -> Result<()> {
        let member = "serf tags -rpc-auth=two -set canary=$(date +%N)";
        let text = edit(r#"s/"\*:80"/"*:80", "*:81"/"#);
        for (dir, change) in [("/var/lib/serf-haproxy", member), ("/etc/haproxy", &text)] {
            self.lb
                .run(&format!(
                    "systemctl stop serf-haproxy; rm -rf /root/kept; cp -a {dir} /root/kept
                     mount -t tmpfs -o size=256k tmpfs {dir}; cp -aT /root/kept {dir}; systemctl restart haproxy; systemctl start serf-haproxy"
                ))
                .await?;
            self.well("a move to a small disk").await;
            let full = format!("dd if=/dev/zero of={dir}/fill bs=1k\n{change}");
            let what = format!("{dir} is full");
            self.trouble(&what, &full, &["No space left"]).await?;
            let often = "journalctl -u serf-haproxy --since -30s | grep -c 'No space left' || :";
            println!(
                "{what}: {} lines of it in the journal",
                self.lb.run(often).await?
            );
            self.lb.run(&format!("rm {dir}/fill")).await?;
            self.well("room again").await;
        }
        Ok(())
    }

    /// A web application that has stopped, its agent alive.
    async fn web_server(&mut self, web: &Machine) -> Result<()> {
        web.run("systemctl stop webapp").await?;
        let is_down = |_, said: &str| said.contains("1 answering") && said.contains("down");
        self.says("no web application", SAID, is_down).await;
        let doctor = "SERF_RPC_AUTH=two serfctl doctor --haproxy-socket /run/haproxy-master.sock";
        let (code, said) = self.lb.try_run(doctor).await?;
        if code != 1 || !said.contains("alive, but down in backend nodes: web1") {
            self.failures.push(format!("doctor: {code}: {said}"));
        }
        web.run("systemctl start webapp").await?;
        self.well("the web application").await;
        Ok(())
    }
}

/// Edits the configuration and lets it be read again.
fn edit(how: &str) -> String {
    format!("sed -i '{how}' /etc/serf-haproxy/config.toml; systemctl reload serf-haproxy")
}
