//! How soon a certificate that is replaced is shown, while clients shake hands.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use integration::cluster::SOON;
use integration::measure::median;
use integration::scenario::Scenario;
use integration::tls::{Clients, shake};
use integration::{Certificate, HaproxyKind, Need, TestEnv, test_alone, wait_for};

/// From the change of the file to the first client that is shown the new one.
const LIMIT: Duration = Duration::from_secs(2);

#[test]
fn host_shows_a_certificate_within_two_seconds() {
    on(HaproxyKind::Host);
}

#[test]
fn trixie_shows_a_certificate_within_two_seconds() {
    on(HaproxyKind::Trixie);
}

#[test]
fn sid_shows_a_certificate_within_two_seconds() {
    on(HaproxyKind::Sid);
}

fn on(kind: HaproxyKind) {
    test_alone(&[Need::Haproxy(kind)], async |lab| {
        let took = replacements(lab, kind).await?;
        println!("{kind:?}: shown after {took:?}");
        assert!(
            median(took.iter().copied()).is_some_and(|median| median <= LIMIT),
            "{took:?}"
        );
        Ok(())
    });
}

async fn replacements(lab: &TestEnv, kind: HaproxyKind) -> Result<Vec<Duration>> {
    let (certs, front) = (lab.path("certs"), lab.net().addr(1, 8443));
    fs::create_dir(&certs)?;
    let file = certs.join("www.pem");
    fs::write(&file, Certificate::of("www.example")?.pem())?;
    let keys = format!("tls_bind = \"{front}\"\ncertificates = {certs:?}");
    let stage = Scenario::start_on(lab, kind, 1, |options| options.frontend(&keys)).await?;
    stage.settled().await?;
    let clients = Clients::start(front, "www.example", 2);
    let mut took = Vec::new();
    for _ in 0..5 {
        let next = Certificate::of("www.example")?;
        let new = certs.join(".new");
        fs::write(&new, next.pem())?;
        let changed = Instant::now();
        fs::rename(&new, &file)?;
        wait_for("the certificate", SOON, async || {
            let shaken = shake(front, "www.example", &[]).await;
            shaken.is_ok_and(|shaken| shaken.certificate == next.der)
        })
        .await?;
        took.push(changed.elapsed());
    }
    let (done, failed) = clients.stop().await;
    assert!(
        failed.is_empty(),
        "{} of {done} failed: {failed:?}",
        failed.len()
    );
    Ok(took)
}
