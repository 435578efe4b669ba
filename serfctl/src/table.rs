//! Members and the columns wanted in, a table with a head out: aligned, sorted by its first column, coloured on a
//! terminal.

use std::{collections::BTreeMap, io::Write as _};

use serf_rpc::{Member, MemberStatus};
use tabwriter::TabWriter;

use crate::{
    member::{socket_addr, tags},
    terminal::{Style, escape},
};

/// What a column shows of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Its name.
    Name,
    /// Address and port of its gossip.
    Addr,
    /// alive, leaving, left or failed.
    Status,
    /// All tags.
    Tags,
    /// The version of Serf's protocol that it speaks, and the range that it could.
    Protocol,
    /// One tag.
    Tag(String),
}

/// What a table shows unless told otherwise.
pub(crate) const DEFAULT: [Column; 4] = [Column::Name, Column::Addr, Column::Status, Column::Tags];

impl Column {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// There is no such column.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        Ok(match text.trim() {
            "name" => Self::Name,
            "addr" => Self::Addr,
            "status" => Self::Status,
            "tags" => Self::Tags,
            "protocol" => Self::Protocol,
            text => match text.strip_prefix("tag:") {
                Some(key) if !key.is_empty() => Self::Tag(key.to_owned()),
                _ => return Err("name, addr, status, tags, protocol or tag:KEY is wanted"),
            },
        })
    }

    fn head(&self) -> String {
        match self {
            Self::Name => "NAME".to_owned(),
            Self::Addr => "ADDR".to_owned(),
            Self::Status => "STATUS".to_owned(),
            Self::Tags => "TAGS".to_owned(),
            Self::Protocol => "PROTOCOL".to_owned(),
            Self::Tag(key) => escape(key.as_bytes()).to_uppercase(),
        }
    }

    fn of(&self, member: &Member) -> String {
        match self {
            Self::Name => escape(member.name()).into_owned(),
            Self::Addr => socket_addr(member),
            Self::Status => member.status().to_string(),
            Self::Tags => tags(member),
            Self::Protocol => {
                let versions = member.delegate();
                format!("{} [{}-{}]", versions.current, versions.min, versions.max)
            }
            Self::Tag(key) => {
                let value = member.tag(key).map(|value| escape(value).into_owned());
                value.unwrap_or_default()
            }
        }
    }
}

/// The table, every line ended. Rows are in the order of their fields, from the first column on.
pub(crate) fn table(members: &[Member], columns: &[Column], style: Style) -> String {
    let mut rows: Vec<(Vec<String>, MemberStatus)> = members
        .iter()
        .map(|member| {
            let fields = columns.iter().map(|column| column.of(member)).collect();
            (fields, member.status())
        })
        .collect();
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut lines = TabWriter::new(Vec::new()).padding(2).minwidth(0).ansi(true);
    let head = columns.iter().map(|column| style.bold(&column.head()));
    write_row(&mut lines, head);
    for (fields, status) in &rows {
        let painted = columns
            .iter()
            .zip(fields)
            .map(|(column, field)| match column {
                Column::Status => style.status(*status, field),
                _ => field.clone(),
            });
        write_row(&mut lines, painted);
    }
    let aligned = lines.into_inner().unwrap_or_default();
    let aligned = String::from_utf8_lossy(&aligned);
    let rows = aligned.lines().map(str::trim_end);
    rows.flat_map(|row| [row, "\n"]).collect()
}

/// Fields with the tabs between them that are aligned. They have none of their own, as all controls are escaped.
fn write_row(lines: &mut TabWriter<Vec<u8>>, fields: impl Iterator<Item = String>) {
    let fields: Vec<String> = fields.collect();
    // Memory takes all that is written.
    writeln!(lines, "{}", fields.join("\t")).unwrap_or_default();
}

/// How many members have each status, in words.
pub(crate) fn summary(members: &[Member]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for member in members {
        *counts.entry(member.status().as_str()).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(status, count)| format!("{count} {status}"))
        .collect();
    format!("{} members: {}", members.len(), counts.join(", "))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn member(name: &str, status: MemberStatus, role: Option<&str>) -> Member {
        let builder = Member::builder(name)
            .addr(IpAddr::from([127, 0, 0, 1]), 7946)
            .status(status);
        match role {
            Some(role) => builder.tag("role", role).build(),
            None => builder.build(),
        }
    }

    #[test]
    fn rows_are_sorted_by_the_columns_in_their_order() {
        let members = [
            member("b", MemberStatus::Failed, Some("web")),
            member("日本", MemberStatus::Alive, None),
            member("a", MemberStatus::Failed, Some("lb")),
        ];
        let columns = [Column::Status, Column::Name, Column::Tag("role".into())];
        let expected = "\
STATUS  NAME  ROLE
alive   日本
failed  a     lb
failed  b     web
";
        assert_eq!(table(&members, &columns, Style::plain()), expected);
        assert_eq!(summary(&members), "3 members: 1 alive, 2 failed");
    }

    #[test]
    fn colour_changes_no_width_and_a_name_cannot_bring_its_own() {
        let members = [member("a\x1b[31m", MemberStatus::Failed, None)];
        let columns = [Column::Name, Column::Status];
        let painted = table(&members, &columns, Style::coloured());
        assert_eq!(
            painted,
            "\x1b[1mNAME\x1b[0m         \x1b[1mSTATUS\x1b[0m\na\\u{1b}[31m  \x1b[31mfailed\x1b[0m\n"
        );
    }

    #[test]
    fn a_column_that_is_not_there_is_named() {
        assert_eq!(Column::parse("tag:role"), Ok(Column::Tag("role".into())));
        assert!(Column::parse("tag:").is_err());
        assert!(Column::parse("Name").is_err());
    }
}
