//! What becomes of cases and labels that wait for each other.

use std::sync::Arc;

use serde_json::json;

use super::{Evicted, Fresh, LabelJoin, LabelStatus, LabelWatermark, Limits, Progress, Until};
use crate::domain::case::{Outcome, Prediction};
use crate::domain::ids::{CaseId, Revision, StageIndex};
use crate::domain::label::Label;
use crate::domain::time::{Span, Timestamp};

const START: Timestamp = Timestamp(1_000_000);

fn case(id: &str) -> Arc<Prediction> {
    Arc::new(Prediction {
        case: CaseId { partition: 0, offset: 1 },
        request_id: id.into(),
        rollout: None,
        revision: Revision(1),
        stage: StageIndex(0),
        unit: None,
        segments: Arc::default(),
        arm: "v1".into(),
        propensity: 1.0,
        served: None,
        outcome: Outcome::Ok,
        requested_at: START,
        routed_at: START,
        served_at: START,
        answers: Vec::new(),
    })
}

fn label(seconds: i64, late: u8, version: u64, retract: bool) -> Label {
    Label {
        request_id: "r".into(),
        value: json!(late),
        observed_at: START + Span::seconds(seconds),
        version,
        retract,
    }
}

fn held(labels: &[Label]) -> LabelJoin {
    let limits =
        Limits { cases_max: 10, early_ids_max: 10, label_versions_max: 16, closed_ids_max: 2 };
    let mut pending = LabelJoin::new(limits);
    add(&mut pending, "r");
    for label in labels {
        let _credited = pending.add_label(label.clone(), until(9000, 9000), 0);
    }
    pending
}

fn add(pending: &mut LabelJoin, id: &str) {
    let fresh = Fresh { prediction: case(id), turn: 0, taken_at: START };
    let _added = pending.add(fresh, Span::seconds(40), Span::seconds(1000));
}

/// Until both clocks have come so many seconds on.
fn until(predictions: i64, now: i64) -> Until {
    let at = |seconds: i64| START + Span::seconds(seconds);
    Until { predictions: at(predictions), now: at(now) }
}

fn progress(predictions: i64, labels: i64, read_to: i64) -> Progress {
    let at = |seconds: i64| START + Span::seconds(seconds);
    let labels_by = |seconds: i64| LabelWatermark { time: at(seconds), slowest: Some(3) };
    Progress {
        predictions: at(predictions),
        labels: labels_by(labels),
        labels_without_stalled: labels_by(read_to),
        read_to: at(read_to),
    }
}

fn mature(pending: &mut LabelJoin) -> (super::Joined, Option<super::Joined>) {
    pending.mature(progress(50, 50, 50)).expect("the case is mature")
}

#[test]
fn a_case_knows_at_which_ages_it_had_a_label() {
    let check = |labels: &[Label], expected: [bool; 2]| {
        assert_eq!(mature(&mut held(labels)).0.known_by, expected, "{labels:?}");
    };
    check(&[], [false, false]);
    check(&[label(10, 1, 1, false)], [true, true]);
    check(&[label(11, 1, 1, false)], [false, true]);
    check(&[label(21, 1, 1, false)], [false, false]);
    // A correction does not make the label any later, and taking it back leaves nothing.
    check(&[label(5, 1, 1, false), label(30, 0, 2, false)], [true, true]);
    check(&[label(5, 1, 1, false), label(15, 1, 1, true)], [true, false]);
}

#[test]
fn what_was_put_back_is_as_it_was() {
    let mut first = held(&[label(5, 1, 1, false), label(45, 0, 2, false)]);
    let early = Label { request_id: "early".into(), ..label(3, 1, 1, false) };
    assert_eq!(first.add_label(early, until(70, 70), 3), super::Credited::Early);
    for is_mature in [false, true] {
        if is_mature {
            mature(&mut first);
        }
        let mut second = LabelJoin::new(first.limits);
        for (id, entry) in first.entries() {
            second.put_back(id.clone(), entry.clone());
        }
        let indices = |l: &LabelJoin| {
            format!(
                "{:?}",
                (&l.ids, &l.due, &l.due_without_labels, &l.expiring, &l.early, &l.turns)
            )
        };
        assert_eq!(indices(&second), indices(&first));
        assert!(second.entries().eq(first.entries()));
    }
}

