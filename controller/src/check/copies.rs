//! Checked copies of the certificates for a text that is only judged: in a folder of its own, as nothing is to be changed;
//! gone when dropped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use planner::config::Config;
use tempfile::TempDir;

use super::finding::Finding;
use crate::certificates;

/// The copies, where a front end has certificates.
#[derive(Debug, Default)]
pub(super) struct Copies {
    folder: Option<TempDir>,
    /// Where HAProxy's text has them, and where they are.
    places: (String, String),
    wrong: BTreeMap<String, String>,
}

impl Copies {
    /// Makes those of a config.
    pub(super) async fn make(config: &Config) -> Self {
        let mut with = config
            .frontends
            .iter()
            .filter(|it| it.certificates.is_some());
        if with.next().is_none() {
            return Self::default();
        }
        let folder = tempfile::Builder::new()
            .prefix("serf-haproxy-check-")
            .tempdir();
        let Ok(folder) = folder else {
            // whoever writes the text there says so
            return Self::default();
        };
        let mut elsewhere = config.clone();
        elsewhere.haproxy.config = folder.path().join("haproxy.cfg");
        let wrong = certificates::prepare(&elsewhere).await;
        let all = |path: &Path| path.with_extension("certificates").display().to_string();
        Self {
            places: (all(&config.haproxy.config), all(&elsewhere.haproxy.config)),
            folder: Some(folder),
            wrong,
        }
    }

    /// What is wrong with the certificates.
    pub(super) fn found(&self) -> impl Iterator<Item = Finding> {
        let wrong = self.wrong.values();
        wrong.map(|problem| {
            Finding::error(format!(
                "{problem}; put one there that can be used, or take it away"
            ))
        })
    }

    /// A text that names these in the place of those that belong there.
    pub(super) fn in_place<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let (there, here) = &self.places;
        if self.folder.is_none() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.replace(&format!("{there}/"), &format!("{here}/")))
    }
}
