//! Random front ends: whatever the config's readers take, every HAProxy takes what is rendered of it, without a warning.
//! `FRONT_ENDS=1000` for a campaign.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use integration::{Certificate, Haproxy, HaproxyKind, TestEnv, on_each_haproxy};
use planner::config::Config;
use planner::model::Servers;
use planner::render::Renderer;

on_each_haproxy! {
    every_front_end_that_may_be_written_is_taken_without_a_warning => law;
}

/// So many files without being asked for more.
const FILES: usize = 60;

/// A key, how often of 100 it is there, and its values, of which one is picked.
type Entry = (&'static str, u8, &'static [&'static str]);

const HTTP: &[Entry] = &[
    ("https_redirect", 50, &["true", "443", "8443", "false"]),
    (
        "hsts",
        50,
        &[
            "true",
            "\"180days\"",
            "{ subdomains = true, preload = true }",
            "{ max_age = \"0s\" }",
        ],
    ),
    (
        "trusted_proxies",
        50,
        &[
            "\"10.0.0.0/8\"",
            "[\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"]",
        ],
    ),
    ("acme", 40, &["\"127.0.0.1:8402\""]),
    ("timeout_http_request", 20, &["\"1s\""]),
    ("timeout_http_keep_alive", 20, &["\"250ms\""]),
];

const ANY: &[Entry] = &[
    (
        "accept_proxy",
        40,
        &["\"10.0.0.0/8\"", "[\"10.0.0.0/8\", \"::1\"]"],
    ),
    ("maxconn", 40, &["1", "1000"]),
    ("timeout_client", 20, &["\"90m\""]),
    ("log", 60, &["\"127.0.0.1:514 local0\""]),
    (
        "log_format",
        60,
        &[
            "\"json\"",
            "\"%ci \\\"%ST\\\" {%B} #%ts $x\"",
            "\"default\"",
        ],
    ),
];

const TCP: &[Entry] = &[(
    "sni",
    70,
    &[
        "{ \"db.example.com\" = \"db\" }",
        "{ \"*.example.com\" = \"web\", \"*.db.example.com\" = \"db\", \"db.example.com\" = \"db\" }",
    ],
)];

/// The keys of a front end that may be HTTP/3's, where `quic`.
fn front_end(rng: &mut Rng, number: u16, quic: bool) -> String {
    let mut text = format!("[[frontend]]\nname = \"f{number}\"\n");
    let tcp = rng.u8(..100) < 30;
    let (plain, tls) = match rng.u8(..3) {
        0 => (true, false),
        1 => (false, true),
        _ => (!tcp, true),
    };
    let port = 8000 + 10 * number;
    if plain {
        let _ = writeln!(
            text,
            "bind = [\"127.0.0.1:{port}\", \"[::1]:{} v6only\"]",
            port + 1
        );
    }
    if tls {
        let _ = writeln!(
            text,
            "certificates = \"/certs\"\ntls_bind = [\"127.0.0.1:{}\", \"[::1]:{}\"]",
            port + 2,
            port + 2
        );
        if rng.bool() {
            text.push_str("alpn = [\"http/1.1\"]\n");
        }
        if quic && !tcp && rng.bool() {
            text.push_str("h3 = true\n");
        }
    }
    let mode = if tcp { "tcp" } else { "http" };
    let backend = if tcp { "db" } else { "web" };
    let _ = writeln!(text, "mode = \"{mode}\"\ndefault_backend = \"{backend}\"");
    if !tcp && !tls && rng.bool() {
        text.push_str("forwarded = true\n");
    }
    let own = if tcp { TCP } else { HTTP };
    for (key, often, values) in own.iter().chain(ANY) {
        if rng.u8(..100) >= *often || (*key == "https_redirect" && !(plain && tls)) {
            continue;
        }
        let value = values[rng.usize(..values.len())];
        let _ = writeln!(text, "{key} = {value}");
    }
    if number == 1 {
        text.push_str("stats_bind = \"127.0.0.1:7001\"\nexporter_bind = \"127.0.0.1:7002\"\n");
    }
    text
}

fn config(rng: &mut Rng, file: &Path, socket: &Path, quic: bool) -> Result<Config> {
    let mut text = format!(
        "[haproxy]\nconfig = {file:?}\nstats_socket = {socket:?}\nhard_stop_after = \"30s\"\n"
    );
    for number in 1..=rng.u16(1..=4) {
        text.push_str(&front_end(rng, number, quic));
    }
    text.push_str(
        "[[backend]]\nname = \"web\"\ntags = { role = \"web\" }\nport = 80\n\
         [[backend]]\nname = \"db\"\nmode = \"tcp\"\ntags = { role = \"db\" }\nport = 81\n",
    );
    Config::parse(&text, []).map_err(|found| anyhow::anyhow!("{found:?}\n{text}"))
}

/// What the certificates' keeper leaves for HAProxy.
fn put_certificates(config: &Config) -> Result<()> {
    for frontend in &config.frontends {
        let place = config.certificate_place(&frontend.name);
        fs::create_dir_all(place.default.parent().context("a path with a folder")?)?;
        fs::write(&place.default, Certificate::of("a.example")?.pem())?;
        fs::write(&place.list, "")?;
    }
    Ok(())
}

async fn law(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let number = |variable: &str| std::env::var(variable).ok()?.parse().ok();
    let wanted: usize = number("FRONT_ENDS").map_or(FILES, |count: u32| count as usize);
    let mut rng = Rng::with_seed(number("SEED").map_or(5, u64::from));
    let haproxy = Haproxy::prepare(lab, kind).await?;
    let renderer = Renderer::built_in()?;
    let folder = lab.path("files");
    fs::create_dir(&folder)?;
    for number in 0..wanted {
        let file = folder.join(format!("{number}.cfg"));
        let config = config(
            &mut rng,
            &file,
            &haproxy.stats_socket(),
            kind != HaproxyKind::Host,
        )?;
        put_certificates(&config)?;
        fs::write(&file, renderer.render(&config, &Servers::new())?.text)?;
    }
    let words = haproxy.check_command();
    let program = words
        .iter()
        .position(|word| word == "haproxy")
        .context("no haproxy in its own command")?;
    let (before, _) = words.split_at(program);
    let script = format!(
        "cd {}; PATH=$PATH:/usr/sbin; for f in *.cfg; do haproxy -c -f $f > said 2>&1 && ! grep -q -e WARNING -e ALERT said \
         || {{ echo \"== $f\"; cat said; }}; done",
        folder.display()
    );
    let all = before
        .iter()
        .map(String::as_str)
        .chain(["sh", "-c", &script]);
    let all: Vec<&str> = all.collect();
    let (program, args) = all.split_first().context("a program")?;
    let output = Command::new(program).args(args).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let first = said
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("== "));
    let text = first.map(|name| fs::read_to_string(folder.join(name)).unwrap_or_default());
    ensure!(
        output.status.success() && said.is_empty(),
        "{said}\n{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        text.unwrap_or_default()
    );
    Ok(())
}
