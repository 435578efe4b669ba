//! The configuration of docs/whole-file.md, taken at its word.

use std::process::Command;

use anyhow::Context;
use integration::controller::binary;
use integration::{HaproxyKind, Need, test};

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
