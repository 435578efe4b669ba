//! The end of a controller that has HAProxy as its child.

use std::time::{Duration, Instant};

use integration::cluster::SOON;
use integration::controller::ControllerOptions;
use integration::process::is_alive;
use integration::scenario::Scenario;
use integration::{HaproxyKind, Need, test_alone, wait_for};

const NEEDS: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];

#[test]
fn at_the_end_running_requests_are_finished() {
    test_alone(&NEEDS, async |lab| {
        let mut stage = Scenario::start(lab, 2, ControllerOptions::spawn_haproxy).await?;
        stage.settled().await?;
        let master = stage.controller.options().own_haproxy()?;
        let front = stage.controller.front();
        let slow = tokio::spawn(integration::web::get(front, "/slow?ms=2000"));
        wait_for("the slow request", SOON, async || {
            stage.webs.iter().any(|web| web.requests() > 0)
        })
        .await?;
        let asked = Instant::now();
        stage.controller.stop().await?;
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(8), "{took:?}");
        assert!(!is_alive(master));
        let (code, _) = slow.await?.unwrap_or_default();
        assert_eq!(code, 200, "after {took:?}");
        let none = integration::web::ask(front).await;
        assert_eq!(none, None, "nobody listens any more");
        Ok(())
    });
}
