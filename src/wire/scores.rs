//! Parts of a lane's private sums: moments, and cases that could not be scored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::stats::moments::Moments;
use crate::strategy::scoring::{Fault, Reason, Unscored};
use crate::wire::malformed::Malformed;

/// Count and exact sums, as decimal text: they do not fit the numbers of every JSON reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MomentsRecord {
    /// How many.
    pub n: u64,
    /// The sum in millionths, and the squares' two halves.
    pub sums: [String; 3],
}

/// Cases of one version and metric that could not be scored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnscoredRecord {
    /// Labelled cases with an answer in time, scored or not.
    pub cases: u64,
    /// Each reason, how many cases, and the request ids of a few.
    pub reasons: Vec<(String, u64, Vec<String>)>,
}

impl From<&Unscored> for UnscoredRecord {
    fn from(unscored: &Unscored) -> Self {
        let reasons = unscored.reasons.iter().map(|(reason, fault)| {
            let sample = fault.sample.iter().map(|(_, id)| id.to_string()).collect();
            (reason.word().to_owned(), fault.n, sample)
        });
        Self { cases: unscored.cases, reasons: reasons.collect() }
    }
}

impl UnscoredRecord {
    /// Reads it back.
    pub(super) fn unscored(&self) -> Result<Unscored, Malformed> {
        let reasons = self.reasons.iter().map(|(word, n, sample)| {
            let reason = Reason::of_word(word)
                .ok_or_else(|| Malformed::new("partial", format!("no reason is called {word}")))?;
            let sample = sample.iter().map(|id| (xxh3_64(id.as_bytes()), id.as_str().into()));
            Ok((reason, Fault { n: *n, sample: sample.collect() }))
        });
        Ok(Unscored { cases: self.cases, reasons: reasons.collect::<Result<_, Malformed>>()? })
    }
}

impl From<&Moments> for MomentsRecord {
    fn from(moments: &Moments) -> Self {
        let sums = [moments.sum, moments.squares_high, moments.squares_low];
        Self { n: moments.n, sums: sums.map(|it| it.to_string()) }
    }
}

impl MomentsRecord {
    /// Reads it back.
    pub(super) fn moments(&self) -> Result<Moments, Malformed> {
        let [sum, squares_high, squares_low] = &self.sums;
        Ok(Moments {
            n: self.n,
            sum: number(sum)?,
            squares_high: number(squares_high)?,
            squares_low: number(squares_low)?,
        })
    }
}

/// Reads a number that is written as text.
pub(super) fn number(text: &str) -> Result<i128, Malformed> {
    text.parse().map_err(|error| Malformed::new("partial", format!("{text}: {error}")))
}
