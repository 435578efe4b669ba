//! The comparison itself: what runs and what is wanted in, a [`Draft`] out. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::skeleton::Changes;
use super::{Draft, Input, ReloadReason};
use crate::model::{
    Action, Admin, BackendName, Check, RunningServer, ServerKey, ServerName, Step, WantedAdmin,
};
use crate::syntax::keywords::V3_0;
use crate::syntax::options::{Options, Settings};
use crate::syntax::text::{Section, ServerLine};

pub(super) fn draft(input: &Input<'_>) -> Draft {
    let mut draft = Draft::default();
    let mut reasons = BTreeSet::new();
    if input.running.is_none() {
        reasons.insert(ReloadReason::UnknownWorker { server: None });
    }
    let changes = input
        .running
        .map(|running| Changes::between(running, input.wanted))
        .unwrap_or_default();
    let tracked = tracked_by_added(input);
    for name in input.wanted.backends() {
        let wanted = input
            .wanted
            .section(name)
            .filter(|section| section.opaque().is_none());
        if let (Some(wanted), Some(servers)) = (wanted, changeable(input, name)) {
            let reshaped = input
                .wanted
                .chain(wanted)
                .any(|section| changes.contains(section));
            let mut backend = Backend::new(input, name, &tracked, reshaped);
            backend.compare(wanted, servers);
            draft.take(backend, &mut reasons);
        }
    }
    reasons.extend(changes.into_reasons());
    draft.plan.reload = reasons.into_iter().collect();
    draft
}

/// The running servers of a backend, if that backend runs and may be touched.
fn changeable<'a>(
    input: &Input<'a>,
    name: &BackendName,
) -> Option<&'a BTreeMap<String, RunningServer>> {
    static NO_SERVERS: BTreeMap<String, RunningServer> = BTreeMap::new();
    let servers = input.servers.get(name.as_str());
    match input.running {
        // An unknown worker surely has a backend only if it shows servers in it.
        None => servers,
        Some(running) => {
            running
                .section(name)
                .filter(|section| section.opaque().is_none())?;
            Some(servers.unwrap_or(&NO_SERVERS))
        }
    }
}

impl Draft {
    fn take(&mut self, backend: Backend<'_>, reasons: &mut BTreeSet<ReloadReason>) {
        let steps = backend.lanes.into_values().flatten();
        let before = self.plan.steps.len();
        self.plan.steps.extend(steps);
        let depends = |step: &Step| {
            matches!(
                step.action,
                Action::Add { .. } | Action::Weight(_) | Action::Delete
            )
        };
        if backend.accepts_add.is_none() && self.plan.steps.iter().skip(before).any(depends) {
            self.unprobed.insert(backend.name.clone());
        }
        self.wants_stat |= backend.wants_stat;
        reasons.extend(backend.reasons);
    }
}

/// The servers that servers added at runtime track: HAProxy does not delete them either.
fn tracked_by_added(input: &Input<'_>) -> BTreeSet<ServerKey> {
    let tracks = |(ServerKey { backend, server }, words): (&ServerKey, &Vec<String>)| {
        input.servers.get(backend.as_str())?.get(server.as_str())?;
        let target = words.iter().skip_while(|word| *word != "track").nth(1)?;
        let (other, name) = target.split_once('/').unwrap_or((backend.as_str(), target));
        ServerKey::read(other, name)
    };
    input.added.iter().filter_map(tracks).collect()
}

/// Where a step stands in the order of a backend.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StepGroup {
    Enter,
    Change,
    Leave,
    Delete,
}

struct Backend<'a> {
    input: &'a Input<'a>,
    name: &'a BackendName,
    tracked: &'a BTreeSet<ServerKey>,
    accepts_add: Option<bool>,
    /// Whether its section, or one it inherits from, differs from the running one.
    reshaped: bool,
    lanes: BTreeMap<StepGroup, Vec<Step>>,
    reasons: Vec<ReloadReason>,
    retired: usize,
    wants_stat: bool,
}

