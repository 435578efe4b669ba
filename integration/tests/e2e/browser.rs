//! The page in a real browser, as a person sees it: live, by keyboard, on a phone, dark, with a thousand servers.
//!
//! Only where `CAMPAIGN` is set. `PICTURES=DIR` keeps what was seen.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::cluster::SOON;
use integration::compose;
use integration::controller::Status;
use integration::fake_agent::node;
use integration::scenario::{Scenario, backend};
use integration::web::Web;
use integration::{Browser, HaproxyKind, Need, TestEnv, test};
use serde_json::json;
use serf_rpc::MemberStatus;

const NEEDS: [Need; 2] = [Need::Haproxy(HaproxyKind::Host), Need::Program("chromium")];

/// The lowest contrast of any text on the page with what is behind it, and that text; what is not shown does not count.
const CONTRAST: &str = r#"(() => {
  const rgb = (text) => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const back = (element) => { for (; element; element = element.parentElement) {
    const colour = rgb(getComputedStyle(element).backgroundColor); if (colour.length < 4 || colour[3] > 0) return colour; } return [255, 255, 255]; };
  let worst = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(back(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < worst[0]) worst = [contrast, element.textContent.trim().slice(0, 60)];
  }
  return worst;
})()"#;
/// Everything that assistive technology needs a name for has one, and no part of the page is wider than the window.
const ROLES: &str = r#"(() => {
  const flaws = [];
  if (!document.documentElement.lang || !document.title) flaws.push("language or title");
  for (const tag of ["main", "h1"]) if (document.querySelectorAll(tag).length !== 1) flaws.push(tag);
  for (const element of document.querySelectorAll("a, summary, section[aria-label]"))
    if (!(element.textContent.trim() || element.ariaLabel)) flaws.push(element.outerHTML);
  let level = 1;
  for (const heading of document.querySelectorAll("h1, h2, h3")) {
    const own = Number(heading.tagName[1]); if (own > level + 1) flaws.push(heading.textContent); level = own;
  }
  if (document.documentElement.scrollWidth > innerWidth) flaws.push("wider than the window: " + document.documentElement.scrollWidth);
  return flaws;
})()"#;

fn is_campaign() -> bool {
    let is = compose::is_campaign();
    if !is {
        eprintln!("SKIPPED: CAMPAIGN is not set");
    }
    is
}

fn url(lab: &TestEnv) -> String {
    format!("http://{}/", lab.net().addr(1, 9280))
}

async fn stage(lab: &TestEnv, webs: u8) -> Result<Scenario> {
    let lines = format!("[http]\nlisten = \"{}\"", lab.net().addr(1, 9280));
    Scenario::start(lab, webs, |options| {
        options.sections(&lines).backend("ports = [\"3000-3099\"]")
    })
    .await
}

async fn picture(lab: &TestEnv, browser: &mut Browser, name: &str) -> Result<()> {
    let dir = std::env::var_os("PICTURES").map_or_else(|| lab.dir().to_owned(), PathBuf::from);
    for format in ["webp", "png"] {
        let path = dir.join(name).with_extension(format);
        browser.picture(&path).await?;
    }
    Ok(())
}

