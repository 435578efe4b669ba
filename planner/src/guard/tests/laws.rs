//! What holds in every history: random ones, played against a HAProxy that does what it is told.

use proptest::prelude::*;
use proptest::test_runner::Config;

use std::collections::BTreeSet;

use super::*;
use crate::guard::server::ServerState;

mod rest;
mod world;

use world::{NAMES, PLACES, Seen, Step, Web, World, place_of, step};

/// Decides, and compares with how it was before.
fn decide(world: &mut World) -> Result<(), TestCaseError> {
    world
        .scene
        .guard
        .observe_members(&world.scene.model, world.scene.now);
    let running = world.scene.running.clone();
    world.scene.guard.observe_running(&running, world.scene.now);
    let before = world.see();
    let decisions = world.scene.guard.decide(world.scene.now).whole();
    let again = world.scene.guard.decide(world.scene.now).whole();
    prop_assert!(decisions == again, "a decision changed without news");
    let after = world.see();
    // Who moves to its new address serves all the while.
    let serves = |(before, after): &(&Seen, &Seen)| {
        after.serves || before.serves && after.phase == Some(Phase::In) && !after.dead
    };
    let serving = before.iter().zip(&after).filter(serves);
    let serving: BTreeSet<_> = serving.map(|(_, after)| after.addr).collect();
    let serving = serving.len();
    let mut alone = 0;
    for (who, name) in NAMES.iter().enumerate() {
        let went = before[who].phase == Some(Phase::In) && !world.in_rotation(who);
        if went && !world.is_meant(who) {
            let decision = decisions.servers.get(&key(name));
            let why = decision.map(|decision| decision.status.why.clone());
            alone += usize::from(went_by_right(world, who, before[who], why, serving)?);
        }
        not_shut_unless_dead(world, who, before[who], &decisions)?;
        dead_by_two_witnesses_are_out(world, who, before[who], &decisions)?;
    }
    let view = decisions.budgets.values().next().copied().unwrap();
    prop_assert!(
        alone == 0 || view.used <= view.limit,
        "{alone} beyond the budget"
    );
    // A web server counts once, whatever it is called, and not where its member says that it is elsewhere now.
    let stayed = |who: &usize| {
        let moved = after[*who]
            .addr
            .is_some_and(|addr| before[*who].addr != Some(addr));
        before[*who].serves && !world.is_meant(*who) && !moved
    };
    let served: BTreeSet<_> = (0..NAMES.len())
        .filter(stayed)
        .map(|who| before[who].addr)
        .collect();
    let served = served.len();
    prop_assert!(
        serving >= world.least().min(served),
        "below the floor: {serving} of {served} serve: {before:#?} {decisions:#?}"
    );
    one_member_an_address(world, &decisions)?;
    world.apply(&decisions);
    world.intended.fill(false);
    Ok(())
}

/// Whether a server that went without intent went on one witness's word; an error where it should not have gone.
fn went_by_right(
    world: &World,
    who: usize,
    before: Seen,
    why: Option<Why>,
    serving: usize,
) -> Result<bool, TestCaseError> {
    let gossip = world.server(who).map(|server| server.gossip);
    match &why {
        Some(Why::Dead) => {
            prop_assert!(gossip != Some(SerfStatus::Alive) && before.dead);
            Ok(false)
        }
        Some(Why::Leaves) => {
            prop_assert!(matches!(
                gossip,
                Some(SerfStatus::Leaving | SerfStatus::Left)
            ));
            prop_assert!(before.dead || serving >= world.least(), "the last one left");
            Ok(false)
        }
        Some(Why::Deselected) => {
            prop_assert!(!before.picked);
            prop_assert!(before.dead || serving >= world.least().max(1));
            Ok(!before.dead)
        }
        Some(Why::Replaced { by: heir, .. }) => {
            let server = world.servers()[heir];
            prop_assert!(server.phase == Phase::In && server.runs() && server.is_wanted());
            prop_assert_eq!(
                server.endpoint.addr,
                world.server(who).unwrap().endpoint.addr
            );
            Ok(false)
        }
        Some(Why::AddressTaken(other)) => {
            // Somebody who runs there goes on. Who is named may have come in just now, with a better claim still.
            let servers = world.servers();
            let there = servers[other].endpoint.addr;
            let mut there = servers
                .values()
                .filter(|server| server.endpoint.addr == there);
            prop_assert!(servers[other].phase == Phase::In && servers[other].is_wanted());
            prop_assert!(there.any(|server| server.runs() && server.is_wanted()));
            Ok(false)
        }
        Some(Why::Suspected) => {
            let mut others = world.servers().into_values();
            if others.any(|other| other.runs() && Some(other.endpoint.addr) == before.addr) {
                return Ok(false);
            }
            prop_assert!(before.dead, "a suspect that answers went out");
            Ok(true)
        }
        Some(Why::HeldLongEnough) => {
            prop_assert_eq!(gossip, Some(SerfStatus::Failed));
            prop_assert!(serving >= world.least().max(1), "below the floor");
            Ok(true)
        }
        other => {
            prop_assert!(false, "{} went out: {:?}", NAMES[who], other);
            Ok(false)
        }
    }
}

/// Sessions are shut where a witness calls the server dead, or a drain has taken too long.
fn not_shut_unless_dead(
    world: &World,
    who: usize,
    before: Seen,
    decisions: &Decisions,
) -> Result<(), TestCaseError> {
    let decision = decisions.servers.get(&key(NAMES[who]));
    if decision.and_then(|decision| decision.admin) != Some(WantedAdmin::Cut) {
        return Ok(());
    }
    match before.phase {
        Some(Phase::In) => prop_assert!(before.dead, "{} was shut", NAMES[who]),
        Some(Phase::Draining { since, .. }) => prop_assert!(world.scene.now >= since + DRAIN),
        _ => {}
    }
    Ok(())
}

