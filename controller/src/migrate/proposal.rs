//! What becomes of a file in, the config that goes with its template out. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use planner::config::{CheckConfig, ProxyVersion, StatusCodes};
use planner::migrate::{Migrated, Migration};
use serde_json::Value;

use super::Wanted;
use crate::setup::Tag;
use crate::setup::found::around;

/// How long running requests may take by default.
const DRAIN: u64 = 30_000;

/// A backend with what picks its members.
pub(super) struct Backend<'a> {
    pub(super) migrated: &'a Migrated,
    pub(super) tags: &'a [Tag],
    /// What HAProxy's check asks.
    pub(super) check: Option<CheckConfig>,
    /// Addresses of members that are to be servers, beside those of the file.
    pub(super) members: Vec<IpAddr>,
}

/// The text of the config.
pub(super) fn text(
    wanted: &Wanted,
    agent: &str,
    migration: &Migration,
    backends: &[Backend<'_>],
) -> String {
    let mut text = format!(
        "# Proposed by `serf-haproxy migrate`; it is yours to edit. All keys: man serf-haproxy-config.\n\n\
         [serf]\naddr = {}\n",
        quote(agent)
    );
    if let Some(path) = &wanted.auth_key_file {
        let _ = writeln!(text, "auth_key_file = {}", path_of(path));
    }
    let _ = write!(
        text,
        "\n[haproxy]\nconfig = {}\ntemplate = {}\nstats_socket = {}\n",
        path_of(&wanted.file),
        path_of(&wanted.template),
        quote(&migration.global.stats_socket)
    );
    if let Some(command) = &wanted.check_command {
        let words = command.iter().map(|word| quote(word));
        let _ = writeln!(text, "check_command = {}", list(words));
    }
    for backend in backends {
        text += &backend.text();
    }
    if let Some(millis) = migration.global.hard_stop.filter(|millis| *millis < DRAIN) {
        let _ = write!(
            text,
            "\n# not beyond the file's hard-stop-after\n[drain]\ntimeout = \"{millis}ms\"\n"
        );
    }
    text
}

impl Backend<'_> {
    fn text(&self) -> String {
        let Migrated { name, present, .. } = self.migrated;
        let tags = self
            .tags
            .iter()
            .map(|(key, value)| format!("{} = {}", key_of(key), quote(value)));
        let tags: Vec<String> = tags.collect();
        let mut text = format!(
            "\n[[backend]]\nname = {}\ntags = {{ {} }}\n",
            quote(name.as_str()),
            tags.join(", ")
        );
        let ports: BTreeSet<u16> = present.iter().map(|server| server.addr.port()).collect();
        let port = usual_port(self.migrated);
        let _ = writeln!(text, "port = {}", port.unwrap_or(80));
        if ports.len() > 1 {
            let _ = writeln!(text, "ports = {}", list(ports.iter().map(u16::to_string)));
        }
        let here = present.iter().map(|server| server.addr.ip());
        let networks = around(here.chain(self.members.iter().copied()));
        if !networks.is_empty() {
            let networks = networks.iter().map(|network| quote(&network.to_string()));
            let _ = writeln!(text, "networks = {}", list(networks));
        }
        if self.migrated.is_tcp {
            text += "mode = \"tcp\"\n";
        }
        if let Some(check) = &self.check {
            let _ = writeln!(text, "check = {}", check_of(check));
        }
        let weights = present.iter().map(|server| server.weight.get());
        let heaviest = weights.max().filter(|weight| *weight > 10);
        if let Some(weight) = heaviest.filter(|_| self.migrated.weighs) {
            let _ = writeln!(text, "max_weight = {weight}");
        }
        text
    }
}

/// The port that most of its servers have.
pub(super) fn usual_port(backend: &Migrated) -> Option<u16> {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for server in &backend.present {
        *counts.entry(server.addr.port()).or_default() += 1;
    }
    let most = counts.iter().max_by_key(|(_, count)| **count);
    most.map(|(port, _)| *port)
}

fn check_of(check: &CheckConfig) -> String {
    let mut keys: Vec<String> = Vec::new();
    if let Some(request) = &check.request {
        keys.push(format!("method = {}", quote(&request.method)));
        keys.push(format!("path = {}", quote(&request.path)));
        let host = request.host.iter();
        keys.extend(host.map(|host| format!("host = {}", quote(host))));
        if request.status != StatusCodes::default() {
            keys.push(format!("status = {}", quote(&request.status.to_string())));
        }
    }
    keys.extend(check.port.map(|port| format!("port = {port}")));
    if check.tls {
        keys.push("tls = true".to_owned());
    }
    let sni = check.sni.iter();
    keys.extend(sni.map(|sni| format!("sni = {}", quote(sni))));
    keys.extend(check.send_proxy.map(|version| match version {
        ProxyVersion::V1 => "send_proxy = \"v1\"".to_owned(),
        ProxyVersion::V2 => "send_proxy = \"v2\"".to_owned(),
    }));
    if keys.is_empty() {
        "\"tcp\"".to_owned()
    } else {
        format!("{{ {} }}", keys.join(", "))
    }
}

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

fn path_of(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

fn key_of(key: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    if key.chars().all(is_bare) {
        key.to_owned()
    } else {
        quote(key)
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}
