mod routes;
mod sample;

use std::time::Duration;

use super::{
    CheckConfig, Config, Diagnostic, Location, Mode, Observe, ProbeMode, ProxyVersion,
    ReloadMethod, Request, StatusCodes,
};

const SMALL: &str = "[frontend]\nbind = [\"*:80\"]\n[[backend]]\nname = \"nodes\"\ntags = { role = \"backend\" }\nport = 3000\n";

fn load(text: &str) -> Result<Config, Vec<Diagnostic>> {
    Config::parse(text, [])
}

fn diagnostics(text: &str) -> Vec<String> {
    spoken(load(text))
}

fn spoken(config: Result<Config, Vec<Diagnostic>>) -> Vec<String> {
    let speak = |Diagnostic {
                     location,
                     key,
                     message,
                 }: Diagnostic| match location {
        Location::File { line, column } => format!("{line}:{column}: {key}: {message}"),
        Location::Variable(name) => format!("{name}: {key}: {message}"),
    };
    config.map_or_else(
        |diagnostics| diagnostics.into_iter().map(speak).collect(),
        |_| Vec::new(),
    )
}

fn variable(name: &str, value: &str) -> [(String, String); 1] {
    [(name.to_owned(), value.to_owned())]
}

#[test]
fn a_backend_has_the_global_guard_and_drain_but_for_its_own_keys() {
    let text = format!(
        "{SMALL}[backend.guard]\nhold = \"0s\"\n[guard]\nwindow = \"1m\"\n[drain]\ntimeout = \"5s\"\n"
    );
    let backend = load(&text).unwrap().backends.remove(0);
    assert_eq!(backend.guard.window, Duration::from_secs(60));
    assert_eq!(backend.guard.hold, None);
    assert_eq!(backend.drain.timeout, Duration::from_secs(5));
}

#[test]
fn values_have_their_short_forms() {
    let text = format!(
        "[serf]\naddr = [\"10.0.0.1:7373\", \"[::1]:7373\", \"agent.local:7373\"]\n{SMALL}mode = \"tcp\"\ncheck = \"GET /up?deep=1\"\n\
         networks = [\"10.0.0.0/8\", \"192.0.2.7\"]\nports = [3000, \"8000-8999\"]\nnode = \"web-.*\"\n\
         server_options = \"send-proxy-v2  backup\"\nprobe = \"off\"\n"
    );
    let config = load(&text).unwrap();
    let backend = &config.backends[0];
    assert_eq!(config.serf.addr.len(), 3);
    assert_eq!(backend.mode, Mode::Tcp);
    let request = Request {
        method: "GET".into(),
        path: "/up?deep=1".into(),
        host: None,
        status: StatusCodes::default(),
    };
    let check = CheckConfig {
        request: Some(request),
        ..CheckConfig::default()
    };
    assert_eq!(backend.check, Some(check));
    assert_eq!(backend.ports, [3000..=3000, 8000..=8999]);
    assert_eq!(
        backend.networks.as_ref().unwrap()[1].to_string(),
        "192.0.2.7/32"
    );
    assert_eq!(backend.server_options, ["send-proxy-v2", "backup"]);
    assert_eq!(backend.probe, ProbeMode::Off);
    let node = backend.node.as_ref().unwrap();
    assert!(node.is_match("web-1") && !node.is_match("a-web-1"));
}

#[test]
fn traffic_is_observed_unless_something_else_is_said() {
    let backend = |lines: &str| {
        load(&format!("{SMALL}{lines}\n"))
            .unwrap()
            .backends
            .remove(0)
    };
    let observe = |lines: &str| backend(lines).observe;
    assert_eq!(observe(""), Some(Observe::Layer4));
    assert_eq!(observe("observe = \"layer7\""), Some(Observe::Layer7));
    assert_eq!(observe("observe = \"off\""), None);
    assert_eq!(observe("server_options = \"observe layer7\""), None);
    let told = backend("retries = 2\nerror_limit = 10");
    assert_eq!((told.retries, told.error_limit), (2, 10));
    let odd = [
        "observe = \"layer7\"\nmode = \"tcp\"",
        "observe = \"layer4\"\ncheck = \"off\"",
        "observe = \"on\"",
        "retries = 0",
        "error_limit = 0",
    ];
    for lines in odd {
        assert!(load(&format!("{SMALL}{lines}\n")).is_err(), "{lines}");
    }
}

