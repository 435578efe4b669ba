//! What a `[[route]]` may say, and what is said of one that may not.

use super::{SMALL, diagnostics, load};
use crate::config::Config;
use crate::route::{Action, HostPattern, Origin, PathPattern, Route};

const TCP: &str =
    "[[backend]]\nname = \"db\"\ntags = { role = \"db\" }\nport = 5432\nmode = \"tcp\"\n";

fn with(route: &str) -> String {
    format!("{SMALL}{TCP}[[route]]\n{route}\n")
}

fn config(route: &str) -> Config {
    load(&with(route)).unwrap()
}

fn only(route: &str) -> Route {
    config(route).routing.iter().next().unwrap().clone()
}

/// All that is said of it, without its places.
fn refused(route: &str) -> Vec<String> {
    let said = diagnostics(&with(route));
    let without_place = |line: String| line.splitn(3, ':').nth(2).unwrap().trim().to_owned();
    said.into_iter().map(without_place).collect()
}

#[test]
fn a_route_is_what_its_keys_say() {
    let route = only(
        "host = [\"Shop.Example.COM.\", \"*.x.test\"]\npath = \"/api/\"\nmethods = \"GET\"\nbackend = \"nodes\"\n\
         headers = { X-A = \"*\", x-b = \"it's\" }\nstrip_prefix = true\nrate_limit = \"100/m\"\nallow_from = \"10.0.0.0/8\"",
    );
    assert_eq!(
        route.to_string(),
        "GET *.x.test,shop.example.com/api, x-a: *, x-b: it's"
    );
    assert_eq!(route.path, PathPattern::Prefix("/api".to_owned()));
    assert_eq!(route.rate_limit.unwrap().to_string(), "100/1m");
    let line = SMALL.lines().count() + TCP.lines().count() + 1;
    assert_eq!(route.origin, Origin::Config { line });
    assert!(route.entry().is_none());
    let plain = only("backend = \"nodes\"");
    assert_eq!(
        plain.hosts.into_iter().collect::<Vec<_>>(),
        [HostPattern::Any]
    );
    assert!(only("backend = \"nodes\"").entry().is_some());
}

#[test]
fn a_redirect_keeps_the_path_where_it_names_none() {
    for (redirect, keeps) in [
        ("\"https://a.test\"", true),
        ("\"https://a.test:8443\"", true),
        ("\"https://a.test/\"", false),
        ("\"/login\"", false),
        ("{ to = \"https://a.test\", keep_path = false }", false),
        (
            "{ to = \"https://a.test/x\", keep_path = true, status = 301 }",
            true,
        ),
    ] {
        let route = only(&format!("redirect = {redirect}"));
        let Action::Redirect(made) = route.action else {
            panic!("{redirect}")
        };
        assert_eq!(made.keeps_path, keeps, "{redirect}");
    }
}

#[test]
fn what_is_wrong_with_a_route_is_told() {
    for (route, said) in [
        ("path = \"/\"", "nothing says what is done with a request"),
        (
            "backend = \"nodes\"\nredirect = \"https://a\"",
            "there is backend already",
        ),
        (
            "backend = \"nowhere\"",
            "there is no backend nowhere; use one of nodes, db",
        ),
        ("backend = \"db\"", "backend db speaks no HTTP"),
        (
            "backend = \"nodes\"\nsplit = { nodes = 5 }",
            "backend nodes is named twice",
        ),
        (
            "backend = \"nodes\"\nsplit = { nope = 5 }",
            "there is no backend nope",
        ),
        (
            "backend = \"nodes\"\nsplit = { nodes = 101 }",
            "expected a whole number from 0 to 100",
        ),
        (
            "respond = { status = 403 }\nsplit = { nodes = 5 }",
            "is for requests that a server gets",
        ),
        (
            "respond = { body = \"x\" }",
            "is missing; say which, status = 403",
        ),
        (
            "respond = { status = 199 }",
            "expected a whole number from 200 to 599",
        ),
        (
            "respond = { status = 200, body = \"\\u0007\" }",
            "not a text that can be sent",
        ),
        ("redirect = \"ftp://a\"", "expected a URL"),
        (
            "redirect = { to = \"https://a\", status = 300 }",
            "expected a whole number from 301 to 308",
        ),
        (
            "redirect = { to = \"https://a\", status = 304 }",
            "not the status of a redirect",
        ),
        ("backend = \"nodes\"\nhost = []", "is for no host"),
        (
            "backend = \"nodes\"\nhost = \"https://a\"",
            "not the name of a host",
        ),
        (
            "backend = \"nodes\"\nhost = \"a:80\"",
            "not the name of a host",
        ),
        (
            "backend = \"nodes\"\nhost = \"a.*\"",
            "not the name of a host",
        ),
        (
            "backend = \"nodes\"\nhost = \"*\"",
            "not the name of a host",
        ),
        ("backend = \"nodes\"\npath = \"api\"", "begins with no `/`"),
        ("backend = \"nodes\"\npath = \"/a%20b\"", "has a `%`"),
        ("backend = \"nodes\"\npath = \"/a*\"", "has a `*`"),
        ("backend = \"nodes\"\npath = \"/a?b\"", "has a `?`"),
        ("backend = \"nodes\"\npath = \"/a//b\"", "has `//`"),
        ("backend = \"nodes\"\npath = \"/a/../b\"", "has a segment"),
        (
            "backend = \"nodes\"\npath = \"/a b\"",
            "has the character ' '",
        ),
        (
            "backend = \"nodes\"\nmethods = [\"get\"]",
            "expected a method in upper case",
        ),
        (
            "backend = \"nodes\"\nheaders = { \"X Y\" = \"1\" }",
            "not the name of a header",
        ),
        (
            "backend = \"nodes\"\nheaders = { X = \"a\\nb\" }",
            "not the value of a header",
        ),
        (
            "backend = \"nodes\"\nheaders = { X = \"}\" }",
            "HAProxy cannot compare with this value",
        ),
        (
            "backend = \"nodes\"\nheaders = { X = \"1\", x = \"2\" }",
            "header x is there twice",
        ),
        (
            "backend = \"nodes\"\nrequest_headers = { set = { X = \"\" } }",
            "put the header into remove",
        ),
        (
            "backend = \"nodes\"\nstrip_prefix = true",
            "there is no prefix to strip",
        ),
        (
            "backend = \"nodes\"\npath = \"=/a\"\nstrip_prefix = true",
            "there is no prefix to strip",
        ),
        (
            "backend = \"nodes\"\nrate_limit = \"100\"",
            "expected requests and a time",
        ),
        (
            "backend = \"nodes\"\nrate_limit = \"0/10s\"",
            "expected requests and a time",
        ),
        (
            "backend = \"nodes\"\nrate_limit = \"1/500ms\"",
            "expected requests and a time",
        ),
        (
            "backend = \"nodes\"\nallow_from = []",
            "an empty list lets nobody in",
        ),
        (
            "backend = \"nodes\"\nfrontends = [\"other\"]",
            "there is no front end \"other\"",
        ),
        (
            "backend = \"nodes\"\nbasic_auth_file = \"users\"",
            "not an absolute path",
        ),
        (
            "backend = \"nodes\"\nhosts = \"a\"",
            "unknown key; did you mean `host`?",
        ),
    ] {
        let found = refused(route);
        assert!(
            found.len() == 1 && found[0].contains(said),
            "{route}: {found:?}"
        );
    }
    let shares = "backend = \"nodes\"\nsplit = { a = 60, b = 60 }";
    assert!(
        refused(shares)
            .iter()
            .any(|it| it.contains("the shares are 120 percent together"))
    );
}

