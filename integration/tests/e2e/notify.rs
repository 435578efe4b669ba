//! What systemd is told, by a socket that stands for it.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use integration::cluster::SOON;
use integration::controller::ControllerOptions;
use integration::scenario::Scenario;
use integration::{Controller, Haproxy, HaproxyKind, Need, TestEnv, test, wait_for};

const HAPROXY: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];

/// Hears what a service says to its manager, a message after the other.
struct Manager {
    path: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn listen(lab: &TestEnv) -> Result<Self> {
        let path = lab.path("notify.sock");
        let socket = UnixDatagram::bind(&path)?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut message = [0; 4096];
            while let Ok(length) = socket.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(text);
            }
        });
        Ok(Self { path, heard })
    }

    fn over(&self, options: ControllerOptions) -> ControllerOptions {
        options.env("NOTIFY_SOCKET", self.path.to_string_lossy())
    }

    /// All that was said from this message on.
    fn since(&self, start: usize) -> Vec<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(start..).unwrap_or_default().to_vec()
    }

    /// Waits for a message with this line, from this message on; gives it.
    async fn hears(&self, line: &str, start: usize) -> Result<String> {
        let find = || {
            let heard = self.since(start);
            heard
                .into_iter()
                .find(|message| message.lines().any(|l| l == line))
        };
        wait_for(line, SOON, async || find().is_some()).await?;
        Ok(find().unwrap_or_default())
    }

    /// Lets a service read its config again; gives all that it says until it is ready.
    async fn reloads(&self, controller: &Controller) -> Result<String> {
        let start = self.since(0).len();
        controller.reload()?;
        let begun = self.hears("RELOADING=1", start).await?;
        assert!(begun.contains("\nMONOTONIC_USEC="), "{begun}");
        self.hears("READY=1", start).await?;
        let said = self.since(start).join("");
        assert!(said.find("RELOADING=1") < said.find("READY=1"), "{said}");
        Ok(said)
    }
}

#[test]
fn systemd_hears_ready_although_neither_agent_nor_haproxy_is_there() {
    test(&HAPROXY, async |lab| {
        let manager = Manager::listen(lab)?;
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let nobody = lab.net().addr(1, 7373);
        let mut controller = manager
            .over(Controller::on(lab, nobody, &haproxy))
            .start()?;
        let ready = manager.hears("READY=1", 0).await?;
        assert!(
            ready.contains("\nSTATUS=") && ready.contains("HAProxy"),
            "{ready}"
        );
        let status = controller.status().await?;
        assert_eq!(status.0["haproxy"]["state"], "unreachable");
        controller.stop().await?;
        manager.hears("STOPPING=1", 0).await?;
        let all = manager.since(0);
        assert_eq!(
            all.iter().filter(|said| said.contains("READY=1")).count(),
            1,
            "{all:?}"
        );
        Ok(())
    });
}

#[test]
fn a_reload_ends_with_what_came_of_it() {
    test(&HAPROXY, async |lab| {
        let manager = Manager::listen(lab)?;
        let mut stage = Scenario::start(lab, 2, |options| manager.over(options)).await?;
        manager
            .hears("STATUS=2 of 2 servers in rotation", 0)
            .await?;
        let good = std::fs::read_to_string(lab.path("config.toml"))?;
        let write = |config: &str, template: &str| {
            std::fs::write(lab.path("config.toml"), config)?;
            std::fs::write(lab.path("own.j2"), template)
        };

        write(&format!("{good}\n[guard]\nwindow = 5\n"), "")?;
        let said = manager.reloads(&stage.controller).await?;
        assert!(
            said.contains("problem: config or template cannot be used: "),
            "{said}"
        );
        assert!(said.contains("config.toml:"), "{said}");
        // It is a problem until it is read again, whatever the file says meanwhile.
        write(&good, "")?;
        let problem = |text: &str| {
            let text = text.to_owned();
            move |status: &integration::controller::Status| {
                status.0["problems"].to_string().contains(&text)
            }
        };
        stage
            .controller
            .settles("the problem", SOON, problem("cannot be used"))
            .await?;

        let own = good.replace(
            "[haproxy]\n",
            &format!("[haproxy]\ntemplate = {:?}\n", lab.path("own.j2")),
        );
        write(&own, "global\n  log-format {%[x]}\n")?;
        let said = manager.reloads(&stage.controller).await?;
        assert!(said.contains("own.j2:2: syntax error"), "{said}");
        // A server that comes meanwhile renders the template in force, and says nothing about the other.
        stage.add(lab, 3)?;
        stage.serves_all().await?;
        stage
            .controller
            .settles("the problem", SOON, problem("own.j2:2"))
            .await?;

        write(&good, "")?;
        let said = manager.reloads(&stage.controller).await?;
        assert!(said.contains("STATUS=3 of 3 servers in rotation"), "{said}");
        stage
            .controller
            .settles("no problem", SOON, |status| {
                status.0["problems"] == serde_json::json!([])
            })
            .await?;

        // One that changes the text is over when HAProxy has taken it.
        let before = stage.haproxy.worker().await?.pid;
        write(
            &good.replace("[frontend]", "hard_stop_after = \"40s\"\n[frontend]"),
            "",
        )?;
        manager.reloads(&stage.controller).await?;
        assert_ne!(stage.haproxy.worker().await?.pid, before);
        Ok(())
    });
}

#[test]
fn the_loop_pings_while_it_turns() {
    test(&HAPROXY, async |lab| {
        let manager = Manager::listen(lab)?;
        let haproxy = Haproxy::prepare(lab, HaproxyKind::Host).await?;
        let options = manager.over(Controller::on(lab, lab.net().addr(1, 7373), &haproxy));
        let mut controller = options.env("WATCHDOG_USEC", "400000").start()?;
        let pings = || {
            let all = manager.since(0);
            all.iter()
                .filter(|said| said.contains("WATCHDOG=1"))
                .count()
        };
        wait_for("pings", SOON, async || pings() > 5).await?;
        controller.process().signal(rustix::process::Signal::STOP)?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = pings();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(pings(), before, "nobody pings for it");
        controller.process().signal(rustix::process::Signal::CONT)?;
        wait_for("pings again", SOON, async || pings() > before).await
    });
}
