//! The certificates of one front end: a directory as it changes in, those that are good on the disk out, and what is wrong with
//! the others.
//!
//! What is broken never takes the place of what is good, and a directory that is empty or gone takes nothing away. A file is
//! read once it has stood as it is for two looks, so that one that is just being written is not told as broken.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use planner::config::Frontend;

use super::found::{self, Found, Print};
use super::judge::Judge;
use super::pem::{self, Certificate};
use super::placeholder;
use super::store::Store;
use crate::clock;

/// What HAProxy refused may be taken later, where the fault was in another file.
const AGAIN: Duration = Duration::from_secs(60);
/// A judge that cannot be asked is asked again after so long.
const PAUSE: Duration = Duration::from_secs(5);

/// The name of the one that a client gets whose host no other is for.
const DEFAULT: &str = "default";

/// The certificates of one front end.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) frontend: String,
    pub(super) directory: PathBuf,
    pub(super) store: Store,
    /// In force, or to be: by name.
    pub(super) good: BTreeMap<String, Certificate>,
    /// What a client gets whose host none is for.
    pub(super) default: Option<Certificate>,
    /// Why a file is none of them, by its name.
    pub(super) bad: BTreeMap<String, String>,
    /// What is wrong with all of it.
    pub(super) trouble: Option<String>,
    /// Paths whose text is another since HAProxy was last told.
    pub(super) changed: BTreeSet<String>,
    last: BTreeMap<String, Print>,
    seen: BTreeMap<String, Print>,
    unwritten: bool,
    not_before: Option<Instant>,
    again: Option<Instant>,
}

/// What a look at the directory has read.
type Read = (
    Found,
    BTreeMap<String, (Print, Result<Certificate, String>)>,
);

impl Shelf {
    /// That of a front end; none where it has no certificates. What an earlier run has left is good until the directory says
    /// otherwise.
    pub(super) fn of(frontend: &Frontend, store: Store) -> Option<Self> {
        let (default, good) = store.load();
        Some(Self {
            frontend: frontend.name.to_string(),
            directory: frontend.certificates.clone()?,
            store,
            good,
            default,
            bad: BTreeMap::new(),
            trouble: None,
            changed: BTreeSet::new(),
            last: BTreeMap::new(),
            seen: BTreeMap::new(),
            unwritten: false,
            not_before: None,
            again: None,
        })
    }

    /// Looks at the directory, and puts what has changed on the disk; says whether anything is otherwise than before. The
    /// `first` look waits for nothing to stand still.
    pub(super) async fn look(&mut self, judge: &Judge, first: bool) -> bool {
        let before = (self.bad.clone(), self.trouble.clone());
        let waits = self.not_before.is_some_and(|at| clock::now() < at);
        if !waits {
            self.trouble = None;
        }
        let mut changed = match self.read(first, waits).await {
            Ok((found, read)) => self.take(found, read, judge).await,
            Err(error) => {
                self.trouble = Some(format!(
                    "{}: {error}; the certificates of before stay in force",
                    self.directory.display()
                ));
                false
            }
        };
        changed |= self.choose_default();
        self.write(changed).await;
        changed || before != (self.bad.clone(), self.trouble.clone())
    }

