//! Other files than HAProxy's: nginx and Prometheus fed by the same members, judged by their own programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use integration::cluster::SOON;
use integration::controller::Status;
use integration::scenario::Scenario;
use integration::wrk::Connections;
use integration::{HaproxyKind, Need, Process, TestEnv, Wrk, test, wait_for};
use serf_rpc::MemberStatus;

const NEEDS: [Need; 4] = [
    Need::Haproxy(HaproxyKind::Host),
    Need::Wrk,
    Need::Program("nginx"),
    Need::Program("promtool"),
];
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/nginx-prometheus");

/// A real nginx in front of the same servers, with the upstreams that the controller writes.
struct Nginx {
    process: Process,
    conf: PathBuf,
    upstreams: PathBuf,
    front: std::net::SocketAddr,
}

impl Nginx {
    fn prepare(lab: &TestEnv) -> Result<(PathBuf, PathBuf, std::net::SocketAddr)> {
        let (conf, upstreams) = (lab.path("nginx.conf"), lab.path("upstreams.conf"));
        let front = lab.net().addr(1, 8081);
        let dir = lab.dir().display();
        std::fs::write(
            &conf,
            format!(
                "daemon off;\nworker_processes 1;\nuser root;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.error warn;\n\
                 events {{}}\nhttp {{\naccess_log off;\nclient_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\n\
                 fastcgi_temp_path {dir}/fastcgi;\nuwsgi_temp_path {dir}/uwsgi;\nscgi_temp_path {dir}/scgi;\n\
                 include {};\nserver {{ listen {front}; location / {{ proxy_pass http://nodes; }} }}\n}}\n",
                upstreams.display()
            ),
        )?;
        Ok((conf, upstreams, front))
    }

    async fn start(lab: &TestEnv) -> Result<Self> {
        let (conf, upstreams, front) = Self::prepare(lab)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&conf);
        let process = Process::start("nginx", &command, lab.path("nginx.log"))?;
        wait_for("nginx", SOON, async || {
            integration::web::ask(front).await.is_some()
        })
        .await?;
        Ok(Self {
            process,
            conf,
            upstreams,
            front,
        })
    }

    /// The servers it has.
    fn lists(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.upstreams)?)
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(EXAMPLES).join(name)
}

fn sections(lab: &TestEnv, nginx_template: &Path) -> String {
    let (conf, upstreams) = (lab.path("nginx.conf"), lab.path("upstreams.conf"));
    let reload = format!(
        "if [ -s {0} ]; then nginx -s reload -c {1}; fi",
        lab.path("nginx.pid").display(),
        conf.display()
    );
    format!(
        "[[file]]\ntemplate = {:?}\npath = {upstreams:?}\ncheck_command = [{:?}, {conf:?}, {upstreams:?}, \"{{path}}\"]\n\
         reload_command = [\"sh\", \"-c\", {reload:?}]\n\n\
         [[file]]\ntemplate = {:?}\npath = {:?}\ncheck_command = [{:?}, \"{{path}}\"]\n",
        nginx_template,
        example("check-nginx"),
        example("prometheus-targets.json.j2"),
        lab.path("targets.json"),
        example("check-file-sd"),
    )
}

async fn lists(path: &Path, addresses: &[String], others: &[String]) -> Result<()> {
    wait_for(
        &format!("{} with {addresses:?}", path.display()),
        SOON,
        async || {
            std::fs::read_to_string(path).is_ok_and(|text| {
                addresses.iter().all(|address| text.contains(address))
                    && !others.iter().any(|address| text.contains(address))
            })
        },
    )
    .await
}

fn addr(stage: &Scenario, lab: &TestEnv, number: u8) -> String {
    format!("{}:3000", stage.ip(lab, number))
}

