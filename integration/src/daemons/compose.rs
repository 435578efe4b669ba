//! The container lab of `lab/`, as a project of its own: how many of what goes in, running containers come out.
//!
//! Its images are built from the binaries beside this one, its keys are new, its network is not that of `make lab`,
//! and it is gone when this goes; the containers' logs stay for whoever asks why a test failed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use crate::daemons::controller::{Status, binary};
use crate::environment::process::{find_program, output};
use crate::environment::wait::wait_for;

/// The first three numbers of the network: not those of `make lab`.
pub const NET: &str = "192.168.142";
/// Where the application listens.
const WEB_PORT: u16 = 3000;
/// Between two looks at a balancer, which cost it something.
const LOOK: Duration = Duration::from_millis(50);
/// A change is in force within this: Serf may take 30 s to call a member failed.
const SOON: Duration = Duration::from_secs(45);
/// What a container has to say it says within this.
const SAYS: Duration = Duration::from_secs(10);
/// Images are built and containers started within this.
const PATIENCE: Duration = Duration::from_secs(240);
/// The project and its images: not those of `make lab`, which are of a release build.
const PROJECT: &str = "serf-haproxy-lab-test";

/// Why there can be no container lab here; none where there can.
#[must_use]
pub(crate) fn missing() -> Option<String> {
    let answers = Command::new("docker").arg("info").output();
    if !answers.is_ok_and(|output| output.status.success()) {
        return Some("no docker answers".to_owned());
    }
    program()
        .is_none()
        .then(|| "neither docker-compose nor docker compose found".to_owned())
}

/// Whether the long form of the scenarios is wanted (`CAMPAIGN` is set).
#[must_use]
pub fn is_campaign() -> bool {
    std::env::var_os("CAMPAIGN").is_some()
}

fn program() -> Option<Vec<&'static str>> {
    if find_program("docker-compose").is_some() {
        return Some(vec!["docker-compose"]);
    }
    let plugin = Command::new("docker").args(["compose", "version"]).output();
    plugin
        .is_ok_and(|output| output.status.success())
        .then(|| vec!["docker", "compose"])
}

/// The lab, up.
#[derive(Debug)]
pub struct Compose {
    logs: PathBuf,
    dir: PathBuf,
    balancer: String,
    http: u16,
    stats: u16,
}

impl Compose {
    /// Builds the images, starts a balancer and so many web servers, and waits until it serves them.
    ///
    /// # Errors
    /// When a binary is missing, docker refuses, or they are not served in time.
    pub async fn up(dir: &Path, webapps: usize) -> Result<Self> {
        let mut lab = Self::prepare(dir).await?;
        lab.compose(&["build"]).await?;
        lab.scale(webapps).await?;
        lab.balancer = lab.container("balancer").await?;
        lab.settled(webapps).await?;
        Ok(lab)
    }

