//! `plan` and `render` with a running controller: the files of now, with what it goes by.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use integration::cluster::SOON;
use integration::controller::binary;
use integration::scenario::{Scenario, backend};
use integration::{Controller, FakeAgent, Haproxy, HaproxyKind, Need, TestEnv, test, wait_for};
use serde_json::{Value, json};
use serf_rpc::MemberStatus;

const HOST: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];
const BUILT_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/haproxy.cfg.j2");

/// Two servers behind a template that may be edited.
async fn stage(lab: &TestEnv) -> Result<(Scenario, PathBuf)> {
    let template = lab.path("own.cfg.j2");
    fs::copy(BUILT_IN, &template)?;
    let path = template.clone();
    let stage = Scenario::start(lab, 2, |options| options.template(path)).await?;
    stage.settled().await?;
    Ok((stage, template))
}

fn edit(path: &Path, from: &str, to: &str) -> Result<()> {
    let text = fs::read_to_string(path)?;
    ensure!(text.contains(from), "no {from:?} in {text}");
    Ok(fs::write(path, text.replacen(from, to, 1))?)
}

fn text(output: &Output) -> (Option<i32>, String) {
    let said = [&*output.stdout, &*output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code(), said)
}

/// What `plan --format json` says, having ended with this code.
async fn plan(controller: &mut Controller, code: i32) -> Result<Value> {
    let output = controller
        .options()
        .run("plan", &["--format", "json"])
        .await?;
    let (ended, said) = text(&output);
    ensure!(ended == Some(code), "plan ended with {ended:?}: {said}");
    serde_json::from_slice(&output.stdout).context(said)
}

#[test]
fn an_edited_template_is_planned_before_the_controller_has_read_it() {
    test(&HOST, async |lab| {
        let (mut stage, template) = stage(lab).await?;
        let worker = stage.haproxy.worker().await?;
        let file = fs::read_to_string(stage.haproxy.config())?;
        let (code, said) = text(&stage.controller.options().run("plan", &[]).await?);
        assert_eq!((code, said.as_str()), (Some(0), "nothing to do\n"));

        edit(
            &template,
            "    stats maxconn 100\n",
            "    stats maxconn 99\n",
        )?;
        let (code, said) = text(&stage.controller.options().run("plan", &[]).await?);
        assert_eq!(code, Some(2), "{said}");
        let unread = format!("unread   {}: ", template.display());
        for line in [
            unread.as_str(),
            "reload   ",
            "+    stats maxconn 99\n",
            "systemctl reload",
        ] {
            assert!(said.contains(line), "no {line:?} in {said}");
        }
        let (code, rendered) = text(&stage.controller.options().run("render", &[]).await?);
        assert_eq!(code, Some(0), "{rendered}");
        assert!(rendered.contains("stats maxconn 99"), "{rendered}");
        assert!(rendered.contains("server s1 "), "{rendered}");
        assert_eq!(
            stage.haproxy.worker().await?,
            worker,
            "a plan changes nothing"
        );
        assert_eq!(fs::read_to_string(stage.haproxy.config())?, file);

        stage.controller.reload()?;
        wait_for("the reload", SOON, async || {
            stage.haproxy.worker().await.is_ok_and(|now| now != worker)
        })
        .await?;
        stage.settled().await?;
        let (code, said) = text(&stage.controller.options().run("plan", &[]).await?);
        assert_eq!((code, said.as_str()), (Some(0), "nothing to do\n"));
        Ok(())
    });
}

