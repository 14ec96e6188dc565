//! Laws of the analyst lane for any history: batches and restarts change nothing, and a naive fold gives the same result.

use std::collections::{BTreeMap, BTreeSet};

use serinus_core::domain::ids::CaseId;
use serinus_core::engine::analyst::io::{Effect, Event};
use serinus_core::join::entry::{Joined, LabelStatus};

use crate::fuzzed::analyst_history::{
    Record, effects_awake, effects_of, effects_with_crashes, is_known_again, last_sums,
    without_counts,
};
use crate::fuzzed::analyst_naive::{Naive, NaiveRow};

/// Additional ticks between records change nothing.
pub(crate) fn batch_size_never_matters(records: &[Record]) {
    assert_eq!(effects_of(records, 0), effects_of(records, 2));
}

/// A lane that is killed after some turns, saved after others, and replayed like the program, continues as if nothing had happened.
pub(crate) fn a_restart_anywhere_never_matters(
    records: &[Record],
    crashes: &BTreeSet<usize>,
    saves: &BTreeSet<usize>,
) {
    let whole = effects_with_crashes(records, &BTreeSet::new(), &BTreeSet::new());
    let broken = effects_with_crashes(records, crashes, saves);
    let (whole, broken) = (without_counts(&whole), without_counts(&broken));
    for (whole, broken) in whole.iter().zip(&broken) {
        assert_eq!(whole, broken);
    }
    assert_eq!(whole.len(), broken.len());
}

/// Every record may be repeated while its case is held.
pub(crate) fn a_record_twice_changes_nothing(records: &[Record]) {
    let times = |r: &Record| 1 + usize::from(is_known_again(r, r.now));
    let twice: Vec<Record> =
        records.iter().flat_map(|r| std::iter::repeat_n(r.clone(), times(r))).collect();
    let (once, twice) = (effects_of(records, 0), effects_of(&twice, 0));
    assert_eq!(without_counts(&once), without_counts(&twice));
}

/// Row versions have no gaps, the first row is the final one, and a row has a truth if its status requires one.
pub(crate) fn every_case_has_one_final_row_and_its_newest_truth(records: &[Record]) {
    let effects = effects_of(records, 0);
    let rows = rows(&effects);
    let mut cases = BTreeMap::new();
    for record in records {
        if let Event::Prediction { prediction, .. } = &record.event {
            cases.entry(prediction.case).or_insert(prediction);
        }
    }
    assert_eq!(rows.keys().collect::<Vec<_>>(), cases.keys().collect::<Vec<_>>());
    for rows in rows.values() {
        let versions: Vec<u32> = rows.iter().map(|r| r.row_version).collect();
        let wanted: Vec<u32> = (1..).take(rows.len()).collect();
        assert_eq!(versions, wanted, "rows are numbered without a gap");
        for row in rows {
            let is_final = matches!(row.status, LabelStatus::Labelled | LabelStatus::Missing);
            assert_eq!(row.row_version == 1, is_final);
            let has_truth = !matches!(row.status, LabelStatus::Missing | LabelStatus::Retracted);
            assert_eq!(row.truth.is_some(), has_truth);
        }
    }
}

/// Rows and sums equal those of a model that keeps the whole history, regardless of wake times.
pub(crate) fn rows_and_sums_are_those_of_a_naive_fold(records: &[Record]) {
    let naive = Naive::of(records);
    for effects in [effects_of(records, 0), effects_awake(records)] {
        let rows: BTreeMap<CaseId, Vec<NaiveRow>> = rows(&effects)
            .into_iter()
            .map(|(case, rows)| (case, rows.into_iter().map(NaiveRow::from).collect()))
            .collect();
        assert_eq!(rows, naive.rows, "rows on the left, those of the naive fold on the right");
        let sums = last_sums(&effects);
        naive.assert_counts(&sums);
        let expected = naive.sums();
        // Compared part by part, because a difference of the whole is unreadable.
        assert_eq!(sums.arms, expected.arms);
        assert_eq!(sums.units, expected.units);
        assert_eq!(sums.scores, expected.scores);
        assert_eq!(sums.contrasts, expected.contrasts);
        assert_eq!(sums, expected, "sums on the left, those of the naive fold on the right");
    }
}

fn rows(effects: &[Effect]) -> BTreeMap<CaseId, Vec<&Joined>> {
    let mut rows: BTreeMap<CaseId, Vec<&Joined>> = BTreeMap::new();
    for effect in effects {
        if let Effect::Row(row) = effect {
            rows.entry(row.joined.prediction.case).or_default().push(&row.joined);
        }
    }
    rows
}
