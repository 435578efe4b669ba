//! Many members: how many servers HAProxy is told of, and whose turn it is.

use super::*;

/// Other places than a sum of bytes has.
fn endpoint(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([198, 18, high, low], 3000))
}

fn join(scene: &mut Scene, numbers: std::ops::Range<u16>) {
    for number in numbers {
        let name = format!("m{number:05}");
        scene.gossip_at(
            &name,
            SerfStatus::Alive,
            endpoint(number),
            RequestedState::Ready,
        );
    }
}

fn answer(scene: &mut Scene, number: u16) {
    let key = key(&format!("m{number:05}"));
    scene
        .guard
        .observe_probe(&key, endpoint(number), Probed::Good);
}

fn listed(scene: &mut Scene) -> Vec<String> {
    let lines = scene.decide().lines();
    let lines = lines.values().flatten();
    lines.map(|server| server.name.to_string()).collect()
}

fn with_most(max_servers: usize, admits: Admits) -> Scene {
    let mut scene = Scene::new(true);
    let mut rules = rules(true);
    rules.admits = admits;
    rules.guard.max_servers = max_servers;
    rules.guard.min_servers = 0;
    scene.set_rules(rules);
    scene
}

#[test]
fn of_thousands_that_never_answer_haproxy_hears_nothing() {
    let mut scene = with_most(1000, Admits::Probe);
    join(&mut scene, 0..5000);
    assert_eq!(listed(&mut scene), [""; 0]);
    answer(&mut scene, 4711);
    assert_eq!(listed(&mut scene), ["m04711"]);
    assert_eq!(scene.guard.targets(scene.now).len(), 4999);
    let backend = scene.guard.backends.values().next().unwrap();
    assert_eq!(
        (backend.servers.len(), backend.all().len()),
        (1, 5000),
        "they rest"
    );
}

#[test]
fn no_more_than_max_servers_are_in_rotation_and_who_was_there_first_goes_before() {
    let mut scene = with_most(3, Admits::Probe);
    for number in [5, 4, 3, 2, 1] {
        join(&mut scene, number..number + 1);
        scene.decide();
        scene.pass(Duration::from_secs(1));
    }
    for number in 1..=5 {
        answer(&mut scene, number);
    }
    assert_eq!(listed(&mut scene), ["m00003", "m00004", "m00005"]);
    let backend = scene.guard.backends.values().next().unwrap();
    assert_eq!(backend.servers.len(), 3, "who finds no place rests");
    let waiting = scene.decision("m00001").unwrap();
    assert_eq!((waiting.line, waiting.status.why), (None, Why::Full(3)));
    for number in 3..=5 {
        let name = format!("m{number:05}");
        scene.runs_at(&name, Admin::Ready, endpoint(number));
    }
    scene.decide();
    scene.gossip_at(
        "m00004",
        SerfStatus::Left,
        endpoint(4),
        RequestedState::Ready,
    );
    assert_eq!(listed(&mut scene), ["m00002", "m00003", "m00005"]);
}

/// One server in rotation, no place for another, and a second member that has not answered yet.
fn full() -> Scene {
    let mut scene = with_most(1, Admits::Probe);
    join(&mut scene, 1..2);
    scene.decide();
    answer(&mut scene, 1);
    assert_eq!(listed(&mut scene), ["m00001"]);
    scene.runs_at("m00001", Admin::Ready, endpoint(1));
    join(&mut scene, 2..3);
    scene.decide();
    scene
}

/// Another member comes to the address of the second one.
fn double(scene: &mut Scene) {
    let ready = RequestedState::Ready;
    scene.gossip_at("m00003", SerfStatus::Alive, endpoint(2), ready);
    scene.decide();
}

/// The first one leaves, and the second has its place.
fn give_place(scene: &mut Scene) {
    let ready = RequestedState::Ready;
    scene.gossip_at("m00001", SerfStatus::Left, endpoint(1), ready);
    let decided = scene.decide().servers;
    let status = |name| decided[&key(name)].status.clone();
    assert_eq!(status("m00001").state, "drain");
    assert_eq!(status("m00002").state, "ready");
    let first = ServerName::new("m00002").unwrap();
    assert_eq!(status("m00003").why, Why::AddressTaken(first));
}

#[test]
fn of_two_that_find_no_place_at_one_address_the_other_waits_behind_the_first() {
    let mut scene = full();
    double(&mut scene);
    answer(&mut scene, 2);
    let key = key("m00003");
    scene.guard.observe_probe(&key, endpoint(2), Probed::Good);
    for name in ["m00002", "m00003"] {
        assert_eq!(scene.decision(name).unwrap().status.why, Why::Full(1));
    }
    give_place(&mut scene);
}

#[test]
fn who_comes_to_the_address_of_one_that_finds_no_place_waits_behind_it() {
    let mut scene = full();
    answer(&mut scene, 2);
    let why = scene.decision("m00002").unwrap().status.why;
    assert_eq!(why, Why::Full(1));
    double(&mut scene);
    give_place(&mut scene);
}

#[test]
fn of_those_that_haproxys_check_lets_in_it_has_the_latest_few() {
    for admits in [Admits::GoodCheck, Admits::AnyCheck] {
        let mut scene = with_most(1000, admits);
        join(&mut scene, 0..5000);
        scene.decide();
        scene.pass(Duration::from_secs(1));
        join(&mut scene, 6000..6001);
        let listed = listed(&mut scene);
        assert_eq!(listed.len(), 100);
        assert!(listed.contains(&"m06000".to_owned()));
        let queued = scene.decision("m04999").unwrap().status;
        assert_eq!((queued.state, queued.why), ("waiting", Why::Queued));
    }
}

/// Of whoever comes and goes nothing stays but who is kept as the last.
#[test]
fn ever_new_names_leave_nothing_behind() {
    const BATCH: u16 = 2000;
    const SERVE: u16 = 20;
    let mut scene = with_most(1000, Admits::Probe);
    for batch in 0..50 {
        let name = |number: u16| format!("b{batch}-{number}");
        for number in 0..BATCH {
            scene.gossip_at(
                &name(number),
                SerfStatus::Alive,
                endpoint(number),
                RequestedState::Ready,
            );
        }
        scene.decide();
        for number in 0..SERVE {
            let key = key(&name(number));
            scene
                .guard
                .observe_probe(&key, endpoint(number), Probed::Good);
            scene.runs_at(&name(number), Admin::Ready, endpoint(number));
        }
        scene.decide();
        for number in SERVE..BATCH {
            scene.forget(&name(number));
        }
        for number in 0..SERVE {
            scene.gossip_at(
                &name(number),
                SerfStatus::Left,
                endpoint(number),
                RequestedState::Ready,
            );
        }
        scene.pass(DRAIN * 2);
        scene.decide();
        for number in 0..SERVE {
            scene.runs_at(&name(number), Admin::Maint, endpoint(number));
        }
        scene.decide();
        for number in 0..SERVE {
            scene.forget(&name(number));
            scene.gone_from_haproxy(&name(number));
        }
        scene.pass(HOLD);
        scene.decide();
    }
    let backend = scene.guard.backends.values().next().unwrap();
    let known = backend.all().len();
    assert!(known <= usize::from(SERVE), "{known}");
    assert_eq!(backend.ledger.used(), 0);
    assert_eq!(backend.absent_owners().count(), 0);
}
