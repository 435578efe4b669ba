//! What members are wanted in, the text or JSON that `serf members` prints of them out.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write as _},
};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serf_rpc::{CallError, Member, MemberFilter};

use crate::{
    cli::{AgentArgs, Filter, Format, MembersArgs},
    command::diff,
    connect::connect,
    exit::Failure,
    json::document_of,
    terminal::{escape, lossy},
};

/// Asks the agent for the members and returns what goes to stdout.
///
/// # Errors
///
/// No connection, no answer, or an expression that the agent cannot read.
pub(crate) async fn run(agent: &AgentArgs, args: &MembersArgs) -> Result<Vec<u8>, Failure> {
    if args.uses_role() {
        let warning = b"serfctl: --role is deprecated, use --tag role=REGEXP\n";
        io::stderr().write_all(warning).unwrap_or_default();
    }
    let filters = args.filters();
    let members = match connect(agent)
        .await?
        .members_filtered(&combine(&filters))
        .await
    {
        Err(lost @ CallError::Lost { .. }) => {
            return Err(unreadable(agent, &filters).await.unwrap_or(lost.into()));
        }
        answer => answer?,
    };
    match &args.diff {
        Some(other) => {
            let other = connect(&agent.at(other)).await?;
            let theirs = other.members_filtered(&combine(&filters)).await?;
            diff::compare(&members, &theirs)
        }
        None => Ok(render(members, args.format, args.detailed)),
    }
}

fn combine<'a>(filters: impl IntoIterator<Item = &'a Filter>) -> MemberFilter {
    filters
        .into_iter()
        .fold(MemberFilter::new(), |all, filter| match filter {
            Filter::Name(pattern) => all.name(pattern),
            Filter::Status(pattern) => all.status(pattern),
            Filter::Tag(key, pattern) => all.tag(key, pattern),
        })
}

/// The expression that made the agent close the connection, for it does not say which, found by trying one by one;
/// none if it answers them all, or no longer at all.
async fn unreadable(agent: &AgentArgs, filters: &[Filter]) -> Option<Failure> {
    for filter in filters {
        let answer = connect(agent)
            .await
            .ok()?
            .members_filtered(&combine([filter]))
            .await;
        if matches!(answer, Err(CallError::Lost { .. })) {
            let (flag, pattern) = match filter {
                Filter::Name(pattern) => ("--name".to_owned(), pattern),
                Filter::Status(pattern) => ("--status".to_owned(), pattern),
                Filter::Tag(key, pattern) => (format!("--tag {key}"), pattern),
            };
            return Some(Failure::Expression {
                flag,
                pattern: pattern.clone(),
            });
        }
    }
    None
}

/// The members, sorted by name, as they go to stdout, last newline included.
pub(crate) fn render(mut members: Vec<Member>, format: Format, detailed: bool) -> Vec<u8> {
    members.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    match format {
        Format::Text => text(&members, detailed).into_bytes(),
        Format::Json => json(&members),
    }
}

