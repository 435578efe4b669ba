//! What is said of a request: routes and a request in, the route that wins, what else applies and why the others do not win
//! out, for people and programs. Pure.

use std::fmt;

use serde::Serialize;

use super::choose::{Choice, Lost, Refusal, Winner};
use super::{Action, PathPattern, Request, Route, Routes};

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its method.
    pub method: String,
    /// Its host in the form in which it is compared; none where it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its path likewise; none where it has none that can be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What HAProxy answers by itself, whoever asks how often with which password; none where a server does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why that, where no route says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The route that wins; none is the front end's default backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Won>,
    /// The backend, as far as a server answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The backends that get a share instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<Share>,
    /// Where the client is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// What else is done, a sentence each, in HAProxy's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub applies: Vec<String>,
    /// The routes that do not win, in the order in which they would.
    pub others: Vec<Beaten>,
}

/// The route that wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Won {
    /// Who made it.
    pub origin: String,
    /// What it matches.
    pub matches: String,
    /// Its host that the request is for.
    pub host: String,
    /// By which it wins.
    pub rank: u32,
}

/// A share of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Who gets it.
    pub backend: String,
    /// So many percent.
    pub percent: u8,
}

/// A route that does not win.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Beaten {
    /// Who made it.
    pub origin: String,
    /// What it matches.
    pub matches: String,
    /// Why it does not win.
    pub why: String,
}

impl Report {
    /// What becomes of a request; `default` is the backend of those that no route takes.
    pub fn of(routes: &Routes, request: &Request, default: Option<&str>) -> Self {
        let mut report = Self {
            method: request.method.clone(),
            host: request.host().map(str::to_owned),
            path: request.path().ok().map(str::to_owned),
            status: None,
            why: None,
            route: None,
            backend: None,
            split: Vec::new(),
            redirect: None,
            applies: Vec::new(),
            others: Vec::new(),
        };
        match routes.choose(request) {
            Err(bad) => {
                report.status = Some(400);
                report.why = Some(bad.to_string());
            }
            Ok(Choice { winner, others }) => {
                report.others = others
                    .iter()
                    .map(|other| beaten(other.route, other.lost))
                    .collect();
                match winner {
                    Some(winner) => report.won(&winner),
                    None => report.backend = default.map(str::to_owned),
                }
            }
        }
        report
    }

    fn won(&mut self, winner: &Winner<'_>) {
        let route = winner.route;
        self.route = Some(Won {
            origin: route.origin.to_string(),
            matches: route.matches(),
            host: winner.host.to_string(),
            rank: winner.rank.get(),
        });
        self.applies = applies(route);
        if let Some(Refusal::Address(from)) = winner.refusal {
            self.status = Some(403);
            self.why = Some(format!("{from} is in none of its networks"));
            return;
        }
        match &route.action {
            Action::Backend { backend, split } => {
                self.backend = Some(backend.to_string());
                let shares = split.to.iter().map(|to| Share {
                    backend: to.backend.to_string(),
                    percent: to.percent,
                });
                self.split = shares.collect();
            }
            Action::Redirect(redirect) => {
                self.status = Some(redirect.status);
                self.redirect = Some(redirect.to.as_str().to_owned());
            }
            Action::Respond(response) => self.status = Some(response.status),
        }
    }
}

fn applies(route: &Route) -> Vec<String> {
    let mut said = Vec::new();
    if !route.allow_from.is_empty() {
        let networks = route.allow_from.iter().map(ToString::to_string);
        let networks: Vec<String> = networks.collect();
        said.push(format!(
            "403 unless the client is in {}",
            networks.join(", ")
        ));
    }
    if let Some(limit) = route.rate_limit {
        said.push(format!("429 beyond {limit} of one client address"));
    }
    if let Some(auth) = &route.basic_auth {
        said.push(format!(
            "401 without a name and password of {}",
            auth.file.display()
        ));
    }
    for (whose, changes) in [
        ("request", &route.request_headers),
        ("response", &route.response_headers),
    ] {
        let removed = changes
            .remove
            .iter()
            .map(|name| format!("removes the {whose} header {name}"));
        let set = changes
            .set
            .iter()
            .map(|(name, value)| format!("sets the {whose} header {name}: {}", value.as_str()));
        said.extend(removed.chain(set));
    }
    if let PathPattern::Prefix(prefix) = &route.path
        && route.strip_prefix
    {
        said.push(format!("servers see the path without {prefix}"));
    }
    said
}

fn beaten(route: &Route, lost: Lost<'_>) -> Beaten {
    let why = match lost {
        Lost::Frontend => "another front end".to_owned(),
        Lost::Host => "another host".to_owned(),
        Lost::Path => "another path".to_owned(),
        Lost::Method => "another method".to_owned(),
        Lost::Header(name) => format!("header {name} is missing or another"),
        Lost::LessSpecific(rank) => format!("matches, but is less specific: rank {rank}"),
    };
    Beaten {
        origin: route.origin.to_string(),
        matches: route.matches(),
        why,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("(no host) ");
        writeln!(
            f,
            "{} {host}{}",
            self.method,
            self.path.as_deref().unwrap_or_default()
        )?;
        match &self.route {
            Some(won) => {
                writeln!(f, "  route    {}: {}", won.origin, won.matches)?;
                writeln!(f, "  by       host {}, rank {}", won.host, won.rank)?;
            }
            None if self.why.is_none() => writeln!(f, "  route    none")?,
            None => {}
        }
        match (self.status, &self.redirect) {
            (Some(status), Some(to)) => writeln!(f, "  answer   {status} to {to}")?,
            (Some(status), None) => match &self.why {
                Some(why) => writeln!(f, "  answer   {status}: {why}")?,
                None => writeln!(f, "  answer   {status}")?,
            },
            (None, _) => {
                let backend = self
                    .backend
                    .as_deref()
                    .unwrap_or("(the template's default)");
                let rest: u16 =
                    100_u16.saturating_sub(self.split.iter().map(|to| u16::from(to.percent)).sum());
                if self.split.is_empty() {
                    writeln!(f, "  backend  {backend}")?;
                } else {
                    writeln!(f, "  backend  {rest}% {backend}")?;
                }
                for Share { backend, percent } in &self.split {
                    writeln!(f, "           {percent}% {backend}")?;
                }
            }
        }
        for sentence in &self.applies {
            writeln!(f, "  also     {sentence}")?;
        }
        for other in &self.others {
            writeln!(
                f,
                "  not      {}: {}: {}",
                other.origin, other.matches, other.why
            )?;
        }
        Ok(())
    }
}
