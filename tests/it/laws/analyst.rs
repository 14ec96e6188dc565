//! Laws of the analyst lane and the judge: batches, restarts and repetitions change nothing.
//!
//! The laws are in `fuzzed/analyst_laws.rs`; here they are checked on random histories.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use serinus_core::domain::label::Label;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::accumulator::EvidenceAccumulator;
use serinus_core::engine::analyst::io::{Event, Planned};
use serinus_core::engine::analyst::score::Truth;
use serinus_core::engine::judge::command::{Parsed, Verb};

use crate::fuzzed::analyst_history::{
    LONG_AGO_MS, MarkStep, Record, Step, effects_of, ending, history, last_sums, planned,
    prediction, revised,
};
use crate::fuzzed::analyst_laws as laws;
use crate::scenarios::plans::{self, MIDNIGHT};
use crate::statistics::world::{Answer, World};

fn wait() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![4 => 0_i64..300, 1 => 0_i64..6_000]
}

fn step() -> impl Strategy<Value = Step> {
    let wait = wait();
    prop_oneof![
        5 => (wait.clone(), prop::bool::weighted(0.05), 0_u8..6, 0_u8..=100, any::<bool>()).prop_map(
            |(wait_ms, is_misdated, fails, score, is_twin)| Step::Case {
                wait_ms, age_ms: LONG_AGO_MS * i64::from(is_misdated), fails, score, is_twin,
            }
        ),
        4 => (wait.clone(), 0_usize..40, 0_u8..2, 1_u64..4, 0_i64..2_000, prop::bool::weighted(0.1))
            .prop_map(|(wait_ms, of, late, version, age_ms, retract)| Step::Label {
                wait_ms, of, late, version, age_ms, retract,
            }),
        1 => (wait, 0_usize..40).prop_map(|(wait_ms, of)| Step::Again { wait_ms, of }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..120)
}

/// Steps that include reports of how far two label partitions were read.
fn marked_steps() -> impl Strategy<Value = Vec<Step>> {
    let age = || prop_oneof![2 => Just(0), 1 => -1_000_i64..8_000];
    let read_age = prop::option::of(prop_oneof![2 => 0_i64..1_000, 1 => 0_i64..8_000]);
    let mark = (wait(), 0..2, prop::option::of(age()), read_age, any::<bool>());
    let mark = mark.prop_map(|(wait_ms, source, newest_age_ms, read_age_ms, is_quiet)| {
        Step::Watermark(MarkStep { wait_ms, source, newest_age_ms, read_age_ms, is_quiet })
    });
    prop::collection::vec(prop_oneof![3 => step(), 1 => mark], 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn batch_size_never_matters(steps in steps()) {
        laws::batch_size_never_matters(&history(&steps));
    }

    #[test]
    fn a_restart_anywhere_never_matters(
        steps in steps(),
        crashes in prop::collection::btree_set(1_usize..120, 1..4),
        saves in prop::collection::btree_set(1_usize..120, 0..4),
    ) {
        laws::a_restart_anywhere_never_matters(&history(&steps), &crashes, &saves);
    }

    #[test]
    fn what_changes_after_a_rollout_is_over_survives_a_restart_anywhere(
        steps in steps(),
        over in 0_usize..80,
        crashes in prop::collection::btree_set(1_usize..120, 1..4),
        saves in prop::collection::btree_set(1_usize..120, 0..4),
    ) {
        laws::a_restart_anywhere_never_matters(&ending(&history(&steps), over), &crashes, &saves);
    }

    #[test]
    fn cases_that_wait_for_their_plan_count_through_a_restart_anywhere(
        steps in steps(),
        (after, late) in (0_usize..80, 0_usize..4),
        crashes in prop::collection::btree_set(1_usize..120, 1..4),
        saves in prop::collection::btree_set(1_usize..120, 0..4),
    ) {
        let records = revised(&history(&steps), after, late);
        laws::a_restart_anywhere_never_matters(&records, &crashes, &saves);
        laws::batch_size_never_matters(&records);
        laws::every_case_has_one_final_row_and_its_newest_truth(&records);
    }

    #[test]
    fn batch_size_never_matters_after_a_rollout_is_over(steps in steps(), over in 0_usize..80) {
        laws::batch_size_never_matters(&ending(&history(&steps), over));
    }

    #[test]
    fn amended_evidence_is_that_of_the_newest_labels(
        cases in prop::collection::vec(
            (0_u8..6, 0_u8..=100, prop::collection::vec(prop::option::of(0_u8..2), 1..5)), 1..40),
    ) {
        let Planned { plan, design, stable, .. } = planned();
        let book = || EvidenceAccumulator::new(Arc::clone(&plan), design.clone(), stable.clone());
        let (mut amended, mut direct) = (book(), book());
        let values = [json!({"late": 0}), json!({"late": 1})];
        let truth = |label: Option<u8>| {
            label.map_or(Truth::Unknown, |l| Truth::Known(&values[usize::from(l)]))
        };
        for (n, (fails, score, labels)) in cases.iter().enumerate() {
            let case = prediction(n, &format!("id{n}"), MIDNIGHT, *fails, *score);
            let _scores = amended.mature(&case, truth(labels[0]), [false; 2]);
            for pair in labels.windows(2) {
                let _scores = amended.amend(&case, truth(pair[0]), truth(pair[1]));
            }
            let newest = labels.last().copied().flatten();
            let _scores = direct.mature(&case, truth(newest), [false; 2]);
        }
        let sums = amended.sums();
        let view = sums.as_amended().expect("nothing is taken back that was not there");
        for (key, scores) in &direct.sums().scores {
            prop_assert_eq!(view.scores.get(key), Some(scores), "{:?}", key);
        }
        for (key, contrast) in &direct.sums().contrasts {
            prop_assert_eq!(view.contrasts.get(key), Some(contrast), "{:?}", key);
        }
        let changes: usize = cases.iter().map(|(_, _, labels)| labels.len() - 1).sum();
        prop_assert_eq!(sums.amended.labels, changes as u64);
    }

    #[test]
    fn a_record_twice_changes_nothing(steps in steps()) {
        laws::a_record_twice_changes_nothing(&history(&steps));
    }

    #[test]
    fn every_case_has_one_final_row_and_its_newest_truth(steps in steps()) {
        laws::every_case_has_one_final_row_and_its_newest_truth(&history(&steps));
    }

    #[test]
    fn rows_and_sums_are_those_of_a_naive_fold(steps in steps()) {
        laws::rows_and_sums_are_those_of_a_naive_fold(&history(&steps));
    }

    #[test]
    fn rows_and_sums_by_marks_are_those_of_a_naive_fold(steps in marked_steps(), over in 0_usize..200) {
        let records = history(&steps);
        laws::rows_and_sums_are_those_of_a_naive_fold(&ending(&records, over));
        laws::batch_size_never_matters(&records);
        laws::a_record_twice_changes_nothing(&records);
    }

    #[test]
    fn a_restart_anywhere_never_matters_to_what_is_made_of_marks(
        steps in marked_steps(),
        crashes in prop::collection::btree_set(1_usize..120, 1..4),
        saves in prop::collection::btree_set(1_usize..120, 0..4),
    ) {
        laws::a_restart_anywhere_never_matters(&history(&steps), &crashes, &saves);
    }

    #[test]
    fn rows_and_sums_after_a_rollout_is_over_are_those_of_a_naive_fold(steps in steps(), over in 0_usize..80) {
        laws::rows_and_sums_are_those_of_a_naive_fold(&ending(&history(&steps), over));
    }

    #[test]
    fn sums_of_two_lanes_are_the_sums_of_one(steps in steps()) {
        let records = history(&steps);
        let is_even = |r: &&Record| match &r.event {
            Event::Prediction { prediction, .. } => prediction.request_id.as_str().len() % 2 == 0,
            Event::Label { label, .. } => label.request_id.as_str().len() % 2 == 0,
            Event::Watermark { .. }
            | Event::Sources(_)
            | Event::Unreadable { .. }
            | Event::Plan(_)
            | Event::Lag { .. } => true,
        };
        let (even, odd): (Vec<_>, Vec<_>) = records.iter().partition::<Vec<_>, _>(is_even);
        let owned = |v: Vec<&Record>| v.into_iter().cloned().collect::<Vec<_>>();
        // Without idle timers, which depend on other records, every case is joined with all of its labels.
        let settle = |r: &[Record]| last_sums(&effects_of(r, 0));
        let (even, odd) = (owned(even), owned(odd));
        let mut merged = settle(&even);
        merged.merge(&settle(&odd));
        let whole = settle(&records);
        for (key, tally) in &whole.arms {
            let other = merged.arms.get(key).cloned().unwrap_or_default();
            prop_assert_eq!(tally.exposures, other.exposures);
            prop_assert_eq!(tally.mature, other.mature);
            prop_assert_eq!(&tally.latency, &other.latency);
        }
        prop_assert_eq!(whole.arms.len(), merged.arms.len());
        for (stratum, units) in &whole.units {
            let other = merged.units.get(stratum).cloned().unwrap_or_default();
            prop_assert!(units.seen.keys().eq(other.seen.keys()));
            prop_assert_eq!(&units.buckets, &other.buckets);
            for (version, counts) in &units.cases {
                let other = other.cases_of(version);
                prop_assert_eq!(counts.assigned, other.assigned);
                prop_assert_eq!(counts.answered, other.answered);
                prop_assert_eq!(counts.mature, other.mature);
            }
        }
    }
}

#[test]
fn a_lane_restored_long_after_its_last_case_knows_how_far_it_had_read() {
    // The case expires when the label arrives, so the replay starts after all predictions that were read.
    let records = history(&[
        Step::Case { wait_ms: 0, age_ms: 0, fails: 5, score: 90, is_twin: false },
        Step::Label { wait_ms: 12_000, of: 3, late: 1, version: 1, age_ms: 0, retract: false },
    ]);
    laws::a_restart_anywhere_never_matters(&records, &BTreeSet::from([2]), &BTreeSet::new());
}

#[test]
fn a_label_that_was_taken_back_and_comes_again_counts_again() {
    let label = |wait_ms, version, retract| Step::Label {
        wait_ms,
        of: 3,
        late: 1,
        version,
        age_ms: 0,
        retract,
    };
    let records = history(&[
        Step::Case { wait_ms: 0, age_ms: 0, fails: 5, score: 90, is_twin: false },
        label(1_000, 1, false),
        label(5_000, 1, true),
        label(500, 2, false),
    ]);
    let sums = last_sums(&effects_of(&records, 0));
    let counted: Vec<_> = sums.arms.values().map(|a| (a.mature, a.labelled)).collect();
    assert!(!counted.is_empty() && counted.iter().all(|c| *c == (1, 1)), "{counted:?}");
}

#[test]
fn a_judge_that_restarts_decides_the_same() {
    let run = |restart_every: Option<usize>| {
        let mut world = World::new("m", 2);
        let spec = Parsed::Model(Box::new(plans::model("m", "v1")));
        world.command(Verb::Apply, None, Some(spec), None);
        let mut plan = plans::rollout("m", "r", "canary", &["v2", "v3"]);
        for line in [
            "stage share=v2:20%,v3:20% hold=30s",
            "stage share=v2:40%,v3:40% hold=30s",
            "metric accuracy accuracy goal margin=10%",
            "metric latency latency guardrail margin=50%",
            "metric errors response_error guardrail margin=10%",
            "labels maturity=10s",
        ] {
            plans::line(&mut plan, &line.split_whitespace().collect::<Vec<_>>());
        }
        let spec = Parsed::Rollout(Box::new(plans::written(plan, "r")));
        world.command(Verb::Apply, Some("r"), Some(spec), None);
        for n in 0..4000_usize {
            let until = Timestamp(world.now.0 + 100);
            world.wait_until(until);
            let id = format!("q{n}");
            let is_bad = n % 2 == 0;
            world.case(&id, &id, |version| match version.as_str() {
                "v3" if is_bad => Answer::Error,
                _ => Answer::Score(0.9),
            });
            let label = Label {
                request_id: id.as_str().into(),
                value: json!({"late": 1}),
                observed_at: world.now,
                version: 1,
                retract: false,
            };
            world.label(label);
            if restart_every.is_some_and(|r| n % r == 0) {
                world.restart_judge();
            }
        }
        world.changes
    };
    let whole = run(None);
    let actions: Vec<&str> = whole.iter().map(|w| w.action.word()).collect();
    assert_eq!(actions, ["apply", "apply", "abort", "advance", "promote"]);
    assert_eq!(whole, run(Some(7)));
    assert_eq!(whole, run(Some(131)));
}
