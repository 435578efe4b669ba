//! What a template sees of the routes: a config in, rules with words that are safe to print out. Pure.
//!
//! HAProxy's Configuration Manual, section 2.2 "Quoting and escaping": between single quotes nothing is live but the quote.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::config::Config;
use crate::model::BackendName;
use crate::route::{
    Action, BasicAuth, HeaderChanges, HeaderPattern, HostPattern, PathPattern, Rank, Response,
    Route, Split, SplitTo,
};
use crate::stamp::digest;

#[derive(Serialize)]
pub(super) struct RoutesView<'a> {
    map: String,
    rules: Vec<RuleView<'a>>,
    choices: Vec<ChoiceView<'a>>,
    users: Vec<UsersView<'a>>,
    rates: Vec<RateTableView>,
}

#[derive(Clone, Serialize)]
struct RuleView<'a> {
    id: String,
    about: String,
    frontends: Vec<&'a str>,
    hosts: Vec<HostView>,
    path: PathView<'a>,
    methods: Vec<&'a str>,
    headers: Vec<HeaderView<'a>>,
    allow_from: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<RateView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<String>,
    response_remove: Vec<&'a str>,
    response_set: Vec<HeaderView<'a>>,
    #[serde(flatten)]
    action: ActionView<'a>,
    request_remove: Vec<&'a str>,
    request_set: Vec<HeaderView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strip: Option<String>,
}

/// A rule for one kind of its hosts.
#[derive(Serialize)]
struct ChoiceView<'a> {
    rank: u32,
    kind: &'static str,
    rule: RuleView<'a>,
}

#[derive(Clone, Serialize)]
struct HostView {
    kind: &'static str,
    pattern: String,
}

#[derive(Clone, Serialize)]
struct PathView<'a> {
    kind: &'static str,
    path: &'a str,
}

#[derive(Clone, Serialize)]
struct HeaderView<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

#[derive(Clone, Serialize)]
struct RateView {
    requests: u32,
    seconds: u64,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "lowercase")]
enum ActionView<'a> {
    Redirect {
        kind: &'static str,
        to: String,
        status: u16,
    },
    Respond {
        status: u16,
        content_type: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<String>,
    },
    #[serde(untagged)]
    Backend {
        backend: &'a str,
        split: Vec<ShareView<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cookie: Option<CookieView<'a>>,
    },
}

#[derive(Clone, Serialize)]
struct ShareView<'a> {
    backend: &'a str,
    from: u32,
    below: u32,
}

#[derive(Clone, Serialize)]
struct CookieView<'a> {
    name: String,
    values: Vec<&'a str>,
}

#[derive(Serialize)]
struct UsersView<'a> {
    name: String,
    users: Vec<UserView<'a>>,
}

#[derive(Serialize)]
struct UserView<'a> {
    name: &'a str,
    hash: String,
}

#[derive(Serialize)]
struct RateTableView {
    id: String,
    period: String,
    expire: String,
}

impl<'a> RoutesView<'a> {
    /// What is printed of the routes; none where there is none, and no member may bring one.
    pub(super) fn new(config: &'a Config) -> Option<Self> {
        let routing = &config.routing;
        if routing.is_empty() && config.services.is_none() {
            return None;
        }
        let rules: Vec<(&Route, RuleView<'_>)> =
            routing.rules().map(|route| (route, rule(route))).collect();
        let mut choices: Vec<ChoiceView<'_>> = rules
            .iter()
            .flat_map(|(route, rule)| choices(route, rule))
            .collect();
        choices.sort_by(|one, other| {
            let key = |choice: &ChoiceView<'_>| Reverse(choice.rank);
            key(one)
                .cmp(&key(other))
                .then_with(|| one.rule.id.cmp(&other.rule.id))
        });
        let auths = routing.iter().filter_map(|route| route.basic_auth.as_ref());
        let auths: BTreeMap<&Path, &BasicAuth> =
            auths.map(|auth| (auth.file.as_path(), auth)).collect();
        let rates = rules.iter().filter_map(|(route, rule)| {
            let seconds = route.rate_limit?.period.as_secs();
            Some(RateTableView {
                id: rule.id.clone(),
                period: format!("{seconds}s"),
                expire: format!("{}s", 2 * seconds),
            })
        });
        Some(Self {
            map: config.haproxy.routes_map().display().to_string(),
            choices,
            users: auths.values().map(|auth| users(auth)).collect(),
            rates: rates.collect(),
            rules: rules.into_iter().map(|(_, rule)| rule).collect(),
        })
    }
}

fn choices<'a>(route: &Route, rule: &RuleView<'a>) -> Vec<ChoiceView<'a>> {
    let ranks = route
        .hosts
        .iter()
        .map(|host| (kind(host), Rank::of(host, route).get()));
    let ranks: BTreeMap<&'static str, u32> = ranks.collect();
    let choice = |(kind, rank)| ChoiceView {
        rank,
        kind,
        rule: rule.clone(),
    };
    ranks.into_iter().map(choice).collect()
}

/// The variable that such a pattern is compared with, without its prefix.
fn kind(host: &HostPattern) -> &'static str {
    match host {
        HostPattern::Any => "any",
        HostPattern::Wildcard(_) => "wild",
        HostPattern::Exact(_) => "host",
    }
}