/// Aligned columns: name, address, status, tags and, if detailed, the protocol versions.
///
/// Serf joins the fields by `|` and splits them again, so that there a `|` in a tag starts a new column. Here a
/// field is a field, and a tag cannot pass for a status.
fn text(members: &[Member], detailed: bool) -> String {
    let rows: Vec<Vec<String>> = members.iter().map(|member| row(member, detailed)).collect();
    let mut out = align(&rows);
    // Serf trims the whole, so the last row has no blanks in place of missing tags.
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn row(member: &Member, detailed: bool) -> Vec<String> {
    let mut row = vec![
        escape(member.name()).into_owned(),
        socket_addr(member),
        member.status().to_string(),
        tags(member),
    ];
    if detailed {
        let versions = member.delegate();
        row.push(format!("Protocol Version: {}", versions.current));
        row.push(format!(
            "Available Protocol Range: [{}, {}]",
            versions.min, versions.max
        ));
    }
    row
}

/// `addr:port` as Go writes it, IPv6 in brackets; `:port` without an address.
pub(crate) fn socket_addr(member: &Member) -> String {
    match member.addr() {
        Some(addr) => std::net::SocketAddr::new(addr.to_canonical(), member.port()).to_string(),
        None => format!(":{}", member.port()),
    }
}

/// `key=value,key=value`, in the order of the keys (Serf's is random).
pub(crate) fn tags(member: &Member) -> String {
    let mut out = String::new();
    for (key, value) in member.tags() {
        let comma = if out.is_empty() { "" } else { "," };
        write!(out, "{comma}{}={}", escape(key), escape(value)).unwrap_or_default();
    }
    out
}

/// Rows of as many fields each: two spaces between columns, as wide as their widest field in characters, the last
/// one not padded.
fn align(rows: &[Vec<String>]) -> String {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(row.len().max(widths.len()), 0);
        for (width, field) in widths.iter_mut().zip(row) {
            *width = field.trim().chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut fields = row.iter().map(|field| field.trim()).zip(&widths).peekable();
        while let Some((field, &width)) = fields.next() {
            match fields.peek() {
                Some(_) => write!(out, "{field:<width$}  "),
                None => writeln!(out, "{field}"),
            }
            .unwrap_or_default();
        }
    }
    out
}

/// `{"members": [...]}`, indented by two; `null` in place of an empty list, as Serf has it.
fn json(members: &[Member]) -> Vec<u8> {
    let rows: Vec<Row<'_>> = members.iter().map(Row::new).collect();
    let document = Document {
        members: (!rows.is_empty()).then_some(rows),
    };
    document_of(&document)
}

#[derive(Serialize)]
struct Document<'a> {
    members: Option<Vec<Row<'a>>>,
}

/// A member in JSON.
#[derive(Serialize)]
pub(crate) struct Row<'a> {
    name: Cow<'a, str>,
    addr: String,
    port: u16,
    #[serde(serialize_with = "tag_map")]
    tags: &'a Member,
    status: &'static str,
    protocol: Protocol,
}

/// Versions of Serf's own protocol.
#[derive(Serialize)]
struct Protocol {
    max: u8,
    min: u8,
    version: u8,
}

impl<'a> Row<'a> {
    pub(crate) fn new(member: &'a Member) -> Self {
        let versions = member.delegate();
        Self {
            name: lossy(member.name()),
            addr: socket_addr(member),
            port: member.port(),
            tags: member,
            status: member.status().as_str(),
            protocol: Protocol {
                max: versions.max,
                min: versions.min,
                version: versions.current,
            },
        }
    }
}

