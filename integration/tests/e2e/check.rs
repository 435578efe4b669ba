//! What `check` says beside real daemons: that `run` would not work, why, and what to do.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::cluster::SOON;
use integration::controller::{ControllerOptions, binary};
use integration::scenario::Scenario;
use integration::{
    Agent, Controller, FakeAgent, Haproxy, HaproxyKind, Need, Process, TestEnv, test, wait_for,
};

use crate::checked::{SOCKET, Said, check, template};

const HOST: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];
/// Nobody's user and group id.
const NOBODY: u32 = 65534;

/// The options with a template of this text.
fn with_template(
    lab: &TestEnv,
    options: &ControllerOptions,
    text: &str,
) -> Result<ControllerOptions> {
    let path = lab.path("own.cfg.j2");
    std::fs::write(&path, text)?;
    let options = options.clone().template(path);
    options.write()?;
    Ok(options)
}

/// The options with another value of a key.
async fn with(options: &ControllerOptions, key: &str, value: &Path) -> Result<Said> {
    options.write()?;
    let mut command = tokio::process::Command::new(binary("serf-haproxy")?);
    command.arg("check").arg("-c").arg(options.path());
    command.env(format!("SERF_HAPROXY_{key}"), value);
    let output = command.kill_on_drop(true).output().await?;
    Ok(Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

#[test]
fn a_file_of_somebody_elses_is_refused_as_run_refuses_it_or_taken_over() {
    test(&HOST, async |lab| {
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
        options.write()?;
        std::fs::write(haproxy.config(), "global\n    daemon\n")?;
        let place = format!(
            "{}:1: not written by serf-haproxy",
            haproxy.config().display()
        );
        let said = check(&options, &[]).await?;
        said.is_wrong(&[&place, "`run` refuses to start", "run --adopt"]);
        assert!(
            said.out.contains("backend nodes: changes without"),
            "the rest is said too: {said:?}"
        );
        let run = options.run("run", &[]).await?;
        assert_eq!(run.status.code(), Some(78), "{run:?}");
        let said = check(&options, &["--adopt"]).await?;
        said.warns(&[&place, "`run --adopt --yes` takes it over and keeps a copy"]);
        assert!(said.err.contains("line 2, global: daemon"), "{said:?}");
        Ok(())
    });
}

#[test]
fn a_template_that_opens_the_stats_socket_otherwise_is_named_with_its_line() {
    test(&HOST, async |lab| {
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
        let elsewhere = lab.path("other.sock").display().to_string();
        let line = |words: &str| SOCKET.replace("level admin", words);
        for (global, severity, parts) in [
            (
                String::new(),
                "wrong",
                ["own.cfg.j2:1", "no `stats socket`", "add to global"],
            ),
            (
                format!("    stats socket {elsewhere} level admin"),
                "wrong",
                [
                    "own.cfg.j2:4",
                    "is not the one of `[haproxy] stats_socket`",
                    "other.sock",
                ],
            ),
            (
                line("level operator"),
                "wrong",
                ["own.cfg.j2:4", "has `level operator`", "write: level admin"],
            ),
            (
                line(""),
                "wrong",
                ["own.cfg.j2:4", "has no level", "add: level admin"],
            ),
            (
                "    stats socket \"${STATS:-}/run/x.sock\" level admin".replace(":-", ""),
                "odd",
                [
                    "own.cfg.j2:4",
                    "HAProxy's environment",
                    "haproxy.stats_socket",
                ],
            ),
        ] {
            let options = with_template(lab, &options, &template(&global))?;
            let said = check(&options, &[]).await?;
            said.says(&parts, severity == "odd");
            assert_eq!(
                said.code,
                Some(i32::from(severity == "wrong")),
                "{global}: {said:?}"
            );
        }
        let options = with_template(lab, &options, &template(SOCKET))?;
        let said = check(&options, &[]).await?;
        said.warns(&["[haproxy] stats_socket", "HAProxy does not run"]);
        assert_eq!(said.err.lines().count(), 1, "nothing else: {said:?}");
        Ok(())
    });
}

#[test]
fn sockets_that_are_each_others_or_nobodys_are_told_apart_by_asking_them() {
    test(&HOST, async |lab| {
        let stage = Scenario::start(lab, 1, |options| options).await?;
        stage.settled().await?;
        let (mut haproxy, mut controller) = (stage.haproxy, stage.controller);
        let options = controller.options().clone();
        let said = check(&options, &[]).await?;
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
        let (stats, master) = (haproxy.stats_socket(), haproxy.master_socket());
        let said = with(&options, "HAPROXY_STATS_SOCKET", &master).await?;
        said.is_wrong(&[
            "[haproxy] stats_socket",
            "is the socket of HAProxy's master",
            "stats socket",
        ]);
        let said = with(&options, "HAPROXY_MASTER_SOCKET", &stats).await?;
        said.is_wrong(&[
            "[haproxy] master_socket",
            "is a worker's `stats socket`",
            "-S",
        ]);
        let nowhere = lab.path("nowhere.sock");
        let said = with(&options, "HAPROXY_MASTER_SOCKET", &nowhere).await?;
        let right = format!(
            "HAProxy's master listens on {}: name that",
            master.display()
        );
        said.is_wrong(&["[haproxy] master_socket", &right]);
        let said = with(&options, "HAPROXY_STATS_SOCKET", &nowhere).await?;
        said.warns(&["[haproxy] stats_socket", "though HAProxy runs"]);
        controller.stop().await?;
        haproxy.kill().await?;

        // The same file without a master.
        let mut alone = Command::new("haproxy");
        alone.arg("-f").arg(lab.path("haproxy.cfg"));
        let _alone = Process::start("haproxy", &alone, lab.path("alone.log"))?;
        wait_for("a HAProxy without a master", SOON, async || {
            let level = tokio::net::UnixStream::connect(&stats).await;
            level.is_ok()
        })
        .await?;
        let said = check(&options, &[]).await?;
        said.is_wrong(&[
            "[haproxy] master_socket",
            "HAProxy runs without a master",
            "-W -S",
            "reload_command",
        ]);
        Ok(())
    });
}

#[test]
fn a_stats_socket_that_runs_below_admin_is_found_by_asking_it() {
    test(&HOST, async |lab| {
        let mut haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
        options.write()?;
        let socket = haproxy.stats_socket();
        let low = format!(
            "global\n stats socket {} level operator\ndefaults\n timeout connect 1s\n timeout client 1s\n timeout server 1s\nfrontend f\n bind {}\n",
            socket.display(),
            lab.net().addr(1, 8080)
        );
        std::fs::write(haproxy.config(), low)?;
        haproxy.start().await?;
        let said = check(&options, &["--adopt"]).await?;
        said.is_wrong(&[
            "[haproxy] stats_socket",
            "no more than `level operator`",
            "level admin",
        ]);
        Ok(())
    });
}

#[test]
fn a_second_description_is_an_error_of_check_and_no_reason_to_reload_for_ever() {
    test(&HOST, async |lab| {
        let path = lab.path("own.cfg.j2");
        let second = format!("{SOCKET}\n    description \"edge balancer\"");
        std::fs::write(&path, template(&second))?;
        let mut stage = Scenario::start(lab, 0, |options| options.template(path.clone())).await?;
        let said = check(&stage.controller.options().clone(), &[]).await?;
        said.is_wrong(&[
            "own.cfg.j2:5",
            "`description edge balancer` takes the place of the stamp",
        ]);
        stage.add(lab, 1)?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let status = stage.controller.status().await?;
        assert_eq!(
            (status.counter("reloads"), status.counter("failures")),
            (0, 0)
        );
        let problems = status.0["problems"].to_string();
        assert!(
            problems.contains("takes the place of the stamp"),
            "{problems}"
        );

        // Put right, it takes one reload; and it is not given up again for one that hides the stamp.
        std::fs::write(&path, template(SOCKET))?;
        stage.controller.reload()?;
        stage.serves_all().await?;
        stage.settled().await?;
        let reloads = stage.controller.status().await?.counter("reloads");
        assert_eq!(reloads, 1);
        std::fs::write(&path, template(&second))?;
        stage.controller.reload()?;
        let refused = stage.controller.settles("a problem", SOON, |status| {
            let problems = status.0["problems"].to_string();
            problems.contains("the template before stays in force")
        });
        refused.await?;
        stage.add(lab, 2)?;
        stage.serves_all().await?;
        assert_eq!(stage.controller.status().await?.counter("reloads"), 1);
        Ok(())
    });
}

#[test]
fn an_agent_that_is_not_there_is_a_warning_and_one_that_wants_another_key_an_error() {
    test(
        &[Need::Serf, Need::Haproxy(HaproxyKind::Host)],
        async |lab| {
            let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
            let addr = lab.net().addr(1, integration::agent::RPC_PORT);
            let options = Controller::on(lab, addr, &haproxy);
            options.write()?;
            let said = check(&options, &[]).await?;
            said.warns(&["[serf] addr: no agent listens on", "start it"]);
            let _agent = Agent::on(lab, "balancer", 1)
                .rpc_auth("right")
                .start()
                .await?;
            let said = check(&options, &[]).await?;
            said.is_wrong(&[
                "[serf] addr",
                "wants an authentication key",
                "[serf] auth_key_file",
            ]);
            for (text, fits) in [("wrong\n", false), ("right\n", true)] {
                let key = lab.secret("key", text)?;
                let said = with(&options, "SERF_AUTH_KEY_FILE", &key).await?;
                if fits {
                    assert_eq!(said.code, Some(0), "{said:?}");
                    assert!(!said.err.contains("[serf]"), "{said:?}");
                } else {
                    said.is_wrong(&["[serf] addr", "does not accept the key", "auth_key_file"]);
                }
            }
            let said = with(&options, "SERF_AUTH_KEY_FILE", &lab.path("no-key")).await?;
            said.is_wrong(&["no-key", "auth_key_file"]);
            Ok(())
        },
    );
}

#[test]
fn what_the_user_of_the_service_may_not_do_is_said_with_the_file_in_the_way() {
    let needs = [Need::Haproxy(HaproxyKind::Host), Need::Program("setpriv")];
    test(&needs, async |lab| {
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
        let options = with_template(lab, &options, &template(SOCKET))?;
        let mode =
            |path: PathBuf, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
        mode(lab.dir().to_owned(), 0o755)?;
        mode(lab.path("own.cfg.j2"), 0o600)?;
        // As root, whom nothing stops, for whoever has the state.
        let state = options.state_dir();
        std::fs::create_dir_all(&state)?;
        chown(&state, Some(NOBODY), Some(NOBODY))?;
        let said = check(&options, &[]).await?;
        let unreadable = [
            "own.cfg.j2: cannot be read by nobody, whom the controller runs as",
            "[haproxy] template",
            "let that user read",
        ];
        said.is_wrong(&unreadable);
        said.is_wrong(&["cannot be written in by nobody", "[haproxy] config"]);
        // As that user itself.
        let mut command = tokio::process::Command::new("setpriv");
        command.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--",
        ]);
        let copy = lab.path("serf-haproxy");
        std::fs::copy(binary("serf-haproxy")?, &copy)?;
        command.arg(copy).arg("check").arg("-c").arg(options.path());
        let output = command.kill_on_drop(true).output().await?;
        let err = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1), "{err}");
        for part in [
            "own.cfg.j2: cannot be read by nobody ([haproxy] template)",
            "cannot be written in by nobody ([haproxy] config)",
        ] {
            assert!(err.contains(part), "{part} in {err}");
        }
        Ok(())
    });
}

