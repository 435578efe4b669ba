//! Before a start of HAProxy: a config in, a file that HAProxy can start with out.
//!
//! HAProxy starts after a crash, a full disk and a torn write, too, and without us. So what lies there is kept if it passes
//! the check command, and else written anew, with the servers that were in rotation last, or with none. Neither an agent nor
//! HAProxy is asked.

use std::fmt;
use std::path::PathBuf;

use planner::config::Config;
use planner::model::{Server, Servers};
use planner::render::{FIRST_LINE, RenderError};

use crate::error_chain::chain;
use crate::haproxy::file::{ConfigFile, FileError, Owner, Staged, judge};
use crate::haproxy::message::first_alert;
use crate::state::StateDir;
use crate::templates::{self, TemplateError};

/// What there is for HAProxy to start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// The file that lay there.
    AsItWas(PathBuf),
    /// A new one, and why.
    Anew {
        /// The file.
        path: PathBuf,
        /// How many servers it lists.
        servers: usize,
        /// What is wrong with the one before.
        why: String,
    },
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsItWas(path) => write!(f, "{}: HAProxy can start with it", path.display()),
            Self::Anew { path, servers, why } => write!(
                f,
                "{}: written anew, with {servers} servers that were in rotation last: {why}",
                path.display()
            ),
        }
    }
}

/// Why HAProxy may be unable to start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The template fails with these servers.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing passes the check command, not even a file without servers: what is wrong is most likely not in ours.
    #[error("no text for {} passes the check command, not even without servers: {said}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the check command says of the last one.
        said: String,
    },
}

/// Sees to it that HAProxy can start. A file of another hand that does not pass is replaced, too, and a copy of it kept.
///
/// # Errors
/// [`InitError`]. A file that was there is as it was then; where there was none, one is written all the same.
pub async fn init(config: Config) -> Result<Ready, InitError> {
    let loaded = templates::load(config)?;
    let config = &loaded.config;
    let path = config.haproxy.config.clone();
    let mut file = ConfigFile::new(&path, FIRST_LINE);
    let owner = file.owner().await?;
    let why = match owner {
        Owner::Missing => "there was none".to_owned(),
        Owner::Ours | Owner::Foreign => match complaint(config, None).await {
            None => return Ok(Ready::AsItWas(path)),
            Some(said) => format!("the one before did not pass: {said}"),
        },
    };
    file.adopt().await?;
    let known = last_in_rotation(config);
    if owner == Owner::Missing {
        let rendered = loaded.renderer.render(config, &known)?;
        let staged = file.stage(rendered.text).await?;
        staged.commit(|_| true).await?;
    }
    let mut said = String::new();
    for servers in [&known, &Servers::new()] {
        let rendered = loaded.renderer.render(config, servers)?;
        let staged = file.stage(rendered.text).await?;
        match complaint(config, Some(&staged)).await {
            None => {
                staged.commit(move |_| owner == Owner::Missing).await?;
                let servers = servers.values().map(Vec::len).sum();
                return Ok(Ready::Anew { path, servers, why });
            }
            Some(refused) => said = refused,
        }
    }
    Err(InitError::Refused { path, said })
}

/// What the check command has against a staged text, or else against the file itself.
async fn complaint(config: &Config, staged: Option<&Staged>) -> Option<String> {
    let (command, timeout) = (&config.haproxy.check_command, config.reload.timeout);
    let path = &config.haproxy.config;
    let checked = match staged {
        Some(staged) => staged.check(command, timeout).await,
        None => judge(command, path, path, None, timeout).await,
    };
    match checked {
        Ok(checked) if checked.valid => None,
        Ok(checked) => {
            let alert = first_alert(&checked.messages).map(ToString::to_string);
            Some(alert.unwrap_or(checked.status))
        }
        Err(error) => Some(chain(&error)),
    }
}

/// The servers that had traffic when a controller was last there.
fn last_in_rotation(config: &Config) -> Servers {
    let mut servers = Servers::new();
    let state = StateDir::peek(&config.state.dir).load();
    for (key, endpoint) in state.in_rotation {
        servers.entry(key.backend).or_default().push(Server {
            name: key.server,
            addr: endpoint.addr,
            weight: endpoint.weight,
            ready: true,
            details: std::sync::Arc::default(),
        });
    }
    servers
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A config whose check command wants these words in the file.
    fn config(dir: &Path, wanted: &str) -> Config {
        let text = format!(
            "haproxy = {{ config = '{0}/ours.cfg', check_command = ['grep', '-q', '{wanted}', '{{path}}'] }}\n\
             frontend = {{ bind = ['*:80'] }}\nstate = {{ dir = '{0}' }}\n\
             [[backend]]\nname = 'nodes'\ntags = {{ role = 'backend' }}\nport = 3000\n",
            dir.display()
        );
        Config::read(text.into_bytes(), []).unwrap()
    }

    fn remember_server(dir: &Path) {
        let known = r#"{"members": [], "in_rotation": [{"backend": "nodes", "server": "s1", "addr": "192.0.2.1:3000", "weight": 3}]}"#;
        fs::write(dir.join("members.json"), known).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_passes_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("ours.cfg");
        fs::write(&ours, "anything\n").unwrap();
        let ready = init(config(dir.path(), "anything")).await.unwrap();
        assert_eq!(ready, Ready::AsItWas(ours.clone()));
        assert_eq!(fs::read_to_string(ours).unwrap(), "anything\n");
    }

    #[tokio::test]
    async fn a_file_that_is_missing_or_broken_lists_the_servers_that_were_in_rotation() {
        let dir = tempfile::tempdir().unwrap();
        remember_server(dir.path());
        let ours = dir.path().join("ours.cfg");
        for broken in [None, Some("# written by serf-hap"), Some("glob")] {
            if let Some(broken) = broken {
                fs::write(&ours, broken).unwrap();
            }
            let ready = init(config(dir.path(), "backend nodes")).await.unwrap();
            assert!(
                matches!(ready, Ready::Anew { servers: 1, .. }),
                "{broken:?}: {ready}"
            );
            let text = fs::read_to_string(&ours).unwrap();
            assert!(text.contains("server s1 192.0.2.1:3000"), "{text}");
        }
    }

    #[tokio::test]
    async fn where_nothing_passes_a_file_is_left_alone_and_a_missing_one_is_there_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("ours.cfg");
        let refused = init(config(dir.path(), "no such words")).await.unwrap_err();
        assert!(matches!(refused, InitError::Refused { .. }), "{refused}");
        assert!(fs::read_to_string(&ours).unwrap().contains("backend nodes"));
        fs::write(&ours, "glob\n").unwrap();
        init(config(dir.path(), "no such words")).await.unwrap_err();
        assert_eq!(fs::read_to_string(&ours).unwrap(), "glob\n");
    }
}