    async fn read(&mut self, first: bool, waits: bool) -> io::Result<Read> {
        let now = clock::now();
        if self.again.is_some_and(|at| now >= at) {
            self.again = None;
            let bad = &self.bad;
            self.seen.retain(|name, _| !bad.contains_key(name));
        }
        let directory = self.directory.clone();
        let (seen, last) = (self.seen.clone(), self.last.clone());
        let work = move || {
            let found = found::find(&directory)?;
            let mut read = BTreeMap::new();
            for (name, files) in &found.by_name {
                let settled = first || last.get(name) == Some(&files.print);
                if waits || !settled || seen.get(name) == Some(&files.print) {
                    continue;
                }
                let bytes = files.read();
                let certificate =
                    bytes.and_then(|bytes| pem::read(&bytes).map_err(|why| why.to_string()));
                read.insert(name.clone(), (files.print.clone(), certificate));
            }
            Ok((found, read))
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Takes what was read; says whether what is good is another.
    async fn take(
        &mut self,
        found: Found,
        read: BTreeMap<String, (Print, Result<Certificate, String>)>,
        judge: &Judge,
    ) -> bool {
        let mut changed = self.drop_gone(&found);
        let is_there = |name: &String| found.by_name.contains_key(name);
        self.bad.retain(|name, _| is_there(name));
        self.seen.retain(|name, _| is_there(name));
        self.bad.extend(found.strange);
        self.last = found
            .by_name
            .iter()
            .map(|(name, files)| (name.clone(), files.print.clone()))
            .collect();
        let mut candidates = BTreeMap::new();
        let mut prints = BTreeMap::new();
        for (name, (print, certificate)) in read {
            match certificate {
                Ok(certificate) if self.good.get(&name) == Some(&certificate) => {
                    self.bad.remove(&name);
                    self.seen.insert(name, print);
                }
                Ok(certificate) => {
                    prints.insert(name.clone(), print);
                    candidates.insert(name, certificate);
                }
                Err(why) => {
                    self.bad.insert(name.clone(), why);
                    self.seen.insert(name, print);
                }
            }
        }
        let refused = match judge.refuse(&self.store, &candidates).await {
            Ok(refused) => refused,
            Err(why) => {
                self.trouble = Some(format!("certificates cannot be judged: {why}"));
                self.not_before = Some(clock::now() + PAUSE);
                return changed;
            }
        };
        self.seen.extend(prints);
        for (name, certificate) in candidates {
            if let Some(said) = refused.get(&name) {
                self.bad.insert(name, format!("HAProxy refuses it: {said}"));
                self.again = Some(clock::now() + AGAIN);
                continue;
            }
            tracing::debug!(
                frontend = self.frontend,
                certificate = name,
                "a certificate that is new or another"
            );
            self.changed
                .insert(self.store.path(&name).display().to_string());
            self.bad.remove(&name);
            self.good.insert(name, certificate);
            changed = true;
        }
        changed
    }

    /// Gives up those whose files are gone, but not the last of them.
    fn drop_gone(&mut self, found: &Found) -> bool {
        let gone: Vec<String> = self
            .good
            .keys()
            .filter(|name| !found.by_name.contains_key(*name))
            .cloned()
            .collect();
        if gone.is_empty() {
            return false;
        }
        if found.by_name.is_empty() {
            self.trouble = Some(format!(
                "{}: there is no certificate left; those of before stay in force",
                self.directory.display()
            ));
            return false;
        }
        for name in gone {
            tracing::info!(
                frontend = self.frontend,
                certificate = name,
                "a certificate is gone"
            );
            self.good.remove(&name);
        }
        true
    }

    /// Picks the one that a client gets whose host none is for: the one of that name, else the first.
    fn choose_default(&mut self) -> bool {
        let chosen = self.good.get(DEFAULT).or_else(|| self.good.values().next());
        let chosen = match (chosen, &self.default) {
            (Some(chosen), Some(default)) if chosen == default => return false,
            (Some(chosen), _) => chosen.clone(),
            (None, Some(_)) => return false,
            (None, None) => match placeholder::make() {
                Ok(made) => made,
                Err(error) => {
                    self.trouble = Some(format!("cannot make a certificate: {error}"));
                    return false;
                }
            },
        };
        self.changed
            .insert(self.store.0.default.display().to_string());
        self.default = Some(chosen);
        true
    }

    async fn write(&mut self, changed: bool) {
        let Some(default) = self.default.clone() else {
            return;
        };
        let (store, good) = (self.store.clone(), self.good.clone());
        let must = changed || self.unwritten;
        let work = move || {
            if must || !store.is_whole() {
                store.write(&default, &good)
            } else {
                Ok(())
            }
        };
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        self.unwritten = done.is_err();
        if let Err(error) = done {
            let folder = self.store.folder().display();
            self.trouble = Some(format!("{folder}: cannot be written: {error}"));
        }
    }
}
