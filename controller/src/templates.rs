//! The templates that a config names, read from their files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use planner::config::Config;
use planner::pipeline::LoadedConfig;
use planner::render::{RenderError, Renderer};

use crate::others::Others;

/// Why a template cannot be taken. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file cannot be read.
    #[error("cannot read the template {path}")]
    Read {
        /// The template.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is no template.
    #[error(transparent)]
    Syntax(#[from] RenderError),
}

/// Takes the templates that a config names, the built-in one where it names none, and reads what HAProxy reads before our
/// file.
///
/// # Errors
/// When a file cannot be read or is no template.
pub(crate) fn load(config: Config) -> Result<LoadedConfig, TemplateError> {
    let renderer = match &config.haproxy.template {
        None => Renderer::built_in()?,
        Some(path) => read(path)?,
    };
    let files = config.files.iter();
    let files = files
        .map(|file| Ok((file.clone(), Arc::new(read(&file.template)?))))
        .collect::<Result<_, TemplateError>>()?;
    let others = Others::now(&config.haproxy.files);
    Ok(LoadedConfig::new(config, renderer, files, others.files))
}

/// Says what the template forgets.
pub(crate) fn warn(loaded: &LoadedConfig) {
    match &loaded.flaws {
        Ok(flaws) => {
            for flaw in flaws {
                tracing::warn!("the template is not safe to use: {flaw}");
            }
        }
        Err(error) => tracing::warn!(%error, "the template fails with some servers"),
    }
}

/// Takes the template in this file.
///
/// # Errors
/// When it cannot be read or is no template.
fn read(path: &Path) -> Result<Renderer, TemplateError> {
    let bytes = std::fs::read(path).map_err(|source| TemplateError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(Renderer::read(&path.display().to_string(), bytes)?)
}