#[test]
fn nothing_is_written_beside_the_file_and_relative_paths_are_taken_as_haproxy_takes_them() {
    test(&HOST, async |lab| {
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
        std::fs::create_dir(lab.path("errors"))?;
        std::fs::write(
            lab.path("errors/503.http"),
            "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n",
        )?;
        let page = |path: &str| {
            template(SOCKET).replace(
                "    default_backend",
                &format!("    errorfile 503 {path}\n    default_backend"),
            )
        };
        let listed = || -> Result<Vec<String>> {
            let entries = std::fs::read_dir(lab.dir())?;
            let mut names: Vec<String> = entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<Result<_>>()?;
            names.sort();
            Ok(names)
        };
        let by_config =
            page("errors/503.http").replacen("global\n", "global\n    default-path config\n", 1);
        let options = with_template(lab, &options, &by_config)?;
        let before = listed()?;
        let said = check(&options, &[]).await?;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(listed()?, before);
        // By HAProxy's working directory, which is not known here, and so is the service manager's.
        let options = with_template(lab, &options, &page("errors/503.http"))?;
        check(&options, &[])
            .await?
            .is_wrong(&["own.cfg.j2:13", "errors/503.http"]);
        let inside = lab.dir().strip_prefix("/")?.join("errors/503.http");
        let options = with_template(lab, &options, &page(&inside.display().to_string()))?;
        assert_eq!(check(&options, &[]).await?.code, Some(0));
        Ok(())
    });
}

