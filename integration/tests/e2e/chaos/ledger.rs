//! The reloads that what was played may cause: causes and the history in, what goes beyond them out. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a reload may be for, in the words of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A text that nobody can know any more: another hand's, or one that was not kept.
    UnknownText,
    /// Another setting.
    Setting,
}

impl Cause {
    const ALL: [Self; 2] = [Self::UnknownText, Self::Setting];

    /// Whether this is what a reason says.
    fn is_told_by(self, reason: &str) -> bool {
        match self {
            Self::UnknownText => reason == "it is not known which file the worker runs",
            Self::Setting => reason == "backend nodes: changed in more than its servers",
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::UnknownText => "unknown text",
            Self::Setting => "setting",
        }
    }
}

/// So many reloads each cause may have brought about so far.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<Cause, usize>);

impl Ledger {
    /// One more reload may follow.
    pub(super) fn allow(&mut self, cause: Cause) {
        *self.0.entry(cause).or_default() += 1;
    }

    pub(super) fn allowed(&self) -> usize {
        self.0.values().sum()
    }

    /// What the reloads of a history say that nothing played has caused, or more often than that; a reload that did not come
    /// about is none.
    pub(super) fn untrue(&self, history: &[Value]) -> Vec<String> {
        let mut told: BTreeMap<Cause, usize> = BTreeMap::new();
        let mut untrue = Vec::new();
        let reloads = history.iter().filter(|entry| entry["how"] == "reload");
        for entry in reloads {
            let reasons: Vec<&str> = strings(entry, "reasons").collect();
            // That another hand's text was kept is said beside the reason.
            let hands = |reason: &&str| !reason.starts_with("somebody else had changed the file");
            for reason in reasons.iter().copied().filter(hands) {
                match Cause::ALL.iter().find(|cause| cause.is_told_by(reason)) {
                    Some(cause) => *told.entry(*cause).or_default() += 1,
                    None => untrue.push(format!("{reason:?} in {entry}")),
                }
            }
        }
        for (cause, times) in told {
            let allowed = self.0.get(&cause).copied().unwrap_or_default();
            if times > allowed {
                let cause = cause.as_str();
                untrue.push(format!(
                    "{times} for {cause}, of which {allowed} were played"
                ));
            }
        }
        untrue
    }
}

/// The texts of a list in an entry.
pub(super) fn strings<'a>(entry: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    let list = entry[field].as_array();
    list.into_iter().flatten().filter_map(Value::as_str)
}

#[test]
fn a_reason_that_nothing_has_caused_is_untrue_and_so_is_one_too_many() {
    let reload = |reason: &str| serde_json::json!({"how": "reload", "reasons": [reason]});
    let unknown = reload("it is not known which file the worker runs");
    let [once, twice] = [&[unknown.clone()][..], &[unknown.clone(), unknown]];
    let mut ledger = Ledger::default();
    assert_eq!(ledger.untrue(once).len(), 1);
    ledger.allow(Cause::UnknownText);
    assert_eq!(ledger.untrue(once), [""; 0]);
    assert_eq!(ledger.untrue(twice).len(), 1);
    assert_eq!(
        ledger.untrue(&[reload("nodes: 101 retired servers")]).len(),
        1
    );
    let write = serde_json::json!({"how": "write", "reasons": ["whatever"]});
    assert_eq!(ledger.untrue(&[write]), [""; 0]);
}
