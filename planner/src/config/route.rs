//! `[[route]]`: its keys in, a [`Route`] out; and what must hold between routes, backends and front ends. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::node::Node;
use super::section::{Section, section};
use super::value::{HOUR, SECOND, backend_name, boolean, networks, not_empty, number, path, some};
use super::{BackendConfig, Config, Frontend, Mode};
use crate::model::BackendName;
use crate::route::{
    Action, BasicAuth, HeaderChanges, HeaderName, HeaderPattern, HeaderValue, HostPattern, Method,
    Origin, PathPattern, RateLimit, Redirect, Response, Route, Routes, Split, SplitTo,
};

/// Headers that a route may name, beside its methods.
const MOST_HEADERS: usize = 32;

/// Routes at most.
const MOST_ROUTES: usize = 10_000;

section! {
    /// A `[[route]]`: which requests go where.
    pub struct RouteConfig {
        /// Hosts, exact or `*.` and a name; none is any.
        pub host: Vec<HostPattern> = Vec::new(), hosts;
        /// The path, by whole segments; `=` before it is that path alone.
        pub path: PathPattern = PathPattern::Any, path_pattern;
        /// Methods; none is any.
        pub methods: Vec<Method> = Vec::new(), methods;
        /// Headers that must all match.
        pub headers: BTreeMap<HeaderName, HeaderPattern> = BTreeMap::new(), headers;
        /// Names of front ends; none is every one that speaks HTTP.
        pub frontends: BTreeSet<String> = BTreeSet::new(), frontends;
        /// Where requests go.
        pub backend: Option<BackendName> = None, some(backend_name);
        /// Percent that go elsewhere.
        pub split: Vec<SplitTo> = Vec::new(), split;
        /// Where clients are sent instead.
        pub redirect: Option<Redirect> = None, some(redirect);
        /// What HAProxy answers instead.
        pub respond: Option<Response> = None, some(respond);
        /// Whether the servers see the path without the route's.
        pub strip_prefix: bool = false, boolean;
        /// Networks whose clients may; none is everybody.
        pub allow_from: Vec<IpNet> = Vec::new(), networks;
        /// An htpasswd file with those who may.
        pub basic_auth_file: Option<PathBuf> = None, some(path);
        /// Requests of a client's address in a time.
        pub rate_limit: Option<RateLimit> = None, some(rate_limit);
        /// Changes of the request.
        pub request_headers: HeaderChanges = HeaderChanges::default(), changes;
        /// Changes of the response.
        pub response_headers: HeaderChanges = HeaderChanges::default(), changes;
    }

    /// A redirect that is a table.
    struct RedirectKeys {
        to: Option<HeaderValue> = None, some(url), "say where, to = \"https://www.example.com\"";
        status: u16 = 302, redirect_status;
        keep_path: Option<bool> = None, some(boolean);
    }

    /// What HAProxy answers.
    struct RespondKeys {
        status: u16 = 200, number(200..=599), "say which, status = 403";
        body: String = String::new(), body;
        content_type: HeaderValue = plain_text(), content_type;
    }

    /// Changes of headers.
    struct ChangesKeys {
        set: BTreeMap<HeaderName, HeaderValue> = BTreeMap::new(), header_values;
        remove: BTreeSet<HeaderName> = BTreeSet::new(), header_names;
    }
}

impl RouteConfig {
    /// The route, or what keeps it from being one.
    fn route(&self, backends: &[BackendConfig], node: &Node<'_>) -> Option<Route> {
        let origin = Origin::Config { line: node.line() };
        let action = self.action(backends, node)?;
        let mut route = Route::to_backend(
            origin,
            self.host.iter().cloned(),
            self.path.clone(),
            BackendName::unnamed(),
        );
        route.action = action;
        route.methods = self.methods.iter().cloned().collect();
        route.headers = self.headers.clone();
        route.frontends = self.frontends.clone();
        route.strip_prefix = self.strip_prefix;
        route.allow_from = self.allow_from.clone();
        route.basic_auth = self.basic_auth_file.as_ref().map(|file| BasicAuth {
            file: file.clone(),
            users: Vec::new(),
        });
        route.rate_limit = self.rate_limit;
        route.request_headers = self.request_headers.clone();
        route.response_headers = self.response_headers.clone();
        Some(route)
    }