#[test]
fn what_has_no_effect_is_said_and_what_is_for_information_is_not() {
    test(&HOST, async |lab| {
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
        let own = template(SOCKET).replace("{{ frontend.bind[0] }}", "127.0.0.1:1");
        let options = with_template(lab, &options, &own)?;
        let said = check(&options, &[]).await?;
        said.warns(&[
            "[frontend]: has no effect",
            "own.cfg.j2",
            "take the section out",
        ]);

        // A program by the name of HAProxy that says of itself to be another than the one that runs.
        let odd = lab.path("bin/haproxy");
        std::fs::create_dir(lab.path("bin"))?;
        let script = "#!/bin/sh\nif [ \"$1\" = -v ]; then echo 'HAProxy version 9.9.1 2026/01/01'; exit; fi\n\
                      echo '[NOTICE]   (9) : haproxy version is 9.9.1' >&2\necho '[WARNING]  (9) : config : something' >&2\n";
        std::fs::write(&odd, script)?;
        std::fs::set_permissions(&odd, PermissionsExt::from_mode(0o755))?;
        let odd = odd.display().to_string();
        let options = options.check_command(&[&odd, "-c", "-f", "{path}"]);
        options.write()?;
        let said = check(&options, &[]).await?;
        said.warns(&["warning: something"]);
        assert!(!said.err.contains("haproxy version is"), "{said:?}");
        assert!(
            said.out.contains("without a reload on HAProxy 9.9"),
            "what is to run: {said:?}"
        );
        Ok(())
    });
}

#[test]
fn a_program_that_is_another_version_than_the_haproxy_that_runs_is_said() {
    test(&HOST, async |lab| {
        let mut stage = Scenario::start(lab, 0, |options| options).await?;
        let odd = lab.path("haproxy");
        std::fs::write(&odd, "#!/bin/sh\necho 'HAProxy version 9.9.1 2026/01/01'\n")?;
        std::fs::set_permissions(&odd, PermissionsExt::from_mode(0o755))?;
        let odd = odd.display().to_string();
        let options = stage.controller.options().clone();
        let options = options.check_command(&[&odd, "-c", "-f", "{path}"]);
        options.write()?;
        let said = check(&options, &[]).await?;
        said.warns(&["[haproxy] check_command: HAProxy", "runs and 9.9 checks"]);
        assert!(
            !said.out.contains("on HAProxy 9.9"),
            "what runs counts: {said:?}"
        );
        Ok(())
    });
}
