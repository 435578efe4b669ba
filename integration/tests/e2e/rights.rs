//! A controller that is not root, beside a HAProxy that root has started.

use integration::cluster::{SOON, first_file};
use integration::controller::Status;
use integration::{Controller, FakeAgent, Haproxy, HaproxyKind, Need, test, wait_for};

/// Debian's `nobody`, and its group `nogroup`.
const NOBODY: u32 = 65534;

#[test]
fn a_stats_socket_that_lets_nobody_in_is_said_with_the_way_out_which_works() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        if !rustix::process::geteuid().is_root() {
            eprintln!("needs root, to be somebody else");
            return Ok(());
        }
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let mut haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
        let mut controller = options.user(NOBODY)?.start()?;
        first_file(&haproxy).await?;
        haproxy.start().await?;
        let shut_out = |status: &Status| {
            let problems = status.0["problems"].as_array().cloned().unwrap_or_default();
            let told = |problem: &serde_json::Value| {
                let said = |field: &str, what: &str| {
                    problem[field]
                        .as_str()
                        .is_some_and(|text| text.contains(what))
                };
                problem["what"] == "haproxy"
                    && said("problem", "Permission denied")
                    && said("advice", "stats_socket_group")
            };
            problems.iter().any(told)
        };
        controller.settles("to be shut out", SOON, shut_out).await?;

        let options = controller
            .options()
            .clone()
            .haproxy("stats_socket_group = \"nogroup\"");
        options.write()?;
        controller.reload()?;
        wait_for("the socket's line", SOON, async || {
            std::fs::read_to_string(haproxy.config())
                .is_ok_and(|text| text.contains("admin.sock mode 660 group nogroup level admin"))
        })
        .await?;
        haproxy.kill().await?;
        haproxy.start().await?;
        let found = controller.settles("HAProxy to be found", SOON, |status| {
            status.0["haproxy"]["state"] == "running"
        });
        found.await?;
        controller.stop().await
    });
}
