//! How much may be logged: whom a line is about and the time in, whether it is written out; what is left out is counted.
//! Pure.
//!
//! Members choose how often they come and go, and how many there are. What is said of them fills no disk: a name has so
//! many lines, and all names together have so many. What names nobody has as many again, so that no crowd drowns it.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use crate::bucket::{Bucket, Rate};

/// Of all names together, and of what names nobody: at once, and in the long run.
const ALL: Rate = Rate {
    per_second: 10,
    burst: 5000,
};
/// Of one name.
const NAME: Rate = Rate {
    per_second: 1,
    burst: 100,
};
/// Names that are kept before those of which nothing was said lately are forgotten.
const SWEEP: usize = 1024;

/// What was written, and what was not.
#[derive(Debug)]
pub(super) struct Limit {
    nameless: Bucket,
    all: Bucket,
    names: HashMap<String, Name>,
    /// So many names are kept before they are looked through.
    sweep: usize,
    left_out: u64,
}

#[derive(Debug)]
struct Name {
    bucket: Bucket,
    left_out: u64,
}

/// What was left out since it was last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// So many lines.
    lines: u64,
    /// The name with the most of them, and how many; none where they are no name's own fault.
    most: Option<(String, u64)>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} more lines were left out", self.lines)?;
        match &self.most {
            Some((name, lines)) => write!(f, ", {lines} of them about {name}"),
            None => Ok(()),
        }
    }
}

impl Limit {
    /// Nothing was written yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            nameless: Bucket::new(now),
            all: Bucket::new(now),
            names: HashMap::new(),
            sweep: SWEEP,
            left_out: 0,
        }
    }

    /// Whether a line about that name, or about nobody, is written.
    pub(super) fn admits(&mut self, name: Option<&str>, now: Instant) -> bool {
        let admitted = match name {
            None => take(&mut self.nameless, ALL, now),
            Some(name) => self.admits_name(name, now),
        };
        self.left_out += u64::from(!admitted);
        admitted
    }

    fn admits_name(&mut self, name: &str, now: Instant) -> bool {
        if self.all.opens_at(ALL, now) > now {
            return false;
        }
        if !self.names.contains_key(name) {
            self.make_room(now);
            let bucket = Bucket::new(now);
            let fresh = Name {
                bucket,
                left_out: 0,
            };
            self.names.insert(name.to_owned(), fresh);
        }
        let admitted = self.names.get_mut(name).is_some_and(|name| {
            let admitted = take(&mut name.bucket, NAME, now);
            name.left_out += u64::from(!admitted);
            admitted
        });
        admitted && take(&mut self.all, ALL, now)
    }

    /// Forgets the names that might as well be new ones; those that are left have cost a line of all each.
    fn make_room(&mut self, now: Instant) {
        if self.names.len() < self.sweep {
            return;
        }
        self.names
            .retain(|_, name| name.left_out > 0 || !name.bucket.is_full(now));
        self.sweep = SWEEP.max(self.names.len() * 2);
    }

    /// So many lines were admitted, and lost all the same.
    pub(super) fn lost(&mut self, lines: u64) {
        self.left_out += lines;
    }

    /// What was left out since this was last asked; none where nothing was.
    pub(super) fn left_out(&mut self) -> Option<LeftOut> {
        let lines = std::mem::take(&mut self.left_out);
        let guilty = self.names.iter_mut().filter(|(_, name)| name.left_out > 0);
        let counts =
            guilty.map(|(name, count)| (name.clone(), std::mem::take(&mut count.left_out)));
        let most = counts.max_by_key(|(_, lines)| *lines);
        (lines > 0).then_some(LeftOut { lines, most })
    }
}

/// Takes one, where there is one.
fn take(bucket: &mut Bucket, rate: Rate, now: Instant) -> bool {
    let is_open = bucket.opens_at(rate, now) <= now;
    if is_open {
        bucket.take(rate, now);
    }
    is_open
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whoever says how much about how many: it is bounded for each and in all, and nothing goes uncounted.
        #[test]
        fn lines_are_bounded_in_all_and_for_each_name(
            lines in prop::collection::vec((0_u16..200, 0_u64..20, 1_u16..300), 0..100),
        ) {
            let start = Instant::now();
            let (mut limit, mut now) = (Limit::new(start), start);
            let (mut said, mut of_name, mut left_out) = (0_u64, HashMap::<u16, u64>::new(), 0);
            for (name, pause, count) in lines {
                now += Duration::from_millis(pause);
                for _ in 0..count {
                    let admitted = limit.admits(Some(&format!("s{name}")), now);
                    said += u64::from(admitted);
                    left_out += u64::from(!admitted);
                    *of_name.entry(name).or_default() += u64::from(admitted);
                }
                let seconds = (now - start).as_secs() + 1;
                prop_assert!(said <= 5000 + 10 * seconds);
                prop_assert!(of_name[&name] <= 100 + seconds);
            }
            prop_assert!(limit.admits(None, now), "what names nobody is not crowded out");
            let told = limit.left_out().map_or(0, |left_out| left_out.lines);
            prop_assert_eq!(told, left_out);
            prop_assert_eq!(limit.left_out(), None);
        }
    }

    #[test]
    fn a_hundred_thousand_names_and_a_name_a_hundred_thousand_times() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let mut said = 0;
        for number in 0..100_000_u64 {
            let now = start + Duration::from_millis(number);
            said += u64::from(limit.admits(Some(&format!("s{number}")), now));
        }
        assert!((5900..=6010).contains(&said), "{said}");
        assert!(limit.names.len() <= 6010, "{}", limit.names.len());
        let left_out = limit.left_out().unwrap();
        assert_eq!((left_out.lines, left_out.most), (100_000 - said, None));

        let mut limit = Limit::new(start);
        let mut said = 0;
        for number in 0..100_000_u64 {
            let now = start + Duration::from_millis(number);
            said += u64::from(limit.admits(Some("nodes/s1"), now));
        }
        assert!((190..=200).contains(&said), "{said}");
        let left_out = limit.left_out().unwrap().to_string();
        let rest = 100_000 - said;
        let whole = format!("{rest} more lines were left out, {rest} of them about nodes/s1");
        assert_eq!(left_out, whole);
    }
}
