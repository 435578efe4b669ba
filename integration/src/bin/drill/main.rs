//! `make drill FILES=…`: other people's configurations, each taken through what happens to a fleet, under load, on
//! every HAProxy there is. Ends with the figures: requests, those that failed, reloads and why.
//!
//! Each folder in `FILES` is one setup: `haproxy.cfg.j2`, a template made from somebody's haproxy.cfg, whose backend is
//! called `nodes`; `backend.toml`, more lines for the backend's table; `web`, the words of what its servers speak:
//! `tls`, `proxy` (the PROXY protocol), `role` (port 8008 answers 200 on s2 alone, 503 elsewhere); and where the
//! configuration has another file before it, `base.cfg`. In all of them `@front@` stands for the balancer's address, on
//! whose port 8080 the load goes, and `@static@` for that of a server that is no member.

mod nginx;
mod play;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use integration::log_tails;
use integration::{HaproxyKind, Need, TestEnv};

fn main() -> ExitCode {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if folders.is_empty() {
        eprintln!("usage: drill FOLDER…");
        return ExitCode::from(64);
    }
    match run(&folders) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("drill: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays every setup on every HAProxy; says whether all went well.
fn run(folders: &[PathBuf]) -> Result<bool> {
    let kinds = [HaproxyKind::Host, HaproxyKind::Trixie, HaproxyKind::Sid];
    let needs = [Need::Wrk, Need::Program("nginx"), Need::Program("openssl")];
    let needs = needs.into_iter().chain(kinds.map(Need::Haproxy));
    if let Some(missing) = needs.into_iter().find_map(Need::missing) {
        bail!("{missing}: make setup");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut well = true;
    for folder in folders {
        let setup = Setup::read(folder)?;
        for kind in kinds {
            let lab = TestEnv::new(&setup.name)?;
            let played = runtime.block_on(play::play(&lab, kind, &setup));
            match played {
                Ok(figures) => {
                    println!("{:20} {kind:?}: {figures}", setup.name);
                    well &= figures.failed == 0;
                }
                Err(error) => {
                    println!("{:20} {kind:?}: FAILED {error:#}", setup.name);
                    eprint!("{}", log_tails(lab.dir()));
                    well = false;
                }
            }
        }
    }
    Ok(well)
}

/// One folder.
struct Setup {
    name: String,
    template: String,
    base: Option<String>,
    backend: String,
    web: Speaks,
}

/// What the servers of a setup speak.
#[derive(Clone, Copy)]
struct Speaks {
    tls: bool,
    proxy: bool,
    role: bool,
}

impl Setup {
    fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))
        };
        let web = read("web")?;
        let speaks = |word: &str| web.split_whitespace().any(|spoken| spoken == word);
        Ok(Self {
            name: folder
                .file_name()
                .context("a folder")?
                .to_string_lossy()
                .into_owned(),
            template: read("haproxy.cfg.j2")?,
            base: read("base.cfg").ok(),
            backend: read("backend.toml")?,
            web: Speaks {
                tls: speaks("tls"),
                proxy: speaks("proxy"),
                role: speaks("role"),
            },
        })
    }

    /// Whether clients speak TLS to the front end: it passes through what the servers speak.
    fn clients_speak_tls(&self) -> bool {
        self.web.tls && self.template.contains("mode tcp")
    }
}