    async fn prepare(dir: &Path) -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab");
        let copy = dir.join("lab");
        output(Command::new("cp").arg("-r").arg(source).arg(&copy)).await?;
        for leftover in ["build", "secrets"] {
            fs::remove_dir_all(copy.join(leftover)).ok();
        }
        let lab = Self {
            logs: dir.to_owned(),
            dir: copy,
            balancer: String::new(),
            http: free_port()?,
            stats: free_port()?,
        };
        let mut stage = Command::new(lab.dir.join("stage"));
        output(stage.arg(binaries()?)).await?;
        // What a test left that was killed.
        lab.take_down()?;
        Ok(lab)
    }

    /// The tour of `make lab` in a project of its own, not started yet.
    ///
    /// # Errors
    /// When a binary is missing, or docker refuses.
    pub async fn tour(dir: &Path) -> Result<(Self, Command)> {
        let lab = Self::prepare(dir).await?;
        let mut tour = Command::new(lab.dir.join("tour"));
        tour.arg(binaries()?).envs(lab.environment());
        Ok((lab, tour))
    }

    /// Where requests go.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.http).into()
    }

    /// Starts or stops web servers until there are so many.
    ///
    /// # Errors
    /// When docker refuses.
    pub async fn scale(&self, webapps: usize) -> Result<()> {
        let webapps = format!("webapp={webapps}");
        self.compose(&["up", "--detach", "--no-recreate", "--scale", &webapps])
            .await
    }

    /// Starts the second balancer, and gives its container.
    ///
    /// # Errors
    /// When docker refuses.
    pub async fn start_balancer2(&self) -> Result<String> {
        let up = ["--profile", "second", "up", "--detach", "--no-recreate"];
        self.compose(&[&up[..], &["--no-deps", "balancer2"]].concat())
            .await?;
        self.container("balancer2").await
    }

    /// Starts a web server whose member has this name, and gives its container.
    ///
    /// # Errors
    /// When docker refuses.
    pub async fn start_named(&self, name: &str) -> Result<String> {
        let node = format!("SERF_NODE={name}");
        let container = format!("{}_{name}", PROJECT);
        let run = ["run", "--detach", "--use-aliases", "-e", &node, "--name"];
        self.compose(&[&run[..], &[&container, "webapp"]].concat())
            .await?;
        Ok(container)
    }

    /// The containers of a service, those that were stopped or killed too.
    ///
    /// # Errors
    /// When docker refuses.
    pub async fn containers(&self, service: &str) -> Result<Vec<String>> {
        let service = format!("label=com.docker.compose.service={service}");
        let names = run(self.listing(&["--filter", &service])).await?;
        let mut names: Vec<String> = names.lines().map(ToOwned::to_owned).collect();
        names.sort();
        Ok(names)
    }

    fn listing(&self, filter: &[&str]) -> Command {
        let project = format!("label=com.docker.compose.project={}", PROJECT);
        let mut list = Command::new("docker");
        list.args(["ps", "--all", "--format", "{{.Names}}"])
            .args(["--filter", &project])
            .args(filter);
        list
    }

    /// The only container of a service.
    ///
    /// # Errors
    /// When there is none.
    pub async fn container(&self, service: &str) -> Result<String> {
        let mut names = self.containers(service).await?;
        names.pop().with_context(|| format!("no {service}"))
    }

    /// What a command says in the container.
    ///
    /// # Errors
    /// When it fails.
    pub async fn exec(&self, container: &str, command: &[&str]) -> Result<String> {
        self.docker(&[&["exec", container], command].concat()).await
    }

    /// What docker says.
    ///
    /// # Errors
    /// When it fails.
    pub async fn docker(&self, args: &[&str]) -> Result<String> {
        let mut docker = Command::new("docker");
        docker.args(args);
        run(docker).await
    }

    /// One thing that docker knows of a container, by a template of Go.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn inspect(&self, container: &str, what: &str) -> Result<String> {
        let said = self
            .docker(&["inspect", "--format", what, container])
            .await?;
        Ok(said.trim().to_owned())
    }

    /// When the container was started last.
    ///
    /// # Errors
    /// When docker refuses.
    pub async fn started(&self, container: &str) -> Result<SystemTime> {
        let started = self.inspect(container, "{{.State.StartedAt}}").await?;
        Ok(humantime::parse_rfc3339(&started)?)
    }

    /// When a line with these words last came out of the container: what each of its starts says once is of the
    /// last one. Docker's `State.StartedAt` tells no start from another, as a line may be older than that of its own.
    ///
    /// # Errors
    /// When there is none within ten seconds that is not older than `after`.
    pub async fn said(
        &self,
        container: &str,
        words: &str,
        after: SystemTime,
    ) -> Result<SystemTime> {
        let mut last = None;
        let what = format!("{container} to say {words:?}");
        let found = wait_for(&what, SAYS, async || {
            last = self.last_said(container, words).await.ok().flatten();
            last.is_some_and(|last| last >= after)
        })
        .await;
        found.with_context(|| format!("it said so last at {last:?}"))?;
        last.context("a line")
    }

    async fn last_said(&self, container: &str, words: &str) -> Result<Option<SystemTime>> {
        let log = self.docker(&["logs", "--timestamps", container]).await?;
        let Some(line) = log.lines().rfind(|line| line.contains(words)) else {
            return Ok(None);
        };
        let time = line.split(' ').next().unwrap_or_default();
        Ok(Some(humantime::parse_rfc3339(time)?))
    }

    /// Where the application of a container listens.
    ///
    /// # Errors
    /// When it has no network.
    pub async fn web(&self, container: &str) -> Result<SocketAddr> {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let addr: Ipv4Addr = self.inspect(container, template).await?.parse()?;
        Ok((addr, WEB_PORT).into())
    }

    /// Takes a container out of the network.
    ///
    /// # Errors
    /// When docker refuses.
    pub async fn disconnect(&self, container: &str) -> Result<()> {
        let disconnect = ["network", "disconnect", &self.network(), container];
        self.docker(&disconnect).await?;
        Ok(())
    }

    /// Puts it back, at this address.
    ///
    /// # Errors
    /// When docker refuses.
    pub async fn connect(&self, container: &str, addr: &str) -> Result<()> {
        let at = [
            "network",
            "connect",
            "--alias",
            "serf-cluster",
            "--ip",
            addr,
        ];
        self.docker(&[&at[..], &[&self.network(), container]].concat())
            .await?;
        Ok(())
    }

    fn network(&self) -> String {
        format!("{}_lab", PROJECT)
    }

    /// Changes the packet filter (nft) in the network of a container.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn firewall(&self, container: &str, rules: &str) -> Result<()> {
        let pid = self.inspect(container, "{{.State.Pid}}").await?;
        let mut nft = Command::new("nsenter");
        nft.args(["--target", &pid, "--net", "nft", rules]);
        output(&mut nft).await?;
        Ok(())
    }

    /// The balancer's container.
    #[must_use]
    pub fn balancer(&self) -> &str {
        &self.balancer
    }

    /// What the balancer's controller says of everything.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<Status> {
        self.status_of(&self.balancer).await
    }

    async fn status_of(&self, balancer: &str) -> Result<Status> {
        // That there are problems is no failure of the question.
        let status = "serf-haproxy status --format json || [ $? = 1 ]";
        let said = self.exec(balancer, &["sh", "-c", status]).await?;
        Ok(Status(serde_json::from_str(&said)?))
    }

    /// Waits until the balancer has so many servers ready, and its file says so.
    ///
    /// # Errors
    /// When it has not in 45 s.
    pub async fn settled(&self, servers: usize) -> Result<()> {
        self.settles(&self.balancer, servers, SOON).await
    }

    /// The same of any balancer.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn settles(&self, balancer: &str, servers: usize, within: Duration) -> Result<()> {
        let what = format!("{servers} servers in {balancer}");
        let mut last = None;
        let settled = wait_for(&what, within, async || {
            tokio::time::sleep(LOOK).await;
            let status = last.insert(self.status_of(balancer).await);
            matches!(status, Ok(status) if status.servers("ready") == servers && status.is_whole())
        });
        let settled = settled.await;
        settled.with_context(|| format!("{last:?}"))
    }

    /// Fails if the balancer has reloaded HAProxy since its controller started.
    ///
    /// # Errors
    /// When it has, or does not answer.
    pub async fn never_reloaded(&self) -> Result<()> {
        let reloads = self.status().await?.counter("reloads");
        ensure!(reloads == 0, "{reloads} reloads");
        Ok(())
    }

    async fn compose(&self, args: &[&str]) -> Result<()> {
        let mut command = self.command()?;
        command.args(args);
        run(command).await?;
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let program = program().context("compose went away")?;
        let mut words = program.iter();
        let mut command = Command::new(words.next().context("a program")?);
        command
            .args(words)
            .arg("-f")
            .arg(self.dir.join("compose.yaml"))
            .envs(self.environment());
        Ok(command)
    }

    fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("COMPOSE_PROJECT_NAME", PROJECT.to_owned()),
            ("LAB_IMAGE", PROJECT.to_owned()),
            ("LAB_NET", NET.to_owned()),
            ("LAB_HTTP_PORT", self.http.to_string()),
            ("LAB_STATS_PORT", self.stats.to_string()),
        ]
    }

    /// What the containers said, each in a file of its own.
    fn keep_logs(&self) -> Result<()> {
        let names = self.listing(&[]).output()?.stdout;
        for container in String::from_utf8_lossy(&names).lines() {
            let file = File::create(self.logs.join(format!("{container}.log")))?;
            let mut logs = Command::new("docker");
            logs.args(["logs", container])
                .stderr(file.try_clone()?)
                .stdout(file);
            logs.status()?;
        }
        Ok(())
    }

    fn take_down(&self) -> Result<()> {
        let mut down = self.command()?;
        for profile in ["second", "routing", "plain"] {
            down.args(["--profile", profile]);
        }
        down.args(["down", "--volumes", "--remove-orphans", "--timeout", "1"]);
        let output = down.output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        for done in [self.keep_logs(), self.take_down()] {
            if let Err(error) = done {
                eprintln!("{}: {error:#}", PROJECT);
            }
        }
    }
}

/// Runs a command of docker to its end and gives what it printed on standard output.
async fn run(command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    let done = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let done = done.with_context(|| format!("{shown} takes too long"))??;
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success(),
        "{shown}: {}\n{stdout}{stderr}",
        done.status
    );
    Ok(stdout)
}

fn binaries() -> Result<PathBuf> {
    let webapp = binary("webapp")?;
    let dir = webapp.parent().context("a program lies in a directory")?;
    Ok(dir.to_owned())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