#[test]
fn two_routes_that_could_win_one_request_are_refused_with_both_lines() {
    let route = |keys: &str| format!("[[route]]\nbackend = \"nodes\"\n{keys}\n");
    let first = SMALL.lines().count() + 1;
    for (one, other) in [
        ("", ""),
        (
            "host = [\"a.test\", \"b.test\"]",
            "host = [\"c.test\", \"B.TEST.\"]",
        ),
        ("path = \"/a\"", "path = \"/a/\""),
        (
            "methods = [\"GET\", \"POST\"]",
            "methods = [\"POST\", \"PUT\"]",
        ),
        ("methods = [\"GET\"]", "headers = { X = \"1\" }"),
        ("headers = { X = \"1\" }", "headers = { x = \"*\" }"),
    ] {
        let text = format!("{SMALL}{}{}", route(one), route(other));
        let found = diagnostics(&text);
        let second = first + route(one).lines().count();
        let named = format!("the route of line {first}");
        assert_eq!(found.len(), 1, "{one} and {other}: {found:?}");
        assert!(
            found[0].starts_with(&format!("{second}:")) && found[0].contains(&named),
            "{found:?}"
        );
    }
    for (one, other) in [
        ("host = \"a.test\"", "host = \"*.test\""),
        ("path = \"/a\"", "path = \"=/a\""),
        ("methods = [\"GET\"]", "methods = [\"POST\"]"),
        ("headers = { X = \"1\" }", "headers = { X = \"2\" }"),
        ("", "headers = { X = \"2\" }"),
    ] {
        let text = format!("{SMALL}{}{}", route(one), route(other));
        assert!(
            load(&text).is_ok(),
            "{one} and {other}: {:?}",
            diagnostics(&text)
        );
    }
}

#[test]
fn routes_are_of_http_and_of_a_path_that_can_be_printed() {
    let tcp = SMALL.replace("port = 3000", "port = 3000\nmode = \"tcp\"");
    let text = format!("{tcp}[[route]]\nrespond = {{ status = 200 }}\n");
    assert!(
        diagnostics(&text)
            .iter()
            .any(|it| it.contains("no front end speaks HTTP"))
    );
    let text = format!(
        "[haproxy]\nconfig = \"/etc/ha proxy.cfg\"\n{}",
        with("backend = \"nodes\"")
    );
    let found = diagnostics(&text);
    assert!(
        found.len() == 1 && found[0].contains("/etc/ha proxy.routes.map"),
        "{found:?}"
    );
}

#[test]
fn clients_stay_with_their_share_where_the_backends_clients_stay_with_their_server() {
    let two = "[[backend]]\nname = \"v2\"\ntags = { v = \"2\" }\nport = 3000\n";
    let share = "split = { v2 = 5 }\n";
    for (backend, split, stays) in [
        ("", share, false),
        ("sticky = true\n", share, true),
        ("sticky = true\n", "", false),
    ] {
        let route = format!("[[route]]\nbackend = \"nodes\"\n{split}");
        let config = load(&format!("{SMALL}{backend}{two}{route}")).unwrap();
        let route = config.routing.iter().next().unwrap();
        let Action::Backend { split, .. } = &route.action else {
            panic!("{route:?}");
        };
        assert_eq!(split.sticky, stays);
    }
}
