//! An agent whose log never rests.

use std::time::Duration;

use anyhow::Result;
use integration::fake_agent::node;
use integration::scenario::Scenario;
use integration::{HaproxyKind, Need, test_alone};
use tokio::time::{Instant, sleep};

/// Members that exist and are nobody's servers.
const CROWD: u16 = 1000;
/// How long the agent's log is flooded.
const FLOOD: Duration = Duration::from_secs(5);

/// Lines of the agent's log that name suspects and changes, as fast as they can be sent: whoever joins meanwhile is in as
/// quickly as ever.
#[test]
fn a_flood_of_lines_in_the_log() {
    test_alone(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let mut stage = Scenario::start(lab, 4, |options| options).await?;
        for number in 0..CROWD {
            let member = node(format!("m{number}"), [10, 9, 0, 1].into());
            stage.agent.put(member.build());
        }
        stage.settled().await?;
        let suspects: Vec<String> = (0..CROWD)
            .map(|number| format!("m{number}"))
            .chain(stage.names().map(str::to_owned))
            .collect();
        let a_line = cost_of_a_line(&mut stage).await?;
        let (busy, start) = (stage.controller.cpu_time()?, Instant::now());
        let (mut lines, mut joined, mut served) = (0, None, None);
        while start.elapsed() < FLOOD {
            for suspect in suspects
                .iter()
                .cycle()
                .skip(lines % suspects.len())
                .take(300)
            {
                let text = format!("memberlist: Suspect {suspect} has failed, no acks received");
                stage.agent.say("INFO", text);
            }
            for number in 0..20 {
                stage
                    .agent
                    .say("INFO", format!("serf: EventMemberJoin: x{number} 10.9.0.1"));
            }
            lines += 320;
            if joined.is_none() && start.elapsed() > FLOOD / 2 {
                stage.add(lab, 5)?;
                joined = Some(Instant::now());
            }
            let serving = stage.haproxy.serving("nodes").await?;
            if let Some(joined) = joined
                && served.is_none()
                && serving.contains(&"s5".to_owned())
            {
                served = Some(joined.elapsed());
            }
            sleep(Duration::from_millis(10)).await;
        }
        let busy = stage.controller.cpu_time()? - busy;
        let plain = a_line * u32::try_from(lines)?;
        println!(
            "{lines} lines cost {busy:?}, as many that say nothing {plain:?}; in after {served:?}"
        );
        assert!(
            served.is_some_and(|after| after < Duration::from_secs(1)),
            "{served:?}"
        );
        assert!(busy < plain * 4, "{busy:?}, and {plain:?} to read them");
        stage.settled().await
    });
}

/// What the controller takes to read a line that says nothing, with what it does meanwhile.
async fn cost_of_a_line(stage: &mut Scenario) -> Result<Duration> {
    let (busy, start, mut lines) = (stage.controller.cpu_time()?, Instant::now(), 0_u32);
    while start.elapsed() < FLOOD / 2 {
        for number in 0..320 {
            let text = format!("memberlist: Stream connection from=10.9.0.1:{number}");
            stage.agent.say("INFO", text);
        }
        lines += 320;
        sleep(Duration::from_millis(10)).await;
    }
    Ok((stage.controller.cpu_time()? - busy) / lines)
}