    /// A client of a split stays where its first request went, where the backend's clients stay with their server.
    fn action(&self, backends: &[BackendConfig], node: &Node<'_>) -> Option<Action> {
        match (&self.backend, &self.redirect, &self.respond) {
            (Some(backend), None, None) => {
                let mut named = backends.iter().filter(|known| known.name == *backend);
                let split = Split {
                    to: self.split.clone(),
                    sticky: !self.split.is_empty() && named.any(|known| known.sticky.is_some()),
                };
                let backend = backend.clone();
                Some(Action::Backend { backend, split })
            }
            (None, Some(redirect), None) => Some(Action::Redirect(redirect.clone())),
            (None, None, Some(response)) => Some(Action::Respond(response.clone())),
            (None, None, None) => {
                let message =
                    "nothing says what is done with a request; set backend, redirect or respond";
                node.complain("backend", message);
                None
            }
            _ => {
                let mut given = ["backend", "redirect", "respond"]
                    .into_iter()
                    .filter(|key| node.has(key));
                let first = given.next().unwrap_or_default();
                for key in given {
                    node.complain(key, format!("there is {first} already; keep one of them"));
                }
                None
            }
        }
    }

    /// Complains about keys that do not go together.
    fn check(&self, node: &Node<'_>) {
        if self.headers.len() > MOST_HEADERS {
            node.complain(
                "headers",
                format!("more than {MOST_HEADERS}; leave some out"),
            );
        }
        if self.strip_prefix && !matches!(self.path, PathPattern::Prefix(_)) {
            let message = "there is no prefix to strip; set path = \"/api\"";
            node.complain("strip_prefix", message);
        }
        if self.backend.is_some() {
            let shares: u32 = self.split.iter().map(|to| u32::from(to.percent)).sum();
            if shares > 100 {
                let message = format!("the shares are {shares} percent together; give at most 100");
                node.complain("split", message);
            }
            return;
        }
        let about_servers = ["split", "strip_prefix", "request_headers"];
        for key in about_servers.into_iter().filter(|key| node.has(key)) {
            node.complain(
                key,
                "is for requests that a server gets; set backend, or leave it out",
            );
        }
    }
}

/// Makes the routes of a config whose keys are right one by one, and complains about what does not go together.
pub(super) fn routes(config: &mut Config, root: &Node<'_>) {
    if config.routes.is_empty() {
        return;
    }
    let nodes = root.elements("route");
    if config.routes.len() > MOST_ROUTES {
        root.complain("route", format!("there are more than {MOST_ROUTES}"));
        return;
    }
    let mut made = Vec::new();
    for (route, node) in config.routes.iter().zip(&nodes) {
        route.check(node);
        backends(config, route, node);
        front_ends(config, route, node);
        let read = route.route(&config.backends, node);
        made.extend(read.map(|route| (route, node)));
    }
    map_path(&config.haproxy.routes_map(), root);
    any_front_end(config, root);
    let (made, nodes): (Vec<Route>, Vec<&Node<'_>>) = made.into_iter().unzip();
    match Routes::new(made) {
        Ok(routes) => config.routing = routes,
        Err(ambiguities) => {
            for found in ambiguities {
                let (Some(first), Some(second)) = (nodes.get(found.first), nodes.get(found.second))
                else {
                    continue;
                };
                second.complain(
                    "",
                    format!(
                        "could win the same request as the route of line {}, on host {}, and neither is more specific; give one \
                         of them another host, path, method or header",
                        first.line(),
                        found.host
                    ),
                );
            }
        }
    }
}

fn backends(config: &Config, route: &RouteConfig, node: &Node<'_>) {
    let split = route.split.iter().map(|to| ("split", &to.backend));
    let named = route.backend.iter().map(|backend| ("backend", backend));
    let mut seen = BTreeSet::new();
    for (key, name) in named.chain(split) {
        match config.backends.iter().find(|backend| &backend.name == name) {
            None => {
                let names: Vec<&str> = config.backends.iter().map(|b| b.name.as_str()).collect();
                let message = format!(
                    "there is no backend {name}; use one of {}",
                    names.join(", ")
                );
                node.complain(key, message);
            }
            Some(backend) if backend.mode == Mode::Tcp => {
                let message = format!("backend {name} speaks no HTTP; set its mode = \"http\"");
                node.complain(key, message);
            }
            Some(_) if !seen.insert(name) => {
                node.complain(key, format!("backend {name} is named twice; leave one out"));
            }
            Some(_) => {}
        }
    }
}

/// The path of the map is printed among HAProxy's own signs.
fn map_path(map: &Path, root: &Node<'_>) {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    if !map.display().to_string().bytes().all(fits) {
        let message = format!(
            "routes have a map beside it, {}, in whose path only letters, digits and `/._-` may be; move it",
            map.display()
        );
        root.complain("haproxy.config", message);
    }
}

