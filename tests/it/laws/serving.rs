//! Laws of the serving lane: one answer per request, equal to that of a naive model, for any batches, restarts and workers.
//!
//! The laws are in `fuzzed/serving_laws.rs`; here they are checked on random histories.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use serinus_core::domain::assignment;
use serinus_core::domain::routing::Role;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::counter::Counter;
use serinus_core::engine::serving::{ServingEffect, Turn};

use crate::fuzzed::serving_history::{
    MAX, Played, Step, count, effects_of, history, lane, request, routing, take,
};
use crate::fuzzed::serving_laws as laws;
use crate::scenarios::plans::MIDNIGHT;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![3 => Just(0_i64), 4 => 0_i64..40, 1 => 0_i64..400];
    let step = prop_oneof![
        6 => (wait.clone(), 0_u8..40).prop_map(|(wait, unit)| Step::Request { wait, unit }),
        9 => (wait.clone(), 0_usize..8, 0_usize..5, prop::bool::weighted(0.3), 0_u8..12).prop_map(
            |(wait, of, ask, fails, wrong)| Step::Answer { wait, of, ask, fails, wrong }
        ),
        1 => (wait.clone(), 0_usize..8).prop_map(|(wait, of)| Step::Again { wait, of }),
        1 => (wait, 0_u8..4).prop_map(|(wait, kind)| Step::Routing { wait, kind }),
    ];
    prop::collection::vec(step, 1..100)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn batch_size_never_matters(steps in steps()) {
        laws::batch_size_never_matters(&steps);
    }

    #[test]
    fn a_look_too_early_never_matters(steps in steps(), early in 1_i64..5) {
        laws::a_look_too_early_never_matters(&steps, early);
    }

    #[test]
    fn a_restart_anywhere_never_matters(
        steps in steps(),
        crashes in prop::collection::btree_set(0_usize..200, 1..6),
    ) {
        laws::a_restart_anywhere_never_matters(&steps, &crashes);
    }

    #[test]
    fn an_answer_twice_changes_nothing(steps in steps()) {
        laws::an_answer_twice_changes_nothing(&steps);
    }

    #[test]
    fn every_request_is_served_once_as_a_naive_model_says(steps in steps()) {
        laws::every_request_is_served_once_as_a_naive_model_says(&steps);
    }


    #[test]
    fn copies_to_shadows_are_shed_first_and_the_bound_holds(
        units in prop::collection::vec(0_u8..40, 1..40),
        max in 1_usize..16,
    ) {
        let mut lane = lane(max);
        let by = routing(2, 2);
        lane.turn(MIDNIGHT, Turn { routing: Some(Arc::clone(&by)), ..Turn::default() }, &mut Vec::new());
        for (offset, unit) in (1..).zip(units) {
            let before = lane.open_cases();
            let request = request(offset, unit, MIDNIGHT);
            let wanted = assignment::route(&by, request.unit_bytes()).shadows.len();
            let mut played = Vec::new();
            let turn = Turn { requests: vec![request], ..Turn::default() };
            take(&mut lane, &Played { now: MIDNIGHT, turn }, &mut played);
            let asked = |role: Role| {
                let is_it = |t: &&(Timestamp, ServingEffect)| {
                    matches!(&t.1, ServingEffect::Forward(t) if t.role == role)
                };
                played.iter().filter(is_it).count()
            };
            let answered = played.iter().filter(|p| matches!(p.1, ServingEffect::Serve(_))).count();
            let shed = count(&played, Counter::ShadowShed);
            let happened = (asked(Role::Serve), asked(Role::Shadow), shed, answered);
            let expected = if before >= max {
                (0, 0, 0, 1)
            } else if before >= max / 2 {
                (1, 0, wanted, 0)
            } else {
                (1, wanted, 0, 0)
            };
            prop_assert_eq!(happened, expected, "{} of {} were open", before, max);
            prop_assert_eq!(count(&played, Counter::OpenCasesFull), answered);
            prop_assert!(lane.open_cases() <= max);
        }
    }
}

/// The random histories reach every outcome that they are meant to test.
#[test]
fn histories_hold_every_outcome() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeSet<Counter> = BTreeSet::new();
    for _ in 0..200 {
        let steps = proptest::strategy::ValueTree::current(
            &steps().new_tree(&mut runner).expect("steps can be made"),
        );
        for (_, effect) in effects_of(&history(&steps, MAX), MAX) {
            if let ServingEffect::Count(counter) = effect {
                seen.insert(counter);
            }
        }
    }
    for counter in [
        Counter::ServedOk,
        Counter::ServedFallback,
        Counter::ServedDefault,
        Counter::ServedError,
        Counter::ShadowShed,
        Counter::AnswerLate,
        Counter::AnswerDuplicate,
        Counter::AnswerUnknown,
        Counter::AnswerMisdirected,
    ] {
        assert!(seen.contains(&counter), "no history reaches {counter:?}");
    }
}
