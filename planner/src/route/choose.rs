//! Which route a request takes, and why the others do not win. Pure.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;

use super::request::BadRequest;
use super::{HostPattern, Rank, Request, Route, Routes};

/// What becomes of a request, as far as routes say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The route that it takes; none is the front end's `default_backend`.
    pub winner: Option<Winner<'a>>,
    /// All others, in the order in which they win.
    pub others: Vec<Other<'a>>,
}

/// The route that a request takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Winner<'a> {
    /// The route.
    pub route: &'a Route,
    /// Which of its hosts the request is for.
    pub host: &'a HostPattern,
    /// By which it wins.
    pub rank: Rank,
    /// What keeps the request out all the same.
    pub refusal: Option<Refusal>,
}

/// What keeps a request out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 403: its client's address is in none of the route's networks.
    Address(IpAddr),
}

/// A route that a request does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other<'a> {
    /// The route.
    pub route: &'a Route,
    /// Why.
    pub lost: Lost<'a>,
}

/// Why a route does not win: the first thing that is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost<'a> {
    /// It is for other front ends.
    Frontend,
    /// It is for other hosts.
    Host,
    /// It is for other paths.
    Path,
    /// It is for other methods.
    Method,
    /// It wants this header otherwise.
    Header(&'a str),
    /// It matches, and so does the winner, which is more specific.
    LessSpecific(Rank),
}

impl Routes {
    /// Which route a request takes.
    ///
    /// # Errors
    /// Why it gets 400 whatever the routes are.
    pub fn choose(&self, request: &Request) -> Result<Choice<'_>, BadRequest> {
        let path = request.path()?;
        let mut others = Vec::new();
        let mut matching = Vec::new();
        for route in self.iter() {
            match fits(route, request, path) {
                Ok((rank, host)) => matching.push((rank, host, route)),
                Err(lost) => others.push(Other { route, lost }),
            }
        }
        matching.sort_by_key(|(rank, ..)| Reverse(*rank));
        let mut matching = matching.into_iter();
        let winner = matching.next().map(|(rank, host, route)| Winner {
            route,
            host,
            rank,
            refusal: refusal(&route.allow_from, request.from),
        });
        let beaten = matching.map(|(rank, _, route)| Other {
            route,
            lost: Lost::LessSpecific(rank),
        });
        others.splice(..0, beaten);
        Ok(Choice { winner, others })
    }
}

fn refusal(allowed: &[IpNet], from: Option<IpAddr>) -> Option<Refusal> {
    let from = from?.to_canonical();
    let may = allowed.is_empty() || allowed.iter().any(|network| network.contains(&from));
    (!may).then_some(Refusal::Address(from))
}

/// The greatest rank by which a route matches.
fn fits<'a>(
    route: &'a Route,
    request: &Request,
    path: &str,
) -> Result<(Rank, &'a HostPattern), Lost<'a>> {
    if !route.frontends.is_empty() && !route.frontends.contains(&request.frontend) {
        return Err(Lost::Frontend);
    }
    let hosts = route
        .hosts
        .iter()
        .filter(|host| host.matches(request.host()));
    let ranks = hosts.map(|host| (Rank::of(host, route), host));
    let ranked = ranks.max_by_key(|(rank, _)| *rank).ok_or(Lost::Host)?;
    if !route.path.matches(path) {
        return Err(Lost::Path);
    }
    let mut methods = route.methods.iter();
    if !route.methods.is_empty() && !methods.any(|method| method.as_str() == request.method) {
        return Err(Lost::Method);
    }
    let mut headers = route.headers.iter();
    let unfit = headers.find(|(name, pattern)| !pattern.matches(request.header(name.as_str())));
    match unfit {
        Some((name, _)) => Err(Lost::Header(name.as_str())),
        None => Ok(ranked),
    }
}
