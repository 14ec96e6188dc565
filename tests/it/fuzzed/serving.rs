//! Any bytes as the history of a serving lane: five bytes per step; the first selects its kind and whether the lane is killed.

use std::collections::BTreeSet;

use crate::fuzzed::serving_history::Step;
use crate::fuzzed::serving_laws as laws;

const STEPS_MAX: usize = 100;

pub(crate) fn run(bytes: &[u8]) -> bool {
    let (steps, crashes) = read(bytes);
    if steps.is_empty() {
        return false;
    }
    laws::every_request_is_served_once_as_a_naive_model_says(&steps);
    laws::batch_size_never_matters(&steps);
    laws::a_look_too_early_never_matters(&steps, 1);
    laws::a_restart_anywhere_never_matters(&steps, &crashes);
    laws::an_answer_twice_changes_nothing(&steps);
    true
}

/// Parses the steps and the turns after which the lane is killed.
fn read(bytes: &[u8]) -> (Vec<Step>, BTreeSet<usize>) {
    let (chunks, _) = bytes.as_chunks::<5>();
    let chunks = &chunks[..chunks.len().min(STEPS_MAX)];
    let crashes = (0..chunks.len()).filter(|l| chunks[*l][0] & 0x80 != 0).collect();
    (chunks.iter().copied().map(step).collect(), crashes)
}

fn step([kind, wait, a, b, c]: [u8; 5]) -> Step {
    // Hundredths of a second, up to the longest deadline.
    let wait = match i64::from(wait) {
        short @ 0..200 => short,
        long => 10 * (long - 199),
    };
    match kind % 4 {
        0 => Step::Request { wait, unit: a % 40 },
        1 => Step::Answer {
            wait,
            of: usize::from(a % 8),
            ask: usize::from(b % 5),
            fails: c & 1 == 1,
            wrong: c >> 1,
        },
        2 => Step::Again { wait, of: usize::from(a % 8) },
        _ => Step::Routing { wait, kind: a % 4 },
    }
}
