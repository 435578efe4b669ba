//! Another config and other templates: read on SIGHUP, taken, proven or given up together.

use planner::config::Config;

use super::advice;
use super::feed::{MembershipFeed, News};
use super::{Reconciler, startup};
use crate::clock;
use crate::config;
use crate::error_chain::chain;
use crate::others::Others;
use crate::templates;
use crate::ways;

impl Reconciler {
    /// Reads config and templates again. What does not load leaves everything as it is.
    pub(super) async fn reload_config(&mut self) {
        tracing::info!(path = %self.options.config_path.display(), "reading config and template again");
        let before = self.desired.loaded();
        let config = match config::load(&self.options.config_path, self.options.env.clone()) {
            Ok(config) => before.beside_taken_over(config),
            Err(error) => return self.refuse_config(&error),
        };
        if let Err(error) = startup::refuse_exposed(&config, &self.options.config_path) {
            return self.refuse_config(&error);
        }
        let loaded = match templates::load(config) {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse_config(&error),
        };
        if let Some(flaw) = loaded.hides_stamp() {
            let problem = format!("the template before stays in force: {flaw}");
            self.journal
                .problems
                .set("template", problem, advice::CONFIG);
            return;
        }
        templates::warn(&loaded);
        self.journal.problems.clear("config");
        self.journal.problems.clear("design");
        self.certificates.set_config(&loaded.config).await;
        let before = self.desired.set_loaded(loaded);
        let after = &self.desired.loaded().config;
        let another_agent = agent(&before.config) != agent(after);
        if another_agent {
            let known = (**self.desired.snapshot()).clone();
            self.feed = MembershipFeed::new(after, known, self.journal.readers());
        }
        self.fallback.get_or_insert(before);
        self.say_fixed_keys();
        self.config_changed();
    }

    /// Goes on with what is in force, and says why until something else can be read.
    fn refuse_config(&mut self, error: &(dyn std::error::Error + 'static)) {
        let problem = format!("config or template cannot be used: {}", chain(error));
        self.journal.problems.set("config", problem, advice::CONFIG);
    }

    /// Says which keys wait for the next start.
    fn say_fixed_keys(&mut self) {
        let config = &self.desired.loaded().config;
        let keys = config.needs_restart(&self.started_with);
        if keys.is_empty() {
            self.journal.problems.clear("restart");
        } else {
            let problem = format!("changed, and not in force: {}", keys.join(", "));
            self.journal
                .problems
                .set("restart", problem, advice::RESTART);
        }
    }

    /// Goes back to the config before, if the one in force has not proven itself yet.
    pub(super) fn revert_config(&mut self, why: &str) {
        if let Some(fallback) = self.fallback.take() {
            let problem = format!("the config and template before are in force: {why}");
            self.journal.problems.set("design", problem, advice::CONFIG);
            self.certificates.take_back(&fallback.config);
            self.desired.set_loaded(fallback);
            self.config_changed();
        }
    }

    /// Lets the other owners know of the config in force.
    fn config_changed(&mut self) {
        self.journal.loaded_at = clock::now();
        self.web.config_changed();
        let loaded = self.desired.loaded();
        let state = self.journal.state();
        self.applier
            .set_runtime(ways::runtime_api(&loaded.config, state));
        let master = ways::master_socket(&loaded.config, state);
        self.installer
            .set_loaded(loaded, master.map(Into::into), state);
        match self.applier.worker().cloned() {
            Some(worker) => self.observe_others(&worker),
            None => {
                let named = &self.desired.loaded().config.haproxy.files;
                self.set_others(Others::now(named).files);
            }
        }
        // What was more than `max_members` may not be any more, and the other way round.
        let members = self.feed.snapshots().latest();
        self.observe_news(News::Members(members));
        self.select();
    }
}

/// What decides which agents are asked, and how.
fn agent(config: &Config) -> impl PartialEq + use<'_> {
    let serf = &config.serf;
    (&serf.addr, &serf.auth_key_file, serf.resync)
}
