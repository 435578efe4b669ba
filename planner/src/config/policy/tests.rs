//! What the keys of policy take, what they come to together, and what pages may hold.

use super::*;
use crate::config::{Config, Diagnostic};

fn read(lines: &str) -> Result<BackendConfig, Vec<Diagnostic>> {
    let text = format!(
        "[frontend]\nbind = [\"*:80\"]\n[[backend]]\nname = \"web\"\ntags = {{ a = \"b\" }}\nport = 1\n{lines}\n"
    );
    Config::parse(&text, []).map(|config| config.backends[0].clone())
}

fn backend(lines: &str) -> BackendConfig {
    read(lines).unwrap_or_else(|found| panic!("{lines}: {found:?}"))
}

/// The keys that are complained about.
fn refused(lines: &str) -> Vec<String> {
    let found = read(lines).err().unwrap_or_default();
    found
        .into_iter()
        .map(|it| it.key.replace("backend.web.", ""))
        .collect()
}

#[test]
fn a_key_alone_is_all_of_its_defaults_or_nothing() {
    let all = backend("sticky = true\nbreaker = true\noverload = true\nmax_conn = 5\ntls = true");
    assert_eq!(all.sticky, Some(Sticky::default()));
    assert_eq!(all.breaker, Some(Breaker::default()));
    assert_eq!(all.overload, Some(Overload::default()));
    assert_eq!(all.tls, Some(Tls::default()));
    let none = backend("sticky = false\nbreaker = false\noverload = false\ntls = false");
    assert_eq!(none.sticky, None);
    assert_eq!(none.tls, None);
    for key in ["sticky", "retry", "eject", "breaker", "overload", "tls"] {
        assert_eq!(refused(&format!("{key} = 7")), [key]);
        assert_eq!(
            refused(&format!("{key} = {{ unheard_of = 7 }}")).len(),
            1,
            "{key}"
        );
    }
}

#[test]
fn new_words_say_what_old_ones_do_and_not_both() {
    let old = backend("retries = 3\nobserve = \"layer7\"\nerror_limit = 9\nmaxconn = 4");
    let new =
        backend("retry = { attempts = 3 }\neject = { on = \"layer7\", errors = 9 }\nmax_conn = 4");
    for told in [&old, &new] {
        assert_eq!(told.retrying().attempts, 3);
        assert_eq!(told.ejection(), Some((Observe::Layer7, 9)));
        assert_eq!(told.server_limit(), Some(4));
    }
    assert_eq!(backend("eject = false").ejection(), None);
    assert_eq!(backend("").ejection(), Some((Observe::Layer4, 5)));
    assert_eq!(backend("check = \"off\"").ejection(), None);
    for (lines, key) in [
        ("retry = true\nretries = 3", "retries"),
        ("eject = true\nobserve = \"layer7\"", "observe"),
        ("eject = true\nerror_limit = 7", "error_limit"),
        ("max_conn = 3\nmaxconn = 3", "maxconn"),
    ] {
        assert_eq!(refused(lines), [key], "{lines}");
    }
}

#[test]
fn what_goes_with_no_other_key_is_told_at_the_key() {
    for (lines, keys) in [
        ("overload = true", &["overload"][..]),
        ("max_queue = 5", &["max_queue"]),
        ("mode = \"tcp\"\nsticky = true", &["sticky"]),
        (
            "mode = \"tcp\"\nretry = { methods = [\"GET\"] }",
            &["retry.methods"],
        ),
        (
            "mode = \"tcp\"\nbreaker = true\nproto = \"h2\"",
            &["breaker", "proto"],
        ),
        ("mode = \"tcp\"\ncompress = \"text/html\"", &["compress"]),
        ("mode = \"tcp\"\ntls = { sni = \"host\" }", &["tls.sni"]),
        (
            "mode = \"tcp\"\nmaintenance_page = \"/p.html\"",
            &["maintenance_page"],
        ),
        ("mode = \"tcp\"\neject = { on = \"layer7\" }", &["eject.on"]),
        ("check = \"off\"\neject = true", &["eject"]),
        (
            "sticky = { same_site = \"None\", secure = false }",
            &["sticky.same_site"],
        ),
        (
            "sticky = { max_idle = \"2h\", max_life = \"1h\" }",
            &["sticky.max_idle"],
        ),
        (
            "tls = { verify = \"none\", ca_file = \"/c\" }",
            &["tls.ca_file"],
        ),
        (
            "tls = true\nserver_options = \"ssl verify none\"",
            &["server_options"],
        ),
        (
            "slow_start = \"1s\"\nserver_options = \"slowstart 2s\"",
            &["server_options"],
        ),
    ] {
        assert_eq!(refused(lines), keys, "{lines}");
    }
    for lines in [
        "mode = \"tcp\"\nretry = { attempts = 2 }\ntls = true\nslow_start = \"5s\"\nmax_conn = 3\nmax_queue = 3",
        "check = \"off\"\neject = false",
        "sticky = { same_site = \"None\" }",
        "sticky = { max_idle = \"2h\" }",
    ] {
        backend(lines);
    }
}

