//! The sample is the document of every key.

use super::{SMALL, load};
use crate::config::{Config, ReloadMethod, SocketMode};

const SAMPLE: &str = include_str!("../../../../controller/config.sample.toml");

/// The sample with every key that is left out by default taken in.
fn full_sample() -> String {
    let takes_in = |line: &str| {
        let inner = line.strip_prefix("# ")?;
        let key = inner.split(" =").next()?;
        let is_key =
            inner.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (is_key || inner.starts_with('[')).then(|| inner.to_owned())
    };
    let lines: Vec<String> = SAMPLE
        .lines()
        .filter(|line| {
            let others = ["master_socket", "# spawn", "check = \"tcp\""];
            !others.iter().any(|other| line.starts_with(other))
        })
        .map(|line| takes_in(line).unwrap_or_else(|| line.to_owned()))
        .collect();
    lines.join("\n")
}

#[test]
fn the_sample_says_the_defaults() {
    assert_eq!(load(SAMPLE), load(SMALL));
    assert!(load(SAMPLE).is_ok());
}

#[test]
fn the_sample_has_every_key() {
    let mut config = load(&full_sample()).unwrap();
    let services = config.services.as_mut().unwrap();
    let shop = services.of.values().next().unwrap();
    assert_eq!(
        (shop.balance.as_str(), &shop.check),
        ("leastconn", &services.defaults.check)
    );
    // They have the keys of a backend, all of which stand there.
    services.of.clear();
    services.defaults = config.backends[0].clone();
    assert_eq!(
        config.haproxy.reload,
        ReloadMethod::Command(["systemctl", "reload", "haproxy"].map(str::to_owned).into())
    );
    let shown = format!("{config:#?}");
    assert!(
        !shown.contains(": None"),
        "a key is not in the sample: {shown}"
    );
    assert_eq!(
        (config.files.len(), config.backends[0].guard.min_servers),
        (1, 2)
    );
}

#[test]
fn the_sample_marks_every_key_that_waits_for_a_restart() {
    let mut section = String::new();
    let mut marked = Vec::new();
    for line in SAMPLE.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if let Some(title) = bare.strip_prefix('[') {
            section = title
                .trim_start_matches('[')
                .split(']')
                .next()
                .unwrap()
                .to_owned();
        }
        let key = bare
            .split(" =")
            .next()
            .filter(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        let key = key
            .filter(|_| bare.contains(" = "))
            .map(|key| format!("{section}.{key}"));
        marked.extend(key.filter(|_| line.ends_with("restart)")));
    }
    marked.sort();
    let mut changed = load(SMALL).unwrap();
    let spawn = |config: &mut Config| config.haproxy.reload = ReloadMethod::Spawn;
    let mut started = changed.clone();
    spawn(&mut started);
    changed.haproxy.config = "/other".into();
    changed.state.dir = "/other".into();
    changed.control.socket = "/other".into();
    changed.control.group = Some("adm".to_owned());
    changed.control.mode = SocketMode::GROUP;
    let mut fixed = changed.needs_restart(&started);
    spawn(&mut changed);
    changed.haproxy.files = vec!["/other".into()];
    changed.haproxy.check_command = vec!["other".to_owned()];
    fixed.extend(changed.needs_restart(&started));
    fixed.sort_unstable();
    fixed.dedup();
    assert_eq!(marked, fixed);
}

#[test]
fn every_key_that_the_sample_does_not_mark_needs_no_restart() {
    let started = load(SMALL).unwrap();
    let all = full_sample();
    let config = load(&all).unwrap();
    // The full sample differs from the defaults in many keys; of the marked ones, only in this.
    assert_eq!(config.needs_restart(&started), ["control.group"]);
}
