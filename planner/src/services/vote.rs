//! What holds where members say different things of one service: their words in, the one that holds and a dispute out.

use std::collections::BTreeMap;
use std::fmt;

/// So many members are named for each word.
const NAMED: usize = 3;

/// Members that say different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// What they disagree about, `host`.
    pub about: &'static str,
    /// Each word with who says it, the one that holds first.
    words: Vec<(String, Vec<String>)>,
}

/// The word that more say, of such the smaller one; none where nobody says anything.
pub(super) fn elect<'a, T: Ord + fmt::Display>(
    about: &'static str,
    words: impl IntoIterator<Item = (&'a str, T)>,
) -> Option<(T, Option<Dispute>)> {
    let mut said: BTreeMap<T, Vec<String>> = BTreeMap::new();
    for (member, word) in words {
        said.entry(word).or_default().push(member.to_owned());
    }
    let mut said: Vec<(T, Vec<String>)> = said.into_iter().collect();
    // Stable: of those that as many say the smaller one stays first.
    said.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    let shown = said
        .iter()
        .map(|(word, members)| (word.to_string(), members.clone()));
    let dispute = (said.len() > 1).then(|| Dispute {
        about,
        words: shown.collect(),
    });
    let (word, _) = said.into_iter().next()?;
    Some((word, dispute))
}

impl fmt::Display for Dispute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its members disagree about its {}: ", self.about)?;
        for (at, (word, members)) in self.words.iter().enumerate() {
            let named = members.iter().take(NAMED).cloned();
            let named = named.collect::<Vec<_>>().join(", ");
            let more = match members.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let holds = if at == 0 { ", which holds" } else { "" };
            let comma = if at == 0 { "" } else { "; " };
            write!(f, "{comma}{word} by {named}{more}{holds}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_more_say_holds_and_of_such_the_smaller() {
        let elected = |words: &[(&'static str, &'static str)]| {
            let (word, dispute) = elect("host", words.iter().copied()).unwrap();
            (word, dispute.map(|it| it.to_string()))
        };
        assert_eq!(elected(&[("m1", "b"), ("m2", "b")]), ("b", None));
        let (word, dispute) = elected(&[("m1", "b"), ("m2", "a"), ("m3", "b")]);
        assert_eq!(word, "b");
        assert_eq!(
            dispute.unwrap(),
            "its members disagree about its host: b by m1, m3, which holds; a by m2"
        );
        assert_eq!(elected(&[("m1", "b"), ("m2", "a")]).0, "a");
        assert!(elect::<&str>("host", []).is_none());
    }
}
