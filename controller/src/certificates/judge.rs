//! Whether HAProxy can start with a certificate: texts in, what its check command says of each out.
//!
//! HAProxy is asked, and not a library: that a key fits, is long enough and of a kind that is known is for the version that
//! runs to say. It is asked for all at once, and one by one only where it does not take them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use planner::config::Config;

use super::pem::Certificate;
use super::store::{self, Store};
use crate::error_chain::chain;
use crate::haproxy::file;
use crate::haproxy::message::first_alert;

/// How a certificate is judged.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    command: Vec<String>,
    timeout: Duration,
}

/// By its name, why one cannot be used.
pub(super) type Refused = BTreeMap<String, String>;

impl Judge {
    /// By the check command of a config.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            command: config.haproxy.check_command.clone(),
            timeout: config.reload.timeout,
        }
    }

    /// Which of the certificates HAProxy cannot start with.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub(super) async fn refuse(
        &self,
        store: &Store,
        candidates: &BTreeMap<String, Certificate>,
    ) -> Result<Refused, String> {
        let mut refused = Refused::new();
        if candidates.is_empty() {
            return Ok(refused);
        }
        if self.complaint(store, candidates).await?.is_none() {
            return Ok(refused);
        }
        for (name, certificate) in candidates {
            let one = BTreeMap::from([(name.clone(), certificate.clone())]);
            if let Some(said) = self.complaint(store, &one).await? {
                refused.insert(name.clone(), said);
            }
        }
        Ok(refused)
    }

    async fn complaint(
        &self,
        store: &Store,
        candidates: &BTreeMap<String, Certificate>,
    ) -> Result<Option<String>, String> {
        let folder = store.folder().join(".judged");
        let (store, candidates) = (store.clone(), candidates.clone());
        let (place, names) = (folder.clone(), candidates.keys().cloned());
        let names: Vec<String> = names.collect();
        let written = tokio::task::spawn_blocking(move || {
            let mode = store.make_folders()?;
            write(&place, &candidates, mode)
        });
        let written = written
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let text = written.map_err(|error| format!("{}: {error}", folder.display()))?;
        let judged = file::judge(&self.command, &text, &text, None, self.timeout).await;
        let _ = fs::remove_dir_all(&folder);
        let checked = judged.map_err(|error| chain(&error))?;
        if checked.valid {
            return Ok(None);
        }
        let prefix = format!("{}/", folder.display());
        let about = |line: &&str| {
            let path = |name: &String| format!("{prefix}{name}.pem");
            names.iter().any(|name| line.contains(&path(name)))
        };
        let said = checked.output.lines().find(about);
        let said = said
            .and_then(|line| line.rsplit(" : ").next())
            .map(str::to_owned);
        let first = || first_alert(&checked.messages).map(ToString::to_string);
        let said = said.or_else(first).unwrap_or(checked.status);
        Ok(Some(said.replace(&prefix, "").trim().to_owned()))
    }
}

/// Writes the candidates, and a text that is about them alone.
fn write(
    folder: &Path,
    candidates: &BTreeMap<String, Certificate>,
    mode: u32,
) -> io::Result<PathBuf> {
    let _ = fs::remove_dir_all(folder);
    let beside = folder.parent().unwrap_or(folder);
    crate::owner::directory(folder, beside, if mode == 0o600 { 0o700 } else { 0o750 })?;
    let mut list = String::new();
    for (name, certificate) in candidates {
        let path = folder.join(format!("{name}.pem"));
        store::put(&path, &certificate.pem, mode)?;
        list.push_str(&format!("{}\n", path.display()));
    }
    let listed = folder.join("crt-list");
    store::put(&listed, &list, mode)?;
    let text = folder.join("judged.cfg");
    let config = format!(
        "frontend serf-haproxy-certificates\n    mode tcp\n    timeout client 1s\n    bind 127.0.0.1:1 ssl crt-list {}\n",
        listed.display()
    );
    store::put(&text, &config, mode)?;
    Ok(text)
}
