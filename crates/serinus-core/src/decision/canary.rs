//! Canary: candidates serve growing shares until one serves everything.
//!
//! 1. A stage is left only through its gates, one stage at a time; the evidence runs on through all stages.
//! 2. Harm takes everything back from any stage.
//! 3. After the last stage's gates the proved candidate becomes the stable version.

use crate::decision::contract::Strategy;
use crate::decision::gates::{self, Ending};
use crate::inference::verdict::{Look, Verdict};

/// Candidates serve growing shares until one serves all.
#[derive(Clone, Copy, Debug)]
pub struct Canary;

impl Strategy for Canary {
    fn judge(&self, look: &Look<'_>) -> Verdict {
        gates::judge(look, Ending::Promote)
    }
}
