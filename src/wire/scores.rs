//! Parts of a lane's private sums: moments, rankings, and cases that could not be scored.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::wire::malformed::Malformed;
use serinus_core::evidence::unscored::{Fault, Reason, Unscored};
use serinus_stats::moments::Moments;
use serinus_stats::ranking::{BINS_MAX, Bin, Ranking};

/// Count and exact sums, as decimal text: they do not fit the numbers of every JSON reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MomentsRecord {
    /// How many.
    pub n: u64,
    /// The sum in millionths, and the squares' two halves.
    pub sums: [String; 3],
}

/// Scores of positives and negatives in bins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RankingRecord {
    /// How many bits of each place are dropped.
    pub level: u32,
    /// Each bin: its place, positives and negatives.
    pub bins: Vec<(i64, u64, u64)>,
    /// Where bits are dropped, the bins whose scores are all equal, each with the scores' place.
    pub only: Vec<(i64, i64)>,
}

/// Cases of one version and metric that could not be scored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnscoredRecord {
    /// Labelled cases with an answer in time, scored or not.
    pub cases: u64,
    /// Each reason, how many cases, and the request ids of a few.
    pub reasons: Vec<(String, u64, Vec<String>)>,
}

impl From<&Ranking> for RankingRecord {
    fn from(ranking: &Ranking) -> Self {
        let is_exact = ranking.level() == 0;
        let only = ranking.bins().filter_map(|(place, bin)| Some((place, bin.only?)));
        Self {
            level: ranking.level(),
            bins: ranking.bins().map(|(place, b)| (place, b.positives, b.negatives)).collect(),
            only: if is_exact { Vec::new() } else { only.collect() },
        }
    }
}

impl RankingRecord {
    /// Reads it back.
    pub(super) fn ranking(&self) -> Result<Ranking, Malformed> {
        if self.level > 63 || self.bins.len() > BINS_MAX {
            return Err(Malformed::new("partial", "its ranking has too many bins"));
        }
        let only: BTreeMap<i64, i64> = self.only.iter().copied().collect();
        let bins = self.bins.iter().map(|(place, positives, negatives)| {
            let only = if self.level == 0 { Some(*place) } else { only.get(place).copied() };
            (*place, Bin { positives: *positives, negatives: *negatives, only })
        });
        Ok(Ranking::from_bins(self.level, bins))
    }
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
        Self { n: moments.n, sums: sums.map(|s| s.to_string()) }
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
