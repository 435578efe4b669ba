//! The members of two agents in, what they do not agree about out.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bstr::BStr;
use serde::Serialize;
use serf_rpc::Member;

use crate::{
    args::Format,
    exit::Failure,
    json::{base64_of, document_of, line_of},
    member::{socket_addr, tags},
    output,
    terminal::{escape, lossy},
};

/// One thing that they do not agree about.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_base64: Option<String>,
    /// `member` where one of the two does not know it, else `status`, `addr` or `tags`.
    field: &'static str,
    here: Option<String>,
    there: Option<String>,
}

/// Prints the differences, in the order of the names.
///
/// # Errors
///
/// There are some.
pub(crate) fn compare(
    ours: &[Member],
    theirs: &[Member],
    format: Format,
) -> Result<Vec<u8>, Failure> {
    let found = differences(ours, theirs);
    output::write(&match format {
        Format::Text => found.iter().map(line).collect::<String>().into_bytes(),
        Format::Json => document_of(&found),
        Format::Ndjson => found.iter().flat_map(line_of).collect(),
    })?;
    match found.len() {
        0 => Ok(Vec::new()),
        1 => Err(Failure::Found(
            "the agents do not agree in 1 thing".to_owned(),
        )),
        count => Err(Failure::Found(format!(
            "the agents do not agree in {count} things"
        ))),
    }
}

fn line(difference: &Difference<'_>) -> String {
    let name = escape(difference.name.as_bytes());
    match (&difference.here, &difference.there) {
        (Some(here), Some(there)) => {
            format!("! {name} {}: {here} there {there}\n", difference.field)
        }
        (Some(here), None) => format!("- {name} {here}\n"),
        (None, Some(there)) => format!("+ {name} {there}\n"),
        (None, None) => String::new(),
    }
}

fn differences<'a>(ours: &'a [Member], theirs: &'a [Member]) -> Vec<Difference<'a>> {
    let by_name = |members: &'a [Member]| -> BTreeMap<&'a BStr, &'a Member> {
        members
            .iter()
            .map(|member| (member.name(), member))
            .collect()
    };
    let (ours, theirs) = (by_name(ours), by_name(theirs));
    let names: BTreeSet<&BStr> = ours.keys().chain(theirs.keys()).copied().collect();
    let mut found = Vec::new();
    for name in names {
        let difference = |field, here, there| Difference {
            name: lossy(name),
            name_base64: base64_of(name),
            field,
            here,
            there,
        };
        let status = |member: &&Member| member.status().to_string();
        match (ours.get(name), theirs.get(name)) {
            (Some(ours), Some(theirs)) => {
                let both = fields(ours).into_iter().zip(fields(theirs));
                let differing = both.filter(|(ours, theirs)| ours != theirs);
                found.extend(
                    differing.map(|((field, here), (_, there))| {
                        difference(field, Some(here), Some(there))
                    }),
                );
            }
            (ours, theirs) => {
                found.push(difference("member", ours.map(status), theirs.map(status)));
            }
        }
    }
    found
}

fn fields(member: &Member) -> [(&'static str, String); 3] {
    [
        ("status", member.status().to_string()),
        ("addr", socket_addr(member)),
        ("tags", tags(member)),
    ]
}

#[cfg(test)]
mod tests {
    use serf_rpc::{MemberBuilder, MemberStatus};

    use super::*;

    fn member(name: &str, status: MemberStatus) -> MemberBuilder {
        Member::builder(name).status(status)
    }

    #[test]
    fn only_differences_are_shown() {
        let same = member("a", MemberStatus::Alive).build();
        let ours = [
            same.clone(),
            member("b", MemberStatus::Failed).tag("x", "1").build(),
            member("c", MemberStatus::Left).build(),
        ];
        let theirs = [
            same,
            member("b", MemberStatus::Alive).build(),
            member("d\n", MemberStatus::Alive).build(),
        ];
        let text: String = differences(&ours, &theirs).iter().map(line).collect();
        assert_eq!(
            text,
            "! b status: failed there alive\n! b tags: x=1 there \n- c left\n+ d\\n alive\n"
        );
        assert_eq!(differences(&ours, &ours), []);
    }
}
