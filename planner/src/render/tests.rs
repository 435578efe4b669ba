use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{BUILT_IN, FIRST_LINE, Finding, Renderer, Server, Servers, ids::ids};
use crate::config::Config;
use crate::model::{BackendName, ServerName, Weight};
use crate::stamp::Stamp;

pub(super) const FRONTEND: &str = "[frontend]\nbind = [\"*:80\"]\n";
pub(super) const NODES: &str =
    "[[backend]]\nname = \"nodes\"\ntags = { role = \"backend\" }\nport = 3000\n";

pub(super) fn config(text: &str) -> Config {
    Config::parse(text, []).unwrap()
}

fn nodes(more: &str) -> Config {
    config(&format!("{FRONTEND}{NODES}{more}"))
}

fn server(name: &str, addr: &str, ready: bool) -> Server {
    Server {
        name: ServerName::new(name).unwrap(),
        addr: addr.parse().unwrap(),
        weight: Weight::DEFAULT,
        ready,
        details: std::sync::Arc::default(),
    }
}

fn servers(of: &[(&str, &[Server])]) -> Servers {
    of.iter()
        .map(|(backend, servers)| (BackendName::new(backend).unwrap(), servers.to_vec()))
        .collect()
}

pub(super) fn three() -> Servers {
    let ipv6 = server("s3", "[2001:db8::3]:8080", true);
    let second = Server {
        weight: Weight::new(7).unwrap(),
        ..server("s2", "192.0.2.2:3000", false)
    };
    servers(&[(
        "nodes",
        &[server("s1", "192.0.2.1:3000", true), second, ipv6],
    )])
}

fn built_in(config: &Config, servers: &Servers) -> String {
    Renderer::built_in()
        .unwrap()
        .render(config, servers)
        .unwrap()
        .text
}

fn custom(source: &str) -> Renderer {
    Renderer::new("/t/custom.j2", source.to_owned()).unwrap()
}

/// What the template gives, without our first line.
fn shown(source: &str, config: &Config, servers: &Servers) -> String {
    let text = custom(source).render(config, servers).unwrap().text;
    text.strip_prefix(FIRST_LINE)
        .unwrap()
        .trim_start()
        .to_owned()
}

