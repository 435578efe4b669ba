//! The configuration of docs/whole-file.md, taken at its word, and the documents of the package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::controller::binary;
use integration::{HaproxyKind, Need, test};
use regex::Regex;

#[test]
fn the_configuration_of_the_docs_passes_the_check() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let page = include_str!("../../../docs/whole-file.md");
        let sample = page.split("```toml\n").nth(1).context("a sample")?;
        let sample = sample.split("```").next().context("its end")?;
        let path = lab.path("config.toml");
        std::fs::write(&path, sample)?;
        // as before the first start, beside the package's own haproxy.cfg
        let output = Command::new(binary("serf-haproxy")?)
            .args(["check", "--adopt", "-c"])
            .arg(&path)
            .output()?;
        assert!(output.status.success(), "{output:?}");
        Ok(())
    });
}

/// The documents of a folder of the package, and their links to files.
fn links(dir: &Path, below: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let link = Regex::new(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")?;
    let mut links = Vec::new();
    for document in std::fs::read_dir(dir.join(below))? {
        let path = document?.path();
        if path.extension().is_none_or(|kind| kind != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let found = link.captures_iter(&text);
        links.extend(found.map(|found| (path.clone(), dir.join(below).join(&found[1]))));
    }
    Ok(links)
}

#[test]
fn every_link_of_the_packages_documents_leads_to_a_file_of_the_package() {
    test(&[], async |lab| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let dir = lab.path("doc/serf-haproxy");
        let script = root.join("packaging/documents");
        let status = Command::new(script).arg(&dir).status()?;
        ensure!(status.success(), "{status}");
        for beside in ["examples", "ops", "pictures"] {
            let from = match beside {
                "pictures" => root.join("docs/pictures"),
                _ => root.join(beside),
            };
            std::os::unix::fs::symlink(from.canonicalize()?, dir.join(beside))?;
        }
        // Of the package serfctl, and of the sample's place.
        std::fs::create_dir(lab.path("doc/serfctl"))?;
        std::fs::write(lab.path("doc/serfctl/README.md"), "")?;
        let elsewhere = dir.join("examples/config.toml.sample");
        let links = [links(&dir, "")?, links(&dir, "reference")?].concat();
        ensure!(links.len() > 30, "{} links", links.len());
        for (document, link) in links {
            let there = link == elsewhere || link.exists();
            ensure!(there, "{} links to {}", document.display(), link.display());
        }
        Ok(())
    });
}
