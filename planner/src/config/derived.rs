//! Defaults that follow from other keys: a [`Config`] whose keys are right one by one in, the same with them out. Pure.

use std::mem::take;

use super::node::Node;
use super::section::Section;
use super::{BackendConfig, Config, Haproxy, ProxyVersion, ReloadMethod, SocketMode};
use super::{loaded, services};

/// Sets what is not given, but follows from what is.
pub(super) fn fill(config: &mut Config, root: &Node<'_>) {
    haproxy(&mut config.haproxy, root);
    let control = &mut config.control;
    if !root.has("control.mode") {
        control.mode = SocketMode::with_group(control.group.is_some());
    }
    for (backend, node) in config.backends.iter_mut().zip(root.elements("backend")) {
        backend.guard = over(&config.guard, node.get("guard"));
        backend.drain = over(&config.drain, node.get("drain"));
        self::backend(backend, &node);
    }
    services::derive(config, root, |backend, node, config| {
        backend.guard = over(&config.guard, node.get("guard"));
        backend.drain = over(&config.drain, node.get("drain"));
        self::backend(backend, node);
    });
    if let (Some(frontend), Some(first)) = (&mut config.frontend, config.backends.first())
        && !root.has("frontend.default_backend")
    {
        frontend.default_backend = first.name.clone();
    }
}

/// The keys of a backend's own section, and what all backends have.
fn over<T: Section + Clone>(all: &T, own: Option<Node<'_>>) -> T {
    let own = own.and_then(|node| all.clone().over(&node));
    own.unwrap_or_else(|| all.clone())
}

fn haproxy(haproxy: &mut Haproxy, root: &Node<'_>) {
    let command = take(&mut haproxy.reload_command);
    if haproxy.spawn {
        haproxy.reload = ReloadMethod::Spawn;
    } else if !command.is_empty() {
        haproxy.reload = ReloadMethod::Command(command);
    }
    if !root.has("haproxy.stats_socket_mode") {
        haproxy.stats_socket_mode = SocketMode::with_group(haproxy.stats_socket_group.is_some());
    }
    match (root.has("haproxy.files"), root.has("haproxy.check_command")) {
        (true, false) => haproxy.check_command = loaded::check_command(&haproxy.files),
        (false, true) => haproxy.files = loaded::files(&haproxy.check_command),
        _ => {}
    }
}

fn backend(backend: &mut BackendConfig, node: &Node<'_>) {
    if !node.has("ports") {
        backend.ports = backend.port.into_iter().map(|port| port..=port).collect();
    }
    let mut options = backend.server_options.iter();
    if !node.has("observe") && options.clone().any(|word| word == "observe") {
        // The server lines say something of their own.
        backend.observe = None;
    }
    let wanted = node.get("check.send_proxy");
    if let Some(check) = &mut backend.check
        && wanted.and_then(|node| node.as_boolean()) == Some(true)
        && options.any(|word| word.starts_with("send-proxy-v2"))
    {
        // It begins as the traffic does.
        check.send_proxy = Some(ProxyVersion::V2);
    }
}