#[test]
fn a_plan_of_other_files_goes_by_whom_the_controller_holds_and_changes_with_the_config() {
    test(&HOST, async |lab| {
        let (mut stage, template) = stage(lab).await?;
        stage.gossip("s1", MemberStatus::Failed);
        let held = stage.controller.settles("s1 to be held", SOON, |status| {
            status.0["backends"]["nodes"]["servers"]["s1"]["gossip"] == "failed"
        });
        held.await?;
        edit(
            &template,
            "    stats maxconn 100\n",
            "    stats maxconn 99\n",
        )?;
        let planned = plan(&mut stage.controller, 2).await?;
        assert_eq!(planned["steps"], json!([]), "{planned}");
        assert_eq!(planned["unread"]["files"], json!([template]));

        // A key that changes no line is to be read all the same.
        let config = stage.controller.options().path();
        edit(
            &template,
            "    stats maxconn 99\n",
            "    stats maxconn 100\n",
        )?;
        edit(&config, "[state]", "[guard]\nwindow = \"7m\"\n[state]")?;
        let planned = plan(&mut stage.controller, 2).await?;
        assert_eq!(planned["on_disk"], planned["wanted"], "{planned}");
        let unread = json!({"files": [config], "restart": [], "error": null});
        assert_eq!(planned["unread"], unread);
        edit(&config, "[control]\nsocket", "[control]\n# moved\nsocket")?;
        let dir = fs::read_to_string(&config)?;
        let dir = dir
            .lines()
            .find(|line| line.starts_with("dir = "))
            .context("a state")?;
        edit(&config, dir, "dir = \"/nowhere\"")?;
        let planned = plan(&mut stage.controller, 2).await?;
        assert_eq!(planned["unread"]["restart"], json!(["state.dir"]));
        Ok(())
    });
}

#[test]
fn a_typo_in_the_config_takes_no_command_away() {
    test(&HOST, async |lab| {
        let (mut stage, _) = stage(lab).await?;
        let config = stage.controller.options().path();
        for typo in [("[frontend]", "[fronted]"), ("[fronted]", "[fronted")] {
            edit(&config, typo.0, typo.1)?;
            stage.controller.reload()?;
            let said = stage.controller.settles("a problem", SOON, |status| {
                status.0["problems"].to_string().contains("config.toml:")
            });
            said.await?;
            assert!(!stage.controller.history().await?.is_empty());
            let planned = plan(&mut stage.controller, 78).await?;
            assert_eq!(planned["on_disk"], planned["wanted"], "{planned}");
            let error = planned["unread"]["error"].as_str().context("an error")?;
            assert!(error.contains("config.toml:"), "{error}");
            let output = stage.controller.options().run("render", &[]).await?;
            let running = fs::read(stage.haproxy.config())?;
            assert!(output.stdout == running, "{:?}", text(&output));
            let said = text(&output).1;
            assert!(
                said.contains("wrong    ") && said.contains("config.toml:"),
                "{said}"
            );
            let output = stage
                .controller
                .options()
                .run("approve", &["--all"])
                .await?;
            let said = text(&output).1;
            assert!(said.contains("none of these servers is held"), "{said}");
        }
        Ok(())
    });
}

#[test]
fn once_finishes_its_work_with_nobody_to_read_what_it_says_and_leaves_its_files_to_the_service() {
    test(&HOST, async |lab| {
        let mut haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let agent = FakeAgent::on(lab, "balancer", 1).start()?;
        let options = Controller::on(lab, agent.rpc_addr(), &haproxy);
        options.write()?;
        let start = format!(
            "global\n stats socket {} level admin\n",
            haproxy.stats_socket().display()
        );
        fs::write(haproxy.config(), start)?;
        haproxy.start().await?;
        let _web = integration::Web::start("s1", lab.net().addr(101, 3000))?;
        agent.put(backend("s1", lab.net().ip(101)).build());
        let root = rustix::process::geteuid().is_root();
        let state = options.state_dir();
        fs::create_dir(&state)?;
        if root {
            chown(&state, Some(1234), Some(5678))?;
        }
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut once = Command::new(binary("serf-haproxy")?);
        once.args(["once", "--adopt", "--yes", "-c"])
            .arg(options.path());
        once.stdout(Stdio::null())
            .stderr(writer)
            .stdin(Stdio::null());
        let ended = tokio::task::spawn_blocking(move || once.status()).await??;
        assert_eq!(ended.code(), Some(0));
        haproxy.serves("nodes", &["s1"], SOON).await?;
        let file = fs::read_to_string(haproxy.config())?;
        assert!(file.contains("server s1 "), "{file}");
        for path in if root { all_below(&state)? } else { Vec::new() } {
            let owner = path.symlink_metadata()?;
            assert_eq!(
                (owner.uid(), owner.gid()),
                (1234, 5678),
                "{}",
                path.display()
            );
        }
        Ok(())
    });
}

fn all_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            paths.extend(all_below(&path)?);
        }
        paths.push(path);
    }
    ensure!(!paths.is_empty(), "nothing in {}", dir.display());
    Ok(paths)
}