/// Routes are of requests: the front ends that one names are there and speak HTTP.
fn front_ends(config: &Config, route: &RouteConfig, node: &Node<'_>) {
    for name in &route.frontends {
        let mut frontends = config.frontends.iter();
        match frontends.find(|frontend| frontend.name.as_str() == name) {
            Some(frontend) if frontend.mode == Mode::Http => {}
            Some(_) => node.complain(
                "frontends",
                format!("front end {name} speaks no HTTP; leave it out"),
            ),
            None => {
                let names = config.frontends.iter().map(|it| it.name.as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                node.complain(
                    "frontends",
                    format!("there is no front end {name:?}; use one of {names}"),
                );
            }
        }
    }
}

/// Where the built-in template has front ends, one at least speaks HTTP.
fn any_front_end(config: &Config, root: &Node<'_>) {
    let http = |frontend: &Frontend| frontend.mode == Mode::Http;
    if !config.frontends.is_empty() && !config.frontends.iter().any(http) {
        let message = "no front end speaks HTTP, and so none can have routes; set mode = \"http\" in its default backend, or \
                       take the routes out";
        root.complain("frontend", message);
    }
}

fn hosts(node: &Node<'_>) -> Option<Vec<HostPattern>> {
    let host = |node: &Node<'_>| {
        let text = node.text("a host, \"shop.example.com\" or \"*.example.com\"")?;
        HostPattern::parse(text).or_else(|| {
            node.refuse(
                "not the name of a host; write \"shop.example.com\", without scheme and port, or \"*.example.com\" for one \
                 label more",
            )
        })
    };
    not_empty(
        node,
        host,
        "an empty list is for no host; leave it out for any",
    )
}

fn path_pattern(node: &Node<'_>) -> Option<PathPattern> {
    let text = node.text("a path, \"/api\" or \"=/health\"")?;
    let parsed = PathPattern::parse(text);
    parsed.map_err(|why| node.refuse::<()>(why)).ok()
}

fn methods(node: &Node<'_>) -> Option<Vec<Method>> {
    let method = |node: &Node<'_>| node.parse("a method in upper case, \"GET\"", Method::new);
    not_empty(
        node,
        method,
        "an empty list is for no method; leave it out for any",
    )
}

fn frontends(node: &Node<'_>) -> Option<BTreeSet<String>> {
    let name = |node: &Node<'_>| node.text("the name of a front end").map(str::to_owned);
    let names = not_empty(
        node,
        name,
        "an empty list is for no front end; leave it out for all",
    )?;
    Some(names.into_iter().collect())
}

fn header_name(node: &Node<'_>, text: &str) -> Option<HeaderName> {
    HeaderName::new(text).or_else(|| {
        node.refuse(format!(
            "{text:?} is not the name of a header; use letters, digits, `-` and `_`"
        ))
    })
}

fn header_value(node: &Node<'_>) -> Option<HeaderValue> {
    let text = node.text("the value of a header")?;
    HeaderValue::new(text).or_else(|| {
        node.refuse("not the value of a header; use printable ASCII, at most 1024 characters, no blank at its ends")
    })
}

/// A table of headers, each name once.
fn table<T>(
    node: &Node<'_>,
    what: &str,
    read: impl Fn(&Node<'_>) -> Option<T>,
) -> Option<BTreeMap<HeaderName, T>> {
    let mut read_all = BTreeMap::new();
    for (name, value) in node.names(what)? {
        let name = header_name(&value, name)?;
        let header = read(&value)?;
        if read_all.insert(name.clone(), header).is_some() {
            return value.refuse(format!("header {name} is there twice; leave one out"));
        }
    }
    Some(read_all)
}

fn headers(node: &Node<'_>) -> Option<BTreeMap<HeaderName, HeaderPattern>> {
    let pattern = |node: &Node<'_>| {
        let value = header_value(node)?;
        match value.as_str() {
            "*" => Some(HeaderPattern::Present),
            // it would end a condition, however it is quoted
            "}" => node.refuse("HAProxy cannot compare with this value; give another"),
            _ => Some(HeaderPattern::Value(value)),
        }
    };
    table(node, "a table, { X-Canary = \"1\" }", pattern)
}

