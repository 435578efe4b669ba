//! A test's surroundings: its needs go in, a network, a directory and log tails come out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::firewall::Firewall;
use crate::haproxy::HaproxyKind;
use crate::machines::Release;
use crate::net::{Net, shared_file};
use crate::process::{find_program, read_lossy};
use crate::serf::SerfKind;

/// Lines of each log that a failed test shows.
const TAIL: usize = 40;

/// A daemon or tool a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The host's `serf`, of whatever version.
    Serf,
    /// Serf of that kind.
    SerfOf(SerfKind),
    /// HAProxy of that kind.
    Haproxy(HaproxyKind),
    /// The load generator `wrk`.
    Wrk,
    /// The right to lose packets.
    Firewall,
    /// The right to mount file systems.
    Mounts,
    /// Docker, and compose for it.
    Compose,
    /// Whole machines of that release.
    Machines(Release),
    /// Any program.
    Program(&'static str),
}

impl Need {
    /// Why it cannot be met here; none where it can.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Serf => SerfKind::Host.missing(),
            Self::SerfOf(kind) => kind.missing(),
            Self::Wrk => find_program("wrk")
                .is_none()
                .then(|| "wrk not found".to_owned()),
            Self::Haproxy(kind) => kind.missing(),
            Self::Firewall => Firewall::missing(),
            Self::Mounts => {
                (!rustix::process::geteuid().is_root()).then(|| "only root mounts".to_owned())
            }
            Self::Compose => crate::compose::missing(),
            Self::Machines(release) => release.missing(),
            Self::Program(name) => find_program(name)
                .is_none()
                .then(|| format!("{name} not found")),
        }
    }
}

/// What one test has to itself: a network and a directory, both gone afterwards.
#[derive(Debug)]
pub struct Lab {
    name: String,
    net: Net,
    dir: TempDir,
}

impl Lab {
    /// A network and a directory under a name that shows up in failures.
    ///
    /// # Errors
    /// When no network is free or no directory can be made.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        // Short, since a unix socket's path holds 107 bytes at most.
        let dir = tempfile::Builder::new()
            .prefix("sh-")
            .tempdir()
            .context("no temporary directory")?;
        Ok(Self {
            name: name.into(),
            net: Net::take()?,
            dir,
        })
    }

    /// The test's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network.
    #[must_use]
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in its directory.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// A file in its directory that nobody else reads, with this text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn secret(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed\n{}", self.name, log_tails(self.dir()));
        }
    }
}

/// Runs a test in a lab of its own, on a runtime of its own, beside other tests.
///
/// Without one of its needs the test is skipped, loudly and by name; with `CI` set that is a failure.
///
/// # Panics
/// When the test fails; the tails of all logs are printed.
pub fn test<F>(needs: &[Need], body: F)
where
    F: AsyncFnOnce(&Lab) -> Result<()>,
{
    run(needs, FlockOperation::LockShared, body);
}

/// The same for a test that measures time or puts on load: it runs while no other test of the harness
/// does.
///
/// # Panics
/// As [`test()`].
pub fn test_alone<F>(needs: &[Need], body: F)
where
    F: AsyncFnOnce(&Lab) -> Result<()>,
{
    run(needs, FlockOperation::LockExclusive, body);
}

fn run<F>(needs: &[Need], company: FlockOperation, body: F)
where
    F: AsyncFnOnce(&Lab) -> Result<()>,
{
    let name = std::any::type_name::<F>()
        .trim_end_matches("::{{closure}}")
        .to_owned();
    if let Some(missing) = needs.iter().find_map(|need| need.missing()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "{name}: {missing}, and CI is set"
        );
        eprintln!("SKIPPED {name}: {missing}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let machine = shared_file("machine").expect("a lock file");
    flock(&machine, company).expect("a lock");
    let lab = Lab::new(name).expect("a lab");
    if let Err(error) = runtime.block_on(body(&lab)) {
        panic!("{error:#}");
    }
}

/// The last lines of every log in a directory.
#[must_use]
pub fn log_tails(dir: &Path) -> String {
    let mut logs: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs.iter().map(|log| tail(log)).collect()
}

fn tail(log: &Path) -> String {
    let text = read_lossy(log);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines
        .get(lines.len().saturating_sub(TAIL)..)
        .unwrap_or_default()
        .join("\n");
    format!(
        "--- {}\n{shown}\n",
        log.file_name().unwrap_or_default().display()
    )
}

/// Runs each scenario, a function of a [`Lab`] and a [`HaproxyKind`](crate::HaproxyKind), on every HAProxy there is.
#[macro_export]
macro_rules! on_each_haproxy {
    ($($name:ident => $scenario:ident;)+) => {
        mod host {
            $(#[test] fn $name() {
                let kind = $crate::HaproxyKind::Host;
                $crate::test(&[$crate::Need::Haproxy(kind)], async |lab| super::$scenario(lab, kind).await);
            })+
        }
        mod trixie {
            $(#[test] fn $name() {
                let kind = $crate::HaproxyKind::Trixie;
                $crate::test(&[$crate::Need::Haproxy(kind)], async |lab| super::$scenario(lab, kind).await);
            })+
        }
        mod sid {
            $(#[test] fn $name() {
                let kind = $crate::HaproxyKind::Sid;
                $crate::test(&[$crate::Need::Haproxy(kind)], async |lab| super::$scenario(lab, kind).await);
            })+
        }
    };
}

/// Runs each scenario, a function of a [`Lab`] and a [`Serf`](crate::Serf), on every version of Serf there is, with
/// agents that want a key and with others that do not.
#[macro_export]
macro_rules! on_each_serf {
    ($($name:ident => $scenario:ident;)+) => {
        mod host {
            $crate::on_serf! { $crate::SerfKind::Host, None, $($name => $scenario;)+ }
        }
        mod host_with_key {
            $crate::on_serf! { $crate::SerfKind::Host, Some("sesame"), $($name => $scenario;)+ }
        }
        mod trixie {
            $crate::on_serf! { $crate::SerfKind::Trixie, None, $($name => $scenario;)+ }
        }
        mod trixie_with_key {
            $crate::on_serf! { $crate::SerfKind::Trixie, Some("sesame"), $($name => $scenario;)+ }
        }
    };
}

/// Runs scenarios on one Serf; see [`on_each_serf!`].
#[macro_export]
macro_rules! on_serf {
    ($kind:expr, $key:expr, $($name:ident => $scenario:ident;)+) => {
        $(#[test] fn $name() {
            $crate::test(&[$crate::Need::SerfOf($kind)], async |lab| {
                let serf = $crate::Serf::prepare(lab, $kind, $key).await?;
                super::$scenario(lab, &serf).await
            });
        })+
    };
}