fn rule(route: &Route) -> RuleView<'_> {
    let named = route.hosts.iter().filter(|host| **host != HostPattern::Any);
    let hosts = named.map(|host| HostView {
        kind: kind(host),
        pattern: host.to_string(),
    });
    let headers = route.headers.iter().map(|(name, pattern)| HeaderView {
        name: name.as_str(),
        value: match pattern {
            HeaderPattern::Present => None,
            HeaderPattern::Value(value) if value.as_str().is_empty() => Some(String::new()),
            HeaderPattern::Value(value) => Some(quoted(value.as_str())),
        },
    });
    let id = route.id();
    RuleView {
        about: about(route),
        frontends: route.frontends.iter().map(String::as_str).collect(),
        hosts: hosts.collect(),
        path: PathView {
            kind: match route.path {
                PathPattern::Any => "any",
                PathPattern::Prefix(_) => "prefix",
                PathPattern::Exact(_) => "exact",
            },
            path: route.path.as_str(),
        },
        methods: route.methods.iter().map(|method| method.as_str()).collect(),
        headers: headers.collect(),
        allow_from: route.allow_from.iter().map(ToString::to_string).collect(),
        rate: route.rate_limit.map(|limit| RateView {
            requests: limit.requests,
            seconds: limit.period.as_secs(),
        }),
        users: route.basic_auth.as_ref().map(|auth| users_name(&auth.file)),
        response_remove: removed(&route.response_headers),
        response_set: set(&route.response_headers),
        action: action(route, &id),
        request_remove: removed(&route.request_headers),
        request_set: set(&route.request_headers),
        strip: strips(route).map(|prefix| quoted(&prefix_expression(prefix))),
        id,
    }
}

/// For a comment: no value of a header, which may be a secret, and no sign that ends a line.
fn about(route: &Route) -> String {
    let mut bare = route.clone();
    bare.headers.clear();
    let mut about = bare.matches();
    for name in route.headers.keys() {
        about = format!("{about}, {name}");
    }
    about
}

fn strips(route: &Route) -> Option<&str> {
    match &route.path {
        PathPattern::Prefix(prefix) if route.strip_prefix => Some(prefix),
        _ => None,
    }
}

/// Matches every way to write this prefix, percent escapes and doubled `/` included, and takes what is below it.
fn prefix_expression(prefix: &str) -> String {
    let mut expression = String::from("^");
    for byte in prefix.bytes() {
        if byte == b'/' {
            expression.push_str("(?:/|%2[fF])+");
            continue;
        }
        let digits = format!("{byte:02x}");
        let cased = digits.chars().map(|digit| match digit {
            'a'..='f' => format!("[{digit}{}]", digit.to_ascii_uppercase()),
            digit => digit.to_string(),
        });
        let literal = match char::from(byte) {
            literal if literal.is_ascii_alphanumeric() => literal.to_string(),
            literal => format!("[{literal}]"),
        };
        expression.push_str(&format!("(?:{literal}|%{})", cased.collect::<String>()));
    }
    expression + "(?:/|%2[fF])*(.*)$"
}

fn action<'a>(route: &'a Route, id: &str) -> ActionView<'a> {
    match &route.action {
        Action::Backend { backend, split } => ActionView::Backend {
            backend: backend.as_str(),
            split: shares(split),
            cookie: split.sticky.then(|| cookie(backend, split, id)),
        },
        Action::Redirect(redirect) => ActionView::Redirect {
            kind: if redirect.keeps_path {
                "prefix"
            } else {
                "location"
            },
            to: formatted(redirect.to.as_str()),
            status: redirect.status,
        },
        Action::Respond(Response {
            status,
            body,
            content_type,
        }) => ActionView::Respond {
            status: *status,
            content_type: quoted(content_type.as_str()),
            body: (!body.is_empty()).then(|| quoted(body)),
        },
    }
}

fn shares(split: &Split) -> Vec<ShareView<'_>> {
    let mut from = 0;
    let share = |to: &SplitTo| {
        let below = from + u32::from(to.percent);
        let range = (from, below);
        from = below;
        range
    };
    let ranges: Vec<(u32, u32)> = split.to.iter().map(share).collect();
    let shares = split.to.iter().zip(ranges);
    let views = shares.map(|(to, (from, below))| ShareView {
        backend: to.backend.as_str(),
        from,
        below,
    });
    views.filter(|share| share.from < share.below).collect()
}

fn cookie<'a>(backend: &'a BackendName, split: &'a Split, id: &str) -> CookieView<'a> {
    let shared: u32 = split.to.iter().map(|to| u32::from(to.percent)).sum();
    let others = split.to.iter().filter(|to| to.percent > 0);
    let own = (shared < 100).then_some(backend.as_str());
    let values = own.into_iter().chain(others.map(|to| to.backend.as_str()));
    CookieView {
        name: format!("sh_split_{id}"),
        values: values.collect(),
    }
}

fn removed(changes: &HeaderChanges) -> Vec<&str> {
    changes.remove.iter().map(|name| name.as_str()).collect()
}

fn set(changes: &HeaderChanges) -> Vec<HeaderView<'_>> {
    let set = changes.set.iter().map(|(name, value)| HeaderView {
        name: name.as_str(),
        value: Some(formatted(value.as_str())),
    });
    set.collect()
}

fn users_name(file: &Path) -> String {
    format!(
        "sh_users_{}",
        digest([file.display().to_string()].iter(), 4)
    )
}

fn users(auth: &BasicAuth) -> UsersView<'_> {
    let views = auth.users.iter().map(|user| UserView {
        name: &user.name,
        hash: quoted(&user.hash),
    });
    UsersView {
        name: users_name(&auth.file),
        users: views.collect(),
    }
}

/// One word of HAProxy's configuration in which nothing is live.
fn quoted(text: &str) -> String {
    let mut word = String::from("'");
    for c in text.chars() {
        match c {
            '\'' => word.push_str(r"'\''"),
            '\n' => word.push_str(r"'\n'"),
            '\t' => word.push_str(r"'\t'"),
            c => word.push(c),
        }
    }
    word + "'"
}

/// The same where a log format is expected.
fn formatted(text: &str) -> String {
    quoted(&text.replace('%', "%%"))
}
