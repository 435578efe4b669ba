//! What a line of the agent's log hints at: any bytes in, a hint or nothing out.
//!
//! The log is no interface and its text is hostile: names of members, which any node of the
//! cluster chooses, stand in it unquoted and may hold line breaks. So a line may cause a fetch or
//! a probe, and never a change by itself.

use bstr::{BStr, ByteSlice};

/// What a line hints at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint<'a> {
    /// The members may have changed.
    Membership,
    /// The member of that name does not answer the agent, or its neighbours.
    Suspicion(&'a BStr),
}

/// Lines of `serf/serf.go` that come with a change that `members` already shows. The intents are
/// among them because a change of status by an intent alone (`alive` to `leaving` and back) causes
/// no other line.
const MEMBERSHIP: [&[u8]; 3] = [b"EventMember", b"messageLeaveType", b"messageJoinType"];

/// Lines of `memberlist/state.go` around the name of a member that does not answer.
const SUSPICIONS: [(&[u8], &[u8]); 3] = [
    (b"Failed ping: ", b" (timeout reached)"),
    (b"Failed UDP ping: ", b" (timeout reached)"),
    (b"Suspect ", b" has failed, no acks received"),
];

/// Reads a line: `date time [LEVEL] component: text`.
pub(crate) fn hint(line: &[u8]) -> Option<Hint<'_>> {
    let (_, message) = line.split_once_str("] ")?;
    if let Some(text) = message.strip_prefix(b"serf: ") {
        MEMBERSHIP
            .iter()
            .any(|start| text.starts_with(start))
            .then_some(Hint::Membership)
    } else {
        let text = message.strip_prefix(b"memberlist: ")?;
        let name = SUSPICIONS
            .iter()
            .find_map(|(before, after)| text.strip_prefix(*before)?.strip_suffix(*after))?;
        Some(Hint::Suspicion(name.as_bstr()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_that_come_with_a_change_are_hints() {
        for line in [
            "2026/11/23 16:07:50 [INFO] serf: EventMemberJoin: a 127.0.0.12",
            "2026/11/23 16:07:50 [INFO] serf: EventMemberLeave (forced): a 127.0.0.12",
            "2026/11/23 16:07:50 [INFO] serf: EventMemberReap: a",
            "2026/11/23 16:07:52 [DEBUG] serf: messageLeaveType: a",
            "2026/11/23 16:07:51 [DEBUG] serf: messageJoinType: a",
        ] {
            assert_eq!(hint(line.as_bytes()), Some(Hint::Membership), "{line}");
        }
    }

    #[test]
    fn other_lines_are_not() {
        for line in [
            "2026/11/23 16:07:51 [DEBUG] serf: messageUserEventType: EventMemberJoin",
            "2026/11/23 16:07:51 [INFO] agent.ipc: Accepted client: 127.0.0.1:60820",
            "2026/11/23 16:07:51 [DEBUG] memberlist: Stream connection from=127.0.0.1:1",
            "serf: EventMemberJoin: a",
            "",
        ] {
            assert_eq!(hint(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn suspicions_name_the_member_whatever_its_name() {
        let cases: [(&[u8], &[u8]); 4] = [
            (
                b"x [DEBUG] memberlist: Failed ping: s2 (timeout reached)",
                b"s2",
            ),
            (
                b"x [DEBUG] memberlist: Failed UDP ping: s2 (timeout reached)",
                b"s2",
            ),
            (
                b"x [INFO] memberlist: Suspect s2 has failed, no acks received",
                b"s2",
            ),
            (
                b"x [INFO] memberlist: Suspect a] \xff\n has failed, no acks received",
                b"a] \xff\n",
            ),
        ];
        for (line, name) in cases {
            assert_eq!(hint(line), Some(Hint::Suspicion(name.as_bstr())));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = hint(&line);
            let _ = hint(&[b"x [INFO] memberlist: Failed ping: ", &line[..]].concat());
        }
    }
}
