use super::*;

const GOOD: &str = "global\n  hard-stop-after 30s\n\
    defaults\n  mode http\n  timeout client 30s\n  timeout http-keep-alive 10s\n\
    frontend main\n  option idle-close-on-response\n  default_backend web\n\
    backend web\n  timeout connect 500ms\n  option redispatch 1\n  retries 3\n  \
      retry-on conn-failure empty-response\n  \
      http-request disable-l7-retry unless { method GET HEAD OPTIONS }\n  server s1 192.0.2.1:80 check\n";

fn found(text: &str) -> Vec<(usize, String, Cause)> {
    let web = BackendName::new("web").unwrap();
    let found = breaches([text], [&web].into_iter());
    found
        .into_iter()
        .map(|breach| (breach.line, breach.section, breach.cause))
        .collect()
}

/// What is found in the good text with one line replaced, which may become several or none.
fn with(line: &str, by: &str) -> Vec<(usize, String, Cause)> {
    assert!(GOOD.contains(line), "{line}");
    found(&GOOD.replacen(line, by, 1))
}

fn web(line: usize, cause: Cause) -> Vec<(usize, String, Cause)> {
    vec![(line, "backend web".to_owned(), cause)]
}

#[test]
fn nothing_is_said_of_a_text_that_keeps_all_promises() {
    assert_eq!(found(GOOD), []);
    assert_eq!(found(&GOOD.replace("  ", "\t")), []);
    let listen = GOOD
        .replace("frontend main\n", "")
        .replace(
            "  option idle-close-on-response\n  default_backend web\n",
            "",
        )
        .replace(
            "backend web\n",
            "listen web\n  option idle-close-on-response\n",
        );
    assert_eq!(found(&listen), []);
    assert_eq!(breaches([GOOD], [].into_iter()), []);
}

#[test]
fn each_promise_is_missed_at_its_line() {
    let text = |words: &str| Some(words.to_owned());
    let cases = [
        (
            "  timeout connect 500ms\n",
            "  timeout connect 5s # slow\n",
            11,
            Cause::Waits(text("timeout connect 5s")),
        ),
        ("  timeout connect 500ms\n", "", 10, Cause::Waits(None)),
        (
            "  option redispatch 1\n",
            "  option redispatch\n",
            12,
            Cause::Stays(text("option redispatch")),
        ),
        ("  option redispatch 1\n", "\n", 10, Cause::Stays(None)),
        (
            "  option redispatch 1\n",
            "option redispatch 1\nno option redispatch\n",
            10,
            Cause::Stays(None),
        ),
        ("  retries 3\n", "  retries 0\n", 13, Cause::GivesUp),
        (
            "  retry-on conn-failure empty-response\n",
            "  retry-on conn-failure\n",
            14,
            Cause::Loses(text("retry-on conn-failure")),
        ),
        (
            "  retry-on conn-failure empty-response\n",
            "",
            10,
            Cause::Loses(None),
        ),
        (
            "check\n",
            "check on-marked-down shutdown-sessions\n",
            16,
            Cause::Shuts,
        ),
        (
            "retries 3\n",
            "default-server\ton-marked-down shutdown-sessions\n",
            13,
            Cause::Shuts,
        ),
    ];
    for (line, by, number, cause) in cases {
        assert_eq!(with(line, by), web(number, cause), "{by}");
    }
    assert_eq!(
        with("  hard-stop-after 30s\n", ""),
        [(1, "global".to_owned(), Cause::NeverStops)]
    );
    let main = "frontend main".to_owned();
    assert_eq!(
        with("  option idle-close-on-response\n", ""),
        [(7, main.clone(), Cause::ClosesIdle)]
    );
    let outlasts = |keyword: &str| Cause::OutlastsStop {
        keyword: keyword.to_owned(),
        time: "1m".to_owned(),
        stop: "30s".to_owned(),
    };
    assert_eq!(
        with("keep-alive 10s", "keep-alive 1m"),
        [(6, main.clone(), outlasts("http-keep-alive"))]
    );
    let client = with("client 30s\n  timeout http-keep-alive 10s\n", "client 1m\n");
    assert_eq!(client, [(5, main, outlasts("client"))]);
}

