//! Certificates at runtime: those of a front end in, HAProxy told of what it has otherwise out.

use std::collections::{BTreeMap, BTreeSet};

use planner::runtime::certificates::{self, Change, Fingerprint, Shown};

use super::pem::Certificate;
use super::shelf::Shelf;
use crate::haproxy::runtime::{RuntimeApi, RuntimeError};

/// What could not be changed, by path, with what HAProxy says.
pub(super) type NotDone = BTreeMap<String, String>;

/// Lets HAProxy have what the shelf has, without a reload. What it has already is left alone.
///
/// # Errors
/// When HAProxy cannot be spoken to.
pub(super) async fn bring(runtime: &RuntimeApi, shelf: &Shelf) -> Result<NotDone, RuntimeError> {
    let default = shelf.store.0.default.display().to_string();
    let list = shelf.store.0.list.display().to_string();
    let mut wanted: BTreeMap<String, &Certificate> = BTreeMap::new();
    for (name, certificate) in &shelf.good {
        wanted.insert(shelf.store.path(name).display().to_string(), certificate);
    }
    let others: BTreeSet<String> = wanted.keys().cloned().collect();
    wanted.extend(shelf.default.as_ref().map(|it| (default.clone(), it)));
    let replies = runtime.ask(&Shown::commands(&list)).await?;
    let reply = |index: usize| replies.get(index).map_or("", String::as_str);
    let shown = Shown::read(reply(0), reply(1));
    if shown.listed.is_none() {
        // the worker's text has no such front end yet; another worker will
        return Ok(NotDone::new());
    }
    let ours = format!("{}/", shelf.store.folder().display());
    if let Some(open) = shown.open.as_ref().filter(|open| open.starts_with(&ours)) {
        runtime.ask(&[certificates::abort(open)]).await?;
    }
    let known: Vec<&String> = wanted
        .keys()
        .filter(|path| shown.known.contains(*path) && !shelf.changed.contains(*path))
        .collect();
    let questions: Vec<String> = known.iter().map(|path| certificates::show(path)).collect();
    let replies = runtime.ask(&questions).await?;
    let running: BTreeMap<&String, Option<Fingerprint>> = known
        .into_iter()
        .zip(replies.iter().map(|reply| certificates::fingerprint(reply)))
        .collect();
    let stands = |path: &str| {
        let fingerprint = wanted.get(path).map(|certificate| certificate.fingerprint);
        let path = path.to_owned();
        running
            .get(&path)
            .is_some_and(|running| *running == fingerprint)
    };
    let mut not_done = NotDone::new();
    for change in certificates::changes(&shown, &default, &others, &ours, stands) {
        let pem = wanted.get(change.path()).map_or("", |it| it.pem.as_str());
        match carry_out(runtime, &change, &list, pem).await? {
            Ok(()) => tracing::info!(
                certificate = change.path(),
                "HAProxy has it: {}",
                word(&change)
            ),
            Err(said) => {
                not_done.insert(change.path().to_owned(), said);
            }
        }
    }
    Ok(not_done)
}

fn word(change: &Change) -> &'static str {
    match change {
        Change::Replace(_) => "replaced",
        Change::Add(_) => "added",
        Change::Remove(_) => "taken away",
    }
}

async fn carry_out(
    runtime: &RuntimeApi,
    change: &Change,
    list: &str,
    pem: &str,
) -> Result<Result<(), String>, RuntimeError> {
    for words in change.commands(list, pem) {
        let replies = runtime.ask(std::slice::from_ref(&words.text)).await?;
        let reply = replies.first().map_or("", String::as_str);
        if let Err(said) = words.judge(reply) {
            if !matches!(change, Change::Remove(_)) {
                runtime.ask(&[certificates::abort(change.path())]).await?;
            }
            return Ok(Err(said));
        }
    }
    Ok(Ok(()))
}