fn error(source: &str) -> String {
    match Renderer::new("/t/custom.j2", source.to_owned()) {
        Ok(renderer) => renderer
            .render(&nodes(""), &three())
            .unwrap_err()
            .to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn built_in_with_no_server() {
    insta::assert_snapshot!(built_in(&nodes(""), &Servers::new()));
}

#[test]
fn built_in_with_three_servers_one_not_ready() {
    let extras = "[haproxy]\nuser = \"haproxy\"\ngroup = \"haproxy\"\n";
    let text = format!(
        "{extras}[frontend]\nbind = [\"*:80\", \"[::]:443 ssl crt /etc/site.pem\"]\nstats_bind = \"127.0.0.1:1936\"\nlog = \"/dev/log local0\"\n{NODES}"
    );
    insta::assert_snapshot!(built_in(&config(&text), &three()));
}

#[test]
fn built_in_with_a_tcp_backend() {
    let text = nodes(
        "mode = \"tcp\"\nmaxconn = 50\nserver_options = \"send-proxy-v2 backup\"\ncheck = \"off\"\n",
    );
    insta::assert_snapshot!(built_in(&text, &three()));
}

#[test]
fn built_in_with_a_tcp_backend_beside_an_http_one() {
    let second = "[[backend]]\nname = \"second\"\ntags = { role = \"db\" }\nmode = \"tcp\"\nport = 5432\nbalance = \"leastconn\"\n";
    let servers = servers(&[("second", &[server("db", "192.0.2.9:5432", true)])]);
    insta::assert_snapshot!(built_in(&nodes(second), &servers));
}

#[test]
fn built_in_with_an_http_check() {
    insta::assert_snapshot!(built_in(
        &nodes("check = \"GET /up?deep=1\"\nmaxconn = 200\n"),
        &three()
    ));
}

#[test]
fn built_in_with_everything_that_a_check_may_have() {
    let text = "server_options = \"ssl verify none send-proxy-v2\"\n[backend.check]\nmethod = \"GET\"\npath = \"/up\"\n\
                host = \"www.example.com:8443\"\nstatus = \"200,300-399\"\nport = 8443\ntls = true\nsni = \"www.example.com\"\n\
                send_proxy = true\ninterval = \"2500ms\"\ntimeout = \"250ms\"\nrise = 3\nfall = 1\n";
    insta::assert_snapshot!(built_in(&nodes(text), &three()));
}

#[test]
fn built_in_with_a_hash_of_the_uri() {
    insta::assert_snapshot!(built_in(&nodes("balance = \"uri depth 2\"\n"), &three()));
}

#[test]
fn hard_stop_and_timeouts_are_those_of_the_config() {
    let keys = "[haproxy]\nhard_stop_after = \"90s\"\n[drain]\ntimeout = \"80s\"\n";
    let times = "[timeouts]\nconnect = \"1s 500ms\"\nqueue = \"1ms\"\nclient = \"2m\"\nserver = \"24h\"\n\
        tunnel = \"36h\"\nhttp_request = \"61s\"\nhttp_keep_alive = \"1h\"\n";
    let text = built_in(
        &config(&format!("{keys}{times}{FRONTEND}{NODES}")),
        &three(),
    );
    for line in [
        "hard-stop-after 90s",
        "timeout connect 1500ms",
        "timeout queue 1ms",
        "timeout client 2m",
        "timeout server 1d",
        "timeout tunnel 36h",
        "timeout http-request 61s",
        "timeout http-keep-alive 1h",
    ] {
        assert!(
            text.contains(&format!("\n    {line}\n")),
            "{line} in {text}"
        );
    }
}

#[test]
fn the_stamp_is_that_of_the_blank_text() {
    let rendered = Renderer::built_in()
        .unwrap()
        .render(&nodes(""), &three())
        .unwrap();
    assert_eq!(rendered.stamp.0.len(), 16);
    assert_eq!(
        rendered.text.replacen(&rendered.stamp.0, "", 1),
        rendered.blank
    );
    let again = Renderer::built_in()
        .unwrap()
        .render(&nodes(""), &three())
        .unwrap();
    assert_eq!(rendered, again);
    let other = Renderer::built_in()
        .unwrap()
        .render(&nodes(""), &Servers::new())
        .unwrap();
    assert_ne!(rendered.stamp, other.stamp);
}

#[test]
fn a_template_may_do_nothing_with_the_stamp_but_print_it() {
    let render = |source: &str| custom(source).render(&nodes(""), &three());
    let twice = "# {{ stamp }}\nglobal\n  description \"serf-haproxy {{ stamp }}\"\n";
    let rendered = render(twice).unwrap();
    assert_eq!(Stamp::genuine(&rendered.text), Some(rendered.stamp));
    for odd in ["{{ stamp[:8] }}", "{% if stamp %}global{% endif %}"] {
        let error = render(odd).unwrap_err().to_string();
        assert!(
            error.contains("`stamp` is to be printed as it is"),
            "{error}"
        );
    }
}

#[test]
fn the_order_of_servers_is_that_of_their_names() {
    let mut reversed = three();
    reversed.values_mut().for_each(|servers| servers.reverse());
    assert_eq!(
        built_in(&nodes(""), &reversed),
        built_in(&nodes(""), &three())
    );
}

#[test]
fn a_file_begins_with_our_line_and_ends_with_a_newline() {
    let text = custom("global").render(&nodes(""), &three()).unwrap().text;
    assert_eq!(text, format!("{FIRST_LINE}\nglobal\n"));
    let (_, source) = BUILT_IN[0];
    assert_eq!(source.lines().next(), Some(FIRST_LINE));
}

#[test]
fn a_template_may_include_the_backends_or_the_servers_of_one() {
    let servers = three();
    let all = shown("{% include \"backends.cfg.j2\" %}\n", &nodes(""), &servers);
    assert!(built_in(&nodes(""), &servers).ends_with(&all), "{all}");
    let source = "{% for backend in backends if backend.name == \"nodes\" %}\nlisten x\n    bind *:81\n{% include \"servers.cfg.j2\" %}\n{% endfor %}\n";
    let one = shown(source, &nodes(""), &servers);
    assert!(
        one.starts_with("listen x\n    bind *:81\n    server s1 "),
        "{one}"
    );
    assert_eq!(one.lines().count(), 5);
}

#[test]
fn an_error_names_template_and_line() {
    insta::assert_snapshot!(error("global\n{% if %}\n"), @"/t/custom.j2:2: syntax error: unexpected end of block, in `{% if %}`");
    insta::assert_snapshot!(error("global\n\n  {{ backends.0.nmae }}\n"));
    insta::assert_snapshot!(error(
        "{% for backend in [1] %}{% include \"servers.cfg.j2\" %}{% endfor %}"
    ));
    insta::assert_snapshot!(error("\n{% include \"missing.j2\" %}"));
}

#[test]
fn signs_of_haproxys_own_are_told_with_their_line_and_what_helps() {
    let hint = |sign| {
        format!(
            "where `{sign}` is HAProxy's own and not the template's, write {{% raw %}} before it and {{% endraw %}} \
             behind it"
        )
    };
    for (source, line, sign) in [
        (
            "global\nlog-format \"%ci {%[capture.req.hdr(0)]} %ST\"\n{% include 'backends.cfg.j2' %}\n",
            2,
            "{%",
        ),
        ("global\n\nlog-format {%ST}\n", 3, "{%"),
        ("global\nacl a path_reg /{#\nbackend b\n", 2, "{#"),
        ("global\nstring {{}\n", 2, "{{"),
    ] {
        let error = error(source);
        assert!(
            error.starts_with(&format!("/t/custom.j2:{line}: syntax error")),
            "{error}"
        );
        assert!(error.contains(&hint(sign)), "{error}");
    }
    let raw = "log-format \"{% raw %}{%[capture.req.hdr(0)]}{% endraw %}\"\n";
    assert_eq!(
        shown(raw, &nodes(""), &three()),
        "log-format \"{%[capture.req.hdr(0)]}\"\n"
    );
}

#[test]
fn a_template_may_begin_with_a_byte_order_mark_and_is_utf_8() {
    let read = |bytes: &[u8]| Renderer::read("own.j2", bytes.to_vec());
    let with_mark =
        read(b"\xef\xbb\xbf# written by serf-haproxy; changes are overwritten\nglobal\n").unwrap();
    let text = with_mark.render(&nodes(""), &three()).unwrap().text;
    assert!(text.starts_with(FIRST_LINE), "{text}");
    assert_eq!(text.lines().count(), 2);
    let error = read(b"global\n # f\xfcr alle\n").unwrap_err().to_string();
    assert!(
        error.starts_with("own.j2:2: ") && error.contains("iconv -f ISO-8859-1"),
        "{error}"
    );
}

#[test]
fn the_stats_socket_is_whose_the_config_says() {
    let line = |keys: &str| {
        let text = built_in(&nodes(&format!("[haproxy]\n{keys}")), &three());
        let line = text.lines().find(|line| line.contains("stats socket"));
        line.unwrap().trim().to_owned()
    };
    let socket = "stats socket /run/haproxy/admin.sock mode";
    let level = "level admin expose-fd listeners";
    assert_eq!(line(""), format!("{socket} 600 {level}"));
    assert_eq!(
        line("stats_socket_group = \"web\"\n"),
        format!("{socket} 660 group web {level}")
    );
    let both =
        "stats_socket_group = \"web\"\nstats_socket_user = \"me\"\nstats_socket_mode = \"620\"\n";
    assert_eq!(
        line(both),
        format!("{socket} 620 user me group web {level}")
    );
}

#[test]
fn only_strings_and_numbers_are_printed() {
    for value in [
        "none",
        "nothing",
        "'x' if false",
        "backends",
        "backends.0",
        "backends|map(attribute='typo')|first",
    ] {
        let error = error(&format!("\n{{{{ {value} }}}}"));
        assert!(error.starts_with("/t/custom.j2:2: "), "{error}");
    }
    assert_eq!(
        shown("{{ 1 }} {{ 'a<b' }}", &nodes(""), &three()),
        "1 a<b\n"
    );
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let error = error(
        "{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}",
    );
    assert!(error.contains("fuel"), "{error}");
}

#[test]
fn ten_thousand_servers_are_no_endless_work() {
    let many: Vec<Server> = (0..10_000)
        .map(|n| server(&format!("s{n:05}"), "192.0.2.1:3000", n % 2 == 0))
        .collect();
    let config = nodes("balance = \"uri\"\nmaxconn = 5\nserver_options = \"send-proxy\"\n");
    let text = built_in(&config, &servers(&[("nodes", &many)]));
    assert_eq!(text.matches("\n    server s").count(), 10_000);
}

#[test]
fn a_line_of_the_text_is_traced_to_its_template() {
    let rendered = Renderer::built_in()
        .unwrap()
        .render(&nodes(""), &three())
        .unwrap();
    let number = |start: &str| {
        rendered
            .text
            .lines()
            .position(|line| line.trim_start().starts_with(start))
            .unwrap()
            + 1
    };
    for (start, template) in [
        ("description", 0),
        ("retries 8", 1),
        ("bind", 0),
        ("balance", 1),
        ("server s3", 2),
    ] {
        let origin = rendered.origin(number(start)).unwrap();
        let (name, source) = BUILT_IN[template];
        assert_eq!(&*origin.template, name, "{start}");
        let line = source.lines().nth(origin.line - 1).unwrap().trim_start();
        assert!(
            line.starts_with(start.split(' ').next().unwrap()),
            "{start} is traced to `{line}`"
        );
    }
    assert_eq!(rendered.origin(0), None);
    assert_eq!(rendered.origin(10_000), None);
    let prepended = custom("a\nb\n").render(&nodes(""), &three()).unwrap();
    assert_eq!(
        (prepended.origin(1), prepended.origin(3).unwrap().line),
        (None, 2)
    );
}

#[test]
fn the_second_file_passes_the_audit_and_has_what_the_sites_does_not() {
    let [.., (name, source)] = BUILT_IN;
    assert_eq!(name, "second-file.cfg.j2");
    assert_eq!(source.lines().next(), Some(FIRST_LINE));
    let (config, second) = (nodes(""), custom(source));
    assert_eq!(second.audit(&config).unwrap(), []);
    let text = second.render(&config, &three()).unwrap().text;
    let has_section = |section| text.lines().any(|line| line.starts_with(section));
    assert!(has_section("backend nodes"), "{text}");
    assert!(
        !has_section("defaults") && !has_section("frontend"),
        "{text}"
    );
}

#[test]
fn the_built_in_template_passes_the_audit() {
    for more in [
        "",
        "mode = \"tcp\"\n",
        "check = \"off\"\n",
        "balance = \"first\"\nserver_options = \"send-proxy\"\n",
    ] {
        assert_eq!(
            Renderer::built_in().unwrap().audit(&nodes(more)).unwrap(),
            []
        );
    }
}

/// What the audit finds in a template, without the places.
fn found(source: &str, more: &str) -> Vec<Finding> {
    let flaws = custom(source).audit(&nodes(more)).unwrap();
    flaws.into_iter().map(|flaw| flaw.finding).collect()
}

#[test]
fn another_description_after_the_stamp_or_a_condition_around_it_fails_the_audit() {
    let body = "{% for s in backends.0.servers %}\n server {{ s.name }} {{ s.addr }}\
        {% if not s.ready %} disabled{% endif +%}\n{% endfor %}\n";
    let audit = |global: &str| {
        let source = format!("global\n{global}backend nodes\n{body}");
        custom(&source).audit(&nodes("")).unwrap()
    };
    let stamp = "\tdescription\t\"serf-haproxy {{ stamp }}\"\n";
    for good in [
        stamp.to_owned(),
        format!(" description edge\n{stamp}"),
        format!("{stamp}{stamp}"),
    ] {
        assert_eq!(audit(&good), [], "{good}");
    }
    for (bad, line, said) in [
        (
            format!("{stamp} description edge # x\n"),
            3,
            "`description edge` takes the place",
        ),
        (
            format!("{stamp}global\n\tdescription\t'a b'\n"),
            4,
            "`description a b` takes the place",
        ),
        (
            format!(".if defined(X)\n{stamp}.endif\n"),
            3,
            "inside `.if`",
        ),
        (
            " description edge\n".to_owned(),
            1,
            "does not print the stamp",
        ),
    ] {
        let flaws = audit(&bad);
        let [flaw] = &*flaws else { panic!("{flaws:?}") };
        assert!(flaw.finding.hides_stamp());
        let place = format!("/t/custom.j2:{line}: ");
        let shown = flaw.to_string();
        assert!(shown.starts_with(&place) && shown.contains(said), "{shown}");
    }
}

#[test]
fn a_template_without_stamp_servers_or_disabled_fails_the_audit() {
    let nodes_name = BackendName::new("nodes").unwrap();
    let findings = |source: &str| found(source, "");
    assert_eq!(
        findings("global\n"),
        [Finding::NoStamp, Finding::NoServers(nodes_name.clone())]
    );
    let stamp = "global\n  description \"serf-haproxy {{ stamp }}\"\n";
    let servers =
        "{% for s in backends.0.servers %}\n  server {{ s.name }} {{ s.addr }}\n{% endfor %}\n";
    assert_eq!(
        findings(&format!("{stamp}backend nodes\n{servers}")),
        [Finding::NotDisabled(nodes_name.clone())]
    );
    let always = servers.replace("s.addr }}", "s.addr }} disabled");
    assert_eq!(
        findings(&format!("{stamp}backend nodes\n{always}")),
        [Finding::NotDisabled(nodes_name.clone())]
    );
    let right = servers.replace(
        "s.addr }}",
        "s.addr }}{% if not s.ready %} disabled{% endif +%}",
    );
    assert_eq!(
        findings(&format!(
            "{stamp}  hard-stop-after 30s\nlisten nodes\n{right}"
        )),
        []
    );
    let short = findings(&format!(
        "{stamp}  hard-stop-after 10000\nbackend nodes\n{right}"
    ));
    assert_eq!(
        short,
        [Finding::HardStop {
            backend: nodes_name.clone(),
            limit: "10000".into()
        }]
    );
    let elsewhere = findings(&format!("{stamp}\nbackend others\n{right}"));
    assert_eq!(elsewhere, [Finding::NoServers(nodes_name)]);
}

#[test]
fn a_server_line_of_the_templates_own_is_not_taken_for_a_members() {
    let stamp = "global\n  description \"serf-haproxy {{ stamp }}\"\n";
    let servers = "{% for s in backends.0.servers %}\n  server {{ s.name }} {{ s.addr }}{% if not s.ready %} disabled{% endif +%}\n{% endfor %}\n";
    let sorry = "  server sorry 192.0.2.9:80 backup\n";
    for body in [
        format!("{sorry}{servers}"),
        format!("{servers}{sorry}"),
        format!("  server gone 192.0.2.9:80 disabled\n{servers}"),
    ] {
        let findings = found(&format!("{stamp}backend nodes\n{body}"), "");
        assert_eq!(findings, [], "{body}");
    }
    assert_eq!(
        found(&format!("{stamp}backend nodes\n{sorry}"), ""),
        [Finding::NoServers(BackendName::new("nodes").unwrap())]
    );
}

#[test]
fn tabs_and_comments_are_no_matter() {
    let source = "global\n\tdescription\t\"serf-haproxy {{ stamp }}\"\n\thard-stop-after\t10s # short\n\
        backend\tnodes # ours\n{% for s in backends.0.servers %}\n\
        \tserver\t{{ s.name }}\t{{ s.addr }}{% if not s.ready %}\tdisabled{% endif +%}\n{% endfor %}\n";
    let findings = found(source, "");
    let backend = BackendName::new("nodes").unwrap();
    let limit = "10s".to_owned();
    assert_eq!(findings, [Finding::HardStop { backend, limit }]);
}

#[test]
fn an_id_is_that_of_its_name() {
    let names = ["s1", "s2", "web-1.example"].map(|name| ServerName::new(name).unwrap());
    let alone = ids(&names[1..2])[&names[1]];
    assert_eq!(ids(&names)[&names[1]], alone);
    assert_eq!(alone, 502_189);
}

proptest! {
    #[test]
    fn ids_are_unique_in_range_and_free_of_order(numbers in prop::collection::btree_set(0_u32..1_000_000, 0..300)) {
        let names: Vec<_> = numbers.iter().map(|n| ServerName::new(format!("s{n}")).unwrap()).collect();
        let ids_of = ids(&names);
        let unique: BTreeSet<u32> = ids_of.values().copied().collect();
        prop_assert_eq!(unique.len(), names.len());
        prop_assert!(unique.iter().all(|id| (1..1 << 20).contains(id)));
        prop_assert_eq!(ids(names.iter().rev()), ids_of);
    }
}
