//! The tour of `make lab`, as it is, in a project of its own.

use std::time::Duration;

use anyhow::ensure;
use integration::compose::Compose;
use integration::{Need, Process, test_alone};

const NEEDS: [Need; 3] = [Need::Compose, Need::Wrk, Need::Program("curl")];

#[test]
fn the_tour_comes_to_its_end() {
    test_alone(&NEEDS, async |lab| {
        let (_compose, tour) = Compose::tour(lab.dir()).await?;
        let mut tour = Process::start("tour", &tour, lab.path("tour.log"))?;
        let status = tour.exited(Duration::from_secs(400)).await?;
        let log = tour.log();
        println!("{log}");
        ensure!(status.success(), "{status}");
        ensure!(
            log.contains("no request failed, no reload but one: the shop was new"),
            "{log}"
        );
        Ok(())
    });
}
