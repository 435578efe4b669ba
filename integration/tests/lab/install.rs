//! The packages on whole machines: docs/guide.md is followed word by word, then upgrade, rollback, reboot, a broken file,
//! purge. HAProxy serves all along, and the site's files are at the end what they were.
//!
//! On trixie always; on bookworm too where `CAMPAIGN` is set (`scripts/test-image operator-bookworm` builds its image).

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use integration::compose::is_campaign;
use integration::load::{Load, LoadProfile};
use integration::machines::{Machine, Machines, PACKAGES, Release};
use integration::packages::Packages;
use integration::wrk::Loads;
use integration::{Need, TestEnv, test_alone, wait_for};

/// From a clean Debian to the first request through HAProxy.
const INSTALLED: Duration = Duration::from_secs(60);
/// A thing that is expected has happened by then, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
/// A client that makes a connection for each request, some 600 a second, and tries again 10 ms after one that failed.
const CLIENT: LoadProfile = LoadProfile {
    clients: 1,
    per_connection: 1,
    pause: Duration::from_millis(1),
};
/// A restart of HAProxy takes less than 2 s on a busy machine, too.
const REFUSED: u64 = 200;
/// What `systemd-analyze security` may say at most.
const EXPOSURE: f64 = 2.0;

#[test]
fn the_guide_leads_from_a_clean_trixie_to_a_request_and_back() {
    let release = Release::Trixie;
    let needs = [
        Need::Machines(release),
        Need::Wrk,
        Need::Program("cargo-deb"),
    ];
    test_alone(&needs, async |lab| trial(lab, release).await);
}

#[test]
fn the_guide_leads_from_a_clean_bookworm_to_a_request_and_back() {
    let release = Release::Bookworm;
    if !is_campaign() {
        return;
    }
    let needs = [
        Need::Machines(release),
        Need::Wrk,
        Need::Program("cargo-deb"),
    ];
    test_alone(&needs, async |lab| trial(lab, release).await);
}

async fn trial(lab: &TestEnv, release: Release) -> Result<()> {
    let packages = Packages::make(&lab.path("packages"))?;
    let names = ["lb", "web1", "web2"];
    let machines = Machines::with_packages(release, &names, Some(packages.dir())).await?;
    let [lb, web1, web2] = [0, 1, 2].map(|at| machines.machine(at));
    for web in [web1, web2] {
        let app =
            "cp lab/operator/webapp.service /etc/systemd/system/ && systemctl enable --now webapp";
        web.run(app).await?;
    }
    let site = Site {
        lb,
        guide: Guide::read(lb)?,
    };
    site.runs().await?;
    let before = site.fingerprint().await?;
    let began = Instant::now();
    for web in [web1, web2] {
        site.guide.web_server(web).await?;
    }
    site.install().await?;
    let took = began.elapsed();
    println!("from a clean Debian to the first request: {took:?}");
    ensure!(took < INSTALLED, "{took:?}");
    site.is_well("the installation").await?;
    lb.run("serf-haproxy check").await?;
    let phase = |what: &str| println!("{:?}: {what}", began.elapsed());
    phase("sandbox");
    site.sandbox().await?;
    phase("a key of root's");
    site.key_of_root().await?;
    phase("upgrade");
    site.upgrade(lab).await?;
    phase("a broken file");
    site.broken_file().await?;
    phase("reboots");
    let rebooted: &[&Machine] = if is_campaign() {
        &[web1, web2, lb]
    } else {
        &[lb]
    };
    for machine in rebooted {
        machine.reboot().await?;
        site.is_well(&format!("a reboot of {}", machine.ip()))
            .await?;
    }
    phase("remove and purge");
    site.remove_while_used().await?;
    phase("the way back");
    site.uninstall().await?;
    phase("the end");
    let after = site.fingerprint().await?;
    ensure!(before == after, "before: {before}\nafter: {after}");
    Ok(())
}

/// The guide, with the addresses of these machines.
struct Guide {
    text: String,
}