#[test]
fn a_repeated_post_is_found_however_the_rule_is_written() {
    let rule = "http-request disable-l7-retry unless { method GET HEAD OPTIONS }";
    let text = "retry-on conn-failure empty-response".to_owned();
    for good in [
        "http-request disable-l7-retry",
        "http-request disable-l7-retry unless METH_GET",
        "http-request disable-l7-retry unless METH_GET or METH_OPTIONS || { method -i HEAD }",
        "http-request disable-l7-retry unless { path /x } METH_GET",
        "http-request disable-l7-retry if !METH_GET",
        "http-request disable-l7-retry if ! { method GET HEAD } or { path /x }",
        "http-request disable-l7-retry if !{ method GET HEAD }",
        "acl safe method GET\n acl safe method HEAD\n http-request disable-l7-retry unless safe",
        "http-request deny if { path /x }\n http-request disable-l7-retry",
        ".if defined(X)\n http-request disable-l7-retry\n .endif",
    ] {
        assert_eq!(with(rule, good), [], "{good}");
    }
    for bad in [
        "",
        "http-request disable-l7-retry if METH_POST",
        "http-request disable-l7-retry unless { path /x }",
        "http-request disable-l7-retry unless METH_GET or { path /x }",
        "http-request disable-l7-retry unless !METH_GET",
        "http-request disable-l7-retry unless { method GET PUT }",
        "http-request disable-l7-retry if !METH_GET { path /x }",
        "http-request disable-l7-retry unless safe",
        "acl safe method GET\n acl safe path /x\n http-request disable-l7-retry unless safe",
        "http-request allow if { path /x }\n http-request disable-l7-retry",
        "http-request disable-l7-retry unless {",
        "# http-request disable-l7-retry",
    ] {
        assert_eq!(
            with(rule, bad),
            web(14, Cause::Repeats(text.clone())),
            "{bad}"
        );
    }
    for (retry_on, repeats) in [
        ("conn-failure 0rtt-rejected empty-response", true),
        ("all-retryable-errors", true),
        ("conn-failure empty-response 503", true),
    ] {
        let text = GOOD
            .replace(rule, "")
            .replace("conn-failure empty-response", retry_on);
        let repeated = found(&text)
            .iter()
            .any(|(.., cause)| matches!(cause, Cause::Repeats(_)));
        assert_eq!(repeated, repeats, "{retry_on}");
    }
}

#[test]
fn the_rule_may_stand_in_every_front_end_that_leads_there() {
    let rule = "  http-request disable-l7-retry unless { method GET HEAD OPTIONS }\n";
    let without = GOOD.replace(rule, "");
    let in_front = without.replace(
        "  default_backend web\n",
        &format!("{rule}  default_backend web\n"),
    );
    assert_eq!(found(&in_front), []);
    let repeats = |more: &str| {
        let found = found(&format!("{in_front}{more}"));
        found
            .iter()
            .any(|(.., cause)| matches!(cause, Cause::Repeats(_)))
    };
    let idle = "option idle-close-on-response\n";
    assert!(repeats(&format!("frontend b\n{idle}default_backend web\n")));
    assert!(repeats(&format!(
        "frontend b\n{idle}use_backend web if {{ path /x }}\n"
    )));
    assert!(repeats(&format!(
        "frontend b\n{idle}use_backend %[req.hdr(host)]\n"
    )));
    assert!(!repeats(&format!(
        "frontend b\n{idle}{rule}use_backend web\n"
    )));
    assert!(!repeats("frontend b\ndefault_backend other\n"));
    assert!(!repeats("backend other\n"));
}

#[test]
fn what_defaults_say_holds_and_a_condition_is_not_held_against_anybody() {
    let text = GOOD.replace(
        "  mode http\n",
        "  mode http\n  retries 0\n  timeout connect 9s\n",
    );
    assert_eq!(found(&text), []);
    let text = text
        .replace("  retries 3\n", "")
        .replace("  timeout connect 500ms\n", "");
    let causes = [
        (5, "backend web".to_owned(), Cause::GivesUp),
        (
            6,
            "backend web".to_owned(),
            Cause::Waits(Some("timeout connect 9s".to_owned())),
        ),
    ];
    assert_eq!(found(&text), causes);
    let text = GOOD.replace("  retries 3\n", ".if defined(X)\n  retries 0\n.endif\n");
    assert_eq!(found(&text), []);
}

#[test]
fn files_that_haproxy_reads_before_ours_count() {
    let web = BackendName::new("web").unwrap();
    let (site, ours) = GOOD.split_at(GOOD.find("\nbackend web").unwrap() + 1);
    let of = |site: &str, ours: &str| {
        let found = breaches([site, ours], [&web].into_iter());
        let found = found.into_iter();
        found
            .map(|breach| (breach.text, breach.line, breach.cause))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(site, ours), []);
    let slow = site.replace("mode http\n", "mode http\n  timeout connect 9s\n");
    let bare = ours.replace("  timeout connect 500ms\n", "");
    let waits = Cause::Waits(Some("timeout connect 9s".to_owned()));
    assert_eq!(of(&slow, &bare), [(0, 5, waits)]);
    let gives_up = ours.replace("retries 3", "retries 0");
    assert_eq!(of(site, &gives_up), [(1, 4, Cause::GivesUp)]);
    let open = site.replace("  option idle-close-on-response\n", ".if 1\n");
    assert_eq!(of(&open, ours), [(0, 7, Cause::ClosesIdle)]);
}

#[test]
fn of_tcp_only_what_concerns_connections_is_asked() {
    let text = GOOD
        .replace("mode http", "mode tcp")
        .replace("  retry-on conn-failure empty-response\n", "")
        .replace("  option idle-close-on-response\n", "");
    assert_eq!(found(&text), []);
    let slow = text.replace("500ms", "2s");
    assert_eq!(found(&slow).len(), 1);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "(backend web\n|frontend f\n|http-request disable-l7-retry |unless |if |\\{ |\\} |! |method |or |default_backend web\n|\n|.){0,40}") {
        let _ = found(&text);
    }
}
