//! The texts that a worker may have started with, by their stamps. What is kept here needs no disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::stamp::Stamp;
use crate::syntax::{ConfigText, Scope};

/// Texts by their stamps, each read at most once.
#[derive(Debug, Default)]
pub struct KnownTexts(BTreeMap<Stamp, Known>);

#[derive(Debug)]
struct Known {
    text: Arc<str>,
    parsed: Option<Arc<ConfigText>>,
}

impl KnownTexts {
    /// Takes a text with its own stamp.
    pub fn insert(&mut self, stamp: &Stamp, text: Arc<str>) {
        let parsed = None;
        self.0
            .entry(stamp.clone())
            .or_insert(Known { text, parsed });
    }

    /// The text with that stamp.
    pub fn text(&self, stamp: &Stamp) -> Option<&Arc<str>> {
        Some(&self.0.get(stamp)?.text)
    }

    /// The same, read.
    pub fn parsed(&mut self, stamp: &Stamp, scope: &Scope) -> Option<Arc<ConfigText>> {
        let known = self.0.get_mut(stamp)?;
        let parsed = known
            .parsed
            .get_or_insert_with(|| Arc::new(scope.read(&known.text)));
        Some(Arc::clone(parsed))
    }

    /// Reads all anew when they are asked for: something else counts as theirs, or they inherit from something else.
    pub fn reread(&mut self) {
        for known in self.0.values_mut() {
            known.parsed = None;
        }
    }

    /// Forgets all but these.
    pub fn keep(&mut self, stamps: &[&Stamp]) {
        self.0.retain(|stamp, _| stamps.contains(&stamp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_known_until_nobody_can_run_them() {
        let (a, b) = (Stamp::of_blank("a"), Stamp::of_blank("b"));
        let mut texts = KnownTexts::default();
        texts.insert(&a, "backend x\n  server s1 10.0.0.1:80\n".into());
        texts.insert(&b, "backend y\n".into());
        let scope = Scope::default();
        let names =
            |text: &ConfigText| text.backends().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&texts.parsed(&a, &scope).unwrap()), ["x"]);
        let once = texts.parsed(&a, &scope).unwrap();
        assert!(Arc::ptr_eq(&once, &texts.parsed(&a, &scope).unwrap()));
        texts.reread();
        assert!(!Arc::ptr_eq(&once, &texts.parsed(&a, &scope).unwrap()));
        texts.keep(&[&b]);
        assert!(texts.text(&a).is_none() && texts.parsed(&a, &scope).is_none());
        assert!(texts.text(&b).is_some());
    }
}
