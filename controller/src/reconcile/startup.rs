//! The start: what an earlier run and the file on the disk say, so that nothing is taken out by a restart.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serf_rpc::{ConnectOptions, Snapshot, WatchOptions, Watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::control::{Control, Published};
use crate::guard::Guard;
use crate::haproxy::Stamp;
use crate::haproxy::file::{ConfigFile, Owner};
use crate::haproxy::runtime::RuntimeApi;
use crate::model::{Key, Model, Place};
use crate::pace::Pace;
use crate::plan::{ConfigText, Plan};
use crate::probe::Prober;
use crate::render::{FIRST_LINE, Renderer};
use crate::state::StateDir;
use crate::status::Counters;

use super::design::Design;
use super::{Inputs, Problems, Reconciler, Retry, RunError, RunOptions, Text, chain};

/// Takes the state directory and the file, and starts everything that runs beside the loop.
pub(super) fn start(config: Config, options: RunOptions) -> Result<(Reconciler, Inputs), RunError> {
    let config = Arc::new(config);
    let renderer = Arc::new(Renderer::load(&config)?);
    let design = Design { config: Arc::clone(&config), renderer };
    let state = StateDir::open(&config.state.dir)?;
    let file = ConfigFile::new(config.haproxy.config.clone());
    let on_disk = own_file(&file, options.adopt)?;
    let saved = state.load_memory();
    let snapshot = Snapshot::restored(saved.members.iter().cloned(), SystemTime::now());
    let watcher = watch(&config, snapshot.clone())?;
    let now = Instant::now();
    let mut guard = Guard::new(design.rules());
    for (key, place) in servers_before(&saved.in_rotation, on_disk.as_ref()) {
        guard.adopt(key, place, now);
    }
    let (prober, found) = Prober::new();
    let (published, seen) = watch::channel(Arc::new(Published::default()));
    let mut tasks = JoinSet::new();
    match Control::bind(&config.control.socket) {
        Ok(control) => {
            tasks.spawn(control.serve(seen));
        }
        Err(error) => tracing::warn!(error = %chain(&error), "going on without a control socket"),
    }
    let inputs = Inputs { snapshots: watcher.snapshots(), found };
    let mut reconciler = Reconciler {
        guard,
        prober,
        additions: Pace::eager(design.quiet()),
        writes: Pace::patient(design.quiet()),
        runtime: RuntimeApi::new(config.haproxy.stats_socket.clone()),
        next_drift: now + config.drift.interval,
        options,
        design,
        fallback: None,
        watcher,
        snapshot: Arc::new(snapshot),
        model: Model::default(),
        decisions: Default::default(),
        file,
        state,
        saved,
        wanted: None,
        on_disk,
        texts: BTreeMap::new(),
        worker: None,
        added: Default::default(),
        accepts_add: BTreeMap::new(),
        plan: Plan::default(),
        jobs: JoinSet::new(),
        retry: Retry::default(),
        write_retry: Retry::default(),
        refusals: 0,
        refused: None,
        last_reload: None,
        problems: Problems::default(),
        counters: Counters::default(),
        published,
        tasks,
        ready: false,
    };
    reconciler.select();
    Ok((reconciler, inputs))
}

/// Follows the membership of the configured agents, from what is known.
pub(super) fn watch(config: &Config, known: Snapshot) -> Result<Watcher, RunError> {
    let key = match &config.serf.auth_key_file {
        Some(path) => {
            let key = fs::read_to_string(path)
                .map_err(|source| RunError::AuthKey { path: path.clone(), source })?;
            Some(key.trim_end().to_owned())
        }
        None => None,
    };
    let agents = config
        .serf
        .addr
        .iter()
        .map(|addr| {
            let agent = ConnectOptions::new(addr.clone());
            match &key {
                Some(key) => agent.auth_key(key.clone()),
                None => agent,
            }
        })
        .collect();
    Ok(Watcher::spawn(WatchOptions::new(agents).resync(config.serf.resync).seed(known)))
}

/// The text on the disk where it is ours; a file of somebody else's is an error, or is taken over where that is asked.
fn own_file(file: &ConfigFile, adopt: bool) -> Result<Option<Text>, RunError> {
    if file.owner(FIRST_LINE)? == Owner::Foreign {
        if !adopt {
            return Err(file.refuse_foreign().into());
        }
        let copy = file.adopt()?;
        tracing::info!(path = %file.path().display(), copy = %copy.display(), "took over a file of somebody else's");
        return Ok(None);
    }
    let Some(text) = file.read()? else { return Ok(None) };
    let parsed = Arc::new(ConfigText::parse(&text));
    let stamp = parsed.stamp().cloned().unwrap_or_else(|| Stamp::of(""));
    Ok(Some(Text { stamp, text: text.into(), parsed }))
}

/// The servers that had traffic when the controller was last there: by its own book, or else by its own file.
fn servers_before(book: &BTreeMap<Key, Place>, on_disk: Option<&Text>) -> BTreeMap<Key, Place> {
    if !book.is_empty() {
        return book.clone();
    }
    let Some(text) = on_disk else { return BTreeMap::new() };
    text.parsed
        .all_servers()
        .filter(|(_, line)| !line.disabled)
        .filter_map(|(key, line)| Some((key, Place { addr: line.addr?, weight: line.weight? })))
        .collect()
}
