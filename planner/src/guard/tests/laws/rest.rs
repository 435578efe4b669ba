//! Whoever is at rest would not be decided about otherwise if he were not.

use super::*;

/// What one of two guards is told beside a step.
#[derive(Clone, Debug)]
struct Turn {
    step: Step,
    /// As many as may be in rotation from now on.
    max_servers: Option<usize>,
    /// HAProxy has a server of this name by another hand.
    appears: Option<(usize, Admin)>,
    /// The prober asks for news.
    asks: bool,
}

fn turn() -> impl Strategy<Value = Turn> {
    let max_servers = prop::option::weighted(0.05, 1..5_usize);
    let admin = prop_oneof![Just(Admin::Ready), Just(Admin::Drain), Just(Admin::Maint)];
    let appears = prop::option::weighted(0.05, (0..NAMES.len(), admin));
    let turn = (step(), max_servers, appears, any::<bool>());
    turn.prop_map(|(step, max_servers, appears, asks)| Turn {
        step,
        max_servers,
        appears,
        asks,
    })
}

impl World {
    /// Takes a turn, and does what is decided then; who may rest is woken before everything where nobody rests.
    fn turn(&mut self, turn: &Turn, rests: bool) -> Decisions {
        let wake = |world: &mut Self| {
            if !rests {
                world.scene.guard.wake_all();
            }
        };
        wake(self);
        if let Some(max_servers) = turn.max_servers {
            let mut rules = self.backend().rules.clone();
            rules.guard.max_servers = max_servers;
            self.scene.set_rules(rules);
        }
        self.take(&turn.step);
        if let Some((who, admin)) = turn.appears {
            self.runs(who, admin, Check::Up, addr(NAMES[who]));
        }
        wake(self);
        let scene = &mut self.scene;
        scene.guard.observe_members(&scene.model, scene.now);
        wake(self);
        let scene = &mut self.scene;
        scene.guard.observe_running(&scene.running, scene.now);
        wake(self);
        let decisions = self.scene.guard.decide(self.scene.now).whole();
        self.apply(&decisions);
        wake(self);
        decisions
    }

    /// Nothing is to be done about those at rest, now or later.
    fn is_quiet(&self) -> bool {
        let rules = &self.backend().rules;
        let mut resting = self.backend().rest.iter();
        resting.all(|(_, server)| {
            let waits_for_time = server.poll(rules).is_some() || server.deadline(rules).is_some();
            server.decision(rules).line.is_none() && !waits_for_time
        })
    }

    /// What the next process is to know.
    fn remembered(&self) -> String {
        let (guard, now) = (&self.scene.guard, self.scene.now);
        let in_rotation: Vec<_> = guard.in_rotation().collect();
        let words: Vec<_> = guard.words(now).collect();
        let removals: Vec<_> = guard.removals().collect();
        let owners: Vec<_> = guard.absent_owners().collect();
        format!("{in_rotation:?} {words:?} {removals:?} {owners:?}")
    }
}

/// Plays the same turns to a guard that lets servers rest and to one that does not.
fn play(rules: Rules, serving: usize, turns: &[Turn]) -> Result<(), TestCaseError> {
    let mut resting = World::with(rules, serving);
    let mut restless = resting.clone();
    let mut asked = BTreeMap::new();
    for turn in turns {
        let decisions = resting.turn(turn, true);
        prop_assert_eq!(decisions, restless.turn(turn, false));
        prop_assert!(resting.is_quiet());
        prop_assert_eq!(resting.mattered, restless.mattered);
        prop_assert_eq!(resting.remembered(), restless.remembered());
        let (guard, now) = (&mut resting.scene.guard, resting.scene.now);
        prop_assert_eq!(guard.wants_stat(), restless.scene.guard.wants_stat());
        prop_assert_eq!(guard.targets(now), restless.scene.guard.targets(now));
        if !turn.asks {
            continue;
        }
        for (key, target) in guard.probe_news(now) {
            match target {
                Some(target) => asked.insert(key, target),
                None => asked.remove(&key),
            };
        }
        prop_assert_eq!(&asked, &guard.targets(now), "the news are all that is new");
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: histories(), ..Config::default() })]

    #[test]
    fn who_rests_is_decided_about_as_if_he_did_not(
        checked in any::<bool>(),
        admits in prop_oneof![4 => Just(Admits::Probe), 1 => Just(Admits::GoodCheck), 1 => Just(Admits::AnyCheck)],
        (min_servers, max_servers) in (0..4_usize, 1..5_usize),
        serving in 0..=PLACES,
        turns in prop::collection::vec(turn(), 1..120),
    ) {
        let mut rules = rules(checked || admits != Admits::Probe);
        rules.admits = admits;
        rules.guard.min_servers = min_servers;
        rules.guard.max_servers = max_servers;
        play(rules, serving, &turns)?;
    }
}
