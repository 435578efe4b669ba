//! What must hold between keys: a [`Config`] whose keys are right one by one in, complaints left in the source. Pure.

use std::collections::BTreeSet;
use std::path::Path;

use super::node::Node;
use super::services;
use super::{BackendConfig, CheckConfig, Config, Mode, Observe, ProbeMode, ProxyVersion};

/// Complains about more than one way to reload, whether their values are right or not.
pub(super) fn ways_to_reload(root: &Node<'_>) {
    let Some(haproxy) = root.get("haproxy") else {
        return;
    };
    let is_way = |key: &&str| {
        let given = haproxy.get(key);
        given.is_some_and(|node| node.as_boolean() != Some(false))
    };
    let mut ways = ["master_socket", "reload_command", "spawn"]
        .into_iter()
        .filter(is_way);
    let Some(first) = ways.next() else {
        return;
    };
    for key in ways {
        let message = format!("there is {first} already; keep one way to reload");
        haproxy.complain(key, message);
    }
}

/// Complains about everything that does not fit together.
pub(super) fn check(config: &Config, root: &Node<'_>) {
    backends(config, root);
    frontend(config, root);
    drains(config, root);
    files(config, root);
    other_files(config, root);
    http(config, root);
    services::check(config, root);
    if config.debounce.quiet > config.debounce.max_wait {
        root.complain(
            "debounce.quiet",
            "is longer than max_wait; shorten it or raise max_wait",
        );
    }
}

/// What listens for others than this host asks who they are.
fn http(config: &Config, root: &Node<'_>) {
    let Some(http) = &config.http else { return };
    if http.listen.ip().to_canonical().is_loopback() || http.token_file.is_some() {
        return;
    }
    root.complain(
        "http.listen",
        "others could read everything there; set token_file = \"/etc/serf-haproxy/http.token\", or listen on 127.0.0.1 and \
         reach it by a tunnel",
    );
}

fn tags(config: &Config, root: &Node<'_>) {
    let tags = &config.tags;
    let of_all = [&tags.port, &tags.weight, &tags.state];
    let of_services = [
        &tags.services,
        &tags.host,
        &tags.path,
        &tags.backup,
        &tags.proto,
    ];
    let of_services = of_services
        .into_iter()
        .filter(|_| config.services.is_some());
    let all: Vec<&String> = of_all.into_iter().chain(of_services).collect();
    if all.iter().collect::<BTreeSet<_>>().len() == all.len() {
        return;
    }
    let who = match config.services {
        Some(_) => "two of them",
        None => "two of port, weight and state",
    };
    root.complain("tags", format!("{who} have one name; rename one of them"));
}

fn backends(config: &Config, root: &Node<'_>) {
    if config.backends.is_empty() {
        root.complain(
            "backend",
            "there is none; add a [[backend]] with name, tags and port",
        );
    }
    tags(config, root);
    let mut names = BTreeSet::new();
    for (backend, section) in config.backends.iter().zip(root.elements("backend")) {
        if !names.insert(&backend.name) {
            section.complain("name", "another backend has this name; rename one of them");
        }
        if backend.tags.is_empty() && backend.node.is_none() {
            let message = "selects every member, this balancer's own agent too; set tags, or node = \".*\" if that is meant";
            section.complain("tags", message);
        }
    }
    let backends = config.backends.iter().zip(root.elements("backend"));
    for (backend, section) in backends.chain(services::backends(config, root)) {
        if backend.observe == Some(Observe::Layer7) && backend.mode == Mode::Tcp {
            section.complain(
                "observe",
                "\"layer7\" looks at HTTP answers; set mode = \"http\", or observe = \"layer4\"",
            );
        }
        if backend.check.is_none() && section.has("observe") && backend.observe.is_some() {
            section.complain(
                "observe",
                "without a check a server that is marked down would stay so; set check, or leave observe out",
            );
        }
        match &backend.check {
            None if backend.probe != ProbeMode::On => section.complain(
                "probe",
                "nothing would prove a new server; set check, or leave probe out",
            ),
            Some(check) if config.haproxy.template.is_none() => {
                checks(backend, check, &section);
            }
            _ => {}
        }
        match backend.port {
            Some(port) if !backend.may_have(port) => {
                section.complain("port", "is not among ports; add it there");
            }
            None if backend.ports.is_empty() => {
                let message = "is missing, and so is ports: set the port of the servers, or ports = [\"8000-8999\"] where each \
                               has its own in a tag `port`";
                section.complain("port", message);
            }
            _ => {}
        }
    }
}