fn dead_by_two_witnesses_are_out(
    world: &World,
    who: usize,
    before: Seen,
    decisions: &Decisions,
) -> Result<(), TestCaseError> {
    let Some(server) = world.server(who).filter(|server| server.phase == Phase::In) else {
        return Ok(());
    };
    if before.phase == Some(Phase::In) && before.dead && !server.is_wanted() {
        let why = &decisions.servers[&key(NAMES[who])].status.why;
        prop_assert!(*why == Why::Held(Held::Floor) || !server.is_dead(&world.backend().rules));
    }
    Ok(())
}

/// An address has the traffic of one member; another name beside it is what it takes over from, or serves for one that
/// HAProxy calls down.
fn one_member_an_address(world: &World, decisions: &Decisions) -> Result<(), TestCaseError> {
    let mut addrs = BTreeSet::new();
    for (key, decision) in &decisions.servers {
        let server = world.servers()[&key.server];
        let rules = &world.backend().rules;
        let there = decision.line == Some(Line::Ready) && server.is_wanted() && server.runs();
        if there && server.answers(rules) {
            prop_assert!(addrs.insert(decision.endpoint.addr), "{} runs twice", key);
        }
    }
    Ok(())
}

/// Time passes, and everybody who is asked answers.
fn pass(world: &mut World, seconds: u64) -> Result<(), TestCaseError> {
    for _ in 0..seconds {
        for who in 0..NAMES.len() {
            world.check(who);
            world.probe(who);
        }
        decide(world)?;
        world.scene.pass(Duration::from_millis(1000));
    }
    Ok(())
}

/// Nothing happens any more: what gossip said last stands for ever, and web servers are as they are.
fn rest(world: &mut World) -> Result<(), TestCaseError> {
    world.own_probes_work = true;
    world.in_flight.fill(0);
    // Drains end, and leaves, and the longest penalty.
    pass(world, 45)?;
    for _ in 0..4 {
        world.scene.pass(HOLD);
        pass(world, 3)?;
    }
    let decisions = world.scene.decide();
    let up = |server: &ServerState| world.web[place_of(server.endpoint.addr)] == Web::Up;
    let rules = &world.backend().rules;
    // Its web server has traffic under another name, or is to have none.
    let taken = |server: &ServerState| {
        let mut others = world.servers().into_values();
        others.any(|other| {
            let there = other.phase == Phase::In || other.is_asked_for();
            there && other.endpoint.addr == server.endpoint.addr
        })
    };
    // As far as anybody knows: of who is alive and has no check nobody else says anything.
    let servers = world.servers().into_values();
    let answering = servers.filter(|server| server.phase == Phase::In && server.answers(rules));
    let answering: BTreeSet<_> = answering.map(|server| server.endpoint.addr).collect();
    let answering = answering.len();
    for (name, server) in world.servers() {
        if !up(server) {
            continue;
        }
        let why = &decisions.servers[&key(name.as_str())].status.why;
        prop_assert!(
            answering >= world.least() || !server.is_recallable(rules) || taken(server),
            "{name} is missed and not taken back: {why}"
        );
        let over =
            server.gossip == SerfStatus::Failed && server.phase == Phase::In && server.selected;
        prop_assert!(
            !over || server.is_dead(rules) || matches!(why, Why::Held(_) | Why::Replaced { .. }),
            "hold does not end for {name}: {why}"
        );
        let picked = server.selected && server.requested == RequestedState::Ready;
        let stuck = server.gossip == SerfStatus::Leaving && server.has_served() && picked;
        prop_assert!(
            !stuck
                || server.phase == Phase::In
                || server.blocked.is_some()
                || server.removal_cause.is_some(),
            "{name} answers, did not leave, and is out: {why}"
        );
    }
    Ok(())
}

/// All is well again: everybody alive, at its own place, and answering.
fn heal(world: &mut World) -> Result<(), TestCaseError> {
    world.own_probes_work = true;
    world.web.fill(Web::Up);
    for who in 0..NAMES.len() {
        world.gossip[who] = if who < PLACES {
            SerfStatus::Alive
        } else {
            SerfStatus::Left
        };
        world.endpoint[who] = who % PLACES;
        world.requested[who] = RequestedState::Ready;
        world.weight[who] = 1;
        world.selected[who] = true;
        world.in_flight[who] = 0;
        world.gossips(who);
    }
    // Drains end, and the longest penalty.
    pass(world, 80)
}

fn play(
    checked: bool,
    min_servers: usize,
    rests: bool,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let mut world = World::new(checked, min_servers);
    for step in steps {
        world.take(step);
        decide(&mut world)?;
    }
    if rests {
        rest(&mut world)?;
    }
    heal(&mut world)?;
    prop_assert!(
        (0..PLACES).all(|who| world.in_rotation(who)),
        "who answers and is wanted is in, in the end"
    );
    Ok(())
}

/// How many histories: `GUARD_HISTORIES=100000` for a campaign.
fn histories() -> u32 {
    let wanted = std::env::var("GUARD_HISTORIES");
    wanted
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(200)
}

proptest! {
    #![proptest_config(Config { cases: histories(), ..Config::default() })]

    #[test]
    fn nobody_is_taken_out_without_reason_and_everybody_comes_back(
        checked in any::<bool>(),
        min_servers in 0..4_usize,
        rests in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        play(checked, min_servers, rests, &steps)?;
    }
}
