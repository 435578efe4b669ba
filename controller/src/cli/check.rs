//! `check`: a config in, what is right and wrong with it out.

use std::path::Path;

use clap::Args;
use controller::check::{Asked, TextReport};
use controller::config;

use super::{Exit, GivenArgs, environment, print, runtime, tell};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Look as before `run --adopt`: a haproxy.cfg of somebody else's is no error
    #[arg(long)]
    adopt: bool,
    #[command(flatten)]
    given: GivenArgs,
}

pub(super) fn check(path: &Path, args: &CheckArgs) -> anyhow::Result<Exit> {
    let config = config::load(path, environment())?;
    print(&format!("config {}: ok\n", path.display()))?;
    let asked = Asked {
        config_path: path.to_owned(),
        adopt: args.adopt,
        members: args.given.members.clone(),
    };
    let report = runtime()?.block_on(controller::check::check(&config, &asked));
    for finding in &report.findings {
        tell(&finding.to_string());
    }
    if let Some(text) = &report.text {
        print(&checked(&config, text))?;
    }
    for line in &report.announced {
        print(&format!("{line}\n"))?;
    }
    Ok(if report.is_good() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// What `check` says of the text, a line for each thing.
fn checked(config: &planner::config::Config, text: &TextReport) -> String {
    let mut lines = Vec::new();
    if text.template_is_good {
        let template = config.haproxy.template.as_ref();
        let template =
            template.map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
        lines.push(format!("template {template}: ok"));
    }
    if text.file_is_good {
        // What would be written, whatever stands there now.
        let path = config.haproxy.config.display();
        lines.push(format!("text for {path}: ok"));
    }
    for (backend, admission) in &text.admissions {
        lines.push(format!("backend {backend}: {admission}"));
    }
    let version = text.version;
    for (backend, obstacles) in &text.backends {
        if obstacles.is_empty() {
            lines.push(format!(
                "backend {backend}: changes without a reload on HAProxy {version}"
            ));
        }
        for obstacle in obstacles {
            lines.push(format!(
                "backend {backend}: needs a reload on HAProxy {version}: {obstacle}"
            ));
        }
        if let Some(fixed) = text.fixed.get(backend).filter(|fixed| **fixed > 0) {
            lines.push(format!(
                "backend {backend}: server lines of the template's own, left alone: {fixed}"
            ));
        }
    }
    for other in &text.others {
        lines.push(format!("{other}: not in the config, left alone"));
    }
    lines.join("\n") + "\n"
}
