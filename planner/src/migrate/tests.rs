use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::model::ServerName;
use crate::render::{Rendered, Renderer};
use crate::syntax::lines::Lines;

fn name(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

fn config(backends: &[BackendName]) -> Config {
    let mut text = "[haproxy]\ntemplate = \"/t.j2\"\n".to_owned();
    for backend in backends {
        text +=
            &format!("[[backend]]\nname = \"{backend}\"\ntags = {{ role = \"x\" }}\nport = 80\n");
    }
    Config::parse(&text, []).unwrap()
}

/// The template of a file, and what it renders to with nobody and with the servers of now.
fn migrated(text: &str, backends: &[&str]) -> (Migration, Rendered, Rendered) {
    migrated_among(text, backends, &[])
}

fn migrated_among(
    text: &str,
    backends: &[&str],
    members: &[Member],
) -> (Migration, Rendered, Rendered) {
    let backends: Vec<BackendName> = backends.iter().map(|backend| name(backend)).collect();
    let around = Around {
        members: members.to_vec(),
        addresses: BTreeSet::from([[10, 0, 0, 200].into()]),
    };
    let migration = Migration::of(text, &backends, &around).unwrap();
    let config = config(&backends);
    let renderer = Renderer::new("t.j2", migration.template.clone()).unwrap();
    let flaws = renderer.audit(&config).unwrap();
    assert_eq!(flaws, [], "{}", migration.template);
    let bare = renderer.render(&config, &Servers::new()).unwrap();
    let full = renderer.render(&config, &migration.present()).unwrap();
    (migration, bare, full)
}

/// The same, where HAProxy has to read the same of it.
fn proven(text: &str, backends: &[&str]) -> Migration {
    let (migration, bare, full) = migrated(text, backends);
    let found = prove(text, &migration, &bare, &full);
    assert_eq!(found, [], "{}", full.text);
    migration
}

const SITE: &str = "\
global
    log /dev/log local0
    stats socket /run/haproxy/admin.sock mode 660 level admin
    user haproxy

defaults
    mode http
    default-server inter 3s
    timeout connect 1s

# the site
frontend www
    bind *:443 ssl crt /etc/site.pem
    log-format \"%ci %{+Q}r {%[ssl_fc]} {{x}} {#\"
    use_backend api if { path_beg /api }
    default_backend web

backend web
    balance roundrobin
    cookie SRV insert indirect nocache
    option httpchk GET /health
    server web-1 10.0.0.1:8080 check cookie web-1 # rack 1
    server web-2 10.0.0.2:8080 cookie web-2 check
    server sorry 10.0.0.9:80 backup
    server old www.example.com:80 check

backend api
    balance uri
    hash-type consistent
    use-server api-9 if { hdr(x) 9 }
    server api-1 10.0.1.1:80 weight 10 maxconn 50
    server api-2 10.0.1.2:80 weight 20 maxconn 50
    server api-3 10.0.1.3:80 weight 20 maxconn 99
    server api-9 10.0.1.9:80 weight 20
";

#[test]
fn a_site_becomes_a_template_that_says_the_same() {
    let migration = proven(SITE, &["web", "api"]);
    insta::assert_snapshot!(migration.template);
    let said: Vec<String> = migration
        .backends
        .iter()
        .flat_map(|backend| &backend.servers)
        .map(|fate| match &fate.stays {
            None => format!("{} member", fate.name),
            Some(why) => format!("{} {why}", fate.name),
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn every_line_that_can_be_no_members_stays_and_says_why() {
    let text = "defaults\n default-server inter 1s\nlisten l\n bind :1\n\
        server own-1 127.0.0.1:1\n\
        server own-2 10.0.0.200:1\n\
        server a 10.0.0.1:80\n\
        server b 10.0.0.2\n\
        server c unix@/run/c.sock\n\
        server d 10.0.0.4:80 backup\n\
        server e 10.0.0.5:80 disabled\n\
        server f example.com:80 resolvers dns\n\
        server g 10.0.0.7:80 cookie \"$X\"\n\
        server _h 10.0.0.8:80\n\
        server a 10.0.0.9:80\n\
        server i 10.0.0.10:80 track a\n\
        server-template t 1-3 10.0.0.11:80\n\
        .if defined(X)\n server k 10.0.0.12:80\n.endif\n\
        server m 10.0.0.13:80 cookie \"x#y\"\n\
        server n 10.0.0.14:80 cookie \"\"\n\
        server o 10.0.0.15:0\n\
        http-request deny if { srv_is_up(l/p) }\n\
        server p 10.0.0.16:80\n\
        default-server fall 9\n\
        server q 10.0.0.17:80\n\
        default-server fall 8\n\
        server r \"10.0.0.18:80\" 'check'\n";
    let (migration, _, _) = migrated(text, &["l"]);
    let fates = migration.backends[0].servers.iter();
    let fates: Vec<String> = fates
        .map(|fate| {
            let why = fate.stays.as_ref().map(|why| format!("{why:?}"));
            format!("{}:{}", fate.name, why.unwrap_or_default())
        })
        .collect();
    insta::assert_snapshot!(fates.join("\n"));
}

#[test]
fn a_quoted_word_is_the_word() {
    let text = "global\nbackend b\n server \"a\" '10.0.0.1:80' \"check\" cookie 'a'\n server b 2001:db8::1:80 check cookie b\n";
    let migration = proven(text, &["b"]);
    assert_eq!(migration.backends[0].present.len(), 2);
    assert!(
        migration.template.contains(
            "server {{ server.name }} {{ server.addr }} check cookie {{ server.name }} weight {{ server.weight }}{% if"
        ),
        "{}",
        migration.template
    );
}

#[test]
fn members_of_other_names_keep_the_words_of_the_servers_whose_addresses_they_have() {
    let member = |name: &str, last: u8| {
        Member::builder(name)
            .addr([10, 0, 0, last].into(), 7946)
            .build()
    };
    let text = "global\nbackend b\n balance source\n hash-type consistent\n server web1 10.0.0.1:80 cookie web1\n server web2 10.0.0.2:80 cookie web2\n";
    let members = [member("node-a", 1), member("web2", 2), member("x y", 2)];
    let (migration, bare, full) = migrated_among(text, &["b"], &members);
    assert_eq!(prove(text, &migration, &bare, &full), []);
    let mut servers = migration.present();
    for server in servers.values_mut().flatten() {
        if server.name.as_str() == "web1" {
            server.name = ServerName::new("node-a").unwrap();
        }
    }
    let renderer = Renderer::new("t.j2", migration.template.clone()).unwrap();
    let rendered = renderer.render(&config(&[name("b")]), &servers).unwrap();
    for line in [
        "server node-a 10.0.0.1:80 cookie web1 weight 1 id 1\n",
        "server web2 10.0.0.2:80 cookie web2 weight 1 id 2\n",
    ] {
        assert!(rendered.text.contains(line), "{}", rendered.text);
    }
    let fate = &migration.backends[0].servers[1];
    assert_eq!(fate.members, ["web2", "x y"]);
}

#[test]
fn of_several_members_at_one_address_each_server_has_its_own() {
    let member = |name: &str, port: &str| {
        let builder = Member::builder(name).addr([10, 0, 0, 1].into(), 7946);
        builder.tag("port", port).build()
    };
    let text = "global\nbackend b\n server db_5432 10.0.0.1:5432 check port 8008\n server db_5433 10.0.0.1:5433 check port 8009\n";
    for (first, second, alias) in [
        ("db_5432", "db_5433", None),
        ("db_5433", "db_5432", None),
        ("x", "db_5433", Some("x")),
        ("db_5432", "y", None),
    ] {
        let members = [member(second, "5433"), member(first, "5432")];
        let (migration, bare, full) = migrated_among(text, &["b"], &members);
        assert_eq!(prove(text, &migration, &bare, &full), []);
        let found = migration.backends[0].present[0].alias.as_deref();
        assert_eq!(found, alias, "{first} {second}");
    }
}

#[test]
fn a_backend_without_a_line_that_a_member_could_have_gets_the_words_of_the_others() {
    for (lines, expected) in [
        ("", "check weight {{ server.weight }}"),
        (
            " server a a.example.com:80 check inter 2s resolvers dns\n server b b.example.com:80 inter 2s check backup\n",
            "check inter 2s weight {{ server.weight }}",
        ),
        (
            " server a a.example.com:80 check cookie a weight 3\n server b b.example.com:80 check cookie b maxconn 9\n",
            "check cookie {{ server.name }} weight {{ server.weight }}",
        ),
        (
            " server a a.example.com:80 check cookie x\n server b b.example.com:80 cookie y check\n",
            "check cookie {{ server.name }} weight {{ server.weight }}",
        ),
        (
            " server-template t 3 a.example.com:80 check\n",
            "check weight {{ server.weight }}",
        ),
    ] {
        let text = format!("global\nbackend b\n balance leastconn\n{lines}\n# x\nbackend c\n");
        let migration = proven(&text, &["b"]);
        let line = &migration.backends[0].member_line;
        assert!(
            line.contains(&format!("addr }}}} {expected}{{% if")),
            "{line}"
        );
        let place = migration.template.find("{% endfor %}\n{% endfor %}\n\n# x");
        assert!(place.is_some(), "{}", migration.template);
    }
}

#[test]
fn a_weight_of_all_that_defaults_say_is_left_to_them() {
    let text = "global\ndefaults\n default-server weight 7\nbackend b\n server a 10.0.0.1:80\n";
    assert!(!proven(text, &["b"]).backends[0].weighs);
}

#[test]
fn what_is_ours_already_is_known() {
    let (migration, _, full) = migrated(SITE, &["web"]);
    assert_eq!(already(SITE), None);
    assert_eq!(already(&migration.template), Some(Already::Template));
    assert_eq!(already(&full.text), Some(Already::Ours));
    let edited = full.text.replace("bind *:443", "bind *:444");
    assert_eq!(already(&edited), Some(Already::Edited));
}

#[test]
fn a_backend_that_is_not_there_or_there_twice_is_refused_with_those_there_are() {
    let refused = |text: &str, backend: &str| {
        let refused = Migration::of(text, &[name(backend)], &Around::default());
        refused.unwrap_err().to_string()
    };
    assert_eq!(
        refused(SITE, "wbe"),
        "there is no backend or listen section `wbe`; there are, each with its server lines: web (4), api (4)"
    );
    assert_eq!(
        refused("frontend x\n", "b"),
        "there is no backend or listen section `b`; the file has none"
    );
    let twice = refused("backend b\nlisten b\n", "b");
    assert!(twice.starts_with("`b` begins in line 1 and again in line 2"));
}

#[test]
fn what_would_differ_is_found() {
    let (migration, bare, full) = migrated(SITE, &["web"]);
    let with = |from: &str, to: &str| {
        let mut other = full.clone();
        assert!(other.text.contains(from), "{from}");
        other.text = other.text.replacen(from, to, 1);
        let found = prove(SITE, &migration, &bare, &other);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        found.join("; ")
    };
    for (from, to, said) in [
        (
            "bind *:443",
            "bind *:444",
            "line 13 is not where it was: bind *:443 ssl crt /etc/site.pem",
        ),
        (
            "10.0.0.1:8080",
            "10.0.0.1:81",
            "web/web-1: its address was 10.0.0.1:8080, is 10.0.0.1:81",
        ),
        (
            "check cookie web-1",
            "check cookie x",
            "web/web-1: `cookie` was `web-1`, is `x`",
        ),
        (
            "server web-2 10.0.0.2:8080 check cookie web-2 weight 1",
            "# ",
            "web/web-2: it is not there any more",
        ),
        (
            "server web-1",
            "server new 10.0.0.7:80\n server web-1",
            "web/new: it was not there before",
        ),
        (
            "cookie web-1 weight 1",
            "cookie web-1 weight 9",
            "web/web-1: its weight was 1, is 9",
        ),
    ] {
        assert_eq!(with(from, to), said);
    }
}

/// A line of a file, with whatever may trouble a template.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ \t]{0,3}[a-z]{1,6}( [ -~]{0,12})?",
        r"[ \t]{0,2}(\{\{|\{%|\{#|\}\}|%\}|#\}|raw|endraw| |-|\+|x){0,8}",
        Just(String::new()),
        Just("    # a comment {% endraw %}".to_owned()),
    ]
}

/// A line of the backend that members are to serve in.
fn server() -> impl Strategy<Value = String> {
    let words = prop::sample::subsequence(
        vec![
            "check",
            "inter 2s",
            "cookie @",
            "ssl verify none",
            "send-proxy",
            "maxconn 9",
            "weight 3",
        ],
        0..5,
    );
    (0..9_u8, words, "[ \t]{1,3}", any::<bool>()).prop_map(|(number, words, blank, named)| {
        let name = format!("s{number}");
        let host = if named {
            "a.example.com".to_owned()
        } else {
            format!("10.0.0.{number}")
        };
        let words = words.join(" ").replace('@', &name);
        format!("{blank}server{blank}{name} {host}:80 {words}")
    })
}

fn is_opened(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    let opens = crate::syntax::SECTIONS.contains(&first) || first.starts_with('.');
    opens
        || ["description", "use-server", "default-server"].contains(&first)
        || line.contains("srv_")
        || line.contains("track")
}

proptest! {
    #[test]
    fn every_byte_but_of_members_lines_is_kept_and_they_are_read_the_same(
        before in prop::collection::vec(line(), 0..6),
        inside in prop::collection::vec(prop_oneof![line(), server(), server()], 0..8),
        after in prop::collection::vec(line(), 0..6),
        has_global in any::<bool>(),
        end in prop::sample::select(vec!["\n", "\r\n"]),
        ends in any::<bool>(),
    ) {
        let keep = |lines: Vec<String>| -> Vec<String> {
            lines.into_iter().filter(|line| !is_opened(line) && !line.contains('\r')).collect()
        };
        let mut lines = Vec::new();
        if has_global {
            lines.push("global".to_owned());
        }
        lines.extend(keep(before));
        lines.push("frontend f".to_owned());
        lines.push("backend b".to_owned());
        lines.extend(keep(inside));
        lines.push("backend c".to_owned());
        lines.extend(keep(after));
        let mut text = lines.join(end);
        if ends {
            text += end;
        }
        let (migration, bare, full) = migrated(&text, &["b"]);
        prop_assert_eq!(prove(&text, &migration, &bare, &full), []);
        let moved: BTreeSet<usize> = migration.backends[0].servers.iter()
            .filter(|fate| fate.stays.is_none()).map(|fate| fate.line).collect();
        // without any member: the file, what global was given, and our first line
        let kept: String = text.lines().enumerate()
            .filter(|(index, _)| !moved.contains(&(index + 1)))
            .map(|(_, line)| format!("{line}{end}")).collect();
        let mut added = migration.global.lines.clone();
        let mut rest = bare.text.clone();
        rest.replace_range(..FIRST_LINE.len() + 1, "");
        for (sign, value) in [
            ("{{ stamp }}", bare.stamp.0.as_str()),
            ("{{ haproxy.stats_socket }}", "/run/haproxy/admin.sock"),
            ("{{ hard_stop_after }}", "30s"),
        ] {
            for line in &mut added {
                *line = line.replace(sign, value);
            }
        }
        for line in added {
            let at = rest.find(&line).unwrap();
            let start = rest[..at].rfind('\n').map_or(0, |at| at + 1);
            rest.replace_range(start..at + line.len() + end.len(), "");
        }
        if !has_global {
            rest = rest.replacen(&format!("global{end}{end}"), "", 1);
        }
        prop_assert_eq!(rest, kept);
        // and as often as it is done, it is the same
        prop_assert_eq!(already(&full.text), Some(Already::Ours));
        let names = Lines::parse(&full.text);
        let section = names.named("backend", "b").next().unwrap();
        prop_assert_eq!(
            section.lines.iter().filter(|line| line.is_server()).count(),
            migration.backends[0].servers.len()
        );
    }
}