#[test]
fn nginx_and_prometheus_follow_the_same_members() {
    test(&NEEDS, async |lab| {
        Nginx::prepare(lab)?;
        let files = sections(lab, &example("nginx-upstreams.conf.j2"));
        let mut stage = Scenario::start(lab, 3, |options| options.sections(&files)).await?;
        stage.settled().await?;
        let nginx = Nginx::start(lab).await?;
        let (upstreams, targets) = (lab.path("upstreams.conf"), lab.path("targets.json"));
        let loads = [Connections::PerRequest, Connections::KeepAlive];
        let loads = loads.map(|kind| Wrk::on(lab, nginx.front, kind).count(4).start());
        let third = [addr(&stage, lab, 3)];
        let others = [addr(&stage, lab, 1), addr(&stage, lab, 2)];
        for number in 4..=8 {
            stage.add(lab, number)?;
            let new = [addr(&stage, lab, number)];
            lists(&upstreams, &new, &[]).await?;
            lists(&targets, &new, &[]).await?;
            wait_for("nginx to ask the new one", SOON, async || {
                stage.webs.last().is_some_and(|web| web.requests() > 1)
            })
            .await?;
        }
        stage.gossip("s3", MemberStatus::Left);
        lists(&upstreams, &others, &third).await?;
        lists(&targets, &others, &third).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let [per_request, keep_alive] = loads;
        let (per_request, keep_alive) = (per_request?.stop().await?, keep_alive?.stop().await?);
        println!(
            "nginx reloaded 6 times: {} requests connection per request, {} keep-alive; {} and {} failed",
            per_request.requests,
            keep_alive.requests,
            per_request.failed(),
            keep_alive.failed()
        );
        assert_eq!(per_request.failed(), 0, "{per_request:?}");
        // nginx closes its idle connections when it is reloaded, whatever a client has just written to them.
        assert_eq!(
            keep_alive.failed(),
            keep_alive.read_errors,
            "{keep_alive:?}"
        );
        stage.settled().await?;
        let history = stage.controller.options().run("history", &[]).await?;
        let history = String::from_utf8_lossy(&history.stdout).into_owned();
        assert!(
            history.contains("upstreams.conf") && history.contains("targets.json"),
            "{history}"
        );
        let checked = Command::new(example("check-file-sd"))
            .arg(&targets)
            .output()?;
        assert!(checked.status.success(), "{checked:?}");
        drop(nginx.process);
        Ok(())
    });
}

/// Whatever is wrong with one file leaves HAProxy and the other files alone.
#[test]
fn a_file_that_fails_leaves_the_others_alone() {
    test(&NEEDS, async |lab| {
        Nginx::prepare(lab)?;
        let template = lab.path("upstreams.j2");
        std::fs::copy(example("nginx-upstreams.conf.j2"), &template)?;
        let files = sections(lab, &template);
        let mut stage = Scenario::start(lab, 2, |options| options.sections(&files)).await?;
        stage.settled().await?;
        let mut nginx = Nginx::start(lab).await?;
        let before = nginx.lists()?;
        let text = std::fs::read_to_string(&template)?;
        std::fs::write(&template, format!("{text}\nno_such_directive on;\n"))?;
        stage.controller.reload()?;
        let refused = |status: &Status| {
            status.0["problems"]
                .to_string()
                .contains("no_such_directive")
        };
        stage
            .controller
            .settles("nginx -t to refuse", SOON, refused)
            .await?;
        assert_eq!(nginx.lists()?, before, "the good one stays");
        stage.add(lab, 3)?;
        stage.serves_all().await?;
        let new = [addr(&stage, lab, 3)];
        lists(&lab.path("targets.json"), &new, &[]).await?;
        assert_eq!(nginx.lists()?, before);
        std::fs::write(&template, text)?;
        stage.controller.reload()?;
        lists(&nginx.upstreams, &new, &[]).await?;
        stage.settled().await?;
        // Gone: the command that tells it fails, and is tried again until it is back.
        nginx.process.kill();
        stage.add(lab, 4)?;
        stage.serves_all().await?;
        let told = |status: &Status| {
            status.0["problems"]
                .to_string()
                .contains("reload command failed")
        };
        stage
            .controller
            .settles("the reload command to fail", SOON, told)
            .await?;
        assert!(nginx.conf.exists());
        drop(nginx);
        let _nginx = Nginx::start(lab).await?;
        stage.settled().await
    });
}
