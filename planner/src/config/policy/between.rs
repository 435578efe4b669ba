//! What keys of policy must not say together: a backend and the node that it was read from in, complaints left in the source,
//! and what follows from several keys. Pure.

use rustls_pki_types::DnsName;

use super::{SameSite, Secure, ServerNameSent, Verify};
use crate::config::node::Node;
use crate::config::settings::{BackendConfig, Mode, Observe};

/// Keys that say the same as an older one.
const SAME: [(&str, &str); 4] = [
    ("retry", "retries"),
    ("eject", "observe"),
    ("eject", "error_limit"),
    ("max_conn", "maxconn"),
];

/// Words of a server line that come from a key.
const WORDS: [(&str, &[&str]); 4] = [
    ("slow_start", &["slowstart"]),
    ("max_queue", &["maxqueue"]),
    ("sticky", &["cookie"]),
    (
        "tls",
        &["ssl", "verify", "ca-file", "sni", "verifyhost", "no-ssl"],
    ),
];

/// Takes what this node says of a backend that has been read, or that another node was read over: what it says in old words
/// goes before what was said in new ones elsewhere, and its check speaks as its traffic does.
pub(in crate::config) fn settle(backend: &mut BackendConfig, node: &Node<'_>) {
    let says = |key, other| node.has(key) && !node.has(other);
    if says("retries", "retry") {
        backend.retry = None;
    }
    if says("observe", "eject") || says("error_limit", "eject") {
        backend.eject = None;
    }
    if says("maxconn", "max_conn") {
        backend.max_conn = None;
    }
    let (Some(tls), Some(check)) = (&backend.tls, &mut backend.check) else {
        return;
    };
    // HAProxy's own rule: a check with a port of its own does not speak as the traffic does.
    if !node.has("check.tls") && check.port.is_none() {
        check.tls = true;
    }
    if !check.tls || check.sni.is_some() {
        return;
    }
    let asked = check.request.as_ref().and_then(|it| it.host.as_deref());
    check.sni = match &tls.sni {
        Some(ServerNameSent::Name(name)) => Some(name.clone()),
        Some(ServerNameSent::Host) => asked
            .filter(|host| DnsName::try_from(*host).is_ok())
            .map(str::to_owned),
        None => None,
    };
}

/// Complains about what does not fit together in a backend.
pub(in crate::config) fn check(backend: &BackendConfig, node: &Node<'_>) {
    for (new, old) in SAME {
        if node.has(new) && node.has(old) {
            node.complain(old, format!("{new} says the same; keep one of them"));
        }
    }
    http_only(backend, node);
    ejection(backend, node);
    limits(backend, node);
    cookies(backend, node);
    tls(backend, node);
    for (key, words) in WORDS {
        let says = |word: &&&str| backend.server_options.iter().any(|it| it == **word);
        if let Some(word) = words.iter().find(says).filter(|_| is_set(backend, key)) {
            let message = format!("says `{word}`, and so does {key}; leave one of them out");
            node.complain("server_options", message);
        }
    }
}

fn is_set(backend: &BackendConfig, key: &str) -> bool {
    match key {
        "slow_start" => backend.slow_start.is_some(),
        "max_queue" => backend.max_queue.is_some(),
        "sticky" => backend.sticky.is_some(),
        _ => backend.tls.is_some(),
    }
}

/// Keys about requests, in a backend of connections.
fn http_only(backend: &BackendConfig, node: &Node<'_>) {
    if backend.mode != Mode::Tcp {
        return;
    }
    let by_host = matches!(&backend.tls, Some(tls) if tls.sni == Some(ServerNameSent::Host));
    let keys = [
        ("sticky", backend.sticky.is_some()),
        ("retry.on", node.has("retry.on")),
        ("retry.methods", node.has("retry.methods")),
        ("breaker", backend.breaker.is_some()),
        ("maintenance_page", backend.maintenance_page.is_some()),
        ("overload", backend.overload.is_some()),
        ("tls.sni", by_host),
        ("proto", backend.proto == super::Proto::H2),
        ("compress", !backend.compress.is_empty()),
    ];
    for (key, _) in keys.into_iter().filter(|(_, is_set)| *is_set) {
        node.complain(
            key,
            "is about requests; set mode = \"http\", or leave it out",
        );
    }
}

fn ejection(backend: &BackendConfig, node: &Node<'_>) {
    let Some(on) = backend.eject.as_ref().and_then(|eject| eject.on) else {
        return;
    };
    if on == Observe::Layer7 && backend.mode == Mode::Tcp {
        let message = "\"layer7\" looks at HTTP answers; set mode = \"http\", or on = \"layer4\"";
        node.complain("eject.on", message);
    }
    if backend.check.is_none() {
        let message =
            "without a check a server that is out would stay so; set check, or leave eject out";
        node.complain("eject", message);
    }
}

fn limits(backend: &BackendConfig, node: &Node<'_>) {
    if backend.server_limit().is_some() {
        return;
    }
    let keys = [
        ("max_queue", backend.max_queue.is_some()),
        ("overload", backend.overload.is_some()),
    ];
    for (key, _) in keys.into_iter().filter(|(_, is_set)| *is_set) {
        node.complain(
            key,
            "nothing waits as long as servers take any number; set max_conn",
        );
    }
}

fn cookies(backend: &BackendConfig, node: &Node<'_>) {
    let Some(sticky) = &backend.sticky else {
        return;
    };
    if sticky.same_site == SameSite::None && sticky.secure == Secure::Never {
        let message = "browsers drop such a cookie unless it is Secure; leave secure out";
        node.complain("sticky.same_site", message);
    }
    if sticky.max_life < sticky.max_idle && sticky.max_life.is_some() {
        node.complain("sticky.max_idle", "is longer than max_life; shorten it");
    }
}

fn tls(backend: &BackendConfig, node: &Node<'_>) {
    let Some(tls) = &backend.tls else { return };
    if tls.verify == Verify::None {
        let keys = [
            ("tls.ca_file", tls.ca_file.is_some()),
            ("tls.verify_host", tls.verify_host.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, is_set)| *is_set) {
            let message =
                "nobody looks at certificates with verify = \"none\"; leave one of them out";
            node.complain(key, message);
        }
    }
}
