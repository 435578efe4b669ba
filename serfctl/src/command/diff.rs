//! The members of two agents in, what they do not agree about out.

use std::{collections::BTreeMap, fmt::Write as _};

use bstr::BStr;
use serf_rpc::Member;

use crate::{
    exit::Failure,
    members::{socket_addr, tags},
    output,
    terminal::escape,
};

/// Prints the differences, in the order of the names.
///
/// # Errors
///
/// There are some.
pub(crate) fn compare(ours: &[Member], theirs: &[Member]) -> Result<Vec<u8>, Failure> {
    let text = differences(ours, theirs);
    output::write(text.as_bytes())?;
    match text.lines().count() {
        0 => Ok(Vec::new()),
        1 => Err(Failure::Found(
            "the agents do not agree in 1 thing".to_owned(),
        )),
        count => Err(Failure::Found(format!(
            "the agents do not agree in {count} things"
        ))),
    }
}

fn differences(ours: &[Member], theirs: &[Member]) -> String {
    let by_name = |members| -> BTreeMap<&BStr, &Member> {
        let members: &[Member] = members;
        members
            .iter()
            .map(|member| (member.name(), member))
            .collect()
    };
    let (ours, theirs) = (by_name(ours), by_name(theirs));
    let mut out = String::new();
    for name in ours
        .keys()
        .chain(theirs.keys().filter(|name| !ours.contains_key(*name)))
    {
        let shown = escape(name);
        let written = match (ours.get(name), theirs.get(name)) {
            (Some(ours), Some(theirs)) => {
                let (ours, theirs) = (fields(ours), fields(theirs));
                let differing = ours
                    .iter()
                    .zip(&theirs)
                    .filter(|(ours, theirs)| ours != theirs);
                let mut differing = differing.map(|(ours, theirs)| {
                    writeln!(out, "! {shown} {}: {} there {}", ours.0, ours.1, theirs.1)
                });
                differing.try_for_each(|written| written)
            }
            (Some(ours), None) => writeln!(out, "- {shown} {}", ours.status()),
            (None, Some(theirs)) => writeln!(out, "+ {shown} {}", theirs.status()),
            (None, None) => Ok(()),
        };
        written.unwrap_or_default();
    }
    out
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
        assert_eq!(
            differences(&ours, &theirs),
            "! b status: failed there alive\n! b tags: x=1 there \n- c left\n+ d\\n alive\n"
        );
        assert_eq!(differences(&ours, &ours), "");
    }
}
