use super::*;

const BACKENDS: &str = "[[backend]]\nname = \"web\"\ntags = { a = \"b\" }\nport = 1\n\
                        [[backend]]\nname = \"db\"\nmode = \"tcp\"\ntags = { a = \"c\" }\nport = 2\n";

fn load(text: &str) -> Result<Config, Vec<super::super::Diagnostic>> {
    Config::parse(&format!("{text}\n{BACKENDS}"), [])
}

fn told(text: &str) -> Vec<String> {
    let said = load(text).err().unwrap_or_default();
    said.into_iter()
        .map(|it| format!("{}: {}", it.key, it.message))
        .collect()
}

/// What is said of these lines in a `[frontend]` that listens on ports 80 and 443.
fn edge(lines: &str) -> Vec<String> {
    told(&format!(
        "[frontend]\nbind = \"*:80\"\ntls_bind = \"*:443\"\ncertificates = \"/c\"\n{lines}"
    ))
}

fn only(text: &str) -> Frontend {
    load(text).unwrap().frontends.remove(0)
}

#[test]
fn the_only_front_end_is_called_main_and_has_what_follows_from_its_backend() {
    let http = only("[frontend]\nbind = \"*:80\"\n");
    assert_eq!(http.name.as_str(), "main");
    assert_eq!(http.mode, Mode::Http);
    assert_eq!(http.default_backend, BackendName::new("web"));
    assert!(!http.forwarded);
    let tcp = only("[frontend]\nbind = \"*:80\"\ndefault_backend = \"db\"\n");
    assert_eq!(tcp.mode, Mode::Tcp);
    let sni = only("[frontend]\nbind = \"*:80\"\nsni = { \"A.example.com\" = \"db\" }\n");
    assert_eq!((sni.mode, &sni.default_backend), (Mode::Tcp, &None));
    assert!(
        sni.sni
            .contains_key(&SniPattern::Exact("a.example.com".to_owned()))
    );
    let edge = only(
        "[frontend]\ntls_bind = \"*:8443\"\ncertificates = \"/c\"\nbind = \":80\"\nhttps_redirect = true\n",
    );
    assert!(edge.forwarded);
    assert_eq!(edge.redirect_port(), Some(8443));
}

#[test]
fn several_front_ends_have_names_and_one_of_each_page() {
    let two =
        "[[frontend]]\nname = \"a\"\nbind = \":1\"\n[[frontend]]\nname = \"b\"\nbind = \":2\"\n";
    assert_eq!(told(two), [""; 0]);
    for (text, part) in [
        ("[[frontend]]\nbind = \":1\"\n", "name: is missing"),
        (
            "[frontend]\nname = \"stats\"\nbind = \":1\"\n",
            "use another name",
        ),
        (
            &two.replace("\"b\"", "\"a\""),
            "another front end has this name",
        ),
        (
            &two.replace("bind =", "stats_bind = \":9\"\nbind ="),
            "another front end has it",
        ),
        (
            "[frontend]\nbind = \":1\"\n[[frontend]]\nname = \"b\"\nbind = \":2\"\n",
            "write [[frontend]] for all",
        ),
        (
            "[[frontend]]\nname = \"b\"\nbind = \":2\"\n[frontend]\nbind = \":1\"\n",
            "write [[frontend]] for all",
        ),
        (
            "frontend = 5\n",
            "expected a table, found integer; write [frontend]",
        ),
    ] {
        let said = told(text);
        assert!(said.iter().any(|it| it.contains(part)), "{text}: {said:?}");
    }
}

#[test]
fn what_does_not_go_together_is_said_with_the_way_out() {
    for (lines, part) in [
        (
            "mode = \"http\"\nsni = { \"a\" = \"web\" }",
            "sni: is about connections; set mode",
        ),
        (
            "default_backend = \"db\"\nmode = \"http\"",
            "give the front end mode = \"tcp\"",
        ),
        ("default_backend = \"no\"", "use one of web, db"),
        ("mode = \"tcp\"\nhsts = true", "hsts: is about requests"),
        (
            "mode = \"tcp\"\nacme = \"127.0.0.1:1\"",
            "acme: is about requests",
        ),
        (
            "mode = \"tcp\"\nsni = { \"a\" = \"db\" }",
            "keep one of them",
        ),
        (
            "trusted_proxies = \"10.0.0.0/8\"\nforwarded = false",
            "leave one of them out",
        ),
        ("name = \"é\"", "not a name"),
        ("alpn = []", "an empty list"),
        ("acme = \"host:80\"", "an IP address with a port"),
        ("log_format = \"it's\"", "without `'`"),
        ("log_format = \"a\\u0007\"", "printable ASCII"),
        ("https_redirect = \"yes\"", "true, false or a port"),
        ("hsts = { max_age = \"1\" }", "without a unit"),
        ("sni = { \"a b\" = \"db\" }", "is no name of a host"),
        ("sni = { \"*.*.b\" = \"db\" }", "is no name of a host"),
    ] {
        let said = edge(lines);
        assert!(said.iter().any(|it| it.contains(part)), "{lines}: {said:?}");
    }
    for (text, part) in [
        ("[frontend]\n", "bind: is missing"),
        ("[frontend]\ntls_bind = \"*:443\"\n", "certificates = "),
        (
            "[frontend]\nbind = \"*:443\"\ncertificates = \"/c\"\n",
            "add tls_bind",
        ),
        ("[frontend]\nbind = \"*:443\"\nh3 = true\n", "is about TLS"),
        (
            "[frontend]\nbind = \"*:443\"\nhttps_redirect = true\n",
            "https_redirect = 443",
        ),
        (
            "[frontend]\ntls_bind = \"*:443 ssl\"\ncertificates = \"/c\"\n",
            "written by the template",
        ),
        (
            "[haproxy]\nconfig = \"/a b/c\"\n[frontend]\ntls_bind = \"*:443\"\ncertificates = \"/c\"\n",
            "certificates",
        ),
    ] {
        let said = told(text);
        assert!(said.iter().any(|it| it.contains(part)), "{text}: {said:?}");
    }
}
