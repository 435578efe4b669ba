//! Which of the addresses of a name to take: addresses and a way to try one in, the first that answers out.
//!
//! An address that swallows every packet costs a quarter of a second, not the time for the whole connection. Unlike
//! in RFC 8305 an attempt counts only once the agent has shaken hands there: a port that takes connections and says
//! nothing, such as that of a proxy whose agent is gone, holds up no other address either.
//!
//! Source: RFC 8305, "Happy Eyeballs Version 2", sections 4 "Sorting Addresses" and 5 "Connection Attempts".

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;

/// How long after an attempt the next one begins, unless it has failed before.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// More addresses of one name are not tried.
const MOST_ADDRESSES: usize = 32;

/// Each address once, the families in turn, beginning with that of the first; within a family in the resolver's order.
pub(crate) fn in_turn(resolved: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut families: [Vec<SocketAddr>; 2] = [Vec::new(), Vec::new()];
    let mut first_is_v6 = None;
    for addr in resolved {
        let is_first = *first_is_v6.get_or_insert(addr.is_ipv6()) == addr.is_ipv6();
        let [of_first, of_other] = &mut families;
        let family = if is_first { of_first } else { of_other };
        if !family.contains(&addr) && family.len() < MOST_ADDRESSES {
            family.push(addr);
        }
    }
    let [of_first, of_other] = families;
    let mut of_other = of_other.into_iter();
    let mut turns = Vec::new();
    for addr in of_first {
        turns.push(addr);
        turns.extend(of_other.next());
    }
    turns.extend(of_other);
    turns.truncate(MOST_ADDRESSES);
    turns
}

/// Tries the addresses in this order and gives what the first success gives; none where all fail.
///
/// The next attempt begins when one has failed, or a quarter of a second after the last one began; earlier ones go on
/// meanwhile, until one succeeds. `failed` hears of every failure.
pub(crate) async fn race<T, E, F>(
    addrs: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
    mut failed: impl FnMut(SocketAddr, E),
) -> Option<T>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = addrs.into_iter();
    let mut attempts = FuturesUnordered::new();
    loop {
        if let Some(addr) = waiting.next() {
            let attempt = attempt(addr);
            attempts.push(async move { (addr, attempt.await) });
        }
        let ended = if waiting.len() == 0 {
            attempts.next().await
        } else {
            let Ok(ended) = timeout(ATTEMPT_DELAY, attempts.next()).await else {
                continue;
            };
            ended
        };
        match ended? {
            (_, Ok(success)) => return Some(success),
            (addr, Err(error)) => failed(addr, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;
    use tokio::time::{Instant, sleep};

    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn addrs(count: u8) -> Vec<SocketAddr> {
        (1..=count)
            .map(|last| SocketAddr::from(([192, 0, 2, last], 7373)))
            .collect()
    }

    /// What an attempt does, and after how many milliseconds.
    #[derive(Clone, Copy)]
    enum Does {
        Answer(u64),
        Fail(u64),
        Hang,
    }

    /// The address that wins, after how many milliseconds, and when each was tried.
    async fn run(script: &[Does]) -> (Option<SocketAddr>, u128, Vec<u128>) {
        let began = Instant::now();
        let tried = RefCell::new(Vec::new());
        let all = addrs(u8::try_from(script.len()).unwrap());
        let attempt = |at: SocketAddr| {
            tried.borrow_mut().push(began.elapsed().as_millis());
            let does = script[all.iter().position(|one| *one == at).unwrap()];
            async move {
                match does {
                    Does::Answer(after) => {
                        sleep(Duration::from_millis(after)).await;
                        Ok(at)
                    }
                    Does::Fail(after) => {
                        sleep(Duration::from_millis(after)).await;
                        Err(())
                    }
                    Does::Hang => std::future::pending().await,
                }
            }
        };
        let winner = race(all.clone(), attempt, |_, ()| {}).await;
        (winner, began.elapsed().as_millis(), tried.into_inner())
    }

    #[test]
    fn families_take_turns_and_nobody_is_tried_twice() {
        let resolved = [
            "[2001:db8::1]:1",
            "[2001:db8::2]:1",
            "[2001:db8::1]:1",
            "192.0.2.1:1",
            "[2001:db8::3]:1",
            "192.0.2.2:1",
        ];
        let turns = [
            "[2001:db8::1]:1",
            "192.0.2.1:1",
            "[2001:db8::2]:1",
            "192.0.2.2:1",
            "[2001:db8::3]:1",
        ];
        assert_eq!(in_turn(resolved.map(addr)), turns.map(addr));
        let reversed = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"];
        let turns = ["192.0.2.1:1", "[2001:db8::1]:1", "192.0.2.2:1"];
        assert_eq!(in_turn(reversed.map(addr)), turns.map(addr));
    }

    proptest! {
        #[test]
        fn turns_are_bounded_unique_and_begin_with_the_first(
            resolved in prop::collection::vec((any::<bool>(), 1..60_u8), 1..100)
        ) {
            let resolved: Vec<SocketAddr> = resolved
                .into_iter()
                .map(|(v6, last)| match v6 {
                    true => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, u16::from(last)], 1)),
                    false => SocketAddr::from(([10, 0, 0, last], 1)),
                })
                .collect();
            let turns = in_turn(resolved.clone());
            prop_assert_eq!(turns[0], resolved[0]);
            prop_assert!(turns.len() <= MOST_ADDRESSES);
            let mut known = resolved;
            known.sort();
            known.dedup();
            let mut unique = turns.clone();
            unique.sort();
            unique.dedup();
            prop_assert_eq!(unique.len(), turns.len());
            prop_assert_eq!(turns.len(), known.len().min(MOST_ADDRESSES));
            prop_assert!(turns.iter().all(|turn| known.contains(turn)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_costs_a_quarter_of_a_second() {
        let (winner, after, tried) = run(&[Does::Hang, Does::Answer(1)]).await;
        assert_eq!((winner, after), (Some(addrs(2)[1]), 251));
        assert_eq!(tried, [0, 250]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_costs_what_it_took_to_fail() {
        let (winner, after, tried) = run(&[Does::Fail(3), Does::Fail(0), Does::Answer(1)]).await;
        assert_eq!((winner, after), (Some(addrs(3)[2]), 4));
        assert_eq!(tried, [0, 3, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_may_still_be_the_first() {
        let (winner, after, tried) = run(&[Does::Answer(400), Does::Hang, Does::Answer(1)]).await;
        assert_eq!((winner, after), (Some(addrs(3)[0]), 400));
        assert_eq!(tried, [0, 250]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_answers_at_once_is_the_only_one_tried() {
        let (winner, after, tried) = run(&[Does::Answer(1), Does::Answer(0)]).await;
        assert_eq!((winner, after), (Some(addrs(2)[0]), 1));
        assert_eq!(tried, [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_each_was_tried_and_heard_of() {
        let failed = RefCell::new(Vec::new());
        let winner: Option<()> = race(
            addrs(3),
            |at| async move { Err(at.to_string()) },
            |at, error| {
                assert_eq!(at.to_string(), error);
                failed.borrow_mut().push(at);
            },
        )
        .await;
        assert_eq!(winner, None);
        assert_eq!(failed.into_inner(), addrs(3));
        assert_eq!(run(&[]).await.0, None);
    }
}
