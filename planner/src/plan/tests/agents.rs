//! Plans for servers whose agents are asked.

use crate::model::{Admin, RunningServer, ServerKey, Version, WantedAdmin, WantedAdmins};
use crate::syntax::ConfigText;

use super::model::Haproxy;

const HEAD: &str = "backend nodes\n default-server check agent-check agent-port 9\n";
const S1: &str = " server s1 10.0.0.1:80 weight 100\n";

fn admins(admin: WantedAdmin) -> WantedAdmins {
    let key = ServerKey::read("nodes", "s1").unwrap();
    [(key, admin)].into()
}

fn start(servers: &str) -> Haproxy {
    Haproxy::start(Version { major: 3, minor: 0 }, &format!("{HEAD}{servers}"))
}

/// What is planned; it is done, and leaves nothing more to do.
fn done(haproxy: &mut Haproxy, servers: &str, admin: WantedAdmin) -> String {
    let wanted = ConfigText::parse(&format!("{HEAD}{servers}"));
    let plan = haproxy.plan(&wanted, &admins(admin));
    haproxy.apply(&plan.steps);
    if plan.reload.is_empty() {
        assert_eq!(haproxy.plan(&wanted, &admins(admin)).to_string(), "");
    }
    plan.to_string()
}

fn says(haproxy: &mut Haproxy, change: impl Fn(&mut RunningServer)) {
    change(haproxy.server("nodes", "s1"));
}

#[test]
fn an_added_servers_agent_is_asked_once_it_is_ready() {
    let mut haproxy = start("");
    insta::assert_snapshot!(done(&mut haproxy, S1, WantedAdmin::Waiting), @r#"
    nodes/s1: add 10.0.0.1:80 agent-check agent-port 9 check weight 100
    nodes/s1: drain, checked
    "#);
    insta::assert_snapshot!(done(&mut haproxy, S1, WantedAdmin::Ready), @r#"
    nodes/s1: ready
    nodes/s1: ask its agent
    "#);
}

#[test]
fn what_an_agent_says_of_a_server_in_rotation_is_left() {
    for admin in [Admin::Drain, Admin::Maint, Admin::Ready] {
        let mut haproxy = start(S1);
        says(&mut haproxy, |server| {
            server.weight = 50;
            server.admin = admin;
        });
        assert_eq!(done(&mut haproxy, S1, WantedAdmin::Ready), "", "{admin:?}");
    }
}

#[test]
fn a_server_that_the_file_has_disabled_is_made_ready() {
    let mut haproxy = start(" server s1 10.0.0.1:80 weight 100 disabled\n");
    assert_eq!(done_once(&mut haproxy), "nodes/s1: ready\n");
}

fn done_once(haproxy: &mut Haproxy) -> String {
    let wanted = ConfigText::parse(&format!("{HEAD}{S1}"));
    let plan = haproxy.plan(&wanted, &admins(WantedAdmin::Ready));
    haproxy.apply(&plan.steps);
    plan.to_string()
}

#[test]
fn an_agent_is_not_asked_of_a_server_that_is_not_to_serve() {
    for (admin, first) in [
        (WantedAdmin::Drain, "drain"),
        (WantedAdmin::Maint, "maint"),
        (WantedAdmin::Waiting, "drain, checked"),
    ] {
        let mut haproxy = start(S1);
        assert_eq!(
            done(&mut haproxy, S1, admin),
            format!("nodes/s1: no longer ask its agent\nnodes/s1: {first}\n")
        );
        assert_eq!(
            done(&mut haproxy, S1, WantedAdmin::Ready),
            "nodes/s1: ready\nnodes/s1: ask its agent\n"
        );
    }
    let mut haproxy = start(S1);
    insta::assert_snapshot!(done(&mut haproxy, "", WantedAdmin::Cut), @r#"
    nodes/s1: no longer ask its agent
    nodes/s1: maint
    nodes/s1: shut its sessions
    nodes/s1: delete
    "#);
}

#[test]
fn a_weight_is_shared_out_by_the_agent_and_changes_with_a_reload() {
    let mut haproxy = start(S1);
    let heavier = S1.replace("100", "200");
    assert_eq!(
        done(&mut haproxy, &heavier, WantedAdmin::Ready),
        "reload: nodes/s1: `weight` changed while it is in service\n"
    );
}

#[test]
fn a_server_that_its_agent_drains_is_moved_as_it_is() {
    let mut haproxy = start(S1);
    says(&mut haproxy, |server| server.admin = Admin::Drain);
    let moved = S1.replace("10.0.0.1", "10.0.0.7");
    assert_eq!(
        done(&mut haproxy, &moved, WantedAdmin::Ready),
        "nodes/s1: move to 10.0.0.7:80\n"
    );
}