/// What the built-in template can print of a check depends on the other words of the server lines.
fn checks(backend: &BackendConfig, check: &CheckConfig, section: &Node<'_>) {
    let has = |word: &str| backend.server_options.iter().any(|option| option == word);
    if check.tls && !has("verify") && !has("ca-file") {
        let hint =
            "\"verify none\", or \"verify required ca-file /etc/ssl/certs/ca-certificates.crt\"";
        let message = format!(
            "wants TLS, and nothing says how HAProxy verifies the certificate; add to server_options {hint}"
        );
        section.complain("check", message);
    }
    let v2 = backend
        .server_options
        .iter()
        .any(|word| word.starts_with("send-proxy-v2"));
    let fits = match check.send_proxy {
        Some(ProxyVersion::V2) => v2,
        Some(ProxyVersion::V1) => !v2,
        None => true,
    };
    if !fits {
        let message = "wants another version of PROXY than the traffic has, and HAProxy's check speaks the same as \
                       the traffic; give send-proxy-v2 in server_options with \"v2\", not with \"v1\"";
        section.complain("check", message);
    }
}

fn frontend(config: &Config, root: &Node<'_>) {
    let Some(frontend) = &config.frontend else {
        if config.haproxy.template.is_none() {
            let hint = "the built-in template needs it; add it with bind = [\"*:80\"], or set haproxy.template";
            root.complain("frontend", format!("the section is missing; {hint}"));
        }
        return;
    };
    if !config.backends.is_empty()
        && !config
            .backends
            .iter()
            .any(|backend| backend.name == frontend.default_backend)
    {
        let names: Vec<&str> = config
            .backends
            .iter()
            .map(|backend| backend.name.as_str())
            .collect();
        root.complain(
            "frontend.default_backend",
            format!("there is no such backend; use one of {}", names.join(", ")),
        );
    }
}

fn drains(config: &Config, root: &Node<'_>) {
    let given = root.has("haproxy.hard_stop_after");
    if config.haproxy.template.is_some() && !given {
        return;
    }
    let limit = config.haproxy.hard_stop_after;
    let text = humantime::format_duration(limit);
    let message = format!(
        "a reload would cut requests before that, haproxy.hard_stop_after is {text}; give at most {text}, or raise that"
    );
    let backends = config.backends.iter().zip(root.elements("backend"));
    for (backend, section) in backends.chain(services::backends(config, root)) {
        if backend.drain.timeout <= limit {
            continue;
        }
        let blamed = if section.has("drain.timeout") {
            &section
        } else {
            root
        };
        blamed.complain("drain.timeout", message.clone());
    }
}

fn other_files(config: &Config, root: &Node<'_>) {
    let key = if root.has("haproxy.files") {
        "haproxy.files"
    } else {
        "haproxy.check_command"
    };
    let ours = config.haproxy.config.as_path();
    for file in &config.haproxy.files {
        let path = file.display();
        if file == ours {
            root.complain(
                key,
                format!("{path} is the file that is written; leave it out"),
            );
        } else if ours.parent() == Some(file) {
            let message = format!(
                "{path} holds the file that is written; name the files before it one by one"
            );
            root.complain(key, message);
        }
    }
}

fn files(config: &Config, root: &Node<'_>) {
    let mut read: BTreeSet<&Path> = config
        .files
        .iter()
        .map(|file| file.template.as_path())
        .collect();
    read.extend(config.haproxy.template.as_deref());
    if read.contains(config.haproxy.config.as_path()) {
        root.complain("haproxy.config", "is a template too; write to another file");
    }
    let mut written = BTreeSet::from([config.haproxy.config.as_path()]);
    for (file, section) in config.files.iter().zip(root.elements("file")) {
        if !written.insert(&file.path) {
            section.complain("path", "is written already; write to another file");
        }
        if read.contains(file.path.as_path()) {
            section.complain("path", "is a template too; write to another file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_for_others_asks_who_they_are() {
        let diagnostics = |lines: &str| {
            let text = format!(
                "[frontend]\nbind = [\"*:80\"]\n[[backend]]\nname = \"a\"\ntags = {{ a = \"b\" }}\nport = 1\n[http]\n{lines}"
            );
            Config::parse(&text, []).err().unwrap_or_default()
        };
        for listen in [
            "127.0.0.1:9280",
            "127.9.9.9:1",
            "[::1]:9280",
            "[::ffff:127.0.0.1]:1",
        ] {
            let found = diagnostics(&format!("listen = {listen:?}"));
            assert!(found.is_empty(), "{found:?}");
        }
        for listen in ["0.0.0.0:9280", "[::]:9280", "10.0.0.1:9280"] {
            let open = format!("listen = {listen:?}\n");
            let found = diagnostics(&open);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].key, "http.listen");
            assert!(found[0].message.contains("token_file"), "{found:?}");
            let found = diagnostics(&format!("{open}token_file = \"/t\""));
            assert!(found.is_empty(), "{found:?}");
        }
        for hosts in ["\"http://a\"", "[\"a:80\"]", "\"\"", "7", "[\"[::1]\"]"] {
            let found = diagnostics(&format!("hosts = {hosts}"));
            assert_eq!(found.len(), 1, "{hosts}: {found:?}");
        }
        assert!(diagnostics("hosts = [\"a.example.\", \"2001:db8::1\"]").is_empty());
    }
}