impl<'a> Backend<'a> {
    fn new(
        input: &'a Input<'a>,
        name: &'a BackendName,
        tracked: &'a BTreeSet<ServerKey>,
        reshaped: bool,
    ) -> Self {
        Self {
            input,
            name,
            tracked,
            accepts_add: input
                .accepts_add
                .get(name)
                .copied()
                .or_else(|| input.running?.takes_servers(name)),
            reshaped,
            lanes: BTreeMap::new(),
            reasons: Vec::new(),
            retired: 0,
            wants_stat: false,
        }
    }

    fn compare(&mut self, wanted: &Section, servers: &BTreeMap<String, RunningServer>) {
        for line in wanted.servers().values() {
            match servers.get(line.name.as_str()) {
                None => self.add(line),
                Some(server) => self.settle(line, server),
            }
        }
        let gone = servers
            .iter()
            .filter_map(|(name, server)| Some((ServerName::new(name)?, server)));
        for (name, server) in gone.filter(|(name, _)| !wanted.servers().contains_key(name)) {
            self.remove(&name, server);
        }
        if self.retired > self.input.retired_max {
            self.reasons.push(ReloadReason::RetiredFull {
                backend: self.name.clone(),
                retired: self.retired,
            });
        }
    }

    /// A server of the text that does not run.
    fn add(&mut self, line: &ServerLine) {
        if let Some(reason) = self.refusal(line) {
            return self.reasons.push(reason);
        }
        let mut actions = self.addition(line);
        actions.extend(self.entry(line));
        self.push(StepGroup::Enter, &line.name, actions);
    }

    /// Adds a server, and gives it the value of its cookie where HAProxy does not.
    fn addition(&self, line: &ServerLine) -> Vec<Action> {
        let key = self.dynamic_cookie().flatten();
        let key = key.filter(|_| self.input.version < V3_0);
        let key = key.map(|key| Action::CookieKey(key.to_owned()));
        std::iter::once(self.add_action(line)).chain(key).collect()
    }

    fn add_action(&self, line: &ServerLine) -> Action {
        let options = line
            .options
            .words_to_add(self.input.version, line.weight, line.maxconn);
        Action::Add {
            addr: line.addr,
            options,
        }
    }

    /// What takes a server that was added just now to its wanted state.
    fn entry(&self, line: &ServerLine) -> Vec<Action> {
        let check = line.options.check();
        let drain = |keep_check| vec![Action::Drain { check, keep_check }];
        match self.wanted_admin(line) {
            WantedAdmin::Ready if line.options.agent_check() => {
                vec![Action::Ready { check }, Action::Agent { asked: true }]
            }
            WantedAdmin::Ready => vec![Action::Ready { check }],
            WantedAdmin::Waiting => drain(true),
            WantedAdmin::Drain => drain(false),
            WantedAdmin::Maint | WantedAdmin::Cut => Vec::new(),
        }
    }

    /// Why the server cannot be added to what runs.
    fn refusal(&self, line: &ServerLine) -> Option<ReloadReason> {
        let (backend, server) = (self.name.clone(), line.name.clone());
        if self.accepts_add == Some(false) {
            return Some(ReloadReason::StaticBalance { backend });
        }
        if let Some(keyword) = self.not_dynamic(&line.options) {
            return Some(ReloadReason::KeywordNotDynamic {
                backend,
                server,
                keyword,
            });
        }
        let running = self.input.running?;
        let (_, file) = line
            .options
            .files()
            .find(|(keyword, file)| !running.loads(keyword, file))?;
        Some(ReloadReason::FileNotLoaded {
            backend,
            server,
            file: file.to_owned(),
        })
    }

    /// The first keyword that keeps a server from being added.
    fn not_dynamic(&self, options: &Options) -> Option<String> {
        if let Some(keyword) = options.not_dynamic(self.input.version).next() {
            return Some(keyword.to_owned());
        }
        if options
            .track()
            .is_some_and(|(backend, server)| !self.is_trackable(backend, server))
        {
            return Some("track".to_owned());
        }
        let lacks_key = self.dynamic_cookie() == Some(None);
        (lacks_key && self.input.version < V3_0).then(|| "dynamic-cookie-key".to_owned())
    }

