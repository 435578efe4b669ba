//! Plans carried out on the fake HAProxy: whatever is wanted one after the other, it runs at last what a fresh one would.

use fake_haproxy::{FakeHaproxy, Haproxy, Version};
use planner::model::{AddedOptions, WantedAdmins};
use planner::plan::{Input, Plan, draft, plan};
use planner::syntax::ConfigText;
use proptest::prelude::*;

use super::*;

/// How many times a plan is made before what is wanted has to run.
const ROUNDS: usize = 6;

/// The servers of both backends, by number: where they are, what their lines say.
type RequestedState = [BTreeMap<u8, (u8, &'static str)>; 2];

/// What comes between while a wish is carried out.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    /// Somebody else does this.
    Command(&'static str),
    /// Somebody else reloads what is on the disk.
    Reload,
}

/// Lines that differ in what can be set on a server that is there, or in anything.
const VALUES: &[&str] = &[
    "",
    "weight 0",
    "weight 256",
    "maxconn 5",
    "disabled",
    "weight 9 maxconn 7",
];
const OPTIONS: &[&str] = &[
    "",
    "weight 3",
    "disabled",
    "no-check",
    "inter 3s backup",
    "agent-check agent-port 9",
];

fn wish(options: &'static [&'static str]) -> impl Strategy<Value = RequestedState> {
    let options = prop::sample::select(options);
    let servers = move || prop::collection::btree_map(0u8..5, (1u8..4, options.clone()), 0..5);
    [servers(), servers()]
}

fn between() -> impl Strategy<Value = Between> {
    prop::sample::select(vec![
        Between::Nothing,
        Between::Nothing,
        Between::Command("set server one/s1 weight 99"),
        Between::Command("set server two/s2 state drain"),
        Between::Command("del server one/s3"),
        Between::Command("add server one/s4 10.0.0.9:99"),
        Between::Command("disable health one/s1"),
        Between::Reload,
    ])
}

fn text(wish: &RequestedState, balance: &str) -> String {
    let mut text = String::from(
        "global\ndescription \"serf-haproxy 0123456789abcdef\"\ndefaults base\ndefault-server check inter 1s\n",
    );
    for (name, servers) in ["one", "two"].iter().zip(wish) {
        text += &format!("backend {name} from base\nbalance {balance}\n");
        for (number, (place, options)) in servers {
            text += &format!("server s{number} 10.0.0.{place}:80 {options}\n");
        }
    }
    text
}

/// A controller's part: what it knows of the worker, and what it wants.
struct Hand {
    fake: FakeHaproxy,
    api: RuntimeApi,
    running: ConfigText,
    added: AddedOptions,
}

impl Hand {
    fn start(version: Version, text: &str) -> Self {
        let fake = FakeHaproxy::start(version, text).unwrap();
        let stats = fake.clone();
        Self {
            api: RuntimeApi::new(Socket::dialled("/stats", move || stats.stats())),
            running: ConfigText::parse(text),
            added: AddedOptions::new(),
            fake,
        }
    }

    async fn draft(&self, wanted: &ConfigText) -> (Worker, Plan) {
        let state = self.api.read(true).await.unwrap();
        let admins = WantedAdmins::new();
        let mut input = Input {
            version: state.worker.version,
            running: Some(&self.running),
            servers: &state.servers,
            added: &self.added,
            wanted,
            admins: &admins,
            accepts_add: &BTreeMap::new(),
            on_disk: Some(wanted),
            retired_max: 100,
        };
        let unknown: Vec<BackendName> = draft(&input).unprobed.into_iter().collect();
        let accepts = self.api.accepts_add(&unknown).await.unwrap();
        input.accepts_add = &accepts;
        (state.worker, plan(&input))
    }

    /// Plans and executes until nothing is left; says how many reloads it took.
    async fn follow(&mut self, text: &str, between: Between) -> usize {
        let wanted = ConfigText::parse(text);
        self.fake.with(|haproxy| {
            haproxy.write(text);
            haproxy.after("set server", move |haproxy: &mut Haproxy| match between {
                Between::Nothing => {}
                Between::Command(line) => drop(haproxy.run(line)),
                Between::Reload => drop(haproxy.reload_now()),
            });
        });
        let mut reloads = 0;
        for _ in 0..ROUNDS {
            let (worker, plan) = self.draft(&wanted).await;
            let done = self.api.execute(&worker, &plan.steps).await;
            match done {
                Ok(done) => self.note(&plan.steps, &done.refused),
                Err(error) => {
                    assert!(error.worker_changed(), "{error}");
                    (self.running, self.added) = (wanted.clone(), AddedOptions::new());
                    continue;
                }
            }
            if !plan.reload.is_empty() {
                reloads += 1;
                assert!(self.fake.with(Haproxy::reload_now));
                (self.running, self.added) = (wanted.clone(), AddedOptions::new());
            } else if plan.steps.is_empty() {
                return reloads;
            }
        }
        let (_, plan) = self.draft(&wanted).await;
        panic!("still not settled:\n{plan}");
    }

    fn note(&mut self, steps: &[Step], refused: &[(Step, Refusal)]) {
        let done = steps
            .iter()
            .filter(|step| !refused.iter().any(|(not, _)| not == *step));
        for step in done {
            let key = step.key();
            match &step.action {
                Action::Add { options, .. } => drop(self.added.insert(key, options.clone())),
                Action::Delete => drop(self.added.remove(&key)),
                _ => {}
            }
        }
    }
}

/// Every server but those in maint: where it is, its admin state and weight, its limit, and whether it is checked.
fn seen(fake: &FakeHaproxy) -> Vec<String> {
    let (states, stats) =
        fake.with(|haproxy| (haproxy.run("show servers state"), haproxy.run("show stat")));
    let limits = reply::stat(&stats).unwrap().servers;
    let lines = states.lines().skip(2).map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |column: usize| words[column].parse::<u32>().unwrap();
        let (admin, check, agent) = (number(6) & 9, number(13) & 6, number(14) & 6);
        let maxconn = limits[words[1]][words[3]].maxconn;
        // While its agent is asked, the weight is the agent's, and nobody's to repair.
        let weight = if agent == 6 { "its agent's" } else { words[7] };
        let shown = format!(
            "{}/{} {}:{} admin {admin} weight {weight} maxconn {maxconn:?} check {check} agent {agent}",
            words[1], words[3], words[4], words[18]
        );
        (admin != 1).then_some(shown)
    });
    let mut lines: Vec<String> = lines.flatten().collect();
    lines.sort();
    lines
}

