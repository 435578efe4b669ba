//! Server lines that are nobody's to change, and other files of the same configuration.

use super::model::Haproxy;
use crate::model::{Admin, BackendName, ServerName, Version, WantedAdmins};
use crate::plan::Join;
use crate::syntax::{ConfigText, OpaqueCause, OtherFile, Scope};

const NEW: Version = Version { major: 3, minor: 0 };

const SORRY: &str = "backend web\n server sorry 10.0.0.9:80 backup\n";
const MEMBER: &str = " server s1 10.0.0.1:80 check\n";

fn web() -> BackendName {
    BackendName::new("web").unwrap()
}

fn scope(bare: &str) -> Scope {
    Scope::new(&[web()], bare)
}

fn names(text: &ConfigText) -> Vec<String> {
    text.servers(&web())
        .map(|line| line.name.to_string())
        .collect()
}

fn planned(haproxy: &Haproxy, wanted: &str) -> String {
    let wanted = haproxy.scope.read(wanted);
    haproxy.plan(&wanted, &WantedAdmins::new()).to_string()
}

fn beside(bare: &str, files: &[Option<&str>]) -> Scope {
    let file = |text: &Option<&str>| OtherFile {
        path: "/etc/haproxy/base.cfg".into(),
        text: text.map(Into::into),
    };
    scope(bare).with_files(files.iter().map(file).collect::<Vec<_>>())
}

#[test]
fn a_line_that_is_there_without_any_member_is_no_members_wherever_it_stands() {
    let fixed = " server sorry 10.0.0.9:80 backup\n";
    let scope = scope(SORRY);
    for text in [
        format!("backend web\n{fixed}{MEMBER}"),
        format!("backend web\n{MEMBER}{fixed}"),
        format!("backend web\n default-server inter 1s\n{fixed} default-server inter 3s\n{MEMBER}"),
    ] {
        let read = scope.read(&text);
        assert_eq!(names(&read), ["s1"], "{text}");
        assert_eq!((read.opaque(&web()), read.fixed_lines(&web())), (None, 1));
        let haproxy = Haproxy::start_in(scope.clone(), NEW, &text);
        assert_eq!(planned(&haproxy, &text), "");
        let without = text.replace(MEMBER, "");
        assert_eq!(
            planned(&haproxy, &without),
            "web/s1: maint\nweb/s1: delete\n"
        );
    }
}

#[test]
fn a_fixed_line_need_not_be_readable_and_a_members_must() {
    for line in [
        "server sorry sorry.example:80",
        "server sorry ${SORRY}:80",
        "server sorry 10.0.0.9",
        "server sorry unix@/run/x.sock",
        "server \"sorry\" 10.0.0.9:80",
        "\"server\" sorry 10.0.0.9:80",
        "server-template sorry 2 sorry.example:80 resolvers r",
        ".if defined(X)\nserver sorry 10.0.0.9:80\n.endif",
        "server a:b 10.0.0.9:80",
        "server sorry 10.0.0.9:80 cookie a;b weight 300",
    ] {
        let bare = format!("backend web\n{line}\n");
        let text = format!("{bare}{MEMBER}");
        let read = scope(&bare).read(&text);
        assert_eq!(
            (names(&read), read.opaque(&web())),
            (vec!["s1".into()], None),
            "{line}"
        );
        let all = Scope::new(&[web()], "").read(&text);
        assert!(
            all.opaque(&web()).is_some() || names(&all).len() == 2,
            "{line}"
        );
    }
}

#[test]
fn a_changed_fixed_line_is_a_changed_skeleton_and_one_taken_out_is_a_server_that_leaves() {
    let changed = SORRY.replace("backup", "backup weight 5");
    let haproxy = Haproxy::start_in(scope(&changed), NEW, &format!("{SORRY}{MEMBER}"));
    assert_eq!(
        planned(&haproxy, &format!("{changed}{MEMBER}")),
        "reload: backend web: changed in more than its servers\n"
    );
    let mut haproxy = Haproxy::start_in(scope("backend web\n"), NEW, &format!("{SORRY}{MEMBER}"));
    haproxy.server("web", "sorry").admin = Admin::Drain;
    let left = planned(&haproxy, &format!("backend web\n{MEMBER}"));
    assert_eq!(left, "web/sorry: maint\nweb/sorry: delete\n");
}

#[test]
fn backends_that_the_config_does_not_name_belong_to_others() {
    let text = "\
backend web
 server s1 10.0.0.1:80
backend theirs
 server t1 10.0.0.2:80
listen too
 server-template x 1-3 x.example:80
";
    let bare = text.replace(" server s1 10.0.0.1:80\n", "");
    let mut haproxy = Haproxy::start_in(scope(&bare), NEW, text);
    assert_eq!(haproxy.servers["theirs"]["t1"].admin, Admin::Drain);
    assert_eq!(planned(&haproxy, text), "");
    let theirs = haproxy.servers.get_mut("theirs").unwrap();
    theirs.remove("t1");
    assert_eq!(planned(&haproxy, text), "");
    let read = haproxy.scope.read(text);
    assert_eq!(read.backends().collect::<Vec<_>>(), [&web()]);
    assert_eq!(
        read.others().collect::<Vec<_>>(),
        ["backend theirs", "listen too"]
    );
    let after = haproxy
        .scope
        .read(&text.replace("10.0.0.1:80\n", "10.0.0.1:80\n server s2 10.0.0.4:80\n"));
    let join = Join {
        version: NEW,
        before: &read,
        after: &after,
    };
    assert_eq!(join.obstacles(), []);
    assert_eq!(
        planned(&haproxy, &text.replace("10.0.0.2", "10.0.0.3")),
        "reload: backend theirs: changed in more than its servers\n"
    );
}

