use super::*;
use crate::config::Config;
use crate::syntax::ConfigText;

/// Who lets in where the config has these lines and the section this text above and in the server line.
fn admission(config: &str, defaults: &str, section: &str, words: &str) -> Admission {
    let text = format!(
        "[haproxy]\ntemplate = \"/t.j2\"\n[[backend]]\nname = \"web\"\ntags = {{ role = \"backend\" }}\nport = 3000\n{config}\n"
    );
    let config = Config::parse(&text, []).unwrap();
    let text = format!(
        "defaults\n{defaults}\nbackend web\n{section}\n    server audit 192.0.2.1:80 {words}\n"
    );
    Admission::of(&config.backends[0], &ConfigText::parse(&text))
}

fn by(config: &str, section: &str, words: &str) -> String {
    admission(config, "", section, words).to_string()
}

const OWN: &str = "admitted by the controller's own probe";

#[test]
fn a_line_that_asks_what_the_config_asks_is_probed() {
    for (config, section, words) in [
        ("", "", "check"),
        (
            "",
            "",
            "check inter 1s rise 1 weight 3 backup on-marked-down shutdown-sessions",
        ),
        ("", "option tcp-check", "check"),
        (
            "check = \"HEAD /health\"",
            "option httpchk HEAD /health",
            "check inter 1s",
        ),
        (
            "check = { path = \"/up\", host = \"www.example\" }",
            "option httpchk\nhttp-check send meth GET uri /up ver HTTP/1.1 hdr Host www.example",
            "check",
        ),
        (
            "check = { path = \"/up\", status = \"200,204\" }",
            "option httpchk GET /up\nhttp-check expect status 200,204",
            "check",
        ),
        (
            "check = { tls = true }",
            "",
            "check ssl verify none sni str(a)",
        ),
        (
            "check = { tls = true, sni = \"a\" }",
            "",
            "check check-ssl verify none check-sni a",
        ),
        ("check = { send_proxy = \"v2\" }", "", "check send-proxy-v2"),
        (
            "check = { send_proxy = \"v1\" }",
            "",
            "check check-send-proxy",
        ),
        (
            "check = { port = 8008 }",
            "",
            "check port 8008 ssl verify none send-proxy",
        ),
        (
            "check = { port = 81, tls = true }",
            "",
            "check port 81 check-ssl ssl verify none",
        ),
        ("check = \"off\"", "", "check"),
        ("check = \"off\"", "", ""),
    ] {
        let said = by(config, section, words);
        assert!(
            said.starts_with(OWN) && !said.contains("because"),
            "{config} {words}: {said}"
        );
    }
}

#[test]
fn a_line_that_asks_otherwise_is_left_to_haproxys_first_check() {
    for (config, section, words, part) in [
        ("", "", "check ssl verify none", "`ssl`"),
        ("check = { tls = true }", "", "check", "no `ssl`"),
        ("", "", "check send-proxy-v2", "`send-proxy-v2`"),
        ("", "", "check port 8081", "`port 8081`"),
        ("check = { port = 81 }", "", "check", "no `port`"),
        ("", "", "check proto h2", "`proto`"),
        ("", "", "check addr 192.0.2.9", "`addr`"),
        ("", "", "check crt /c.pem ssl verify none", "`crt`"),
        ("", "", "check frobnicate 3", "`frobnicate`"),
        ("", "option redis-check", "check", "`option redis-check`"),
        (
            "",
            "option tcp-check\ntcp-check expect string +PONG",
            "check",
            "`tcp-check expect string +PONG`",
        ),
        (
            "",
            "option httpchk GET /primary",
            "check",
            "`GET /primary HTTP/1.0`",
        ),
        (
            "check = \"HEAD /\"",
            "",
            "check",
            "a connection and no request",
        ),
        (
            "check = \"GET /up\"",
            "option httpchk GET /up HTTP/1.1\\r\\nHost:\\ www",
            "check",
            "HTTP/1.1",
        ),
        (
            "check = \"GET /up\"",
            "option httpchk GET /up\nhttp-check expect string ok",
            "check",
            "expect string ok",
        ),
        (
            "check = \"GET /up\"",
            "option httpchk GET /up\nhttp-check disable-on-404",
            "check",
            "disable-on-404",
        ),
        (
            "check = \"GET /up\"",
            "option httpchk GET /up\nhttp-check send hdr X-A b",
            "check",
            "hdr X-A b",
        ),
        (
            "check = \"GET /up\"",
            "option httpchk GET /up\nhttp-check expect status 200",
            "check",
            "answered with 200",
        ),
    ] {
        let admission = admission(config, "", section, words);
        assert_eq!(
            admission.by,
            Admits::GoodCheck,
            "{config} {section} {words}"
        );
        assert_eq!(admission.asks.request, None);
        let said = admission.to_string();
        assert!(
            said.contains("because its line checks otherwise") && said.contains(part),
            "{said}"
        );
    }
}

