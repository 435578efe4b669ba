//! The binary as a person calls it, where there is no agent and no HAProxy.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

const CONFIG: &str = "[frontend]\nbind = [\"*:80\"]\n[[backend]]\nname = \"nodes\"\ntags = { role = \"backend\" }\nport = 3000\n";
/// What takes HAProxy's place where a file has to be judged.
const CHECK: &str = "check_command = [\"test\", \"-s\", \"{path}\"]\n";

struct Endpoint {
    dir: tempfile::TempDir,
}

impl Endpoint {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        Self { dir }
    }

    fn with_template(template: &str) -> Self {
        let place = Self::new("");
        std::fs::write(place.path("own.j2"), template).unwrap();
        let config = format!(
            "{CONFIG}[haproxy]\n{CHECK}template = \"{}\"\n",
            place.path("own.j2").display()
        );
        std::fs::write(place.path("config.toml"), config).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Nobody is there to be asked.
    fn env(&self) -> [(&'static str, String); 5] {
        let path = |name| self.path(name).to_str().unwrap().to_owned();
        [
            ("SERF_HAPROXY_SERF_ADDR", "127.10.255.1:9".to_owned()),
            ("SERF_HAPROXY_HAPROXY_CONFIG", path("haproxy.cfg")),
            ("SERF_HAPROXY_HAPROXY_STATS_SOCKET", path("admin.sock")),
            ("SERF_HAPROXY_STATE_DIR", path("state")),
            ("SERF_HAPROXY_CONTROL_SOCKET", path("control.sock")),
        ]
    }

    fn call(&self, args: &[&str]) -> Called {
        let config = self.path("config.toml");
        let config = config.to_str().unwrap();
        let env = self.env();
        let env: Vec<_> = env
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        call(&[args, &["-c", config]].concat(), &env)
    }
}

struct Called {
    code: i32,
    stdout: String,
    stderr: String,
}

fn call(args: &[&str], env: &[(&str, &str)]) -> Called {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serf-haproxy"));
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SERF_HAPROXY_"))
    {
        command.env_remove(name);
    }
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .args(args)
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Called {
        code: status.code().unwrap(),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

#[test]
fn check_says_that_all_is_well() {
    let place = Endpoint::new(&format!("{CONFIG}[haproxy]\n{CHECK}"));
    let called = place.call(&["check"]);
    assert_eq!(called.code, 0, "{}", called.stderr);
    for line in [
        "config.toml: ok",
        "template built in: ok",
        "haproxy.cfg: ok",
        "backend nodes: changes without a reload",
    ] {
        assert!(called.stdout.contains(line), "{}", called.stdout);
    }
    assert!(!place.path("haproxy.cfg").exists(), "check writes nothing");
}

#[test]
fn check_says_which_promises_a_template_of_ones_own_breaks_and_where() {
    let place = Endpoint::with_template(
        "global\n\tdescription\t\"serf-haproxy {{ stamp }}\"\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  timeout server 30s\n\
         frontend own\n  bind *:80\n  default_backend nodes\n\
         {% for backend in backends %}\nbackend {{ backend.name }}\n  retry-on empty-response\n\
         {% for server in backend.servers %}\n\
         \tserver {{ server.name }} {{ server.addr }} check on-marked-down shutdown-sessions\
         {% if not server.ready %} disabled{% endif +%}\n{% endfor %}\n{% endfor %}\n\
         global\n  stats socket {{ haproxy.stats_socket }} level admin\n",
    );
    let called = place.call(&["check"]);
    assert_eq!(called.code, 0, "{}", called.stderr);
    let (file, own) = (place.path("haproxy.cfg"), place.path("own.j2"));
    let (file, own) = (file.display(), own.display());
    let warnings = [
        format!("{file}:14: global: no `hard-stop-after`"),
        format!("{file}:6: backend nodes: `timeout connect 5s`"),
        format!("(from {own}:5)"),
        format!("{file}:9: frontend own: no `option idle-close-on-response`"),
        format!("{file}:12: backend nodes: no `option redispatch`"),
        format!("{file}:13: backend nodes: `retry-on empty-response` sends a POST"),
        format!("(from {own}:13)"),
        "warning: backend nodes: `on-marked-down shutdown-sessions`".to_owned(),
        format!("(from {own}:15)"),
    ];
    for warning in warnings {
        assert!(
            called.stderr.contains(&warning),
            "{warning}\n{}",
            called.stderr
        );
    }
    let promises = |called: &Called| {
        let lines = called.stderr.lines();
        let around = [
            "warning: [serf]",
            "warning: [haproxy]",
            "warning: [frontend]",
            "warning: [[backend]]",
        ];
        let said = lines.filter(|line| !around.iter().any(|begin| line.starts_with(begin)));
        said.count()
    };
    assert_eq!(promises(&called), 6, "{}", called.stderr);

    // Those who include the backends need no more than the front end's own line.
    let place = Endpoint::with_template(
        "global\n  description \"serf-haproxy {{ stamp }}\"\n  hard-stop-after {{ hard_stop_after }}\n\
         \x20 stats socket {{ haproxy.stats_socket }} level admin\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n\
         frontend own\n  bind *:80\n  option idle-close-on-response\n  default_backend nodes\n\
         {% include \"backends.cfg.j2\" %}\n",
    );
    let called = place.call(&["check"]);
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert_eq!(promises(&called), 0, "{}", called.stderr);
}

#[test]
fn plan_without_a_controller_prints_the_file_that_would_be_written_and_exits_2() {
    let place = Endpoint::new(&format!("{CONFIG}[haproxy]\n{CHECK}"));
    let called = place.call(&["plan"]);
    assert_eq!(called.code, 2, "{}", called.stderr);
    assert!(
        called.stdout.contains("\n+backend nodes\n"),
        "{}",
        called.stdout
    );
    assert!(
        called.stderr.contains("the agent does not answer"),
        "{}",
        called.stderr
    );
    assert!(
        called.stderr.contains("HAProxy does not answer"),
        "{}",
        called.stderr
    );
    assert!(!place.path("haproxy.cfg").exists(), "plan writes nothing");
    std::fs::write(place.path("haproxy.cfg"), place.call(&["render"]).stdout).unwrap();
    let called = place.call(&["plan"]);
    assert_eq!(
        (called.code, called.stdout.as_str()),
        (0, "nothing to do\n")
    );
}

#[test]
fn check_names_file_line_and_key_of_every_error() {
    let place = Endpoint::new(&format!("{CONFIG}prot = 3000\n[guard]\nwindow = \"5\"\n"));
    let called = place.call(&["check"]);
    let file = place.path("config.toml");
    let lines = [
        format!(
            "{}:7:1: backend.nodes.prot: unknown key; did you mean `port`?",
            file.display()
        ),
        format!(
            "{}:9:10: guard.window: a time span without a unit; write \"5s\" or \"5ms\"",
            file.display()
        ),
    ];
    assert_eq!(
        (called.code, called.stderr.lines().collect::<Vec<_>>()),
        (78, lines.iter().map(String::as_str).collect())
    );
}

#[test]
fn check_names_template_and_line_of_an_error() {
    let place = Endpoint::with_template("global\n{{ backend }}\n");
    let called = place.call(&["check"]);
    let start = format!("{}:2: undefined value", place.path("own.j2").display());
    assert_eq!(called.code, 1);
    let place = Endpoint::with_template("global\n{% frobnicate %}\n");
    assert_eq!(place.call(&["render"]).code, 78);
    assert!(called.stderr.contains(&start), "{}", called.stderr);
}

#[test]
fn check_refuses_a_template_that_forgets_stamp_or_disabled() {
    let place = Endpoint::with_template(
        "global\nbackend nodes\n{% for s in backends.0.servers %}\n  server {{ s.name }} {{ s.addr }}\n{% endfor %}\n",
    );
    let called = place.call(&["check"]);
    assert_eq!(called.code, 1);
    assert!(
        called.stderr.contains("stamp") && called.stderr.contains("disabled"),
        "{}",
        called.stderr
    );
}

#[test]
fn a_file_that_is_not_there_is_named_with_the_reason() {
    let called = call(&["check", "-c", "/nowhere/config.toml"], &[]);
    assert_eq!(
        called.stderr,
        "cannot read /nowhere/config.toml: No such file or directory (os error 2)\n"
    );
    assert_eq!(called.code, 78);
}

#[test]
fn render_prints_the_file_and_nothing_else() {
    let called = Endpoint::new(CONFIG).call(&["render"]);
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert!(called.stdout.starts_with("# written by serf-haproxy"));
    assert!(
        called
            .stdout
            .ends_with("    http-request disable-l7-retry unless { method GET HEAD OPTIONS }\n"),
        "{}",
        called.stdout
    );
}

#[test]
fn a_printed_template_renders_as_the_built_in_one() {
    let printed = call(&["render", "--print-template"], &[]);
    assert_eq!(printed.code, 0);
    let place = Endpoint::with_template(&printed.stdout);
    let own = place.call(&["render"]);
    std::fs::write(place.path("config.toml"), CONFIG).unwrap();
    assert_eq!(own.stdout, place.call(&["render"]).stdout);
    assert!(
        call(&["render", "--print-template", "servers.cfg.j2"], &[])
            .stdout
            .contains("server {{ server.name }}")
    );
}

#[test]
fn config_file_and_keys_come_from_the_environment_too() {
    let place = Endpoint::new(CONFIG);
    let file = place.path("config.toml");
    let env = [
        ("SERF_HAPROXY_CONFIG", file.to_str().unwrap()),
        ("SERF_HAPROXY_HAPROXY_STATS_SOCKET", "/run/other.sock"),
    ];
    let called = call(&["render"], &env);
    assert!(
        called.stdout.contains("stats socket /run/other.sock "),
        "{}{}",
        called.stdout,
        called.stderr
    );
    let called = call(
        &["render"],
        &[
            ("SERF_HAPROXY_CONFIG", file.to_str().unwrap()),
            ("SERF_HAPROXY_GUARD_WINDO", "5m"),
        ],
    );
    assert!(
        called.stderr.starts_with("SERF_HAPROXY_GUARD_WINDO: "),
        "{}",
        called.stderr
    );
}

#[test]
fn wrong_usage_exits_64_and_help_0() {
    for args in [
        &["chekc"][..],
        &["check", "--fast"],
        &["render", "--print-template", "x"],
        &["check", "--log-level", "a=b=c"],
        &["check", "--log-level", "verbose"],
        &["check", "--log-level", "info,serf_rpc=loud"],
        &["check", "--log-level", "info,serf_prc=debug"],
        &[],
    ] {
        assert_eq!(call(args, &[]).code, 64, "{args:?}");
    }
    let help = call(&["--help"], &[]);
    assert!(help.code == 0 && help.stdout.contains("Examples:"));
}

/// Whether a unit should start it again: not where a person has to do something first.
#[test]
fn run_exits_78_for_what_another_try_does_not_mend_and_else_1() {
    let place = Endpoint::new(&format!("{CONFIG}prot = 3000\n"));
    assert_eq!(place.call(&["run"]).code, 78);
    let place = Endpoint::with_template("global\n{% frobnicate %}\n");
    assert_eq!(place.call(&["run"]).code, 78);
    let place = Endpoint::new(CONFIG);
    std::fs::write(place.path("haproxy.cfg"), "global\n").unwrap();
    let called = place.call(&["run"]);
    assert_eq!(called.code, 78, "{}", called.stderr);
    assert!(called.stderr.contains("--adopt"), "{}", called.stderr);
    let place = Endpoint::new(CONFIG);
    std::fs::write(place.path("state"), "no directory").unwrap();
    assert_eq!(place.call(&["run"]).code, 1);
}

#[test]
fn journald_gets_priorities_and_no_time() {
    use std::os::unix::fs::MetadataExt as _;

    let place = Endpoint::new(CONFIG);
    let logged = |config: &str, stream: &dyn Fn(&std::fs::Metadata) -> String| {
        let log = std::fs::File::create(place.path("log")).unwrap();
        let stream = stream(&log.metadata().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_serf-haproxy"));
        command.args(["plan", "-c"]).arg(place.path(config));
        command.env("SERF_HAPROXY_SERF_ADDR", "127.10.255.1:9");
        command.env(
            "SERF_HAPROXY_HAPROXY_STATS_SOCKET",
            place.path("admin.sock"),
        );
        command.env("SERF_HAPROXY_HAPROXY_CONFIG", place.path("haproxy.cfg"));
        command.env("SERF_HAPROXY_STATE_DIR", place.path("state"));
        command.env("SERF_HAPROXY_CONTROL_SOCKET", place.path("control.sock"));
        command.env("JOURNAL_STREAM", stream).stderr(log);
        command.output().unwrap();
        std::fs::read_to_string(place.path("log")).unwrap()
    };
    let own = |file: &std::fs::Metadata| format!("{}:{}", file.dev(), file.ino());
    let log = logged("config.toml", &own);
    assert!(log.contains("<4>WARN HAProxy does not answer"), "{log}");
    assert!(
        log.lines().all(|line| line.starts_with("<4>WARN ")),
        "{log}"
    );
    let log = logged("nowhere.toml", &own);
    assert!(log.starts_with("<3>cannot read "), "{log}");
    let log = logged("config.toml", &|file| {
        format!("{}:{}", file.dev(), file.ino() + 1)
    });
    assert!(log.contains("WARN") && !log.contains("<4>"), "{log}");
}

#[test]
fn completions_and_manual_know_the_commands() {
    assert!(
        call(&["completions", "bash"], &[])
            .stdout
            .contains("print-template")
    );
    assert!(call(&["man"], &[]).stdout.contains("serf\\-haproxy"));
    assert!(
        call(&["man", "render"], &[])
            .stdout
            .contains("print\\-template")
    );
    assert_eq!(call(&["man", "nothing"], &[]).code, 1);
}

#[test]
fn a_broken_config_does_not_keep_anybody_from_asking_the_controller() {
    let place = Endpoint::new("[serf\naddr = \n[control]\nsocket = \"/run/nobody-here.sock\"\n");
    let config = place.path("config.toml");
    let config = config.to_str().unwrap();
    for (command, code) in [
        (&["status"][..], 1),
        (&["history"], 1),
        (&["approve", "--all"], 1),
        (&["plan"], 78),
        (&["render"], 78),
    ] {
        let called = call(&[command, &["-c", config]].concat(), &[]);
        assert_eq!(called.code, code);
        let note = format!("note: {config}:1:");
        assert!(called.stderr.starts_with(&note), "{}", called.stderr);
        assert!(
            called
                .stderr
                .contains("asking the controller at /run/nobody-here.sock\n"),
            "{}",
            called.stderr
        );
    }
    let called = call(&["status", "-c", config], &[]);
    assert!(
        called
            .stderr
            .ends_with("no running serf-haproxy at /run/nobody-here.sock\n"),
        "{}",
        called.stderr
    );
    for (args, env) in [
        (&["--socket", "/run/named.sock"][..], &[][..]),
        (&[], &[("SERF_HAPROXY_CONTROL_SOCKET", "/run/named.sock")]),
    ] {
        let called = call(&[&["status", "-c", config], args].concat(), env);
        assert_eq!(
            called.stderr,
            "no running serf-haproxy at /run/named.sock\n"
        );
    }
}

#[test]
fn nobody_who_stops_reading_changes_what_is_done() {
    let place = Endpoint::new(CONFIG);
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let config = place.path("config.toml");
    for (args, code) in [
        (&["render"][..], 0),
        (&["render", "--print-template"], 0),
        (&["--help"], 0),
        (&["plan"], 2),
        (&["status"], 1),
        (&["chekc"], 64),
    ] {
        let status = Command::new(env!("CARGO_BIN_EXE_serf-haproxy"))
            .args(args)
            .envs(place.env())
            .env("SERF_HAPROXY_CONFIG", &config)
            .stdout(closed())
            .stderr(closed())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

/// What `run` says of a file, with something in HAProxy's place that takes every text.
fn run_once(place: &Endpoint, args: &[&str]) -> Called {
    let config = format!("{CONFIG}[haproxy]\n{CHECK}");
    std::fs::write(place.path("config.toml"), config).unwrap();
    place.call(&[&["run"], args].concat())
}

/// Lets `run` write the file, without anybody to read its log.
fn run_until_written(place: &Endpoint, args: &[&str]) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut run = Command::new(env!("CARGO_BIN_EXE_serf-haproxy"))
        .arg("run")
        .args(args)
        .envs(place.env())
        .env("SERF_HAPROXY_CONFIG", place.path("config.toml"))
        .stderr(writer)
        .spawn()
        .unwrap();
    let written = || {
        let text = std::fs::read_to_string(place.path("haproxy.cfg")).unwrap_or_default();
        text.starts_with("# written by serf-haproxy")
    };
    let started = std::time::Instant::now();
    while !written() && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert!(written(), "the file is not written");
}

#[test]
fn what_would_be_lost_is_told_before_anything_is_written() {
    let place = Endpoint::new("");
    let theirs = "global\n  user haproxy\n  group haproxy\n  chroot /var/lib/haproxy\n  log /dev/log local0\n  maxconn 9\n\
                  frontend www\n  bind *:443 ssl crt /site.pem\n  default_backend web\n";
    std::fs::write(place.path("haproxy.cfg"), theirs).unwrap();
    let called = run_once(&place, &["--adopt"]);
    assert_eq!(called.code, 78);
    for line in [
        "line 6, global: maxconn 9\n",
        "line 7, frontend www: the whole section, 2 lines; nothing listens on *:443 any more\n",
        "Nothing was written.",
        "--yes",
    ] {
        assert!(called.stderr.contains(line), "{line}\n{}", called.stderr);
    }
    assert!(!called.stderr.contains("/dev/log"), "{}", called.stderr);
    let names = |place: &Endpoint| {
        let entries = std::fs::read_dir(place.dir.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&place), ["config.toml", "haproxy.cfg"]);
    let read = || std::fs::read_to_string(place.path("haproxy.cfg")).unwrap();
    assert_eq!(read(), theirs);
    let checked = place.call(&["check", "--adopt"]).stderr;
    assert!(checked.contains("`run --adopt --yes`"), "{checked}");
    assert!(checked.contains("line 6, global: maxconn 9"), "{checked}");

    assert_eq!(call(&["once", "--yes"], &[]).code, 64);
    run_until_written(&place, &["--adopt", "--yes"]);
    let ours = read();
    for line in [
        "user haproxy",
        "group haproxy",
        "chroot /var/lib/haproxy",
        "log /dev/log local0",
    ] {
        assert!(
            ours.contains(&format!("\n    {line}  # taken over\n")),
            "{ours}"
        );
    }
    assert!(
        ours.contains("\n    log global\n    option httplog\n"),
        "{ours}"
    );
    let copy = std::fs::read_to_string(place.path("haproxy.cfg.before-serf-haproxy"));
    assert_eq!(copy.unwrap(), theirs);

    // For good: without the state, and for those who look only.
    std::fs::remove_dir_all(place.path("state")).unwrap();
    assert_eq!(place.call(&["render"]).stdout, ours);
    std::fs::remove_file(place.path("haproxy.cfg")).unwrap();
    assert_eq!(place.call(&["render"]).stdout, ours);
    // The config goes before it.
    let config = format!("{CONFIG}[haproxy]\nuser = \"nobody\"\nchroot = \"/var/empty\"\n");
    std::fs::write(place.path("config.toml"), config).unwrap();
    let rendered = place.call(&["render"]).stdout;
    assert!(rendered.contains("\n    user nobody\n"), "{rendered}");
    assert!(rendered.contains("\n    chroot /var/empty\n"), "{rendered}");
    assert!(!rendered.contains("user haproxy"), "{rendered}");
    assert!(
        rendered.contains("group haproxy  # taken over"),
        "{rendered}"
    );
}

#[test]
fn a_right_that_cannot_be_taken_over_is_never_given_up_by_the_built_in_template() {
    let place = Endpoint::new("");
    let theirs = "global\n.if defined(X)\n  user haproxy\n.endif\n";
    std::fs::write(place.path("haproxy.cfg"), theirs).unwrap();
    let called = run_once(&place, &["--adopt", "--yes"]);
    assert_eq!(called.code, 78);
    assert!(
        called.stderr.contains("`user` inside `.if`"),
        "{}",
        called.stderr
    );
    let read = std::fs::read_to_string(place.path("haproxy.cfg")).unwrap();
    assert_eq!(read, theirs);
}
