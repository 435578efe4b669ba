//! Random server lines on the real HAProxy: a server added at runtime is what the same line is in the file, by what
//! HAProxy shows of it and by the first bytes of its check, its agent check and its traffic. `LINES=2000` for a campaign.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use controller::haproxy::runtime::RuntimeApi;
use fastrand::Rng;
use futures_util::future::join_all;
use integration::view::{Seen, table};
use integration::{Haproxy, HaproxyKind, Recorder, TestEnv, on_each_haproxy};
use planner::model::Version;
use planner::plan::ReloadReason;
use planner::syntax::ConfigText;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use crate::follow::follow;
use crate::random_lines::{Line, Tally};

on_each_haproxy! {
    a_server_added_at_runtime_is_what_its_line_is_in_the_file => law;
    words_about_host_names_mean_nothing_to_an_ip_address => host_names;
}

/// So many without being asked for more.
const LINES: usize = 60;
/// So many servers in one HAProxy.
const AT_ONCE: usize = 200;
/// Every check has run by then: `inter 300ms`, and the recorder's patience.
const CHECKED: Duration = Duration::from_secs(2);
/// A machine that is busy may be late: what differs is looked at so often before it counts.
const LOOKS: usize = 3;

/// Columns that say how a server is configured.
const STATE: [&str; 14] = [
    "srv_addr",
    "srv_uweight",
    "srv_iweight",
    "srv_check_state",
    "srv_agent_state",
    "srv_f_forced_id",
    "srv_fqdn",
    "srv_port",
    "srvrecord",
    "srv_use_ssl",
    "srv_check_port",
    "srv_check_addr",
    "srv_agent_addr",
    "srv_agent_port",
];
const STAT: [&str; 14] = [
    "slim",
    "qlimit",
    "act",
    "bck",
    "tracked",
    "type",
    "check_rise",
    "check_fall",
    "agent_rise",
    "agent_fall",
    "addr",
    "cookie",
    "mode",
    "algo",
];
const CONN: [&str; 4] = ["addr", "port", "purge_delay", "idle_lim"];

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

async fn law(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let wanted = number("LINES").unwrap_or(LINES);
    let seed = number("SEED").unwrap_or(17);
    let mut rng = Rng::with_seed(seed as u64);
    certificate(lab)?;
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let (mut compared, mut invalid, mut heard) = (0, 0, 0);
    let mut tally = Tally::default();
    std::fs::write(haproxy.config(), text(lab, &haproxy, "", &[], false))?;
    haproxy.start().await?;
    let version = RuntimeApi::new(haproxy.stats_socket())
        .worker()
        .await?
        .version;
    while compared < wanted {
        let count = (wanted - compared).min(AT_ONCE) as u16;
        let globals = globals(&mut rng, version);
        let mut candidates: Vec<Line> = (0..count)
            .map(|number| Line::random(lab, &mut rng, version, number))
            .collect();
        invalid += sift(lab, &haproxy, &globals, &mut candidates)?;
        heard += equal(lab, &mut haproxy, &globals, &candidates).await?;
        candidates.iter().for_each(|line| tally.add(line));
        compared += candidates.len();
    }
    println!(
        "{kind:?} {version}: {compared} lines equal, and what was said in {heard} places; {invalid} others were refused in the file\n{tally}\nnone had: {:?}",
        tally.missing(version)
    );
    Ok(())
}