#[test]
fn nothing_that_is_live_in_haproxy_gets_through_a_reader() {
    for word in [
        "a b", "a;b", "a\\\"", "a'b", "a#", "a$b", "a\\\\b", "a}b", "ä", "", "a\\nb",
    ] {
        for key in [
            "sticky = { cookie = \"@\" }",
            "sticky = { key = \"longenough@\" }",
            "retry = { on = \"@\" }",
            "retry = { methods = \"@\" }",
            "breaker = { page = \"/@.html\" }",
            "tls = { ca_file = \"/@.pem\" }",
            "tls = { sni = \"@\" }",
            "tls = { verify_host = \"@\" }",
            "compress = \"text/@\"",
            "maintenance_page = \"/@.http\"",
        ] {
            // What says nothing more than its key is something else.
            if word.is_empty() && (key.contains("/@.") || key.contains("longenough")) {
                continue;
            }
            let lines = key.replace('@', word);
            assert_eq!(refused(&lines).len(), 1, "{lines}");
        }
    }
}

#[test]
fn a_check_speaks_tls_as_its_traffic_does_unless_it_goes_elsewhere() {
    let check = |lines: &str| backend(lines).check.unwrap();
    assert!(check("tls = true").tls);
    assert!(check("tls = true\ncheck = \"HEAD /\"").tls);
    assert!(!check("tls = true\ncheck = { path = \"/\", port = 81 }").tls);
    assert!(!check("tls = true\ncheck = { path = \"/\", tls = false }").tls);
    assert!(!check("").tls);
    let named = check("tls = { sni = \"web.internal\" }");
    assert_eq!(named.sni.as_deref(), Some("web.internal"));
    let asked = check("tls = { sni = \"host\" }\ncheck = { path = \"/\", host = \"www.example\" }");
    assert_eq!(asked.sni.as_deref(), Some("www.example"));
    assert_eq!(check("tls = { sni = \"host\" }").sni, None);
}

#[test]
fn a_page_is_what_its_name_says() {
    for (path, form) in [
        ("/a.http", Some(PageForm::Response)),
        ("/a.html", Some(PageForm::Body("text/html;charset=utf-8"))),
        ("/a.json", Some(PageForm::Body("application/json"))),
        ("/a.txt", Some(PageForm::Body("text/plain;charset=utf-8"))),
        ("/a", None),
        ("/a.php", None),
    ] {
        let page = read(&format!("maintenance_page = {path:?}"));
        let found = page.ok().and_then(|it| it.maintenance_page);
        assert_eq!(found.map(|page| page.form), form, "{path}");
    }
}

#[test]
fn a_response_is_looked_at_as_haproxy_does() {
    let page = |form| Page {
        path: "/p".into(),
        form,
    };
    let response = |text: &str, status| page(PageForm::Response).judge(text.as_bytes(), status);
    let header = |line: &str| Err(PageError::Header(line.to_owned()));
    for (text, said) in [
        ("HTTP/1.1 503 Busy\r\nRetry-After: 5\r\n\r\n<p>", Ok(())),
        ("HTTP/1.0 503\n\n", Ok(())),
        ("HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\n<p>", Ok(())),
        (
            "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\n<p>",
            header("Content-Length: 4"),
        ),
        (
            "HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n",
            header("Connection: close"),
        ),
        (
            "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n",
            header("Transfer-Encoding: chunked"),
        ),
        (
            "HTTP/1.1 503 Busy\r\nno header\r\n\r\n",
            header("no header"),
        ),
        ("HTTP/1.1 503 Busy\r\nA: b\r\n", Err(PageError::NoBody)),
        ("HTTP/2 503\r\n\r\n", Err(PageError::NoStatusLine)),
        ("HTTP/1.1 5x3 Busy\r\n\r\n", Err(PageError::NoStatusLine)),
        ("<html>", Err(PageError::NoStatusLine)),
        ("", Err(PageError::Empty)),
    ] {
        assert_eq!(response(text, None), said, "{text:?}");
    }
    let other = PageError::Status {
        found: 503,
        expected: 429,
    };
    assert_eq!(response("HTTP/1.1 503 Busy\r\n\r\n", Some(429)), Err(other));
    let body = |text: &[u8]| page(PageForm::Body("text/html")).judge(text, Some(503));
    assert_eq!(body(b"<p>"), Ok(()));
    assert_eq!(body(b"HTTP/1.1 503 Busy\r\n\r\n"), Err(PageError::Whole));
    assert_eq!(body(&[b'x'; MAX_PAGE]), Ok(()));
    assert_eq!(
        body(&[b'x'; MAX_PAGE + 1]),
        Err(PageError::Large(MAX_PAGE + 1))
    );
}
