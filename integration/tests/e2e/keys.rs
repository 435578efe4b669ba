//! The key of the agent's RPC, in a file that changes while everything runs, and in one that others can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use integration::cluster::SOON;
use integration::controller::Status;
use integration::{Agent, Controller, FakeAgent, Haproxy, HaproxyKind, Need, test};

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
        integration::cluster::first_file(&haproxy).await?;
        haproxy.start().await?;
        let is = |state: &'static str| move |status: &Status| status.0["agent"]["state"] == state;

        controller.settles("no key", SOON, is("waiting")).await?;
        fs::write(&file, "k3y-one\n")?;
        let connected = || controller.settles("the key to be taken", SOON, is("connected"));
        connected().await?;

        agent.rekey("k3y-two").await?;
        let lost = controller.settles("the key to be refused", SOON, is("lost"));
        lost.await?;
        fs::write(&file, "k3y-two\n")?;
        connected().await?;
        for key in ["k3y-one", "k3y-two"] {
            assert!(!controller.log().contains(key), "{}", controller.log());
        }
        Ok(())
    });
}

/// Lets a file or folder have this mode.
fn set(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// `check` says the same as `run`, which begins with nothing that is open to others; a running one keeps what it has.
#[test]
fn a_key_or_a_state_directory_that_is_open_to_others_is_refused() {
    test(&[Need::Haproxy(HaproxyKind::Host)], async |lab| {
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let key = lab.secret("rpc.key", "\n")?;
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy)
            .serf(&format!("auth_key_file = {key:?}"));
        options.write()?;
        let state = options.state_dir();
        fs::create_dir(&state)?;
        let refused = async |path: &Path, mode: u32, words: &str| -> Result<()> {
            let before = fs::metadata(path)?.permissions();
            set(path, mode)?;
            for command in ["run", "check"] {
                let output = options.run(command, &[]).await?;
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(said.contains(words), "{command}: {words} in {said}");
                let code = if command == "run" { 78 } else { 1 };
                assert_eq!(output.status.code(), Some(code), "{command}: {said}");
            }
            Ok(fs::set_permissions(path, before)?)
        };
        let way_out = |mode: &str, path: &Path| format!("; chmod {mode} {}", path.display());
        set(&key, 0o640)?;
        let read = "others may read it, its mode is 0644 ([serf] auth_key_file)";
        refused(&key, 0o644, &(read.to_owned() + &way_out("0640", &key))).await?;
        refused(&key, 0o622, "others may write it, its mode is 0622").await?;
        let write = "others may write in it, its mode is 1777 ([state] dir)";
        refused(
            &state,
            0o1777,
            &(write.to_owned() + &way_out("0700", &state)),
        )
        .await?;
        let folder = format!(
            "others may replace it, the mode of {} is 0777",
            lab.dir().display()
        );
        refused(lab.dir(), 0o777, &folder).await?;
        fs::remove_dir(&state)?;

        set(&options.path(), 0o666)?;
        let mut controller = options.clone().start()?;
        let connected = |status: &Status| status.0["agent"]["state"] == "connected";
        controller
            .settles("to be connected", SOON, connected)
            .await?;
        let warned = format!(
            "{}: others may write it, its mode is 0666",
            options.path().display()
        );
        assert!(controller.log().contains(&warned), "{}", controller.log());
        let mode = |path: &Path| fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
        assert_eq!(mode(&state)?, 0o700);
        for file in ["lock", "members.json"] {
            assert_eq!(mode(&state.join(file))?, 0o600, "{file}");
        }

        set(&key, 0o644)?;
        controller.reload()?;
        let refused = |status: &Status| {
            let problems = status.0["problems"].to_string();
            problems.contains("others may read it") && connected(status)
        };
        controller
            .settles("the key to be refused", SOON, refused)
            .await?;
        set(&key, 0o640)?;
        controller.reload()?;
        let well = |status: &Status| !status.0["problems"].to_string().contains("others may");
        controller
            .settles("the key to be taken", SOON, well)
            .await?;
        controller.stop().await
    });
}
