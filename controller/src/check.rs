//! What `check` finds out: config in, everything that stands against running with it out; nothing is changed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admission::Admission;
use crate::config::Config;
use crate::haproxy::Version;
use crate::haproxy::complaint::Level;
use crate::haproxy::file::{ConfigFile, FileError};
use crate::haproxy::process::{self, ProcessError};
use crate::haproxy::promise::{Breach, Cause, breaches};
use crate::model::{BackendName, Model, Quarantine};
use crate::others::Others;
use crate::plan::{Obstacle, OtherFile, classify};
use crate::preview::{PreviewError, preview_text};
use crate::reconcile::{Design, runtime_api};
use crate::render::{FIRST_LINE, RenderError, Rendered, TemplateError};
use crate::state::StateDir;

/// How long `haproxy -v` may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);
/// What is assumed where neither a worker nor the program says its version: the oldest that is supported.
const OLDEST: Version = Version { major: 2, minor: 6 };

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// What is wrong with the template, each with its place.
    pub template: Vec<String>,
    /// What the check command says against the rendered file, each with its place in file and template.
    pub file: Vec<String>,
    /// What it warns of, and which promises the file breaks (templates/README.md), each with its place.
    pub warnings: Vec<String>,
    /// The version that `backends` is about.
    pub version: Version,
    /// For every backend of the config, who lets its servers in.
    pub admissions: BTreeMap<BackendName, Admission>,
    /// For every backend, why its servers cannot join and leave without a reload; nothing where they can.
    pub backends: BTreeMap<BackendName, Vec<Obstacle>>,
    /// For every backend, how many server lines the template has itself.
    pub fixed: BTreeMap<BackendName, usize>,
    /// The `backend` and `listen` sections that the config does not name, as their first lines name them.
    pub others: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong. That a backend needs reloads is not.
    pub fn is_good(&self) -> bool {
        self.template.is_empty() && self.file.is_empty()
    }
}

/// Why it could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The template fails with some servers.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The servers cannot be found out.
    #[error(transparent)]
    Preview(#[from] PreviewError),
    /// The file cannot be staged beside the one in use.
    #[error(transparent)]
    File(#[from] FileError),
    /// The check command does not run.
    #[error("the check command did not run")]
    Command(#[from] ProcessError),
}

/// Loads the template, renders the file with the servers that are there, and has the check command judge it.
///
/// # Errors
/// [`CheckError`] for what makes a judgement impossible; what is judged bad is in the [`Report`].
pub async fn check(config: &Config) -> Result<Report, CheckError> {
    let design = Design::load(config.clone())?;
    let name = config
        .haproxy
        .template
        .as_ref()
        .map_or("the built-in template".into(), |path| {
            path.to_string_lossy()
        });
    let findings = design.renderer.audit(config)?;
    let (rendered, model) = preview_text(config).await?;
    let version = version(config).await;
    let others = Others::now(&config.haproxy.files);
    let unseen = others.problem();
    let scope = design.scope.with_files(others.files);
    let text = scope.read(&rendered.text);
    let mut report = Report {
        template: findings
            .iter()
            .map(|finding| format!("{name}: {finding}"))
            .collect(),
        file: Vec::new(),
        warnings: [
            own_places(&model),
            promises(&design, scope.files(), &rendered)?,
            unseen.into_iter().collect(),
        ]
        .concat(),
        version,
        admissions: design.admissions.clone(),
        backends: classify(&text, version),
        fixed: config
            .backends
            .iter()
            .map(|backend| (backend.name.clone(), text.fixed_lines(&backend.name)))
            .collect(),
        others: text.others().map(str::to_owned).collect(),
    };
    judge(config, &rendered, &mut report).await?;
    Ok(report)
}

/// The members that claim to be this balancer itself.
fn own_places(model: &Model) -> Vec<String> {
    let claims = model.candidates().filter_map(|(key, candidate)| {
        let claim = candidate.attributes.as_ref().err()?;
        let quarantined = matches!(claim, Quarantine::Here { .. });
        quarantined.then(|| format!("{key} is left out: {claim}"))
    });
    claims.collect()
}

/// The promises that the configuration breaks; what only a server line would break, of which the file may have none yet,
/// is found with an invented one. What a file has that cannot be seen is not missed.
fn promises(
    design: &Design,
    others: &[OtherFile],
    rendered: &Rendered,
) -> Result<Vec<String>, RenderError> {
    let config = &design.config;
    let unseen = others.iter().any(|file| file.text.is_none());
    let find = |rendered: &Rendered| {
        let backends = config.backends.iter().map(|backend| &backend.name);
        let texts = others
            .iter()
            .map(|file| file.text.as_deref().unwrap_or_default());
        let mut found = breaches(texts.chain([rendered.text.as_str()]), backends);
        found.retain(|breach| !(unseen && breach.cause.is_a_lack()));
        found
    };
    let found = find(rendered);
    let place = |breach: &Breach| {
        let line = breach.line;
        let (path, origin) = match others.get(breach.text) {
            Some(other) => (&other.path, String::new()),
            None => (&config.haproxy.config, origin(rendered, line)),
        };
        format!("{}:{line}: {breach}{origin}", path.display())
    };
    let specimen = design.renderer.specimen(config)?;
    let of_servers = find(&specimen).into_iter().filter(|breach| {
        breach.cause == Cause::Shuts
            && !found
                .iter()
                .any(|known| (&known.section, &known.cause) == (&breach.section, &breach.cause))
    });
    let of_servers = of_servers.map(|breach| format!("{breach}{}", origin(&specimen, breach.line)));
    Ok(found.iter().map(place).chain(of_servers).collect())
}

/// Where in a template a line comes from, as words to add.
fn origin(rendered: &Rendered, line: usize) -> String {
    rendered.origin(line).map_or_else(String::new, |origin| {
        format!(" (from {}:{})", origin.template, origin.line)
    })
}

async fn judge(
    config: &Config,
    rendered: &Rendered,
    report: &mut Report,
) -> Result<(), CheckError> {
    let staged = ConfigFile::new(&config.haproxy.config, FIRST_LINE)
        .stage(rendered.text.as_str())
        .await?;
    let checked = staged
        .check(&config.haproxy.check_command, config.reload.timeout)
        .await?;
    for complaint in &checked.complaints {
        let place = complaint.place.as_ref();
        let origin = place.map_or_else(String::new, |(_, line)| origin(rendered, *line));
        match complaint.level {
            Level::Alert => report.file.push(format!("{complaint}{origin}")),
            _ => report.warnings.push(format!("{complaint}{origin}")),
        }
    }
    if checked.valid {
        report.warnings.append(&mut report.file);
    } else if report.file.is_empty() {
        report.file.push(format!(
            "the check command ended with {}: {}",
            checked.status,
            checked.output.trim()
        ));
    }
    Ok(())
}

/// The version that runs, or else that of the program that checks.
async fn version(config: &Config) -> Version {
    let state = StateDir::peek(&config.state.dir);
    if let Ok(worker) = runtime_api(config, &state).worker().await {
        return worker.version;
    }
    let Some(program) = config.haproxy.check_command.first() else {
        return OLDEST;
    };
    let said = process::run(&[program.clone(), "-v".to_owned()], VERSION_TIMEOUT).await;
    let word = said.ok().and_then(|said| {
        said.output
            .split_whitespace()
            .nth(2)
            .and_then(Version::parse)
    });
    word.unwrap_or(OLDEST)
}
