//! The project's packages, made of the programs that the tests run: a directory goes in, two versions of them come out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::daemons::controller::binary;

/// Below a directory: `one` with the packages as they are made, `two` with serf-haproxy once more under a later version.
#[derive(Clone, Debug)]
pub struct Packages {
    dir: PathBuf,
}

impl Packages {
    /// Makes them.
    ///
    /// # Errors
    /// When a program that makes them fails.
    pub fn make(dir: &Path) -> Result<Self> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let programs = binary("serf-haproxy")?;
        let profile = programs.parent().and_then(Path::file_name);
        let profile = match profile.and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let (one, two) = (dir.join("one"), dir.join("two"));
        let mut make = Command::new(project.join("packaging/deb"));
        make.env("FAST", "1").arg(profile).arg(&one);
        run(&mut make)?;
        fs::create_dir_all(&two)?;
        let package = fs::read_dir(&one)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().contains("serf-haproxy_"))
            .context("the package serf-haproxy")?;
        let unpacked = dir.join("unpacked");
        run(Command::new("dpkg-deb")
            .arg("--raw-extract")
            .args([&package, &unpacked]))?;
        let control = unpacked.join("DEBIAN/control");
        let text = fs::read_to_string(&control)?;
        let version = text.lines().find(|line| line.starts_with("Version: "));
        let version = version.context("a version")?;
        fs::write(&control, text.replace(version, &format!("{version}+next")))?;
        let next = two.join("serf-haproxy_next_all.deb");
        let mut build = Command::new("dpkg-deb");
        build.args(["--root-owner-group", "-Znone", "--build"]);
        run(build.args([&unpacked, &next]))?;
        fs::remove_dir_all(&unpacked)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Where they are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{command:?}: {out}{said}");
    Ok(())
}