#[test]
fn what_stands_in_defaults_holds_until_the_backend_says_else() {
    let inherited = admission("check = \"HEAD /\"", "option httpchk HEAD /", "", "check");
    assert_eq!(inherited.by, Admits::Probe);
    let inherited = admission("", "default-server ssl verify none", "", "check");
    assert_eq!(
        inherited.instead,
        Some(Instead::Differs("`ssl`".to_owned()))
    );
    let taken_back = admission("", "option httpchk HEAD /", "no option httpchk", "check");
    assert_eq!(taken_back.by, Admits::Probe);
    let other = admission(
        "check = \"HEAD /\"",
        "option httpchk HEAD /",
        "option tcp-check",
        "check",
    );
    assert_eq!(other.by, Admits::GoodCheck);
    let both = "http-check expect status 200";
    let twice = admission(
        "check = \"HEAD /\"",
        &format!("option httpchk HEAD /\n{both}"),
        &format!("option httpchk HEAD /\n{both}"),
        "check",
    );
    assert_eq!(twice.by, Admits::GoodCheck);
}

#[test]
fn the_modes_are_what_they_are_called_and_the_probe_connects_to_the_port_of_the_line() {
    let off = admission(
        "probe = \"off\"\ncheck = \"HEAD /\"",
        "",
        "option httpchk HEAD /",
        "check port 81 inter 250ms",
    );
    assert_eq!((off.by, off.instead.is_none()), (Admits::GoodCheck, true));
    assert_eq!(
        (off.asks.port, off.interval),
        (Some(81), Duration::from_millis(250))
    );
    let check = admission("probe = \"check\"", "", "option redis-check", "check");
    assert_eq!(
        (check.by, check.interval),
        (Admits::AnyCheck, Duration::from_secs(2))
    );
    assert!(check.checked && check.asks.request.is_none());
}

#[test]
fn a_line_without_a_check_is_probed_whatever_the_mode_and_said_so() {
    let none = admission("probe = \"check\"", "", "", "");
    assert_eq!((none.by, none.checked), (Admits::Probe, false));
    assert!(none.to_string().contains("no `check`"));
    let fine = admission("", "", "", "");
    assert_eq!((fine.by, fine.instead), (Admits::Probe, None));
}

#[test]
fn a_backend_that_cannot_be_read_is_taken_at_its_word() {
    let opaque = admission(
        "check = \"HEAD /\"",
        "",
        "server-template t 1-3 192.0.2.7:80",
        "check ssl verify none",
    );
    assert_eq!(opaque.by, Admits::Probe);
    assert_eq!(opaque.asks.to_string(), "HEAD /");
}

#[test]
fn what_a_check_asks_is_said_as_a_config_says_it_or_not_at_all() {
    let asked = |section: &str, words: &str| {
        let text = format!("defaults\nbackend web\n{section}\n    server a 192.0.2.1:80 {words}\n");
        let asked = asked(&BackendName::new("web").unwrap(), &ConfigText::parse(&text));
        asked.map(|check| check.to_string())
    };
    for (section, words, said) in [
        ("", "check", Some("a connection")),
        (
            "option httpchk HEAD /up",
            "check port 81",
            Some("HEAD /up on port 81"),
        ),
        (
            "",
            "check ssl verify none send-proxy",
            Some("a connection over TLS after a PROXY line"),
        ),
        ("", "", None),
        ("option redis-check", "check", None),
        // HAProxy takes it for the path
        ("option httpchk GET", "check", None),
        ("option httpchk GET /up HTTP/1.1", "check", None),
        ("option httpchk get /up", "check", None),
        ("", "check cookie \"$X\"", None),
    ] {
        assert_eq!(asked(section, words).as_deref(), said, "{section} {words}");
    }
}