fn tag_map<S: Serializer>(member: &Member, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (key, value) in member.tags() {
        map.serialize_entry(&lossy(key), &lossy(value))?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;
    use serf_rpc::MemberStatus;

    use super::*;
    use crate::terminal::is_unsafe;

    fn member(name: impl AsRef<[u8]>, last: u8, tags: &[(&str, &[u8])]) -> Member {
        let versions = serf_rpc::ProtocolVersions {
            min: 2,
            max: 5,
            current: 5,
        };
        let builder = Member::builder(name)
            .addr(IpAddr::from([127, 0, 0, last]), 7946)
            .delegate(versions);
        tags.iter()
            .fold(builder, |builder, (key, value)| builder.tag(key, value))
            .build()
    }

    fn print(members: &[Member], format: Format, detailed: bool) -> String {
        String::from_utf8(render(members.to_vec(), format, detailed)).unwrap()
    }

    #[test]
    fn text_is_aligned_as_serf_aligns_it_and_sorted() {
        let bravo = Member::builder("bravo-länger").addr(IpAddr::from([127, 15, 0, 2]), 7946);
        let members = [
            member("d", 4, &[]),
            bravo
                .status(MemberStatus::Leaving)
                .tag("role", "lb")
                .build(),
            member("a", 1, &[("role", b"web"), ("port", b"3000")]),
        ];
        let expected = "\
a             127.0.0.1:7946   alive    port=3000,role=web\n\
bravo-länger  127.15.0.2:7946  leaving  role=lb\n\
d             127.0.0.4:7946   alive\n";
        assert_eq!(print(&members, Format::Text, false), expected);
    }

    #[test]
    fn details_are_columns_of_their_own() {
        let members = [member("a", 1, &[("role", b"web")]), member("b", 2, &[])];
        let expected = "\
a  127.0.0.1:7946  alive  role=web  Protocol Version: 5  Available Protocol Range: [2, 5]\n\
b  127.0.0.2:7946  alive            Protocol Version: 5  Available Protocol Range: [2, 5]\n";
        assert_eq!(print(&members, Format::Text, true), expected);
    }

    #[test]
    fn no_member_is_an_empty_line_or_null_as_in_serf() {
        assert_eq!(print(&[], Format::Text, false), "\n");
        assert_eq!(
            print(&[], Format::Json, false),
            "{\n  \"members\": null\n}\n"
        );
    }

    #[test]
    fn json_has_the_shape_of_serf() {
        let expected = r#"{
  "members": [
    {
      "name": "a",
      "addr": "127.0.0.1:7946",
      "port": 7946,
      "tags": {
        "port": "3000",
        "role": "web"
      },
      "status": "alive",
      "protocol": {
        "max": 5,
        "min": 2,
        "version": 5
      }
    },
    {
      "name": "b",
      "addr": "127.0.0.2:7946",
      "port": 7946,
      "tags": {},
      "status": "alive",
      "protocol": {
        "max": 5,
        "min": 2,
        "version": 5
      }
    }
  ]
}
"#;
        let members = [
            member("b", 2, &[]),
            member("a", 1, &[("role", b"web"), ("port", b"3000")]),
        ];
        assert_eq!(print(&members, Format::Json, false), expected);
    }

    #[test]
    fn addresses_are_written_as_go_writes_them() {
        let at = |addr: &str| {
            socket_addr(
                &Member::builder("a")
                    .addr(addr.parse().unwrap(), 7946)
                    .build(),
            )
        };
        assert_eq!(at("::1"), "[::1]:7946");
        assert_eq!(at("::ffff:127.0.0.1"), "127.0.0.1:7946");
        assert_eq!(socket_addr(&Member::builder("a").build()), ":0");
    }

    #[test]
    fn a_tag_cannot_forge_a_row_or_a_column() {
        let hostile = member("x\nweb  127.0.0.1:7946", 1, &[("t", b"a|b\x1b[2J\xff")]);
        let expected = "x\\nweb  127.0.0.1:7946  127.0.0.1:7946  alive  t=a|b\\u{1b}[2J\\xff\n";
        assert_eq!(print(&[hostile], Format::Text, false), expected);
    }

    #[test]
    fn json_is_safe_for_a_terminal_and_means_what_the_member_said() {
        let hostile = member("a\u{9b}2J\x1b\u{202e}\"<\x7f", 1, &[("t\n", b"\xff")]);
        let json = print(&[hostile], Format::Json, false);
        assert!(!json.replace('\n', "").contains(is_unsafe), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["members"][0]["name"], "a\u{9b}2J\x1b\u{202e}\"<\x7f");
        assert_eq!(read["members"][0]["tags"]["t\n"], "\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_member_is_one_line_of_text_and_valid_json(
            names in proptest::collection::vec(any::<Vec<u8>>(), 1..5),
            tag: Vec<u8>,
            detailed: bool,
        ) {
            let members: Vec<_> = names.iter().map(|name| member(name, 1, &[("t", &tag)])).collect();
            prop_assert_eq!(print(&members, Format::Text, detailed).lines().count(), members.len());
            let read: serde_json::Value = serde_json::from_str(&print(&members, Format::Json, detailed)).unwrap();
            prop_assert_eq!(read["members"].as_array().map(Vec::len), Some(members.len()));
        }
    }
}
