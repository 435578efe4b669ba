use proptest::prelude::*;

use super::*;

const START: SystemTime = SystemTime::UNIX_EPOCH;

fn at(seconds: u64) -> SystemTime {
    START + Duration::from_secs(seconds)
}

fn alive(name: &str) -> Member {
    Member::builder(name).build()
}

fn with(name: &str, status: MemberStatus) -> Member {
    Member::builder(name).status(status).build()
}

fn presences(snapshot: &Snapshot) -> Vec<(String, Presence)> {
    snapshot
        .entries()
        .iter()
        .map(|e| (e.member.name().to_string(), e.presence))
        .collect()
}

fn listed(name: &str) -> (String, Presence) {
    (name.into(), Presence::Listed)
}

fn absent(name: &str, since: u64) -> (String, Presence) {
    (name.into(), Presence::Absent { since: at(since) })
}

fn reaped(name: &str, since: u64) -> (String, Presence) {
    (name.into(), Presence::Reaped { since: at(since) })
}

fn first(members: Vec<Member>) -> Snapshot {
    Snapshot::default()
        .merge(members, Continuity::Fresh, at(1))
        .0
}

#[test]
fn members_stand_in_the_order_of_their_names_each_once() {
    let again = Member::builder("b").tag("n", "2").build();
    let snapshot = first(vec![alive("c"), alive("b"), alive("a"), again.clone()]);
    assert_eq!(
        presences(&snapshot),
        [listed("a"), listed("b"), listed("c")]
    );
    assert_eq!(snapshot.get("b").unwrap().member, again);
    assert_eq!(snapshot.get("d"), None);
    assert_eq!(snapshot.read_at(), Some(at(1)));
}

#[test]
fn the_same_answer_is_no_change_but_counts_as_read() {
    let before = first(vec![alive("a"), alive("b")]);
    let (after, changes) =
        before.merge(vec![alive("b"), alive("a")], Continuity::Continuous, at(2));
    assert_eq!(changes, []);
    assert_eq!(after.revision(), before.revision());
    assert_eq!(after.read_at(), Some(at(2)));
    assert!(Arc::ptr_eq(&after.entries, &before.entries));
}

#[test]
fn a_status_or_a_tag_is_a_change_of_that_name() {
    use MemberStatus::{Alive, Failed, Leaving, Left};
    let mut snapshot = first(vec![alive("a"), alive("s")]);
    let mut step = |member: Member| {
        let (next, changes) =
            snapshot.merge(vec![alive("a"), member], Continuity::Continuous, at(2));
        assert_eq!(next.revision(), snapshot.revision() + 1);
        snapshot = next;
        changes
    };
    assert_eq!(
        step(with("s", Leaving)),
        [Change::Leaving(with("s", Leaving))]
    );
    assert_eq!(step(with("s", Left)), [Change::Left(with("s", Left))]);
    assert_eq!(step(with("s", Alive)), [Change::Joined(with("s", Alive))]);
    assert_eq!(step(with("s", Failed)), [Change::Failed(with("s", Failed))]);
    let after = Member::builder("s")
        .status(Failed)
        .tag("role", "web")
        .build();
    let updated = Change::Updated {
        before: with("s", Failed),
        after: after.clone(),
    };
    assert_eq!(step(after), [updated]);
}

#[test]
fn who_disappears_from_a_continuous_session_was_reaped() {
    let before = first(vec![alive("a"), with("s", MemberStatus::Failed)]);
    let (after, changes) = before.merge(vec![alive("a")], Continuity::Continuous, at(5));
    assert_eq!(changes, [Change::Reaped(with("s", MemberStatus::Failed))]);
    assert_eq!(presences(&after), [listed("a"), reaped("s", 5)]);
    let (back, changes) = after.merge(vec![alive("a"), alive("s")], Continuity::Continuous, at(6));
    assert_eq!(changes, [Change::Joined(alive("s"))]);
    assert_eq!(presences(&back), [listed("a"), listed("s")]);
}

#[test]
fn an_agent_that_knows_only_itself_makes_all_others_absent_and_nobody_reaped() {
    let before = first(vec![
        alive("a"),
        alive("s1"),
        with("s2", MemberStatus::Failed),
    ]);
    let (fresh, changes) = before.merge(vec![alive("a")], Continuity::Fresh, at(5));
    assert_eq!(
        changes,
        [
            Change::Absent(alive("s1")),
            Change::Absent(with("s2", MemberStatus::Failed))
        ]
    );
    assert_eq!(
        presences(&fresh),
        [listed("a"), absent("s1", 5), absent("s2", 5)]
    );
    assert_eq!(
        fresh.get("s2").unwrap().member.status(),
        MemberStatus::Failed
    );
    let (later, changes) =
        fresh.merge(vec![alive("a"), alive("s1")], Continuity::Continuous, at(6));
    let returned = Change::Returned {
        before: alive("s1"),
        after: alive("s1"),
    };
    assert_eq!(changes, [returned]);
    assert_eq!(
        presences(&later),
        [listed("a"), listed("s1"), absent("s2", 5)]
    );
    // Seen in this session and then gone: reaped. Not seen in it yet: still only absent.
    let (last, changes) = later.merge(vec![alive("a")], Continuity::Continuous, at(7));
    assert_eq!(changes, [Change::Reaped(alive("s1"))]);
    assert_eq!(
        presences(&last),
        [listed("a"), reaped("s1", 7), absent("s2", 5)]
    );
}

