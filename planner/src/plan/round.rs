//! The steps of a plan in, those that are carried out in one go out. Pure.
//!
//! A plan may have thousands of steps, and the world does not wait for their end. After each round HAProxy is read and
//! planned for anew.

use crate::model::{Action, Step};

/// Takes the first round out of more than `most` steps: whoever leaves or is to get no more requests goes before all who
/// come, and the steps of one server that are neighbours stay together. Fewer steps are one round, as they are.
///
/// That others serve when a server goes is the guard's business: it lets nobody go before HAProxy was read to run them.
pub fn first_round(steps: &mut Vec<Step>, most: usize) -> Vec<Step> {
    if steps.len() <= most {
        return std::mem::take(steps);
    }
    let all = std::mem::take(steps);
    let same = |a: &Step, b: &Step| (&a.backend, &a.server) == (&b.backend, &b.server);
    let (goes, comes): (Vec<&[Step]>, Vec<&[Step]>) = all
        .chunk_by(same)
        .partition(|group| group.iter().all(takes_out));
    let mut round = Vec::new();
    for group in goes.into_iter().chain(comes) {
        if round.len() < most {
            round.extend_from_slice(group);
        } else {
            steps.extend_from_slice(group);
        }
    }
    round
}

fn takes_out(step: &Step) -> bool {
    match &step.action {
        Action::Drain { .. } | Action::Maint | Action::Shut | Action::Agent { asked: false } => {
            true
        }
        Action::Weight(weight) => weight.get() == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{BackendName, ServerName, Weight};

    fn step(server: u8, action: u8) -> Step {
        let check = true;
        let actions = [
            Action::Add {
                addr: ([10, 0, 0, server], 80).into(),
                options: Vec::new(),
            },
            Action::Ready { check },
            Action::Weight(Weight::DEFAULT),
            Action::Weight(Weight::ZERO),
            Action::Maint,
            Action::Shut,
            Action::Delete,
        ];
        Step {
            backend: BackendName::new("b").unwrap(),
            server: ServerName::new(format!("s{server}")).unwrap(),
            action: actions[usize::from(action) % actions.len()].clone(),
        }
    }

    proptest! {
        #[test]
        fn no_step_is_lost_or_done_twice(
            steps in prop::collection::vec((0..6_u8, 0..7_u8), 0..60), most in 1..20_usize
        ) {
            let steps: Vec<Step> = steps.into_iter().map(|(server, action)| step(server, action)).collect();
            let mut rest = steps.clone();
            let (mut done, mut rounds) = (Vec::new(), 0);
            while !rest.is_empty() {
                let round = first_round(&mut rest, most);
                prop_assert!(!round.is_empty());
                done.extend(round);
                rounds += 1;
                prop_assert!(rounds <= 60);
            }
            let sorted = |steps: &[Step]| {
                let mut words: Vec<String> = steps.iter().map(ToString::to_string).collect();
                words.sort();
                words
            };
            prop_assert_eq!(sorted(&done), sorted(&steps));
        }
    }

    #[test]
    fn few_steps_are_one_round_in_their_order() {
        let steps = vec![step(1, 0), step(1, 1), step(2, 4)];
        let mut rest = steps.clone();
        assert_eq!(first_round(&mut rest, 3), steps);
        assert_eq!(rest, []);
    }

    #[test]
    fn of_many_those_that_leave_are_first_and_a_server_stays_whole() {
        let mut rest = vec![
            step(1, 0),
            step(1, 1),
            step(2, 0),
            step(2, 1),
            step(3, 4),
            step(3, 5),
        ];
        let round = first_round(&mut rest, 3);
        assert_eq!(round, [step(3, 4), step(3, 5), step(1, 0), step(1, 1)]);
        assert_eq!(rest, [step(2, 0), step(2, 1)]);
    }
}
