//! What members are wanted in, the text or JSON that `serf members` prints of them out.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use serf_rpc::Member;

use super::diff;
use crate::{
    agent::AgentArgs,
    args::{Format, go_bool},
    exit::{Failure, chain},
    json::{document_of, line_of},
    member::{Row, socket_addr, tags},
    output,
    selection::{self, Filter, Selection},
    table::{self, Column, summary, table},
    terminal::{Style, escape},
};

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_millis(500);

/// List the members of the cluster, sorted by name
///
/// Regular expressions are Go's (RE2), but for a literal brace (write `\{`) and `\Q…\E`, and must match the
/// whole value. They are grouped before the agent anchors them: `alive|left` means either of the two, where
/// `serf` has it match `alive…` or `…left`.
///
/// Text is what `serf members` prints, with tags in the order of their keys. Control characters and bytes that
/// are not UTF-8 are shown escaped. JSON has them all: what is not UTF-8 stands in base64 beside it, as name_base64 and
/// tags_base64.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl members --status alive --tag role=backend
  serfctl members --columns status,name,tag:role --watch
  serfctl members --diff 10.0.0.6:7373")]
pub(crate) struct MembersArgs {
    /// Show the protocol versions too (text only; JSON always has them)
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true,
        value_parser = go_bool)]
    pub(crate) detailed: bool,

    /// How to print them
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    /// A table with a head, of these columns only and sorted by them, with commas between: name, addr, status, tags,
    /// protocol, tag:KEY
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', value_parser = Column::parse,
        conflicts_with_all = ["detailed", "format", "diff"])]
    columns: Vec<Column>,

    /// The table again after each change, until Ctrl-C; a lost agent is waited for
    #[arg(long, conflicts_with_all = ["detailed", "format", "diff"])]
    watch: bool,

    /// Compare with what another agent believes: `-` is only in this one, `+` only in that, `!` differs. Exits 1 if
    /// anything does
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "detailed")]
    diff: Option<String>,

    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// Asks the agent for the members and returns what goes to stdout.
///
/// # Errors
///
/// No connection, no answer, or an expression that the agent cannot read.
pub(crate) async fn run(agent: &AgentArgs, args: &MembersArgs) -> Result<Vec<u8>, Failure> {
    if args.selection.uses_role() {
        let warning = b"serfctl: --role is deprecated, use --tag role=REGEXP\n";
        io::stderr().write_all(warning).unwrap_or_default();
    }
    let filters = args.selection.filters();
    if args.watch {
        return output::follow(watch(agent, &filters, columns(args))).await;
    }
    let members = selection::members(agent, &filters).await?;
    if let Some(other) = &args.diff {
        let theirs = selection::members(&agent.at(other), &filters).await?;
        return diff::compare(&members, &theirs, args.format);
    }
    if !args.columns.is_empty() {
        return Ok(table(&members, columns(args), Style::of_stdout()).into_bytes());
    }
    Ok(render(&members, args.format, args.detailed))
}

fn columns(args: &MembersArgs) -> &[Column] {
    if args.columns.is_empty() {
        &table::DEFAULT
    } else {
        &args.columns
    }
}

/// Draws the table whenever it is another one: over the last on a terminal, below it anywhere else.
async fn watch(
    agent: &AgentArgs,
    filters: &[Filter],
    columns: &[Column],
) -> Result<Vec<u8>, Failure> {
    let style = Style::of_stdout();
    let mut drawn = String::new();
    loop {
        let now = match selection::members(agent, filters).await {
            Ok(members) => format!("{}\n{}", summary(&members), table(&members, columns, style)),
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => format!("{}\n", escape(chain(&failure).as_bytes())),
        };
        if now != drawn {
            output::write(format!("{}{now}", style.clear_or_blank(drawn.is_empty())).as_bytes())?;
            drawn = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The members as they go to stdout, last newline included.
fn render(members: &[Member], format: Format, detailed: bool) -> Vec<u8> {
    match format {
        Format::Text => text(members, detailed).into_bytes(),
        Format::Json => json(members),
        Format::Ndjson => members
            .iter()
            .map(Row::new)
            .flat_map(|row| line_of(&row))
            .collect(),
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
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
        let mut sorted = members.to_vec();
        sorted.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        String::from_utf8(render(&sorted, format, detailed)).unwrap()
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
        assert_eq!(read["members"][0]["tags_base64"]["dAo="], "/w==");
    }

    /// What the README says of bytes in JSON, read back.
    fn bytes(text: &serde_json::Value, base64: &serde_json::Value) -> Vec<u8> {
        match base64.as_str() {
            Some(base64) => STANDARD.decode(base64).unwrap(),
            None => text.as_str().unwrap().as_bytes().to_vec(),
        }
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
            let read = read["members"].as_array().cloned().unwrap_or_default();
            prop_assert_eq!(read.len(), members.len());
            let mut sorted = names.clone();
            sorted.sort();
            for (row, name) in read.iter().zip(&sorted) {
                prop_assert_eq!(&bytes(&row["name"], &row["name_base64"]), name);
                prop_assert_eq!(&bytes(&row["tags"]["t"], &row["tags_base64"]["dA=="]), &tag);
            }
            prop_assert_eq!(print(&members, Format::Ndjson, detailed).lines().count(), members.len());
        }
    }
}
