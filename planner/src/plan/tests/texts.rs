//! What is read from a text.

use crate::model::{BackendName, ServerName};
use crate::syntax::{ConfigText, OpaqueCause, ServerLine};

fn name(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

fn server(text: &str, backend: &str, server: &str) -> ServerLine {
    let text = ConfigText::parse(text);
    text.server(&name(backend), &ServerName::new(server).unwrap())
        .unwrap()
        .clone()
}

fn words(text: &str, server_name: &str) -> String {
    server(text, "b", server_name).options.words().join(" ")
}

fn cause(text: &str) -> Option<OpaqueCause> {
    ConfigText::parse(text)
        .opaque(&name("b"))
        .map(|opaque| opaque.cause.clone())
}

/// The same as HAProxy 2.6 shows for this text (`show stat`: slim 9, 9, 11; weight 7, 3, 6).
#[test]
fn default_server_applies_below_itself_and_through_the_chain_of_defaults() {
    let text = "\
defaults base
  default-server weight 7
defaults x from base
  default-server maxconn 9
backend b from x
  server s0 127.11.1.2:80
  default-server weight 3
  server s1 127.11.1.2:81#c
  server s3 127.11.1.2:82 weight 5 maxconn 4 weight 6 minconn 11
";
    let values = |s| {
        let line = server(text, "b", s);
        (line.weight.get(), line.maxconn)
    };
    assert_eq!(values("s0"), (7, Some(9)));
    assert_eq!(values("s1"), (3, Some(9)));
    assert_eq!(values("s3"), (6, Some(11)));
}

/// Also the same on HAProxy 2.6.
#[test]
fn without_from_the_last_defaults_above_counts_even_if_it_has_a_name() {
    let text = "\
defaults
  default-server maxconn 1
defaults named
  default-server maxconn 3
backend b
  server s 127.0.0.1:80
";
    assert_eq!(server(text, "b", "s").maxconn, Some(3));
    assert_eq!(
        server(&text.replace("backend", "listen"), "b", "s").maxconn,
        Some(3)
    );
}

#[test]
fn no_check_takes_an_inherited_check_back() {
    let text = "backend b\n default-server check inter 1s\n server s 127.0.0.1:80 no-check\n server t [::1]:80\n";
    assert_eq!(words(text, "s"), "inter 1s");
    assert_eq!(words(text, "t"), "check inter 1s");
}

#[test]
fn servers_of_peers_and_rings_are_no_servers() {
    let text = ConfigText::parse(
        "backend b\npeers p\n server s 127.0.0.1:80\nring r\n server t 127.0.0.1:80\n",
    );
    assert_eq!(text.servers(&name("b")).count(), 0);
    assert_eq!(text.backends().count(), 1);
}

#[test]
fn disabled_is_read_and_taken_back_by_enabled() {
    let text =
        "backend b\n server s 127.0.0.1:80 disabled\n server t 127.0.0.1:80 disabled enabled\n";
    assert!(server(text, "b", "s").disabled);
    assert!(!server(text, "b", "t").disabled);
}

/// Texts with a backend `b`, and why it is opaque.
const FORMS: &[(&str, Option<OpaqueCause>)] = &[
    ("backend b\n server s 127.0.0.1:80\n", None),
    ("backend b\n server s 127.0.0.1:80 # it's \"fine\"\n", None),
    (
        "backend b\n option httpchk\n http-check send hdr Host \"a b\"\n server s 127.0.0.1:80\n",
        None,
    ),
    (
        "backend b\n .if defined(X)\n option httpchk\n .endif\n server s 127.0.0.1:80\n",
        None,
    ),
    (
        "backend b\n server-template s 1-3 127.0.0.1:80\n",
        Some(OpaqueCause::Template),
    ),
    (
        "backend b\n .if defined(X)\n server s 127.0.0.1:80\n .endif\n",
        Some(OpaqueCause::Conditional),
    ),
    (
        "backend b\n .if defined(X)\n default-server check\n .endif\n",
        Some(OpaqueCause::Conditional),
    ),
    (
        ".if defined(X)\nbackend b\n server s 127.0.0.1:80\n.endif\n",
        Some(OpaqueCause::Conditional),
    ),
    ("backend b\n .if defined(X)\nbackend c\n .endif\n", None),
    (
        "backend b\n .if defined(X)\nbackend c\n .endif\n server s 127.0.0.1:80\n",
        Some(OpaqueCause::Conditional),
    ),
    (
        "backend b\n server \"s\" 127.0.0.1:80\n",
        Some(OpaqueCause::Character),
    ),
    (
        "backend b\n server s ${HOST}:80\n",
        Some(OpaqueCause::Character),
    ),
    (
        "backend b\n server s 127.0.0.1:80 cookie a;b\n",
        Some(OpaqueCause::Character),
    ),
    (
        "backend b\n server s 127.0.0.1:80 cookie é\n",
        Some(OpaqueCause::Character),
    ),
    (
        "backend b\n \"server\" s 127.0.0.1:80\n",
        Some(OpaqueCause::Character),
    ),
    (
        "backend b\n ser\\ver s 127.0.0.1:80\n",
        Some(OpaqueCause::Character),
    ),
    (
        "backend b\n default-server inter \"$X\"\n",
        Some(OpaqueCause::Character),
    ),
    (
        "backend b\n server a:b 127.0.0.1:80\n",
        Some(OpaqueCause::Name),
    ),
    (
        "backend b\n server s localhost:80\n",
        Some(OpaqueCause::Address),
    ),
    (
        "backend b\n server s 127.0.0.1\n",
        Some(OpaqueCause::Address),
    ),
    (
        "backend b\n server s 127.0.0.1:0\n",
        Some(OpaqueCause::Address),
    ),
    ("backend b\n server s\n", Some(OpaqueCause::Address)),
    (
        "backend b\n server s 127.0.0.1:80 weight 300\n",
        Some(OpaqueCause::Value("weight")),
    ),
    (
        "backend b\n server s 127.0.0.1:80\n server s 127.0.0.1:81\n",
        Some(OpaqueCause::Twice),
    ),
    ("backend b\nlisten b\n", Some(OpaqueCause::Twice)),
    ("backend b from nowhere\n", Some(OpaqueCause::Defaults)),
    (
        "defaults\n default-server inter \"$X\"\nbackend b\n",
        Some(OpaqueCause::Defaults),
    ),
];

#[test]
fn what_is_not_plain_is_opaque_with_the_first_line_that_says_so() {
    for (text, expected) in FORMS {
        assert_eq!(&cause(text), expected, "{text}");
    }
    let text = ConfigText::parse("backend b\n\n # c\n server s x:1\n server-template t 1 x:1\n");
    assert_eq!(
        text.opaque(&name("b")).unwrap().to_string(),
        "line 4: an address that is not IP:port"
    );
}

#[test]
fn a_comment_may_start_inside_a_word_as_it_does_for_haproxy() {
    let text = ConfigText::parse("backend b#c\n server s 127.0.0.1:80#c check\n");
    assert_eq!(text.opaque(&name("b")), None);
    assert!(!text.servers(&name("b")).next().unwrap().options.check());
}

/// A section that begins inside `.if` leaves all others as they are, unless lines follow that may belong to either.
#[test]
fn a_section_inside_if_is_no_matter_to_those_around_it() {
    for text in [
        "defaults\n mode http\n.if defined(X)\nfrontend f\n bind :81\n.endif\nbackend b\n server s 127.0.0.1:80\n",
        "backend b\n server s 127.0.0.1:80\n.if defined(X)\nfrontend f\n bind :81\n.endif\nfrontend g\n",
        "backend b\n server s 127.0.0.1:80\n.if defined(X)\nfrontend f\n.if defined(Y)\n bind :81\n.endif\n mode tcp\n.endif\n",
        "backend b\n server s 127.0.0.1:80\n.if defined(X)\nfrontend f\n.else\nfrontend g\n.endif\n",
        "backend b\n server s 127.0.0.1:80\n.if defined(X)\nfrontend f\n.endif\n.if defined(Y)\n.endif\n",
    ] {
        assert_eq!(cause(text), None, "{text}");
        let read = ConfigText::parse(text);
        assert_eq!(read.servers(&name("b")).count(), 1, "{text}");
    }
    for text in [
        "backend b\n.if defined(X)\nfrontend f\n.endif\n server s 127.0.0.1:80\n",
        "backend b\n.if defined(X)\nfrontend f\n.else\n server s 127.0.0.1:80\n.endif\n",
        "backend b\n.if defined(X)\nfrontend f\n.endif\nfrontend g\n.if defined(X)\nbackend c\n.endif\n",
        "defaults\n.if defined(X)\nfrontend f\n.endif\n timeout connect 1s\nbackend b\n",
    ] {
        let opaque = text.starts_with("backend b\n.if") && !text.contains("frontend g");
        let expected = if opaque {
            Some(OpaqueCause::Conditional)
        } else if text.starts_with("defaults") {
            Some(OpaqueCause::Defaults)
        } else {
            None
        };
        assert_eq!(cause(text), expected, "{text}");
    }
}
