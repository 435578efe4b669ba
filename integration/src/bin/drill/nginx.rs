//! The servers of a setup: one nginx that answers on all their addresses.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Result, ensure};
use integration::cluster::{SOON, WEB_PORT};
use integration::{Process, TestEnv, wait_for};

use crate::Speaks;

/// The port that says which role a server has.
const ROLE_PORT: u16 = 8008;

/// Starts it with servers at these addresses; `primary` is the one whose role is to be asked for.
pub(crate) async fn start(
    lab: &TestEnv,
    addresses: &[Ipv4Addr],
    primary: Ipv4Addr,
    speaks: Speaks,
) -> Result<Process> {
    if speaks.tls {
        certificate(lab)?;
    }
    let dir = lab.dir().display();
    let mut conf = format!(
        "daemon off;\nworker_processes 1;\nuser root;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.error warn;\n\
         events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\nkeepalive_requests 1000000;\n"
    );
    let tls = if speaks.tls { " ssl" } else { "" };
    let proxy = if speaks.proxy { " proxy_protocol" } else { "" };
    let certificate = if speaks.tls {
        format!("ssl_certificate {dir}/web.pem; ssl_certificate_key {dir}/web.pem;")
    } else {
        String::new()
    };
    for address in addresses {
        let _ = writeln!(
            conf,
            "server {{ listen {address}:{WEB_PORT}{tls}{proxy}; {certificate} location / {{ return 200 ok; }} }}"
        );
        if speaks.role {
            let status = if *address == primary { 200 } else { 503 };
            let _ = writeln!(
                conf,
                "server {{ listen {address}:{ROLE_PORT}; location / {{ return {status}; }} }}"
            );
        }
    }
    conf.push_str("}\n");
    let path = lab.path("nginx.conf");
    std::fs::write(&path, conf)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&path).arg("-p").arg(lab.dir());
    let mut process = Process::start("nginx", &command, lab.path("nginx.log"))?;
    wait_for("nginx", SOON, async || {
        !process.is_running() || lab.path("nginx.pid").exists()
    })
    .await?;
    ensure!(process.is_running(), "nginx ended: {}", process.log());
    Ok(process)
}

/// A certificate that signs itself, and its key, in one file.
fn certificate(lab: &TestEnv) -> Result<()> {
    let path = lab.path("web.pem");
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=web.test", "-keyout"])
        .arg(&path)
        .arg("-out")
        .arg(lab.path("web.crt"))
        .output()?;
    ensure!(
        output.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let both = std::fs::read_to_string(&path)? + &std::fs::read_to_string(lab.path("web.crt"))?;
    std::fs::write(&path, both)?;
    Ok(())
}