    /// Where the worker makes the values of cookies itself: the key that it makes them with, unless that cannot be told.
    fn dynamic_cookie(&self) -> Option<Option<&'a str>> {
        let text = self.input.running.unwrap_or(self.input.wanted);
        let section = text.section(self.name)?;
        let words = text.setting(section, "cookie")?;
        let is_dynamic = words.split(' ').any(|word| word == "dynamic");
        let key = || {
            let key = text.setting(section, "dynamic-cookie-key")?;
            (!key.contains([' ', '"', '\'', '\\', '$'])).then_some(key)
        };
        is_dynamic.then(key)
    }

    /// Only a server that the worker started with can be tracked by an added one.
    fn is_trackable(&self, backend: Option<&str>, server: &str) -> bool {
        let backend = backend.map_or_else(|| Some(self.name.clone()), BackendName::new);
        let (Some(backend), Some(server), Some(running)) =
            (backend, ServerName::new(server), self.input.running)
        else {
            return false;
        };
        if running.has_fixed(&backend, &server) {
            return true;
        }
        let runs = self
            .input
            .servers
            .get(backend.as_str())
            .is_some_and(|s| s.contains_key(server.as_str()));
        runs && running.server(&backend, &server).is_some()
            && !self
                .input
                .added
                .contains_key(&ServerKey { backend, server })
    }

    /// The options a running server has, where they are known.
    fn known_options(&self, name: &ServerName) -> Option<(Options, Option<u32>)> {
        if let Some(words) = self.input.added.get(&ServerKey::new(self.name, name)) {
            let settings = Settings::of_words(words.iter().map(String::as_str)).ok()?;
            return Some((settings.options, settings.maxconn));
        }
        let line = self.input.running?.server(self.name, name)?;
        Some((line.options.clone(), line.maxconn))
    }

    /// A server that runs and that the text lists.
    fn settle(&mut self, line: &ServerLine, server: &RunningServer) {
        let known = self.known_options(&line.name);
        // what an agent says of the weight is a share of the initial one, which no command changes
        let reweighted = server
            .agent
            .is_some_and(|agent| agent.initial_weight != line.weight.get());
        let same = !reweighted
            && known
                .as_ref()
                .is_some_and(|(options, _)| *options == line.options);
        let wanted = self.wanted_admin(line);
        if server.stat.is_none() {
            let maxconn_differs = known
                .as_ref()
                .is_none_or(|(_, maxconn)| *maxconn != line.maxconn);
            let admission = wanted == WantedAdmin::Waiting && server.admin == Admin::Drain;
            self.wants_stat |= maxconn_differs || admission;
        }
        if same {
            return self.change(line, server, wanted, line.options.check());
        }
        if server.admin == Admin::Maint && self.is_replaceable(&line.name, line) {
            match in_flight(server) {
                Some(0) => return self.replace(line, server),
                None => return self.wants_stat = true,
                Some(_) => {}
            }
        }
        let enters = server.admin == Admin::Maint
            && !matches!(wanted, WantedAdmin::Maint | WantedAdmin::Cut);
        let options = known.map(|(options, _)| options);
        self.options_differ(line, options.as_ref(), enters);
        if !enters {
            let check = options.as_ref().unwrap_or(&line.options).check();
            self.change(line, server, wanted, check);
        }
    }

    fn options_differ(&mut self, line: &ServerLine, running: Option<&Options>, enters: bool) {
        let (backend, server) = (self.name.clone(), line.name.clone());
        let reason = match running {
            None if self.input.running.is_none() => return,
            None => ReloadReason::UnknownWorker {
                server: Some(ServerKey { backend, server }),
            },
            Some(_) if self.reshaped => return,
            Some(_) if enters => ReloadReason::RetiredOptionsDiffer { backend, server },
            Some(options) => {
                let keyword = options
                    .difference(&line.options)
                    .unwrap_or("weight")
                    .to_owned();
                ReloadReason::ServerOptionChanged {
                    backend,
                    server,
                    keyword,
                }
            }
        };
        self.reasons.push(reason);
    }

    /// Whether a server in maint may be deleted and added again with other options.
    fn is_replaceable(&self, name: &ServerName, line: &ServerLine) -> bool {
        self.is_deletable(name) && self.refusal(line).is_none()
    }

    fn replace(&mut self, line: &ServerLine, server: &RunningServer) {
        let silence = server.is_asked().then_some(Action::Agent { asked: false });
        let mut actions: Vec<Action> = silence.into_iter().collect();
        actions.push(Action::Delete);
        actions.extend(self.addition(line));
        actions.extend(self.entry(line));
        self.push(StepGroup::Enter, &line.name, actions);
    }

    /// Takes a running server to the text's values and its wanted state; `check` is whether it has a check now.
    ///
    /// An agent is asked while its server is wanted ready, and then the admin state and the weight are the agent's. In all
    /// other states it is not asked, or it would undo them.
    fn change(
        &mut self,
        line: &ServerLine,
        server: &RunningServer,
        wanted: WantedAdmin,
        check: bool,
    ) {
        let moved = server.addr != Some(line.addr);
        let mut values: Vec<Action> = Vec::new();
        if moved {
            values.push(Action::Address(line.addr));
        }
        values.extend(self.weight(line, server));
        if let Some(stat) = server
            .stat
            .as_ref()
            .filter(|stat| stat.maxconn != line.maxconn)
        {
            values.push(Action::Maxconn(line.maxconn.unwrap_or(0)));
            debug_assert_ne!(stat.maxconn, line.maxconn);
        }
        let ready = Action::Ready { check };
        let drain = |keep_check| Action::Drain { check, keep_check };
        let admin = if wanted == WantedAdmin::Ready && is_agents(server) {
            Admin::Ready
        } else {
            server.admin
        };
        let (lane, before, after) = match (admin, wanted) {
            (Admin::Ready, WantedAdmin::Ready) if moved && server.admin == Admin::Ready => {
                (StepGroup::Change, Some(Action::Maint), Some(ready))
            }
            (Admin::Ready, WantedAdmin::Ready)
                if check && is_unchecked(server) && server.admin == Admin::Ready =>
            {
                (StepGroup::Change, None, Some(ready))
            }
            (Admin::Ready, WantedAdmin::Ready) => (StepGroup::Change, None, None),
            (_, WantedAdmin::Ready) => (StepGroup::Enter, None, Some(ready)),
            (Admin::Ready, WantedAdmin::Waiting) => (StepGroup::Leave, Some(drain(true)), None),
            (Admin::Ready, WantedAdmin::Drain) => (StepGroup::Leave, Some(drain(false)), None),
            (Admin::Maint, WantedAdmin::Waiting) => (StepGroup::Enter, None, Some(drain(true))),
            (Admin::Maint, WantedAdmin::Drain) => (StepGroup::Enter, None, Some(drain(false))),
            (Admin::Drain, WantedAdmin::Waiting) if check && is_unchecked(server) => {
                (StepGroup::Change, None, Some(drain(true)))
            }
            (Admin::Drain, WantedAdmin::Waiting | WantedAdmin::Drain) => {
                (StepGroup::Change, None, None)
            }
            (Admin::Maint, WantedAdmin::Maint | WantedAdmin::Cut) => {
                (StepGroup::Change, None, None)
            }
            (_, WantedAdmin::Maint | WantedAdmin::Cut) => {
                (StepGroup::Leave, Some(Action::Maint), None)
            }
        };
        let shut = (wanted == WantedAdmin::Cut && needs_shut(server)).then_some(Action::Shut);
        let asked = wanted == WantedAdmin::Ready;
        let agent = server.agent.filter(|agent| agent.asked != asked);
        let agent = agent.map(|_| Action::Agent { asked });
        let (silence, ask) = if asked { (None, agent) } else { (agent, None) };
        let actions = silence.into_iter().chain(before).chain(values);
        self.push(
            lane,
            &line.name,
            actions.chain(after).chain(ask).chain(shut),
        );
    }

    fn weight(&mut self, line: &ServerLine, server: &RunningServer) -> Option<Action> {
        if server.weight == line.weight.get() || server.agent.is_some() {
            return None;
        }
        if self.accepts_add == Some(false) {
            self.reasons.push(ReloadReason::StaticBalance {
                backend: self.name.clone(),
            });
            return None;
        }
        Some(Action::Weight(line.weight))
    }

    /// A server that runs and that the text does not list.
    fn remove(&mut self, name: &ServerName, server: &RunningServer) {
        let wanted = self
            .input
            .admins
            .get(&ServerKey::new(self.name, name))
            .copied();
        let silence = server.is_asked().then_some(Action::Agent { asked: false });
        self.push(StepGroup::Leave, name, silence);
        if wanted == Some(WantedAdmin::Drain) {
            if server.admin == Admin::Ready || server.is_asked() {
                let check = self
                    .known_options(name)
                    .is_none_or(|(options, _)| options.check());
                self.push(
                    StepGroup::Leave,
                    name,
                    [Action::Drain {
                        check,
                        keep_check: false,
                    }],
                );
            }
            return;
        }
        let shut = wanted == Some(WantedAdmin::Cut) && needs_shut(server);
        let maint = (server.admin != Admin::Maint).then_some(Action::Maint);
        self.push(
            StepGroup::Leave,
            name,
            maint.into_iter().chain(shut.then_some(Action::Shut)),
        );
        if self.is_referenced(name) {
            let (backend, server) = (self.name.clone(), name.clone());
            self.reasons
                .push(ReloadReason::Referenced { backend, server });
        } else if !self.is_deletable(name) {
            self.retired += 1;
        } else if self
            .input
            .on_disk
            .is_none_or(|text| text.server(self.name, name).is_none())
        {
            match in_flight(server) {
                Some(0) => self.push(StepGroup::Delete, name, [Action::Delete]),
                _ if shut => self.push(StepGroup::Delete, name, [Action::Delete]),
                None => self.wants_stat = true,
                Some(_) => {}
            }
        }
    }

    fn is_referenced(&self, name: &ServerName) -> bool {
        self.input
            .running
            .is_some_and(|running| running.references(self.name, name))
            || self.tracked.contains(&ServerKey::new(self.name, name))
    }

    /// Whether this server may be deleted: the version does it safely, nothing points to the server, and it could be
    /// added again as it was.
    fn is_deletable(&self, name: &ServerName) -> bool {
        self.input.version.deletes_servers()
            && self.input.running.is_some()
            && self.accepts_add != Some(false)
            && !self.is_referenced(name)
            && self
                .known_options(name)
                .is_none_or(|(options, _)| self.not_dynamic(&options).is_none())
    }

    fn wanted_admin(&self, line: &ServerLine) -> WantedAdmin {
        let by_line = if line.disabled {
            WantedAdmin::Maint
        } else {
            WantedAdmin::Ready
        };
        self.input
            .admins
            .get(&ServerKey::new(self.name, &line.name))
            .copied()
            .unwrap_or(by_line)
    }

    fn push(
        &mut self,
        lane: StepGroup,
        server: &ServerName,
        actions: impl IntoIterator<Item = Action>,
    ) {
        let step = |action| Step {
            backend: self.name.clone(),
            server: server.clone(),
            action,
        };
        let steps: Vec<Step> = actions.into_iter().map(step).collect();
        self.lanes.entry(lane).or_default().extend(steps);
    }
}

/// Whether the admin state is what its agent said last, rather than what the file or we said.
fn is_agents(server: &RunningServer) -> bool {
    let by_file = server.agent.is_some_and(|agent| agent.by_file);
    server.is_asked() && !(by_file && server.admin == Admin::Maint)
}

fn in_flight(server: &RunningServer) -> Option<u64> {
    server.stat.as_ref().map(|stat| stat.in_flight)
}

/// Sessions are shut when the server leaves, and again while some are known to be left.
fn needs_shut(server: &RunningServer) -> bool {
    server.admin != Admin::Maint || in_flight(server).is_some_and(|n| n > 0)
}

/// Whether no check of HAProxy's has said anything, maybe because it is switched off.
fn is_unchecked(server: &RunningServer) -> bool {
    server
        .stat
        .as_ref()
        .is_some_and(|stat| stat.check == Check::None)
}