#[test]
fn a_case_matures_when_its_labels_have_come() {
    let check = |(predictions, labels, read_to): (i64, i64, i64), expected: bool| {
        let is_mature = held(&[]).mature(progress(predictions, labels, read_to)).is_some();
        assert_eq!(is_mature, expected, "{predictions} {labels} {read_to}");
    };
    check((40, 40, 40), true);
    check((39, 40, 40), false);
    check((40, 39, 40), false);
    // History that is replayed: what is read counts, however long ago that was in event time.
    check((40, 40, 0), true);
    check((40, 40, -1), false);
    // Labels whose times stand still hold up a case for one more window.
    check((80, 0, 80), true);
    check((79, 0, 80), false);
    check((80, 0, 79), false);
}

#[test]
fn a_label_whose_case_is_forgotten_is_an_orphan_at_once_and_another_when_its_time_is_over() {
    let mut pending = held(&[]);
    mature(&mut pending);
    let late = || Label { request_id: "r".into(), ..label(5, 1, 1, false) };
    let stranger = |version| Label { request_id: "s".into(), ..label(5, 1, version, false) };
    let _none = pending.forget(START + Span::seconds(1040), START);
    assert!(pending.oldest_turn().is_none());
    assert_eq!(pending.add_label(late(), until(1100, 30), 0), super::Credited::Orphan);
    assert_eq!(pending.add_label(late(), until(1100, 30), 0), super::Credited::Duplicate);
    for version in [1, 2] {
        let credited = pending.add_label(stranger(version), until(1100, 30), 0);
        assert_eq!(credited, super::Credited::Early);
    }
    let mut forget = |predictions: i64, now: i64| {
        let at = |seconds: i64| START + Span::seconds(seconds);
        let evicted = pending.forget(at(predictions), at(now));
        (evicted, pending.early_ids())
    };
    let none = Evicted::default();
    assert_eq!(forget(1099, 30), (none, 2));
    // The predictions' clock has passed it, but may have jumped.
    assert_eq!(forget(1100, 29), (none, 2));
    assert_eq!(forget(1100, 30), (Evicted { orphaned: 2, ..none }, 0));
}

#[test]
fn a_label_that_the_predictions_clock_has_passed_still_meets_its_case() {
    let mut pending = held(&[]);
    let early = Label { request_id: "late".into(), ..label(5, 1, 1, false) };
    assert_eq!(pending.add_label(early, until(70, 70), 0), super::Credited::Early);
    let _none = pending.forget(START + Span::seconds(5000), START);
    let mut late = (*case("late")).clone();
    late.case.offset = 2;
    let fresh = Fresh { prediction: Arc::new(late), turn: 0, taken_at: START };
    let _added = pending.add(fresh, Span::seconds(40), Span::seconds(1000));
    let rows: Vec<_> = std::iter::from_fn(|| pending.mature(progress(5000, 50, 50))).collect();
    let status: Vec<_> = rows.iter().map(|(row, _)| row.status).collect();
    assert_eq!(status, [LabelStatus::Missing, LabelStatus::Labelled]);
    assert_eq!(pending.early_ids(), 0);
}

#[test]
fn a_later_row_says_what_the_row_before_it_said() {
    let mut pending = held(&[label(5, 1, 1, false), label(45, 0, 2, false)]);
    let (row, later) = mature(&mut pending);
    let later = later.expect("the correction came after the window");
    assert_eq!((later.before, later.status), (row.truth, LabelStatus::Corrected));
    let taken_back = pending.add_label(label(60, 0, 2, true), until(0, 0), 0);
    let super::Credited::Joined(rows) = taken_back else { panic!("{taken_back:?}") };
    assert_eq!((rows[0].before.clone(), rows[0].truth.clone()), (later.truth, None));
}

#[test]
fn a_final_row_says_how_far_the_inputs_had_come_and_a_later_row_does_not() {
    let at = |seconds: i64| START + Span::seconds(seconds);
    let matured = mature(&mut held(&[])).0.matured_at.expect("the final row has it");
    assert_eq!(matured.event_time, at(50));
    assert_eq!(matured.labels, LabelWatermark { time: at(50), slowest: Some(3) });
    // The label times have stopped advancing, and twice the window has passed.
    let mut stalled = held(&[]);
    assert_eq!(stalled.mature(progress(79, 10, 79)), None);
    let (row, _) = stalled.mature(progress(80, 10, 85)).expect("the case is mature");
    assert_eq!(row.matured_at.map(|m| (m.event_time, m.labels.time)), Some((at(80), at(85))));
    let late = stalled.add_label(label(30, 1, 1, false), until(9000, 9000), 0);
    let super::Credited::Joined(rows) = late else { panic!("the case is held: {late:?}") };
    assert_eq!(rows.iter().map(|r| r.matured_at).collect::<Vec<_>>(), [None]);
}
