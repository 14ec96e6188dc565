//! A/B: candidates serve fixed shares until a question is answered.
//!
//! An A/B is a canary with one stage and a superiority goal: the same gates, the same evidence, the same abort on harm.
//! What differs is the end: it stops with a verdict, its routing goes on, and it promotes only when told to, or with
//! `decide.auto`. Of several proved candidates the one with the best goal wins.

use crate::decision::contract::Strategy;
use crate::decision::gates::{self, Ending};
use crate::inference::verdict::{Look, Verdict};

/// Candidates serve fixed shares; a verdict at the end.
#[derive(Clone, Copy, Debug)]
pub struct Ab;

impl Strategy for Ab {
    fn judge(&self, look: &Look<'_>) -> Verdict {
        let ending = if look.plan.decide.auto { Ending::Promote } else { Ending::Conclude };
        gates::judge(look, ending)
    }
}