async fn is_readable(browser: &mut Browser) -> Result<()> {
    let worst = browser.value(CONTRAST).await?;
    ensure!(worst[0].as_f64() >= Some(4.5), "too faint: {worst}");
    let flaws = browser.value(ROLES).await?;
    ensure!(flaws == json!([]), "{flaws}");
    let complaints = browser.complaints();
    ensure!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

/// The cell of a server says this.
fn says(server: &str, word: &str) -> String {
    format!(
        "!!document.querySelector('[data-key=\"nodes/{server}\"] .state')?.textContent.startsWith({word:?})"
    )
}

/// Something is dead, something is held, and somebody has a name that would be a script.
#[test]
fn trouble_is_seen_first_live_and_by_keyboard() {
    if !is_campaign() {
        return;
    }
    test(&NEEDS, async |lab| {
        let mut stage = stage(lab, 3).await?;
        stage.settled().await?;
        let mut browser = Browser::start(lab).await?;
        browser.look(1280, 900, false, false).await?;
        browser.open(&url(lab)).await?;
        browser
            .shows("document.body.innerText.includes('Nothing needs a person')")
            .await?;
        picture(lab, &mut browser, "well-light").await?;
        is_readable(&mut browser).await?;

        // Live: nothing is loaded again.
        browser.value("window.same = true").await?;
        let began = Instant::now();
        stage.add(lab, 4)?;
        browser.shows(&says("s4", "ready")).await?;
        let joined = began.elapsed();
        let began = Instant::now();
        stage.gossip("s4", MemberStatus::Left);
        browser.shows(&format!("!{}", says("s4", "ready"))).await?;
        eprintln!(
            "a join was seen after {joined:?}, a leave after {:?}",
            began.elapsed()
        );
        ensure!(joined < Duration::from_secs(2) && began.elapsed() < Duration::from_secs(2));

        let evil = "<img src=x onerror=alert(1)><script>alert(2)</script>";
        let member = node(evil, stage.ip(lab, 7)).tag("role", "backend");
        stage.agent.put(member.build());
        stage.webs[1].close();
        stage.gossip("s3", MemberStatus::Failed);
        let told = |status: &Status| {
            status.server("s2") == "down"
                && status.0["problems"]
                    .as_array()
                    .is_some_and(|it| it.len() >= 2)
        };
        stage.controller.settles("the trouble", SOON, told).await?;
        browser.shows(&says("s2", "down")).await?;
        browser
            .shows("document.body.innerText.includes('serf-haproxy approve')")
            .await?;
        browser
            .shows(&format!("document.body.innerText.includes({evil:?})"))
            .await?;
        ensure!(
            browser.value("window.same").await? == true,
            "it was loaded again"
        );

        // By keyboard: over the link that skips the head to the first server, which is the one that is down.
        let focused = "document.activeElement.closest('[data-key]')?.dataset.key";
        for _ in 0..5 {
            browser.press("Tab").await?;
            if browser.value(focused).await? == "nodes/s2" {
                break;
            }
        }
        ensure!(browser.value(focused).await? == "nodes/s2");
        browser.press("Enter").await?;
        let open = "document.querySelector('[data-key=\"nodes/s2\"]').open";
        browser.shows(open).await?;
        let member = backend("s5", stage.ip(lab, 5)).tag("port", "x").build();
        stage.agent.put(member);
        browser
            .shows("document.body.innerText.includes('nodes/s5')")
            .await?;
        browser
            .shows(&format!("{open} && {focused} === 'nodes/s2'"))
            .await?;

        for (name, width, height, is_phone, is_dark) in [
            ("trouble-light", 1280, 1100, false, false),
            ("trouble-dark", 1280, 1100, false, true),
            ("trouble-phone", 390, 844, true, true),
        ] {
            browser.look(width, height, is_phone, is_dark).await?;
            browser.value("scrollTo(0, 0)").await?;
            is_readable(&mut browser).await?;
            picture(lab, &mut browser, name).await?;
        }

        browser.look(1280, 1000, false, false).await?;
        browser
            .value("for (const it of document.querySelectorAll('.entry')) it.open = true; scrollTo(0, 1e6)")
            .await?;
        is_readable(&mut browser).await?;
        picture(lab, &mut browser, "history").await?;

        // Without scripts it is as it was when it was loaded, and can be opened all the same.
        browser.without_scripts(true).await?;
        browser.look(1280, 1100, false, false).await?;
        browser.open(&url(lab)).await?;
        picture(lab, &mut browser, "no-script").await?;
        browser.without_scripts(false).await?;

        // A controller that ends is told by the page, too.
        browser.open(&url(lab)).await?;
        browser
            .shows("document.getElementById('lost').hidden")
            .await?;
        stage.controller.kill();
        browser
            .shows("!document.getElementById('lost').hidden")
            .await?;
        picture(lab, &mut browser, "lost").await
    });
}

#[test]
fn a_thousand_servers_are_on_one_page() {
    if !is_campaign() {
        return;
    }
    test(&NEEDS, async |lab| {
        let mut stage = stage(lab, 2).await?;
        let places =
            (0..50_u16).flat_map(|port| (110..130_u8).map(move |last| (last, 3000 + port)));
        for (number, (last, port)) in places.take(998).enumerate() {
            let (name, addr) = (format!("web-{number:03}"), lab.net().addr(last, port));
            stage.webs.push(Web::start(&*name, addr)?);
            if let IpAddr::V4(ip) = addr.ip() {
                let member = backend(&name, ip).tag("port", port.to_string());
                stage.agent.put(member.build());
            }
        }
        let all = |status: &Status| status.servers("ready") == 1000;
        stage
            .controller
            .settles("all to be ready", 8 * SOON, all)
            .await?;
        stage.settled().await?;
        let mut browser = Browser::start(lab).await?;
        browser.look(1280, 1100, false, false).await?;
        let began = Instant::now();
        browser.open(&url(lab)).await?;
        eprintln!("a thousand servers are loaded within {:?}", began.elapsed());
        let cells = "document.querySelectorAll('.cell').length === 1000";
        browser.shows(cells).await?;
        is_readable(&mut browser).await?;
        for number in [100, 300, 500] {
            stage.webs[number].close();
        }
        let began = Instant::now();
        browser
            .shows("document.querySelectorAll('.cell.bad').length === 3")
            .await?;
        eprintln!("three that died were seen after {:?}", began.elapsed());
        picture(lab, &mut browser, "thousand-light").await?;
        browser.look(390, 844, true, true).await?;
        is_readable(&mut browser).await?;
        picture(lab, &mut browser, "thousand-phone").await
    });
}
