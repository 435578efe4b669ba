//! The members that an agent knows: changes in, what they cause and the bytes of its answers out.

use std::collections::BTreeMap;

use bstr::{BStr, BString};
use bytes::Bytes;
use regex::bytes::Regex;
use serf_rpc::{Member, MemberEventKind, MemberStatus};

use super::setting::MembersAnswer;
use super::wire;

/// The truth, with its bytes made beforehand.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    members: BTreeMap<BString, Known>,
    /// The answer to `members`, until something changes.
    whole: Option<Bytes>,
}

#[derive(Debug)]
struct Known {
    member: Member,
    bytes: Bytes,
}

/// What an agent says of a change.
#[derive(Debug)]
pub(super) struct Saying {
    /// The event, if it causes one: an intent to leave alone does not.
    pub(super) event: Option<MemberEventKind>,
    /// The lines of its log: their levels and texts.
    pub(super) lines: Vec<(&'static str, Vec<u8>)>,
    /// The member, as it stands in a list.
    pub(super) member: Bytes,
}

impl Cluster {
    /// All members, in the order of their names.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(|known| &known.member)
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Member> {
        self.members.get(BStr::new(name)).map(|known| &known.member)
    }

    /// Puts a member in the place of the one of its name; says nothing where it is the same.
    pub(super) fn put(&mut self, member: Member) -> Option<Saying> {
        let before = self.members.get(member.name()).map(|known| &known.member);
        if before == Some(&member) {
            return None;
        }
        let bytes = wire::member(&member);
        let saying = Saying::of(before, &member, bytes.clone());
        let known = Known { member, bytes };
        self.members.insert(known.member.name().to_owned(), known);
        self.whole = None;
        Some(saying)
    }

    /// Takes a member away, as the reaper does.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Saying> {
        let known = self.members.remove(BStr::new(name))?;
        self.whole = None;
        Some(Saying {
            event: Some(MemberEventKind::Reap),
            lines: vec![("INFO", line("serf: EventMemberReap: ", &[name]))],
            member: known.bytes,
        })
    }

    /// The body of an answer to `members`.
    pub(super) fn answer(&mut self, how: MembersAnswer, rng: &mut fastrand::Rng) -> Bytes {
        let whole = || self.members.values().map(|known| &known.bytes);
        let mut members: Vec<&Bytes> = match how {
            MembersAnswer::Whole => {
                let answer = self.whole.get_or_insert_with(|| wire::members(whole()));
                return answer.clone();
            }
            MembersAnswer::Shuffled => whole().collect(),
            MembersAnswer::Empty => Vec::new(),
            MembersAnswer::Partial(count) => rng.choose_multiple(whole(), count),
            MembersAnswer::Repeated => whole().chain(whole()).collect(),
        };
        rng.shuffle(&mut members);
        wire::members(members.into_iter())
    }

    /// The body of an answer to `members-filtered`: members all of whose fields match, in the order
    /// of their names.
    pub(super) fn filtered(&self, filter: &Filter) -> Bytes {
        let passed: Vec<&Bytes> = self
            .members
            .values()
            .filter(|known| filter.passes(&known.member))
            .map(|known| &known.bytes)
            .collect();
        wire::members(passed.into_iter())
    }
}

impl Saying {
    fn of(before: Option<&Member>, member: &Member, bytes: Bytes) -> Self {
        use MemberEventKind::{Failed, Join, Leave, Update};
        let name: &[u8] = member.name();
        let addr = member
            .addr()
            .map(|addr| addr.to_string())
            .unwrap_or_default();
        let with_addr = |text| ("INFO", line(text, &[name, b" ", addr.as_bytes()]));
        let unchanged = before.is_some_and(|before| before.status() == member.status());
        let (event, lines) = match member.status() {
            _ if unchanged => (
                Some(Update),
                vec![("INFO", line("serf: EventMemberUpdate: ", &[name]))],
            ),
            MemberStatus::Left => (Some(Leave), vec![with_addr("serf: EventMemberLeave: ")]),
            MemberStatus::Leaving => (
                None,
                vec![("DEBUG", line("serf: messageLeaveType: ", &[name]))],
            ),
            MemberStatus::Failed => {
                let (ping, suspect) = ("memberlist: Failed ping: ", "memberlist: Suspect ");
                let unreached: &[u8] = b" has failed, no acks received";
                let lines = vec![
                    ("DEBUG", line(ping, &[name, b" (timeout reached)"])),
                    ("INFO", line(suspect, &[name, unreached])),
                    with_addr("serf: EventMemberFailed: "),
                ];
                (Some(Failed), lines)
            }
            _ => (Some(Join), vec![with_addr("serf: EventMemberJoin: ")]),
        };
        Self {
            event,
            lines,
            member: bytes,
        }
    }
}

/// Which members `members-filtered` lists.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: Option<Regex>,
    pub(super) status: Option<Regex>,
    pub(super) tags: Vec<(Vec<u8>, Regex)>,
}

impl Filter {
    /// An expression as the agent reads it: bound to both ends, without a group of its own.
    pub(super) fn expression(text: &[u8]) -> Option<Regex> {
        Regex::new(&format!("^{}$", std::str::from_utf8(text).ok()?)).ok()
    }

    fn passes(&self, member: &Member) -> bool {
        let fits = |wanted: &Option<Regex>, field: &[u8]| {
            wanted.as_ref().is_none_or(|wanted| wanted.is_match(field))
        };
        fits(&self.name, member.name())
            && fits(&self.status, member.status().as_str().as_bytes())
            && self
                .tags
                .iter()
                .all(|(key, wanted)| wanted.is_match(member.tag(key).unwrap_or_default()))
    }
}

fn line(text: &str, rest: &[&[u8]]) -> Vec<u8> {
    [text.as_bytes(), &rest.concat()].concat()
}
