//! A template in its file: the path in, a renderer or what is wrong with it out.

use std::path::{Path, PathBuf};

use planner::config::Config;
use planner::render::{RenderError, Renderer};

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

/// Takes the template that the config names, or the built-in one.
///
/// # Errors
/// When the file cannot be read or is no template.
pub fn load(config: &Config) -> Result<Renderer, TemplateError> {
    match &config.haproxy.template {
        None => Ok(Renderer::built_in()?),
        Some(path) => read(path),
    }
}

/// Takes the template in this file.
///
/// # Errors
/// When it cannot be read or is no template.
pub fn read(path: &Path) -> Result<Renderer, TemplateError> {
    let bytes = std::fs::read(path).map_err(|source| TemplateError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(Renderer::read(&path.display().to_string(), bytes)?)
}
