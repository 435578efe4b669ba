//! Members that claim to be the balancer itself: HAProxy, the agent, the controller.

use std::process::Command;

use anyhow::{Context, Result};
use integration::agent::RPC_PORT;
use integration::cluster::SOON;
use integration::controller::{ControllerOptions, binary};
use integration::process::output;
use integration::scenario::{Scenario, backend};
use integration::{HaproxyKind, Need, TestEnv, test, web::Web};

const NEEDS: [Need; 1] = [Need::Haproxy(HaproxyKind::Host)];
const WITH_INTERFACES: [Need; 5] = [
    Need::Serf,
    Need::Haproxy(HaproxyKind::Host),
    Need::Mounts,
    Need::Program("unshare"),
    Need::Program("ip"),
];
const STATS_PORT: u16 = 1936;

#[test]
fn haproxy_never_becomes_its_own_server_and_a_port_on_another_host_is_nobodys_business() {
    test(&NEEDS, async |lab| {
        let stats = lab.net().addr(1, STATS_PORT);
        let all_ports = |options: ControllerOptions| {
            let options = options.stats_bind(stats);
            options.backend("ports = [\"1-65535\"]")
        };
        let mut stage = Scenario::start(lab, 1, all_ports).await?;
        let front = stage.controller.front();
        let claims = [
            ("front", front.port(), "HAProxy listens there (`bind"),
            ("stats", STATS_PORT, "HAProxy listens there (`bind"),
            ("rpc", RPC_PORT, "the Serf agent is there"),
        ];
        for (name, port, _) in claims {
            let claim = backend(name, lab.net().ip(1)).tag("port", port.to_string());
            stage.agent.put(claim.build());
        }
        for (last, port) in [(150, STATS_PORT), (151, RPC_PORT)] {
            let name = format!("far{last}");
            let far = backend(&name, lab.net().ip(last)).tag("port", port.to_string());
            stage
                .webs
                .push(Web::start(name, lab.net().addr(last, port))?);
            stage.agent.put(far.build());
        }
        stage.serves_all().await?;

        let all = |status: &integration::controller::Status| {
            let quarantined = status.0["quarantined"].as_object();
            let all = quarantined.is_some_and(|quarantined| quarantined.len() == claims.len());
            all && status.servers("ready") == 3
        };
        let status = stage
            .controller
            .settles("the quarantine", SOON, all)
            .await?;
        let check = stage.controller.options().run("check", &[]).await?;
        let warnings = String::from_utf8(check.stderr)?;
        for (name, port, what) in claims {
            let reason = status.0["quarantined"][format!("nodes/{name}")].as_str();
            let reason = reason.with_context(|| status.0.to_string())?;
            let place = format!("its address {} is", lab.net().addr(1, port));
            assert!(reason.contains(&place) && reason.contains(what), "{reason}");
            let warning = format!("warning: nodes/{name} is left out: {reason}");
            assert!(warnings.contains(&warning), "{warnings}");
        }
        assert!(!warnings.contains("far"), "{warnings}");
        assert_eq!(check.status.code(), Some(0));
        Ok(())
    });
}

/// Networks of their own with an interface of their own. First the balancer's agent has the role of a web server.
const OWN_AGENT: &str = r#"
serf agent -node=lb -bind=192.0.2.7:7946 -tag role=backend -tag port=80 >"$dir/agent.log" 2>&1 &
until serf members >/dev/null 2>&1; do sleep 0.1; done
"$balancer" check -c "$dir/config.toml" 2>&1
echo ---
serf tags -set port=3000 >/dev/null
"$balancer" check -c "$dir/config.toml" 2>&1
"#;

/// A member advertises an address that the balancer is given only later.
const LATER: &str = r#"
serf agent -node=lb -bind=192.0.2.7:7946 >"$dir/agent.log" 2>&1 &
until serf members >/dev/null 2>&1; do sleep 0.1; done
serf agent -node=web -bind=192.0.2.7:7947 -advertise=192.0.2.8:7947 -rpc-addr=127.0.0.1:7374 \
    -tag role=backend -tag port=80 -join=192.0.2.7:7946 >"$dir/web.log" 2>&1 &
"$balancer" run -c "$dir/config.toml" >"$dir/controller.log" 2>&1 &
status() { "$balancer" status -c "$dir/config.toml" 2>&1 || true; }
until status | grep -q ' 2 listed'; do sleep 0.1; done
status
echo ---
ip addr add 192.0.2.8/32 dev lo
for _ in $(seq 100); do
    if status | grep -q nodes/web; then break; fi
    sleep 0.1
done
status
"#;

/// What a script says in a network of its own.
async fn in_a_network(lab: &TestEnv, script: &str) -> Result<String> {
    let path = |file: &str| lab.path(file).display().to_string();
    let config = format!(
        "[haproxy]\nconfig = {:?}\nstats_socket = {:?}\n[frontend]\nbind = [\"*:80\"]\n[[backend]]\nname = \"nodes\"\n\
         tags = {{ role = \"backend\" }}\nports = [\"1-65535\"]\n[state]\ndir = {:?}\n[control]\nsocket = {:?}\n[drift]\ninterval = \"1s\"\n",
        path("haproxy.cfg"),
        path("admin.sock"),
        path("state"),
        path("control.sock"),
    );
    std::fs::write(lab.path("config.toml"), config)?;
    let begin = "set -eu; dir=$1 balancer=$2; ip link set lo up; ip addr add 192.0.2.7/32 dev lo";
    let mut network = Command::new("unshare");
    network
        .args(["--net", "--pid", "--fork", "--kill-child"])
        .args(["sh", "-c", &format!("{begin}\n{script}"), "sh"])
        .arg(lab.dir())
        .arg(binary("serf-haproxy")?);
    output(&mut network).await
}

#[test]
fn the_balancers_own_agent_with_the_role_of_its_web_servers_is_found_by_the_hosts_addresses() {
    test(&WITH_INTERFACES, async |lab| {
        let said = in_a_network(lab, OWN_AGENT).await?;
        let (claims, harmless) = said.split_once("---").context("two checks")?;
        let warning = "warning: nodes/lb is left out: its address 192.0.2.7:80 is this balancer's own: \
                       HAProxy listens there (`bind *:80`)";
        assert!(claims.contains(warning), "{said}");
        assert!(!harmless.contains("nodes/lb"), "{said}");
        Ok(())
    });
}

#[test]
fn an_address_that_the_host_is_given_later_is_its_own_from_then_on() {
    test(&WITH_INTERFACES, async |lab| {
        let said = in_a_network(lab, LATER).await?;
        let (before, after) = said.split_once("---").context("two statuses")?;
        assert!(!before.contains("is this balancer's own"), "{said}");
        let words = "nodes/web: its address 192.0.2.8:80 is this balancer's own: HAProxy listens";
        assert!(after.contains(words), "{said}");
        Ok(())
    });
}