fn live_through(
    version: Version,
    balance: &str,
    wishes: &[(RequestedState, Between, u64)],
) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut hand = Hand::start(version, &text(&RequestedState::default(), balance));
        let mut reloads = 0;
        for (wish, between, in_flight) in wishes {
            let text = text(wish, balance);
            let busy = *in_flight;
            hand.fake
                .with(|haproxy| haproxy.in_flight("one", "s1", busy));
            reloads += hand.follow(&text, *between).await;
            let fresh = FakeHaproxy::start(version, &text).unwrap();
            assert_eq!(seen(&hand.fake), seen(&fresh), "{version:?}\n{text}");
        }
        reloads
    })
}

/// Each case is a life of its own: fewer than elsewhere, unless `PROPTEST_CASES` says how many.
fn few() -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(60),
    }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn what_is_planned_and_executed_is_what_a_reload_would_bring(
        wishes in prop::collection::vec((prop_oneof![wish(OPTIONS), wish(VALUES)], between(), 0u64..2), 1..5),
        version in prop::sample::select(Version::ALL.to_vec()),
        balance in prop::sample::select(vec!["roundrobin", "leastconn", "static-rr", "rdp-cookie(x)", "uri"]),
    ) {
        live_through(version, balance, &wishes);
    }

    #[test]
    fn where_servers_are_taken_at_runtime_nothing_is_reloaded(
        wishes in prop::collection::vec((wish(VALUES), Just(Between::Nothing), 0u64..2), 1..5),
        version in prop::sample::select(Version::ALL.to_vec()),
    ) {
        prop_assert_eq!(live_through(version, "leastconn", &wishes), 0);
    }
}
