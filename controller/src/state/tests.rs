use std::time::Duration;

use planner::model::Version;
use planner::services::{Proto, Whose};

use super::*;

const NOW: u64 = 1_700_000_000;

fn worker(uptime: u64, start: Option<u64>) -> Worker {
    Worker {
        pid: 8,
        uptime: Duration::from_secs(uptime),
        start,
        version: Version { major: 3, minor: 0 },
        stamp: Some(Stamp("0123456789abcdef".into())),
    }
}

fn added() -> AddedOptions {
    let key = ServerKey::read("nodes", "s1").unwrap();
    [(key, vec!["check".to_owned()])].into()
}

#[test]
fn options_are_the_same_workers_after_it_has_stood_still_and_the_clock_has_jumped() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let before = worker(5, Some(NOW));
    state.save_added(&before, NOW + 5, &added()).unwrap();
    for (uptime, now) in [(9, NOW + 9), (9, NOW + 600), (9, NOW - 7200)] {
        let same = worker(uptime, Some(NOW));
        let found = state.load_added(&same, now);
        assert_eq!(found, Some(added()), "{uptime} {now}");
    }
    let others = [
        worker(4, Some(NOW + 1)),
        Worker {
            pid: 9,
            ..before.clone()
        },
        Worker {
            stamp: None,
            ..before
        },
    ];
    for other in others {
        assert_eq!(state.load_added(&other, NOW + 5), None, "{other}");
    }
}

#[test]
fn the_same_failure_has_the_same_words_so_that_it_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    fs::remove_dir_all(dir.path()).unwrap();
    let fails = || {
        let failed = state.save_added(&worker(5, Some(NOW)), NOW, &added());
        let error = failed.unwrap_err();
        format!("{error}: {}", std::error::Error::source(&error).unwrap())
    };
    assert_eq!(fails(), fails());
}

#[test]
fn a_saved_text_is_believed_only_if_its_content_has_the_stamp_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let text = |stamp: &str| format!("global\n  description \"serf-haproxy {stamp}\"\n");
    let stamp = Stamp::of_blank(&text(""));
    let genuine = text(&stamp.0);
    state.save_text(&stamp, &genuine, &[]).unwrap();
    assert_eq!(state.load_text(&stamp).as_ref(), Some(&genuine));
    let edited = format!("{genuine}  maxconn 9\n");
    state.save_text(&stamp, &edited, &[]).unwrap();
    assert_eq!(state.load_text(&stamp), None);
    let other = Stamp("0123456789abcdef".into());
    state.save_text(&other, &genuine, &[]).unwrap();
    assert_eq!(state.load_text(&other), None);
}

#[test]
fn options_that_an_earlier_version_has_saved_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let text = format!(
        r#"{{"pid":8,"started":{},"servers":[{{"backend":"nodes","server":"s1","options":["check"]}}]}}"#,
        NOW + 1
    );
    fs::write(dir.path().join("added.json"), text).unwrap();
    for start in [None, Some(NOW)] {
        assert_eq!(state.load_added(&worker(5, start), NOW + 5), Some(added()));
        let other = start.map(|start| start + 60);
        assert_eq!(state.load_added(&worker(5, other), NOW + 65), None);
    }
}

#[test]
fn services_are_kept_as_they_stood() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let path = |text| planner::services::Path::new(text).unwrap();
    let host = |text| planner::route::Host::new(text).unwrap();
    let service = |whose, proto, empty| PastService {
        since: NOW,
        whose,
        path: path("/v1"),
        placed: NOW + 5,
        proto,
        empty,
    };
    let services = [
        (
            "shop",
            service(
                Whose::Of(host("a.example.com")),
                Some(Proto::H2),
                Some(NOW + 9),
            ),
        ),
        ("api", service(Whose::Any, None, None)),
        ("db", service(Whose::Nobody, Some(Proto::Tcp), None)),
    ];
    let services = services.map(|(name, service)| (BackendName::new(name).unwrap(), service));
    let saved = PersistedState {
        services: services.into(),
        ..PersistedState::default()
    };
    state.save(&saved).unwrap();
    assert_eq!(state.load(), saved);
}
