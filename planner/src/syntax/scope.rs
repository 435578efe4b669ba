//! Which server lines of a text are the members': the config's backends and what a template prints without any member
//! in, a way to read its texts out. Pure.
//!
//! The server lines that a template prints without any member are *fixed*: HAProxy's and the operator's. So is every
//! server line of a backend or `listen` section that the config does not name. Fixed lines need not be readable; they
//! are compared like any other line, and what the worker makes of them is never looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::lexed::Lexed;
use super::reader::Reader;
use super::text::ConfigText;
use super::text::SECTIONS;
use crate::model::{AddedOptions, BackendName, RunningServers, ServerKey, ServerName};

/// Another file of the same configuration, which HAProxy reads before ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it says; `None` where that cannot be seen.
    pub text: Option<Arc<str>>,
}

/// What a text is read with.
///
/// By default every backend is ours, no line is fixed, and there is no other file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The backends of the config; `None` is all there are.
    backends: Option<BTreeMap<BackendName, Fixed>>,
    files: Arc<[OtherFile]>,
}

/// The fixed lines of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fixed {
    names: BTreeSet<String>,
    /// Those whose servers' names cannot be told.
    lines: BTreeSet<String>,
}

impl Scope {
    /// The members' lines of these backends are all that `bare`, the text without any member, has not.
    pub fn new<'a>(backends: impl IntoIterator<Item = &'a BackendName>, bare: &str) -> Self {
        let backends = backends.into_iter();
        let mut backends: BTreeMap<BackendName, Fixed> = backends
            .map(|name| (name.clone(), Fixed::default()))
            .collect();
        let mut section = None;
        for line in bare.lines().filter_map(Lexed::new) {
            if SECTIONS.contains(&line.first()) {
                let proxy = matches!(line.first(), "backend" | "listen");
                section = line.word(1).filter(|_| proxy).and_then(BackendName::new);
            } else if line.is_server() || line.is_veiled() {
                let fixed = section.as_ref().and_then(|name| backends.get_mut(name));
                if let Some(fixed) = fixed {
                    fixed.add(&line);
                }
            }
        }
        Self {
            backends: Some(backends),
            files: Arc::default(),
        }
    }

    /// The same beside other files, in the order HAProxy reads them.
    #[must_use]
    pub fn with_files(&self, files: impl Into<Arc<[OtherFile]>>) -> Self {
        Self {
            backends: self.backends.clone(),
            files: files.into(),
        }
    }

    /// The other files.
    pub fn files(&self) -> &[OtherFile] {
        &self.files
    }

    /// The texts of the other files, of those that can be seen.
    pub fn other_texts(&self) -> impl Iterator<Item = &str> {
        let files = self.files.iter();
        files.filter_map(|file| file.text.as_deref())
    }

    /// Reads a text. Never fails: what cannot be read is compared as it is.
    ///
    /// A `description serf-haproxy <stamp>` in `global` reads the same with any stamp and without one.
    pub fn read(&self, text: &str) -> ConfigText {
        let mut reader = Reader::new(self);
        for file in &*self.files {
            reader.other_file(file.text.as_deref());
        }
        reader.own_file(text);
        reader.finish()
    }

    /// Whether the config names this backend.
    pub(crate) fn has(&self, backend: &str) -> bool {
        let ours = self.backends.as_ref();
        ours.is_none_or(|ours| {
            BackendName::new(backend).is_some_and(|name| ours.contains_key(&name))
        })
    }

    /// Whether this line of a backend is fixed.
    pub(crate) fn is_fixed(&self, backend: &str, line: &Lexed<'_>) -> bool {
        let Some(fixed) = self.fixed(backend) else {
            return false;
        };
        match line.server_names().filter(|_| line.is_server()) {
            Some(names) => names.iter().all(|name| fixed.names.contains(name)),
            None => fixed.lines.contains(&line.text()),
        }
    }

    fn fixed(&self, backend: &str) -> Option<&Fixed> {
        self.backends.as_ref()?.get(&BackendName::new(backend)?)
    }

    /// The fixed servers that could be members by their names.
    pub fn fixed_servers(&self) -> impl Iterator<Item = ServerKey> {
        let backends = self.backends.iter().flatten();
        backends.flat_map(|(backend, fixed)| {
            let names = fixed.names.iter().filter_map(ServerName::new);
            names.map(|server| ServerKey {
                backend: backend.clone(),
                server,
            })
        })
    }

    /// Leaves the members' servers of those that a worker runs: not the fixed ones, and none of other backends.
    ///
    /// Where the name of a fixed one cannot be told, those stay that the worker's text has as members', or that were
    /// added to it.
    pub fn retain(
        &self,
        servers: &mut RunningServers,
        running: Option<&ConfigText>,
        added: &AddedOptions,
    ) {
        let Some(ours) = &self.backends else { return };
        servers.retain(|backend, servers| {
            let Some(name) = BackendName::new(backend) else {
                return false;
            };
            let Some(fixed) = ours.get(&name) else {
                return false;
            };
            let is_member = |server: &str| {
                ServerName::new(server).is_some_and(|server| {
                    running.is_some_and(|text| text.server(&name, &server).is_some())
                        || added.contains_key(&ServerKey::new(&name, &server))
                })
            };
            servers.retain(|server, _| {
                !fixed.names.contains(server) && (fixed.lines.is_empty() || is_member(server))
            });
            true
        });
    }
}

impl Fixed {
    fn add(&mut self, line: &Lexed<'_>) {
        match line.server_names().filter(|_| line.is_server()) {
            Some(names) => self.names.extend(names),
            None => drop(self.lines.insert(line.text())),
        }
    }
}