#[test]
fn an_empty_answer_reaps_nobody() {
    let before = first(vec![alive("a"), alive("b")]);
    let (after, _) = before.merge(vec![], Continuity::Continuous, at(5));
    assert_eq!(presences(&after), [absent("a", 5), absent("b", 5)]);
    let (after, _) = after.merge(vec![alive("a")], Continuity::Continuous, at(6));
    assert_eq!(presences(&after), [listed("a"), absent("b", 5)]);
}

#[test]
fn a_restored_snapshot_is_absent_until_listed() {
    let restored = Snapshot::restored([alive("b"), alive("a")], at(0));
    assert_eq!(presences(&restored), [absent("a", 0), absent("b", 0)]);
    assert_eq!((restored.revision(), restored.read_at()), (0, None));
    assert_eq!(*restored.agent(), AgentState::NeverReached);
    let (after, _) = restored.merge(vec![alive("a")], Continuity::Fresh, at(1));
    assert_eq!(presences(&after), [listed("a"), absent("b", 0)]);
}

#[test]
fn who_is_gone_for_a_day_is_forgotten() {
    let (before, _) =
        first(vec![alive("a"), alive("s")]).merge(vec![alive("a")], Continuity::Continuous, at(10));
    let day = 24 * 60 * 60;
    let (kept, changes) = before.merge(vec![alive("a")], Continuity::Continuous, at(9 + day));
    assert_eq!((kept.entries().len(), changes), (2, vec![]));
    let (gone, changes) = kept.merge(vec![alive("a")], Continuity::Continuous, at(10 + day));
    assert_eq!(changes, [Change::Forgotten(alive("s"))]);
    assert_eq!(presences(&gone), [listed("a")]);
    assert_eq!(gone.revision(), kept.revision() + 1);
}

#[test]
fn the_longest_gone_are_forgotten_first_and_1024_are_always_kept() {
    let mut snapshot = first(vec![alive("a")]);
    for number in 0..1030_u64 {
        let member = alive(&format!("s{number:04}"));
        snapshot = snapshot
            .merge(vec![alive("a"), member], Continuity::Continuous, at(number))
            .0;
    }
    snapshot = snapshot
        .merge(vec![alive("a")], Continuity::Continuous, at(1030))
        .0;
    assert_eq!(snapshot.entries().len(), 1 + 1024);
    assert_eq!(snapshot.entries()[1].member.name(), "s0006");
}

#[test]
fn of_those_that_went_together_as_many_are_forgotten_as_must_be() {
    let crowd: Vec<_> = (0..2000)
        .map(|number| alive(&format!("s{number:04}")))
        .collect();
    let mut snapshot = Snapshot::restored(crowd, at(0));
    snapshot.most_listed = 1;
    let (after, changes) = snapshot.merge(vec![alive("a")], Continuity::Fresh, at(1));
    assert_eq!(after.entries().len(), 1 + 1024);
    let forgotten = changes
        .iter()
        .filter(|change| matches!(change, Change::Forgotten(_)))
        .count();
    assert_eq!(forgotten, 2000 - 1024);
}

fn answers() -> impl Strategy<Value = Vec<(Vec<Member>, Continuity)>> {
    use MemberStatus::{Alive, Failed, Leaving, Left};
    let status = prop::sample::select(vec![Alive, Leaving, Left, Failed]);
    let member = ("[a-f]", status, "[xy]")
        .prop_map(|(name, status, tag)| Member::builder(name).status(status).tag("t", tag).build());
    let kind = prop::sample::select(vec![Continuity::Fresh, Continuity::Continuous]);
    prop::collection::vec((prop::collection::vec(member, 0..8), kind), 1..12)
}

proptest! {
    #[test]
    fn any_answers_keep_the_order_and_count_exactly_the_changes(answers in answers()) {
        let mut snapshot = Snapshot::default();
        for (second, (answer, kind)) in (0..).zip(answers) {
            let (next, changes) = snapshot.merge(answer.clone(), kind, at(second));
            prop_assert!(next.entries().is_sorted_by(|a, b| a.member.name() < b.member.name()));
            prop_assert_eq!(next.entries() == snapshot.entries(), changes.is_empty());
            prop_assert_eq!(next.revision() - snapshot.revision(), u64::from(!changes.is_empty()));
            prop_assert!(changes.is_sorted_by(|a, b| a.member().name() < b.member().name()));
            for entry in next.entries() {
                let in_answer = answer.iter().rfind(|member| member.name() == entry.member.name());
                prop_assert_eq!(entry.presence == Presence::Listed, in_answer.is_some());
                if let Some(member) = in_answer {
                    prop_assert_eq!(&entry.member, member);
                }
            }
            for entry in snapshot.entries() {
                prop_assert!(next.get(entry.member.name()).is_some(), "nobody is forgotten so soon");
            }
            if kind == Continuity::Fresh || answer.is_empty() {
                prop_assert!(!changes.iter().any(|change| matches!(change, Change::Reaped(_))));
            }
            let merged_again = next.merge(answer.clone(), Continuity::Continuous, at(second));
            prop_assert_eq!(merged_again.1, vec![]);
            snapshot = next;
        }
    }
}