#[test]
fn a_check_may_be_a_table_of_keys_that_may_all_be_left_out() {
    let check = |lines: &str| {
        let backend = load(&format!("{SMALL}{lines}\n"))
            .unwrap()
            .backends
            .remove(0);
        backend.check.unwrap()
    };
    assert_eq!(check("check = {}"), CheckConfig::default());
    let told = check("check = { path = \"/up\", host = \"a.example:81\", status = 204 }");
    assert_eq!(told.to_string(), "GET /up");
    let request = told.request.unwrap();
    assert_eq!(request.host.as_deref(), Some("a.example:81"));
    assert_eq!(request.status, StatusCodes::parse("204").unwrap());
    assert_eq!(check("check = { method = \"HEAD\" }").to_string(), "HEAD /");
    let proxy = |lines: &str| check(lines).send_proxy;
    let options = "server_options = \"send-proxy-v2\"";
    let wants = "check = { send_proxy = true }";
    assert_eq!(proxy(wants), Some(ProxyVersion::V1));
    assert_eq!(
        proxy(&format!("{options}\n{wants}")),
        Some(ProxyVersion::V2)
    );
    assert_eq!(proxy("check = { send_proxy = false }"), None);
}

#[test]
fn what_is_wrong_with_a_check_is_told_with_its_place() {
    let text = format!(
        "{SMALL}[backend.check]\nmethod = \"get\"\npath = \"up\"\nhost = \"a b\"\nstatus = \"2xx\"\nport = 0\nsni = \"1.2.3.4.\"\n\
         send_proxy = \"v3\"\ninterval = \"10ms\"\ntimeout = \"2m\"\nrise = 0\nfall = 101\nfast = 1\n"
    );
    insta::assert_snapshot!(diagnostics(&text).join("\n"));
}

#[test]
fn what_a_check_wants_of_other_keys_is_told() {
    let told = |lines: &str| diagnostics(&format!("{SMALL}{lines}\n")).join("\n");
    insta::assert_snapshot!(
        [
            told("check = { host = \"www\", status = 200 }"),
            told("check = { sni = \"www\" }"),
            told("check = { tls = true }"),
            told("check = { send_proxy = \"v2\" }"),
            told("check = { send_proxy = \"v1\" }\nserver_options = \"send-proxy-v2\""),
            told("check = \"off\"\nprobe = \"check\""),
        ]
        .join("\n")
    );
    assert_eq!(
        told("check = { tls = true }\nserver_options = \"verify none\""),
        ""
    );
}

#[test]
fn status_codes_are_read_and_written_as_haproxy_does() {
    for text in ["200", "200-399", "200,204,300-399"] {
        assert_eq!(StatusCodes::parse(text).unwrap().to_string(), text);
    }
    for text in [
        "", "2xx", "200,", "200-", "399-200", "20", "0200", "+20", "200 204",
    ] {
        assert_eq!(StatusCodes::parse(text), None, "{text}");
    }
}

#[test]
fn a_pattern_with_alternatives_still_matches_whole_names_only() {
    let config = load(&format!("{SMALL}node = \"a|b\"\n")).unwrap();
    let node = config.backends[0].node.as_ref().unwrap();
    assert!(node.is_match("b") && !node.is_match("ax") && !node.is_match("xb"));
    assert_eq!(diagnostics(&format!("{SMALL}node = \"a)|(b\"\n")).len(), 1);
}