/// Compares what the lines are at runtime and in the file; says how many places were told something.
async fn equal(
    lab: &TestEnv,
    haproxy: &mut Haproxy,
    globals: &str,
    lines: &[Line],
) -> Result<usize> {
    let mut heard = 0;
    let recorder = listen(lab, lines).await?;
    let mut lines = lines.to_vec();
    let mut differences = Vec::new();
    for look in 0..LOOKS {
        let bare = text(lab, haproxy, globals, &lines, false);
        let full = text(lab, haproxy, globals, &lines, true);
        start(haproxy, &recorder, &bare).await?;
        let api = RuntimeApi::new(haproxy.stats_socket());
        let left = follow(&api, &ConfigText::parse(&bare), &ConfigText::parse(&full)).await?;
        let refused = refused(&left.reload)?;
        lines.retain(|line| !refused.contains(&format!("b{}", line.number)));
        let runtime = seen(lab, haproxy, &recorder, &lines).await?;
        start(haproxy, &recorder, &full).await?;
        let file = seen(lab, haproxy, &recorder, &lines).await?;
        if look == 0 {
            let places = file.iter().flat_map(Seen::keys);
            heard = places.filter(|key| key.starts_with("said by all")).count();
        }
        differences.clear();
        let pairs = runtime
            .iter()
            .zip(&file)
            .map(|(runtime, file)| runtime == file);
        let differing: Vec<bool> = pairs.map(|equal| !equal).collect();
        for (line, (runtime, file)) in lines.iter().zip(runtime.iter().zip(&file)) {
            if runtime != file {
                differences.push(difference(lab, line, runtime, file));
            }
        }
        let mut differing = differing.into_iter();
        lines.retain(|_| differing.next() == Some(true));
        if lines.is_empty() {
            return Ok(heard);
        }
    }
    anyhow::bail!("{} lines differ:\n{}", lines.len(), differences.join("\n"))
}

/// The backends of lines that `global` completes in a file only, or that leave half a PROXY header behind, which are
/// reloads by right; no other is.
fn refused(reasons: &[ReloadReason]) -> Result<BTreeSet<String>> {
    let backend = |reason: &ReloadReason| match reason {
        ReloadReason::KeywordNotDynamic {
            backend, keyword, ..
        } if keyword.starts_with("ssl-default-server-") || keyword == "no-send-proxy-v2-ssl" => {
            Ok(backend.to_string())
        }
        other => anyhow::bail!("{other}"),
    };
    reasons.iter().map(backend).collect()
}

fn difference(lab: &TestEnv, line: &Line, runtime: &Seen, file: &Seen) -> String {
    let keys: BTreeSet<&String> = runtime.keys().chain(file.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|key| runtime.get(*key) != file.get(*key));
    let shown: Vec<String> = differing
        .map(|key| {
            format!(
                "  {key}:\n    runtime {:?}\n    file    {:?}",
                runtime.get(key),
                file.get(key)
            )
        })
        .collect();
    format!("{}{}", line.text(lab, true), shown.join("\n"))
}

/// Settings of `global` that HAProxy completes server lines with.
fn globals(rng: &mut Rng, version: Version) -> String {
    let all = [
        "ssl-server-verify none",
        "ssl-default-server-ciphers ECDHE-RSA-AES256-GCM-SHA384:AES128-SHA256",
        "ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256",
        "ssl-default-server-options no-tls-tickets ssl-min-ver TLSv1.1",
        "ssl-default-server-curves X25519:P-384",
        "ssl-default-server-sigalgs RSA+SHA384",
    ];
    let known = if version.major < 3 { 4 } else { all.len() };
    let picked = all.iter().take(known).filter(|_| rng.bool());
    picked.map(|line| format!("    {line}\n")).collect()
}

fn text(
    lab: &TestEnv,
    haproxy: &Haproxy,
    globals: &str,
    lines: &[Line],
    with_servers: bool,
) -> String {
    let front = lab.net().addr(1, 8080);
    let ca = lab.path("ca.pem");
    let mut text = format!(
        "global\n    stats socket {} mode 600 level admin\n{globals}\
         resolvers dns\n    nameserver a {}:53\n\
         defaults first\n    mode http\n    timeout connect 500ms\n    timeout client 3s\n    timeout server 1s\n\
         frontend front from first\n    bind {front}\n    unique-id-format %rt\n    use_backend b%[path,field(2,/)]\n\
         backend fixed from first\n    server f {} check inter 300ms\n\
         backend loader from first\n    server l {} ssl verify required ca-file {ca} crt {ca} disabled\n",
        haproxy.stats_socket().display(),
        lab.net().ip(200),
        lab.net().addr(200, 80),
        lab.net().addr(200, 81),
        ca = ca.display(),
    );
    for line in lines {
        text.push_str(&line.text(lab, with_servers));
    }
    text
}