impl Guide {
    fn read(lb: &Machine) -> Result<Self> {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide.md");
        let (net, _) = lb.ip().rsplit_once('.').context("an address")?;
        let text = fs::read_to_string(guide)?.replace("10.0.0.", &format!("{net}."));
        Ok(Self { text })
    }

    /// A block of a section, counted from 0 among those of its kind.
    fn block(&self, section: &str, kind: &str, at: usize) -> Result<&str> {
        let find = || {
            let (_, rest) = self.text.split_once(&format!("\n## {section}\n"))?;
            let section = rest.split("\n## ").next()?;
            let block = section.split(&format!("\n```{kind}\n")).nth(at + 1)?;
            block.split("```").next()
        };
        find().with_context(|| format!("block {at} of {kind:?} in {section}"))
    }

    async fn web_server(&self, web: &Machine) -> Result<()> {
        let section = "A web server joins";
        web.run(self.block(section, "sh", 0)?).await?;
        let agent = self.block(section, "json", 0)?;
        web.write("/etc/serf/serf.json", agent).await?;
        web.run(self.block(section, "sh", 1)?).await.map(drop)
    }
}

/// The balancer.
struct Site<'a> {
    lb: &'a Machine,
    guide: Guide,
}

impl Site<'_> {
    /// Debian's HAProxy runs as the package left it, though a busy host may have kept it from starting at once.
    async fn runs(&self) -> Result<()> {
        let start = "journalctl -b -u haproxy -o cat | tail; systemctl reset-failed haproxy; systemctl start haproxy; false";
        let script = format!("systemctl is-active haproxy || {{ {start}; }}");
        self.says(&script, "active").await
    }

    /// The guide's section on the balancer.
    async fn install(&self) -> Result<()> {
        let (lb, section) = (self.lb, "The balancer");
        let packages = format!("cd {PACKAGES}/one\n{}", self.guide.block(section, "sh", 0)?);
        println!("{}", lb.run(&packages).await?);
        let agent = self.guide.block(section, "json", 0)?;
        lb.write("/etc/serf/serf.json", agent).await?;
        lb.run(self.guide.block(section, "sh", 1)?).await?;
        // The agent of the guide's reader has met the others by the time that the next command is typed.
        self.says("serfctl members --rpc-auth 'a long secret of your own' --tag role=backend --status alive", "web2")
            .await?;
        self.refuse().await?;
        println!("{}", lb.run(self.guide.block(section, "sh", 2)?).await?);
        self.append(self.guide.block(section, "haproxy", 0)?)
            .await?;
        lb.run(self.guide.block(section, "sh", 3)?).await?;
        self.says(self.guide.block(section, "sh", 4)?, "hello")
            .await
    }

    /// Without a yes nothing is changed, at a terminal and without one, and what is asked has proposals.
    async fn refuse(&self) -> Result<()> {
        let before = self.fingerprint().await?;
        let (code, said) = self.lb.try_run("serf-haproxy setup </dev/null").await?;
        ensure!(code == 1 && said.contains("--port 3000"), "{code}: {said}");
        let given = "serf-haproxy setup --tag role=backend --port 3000 </dev/null";
        let (code, said) = self.lb.try_run(given).await?;
        ensure!(
            code == 2 && said.contains("--yes does it"),
            "{code}: {said}"
        );
        let setup = "serf-haproxy setup";
        let elsewhere = "serf-haproxy setup --agent 127.0.0.1:1";
        for (command, typed, code) in [
            (setup, "\\nmany\\n3000\\nno\\n", 2),
            (setup, "\\n", 1),
            (elsewhere, "127.0.0.1:7373\\n\\n\\n3000\\nno\\n", 2),
        ] {
            let (ended, said) = self.at_a_terminal(command, typed).await?;
            println!("{said}");
            ensure!(ended == code, "{ended}: {said}");
            ensure!(said.contains("role=backend   2 members"), "{said}");
            ensure!(said.contains("[role=backend]"), "{said}");
        }
        ensure!(before == self.fingerprint().await?, "something was changed");
        let left = "ls /etc/serf-haproxy/* /var/lib/serf-haproxy/haproxy.cfg 2>/dev/null; true";
        let left = self.lb.run(left).await?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    }

    /// Types this at a terminal: the exit code, and what is seen.
    async fn at_a_terminal(&self, command: &str, typed: &str) -> Result<(i32, String)> {
        let script = format!("printf '{typed}' | script -qec '{command}' /dev/null");
        self.lb.try_run(&script).await
    }

    /// Adds lines to the site's own file.
    async fn append(&self, lines: &str) -> Result<()> {
        let append =
            format!("cat >>/etc/haproxy/haproxy.cfg <<'END OF FILE'\n{lines}\nEND OF FILE");
        self.lb.run(&append).await.map(drop)
    }

    /// Runs it until it ends well and says this.
    async fn says(&self, script: &str, word: &str) -> Result<()> {
        let mut last = String::new();
        let said = wait_for(script, SOON, async || {
            let (code, said) = self.lb.try_run(script).await.unwrap_or_default();
            last = said;
            code == 0 && last.contains(word)
        });
        let said = said.await;
        said.with_context(|| format!("it says {last}"))
    }

    /// Both web servers are in, and answer through HAProxy.
    async fn is_well(&self, after: &str) -> Result<()> {
        let both = self.says("serf-haproxy status", "2 in rotation, 2 answering");
        both.await.context(after.to_owned())?;
        let answers = self.says("curl -sS --max-time 5 http://localhost/", "hello");
        answers.await.context(after.to_owned())
    }

    /// What of the site's an installation could have touched.
    async fn fingerprint(&self) -> Result<String> {
        let files = "cd /; find etc/haproxy etc/default/haproxy etc/systemd/system -type f | sort | xargs sha256sum";
        let unit = "systemctl show haproxy -p ActiveState,DropInPaths,FragmentPath";
        let arguments = "tr '\\0' ' ' </proc/$(systemctl show -P MainPID haproxy)/cmdline";
        let script = format!("{files} | grep -v haproxy.cfg; {unit}; {arguments}");
        self.lb.run(&script).await
    }

    /// Nothing but its own directories can be written by it, and systemd finds little to say.
    async fn sandbox(&self) -> Result<()> {
        for unit in ["serf-haproxy", "serf-haproxy-init", "serf-haproxy-check@1"] {
            let script = format!("systemd-analyze security --no-pager {unit} | tail -n 1");
            let said = self.lb.run(&script).await?;
            let exposure = said
                .split(": ")
                .last()
                .and_then(|rest| rest.split(' ').next());
            let exposure: f64 = exposure.context("a level")?.parse()?;
            println!("{unit}: {exposure}");
            ensure!(exposure <= EXPOSURE, "{said}");
        }
        let find = "find / -type d -writable -not -path '/proc/*' -not -path '/tmp*' -not -path '/var/tmp*'";
        let script = format!(
            "sed 's/^Type=.*/Type=oneshot/; s/^RuntimeDirectory=.*/&-writes/; s,^ExecStart=.*,ExecStart={find}\\nStandardError=null,; /^Watchdog\\|^Restart=/d' \
             /usr/lib/systemd/system/serf-haproxy.service >/run/systemd/system/writes.service
             systemctl daemon-reload; systemctl start writes 2>/dev/null; journalctl -q -o cat _SYSTEMD_UNIT=writes.service | sort"
        );
        let writable = self.lb.run(&script).await?;
        println!("it may write in\n{writable}");
        let own = ["/run/serf-haproxy", "/var/lib/serf-haproxy"];
        let places: Vec<&str> = writable
            .lines()
            .filter(|line| line.starts_with('/'))
            .collect();
        let has = |own: &&str| places.iter().any(|place| place.starts_with(*own));
        ensure!(own.iter().all(has), "{writable}");
        let is_own = |place: &&str| own.iter().any(|own| place.starts_with(own));
        ensure!(places.iter().all(is_own), "{writable}");
        self.lb
            .run("rm /run/systemd/system/writes.service; systemctl daemon-reload")
            .await?;
        Ok(())
    }

    /// The site's front end has a key that root alone may read, and a new web server's address is written all the same.
    async fn key_of_root(&self) -> Result<()> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let pem = pem("CERTIFICATE", made.cert.der())
            + &pem("PRIVATE KEY", &made.signing_key.serialize_der());
        self.lb.write("/etc/haproxy/site.pem", &pem).await?;
        self.lb.run("chmod 600 /etc/haproxy/site.pem").await?;
        let edit = "sed -i 's,bind \\*:80,&\\n    bind *:443 ssl crt /etc/haproxy/site.pem,' /etc/haproxy/haproxy.cfg";
        self.lb.run(edit).await?;
        self.lb.run("systemctl reload haproxy").await?;
        self.says("curl -sSk --max-time 5 https://localhost/", "hello")
            .await?;
        self.lb.run("serf-haproxy check").await?;
        // A change that has to pass the check: the file of ours is written anew.
        let weight = "sed -i 's/^port = 3000/&\\nretries = 4/' /etc/serf-haproxy/config.toml; systemctl reload serf-haproxy";
        self.lb.run(weight).await?;
        let written = "serf-haproxy status | grep -q current && grep retries /var/lib/serf-haproxy/haproxy.cfg";
        self.says(written, "retries 4").await?;
        self.is_well("a change beside a key of root's").await
    }

    /// Another version and back, under load: no request fails, and HAProxy's process is the same.
    async fn upgrade(&self, lab: &TestEnv) -> Result<()> {
        let haproxy =
            "systemctl show -P MainPID haproxy; pgrep -P $(systemctl show -P MainPID haproxy)";
        let process = self.lb.run(haproxy).await?;
        let front_end: SocketAddr = format!("{}:80", self.lb.ip()).parse()?;
        let load = Loads::start(lab, front_end)?;
        let section = "Upgrade and rollback";
        for (at, version) in ["two", "one"].into_iter().enumerate() {
            let change = self.guide.block(section, "sh", at)?;
            let controller = "systemctl show -P MainPID serf-haproxy";
            let before = self.lb.run(controller).await?;
            self.lb
                .run(&format!("cd {PACKAGES}/{version}\n{change}"))
                .await?;
            ensure!(
                before != self.lb.run(controller).await?,
                "the controller goes on"
            );
            self.is_well(&format!("the change to {version}")).await?;
        }
        load.nothing_failed("upgrade and rollback").await?;
        ensure!(
            process == self.lb.run(haproxy).await?,
            "HAProxy was reloaded"
        );
        Ok(())
    }

    /// Whatever lies there in place of our file, HAProxy starts, and with the servers of before.
    async fn broken_file(&self) -> Result<()> {
        let file = "/var/lib/serf-haproxy/haproxy.cfg";
        for (what, damage) in [
            ("cut off", format!("truncate -s 100 {file}")),
            ("of another hand", format!("echo nonsense >{file}")),
            ("gone", format!("rm {file}")),
        ] {
            self.lb
                .run(&format!(
                    "systemctl stop serf-haproxy; {damage}; systemctl reset-failed haproxy; systemctl restart haproxy"
                ))
                .await?;
            let curl = "curl -sS --max-time 5 http://localhost/";
            self.says(curl, "hello")
                .await
                .with_context(|| format!("our file is {what}"))?;
            self.lb.run("systemctl start serf-haproxy").await?;
            self.is_well(&format!("our file was {what}")).await?;
        }
        Ok(())
    }

    /// The way back is refused while HAProxy needs our file; a removed and a purged package leave it serving.
    async fn remove_while_used(&self) -> Result<()> {
        let (code, said) = self.lb.try_run("serf-haproxy setup --undo --yes").await?;
        ensure!(code == 1 && said.contains("nodes"), "{code}: {said}");
        for way in ["remove", "purge"] {
            let said = self
                .lb
                .run(&format!("apt-get {way} -y serf-haproxy"))
                .await?;
            println!("{said}");
            self.lb.run("systemctl restart haproxy").await?;
            self.says("curl -sS --max-time 5 http://localhost/", "hello")
                .await?;
        }
        self.install_again().await
    }

    async fn install_again(&self) -> Result<()> {
        let section = "The balancer";
        let packages = self.guide.block(section, "sh", 0)?;
        self.lb
            .run(&format!("cd {PACKAGES}/one\n{packages}"))
            .await?;
        self.set_up_under_load().await?;
        let again = self.lb.run(self.guide.block(section, "sh", 2)?).await?;
        ensure!(again.contains("nothing is changed"), "{again}");
        self.is_well("another installation").await
    }

    /// From a terminal, as if for the first time, while the site serves something of its own: what its clients notice of
    /// HAProxy's restart.
    async fn set_up_under_load(&self) -> Result<()> {
        self.append("frontend other\n    bind *:81\n    http-request return status 200 content-type text/plain string hello")
            .await?;
        self.lb.run("systemctl reload haproxy").await?;
        let other = "curl -sS --max-time 5 http://localhost:81/";
        self.says(other, "hello").await?;
        self.lb
            .run("rm -r /etc/systemd/system/haproxy.service.d; systemctl daemon-reload")
            .await?;
        let load = Load::start(format!("{}:81", self.lb.ip()).parse()?, CLIENT);
        let (code, said) = self
            .at_a_terminal("serf-haproxy setup", "\\n3000\\nyes\\n")
            .await?;
        self.says(other, "hello").await?;
        let seen = load.stop();
        println!("HAProxy's restart by setup: {seen:?}");
        let load = Load::start(format!("{}:81", self.lb.ip()).parse()?, CLIENT);
        self.lb
            .run("systemctl reset-failed haproxy; systemctl restart haproxy")
            .await?;
        self.says(other, "hello").await?;
        println!("HAProxy's restart later: {:?}", load.stop());
        ensure!(code == 0 && said.contains("done; next"), "{code}: {said}");
        ensure!(seen.failed < REFUSED, "{seen:?}");
        let back =
            "sed -i '/^frontend other/,$d' /etc/haproxy/haproxy.cfg; systemctl reload haproxy";
        self.lb.run(back).await.map(drop)
    }

    /// The guide's last section.
    async fn uninstall(&self) -> Result<()> {
        let front_end =
            "sed -i '/^frontend www/,$d' /etc/haproxy/haproxy.cfg; rm /etc/haproxy/site.pem";
        self.lb.run(front_end).await?;
        let block = self.guide.block("Uninstall", "sh", 0)?;
        let (undo, purge) = block.rsplit_once("apt-get").context("a purge")?;
        println!("{}", self.lb.run(undo).await?);
        self.undo_again().await?;
        println!("{}", self.lb.run(&format!("apt-get{purge}")).await?);
        let left = "ls -d /etc/serf-haproxy /var/lib/serf-haproxy /usr/bin/serf-haproxy /run/serf-haproxy* 2>/dev/null; true";
        let left = self.lb.run(left).await?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    }
}

impl Site<'_> {
    /// There is nothing left to take away: that is said, and HAProxy is not even restarted.
    async fn undo_again(&self) -> Result<()> {
        let haproxy = "systemctl show -P MainPID haproxy";
        let before = (self.fingerprint().await?, self.lb.run(haproxy).await?);
        for command in [
            "serf-haproxy setup --undo --yes",
            "serf-haproxy setup --undo",
        ] {
            let said = self.lb.run(command).await?;
            ensure!(said.contains("nothing is set up"), "{said}");
        }
        let after = (self.fingerprint().await?, self.lb.run(haproxy).await?);
        ensure!(before == after, "before: {before:?}\nafter: {after:?}");
        Ok(())
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&[u8]> = text.as_bytes().chunks(64).collect();
    let lines = lines.join(&b'\n');
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        String::from_utf8_lossy(&lines)
    )
}
