//! Any bytes as the history of an analyst lane: five bytes per step; the first selects its kind and whether the lane is killed.

use std::collections::BTreeSet;

use crate::fuzzed::analyst_history::{LONG_AGO_MS, MarkStep, Record, Step, ending, history};
use crate::fuzzed::analyst_laws as laws;

const STEPS_MAX: usize = 100;

pub(crate) fn run(bytes: &[u8]) -> bool {
    let (records, crashes, saves) = read(bytes);
    if records.is_empty() {
        return false;
    }
    laws::rows_and_sums_are_those_of_a_naive_fold(&records);
    laws::batch_size_never_matters(&records);
    laws::a_restart_anywhere_never_matters(&records, &crashes, &saves);
    laws::a_record_twice_changes_nothing(&records);
    laws::every_case_has_one_final_row_and_its_newest_truth(&records);
    true
}

/// Parses the records and the turns after which the lane is killed or saved; the rollout may end in between.
fn read(bytes: &[u8]) -> (Vec<Record>, BTreeSet<usize>, BTreeSet<usize>) {
    let (chunks, _) = bytes.as_chunks::<5>();
    let chunks = &chunks[..chunks.len().min(STEPS_MAX)];
    let marked =
        |bit: u8| (1_usize..).zip(chunks).filter(|(_, u)| u[0] & bit != 0).map(|b| b.0).collect();
    let (crashes, saves) = (marked(0x80), marked(0x40));
    let steps: Vec<Option<Step>> = chunks.iter().copied().map(step).collect();
    let over = steps.iter().position(Option::is_none);
    let records = history(&steps.into_iter().flatten().collect::<Vec<_>>());
    match over {
        Some(over) if !records.is_empty() => (ending(&records, over), crashes, saves),
        Some(_) | None => (records, crashes, saves),
    }
}

/// Parses a step; `None` if the rollout ends there.
fn step([kind, wait, a, b, c]: [u8; 5]) -> Option<Step> {
    // Milliseconds, up to a window and a half.
    let wait_ms = match i64::from(wait) {
        short @ 0..200 => 2 * short,
        long => 110 * (long - 199),
    };
    let of = usize::from(a % 40);
    match kind % 8 {
        0..3 => {
            let age_ms = if c & 2 == 0 { 0 } else { 60 * i64::from(c >> 2) };
            let age_ms = if kind & 0x38 == 0x38 { age_ms + LONG_AGO_MS } else { age_ms };
            Some(Step::Case { wait_ms, age_ms, fails: a % 6, score: b % 101, is_twin: c & 1 == 1 })
        }
        // A label may also be dated in the future.
        3..6 => Some(Step::Label {
            wait_ms,
            of,
            late: c & 1,
            version: 1 + u64::from((c >> 2) % 3),
            age_ms: 50 * i64::from(b.cast_signed()),
            retract: c & 2 == 2,
        }),
        6 if kind & 0x08 != 0 => Some(Step::Watermark(MarkStep {
            wait_ms,
            source: i32::from(a & 1),
            newest_age_ms: (a & 4 == 0).then_some(50 * i64::from(b.cast_signed())),
            read_age_ms: (c & 1 == 1).then_some(20 * i64::from(c >> 1)),
            is_quiet: a & 2 != 0,
        })),
        6 => Some(Step::Again { wait_ms, of }),
        _ => None,
    }
}
