//! Laws of the choice, over routes and requests that are so few that they often meet.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::*;
use crate::route::ambiguity::clash;
use crate::route::map;

fn host() -> impl Strategy<Value = HostPattern> {
    let names = ["a.test", "b.a.test", "*.a.test", "*.test", "c.test"];
    prop_oneof![
        1 => Just(HostPattern::Any),
        5 => select(names.to_vec()).prop_map(|name| HostPattern::parse(name).unwrap()),
    ]
}

fn path() -> impl Strategy<Value = PathPattern> {
    let paths = ["/", "/a", "/a/b", "/ab", "=/a", "=/a/b", "=/a/", "/a/b/c"];
    select(paths.to_vec()).prop_map(|path| PathPattern::parse(path).unwrap())
}

fn headers() -> impl Strategy<Value = BTreeMap<HeaderName, HeaderPattern>> {
    let value = |text: &str| HeaderPattern::Value(HeaderValue::new(text).unwrap());
    let pattern = select(vec![HeaderPattern::Present, value("1"), value("2")]);
    let name = select(vec!["X-A", "x-b"]).prop_map(|name| HeaderName::new(name).unwrap());
    prop::collection::btree_map(name, pattern, 0..3)
}

fn route() -> impl Strategy<Value = Route> {
    let methods = subsequence(vec!["GET", "POST"], 0..3);
    let hosts = prop::collection::btree_set(host(), 1..3);
    let strip = any::<bool>();
    (hosts, path(), methods, headers(), 0..9u8, strip).prop_map(
        |(hosts, path, methods, headers, number, strip)| {
            let backend = BackendName::new(format!("b{number}")).unwrap();
            let origin = Origin::Config { line: 1 };
            let may_strip = matches!(path, PathPattern::Prefix(_));
            let mut route = Route::to_backend(origin, hosts, path, backend);
            route.methods = methods.iter().filter_map(|m| Method::new(m)).collect();
            route.headers = headers;
            route.strip_prefix = strip && may_strip;
            route
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let hosts = [
        "a.test",
        "A.test.:80",
        "b.a.test",
        "x.a.test",
        "x.b.a.test",
        "c.test",
        "x.y",
        "*",
        "",
    ];
    let paths = [
        "/", "/a", "/a/", "/a/b", "//a//b", "/%61/b", "/a%2fb", "/ab", "/a/b/c/d", "/x", "/A",
    ];
    let value = || prop::option::of(select(vec!["1", "2", "3", ""]));
    let method = select(vec!["GET", "POST", "PUT"]);
    (
        method,
        select(hosts.to_vec()),
        select(paths.to_vec()),
        value(),
        value(),
    )
        .prop_map(|(method, host, path, a, b)| {
            let mut request = Request::new(method, Some(host), path);
            let named = [("x-A", a), ("X-B", b)].into_iter();
            let given = named.filter_map(|(name, value)| Some((name.into(), value?.into())));
            request.headers = given.collect();
            request
        })
}

/// Those of some routes that clash with none before them.
fn without_clashes(routes: Vec<Route>) -> Vec<Route> {
    let mut kept: Vec<Route> = Vec::new();
    for route in routes {
        if !kept.iter().any(|other| clash(other, &route).is_some()) {
            kept.push(route);
        }
    }
    kept
}

/// A request that a route matches for this host, all that it leaves open taken from `other`.
fn example(route: &Route, other: &Route, host: &HostPattern) -> Request {
    let host = match host {
        HostPattern::Any => None,
        HostPattern::Wildcard(name) => Some(format!("one.{}", name.as_str())),
        HostPattern::Exact(name) => Some(name.as_str().to_owned()),
    };
    let mut both = route
        .methods
        .intersection(&other.methods)
        .chain(&route.methods)
        .chain(&other.methods);
    let method = both.next().map_or("GET", Method::as_str);
    let path = if route.path == PathPattern::Any {
        "/"
    } else {
        route.path.as_str()
    };
    let mut request = Request::new(method, host.as_deref(), path);
    for (name, pattern) in route.headers.iter().chain(&other.headers) {
        let value = match pattern {
            HeaderPattern::Present => continue,
            HeaderPattern::Value(value) => value.as_str(),
        };
        request
            .headers
            .push((name.as_str().to_owned(), value.to_owned()));
    }
    for name in route.headers.keys().chain(other.headers.keys()) {
        request
            .headers
            .push((name.as_str().to_owned(), "any".to_owned()));
    }
    request
}

proptest! {
    #[test]
    fn the_order_of_the_routes_does_not_matter(
        (routes, shuffled) in prop::collection::vec(route(), 0..12).prop_map(without_clashes)
            .prop_flat_map(|routes| (Just(routes.clone()), Just(routes).prop_shuffle())),
        requests in prop::collection::vec(request(), 1..20),
    ) {
        let routes = Routes::new(routes).unwrap();
        let shuffled = Routes::new(shuffled).unwrap();
        prop_assert_eq!(&routes, &shuffled);
        for request in &requests {
            prop_assert_eq!(routes.choose(request), shuffled.choose(request));
        }
    }

    #[test]
    fn of_routes_that_do_not_clash_one_wins_every_request(
        routes in prop::collection::vec(route(), 0..12).prop_map(without_clashes),
        requests in prop::collection::vec(request(), 1..20),
    ) {
        let routes = Routes::new(routes).unwrap();
        for request in &requests {
            let choice = routes.choose(request).unwrap();
            let beaten = choice.others.iter().filter_map(|other| match other.lost {
                Lost::LessSpecific(rank) => Some(rank),
                _ => None,
            });
            let best = choice.winner.as_ref().map(|winner| winner.rank);
            for rank in beaten {
                prop_assert!(Some(rank) < best, "{:?}", choice);
            }
        }
    }

    #[test]
    fn routes_that_are_refused_could_win_one_request_by_the_same_rank(
        routes in prop::collection::vec(route(), 2..8),
    ) {
        let Err(ambiguities) = Routes::new(routes.clone()) else { return Ok(()) };
        for Ambiguity { first, second, host } in ambiguities {
            prop_assert!(first < second);
            let (first, second) = (&routes[first], &routes[second]);
            let request = example(first, second, &host);
            for route in [first, second] {
                let alone = Routes::new(vec![route.clone()]).unwrap();
                let choice = alone.choose(&request).unwrap();
                let rank = choice.winner.map(|winner| winner.rank);
                prop_assert!(rank >= Some(Rank::of(&host, route)), "{}\n{:?}", route, request);
            }
            prop_assert_eq!(Rank::of(&host, first), Rank::of(&host, second));
        }
    }

    #[test]
    fn every_change_of_the_map_brings_the_wanted_one(
        before in prop::collection::vec(route(), 0..12).prop_map(without_clashes),
        after in prop::collection::vec(route(), 0..12).prop_map(without_clashes),
        twice in any::<bool>(),
    ) {
        let wanted = map::entries(&Routes::new(after).unwrap());
        let mut running: Vec<(String, String)> = map::entries(&Routes::new(before).unwrap()).into_iter().collect();
        if twice {
            running.extend(running.first().cloned());
        }
        for change in map::changes(&running, &wanted) {
            match change {
                map::Change::Add(key, value) => running.push((key, value)),
                map::Change::Set(key, value) => {
                    for entry in running.iter_mut().filter(|entry| entry.0 == key) {
                        entry.1.clone_from(&value);
                    }
                }
                map::Change::Delete(key) => running.retain(|entry| entry.0 != key),
            }
        }
        running.sort();
        prop_assert_eq!(&running, &wanted.clone().into_iter().collect::<Vec<_>>());
        prop_assert!(map::changes(&running, &wanted).is_empty());
        let lines = wanted.iter().map(|(key, value)| format!("0x55aa {key} {value}\n"));
        let shown = map::shown(&lines.collect::<String>());
        prop_assert_eq!(shown, Some(running));
    }
}
