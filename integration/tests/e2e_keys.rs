//! The key of the agent's RPC, in a file that changes while everything runs.

use integration::fleet::SOON;
use integration::{Agent, Controller, Haproxy, HaproxyKind, Need, test};

const NEEDS: [Need; 2] = [Need::Serf, Need::Haproxy(HaproxyKind::Host)];

#[test]
fn a_key_that_comes_or_is_rotated_needs_neither_restart_nor_signal() {
    test(&NEEDS, async |lab| {
        let mut agent = Agent::on(lab, "balancer", 1)
            .tag("role", "balancer")
            .rpc_auth("k3y-one")
            .start()
            .await?;
        let mut haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let file = lab.path("rpc.key");
        let controller = Controller::on(lab, agent.rpc_addr(), &haproxy)
            .serf(&format!("auth_key_file = {file:?}"))
            .start()?;
        integration::fleet::first_file(&haproxy).await?;
        haproxy.start().await?;
        let is = |state: &'static str| {
            move |status: &integration::controller::Status| status.0["agent"]["state"] == state
        };

        controller.settles("no key", SOON, is("waiting")).await?;
        std::fs::write(&file, "k3y-one\n")?;
        let connected = || controller.settles("the key to be taken", SOON, is("connected"));
        connected().await?;

        agent.rekey("k3y-two").await?;
        let lost = controller.settles("the key to be refused", SOON, is("lost"));
        lost.await?;
        std::fs::write(&file, "k3y-two\n")?;
        connected().await?;
        for key in ["k3y-one", "k3y-two"] {
            assert!(!controller.log().contains(key), "{}", controller.log());
        }
        Ok(())
    });
}
