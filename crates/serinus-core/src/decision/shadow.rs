//! Shadow: candidates answer every request in silence, and are compared case by case.
//!
//! 1. A stage of copies has no shares, so the stable version serves everything.
//! 2. Both versions answer the same case, so the comparison is paired: a fraction of the cases that two arms would need.
//! 3. It ends with a verdict; it promotes only when told to, or with `decide.auto`.

use crate::decision::contract::Strategy;
use crate::decision::gates::{self, Ending};
use crate::inference::verdict::{Look, Verdict};

/// Candidates answer in silence.
#[derive(Clone, Copy, Debug)]
pub struct Shadow;

impl Strategy for Shadow {
    fn judge(&self, look: &Look<'_>) -> Verdict {
        let ending = if look.plan.decide.auto { Ending::Promote } else { Ending::Conclude };
        gates::judge(look, ending)
    }
}
