//! Whole machines for the operator's trial: a release of Debian goes in, three containers with systemd, the stock
//! packages of HAProxy and Serf, and a network of their own come out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::daemons::container::{Image, image_missing};
use crate::daemons::controller::binary;
use crate::environment::wait::wait_for;

/// A machine has started within this.
const STARTS: Duration = Duration::from_secs(60);
/// Where the project lies in a machine, as after `cargo build --release`.
const PROJECT: &str = "/root/serf-haproxy";
/// Where packages lie in a machine.
pub const PACKAGES: &str = "/packages";

/// The release that runs on all machines of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// HAProxy 2.6, Serf 0.9, systemd 252.
    Bookworm,
    /// HAProxy 3.0, Serf 0.10, systemd 257.
    Trixie,
}

impl Release {
    fn image(self) -> Image {
        match self {
            Self::Bookworm => Image::OperatorBookworm,
            Self::Trixie => Image::OperatorTrixie,
        }
    }

    /// The first three numbers of its network.
    fn net(self) -> &'static str {
        match self {
            Self::Bookworm => "192.168.143",
            Self::Trixie => "192.168.144",
        }
    }

    /// Why there can be no machine of it; none where there can.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        image_missing(self.image(), "systemd-sysv")
    }
}

/// Machines that are gone, with their network, when this is dropped.
#[derive(Debug)]
pub struct Machines {
    release: Release,
    machines: Vec<Machine>,
    /// A directory of packages, which they see as [`PACKAGES`].
    packages: Option<PathBuf>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Machine {
    container: String,
    ip: String,
}

impl Machines {
    /// Starts machines of these host names, and waits until systemd has started what the packages start.
    ///
    /// # Errors
    /// When docker refuses, or one does not start.
    pub async fn start(release: Release, names: &[&str]) -> Result<Self> {
        Self::with_packages(release, names, None).await
    }

    /// The same with a directory of packages in each.
    ///
    /// # Errors
    /// When docker refuses, or one does not start.
    pub async fn with_packages(
        release: Release,
        names: &[&str],
        packages: Option<&Path>,
    ) -> Result<Self> {
        let mut machines = Self {
            release,
            machines: Vec::new(),
            packages: packages.map(Path::to_owned),
        };
        for (name, last) in names.iter().zip(2..) {
            machines.machines.push(Machine {
                container: format!("serf-haproxy-{}-{name}", release.net()),
                ip: format!("{}.{last}", release.net()),
            });
        }
        // What a test left that was killed.
        machines.take_down();
        let subnet = format!("{}.0/24", release.net());
        let create = ["network", "create", "--subnet", &subnet];
        docker(&[&create[..], &[&machines.network()]].concat()).await?;
        for (machine, name) in machines.machines.iter().zip(names) {
            machines.run(machine, name).await?;
        }
        for machine in &machines.machines {
            machine.has_started().await?;
        }
        Ok(machines)
    }

    /// Starts a machine. Beyond what a container has, systemd wants to mount, and one of our units to read any file.
    async fn run(&self, machine: &Machine, name: &str) -> Result<()> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let programs = binary("serf-haproxy")?;
        let programs = programs.parent().context("a directory")?;
        let packages = self.packages.iter();
        let packages = packages.map(|path| format!("{}:{PACKAGES}:ro", path.display()));
        let mut volumes: Vec<String> = packages.collect();
        volumes.extend([
            format!("{}:{PROJECT}/target/release:ro", programs.display()),
            format!("{}:{PROJECT}/docs:ro", project.join("docs").display()),
            format!("{}:{PROJECT}/lab:ro", project.join("lab").display()),
        ]);
        let mut args = vec!["run", "--detach", "--restart", "always"];
        args.extend(["--cap-add", "SYS_ADMIN", "--cap-add", "DAC_READ_SEARCH"]);
        args.extend(["--cgroupns", "private"]);
        args.extend(["--tmpfs", "/run", "--tmpfs", "/tmp"]);
        for volume in &volumes {
            args.extend(["--volume", volume]);
        }
        let network = self.network();
        args.extend(["--network", &network, "--ip", &machine.ip]);
        args.extend(["--hostname", name, "--name", &machine.container]);
        args.extend(["--env", "container=docker"]);
        args.extend(["--stop-signal", "SIGRTMIN+3", self.release.image().tag()]);
        let init = format!("{PROJECT}/lab/operator/init");
        args.extend(["sh", &init]);
        docker(&args).await.map(drop)
    }

    /// A machine, in the order of the names.
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn machine(&self, at: usize) -> &Machine {
        &self.machines[at]
    }

    fn network(&self) -> String {
        format!("serf-haproxy-{}", self.release.net())
    }

    fn take_down(&self) {
        let containers = self.machines.iter().map(|machine| &machine.container);
        let mut remove = Command::new("docker");
        remove.args(["rm", "--force", "--volumes"]).args(containers);
        let _ = remove.output();
        let mut remove = Command::new("docker");
        let _ = remove.args(["network", "rm", &self.network()]).output();
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for machine in &self.machines {
                eprintln!("--- {}\n{}", machine.container, machine.journal());
            }
        }
        self.take_down();
    }
}

impl Machine {
    /// Its address.
    #[must_use]
    pub fn ip(&self) -> &str {
        &self.ip
    }

    /// What a script of the shell prints there, on either output, run by root in the directory of the project.
    ///
    /// # Errors
    /// When it fails; the error carries what it printed.
    pub async fn run(&self, script: &str) -> Result<String> {
        let (code, said) = self.try_run(script).await?;
        ensure!(code == 0, "{}: {script}: {code}\n{said}", self.container);
        Ok(said)
    }

    /// Its exit code, and what it prints on either output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn try_run(&self, script: &str) -> Result<(i32, String)> {
        let script = format!("exec 2>&1; cd {PROJECT}\n{script}");
        let mut command = tokio::process::Command::new("docker");
        command
            .args(["exec", &self.container, "sh", "-c", &script])
            .kill_on_drop(true);
        let output = tokio::time::timeout(STARTS, command.output()).await;
        let output = output.with_context(|| format!("{script}: no end"))??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.code().unwrap_or(-1), said))
    }

    /// Writes a file there.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn write(&self, path: &str, text: &str) -> Result<()> {
        let script = format!("cat >'{path}' <<'END OF FILE'\n{text}\nEND OF FILE");
        self.run(&script).await.map(drop)
    }

    /// Restarts it, and waits until it has started.
    ///
    /// # Errors
    /// When it does not.
    pub async fn reboot(&self) -> Result<()> {
        docker(&["restart", &self.container]).await?;
        self.has_started().await
    }

    async fn has_started(&self) -> Result<()> {
        let what = format!("{} to start", self.container);
        wait_for(&what, STARTS, async || {
            let state = self.try_run("systemctl is-system-running").await;
            let up = ["running", "degraded"];
            state.is_ok_and(|(_, state)| up.contains(&state.trim()))
        })
        .await
    }

    fn journal(&self) -> String {
        let journal = [
            "exec",
            &self.container,
            "journalctl",
            "-n",
            "60",
            "--no-pager",
        ];
        let output = Command::new("docker").args(journal).output();
        output.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }
}

async fn docker(args: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new("docker")
        .args(args)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(STARTS, output).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker {args:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