#[test]
fn all_errors_are_told_with_their_place() {
    let text = "\
[debounce]
quiet = 200
max_wait = \"2\"
[gaurd]
window = \"5m\"
[guard]
max_removal = 50
probefall = 3
hold = \"ten minutes\"
[frontend]
bind = [\"*:80\", \"here\"]
[[backend]]
name = \"no des\"
tags = { role = 7 }
port = 0
server_options = \"a#b\"
";
    insta::assert_snapshot!(diagnostics(text).join("\n"));
}

#[test]
fn all_errors_between_keys_are_told_with_their_place() {
    let text = "\
[debounce]
quiet = \"3s\"
[frontend]
bind = \"*:80\"
default_backend = \"web\"
[drain]
timeout = \"31s\"
[[backend]]
name = \"nodes\"
check = \"off\"
probe = \"off\"
[[backend]]
name = \"nodes\"
tags = { role = \"x\" }
port = 80
ports = [3000]
[backend.drain]
timeout = \"1m\"
[[file]]
template = \"/t.j2\"
path = \"/etc/haproxy/haproxy.cfg\"
";
    insta::assert_snapshot!(diagnostics(text).join("\n"));
}

#[test]
fn a_drain_may_be_as_long_as_an_old_worker_lives() {
    let drain = |haproxy: &str| {
        let table = format!("[haproxy]\n{haproxy}[drain]\ntimeout = \"5m\"\n");
        diagnostics(&format!("{table}{SMALL}"))
    };
    assert_eq!(drain("hard_stop_after = \"5m\"\n"), [""; 0]);
    let short = drain("hard_stop_after = \"4m\"\n");
    assert_eq!(short.len(), 1, "{short:?}");
    assert!(short[0].starts_with("4:11: drain.timeout: "), "{short:?}");
    // A template of one's own may say something else, unless it was told.
    assert_eq!(drain("template = \"/t.j2\"\n"), [""; 0]);
    assert_eq!(
        drain("template = \"/t.j2\"\nhard_stop_after = \"4m\"\n").len(),
        1
    );
}

#[test]
fn timeouts_and_hard_stop_have_their_ranges() {
    for (table, key, bad) in [
        ("haproxy", "hard_stop_after", ["500ms", "25h"]),
        ("timeouts", "connect", ["0s", "61s"]),
        ("timeouts", "queue", ["0s", "2h"]),
        ("timeouts", "client", ["0s", "25h"]),
        ("timeouts", "server", ["0s", "25h"]),
        ("timeouts", "tunnel", ["0s", "8days"]),
        ("timeouts", "http_request", ["0s", "2h"]),
        ("timeouts", "http_keep_alive", ["999us", "2h"]),
    ] {
        for bad in bad {
            let found = diagnostics(&format!("[{table}]\n{key} = \"{bad}\"\n{SMALL}"));
            assert_eq!(found.len(), 1, "{key} {bad}");
            assert!(found[0].contains("out of range"), "{found:?}");
        }
    }
    let variable = variable("SERF_HAPROXY_TIMEOUTS_CONNECT", "50ms");
    let config = Config::parse(SMALL, variable).unwrap();
    assert_eq!(config.timeouts.connect, Duration::from_millis(50));
}

#[test]
fn every_wrong_element_of_a_list_is_told() {
    let text = format!("[serf]\naddr = [\"a\", \"b:1\", \"c\"]\n{SMALL}");
    let told = diagnostics(&text);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("2:9: serf.addr: not an address"));
    assert!(told[1].starts_with("2:21: serf.addr: not an address"));
}

#[test]
fn what_is_wrong_with_the_pattern_of_a_tag_is_told_with_its_place() {
    let told = |pattern: &str| {
        let text = SMALL.replacen("role = \"backend\"", &format!("role = {pattern}"), 1);
        assert_ne!(text, SMALL);
        diagnostics(&text).join("\n")
    };
    assert_eq!(told(r#"{ contains = "backend" }"#), "");
    assert_eq!(told(r#"{ matches = "back.*" }"#), "");
    for (pattern, wrong) in [
        (r#"{ contains = "a,b" }"#, "a value without commas"),
        (r#"{ contains = "" }"#, "a value without commas"),
        (r#"{ matches = "(" }"#, "not a regular expression"),
        (
            r#"{ contains = "a", matches = "b" }"#,
            "`contains` or `matches`",
        ),
        ("{}", "`contains` or `matches`"),
        (r#"{ contain = "a" }"#, "contains"),
        ("[]", "no value for tag `role`"),
        ("1", "{ contains ="),
    ] {
        let told = told(pattern);
        assert!(
            told.contains("5:") && told.contains("backend.nodes.tags") && told.contains(wrong),
            "{pattern}: {told}"
        );
    }
}

#[test]
fn tags_that_say_something_of_a_server_have_a_name_each() {
    let told = |tags: &str| diagnostics(&format!("[tags]\n{tags}\n{SMALL}")).join("\n");
    assert_eq!(told("port = \"http_port\""), "");
    let twice = told("port = \"weight\"");
    assert!(
        twice.contains("tags: two of port, weight and state"),
        "{twice}"
    );
    assert!(told("state = \"\"").contains("2:9: tags.state: expected the name of a tag"));
}

#[test]
fn what_should_be_a_section_is_told_with_its_header() {
    let frontend = SMALL.split_once("[[").unwrap().0;
    let told = |text: &str| diagnostics(text).join("\n");
    assert_eq!(
        told(&format!("guard = []\nfile = [5]\n{SMALL}")),
        "1:9: guard: expected a table, found array; write [guard]\n\
         2:9: file: expected a table, found integer; write [[file]]"
    );
    assert_eq!(
        told(&format!("{frontend}[backend]\nname = \"nodes\"\n")),
        "3:1: backend: expected tables, found table; write [[backend]]"
    );
}

#[test]
fn an_error_of_syntax_is_told_with_its_place() {
    let error = Config::parse("[serf]\naddr = \n", []).unwrap_err();
    assert_eq!(error[0].location, Location::File { line: 2, column: 8 });
}

#[test]
fn the_files_before_ours_are_named_by_a_key_or_by_the_check_command() {
    let haproxy = |lines: &str| {
        load(&format!("[haproxy]\n{lines}\n{SMALL}"))
            .unwrap()
            .haproxy
    };
    let key = haproxy("files = [\"/a.cfg\", \"/b.d\"]");
    let command = haproxy(
        "check_command = [\"haproxy\", \"-c\", \"-f\", \"/a.cfg\", \"-f\", \"/b.d\", \"-f\", \"{path}\"]",
    );
    assert_eq!(key, command);
    assert_eq!(key.files, ["/a.cfg", "/b.d"].map(std::path::PathBuf::from));
    let both = haproxy("files = \"/a.cfg\"\ncheck_command = [\"check\", \"{path}\"]");
    assert_eq!((both.files.len(), both.check_command.len()), (1, 2));
}

#[test]
fn a_file_before_ours_is_not_ours() {
    let said = |lines: &str| diagnostics(&format!("[haproxy]\n{lines}\n{SMALL}"));
    assert_eq!(
        said("files = \"/etc/haproxy/haproxy.cfg\""),
        ["2:9: haproxy.files: /etc/haproxy/haproxy.cfg is the file that is written; leave it out"]
    );
    let command =
        "check_command = [\"haproxy\", \"-c\", \"-f\", \"/etc/haproxy\", \"-f\", \"{path}\"]";
    assert_eq!(
        said(command),
        [
            "2:17: haproxy.check_command: /etc/haproxy holds the file that is written; name the files before it one by one"
        ]
    );
    assert!(said("files = [\"base.cfg\"]")[0].contains("not an absolute path"));
}

#[test]
fn one_way_to_reload_is_enough() {
    let text = format!("[haproxy]\nmaster_socket = \"/m\"\nreload_command = [\"r\"]\n{SMALL}");
    assert_eq!(
        diagnostics(&text),
        ["3:18: haproxy.reload_command: there is master_socket already; keep one way to reload"]
    );
    let text = format!("[haproxy]\nmaster_socket = \"/m\"\nspawn = true\n{SMALL}");
    assert_eq!(
        diagnostics(&text),
        ["3:9: haproxy.spawn: there is master_socket already; keep one way to reload"]
    );
    let child = load(&format!("[haproxy]\nspawn = true\n{SMALL}")).unwrap();
    assert_eq!(child.haproxy.reload, ReloadMethod::Spawn);
    assert_eq!(
        load(&format!("[haproxy]\nspawn = false\n{SMALL}")),
        load(SMALL)
    );
}

#[test]
fn a_template_of_ones_own_needs_no_frontend_and_bounds_no_drain() {
    let backend = SMALL.split_once("[[").unwrap().1;
    let text = format!("[haproxy]\ntemplate = \"/t.j2\"\n[drain]\ntimeout = \"5m\"\n[[{backend}");
    assert_eq!(diagnostics(&text), [""; 0]);
    let text = format!("[[{backend}");
    assert!(diagnostics(&text)[0].starts_with("1:1: frontend: the section is missing"));
}

#[test]
fn nothing_that_is_live_in_haproxys_configuration_gets_through() {
    let keys = [
        "balance = \"uri§\"",
        "check = \"GET /§\"",
        "check = { path = \"/§\" }",
        "check = { path = \"/\", host = \"a§\" }",
        "check = { tls = true, sni = \"a§\" }\nserver_options = \"verify none\"",
        "server_options = \"x§\"",
    ];
    let mut texts: Vec<String> = keys.iter().map(|line| format!("{SMALL}{line}\n")).collect();
    texts.push(SMALL.replace("*:80", "*:80 §"));
    texts.push(format!("[haproxy]\nstats_socket = \"/run/§\"\n{SMALL}"));
    for text in texts {
        for live in [
            "\\n", "\\r", "\\t", "\\u0000", "\\\"", "'", "#", "\\\\", "$", ";", "{", "}", "<", "é",
            "\\u007f",
        ] {
            let text = text.replace('§', live);
            assert_eq!(diagnostics(&text).len(), 1, "{text}");
        }
    }
}

#[test]
fn a_variable_goes_before_the_file() {
    let text = format!("[guard]\nwindow = \"1m\"\n{SMALL}");
    let config = Config::parse(&text, variable("SERF_HAPROXY_GUARD_WINDOW", "7m")).unwrap();
    assert_eq!(config.backends[0].guard.window, Duration::from_secs(420));
    let config = Config::parse(&text, variable("SERF_HAPROXY_HTTP_LISTEN", "[::1]:1")).unwrap();
    assert_eq!(config.http.unwrap().listen.port(), 1);
    let config = Config::parse(&text, variable("SERF_HAPROXY_RETIRED_MAX", "7")).unwrap();
    assert_eq!(config.retired.max, 7);
    assert!(Config::parse(&text, variable("SERF_HAPROXY_CONFIG", "/x")).is_ok());
    assert!(Config::parse(&text, variable("PATH", "/x")).is_ok());
}

#[test]
fn an_error_of_a_variable_names_it() {
    let error = spoken(Config::parse(
        SMALL,
        variable("SERF_HAPROXY_GUARD_WINDOW", "7"),
    ));
    let wanted = "SERF_HAPROXY_GUARD_WINDOW: guard.window: a time span without a unit; write \"7s\" or \"7ms\"";
    assert_eq!(error, [wanted]);
    let error = spoken(Config::parse(
        SMALL,
        variable("SERF_HAPROXY_GUARD_WINDOWS", "7m"),
    ));
    assert!(
        error[0].ends_with("did you mean SERF_HAPROXY_GUARD_WINDOW?"),
        "{error:?}"
    );
    let error = spoken(Config::parse(
        SMALL,
        variable("SERF_HAPROXY_HAPROXY_RELOAD_COMMAND", "x"),
    ));
    assert!(error[0].contains("expected a list"), "{error:?}");
}

#[test]
fn every_variable_of_an_unknown_section_is_told() {
    let variables = ["GAURD_WINDOW", "GAURD_HOLD", "BACKEND_NAME", "guard_hold"]
        .map(|name| (format!("SERF_HAPROXY_{name}"), "7m".to_owned()));
    let no_key = "this variable sets no key, lists and tables are set in the file only";
    assert_eq!(
        spoken(Config::parse(SMALL, variables)),
        [
            format!("SERF_HAPROXY_BACKEND_NAME: : {no_key}"),
            format!("SERF_HAPROXY_GAURD_HOLD: : {no_key}; did you mean SERF_HAPROXY_GUARD_HOLD?"),
            format!(
                "SERF_HAPROXY_GAURD_WINDOW: : {no_key}; did you mean SERF_HAPROXY_GUARD_WINDOW?"
            ),
            format!("SERF_HAPROXY_guard_hold: : {no_key}"),
        ]
    );
}

#[test]
fn a_file_may_begin_with_a_byte_order_mark_and_is_utf_8() {
    let read = |text: &[u8]| Config::read(text.to_vec(), []);
    let with_mark = [b"\xef\xbb\xbf", SMALL.as_bytes()].concat();
    let backends = load(SMALL).unwrap().backends;
    assert_eq!(read(&with_mark).unwrap().backends, backends);
    let latin = [SMALL.as_bytes(), b"# f\xfcr alle\n"].concat();
    let errors = read(&latin).unwrap_err();
    assert_eq!(errors[0].location, Location::File { line: 7, column: 4 });
    let message = "the file is not UTF-8: byte 0xfc";
    assert!(errors[0].message.starts_with(message), "{errors:?}");
}

#[test]
fn a_group_opens_a_socket_to_it_and_nothing_opens_one_to_all() {
    let modes = |lines: &str| {
        let config = load(&format!("{SMALL}{lines}")).unwrap();
        let modes = (config.haproxy.stats_socket_mode, config.control.mode);
        format!("{} {}", modes.0, modes.1)
    };
    assert_eq!(modes(""), "600 600");
    assert_eq!(
        modes("[haproxy]\nstats_socket_group = \"web\"\n"),
        "660 600"
    );
    assert_eq!(
        modes("[control]\ngroup = \"adm\"\nmode = \"640\"\n"),
        "600 640"
    );
    for wrong in ["\"666\"", "\"0660\"", "\"68\"", "\"6a0\"", "432", "\"+60\""] {
        let text = format!("{SMALL}[control]\nmode = {wrong}\n");
        assert_eq!(diagnostics(&text).len(), 1, "{wrong}");
    }
}

#[test]
fn the_control_socket_is_found_in_a_file_that_is_wrong_otherwise() {
    let socket = |text: &str| {
        let (socket, diagnostic) = Config::control_socket(text);
        (
            socket.map_or_else(String::new, |socket| socket.display().to_string()),
            diagnostic.map_or_else(String::new, |diagnostic| diagnostic.message),
        )
    };
    let found = ("/run/a.sock".to_owned(), String::new());
    let control = "[control]\nsocket = \"/run/a.sock\"\n";
    assert_eq!(socket(control), found);
    assert_eq!(
        socket(&format!(
            "[guard]\nwindow = 5\nwindo = \"x\"\n[bakend]\n{control}"
        )),
        found
    );
    assert_eq!(socket("[serf]\n"), (String::new(), String::new()));
    for text in [
        format!("[serf]\naddr = \n{control}"),
        format!("{control}[frontend\nbind = 5\n"),
        format!("{control}[[backend]]\nname = \"nodes\nport = 3000\n"),
    ] {
        let (socket, diagnostic) = socket(&text);
        assert_eq!(socket, "/run/a.sock", "{text}");
        assert!(diagnostic.ends_with("; this is no TOML"), "{diagnostic}");
    }
    let (none, diagnostic) = socket("[control]\nsocket = \"run/a.sock\"\n");
    assert_eq!(none, "");
    assert!(diagnostic.contains("absolute path"), "{diagnostic}");
}

proptest::proptest! {
    #[test]
    fn any_text_has_a_control_socket_or_none(text in "[\\[\\]a-z=\"/ \n.]{0,60}", bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
        Config::control_socket(&text);
        Config::control_socket(&format!("[control]\n{text}"));
        Config::control_socket(&String::from_utf8_lossy(&bytes));
    }
}
