//! A later Debian in a container, for what is newer there than on the host: a directory goes in, a place
//! to run its programs comes out.
//!
//! It shares the host's network, process ids and user, and ends with the process that started it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::{getgid, getuid};

use crate::environment::process::Process;
use crate::environment::wait::wait_some;

/// An image that `scripts/test-image` builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Debian trixie: HAProxy 3.0, Serf 0.10.
    Trixie,
    /// Debian sid: HAProxy 3.2.
    Sid,
    /// A whole machine of Debian bookworm.
    OperatorBookworm,
    /// And of trixie.
    OperatorTrixie,
}

impl Image {
    /// What Docker calls it.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Trixie => "serf-haproxy-test:trixie",
            Self::Sid => "serf-haproxy-test:sid",
            Self::OperatorBookworm => "serf-haproxy-test:operator-bookworm",
            Self::OperatorTrixie => "serf-haproxy-test:operator-trixie",
        }
    }
}

/// Why a package of an image is not to be had; none where it is.
#[must_use]
pub fn image_missing(image: Image, package: &str) -> Option<String> {
    let tag = image.tag();
    let labels = Command::new("docker")
        .args(["image", "inspect", "--format"])
        .args([r#"{{ index .Config.Labels "packages" }}"#, tag])
        .output();
    let there = labels.is_ok_and(|output| {
        let packages = String::from_utf8_lossy(&output.stdout).into_owned();
        packages.split_whitespace().any(|there| there == package)
    });
    (!there).then(|| format!("no image {tag} with {package} in it (make setup)"))
}

/// Containers that this process has started.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A container that stays until its standard input ends, which it does with this process.
#[derive(Debug)]
pub(crate) struct Container {
    name: String,
    _client: Process,
}

impl Container {
    /// Starts one that sees the directory under the same path.
    pub(crate) async fn start(image: Image, dir: &Path) -> Result<Self> {
        let unique = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("serf-haproxy-test-{}-{unique}", std::process::id());
        let mount = format!("{0}:{0}", dir.display());
        let user = format!("{}:{}", getuid().as_raw(), getgid().as_raw());
        let mut command = Command::new("docker");
        command
            .args([
                "run",
                "--rm",
                "--interactive",
                "--init",
                "--network=host",
                "--pid=host",
            ])
            .args([
                "--name",
                &name,
                "--volume",
                &mount,
                "--user",
                &user,
                image.tag(),
            ])
            .args(["sh", "-c", "echo up; cat >/dev/null"]);
        let log = dir.join("container.log");
        let mut client = Process::start_with(&name, &command, log, Stdio::piped())?;
        let what = format!("the container {name} to start");
        let up = wait_some(&what, Duration::from_secs(60), async || {
            (!client.is_running() || client.log().contains("up")).then(|| client.is_running())
        });
        ensure!(up.await?, "docker run ended: {}", client.log());
        Ok(Self {
            name,
            _client: client,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A command in it; what to run, and its arguments, are still to be added.
    pub(crate) fn exec(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["exec", &self.name]);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rm", "--force", &self.name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
