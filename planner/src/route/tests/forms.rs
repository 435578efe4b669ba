//! The forms in which hosts, paths, hashes and URLs are taken.

use super::super::*;

#[test]
fn hosts_are_compared_without_case_port_and_final_dot() {
    for (sent, form) in [
        ("Shop.Example.com", Some("shop.example.com")),
        ("a.test:8080", Some("a.test")),
        ("a.test.:8080", Some("a.test")),
        ("a.test.", Some("a.test")),
        ("[::1]:80", Some("[::1]")),
        ("", None),
        (":80", None),
        ("-", None),
        ("a b", None),
        ("a/b", None),
        ("*", None),
        ("*.test", None),
    ] {
        assert_eq!(Request::new("GET", Some(sent), "/").host(), form, "{sent}");
    }
}

#[test]
fn a_wildcard_is_one_label() {
    let pattern = HostPattern::parse("*.a.test").unwrap();
    for (host, matches) in [
        ("x.a.test", true),
        ("a.test", false),
        ("y.x.a.test", false),
        (".a.test", false),
    ] {
        assert_eq!(pattern.matches(Some(host)), matches, "{host}");
    }
    assert!(!pattern.matches(None) && HostPattern::Any.matches(None));
}

#[test]
fn paths_are_compared_decoded_and_what_servers_disagree_about_is_refused() {
    for (sent, form) in [
        ("/", Ok("/")),
        ("//a///b/", Ok("/a/b/")),
        ("/%61%2fb", Ok("/a/b")),
        ("/A", Ok("/A")),
        ("/a+b%2Bc", Ok("/a+b+c")),
        ("/%2561", Ok("/%61")),
        ("*", Ok("/")),
        ("a.test:80", Ok("/")),
        ("/a/..b/.c", Ok("/a/..b/.c")),
        ("/a/%2e%2E/b", Err(BadRequest::DotSegment)),
        ("/a/.", Err(BadRequest::DotSegment)),
        ("/a%2f..", Err(BadRequest::DotSegment)),
        ("/a%00b", Err(BadRequest::Zero)),
        ("/a%0", Err(BadRequest::Escape)),
        ("/a%zz", Err(BadRequest::Escape)),
    ] {
        assert_eq!(Request::new("GET", None, sent).path(), form, "{sent}");
    }
}

#[test]
fn a_prefix_is_of_whole_segments() {
    let api = PathPattern::parse("/api/").unwrap();
    for (path, matches) in [
        ("/api", true),
        ("/api/", true),
        ("/api/x", true),
        ("/apix", false),
        ("/", false),
    ] {
        assert_eq!(api.matches(path), matches, "{path}");
    }
    let exact = PathPattern::parse("=/api").unwrap();
    assert!(exact.matches("/api") && !exact.matches("/api/"));
}

#[test]
fn a_url_has_a_host_and_a_path_or_either() {
    for (text, authority, path) in [
        ("https://a.test:8443/x?y#z", Some("a.test:8443"), "/x"),
        ("http://me:secret@a.test", Some("a.test"), "/"),
        ("a.test/x/y", Some("a.test"), "/x/y"),
        ("/x", None, "/x"),
    ] {
        assert_eq!(Url::parse(text), Some(Url { authority, path }), "{text}");
    }
    assert_eq!(Url::parse("ftp://a/"), None);
    assert_eq!(Url::parse(""), None);
}

#[test]
fn users_have_hashes_that_haproxy_knows() {
    let bcrypt = format!("$2y$05${}", "a".repeat(53));
    let good = format!(
        "# them\n\nanna:{bcrypt}\nb.c+d@e_f-1:$5$salt${}\r\n",
        "b".repeat(43)
    );
    let users = BasicAuth::parse(good.as_bytes()).unwrap();
    assert_eq!(users.len(), 2);
    assert_eq!(
        (users[0].name.as_str(), users[0].hash.as_str()),
        ("anna", bcrypt.as_str())
    );
    assert!(!format!("{users:?}").contains("$2y$"), "a hash in a log");
    for (text, said) in [
        ("".to_owned(), "there is no user in it"),
        ("anna".to_owned(), "line 1: no `NAME:HASH`"),
        (format!("\nan na:{bcrypt}"), "line 2: not a name"),
        (format!("-a:{bcrypt}"), "not a name"),
        (
            format!("a:{bcrypt}\na:{bcrypt}"),
            "line 2: this user was there before",
        ),
        ("a:$apr1$x$y".to_owned(), "Apache's own hash"),
        ("a:$1$x$y".to_owned(), "MD5"),
        ("a:secret".to_owned(), "not a hash that HAProxy knows"),
        (format!("a:$5$sa'lt${}", "b".repeat(43)), "not a hash"),
        (format!("a:{bcrypt} x"), "not a hash"),
        (
            "a:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(),
            "not a hash",
        ),
    ] {
        let error = BasicAuth::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    assert!(BasicAuth::parse(b"a\xff:b").is_err());
}

#[test]
fn routes_of_services_come_back_as_they_were() {
    let hosts = ["a.test", "*.b.test"].map(|host| HostPattern::parse(host).unwrap());
    let service = "shop".to_owned();
    let path = PathPattern::parse("=/x").unwrap();
    let backend = BackendName::new("shop").unwrap();
    let route = Route::to_backend(Origin::Service { service }, hosts, path, backend);
    let told = ServiceRoute::of(&route).unwrap();
    assert_eq!(told.route(), Some(route));
    let hostile = ServiceRoute {
        hosts: vec!["a b".to_owned()],
        ..told
    };
    assert_eq!(hostile.route(), None);
}