/// Takes out the lines that HAProxy refuses in a file; says how many.
fn sift(lab: &TestEnv, haproxy: &Haproxy, globals: &str, lines: &mut Vec<Line>) -> Result<usize> {
    let before = lines.len();
    let path = lab.path("candidates.cfg");
    for _ in 0..20 {
        let text = text(lab, haproxy, globals, lines, true);
        std::fs::write(&path, &text)?;
        let command = haproxy.check_command();
        let words = command
            .iter()
            .map(|word| word.replace("{path}", &path.display().to_string()));
        let words: Vec<String> = words.collect();
        let (program, args) = words.split_first().context("a check command")?;
        let path_with_sbin = format!("{}:/usr/sbin", std::env::var("PATH")?);
        let output = Command::new(program)
            .args(args)
            .env("PATH", path_with_sbin)
            .output()?;
        if output.status.success() {
            return Ok(before - lines.len());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let blamed = blamed(&text, &said);
        ensure!(!blamed.is_empty(), "{said}");
        lines.retain(|line| !blamed.contains(&line.number));
    }
    anyhow::bail!("the lines do not become valid")
}

/// The numbers of the backends that alerts name, by a line of the file or by name.
fn blamed(text: &str, said: &str) -> BTreeSet<u16> {
    let owner = |line: usize| {
        let above: Vec<&str> = text.lines().take(line).collect();
        let title = above.iter().rev().find_map(|line| {
            line.strip_prefix("backend b")
                .or(line.strip_prefix("defaults d"))
        });
        title?.split(' ').next()?.parse::<u16>().ok()
    };
    let alerts = said.lines().filter(|line| line.contains("ALERT"));
    let by_line = alerts.clone().filter_map(|line| {
        let (_, rest) = line.split_once("candidates.cfg:")?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        owner(rest[..digits].parse().ok()?)
    });
    let by_name = alerts.filter_map(|line| {
        let (_, rest) = line.split_once("backend 'b")?;
        rest.split('\'').next()?.parse().ok()
    });
    by_line.chain(by_name).collect()
}

async fn listen(lab: &TestEnv, lines: &[Line]) -> Result<Recorder> {
    let mut recorder = Recorder::default();
    for line in lines {
        for addr in line.places(lab).into_iter().chain(line.more_places(lab)) {
            recorder.listen(addr).await?;
        }
    }
    Ok(recorder)
}

async fn start(haproxy: &mut Haproxy, recorder: &Recorder, text: &str) -> Result<()> {
    haproxy.kill().await?;
    recorder.forget();
    std::fs::write(haproxy.config(), text)?;
    haproxy.start().await
}

/// What the servers look like, and what was said to them before and after a request.
async fn seen(
    lab: &TestEnv,
    haproxy: &Haproxy,
    recorder: &Recorder,
    lines: &[Line],
) -> Result<Vec<Seen>> {
    sleep(CHECKED).await;
    let mut seen = shown(haproxy, lines).await?;
    note(lab, recorder, lines, "said by checks", &mut seen);
    join_all(lines.iter().map(|line| request(lab, line.number))).await;
    sleep(Duration::from_millis(400)).await;
    note(lab, recorder, lines, "said by all", &mut seen);
    Ok(seen)
}

fn note(lab: &TestEnv, recorder: &Recorder, lines: &[Line], what: &str, seen: &mut [Seen]) {
    for (line, seen) in lines.iter().zip(seen) {
        for addr in line.places(lab).into_iter().chain(line.more_places(lab)) {
            let heard = recorder.heard(addr);
            if !heard.is_empty() {
                seen.insert(format!("{what} to {addr}"), format!("{heard:#?}"));
            }
        }
    }
}

async fn request(lab: &TestEnv, number: u16) {
    let exchange = async {
        let mut stream = TcpStream::connect(lab.net().addr(1, 8080)).await?;
        let request = format!(
            "GET /{number}/ HTTP/1.1\r\nHost: h{number}.example\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut Vec::new()).await
    };
    let _ = timeout(Duration::from_secs(4), exchange).await;
}

async fn shown(haproxy: &Haproxy, lines: &[Line]) -> Result<Vec<Seen>> {
    let state = haproxy.command("show servers state").await?;
    let state = table(&state, "srv_name", &STATE);
    let conn = haproxy.command("show servers conn").await?;
    let conn = table(&conn, "bkname/svname", &CONN);
    let stat = haproxy.stat().await?;
    let mut seen = Vec::new();
    for line in lines {
        let backend = format!("b{}", line.number);
        let mut one = state
            .get(&format!("{backend}/s"))
            .cloned()
            .context("no state")?;
        one.extend(
            conn.get(&format!("{backend}/s"))
                .cloned()
                .context("no conn")?,
        );
        let stat = stat
            .iter()
            .find(|line| line.get("pxname") == backend && line.is_server());
        let stat = stat.context("no stat")?;
        one.extend(STAT.map(|column| (format!("stat {column}"), stat.get(column).to_owned())));
        let admin = one.remove("srv_admin_state").unwrap_or_default();
        let admin: u8 = admin.parse().unwrap_or_default();
        one.insert("admin".to_owned(), (admin & 9).to_string());
        if one.get("srv_use_ssl").is_some_and(|word| word == "-1") {
            // `no-ssl`, which is no `ssl`
            one.insert("srv_use_ssl".to_owned(), "0".to_owned());
        }
        // whether a check is running just now is no setting
        for column in ["srv_check_state", "srv_agent_state"] {
            let bits: u8 = one.get(column).context("no bits")?.parse()?;
            one.insert(column.to_owned(), (bits & 0b1_1110).to_string());
        }
        seen.push(one);
    }
    Ok(seen)
}

/// An IP address is never resolved, whatever the line says of it; a host name is.
async fn host_names(lab: &TestEnv, kind: HaproxyKind) -> Result<()> {
    let nameserver = UdpSocket::bind(lab.net().addr(200, 5353)).await?;
    let mut haproxy = Haproxy::prepare(lab, kind).await?;
    let about = "init-addr last,libc,none resolvers dns resolve-prefer ipv4 resolve-net 10.0.0.0/8 \
                 resolve-opts allow-dup-ip";
    let text = |server: &str| {
        format!(
            "global\n    stats socket {} mode 600 level admin\n\
             resolvers dns\n    nameserver a {}\n    timeout resolve 100ms\n    timeout retry 100ms\n\
             defaults\n    mode http\n    timeout connect 500ms\n    timeout client 3s\n    timeout server 1s\n\
             backend b\n    server s {server} {about}\n",
            haproxy.stats_socket().display(),
            lab.net().addr(200, 5353),
        )
    };
    let place = lab.net().addr(50, 3000);
    let (by_address, by_name) = (text(&place.to_string()), text("web.example:3000"));
    let mut query = [0; 512];
    std::fs::write(haproxy.config(), by_address)?;
    haproxy.start().await?;
    let asked = timeout(Duration::from_secs(1), nameserver.recv(&mut query)).await;
    ensure!(asked.is_err(), "an address was resolved");
    let state = haproxy.command("show servers state b").await?;
    let state = table(&state, "srv_name", &["srv_addr", "srv_fqdn"]);
    assert_eq!(state["b/s"]["srv_addr"], place.ip().to_string());
    assert_eq!(state["b/s"]["srv_fqdn"], "-");
    haproxy.kill().await?;
    std::fs::write(haproxy.config(), by_name)?;
    haproxy.start().await?;
    timeout(Duration::from_secs(5), nameserver.recv(&mut query))
        .await
        .context("a host name was not resolved")??;
    Ok(())
}

/// A certificate with its key, `ca.pem`.
fn certificate(lab: &TestEnv) -> Result<()> {
    let (key, cert) = (lab.path("key.pem"), lab.path("cert.pem"));
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=a.example",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()?;
    ensure!(
        output.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let both = [std::fs::read(&cert)?, std::fs::read(&key)?].concat();
    Ok(std::fs::write(lab.path("ca.pem"), both)?)
}
