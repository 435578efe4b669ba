//! The container lab of `lab/`, as a project of its own: how many of what goes in, running containers come out.
//!
//! Its images are built from the binaries beside this one, its keys are new, its network is not that of `make lab`,
//! and it is gone when this goes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::controller::{Status, binary};
use crate::process::{find_program, output};
use crate::wait::wait_some;

/// The first three numbers of the network: not those of `make lab`.
pub const NET: &str = "192.168.43";
/// Images are built and containers started within this.
const PATIENCE: Duration = Duration::from_secs(240);

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
    dir: PathBuf,
    project: String,
    http: u16,
    stats: u16,
    balancers2: usize,
    webapps: usize,
}

impl Compose {
    /// Builds the images and starts a balancer and so many web servers.
    ///
    /// # Errors
    /// When a binary is missing, or docker refuses.
    pub async fn up(dir: &Path, webapps: usize) -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab");
        let copy = dir.join("lab");
        let mut cp = Command::new("cp");
        output(cp.arg("-r").arg(source).arg(&copy)).await?;
        for leftover in ["build", "secrets"] {
            std::fs::remove_dir_all(copy.join(leftover)).ok();
        }
        let binaries = binary("webapp")?;
        let binaries = binaries.parent().context("a program lies in a directory")?;
        output(Command::new(copy.join("stage")).arg(binaries)).await?;
        let mut lab = Self {
            dir: copy,
            project: format!("lab{}", std::process::id()),
            http: free_port()?,
            stats: free_port()?,
            balancers2: 0,
            webapps,
        };
        lab.compose(&["build"]).await?;
        lab.scale(webapps).await?;
        Ok(lab)
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
    pub async fn scale(&mut self, webapps: usize) -> Result<()> {
        self.webapps = webapps;
        let webapps = format!("webapp={webapps}");
        let balancers2 = format!("balancer2={}", self.balancers2);
        self.compose(&[
            "up",
            "--detach",
            "--no-recreate",
            "--scale",
            &webapps,
            "--scale",
            &balancers2,
        ])
        .await
    }

    /// Starts the second balancer.
    ///
    /// # Errors
    /// When docker refuses.
    pub async fn start_balancer2(&mut self) -> Result<()> {
        self.balancers2 = 1;
        self.scale(self.webapps).await
    }

    /// The containers of a service, those that were stopped or killed too.
    ///
    /// # Errors
    /// When docker refuses.
    pub async fn containers(&self, service: &str) -> Result<Vec<String>> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let names = self
            .docker(&[
                "ps",
                "--all",
                "--filter",
                &project,
                "--filter",
                &service,
                "--format",
                "{{.Names}}",
            ])
            .await?;
        let mut names: Vec<String> = names.lines().map(ToOwned::to_owned).collect();
        names.sort();
        Ok(names)
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
        output(Command::new("docker").args(args)).await
    }

    /// The name of the network that all containers share.
    #[must_use]
    pub fn network(&self) -> String {
        format!("{}_lab", self.project)
    }

    /// Changes the packet filter (nft) in the network of a container.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn firewall(&self, container: &str, rules: &str) -> Result<()> {
        let pid = ["inspect", "--format", "{{.State.Pid}}", container];
        let pid = self.docker(&pid).await?;
        let mut nft = Command::new("nsenter");
        nft.args(["--target", pid.trim(), "--net", "nft", rules]);
        output(&mut nft).await?;
        Ok(())
    }

    /// What the controller of a balancer says of everything.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self, balancer: &str) -> Result<Status> {
        let status = ["serf-haproxy", "status", "--format", "json"];
        Ok(Status(serde_json::from_str(
            &self.exec(balancer, &status).await?,
        )?))
    }

    /// Waits until a balancer has so many servers ready and no other one, and its file says so.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn settled(&self, balancer: &str, servers: usize, within: Duration) -> Result<()> {
        let what = format!("{servers} servers in {balancer}");
        wait_some(&what, within, async || {
            let status = self.status(balancer).await.ok()?;
            (status.servers("ready") == servers && status.is_whole()).then_some(())
        })
        .await
    }

    async fn compose(&self, args: &[&str]) -> Result<()> {
        let mut command = self.command()?;
        let mut run = tokio::process::Command::from({
            command.args(args);
            command
        });
        let done = tokio::time::timeout(PATIENCE, run.kill_on_drop(true).output()).await;
        let done = done.with_context(|| format!("compose {args:?} takes too long"))??;
        ensure!(
            done.status.success(),
            "compose {args:?}: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
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
            .args(["-p", &self.project])
            .env("LAB_NET", NET)
            .env("LAB_HTTP_PORT", self.http.to_string())
            .env("LAB_STATS_PORT", self.stats.to_string());
        Ok(command)
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if let Ok(mut command) = self.command() {
            // Nothing of it is worth a word any more.
            let _ = command
                .args(["down", "--volumes", "--timeout", "1"])
                .output();
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