fn header_values(node: &Node<'_>) -> Option<BTreeMap<HeaderName, HeaderValue>> {
    let value = |node: &Node<'_>| {
        let value = header_value(node)?;
        if value.as_str().is_empty() {
            return node.refuse("an empty value; put the header into remove");
        }
        Some(value)
    };
    table(node, "a table, { X-Env = \"prod\" }", value)
}

fn header_names(node: &Node<'_>) -> Option<BTreeSet<HeaderName>> {
    let name = |node: &Node<'_>| header_name(node, node.text("the name of a header")?);
    Some(node.list(name)?.into_iter().collect())
}

fn changes(node: &Node<'_>) -> Option<HeaderChanges> {
    let ChangesKeys { set, remove } = ChangesKeys::read(node)?;
    Some(HeaderChanges { remove, set })
}

fn split(node: &Node<'_>) -> Option<Vec<SplitTo>> {
    let mut read = Vec::new();
    for (name, share) in node.names("a table, { api-v2 = 5 }")? {
        let backend = BackendName::new(name);
        let backend =
            backend.or_else(|| share.refuse(format!("{name:?} is not the name of a backend")))?;
        let percent = number(0..=100)(&share)?;
        read.push(SplitTo { backend, percent });
    }
    read.sort_by(|one, other| one.backend.cmp(&other.backend));
    Some(read)
}

fn url(node: &Node<'_>) -> Option<HeaderValue> {
    let what = "a URL, \"https://www.example.com\", or a path";
    let text = node.text(what)?;
    let is_target = ["http://", "https://", "/"]
        .iter()
        .any(|start| text.starts_with(start));
    let value = HeaderValue::new(text).filter(|_| is_target && !text.contains(' '));
    value.or_else(|| {
        node.refuse(format!(
            "expected {what}, of printable ASCII without blanks"
        ))
    })
}

fn redirect_status(node: &Node<'_>) -> Option<u16> {
    let status = number(301..=308)(node)?;
    let known = [301, 302, 303, 307, 308].contains(&status);
    known
        .then_some(status)
        .or_else(|| node.refuse("not the status of a redirect; give 301, 302, 303, 307 or 308"))
}

/// A URL, or a table. One that names no path has that of the request put behind it, unless the table says else.
fn redirect(node: &Node<'_>) -> Option<Redirect> {
    let keys = if node.value().is_table() {
        RedirectKeys::read(node)?
    } else {
        let to = Some(url(node)?);
        RedirectKeys {
            to,
            ..RedirectKeys::default()
        }
    };
    let to = keys.to?;
    let names_no_path = to
        .as_str()
        .split_once("://")
        .is_some_and(|(_, rest)| !rest.contains('/'));
    Some(Redirect {
        status: keys.status,
        keeps_path: keys.keep_path.unwrap_or(names_no_path),
        to,
    })
}

fn plain_text() -> HeaderValue {
    HeaderValue::new("text/plain").unwrap_or_else(HeaderValue::empty)
}

fn content_type(node: &Node<'_>) -> Option<HeaderValue> {
    header_value(node).filter(|value| !value.as_str().is_empty())
}

fn body(node: &Node<'_>) -> Option<String> {
    let text = node.text("a text")?;
    let fits = |c: char| c == '\n' || c == '\t' || (' '..='~').contains(&c);
    if text.len() > 4096 || !text.chars().all(fits) {
        return node.refuse("not a text that can be sent; use printable ASCII and newlines, at most 4096 characters");
    }
    Some(text.to_owned())
}

fn respond(node: &Node<'_>) -> Option<Response> {
    let RespondKeys {
        status,
        body,
        content_type,
    } = RespondKeys::read(node)?;
    Some(Response {
        status,
        body,
        content_type,
    })
}

/// `REQUESTS/TIME`.
fn rate_limit(node: &Node<'_>) -> Option<RateLimit> {
    let what = "requests and a time, \"100/10s\": 1 to 1000000 requests in 1s to 1h, whole seconds";
    node.parse(what, |text| {
        let (requests, period) = text.split_once('/')?;
        let period = period.trim();
        // "100/s" is what people write first
        let period = match period {
            "s" | "m" | "h" => format!("1{period}"),
            _ => period.to_owned(),
        };
        let period: Duration = humantime::parse_duration(&period).ok()?;
        let requests = requests.trim().parse().ok()?;
        let fits = (1..=1_000_000).contains(&requests)
            && (SECOND..=HOUR).contains(&period)
            && period.subsec_nanos() == 0;
        fits.then_some(RateLimit { requests, period })
    })
}
