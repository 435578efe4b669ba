//! Running a test: what it needs and its body go in, a pass, a failure with logs, or a loud skip comes out.

use std::fs::File;

use anyhow::Result;
use rustix::fs::{FlockOperation, flock};

use crate::daemons::compose;
use crate::daemons::dockerd;
use crate::daemons::haproxy::HaproxyKind;
use crate::daemons::machines::Release;
use crate::daemons::serf::SerfKind;
use crate::environment::TestEnv;
use crate::environment::firewall::Firewall;
use crate::environment::net::shared_file;
use crate::environment::process::find_program;
use crate::scenarios::took::Took;

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
    /// The right to run a Docker of one's own.
    Dockerd,
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
            Self::Compose => compose::missing(),
            Self::Dockerd => dockerd::missing(),
            Self::Machines(release) => release.missing(),
            Self::Program(name) => find_program(name)
                .is_none()
                .then(|| format!("{name} not found")),
        }
    }
}

/// Runs a test in an environment of its own, on a runtime of its own, beside other tests.
///
/// Without one of its needs the test is skipped, loudly and by name; with `CI` set that is a failure.
///
/// # Panics
/// When the test fails; the tails of all logs are printed.
pub fn test<F>(needs: &[Need], body: F)
where
    F: AsyncFnOnce(&TestEnv) -> Result<()>,
{
    run(needs, FlockOperation::LockShared, body);
}

/// The same for a test that measures time, or how HAProxy fares when it has all of the machine: it runs while no other
/// test of the harness does. Load alone is no reason, for `wrk` takes only what others leave.
///
/// # Panics
/// As [`test()`].
pub fn test_alone<F>(needs: &[Need], body: F)
where
    F: AsyncFnOnce(&TestEnv) -> Result<()>,
{
    run(needs, FlockOperation::LockExclusive, body);
}

fn run<F>(needs: &[Need], company: FlockOperation, body: F)
where
    F: AsyncFnOnce(&TestEnv) -> Result<()>,
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
    let _machine = place(company).expect("a lock");
    let _took = Took::begin(&name);
    let lab = TestEnv::new(name).expect("an environment");
    if let Err(error) = runtime.block_on(body(&lab)) {
        panic!("{error:#}");
    }
}

/// Waits for a place among the tests of this machine, which goes with the file. The first to come is the first to begin:
/// while one waits to be alone, no other begins.
fn place(company: FlockOperation) -> Result<File> {
    let (turn, machine) = (shared_file("turn")?, shared_file("machine")?);
    flock(&turn, FlockOperation::LockExclusive)?;
    flock(&machine, company)?;
    Ok(machine)
}

/// Runs each scenario, a function of a [`TestEnv`] and a [`HaproxyKind`](crate::HaproxyKind), on every HAProxy there is.
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

/// Runs each scenario, a function of a [`TestEnv`] and a [`Serf`](crate::Serf), on every version of Serf there is, with
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