#[test]
fn where_a_fixed_servers_name_cannot_be_told_only_servers_known_as_members_are_ours() {
    let bare = "backend web\n server \"a${B}\" 10.0.0.9:80\n";
    let text = format!("{bare}{MEMBER}");
    let mut haproxy = Haproxy::start_in(scope(bare), NEW, &text);
    let other = haproxy.server("web", "s1").clone();
    let web = haproxy.servers.get_mut("web").unwrap();
    web.insert("axyz".into(), other);
    assert_eq!(planned(&haproxy, &text), "");
    assert_eq!(planned(&haproxy, bare), "web/s1: maint\nweb/s1: delete\n");
}

#[test]
fn what_points_to_our_servers_counts_wherever_it_is_said() {
    let bare = "backend web\nbackend theirs\n server t1 10.0.0.2:80 track web/s1\n";
    let text = bare.replace("web\n", &format!("web\n{MEMBER}"));
    let s1 = ServerName::new("s1").unwrap();
    assert!(scope(bare).read(&text).references(&web(), &s1));
    let other = "frontend f\n http-request deny if { srv_is_up(web/s1) }\n";
    let text = format!("backend web\n{MEMBER}");
    assert!(
        beside("", &[Some(other)])
            .read(&text)
            .references(&web(), &s1)
    );
    assert!(!beside("", &[]).read(&text).references(&web(), &s1));
}

#[test]
fn a_member_may_track_a_fixed_server_at_runtime() {
    let text = format!("{SORRY}{MEMBER}");
    let haproxy = Haproxy::start_in(scope(SORRY), NEW, &text);
    let wanted = format!("{text} server s2 10.0.0.2:80 track sorry\n");
    assert_eq!(
        planned(&haproxy, &wanted),
        "web/s2: add 10.0.0.2:80 track sorry\nweb/s2: ready\n"
    );
}

#[test]
fn servers_inherit_from_defaults_in_files_before_ours() {
    let words = |files: &[Option<&str>], text: &str| {
        let read = beside("", files).read(text);
        let server = read
            .server(&web(), &ServerName::new("s1").unwrap())
            .unwrap();
        (server.maxconn, server.options.words().join(" "))
    };
    let base = "defaults\n default-server maxconn 7 inter 3s\n";
    let named = "defaults fast\n default-server inter 1s\n";
    let text = format!("backend web\n{MEMBER}");
    assert_eq!(
        words(&[Some(base)], &text),
        (Some(7), "check inter 3s".into())
    );
    assert_eq!(
        words(&[Some(named), Some(base)], &text),
        (Some(7), "check inter 3s".into())
    );
    let own = format!("defaults\nbackend web\n{MEMBER}");
    assert_eq!(words(&[Some(base)], &own), (None, "check".into()));
    let from = format!("backend web from fast\n{MEMBER}");
    assert_eq!(
        words(&[Some(named), Some(base)], &from),
        (None, "check inter 1s".into())
    );
}

#[test]
fn other_files_are_no_part_of_what_is_compared() {
    let text = format!("backend web\n{MEMBER}");
    let with = |port: u16| {
        let other = format!("backend theirs\n server s 10.0.0.2:{port}\n");
        beside("", &[Some(&other)])
    };
    let haproxy = Haproxy::start_in(with(1), NEW, &text);
    let plan = haproxy.plan(&with(2).read(&text), &WantedAdmins::new());
    assert_eq!(plan.to_string(), "");
}

#[test]
fn a_backend_that_may_inherit_from_what_cannot_be_seen_is_opaque() {
    let cause = |files: &[Option<&str>], text: &str| {
        let read = beside("", files).read(text);
        read.opaque(&web())
            .map(|opaque| (opaque.line, opaque.cause.clone()))
    };
    let base = Some("defaults fast\n default-server inter 1s\n");
    let text = format!("# ours\nbackend web\n{MEMBER}");
    assert_eq!(cause(&[None], &text), Some((2, OpaqueCause::Unseen)));
    assert_eq!(cause(&[base, None], &text), Some((2, OpaqueCause::Unseen)));
    assert_eq!(cause(&[None, base], &text), None);
    assert_eq!(
        cause(&[base, None], &text.replace("web\n", "web from fast\n")),
        None
    );
    assert_eq!(cause(&[None], &format!("defaults\n{text}")), None);
    let odd = Some("# long\n\ndefaults\n default-server inter \"$X\"\n");
    assert_eq!(cause(&[odd], &text), Some((2, OpaqueCause::Defaults)));
}
