//! Any bytes as the history of a judge: six bytes per step; the first selects its kind and whether the judge is killed after it.

use std::collections::BTreeSet;

use crate::fuzzed::judge_history::{STEERING, Step, history, new_judge, receive};
use crate::fuzzed::judge_laws as laws;

const STEPS_MAX: usize = 80;

pub(crate) fn run(bytes: &[u8]) -> bool {
    let (steps, crashes) = read(bytes);
    if steps.is_empty() {
        return false;
    }
    let received = history(&steps);
    laws::a_restart_anywhere_never_matters(&received, &crashes);
    laws::every_event_follows_from_the_one_before(&received);
    laws::operators_get_what_a_naive_model_says(&received);
    laws::evidence_is_the_sum_of_the_newest(&received);
    laws::a_word_twice_changes_nothing(&received);
    true
}

/// Returns what the judge of a history did, in the contract's words.
pub(crate) fn actions(bytes: &[u8]) -> BTreeSet<&'static str> {
    let (steps, _) = read(bytes);
    let mut judge = new_judge();
    let mut out = Vec::new();
    for (now, received) in history(&steps) {
        receive(&mut judge, now, &received, &mut out);
    }
    laws::changes(&out).map(|o| o.action.word()).collect()
}

/// Parses the steps and the indexes after which the judge is killed.
fn read(bytes: &[u8]) -> (Vec<Step>, BTreeSet<usize>) {
    let (chunks, _) = bytes.as_chunks::<6>();
    let chunks = &chunks[..chunks.len().min(STEPS_MAX)];
    let crashes = (0..chunks.len()).filter(|l| chunks[*l][0] & 0x80 != 0).collect();
    (chunks.iter().copied().map(step).collect(), crashes)
}

fn step([kind, wait, a, b, c, d]: [u8; 6]) -> Step {
    // Seconds, up to the longest deadline of a plan.
    let wait_s = match i64::from(wait) {
        short @ 0..200 => short / 8,
        long => 60 * (long - 199),
    };
    match kind % 8 {
        0 => Step::Apply { wait_s, what: usize::from(a) },
        1 => Step::Steer {
            wait_s,
            verb: STEERING[usize::from(a) % STEERING.len()],
            of: usize::from(b % 8),
            expects: c % 4,
        },
        2 => Step::Silence { wait_s },
        3 => Step::Old { wait_s, partition: i32::from(a % 3) },
        _ => Step::Sums {
            wait_s,
            partition: i32::from(a % 3),
            is_idle: a & 0x80 != 0,
            cases: u64::from(b) * 8,
            good: [c & 0x0f, c >> 4, d & 0x0f],
            fails: d >> 4,
        },
    }
}
