//! Plans that people can read.

use crate::model::{Admin, BackendName, ServerKey, Version, WantedAdmin, WantedAdmins};
use crate::plan::{Input, draft, plan};
use crate::syntax::ConfigText;

use super::model::Haproxy;

const OLD: Version = Version { major: 2, minor: 6 };
const NEW: Version = Version { major: 3, minor: 0 };

const HEAD: &str = "\
global
  description \"serf-haproxy 0123456789abcdef\"
defaults base
  mode http
frontend web
  bind 127.0.0.1:80
  default_backend nodes
backend nodes from base
  default-server check inter 1s
";

fn text(servers: &str) -> String {
    format!("{HEAD}{servers}")
}

fn admins<const N: usize>(list: [(&str, WantedAdmin); N]) -> WantedAdmins {
    list.into_iter()
        .map(|(name, admin)| (ServerKey::read("nodes", name).unwrap(), admin))
        .collect()
}

fn planned(haproxy: &Haproxy, servers: &str, admins: &WantedAdmins) -> String {
    haproxy
        .plan(&ConfigText::parse(&text(servers)), admins)
        .to_string()
}

const TWO: &str = " server s1 10.0.0.1:80\n server s2 10.0.0.2:80\n";

#[test]
fn a_first_server_joins_an_empty_backend_and_waits_for_its_probe() {
    let haproxy = Haproxy::start(OLD, HEAD);
    let joined = " server s1 10.0.0.1:80 weight 10 disabled\n";
    insta::assert_snapshot!(planned(&haproxy, joined, &admins([("s1", WantedAdmin::Drain)])), @r#"
nodes/s1: add 10.0.0.1:80 check inter 1s pool-max-conn -1 pool-purge-delay 5s weight 10
nodes/s1: drain
"#);
    insta::assert_snapshot!(planned(&haproxy, joined, &admins([("s1", WantedAdmin::Waiting)])), @r#"
nodes/s1: add 10.0.0.1:80 check inter 1s pool-max-conn -1 pool-purge-delay 5s weight 10
nodes/s1: drain, checked
"#);
    insta::assert_snapshot!(planned(&haproxy, joined, &admins([])), @r#"
nodes/s1: add 10.0.0.1:80 check inter 1s pool-max-conn -1 pool-purge-delay 5s weight 10
"#);
    insta::assert_snapshot!(planned(&haproxy, joined, &admins([("s1", WantedAdmin::Ready)])), @r#"
nodes/s1: add 10.0.0.1:80 check inter 1s pool-max-conn -1 pool-purge-delay 5s weight 10
nodes/s1: ready
"#);
}

#[test]
fn everything_at_once_is_in_order() {
    let mut haproxy = Haproxy::start(
        NEW,
        &text(&format!(
            "{TWO} server s3 10.0.0.3:80\n server s4 10.0.0.4:80\n server s6 10.0.0.6:80\n"
        )),
    );
    haproxy.server("nodes", "s6").admin = Admin::Maint;
    let wanted = " server s2 10.0.0.2:8080 maxconn 5\n server s0 10.0.0.5:80\n server s3 10.0.0.3:80 weight 2\n server s6 10.0.0.7:80\n";
    insta::assert_snapshot!(planned(&haproxy, wanted, &admins([("s4", WantedAdmin::Drain)])), @r#"
nodes/s0: add 10.0.0.5:80 check inter 1s
nodes/s0: ready
nodes/s6: move to 10.0.0.7:80
nodes/s6: ready
nodes/s2: maint
nodes/s2: move to 10.0.0.2:8080
nodes/s2: maxconn 5
nodes/s2: ready
nodes/s3: weight 2
nodes/s1: maint
nodes/s4: drain
nodes/s1: delete
"#);
}

#[test]
fn a_server_that_leaves_is_drained_then_put_away() {
    let mut haproxy = Haproxy::start(NEW, &text(TWO));
    let one = " server s1 10.0.0.1:80\n";
    insta::assert_snapshot!(planned(&haproxy, one, &admins([("s2", WantedAdmin::Drain)])), @r#"
nodes/s2: drain
"#);
    haproxy.server("nodes", "s2").admin = Admin::Drain;
    haproxy
        .server("nodes", "s2")
        .stat
        .as_mut()
        .unwrap()
        .in_flight = 1;
    insta::assert_snapshot!(planned(&haproxy, one, &admins([("s2", WantedAdmin::Drain)])), @"");
    insta::assert_snapshot!(planned(&haproxy, one, &admins([("s2", WantedAdmin::Cut)])), @r#"
nodes/s2: maint
nodes/s2: shut its sessions
nodes/s2: delete
"#);
    insta::assert_snapshot!(planned(&haproxy, one, &admins([])), @r#"
nodes/s2: maint
"#);
    haproxy
        .server("nodes", "s2")
        .stat
        .as_mut()
        .unwrap()
        .in_flight = 0;
    insta::assert_snapshot!(planned(&haproxy, one, &admins([])), @r#"
nodes/s2: maint
nodes/s2: delete
"#);
}

#[test]
fn a_server_that_the_file_on_disk_lists_is_not_deleted_yet() {
    let mut haproxy = Haproxy::start(NEW, &text(TWO));
    haproxy.server("nodes", "s2").admin = Admin::Maint;
    let wanted = ConfigText::parse(&text(" server s1 10.0.0.1:80\n"));
    let none = WantedAdmins::new();
    let input = Input {
        on_disk: Some(&haproxy.text),
        ..haproxy.input(&wanted, &none)
    };
    assert!(plan(&input).is_empty());
    assert_eq!(
        plan(&Input {
            on_disk: None,
            ..input
        })
        .to_string(),
        "nodes/s2: delete\n"
    );
}

#[test]
fn without_show_stat_nothing_is_deleted_and_show_stat_is_asked_for() {
    let mut haproxy = Haproxy::start(NEW, &text(TWO));
    haproxy.server("nodes", "s2").admin = Admin::Maint;
    haproxy.server("nodes", "s2").stat = None;
    let (wanted, none) = (
        ConfigText::parse(&text(" server s1 10.0.0.1:80\n")),
        WantedAdmins::new(),
    );
    let input = haproxy.input(&wanted, &none);
    assert!(plan(&input).is_empty());
    assert!(draft(&input).wants_stat);
}

#[test]
fn below_3_0_a_server_retires_and_returns_with_the_same_options_only() {
    let mut haproxy = Haproxy::start(OLD, &text(TWO));
    insta::assert_snapshot!(planned(&haproxy, " server s1 10.0.0.1:80\n", &admins([])), @r#"
nodes/s2: maint
"#);
    haproxy.server("nodes", "s2").admin = Admin::Maint;
    insta::assert_snapshot!(planned(&haproxy, " server s1 10.0.0.1:80\n", &admins([])), @"");
    insta::assert_snapshot!(planned(&haproxy, " server s1 10.0.0.1:80\n server s2 10.0.0.9:80 weight 3\n", &admins([])), @r#"
nodes/s2: move to 10.0.0.9:80
nodes/s2: weight 3
nodes/s2: ready
"#);
    insta::assert_snapshot!(planned(&haproxy, " server s1 10.0.0.1:80\n server s2 10.0.0.2:80 inter 2s\n", &admins([])), @r#"
reload: nodes/s2: came back with other options than it was retired with
"#);
    let (wanted, none) = (ConfigText::parse(HEAD), WantedAdmins::new());
    let full = Input {
        retired_max: 1,
        ..haproxy.input(&wanted, &none)
    };
    insta::assert_snapshot!(plan(&full).to_string(), @r#"
nodes/s1: maint
reload: nodes: 2 retired servers
"#);
}

#[test]
fn from_3_0_on_a_server_in_maint_with_other_options_is_made_anew() {
    let mut haproxy = Haproxy::start(NEW, &text(TWO));
    haproxy.server("nodes", "s2").admin = Admin::Maint;
    let wanted = " server s1 10.0.0.1:80 fall 2\n server s2 10.0.0.2:80 no-check inter 2s\n";
    insta::assert_snapshot!(planned(&haproxy, wanted, &admins([])), @r#"
nodes/s2: delete
nodes/s2: add 10.0.0.2:80 inter 2s
nodes/s2: ready
reload: nodes/s1: `fall` changed while it is in service
"#);
}

#[test]
fn a_reload_does_not_hold_up_what_can_be_done_now() {
    let haproxy = Haproxy::start(NEW, &text(TWO));
    let wanted = format!(
        "{}{TWO} server s3 10.0.0.3:80\nbackend new\n server n 10.0.0.4:80\n",
        HEAD.replace("1s", "2s")
    );
    insta::assert_snapshot!(haproxy.plan(&ConfigText::parse(&wanted), &admins([])), @r#"
nodes/s3: add 10.0.0.3:80 check inter 2s
nodes/s3: ready
reload: backend new: changed in more than its servers
reload: backend nodes from base: changed in more than its servers
"#);
}

#[test]
fn what_add_server_refuses_is_a_reason_and_no_step() {
    let mut haproxy = Haproxy::start(
        OLD,
        &text(&format!(
            "{TWO} server tls 10.0.0.9:443 ssl ca-file /a.pem\n"
        )),
    );
    let tls = " server tls 10.0.0.9:443 ssl ca-file /a.pem\n";
    let wanted = format!(
        "{TWO}{tls} server c 10.0.0.3:80 cookie c\n server d 10.0.0.3:443 ssl ca-file /a.pem\n server e 10.0.0.3:443 ssl ca-file /e.pem\n \
         server f 10.0.0.3:80 track s1\n server g 10.0.0.3:80 track f\n"
    );
    insta::assert_snapshot!(planned(&haproxy, &wanted, &admins([])), @r#"
nodes/d: add 10.0.0.3:443 ca-file /a.pem check check-ssl inter 1s ssl pool-max-conn -1 pool-purge-delay 5s
nodes/d: ready
nodes/f: add 10.0.0.3:80 check inter 1s track s1 pool-max-conn -1 pool-purge-delay 5s
nodes/f: ready
reload: nodes/c: a server with `cookie` cannot be added at runtime
reload: nodes/g: a server with `track` cannot be added at runtime
reload: nodes/e: the worker has not loaded /e.pem
"#);
    haproxy
        .accepts_add
        .insert(BackendName::new("nodes").unwrap(), false);
    let wanted = " server s1 10.0.0.1:80 weight 2\n server s9 10.0.0.3:80\n";
    insta::assert_snapshot!(planned(&haproxy, wanted, &admins([])), @r#"
nodes/s2: maint
nodes/tls: maint
reload: nodes: its balance algorithm takes no servers and no weights at runtime
"#);
}

#[test]
fn a_server_named_elsewhere_leaves_with_a_reload() {
    for rule in [
        "use-server s2 if TRUE",
        "http-request deny if !{ srv_is_up(nodes/s2) }",
        "server t 10.0.0.3:80 track s2",
    ] {
        let haproxy = Haproxy::start(NEW, &text(&format!(" {rule}\n{TWO}")));
        let shown = planned(
            &haproxy,
            &format!(" {rule}\n server s1 10.0.0.1:80\n"),
            &admins([]),
        );
        assert_eq!(
            shown, "nodes/s2: maint\nreload: nodes/s2: to go, but named elsewhere\n",
            "{rule}"
        );
    }
}

#[test]
fn from_3_0_on_only_what_could_be_added_again_is_deleted() {
    let gone = |line: &str, accepts: bool| {
        let mut haproxy = Haproxy::start(NEW, &text(line));
        haproxy
            .accepts_add
            .insert(BackendName::new("nodes").unwrap(), accepts);
        planned(&haproxy, "", &admins([]))
    };
    assert_eq!(
        gone(" server s1 10.0.0.1:80 cookie c\n", true),
        "nodes/s1: maint\nnodes/s1: delete\n"
    );
    assert_eq!(
        gone(" server s1 10.0.0.1:80 namespace n\n", true),
        "nodes/s1: maint\n"
    );
    assert_eq!(gone(" server s1 10.0.0.1:80\n", false), "nodes/s1: maint\n");
}

#[test]
fn a_server_named_elsewhere_is_not_made_anew() {
    let rule = " use-server s1 if TRUE\n";
    let mut haproxy = Haproxy::start(NEW, &text(&format!("{rule} server s1 10.0.0.1:80\n")));
    haproxy.server("nodes", "s1").admin = Admin::Maint;
    let shown = planned(
        &haproxy,
        &format!("{rule} server s1 10.0.0.1:80 fall 2\n"),
        &admins([]),
    );
    assert_eq!(
        shown,
        "reload: nodes/s1: came back with other options than it was retired with\n"
    );
}

#[test]
fn sections_in_another_order_are_a_changed_skeleton() {
    let haproxy = Haproxy::start(
        NEW,
        "backend a\n server s 10.0.0.1:80\ndefaults\n timeout client 1s\nbackend b\n",
    );
    let wanted = ConfigText::parse(
        "defaults\n timeout client 1s\nbackend a\n server s 10.0.0.1:80\nbackend b\n",
    );
    assert_eq!(
        haproxy.plan(&wanted, &admins([])).to_string(),
        "reload: defaults: changed in more than its servers\n"
    );
}

#[test]
fn an_opaque_backend_is_left_alone_and_reloaded_when_it_differs() {
    let haproxy = Haproxy::start(
        NEW,
        &text(" server-template t 1-2 10.0.0.1:80\n server s 10.0.0.1:80\n"),
    );
    let same = " server-template t 1-2 10.0.0.1:80 # as before\n server s 10.0.0.1:80\n";
    assert_eq!(
        planned(&haproxy, same, &admins([("s", WantedAdmin::Drain)])),
        ""
    );
    insta::assert_snapshot!(planned(&haproxy, &same.replace("1-2", "1-3"), &admins([])), @r#"
reload: backend nodes from base: changed, and its servers cannot be told from the rest
"#);
}

#[test]
fn a_server_added_and_deleted_by_another_hand_is_put_right() {
    let mut haproxy = Haproxy::start(OLD, &text(TWO));
    let stranger = haproxy.server("nodes", "s2").clone();
    let nodes = haproxy.servers.get_mut("nodes").unwrap();
    nodes.remove("s1");
    nodes.insert("zz".into(), stranger);
    insta::assert_snapshot!(planned(&haproxy, TWO, &admins([])), @r#"
nodes/s1: add 10.0.0.1:80 check inter 1s pool-max-conn -1 pool-purge-delay 5s
nodes/s1: ready
nodes/zz: maint
"#);
    insta::assert_snapshot!(planned(&haproxy, &format!("{TWO} server zz 10.0.0.2:80\n"), &admins([])), @r#"
nodes/s1: add 10.0.0.1:80 check inter 1s pool-max-conn -1 pool-purge-delay 5s
nodes/s1: ready
reload: nodes/zz: its options are not known
"#);
}

#[test]
fn an_unknown_worker_is_reloaded_and_its_servers_set_right_meanwhile() {
    let mut haproxy = Haproxy::start(NEW, &text(TWO));
    haproxy.server("nodes", "s1").admin = Admin::Drain;
    let wanted =
        ConfigText::parse(&text(&format!("{TWO} server s3 10.0.0.3:80\n")).replace("s2", "s4"));
    let none = WantedAdmins::new();
    insta::assert_snapshot!(plan(&Input { running: None, ..haproxy.input(&wanted, &none) }), @r#"
nodes/s1: ready
nodes/s3: add 10.0.0.3:80 check inter 1s
nodes/s3: ready
nodes/s4: add 10.0.0.2:80 check inter 1s
nodes/s4: ready
nodes/s2: maint
reload: it is not known which file the worker runs
"#);
}

#[test]
fn a_check_that_another_hand_has_switched_off_is_switched_on_again() {
    let mut haproxy = Haproxy::start(NEW, &text(TWO));
    haproxy.server("nodes", "s1").stat.as_mut().unwrap().check = crate::model::Check::None;
    assert_eq!(planned(&haproxy, TWO, &admins([])), "nodes/s1: ready\n");
    haproxy.server("nodes", "s1").stat = None;
    assert_eq!(planned(&haproxy, TWO, &admins([])), "");
}

#[test]
fn admission_by_haproxys_own_check_switches_a_check_on_that_is_off() {
    let mut haproxy = Haproxy::start(NEW, &text(TWO));
    haproxy.server("nodes", "s1").admin = Admin::Drain;
    assert_eq!(
        planned(&haproxy, TWO, &admins([("s1", WantedAdmin::Waiting)])),
        ""
    );
    haproxy.server("nodes", "s1").stat.as_mut().unwrap().check = crate::model::Check::None;
    assert_eq!(
        planned(&haproxy, TWO, &admins([("s1", WantedAdmin::Waiting)])),
        "nodes/s1: drain, checked\n"
    );
    assert_eq!(
        planned(&haproxy, TWO, &admins([("s1", WantedAdmin::Drain)])),
        ""
    );
}

#[test]
fn a_server_that_is_added_below_3_0_is_given_its_cookie_by_the_workers_own_key() {
    let head = HEAD.replace(
        "  default-server",
        "  dynamic-cookie-key k-1\n  cookie SRV insert indirect dynamic\n  default-server",
    );
    let joined = |version, head: &str| {
        let haproxy = Haproxy::start(version, head);
        let wanted = ConfigText::parse(&format!("{head}{TWO}"));
        haproxy.plan(&wanted, &admins([])).to_string()
    };
    insta::assert_snapshot!(joined(OLD, &head), @"
    nodes/s1: add 10.0.0.1:80 check inter 1s pool-max-conn -1 pool-purge-delay 5s
    nodes/s1: cookie
    nodes/s1: ready
    nodes/s2: add 10.0.0.2:80 check inter 1s pool-max-conn -1 pool-purge-delay 5s
    nodes/s2: cookie
    nodes/s2: ready
    ");
    insta::assert_snapshot!(joined(NEW, &head), @"
    nodes/s1: add 10.0.0.1:80 check inter 1s
    nodes/s1: ready
    nodes/s2: add 10.0.0.2:80 check inter 1s
    nodes/s2: ready
    ");
    // A key that cannot be said as it stands there is a reload.
    let quoted = head.replace("k-1", "\"$KEY\"");
    let planned = joined(OLD, &quoted);
    assert!(
        planned.contains("`dynamic-cookie-key` cannot be added"),
        "{planned}"
    );
}
