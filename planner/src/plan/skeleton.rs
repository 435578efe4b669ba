//! The comparison of everything that is no server: two texts in, the sections that differ out. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::ReloadReason;
use crate::syntax::text::{ConfigText, Section};

/// The first lines of the sections that differ.
#[derive(Default)]
pub(super) struct Changes {
    plain: BTreeSet<String>,
    opaque: BTreeSet<String>,
}

impl Changes {
    /// Compares sections of the same kind and name, and their order.
    pub(super) fn between(running: &ConfigText, wanted: &ConfigText) -> Self {
        let mut changes = Self::default();
        let (before, after) = (by_name(running), by_name(wanted));
        for (name, section) in &after {
            match before.get(name) {
                None => changes.add(section, false),
                Some(old) if old.skeleton().eq(section.skeleton()) => {}
                Some(old) => {
                    changes.add(section, [old, section].iter().any(|s| s.opaque().is_some()))
                }
            }
        }
        for (_, section) in before.iter().filter(|(name, _)| !after.contains_key(name)) {
            changes.add(section, false);
        }
        if changes.plain.is_empty() && changes.opaque.is_empty() {
            let mut pairs = wanted.own_sections().zip(running.own_sections());
            let moved = pairs.find(|(a, b)| a.title != b.title);
            changes
                .plain
                .extend(moved.map(|(section, _)| section.title.clone()));
        }
        changes
    }

    fn add(&mut self, section: &Section, opaque: bool) {
        let titles = if opaque {
            &mut self.opaque
        } else {
            &mut self.plain
        };
        titles.insert(section.title.clone());
    }

    /// Whether this section differs.
    pub(super) fn contains(&self, section: &Section) -> bool {
        self.plain.contains(&section.title) || self.opaque.contains(&section.title)
    }

    /// The differences as reasons for a reload.
    pub(super) fn into_reasons(self) -> impl Iterator<Item = ReloadReason> {
        let plain = self
            .plain
            .into_iter()
            .map(|section| ReloadReason::SkeletonChanged { section });
        let opaque = self
            .opaque
            .into_iter()
            .map(|section| ReloadReason::OpaqueChanged { section });
        plain.chain(opaque)
    }
}

/// Sections by kind and name; those that share both are told apart by a running number.
fn by_name(text: &ConfigText) -> BTreeMap<(String, usize), &Section> {
    let mut sections = BTreeMap::new();
    for section in text.own_sections() {
        let name = section
            .title
            .splitn(3, ' ')
            .take(2)
            .collect::<Vec<_>>()
            .join(" ");
        let number = (0..).find(|n| !sections.contains_key(&(name.clone(), *n)));
        sections.extend(number.map(|number| ((name, number), section)));
    }
    sections
}
