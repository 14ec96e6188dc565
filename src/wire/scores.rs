//! Parts of the private partial record: moments, rankings, and cases that could not be scored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::wire::malformed::Malformed;
use serinus_core::evidence::unscored::{Fault, Reason, Unscored};
use serinus_stats::moments::Moments;
use serinus_stats::ranking::{BINS_MAX, Bin, Ranking};

/// A count and exact sums. The sums are decimal text, because JSON parsers read large numbers inexactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MomentsRecord {
    /// The number of values.
    pub n: u64,
    /// The sum in millionths, and the high and low half of the sum of squares.
    pub sums: [String; 3],
}

/// Scores of positives and negatives in bins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankingRecord {
    /// The number of low bits that are dropped from the position of each bin.
    pub level: u32,
    /// Each bin: its position, positives and negatives.
    pub bins: Vec<(i64, u64, u64)>,
    /// If bits are dropped: the bins whose scores are all equal, each with the position of that score.
    pub only: Vec<(i64, i64)>,
}

/// Cases of one version and metric that could not be scored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnscoredRecord {
    /// Labeled cases with an answer in time, scored or not.
    pub cases: u64,
    /// Each reason with its number of cases and a sample of their request ids.
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
    pub(super) fn unscored(&self) -> Result<Unscored, Malformed> {
        let reasons = self.reasons.iter().map(|(word, n, sample)| {
            let reason = Reason::of_word(word)
                .ok_or_else(|| Malformed::new("partial", format!("unknown reason `{word}`")))?;
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

/// Parses a number that is written as text.
pub(super) fn number(text: &str) -> Result<i128, Malformed> {
    text.parse().map_err(|error| Malformed::new("partial", format!("{text}: {error}")))
}
