//! Scores of positives and negatives in bins that keep their ranks: on any scale, mergeable in any order, bounded in memory.
//!
//! A score's place is the bit pattern of its float, which is ordered like the score; between 1/2 and 1 that of its distance to 1, so
//! that scores near 1 are distinguished as well as scores near 0. All places are kept while there are at most [`BINS_MAX`]; then the
//! last bit of each is dropped, as often as needed. The dropped bits depend only on the set of scores, so parts merge to the
//! same bins in any order. A bin of equal scores is marked: these are ties of the model, not of the bins.

use std::collections::BTreeMap;

/// Maximum number of bins.
pub const BINS_MAX: usize = 1024;

/// Scores by class in bins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking {
    /// The number of dropped bits of each place.
    level: u32,
    bins: BTreeMap<i64, Bin>,
}

/// The scores of one bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bin {
    /// The number of positives.
    pub positives: u64,
    /// The number of negatives.
    pub negatives: u64,
    /// The place of all its scores, if they are equal.
    pub only: Option<i64>,
}

impl Ranking {
    /// Builds a ranking from the results of [`Ranking::level`] and [`Ranking::bins`].
    pub fn from_bins(level: u32, bins: impl IntoIterator<Item = (i64, Bin)>) -> Self {
        let mut ranking = Self { level: level.min(63), bins: BTreeMap::new() };
        for (place, bin) in bins {
            ranking.insert(place, bin);
        }
        ranking.bound();
        ranking
    }

    /// Counts a score. The caller refuses NaN; here it is skipped.
    pub fn add(&mut self, score: f64, is_positive: bool) {
        if score.is_nan() {
            return;
        }
        let place = place(score);
        let (positives, negatives) = if is_positive { (1, 0) } else { (0, 1) };
        self.insert(place >> self.level, Bin { positives, negatives, only: Some(place) });
        self.bound();
    }

    /// Adds another ranking.
    pub fn merge(&mut self, other: &Self) {
        self.coarsen(other.level);
        let shift = self.level - other.level;
        for (place, bin) in &other.bins {
            self.insert(place >> shift, *bin);
        }
        self.bound();
    }

    /// Returns the ranking without scores that were counted before; `None` if it does not contain them.
    pub fn without(&self, taken: &Self) -> Option<Self> {
        let (mut left, mut taken) = (self.clone(), taken.clone());
        left.coarsen(taken.level);
        taken.coarsen(left.level);
        for (place, bin) in &taken.bins {
            let ours = left.bins.get_mut(place)?;
            ours.positives = ours.positives.checked_sub(bin.positives)?;
            ours.negatives = ours.negatives.checked_sub(bin.negatives)?;
        }
        left.bins.retain(|_, bin| bin.positives + bin.negatives > 0);
        Some(left)
    }

    /// Returns the number of dropped bits of each place.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Returns the bins by ascending score.
    pub fn bins(&self) -> impl Iterator<Item = (i64, Bin)> + '_ {
        self.bins.iter().map(|(place, bin)| (*place, *bin))
    }

    /// Returns the counts of positives and negatives by ascending score.
    pub fn counts(&self) -> (Vec<u64>, Vec<u64>) {
        self.bins.values().map(|bin| (bin.positives, bin.negatives)).unzip()
    }

    /// Returns the share of all pairs of a positive and a negative that tie only because of the bins; 0 without pairs.
    pub fn tied(&self) -> f64 {
        let pairs = |bin: &Bin| bin.positives as f64 * bin.negatives as f64;
        let tied: f64 = self.bins.values().filter(|bin| bin.only.is_none()).map(pairs).sum();
        let (positives, negatives) = self.counts();
        let of = |counts: Vec<u64>| counts.into_iter().map(|c| c as f64).sum::<f64>();
        let all = of(positives) * of(negatives);
        if all > 0.0 { tied / all } else { 0.0 }
    }

    fn insert(&mut self, place: i64, bin: Bin) {
        self.bins
            .entry(place)
            .and_modify(|ours| {
                ours.positives = ours.positives.saturating_add(bin.positives);
                ours.negatives = ours.negatives.saturating_add(bin.negatives);
                ours.only = ours.only.filter(|only| Some(*only) == bin.only);
            })
            .or_insert(bin);
    }

    fn coarsen(&mut self, level: u32) {
        if level <= self.level {
            return;
        }
        let shift = level - self.level;
        for (place, bin) in std::mem::take(&mut self.bins) {
            self.insert(place >> shift, bin);
        }
        self.level = level;
    }

    fn bound(&mut self) {
        while self.bins.len() > BINS_MAX {
            self.coarsen(self.level + 1);
        }
    }
}

/// Returns the place of a score among all floats; neighbors may share a place.
#[expect(clippy::cast_possible_truncation, reason = "twice the range of exponents, halved")]
fn place(score: f64) -> i64 {
    let bits = |positive: f64| i128::from(positive.to_bits());
    let half = bits(0.5);
    // Adding zero removes the sign, so that -0 ties with 0.
    let score = score + 0.0;
    let place = if score < 0.0 {
        -bits(-score)
    } else if score <= 0.5 {
        bits(score)
    } else if score < 1.0 {
        2 * half - bits(1.0 - score)
    } else {
        2 * half + bits(score) - bits(1.0)
    };
    (place >> 1) as i64
}

#[cfg(test)]
mod tests {
    use super::{BINS_MAX, Ranking};
    use crate::roc;

    /// A number in [0, 1) that is the same in every run.
    fn chance(index: u64) -> f64 {
        (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn cases(n: u64, score: impl Fn(f64, bool) -> f64) -> Vec<(f64, bool)> {
        (0..n)
            .map(|index| {
                let is_positive = chance(3 * index + 1) < 0.4;
                (score(chance(3 * index), is_positive), is_positive)
            })
            .collect()
    }

    fn ranking(cases: &[(f64, bool)]) -> Ranking {
        let mut ranking = Ranking::default();
        for (score, is_positive) in cases {
            ranking.add(*score, *is_positive);
        }
        ranking
    }

    fn area(ranking: &Ranking) -> roc::Auc {
        let (positives, negatives) = ranking.counts();
        roc::binned(&positives, &negatives)
    }

    #[test]
    fn ranks_do_not_depend_on_the_scale_of_scores() {
        let base = |u: f64, is_positive: bool| if is_positive { u.sqrt() } else { u };
        let check = |name: &str, scale: &dyn Fn(f64) -> f64| {
            let cases = cases(20_000, |u, is_positive| scale(base(u, is_positive)));
            let (labels, scores): (Vec<bool>, Vec<f64>) =
                cases.iter().map(|(score, is)| (*is, *score)).unzip();
            let exact = roc::exact(&labels, &scores);
            let binned = ranking(&cases);
            let ours = area(&binned);
            assert!((ours.area - exact.area).abs() < 0.002, "{name}: {ours:?} {exact:?}");
            let ratio = ours.variance / exact.variance;
            assert!((0.97..1.03).contains(&ratio), "{name}: {ours:?} {exact:?}");
            assert!(binned.tied() < 0.03, "{name}: {}", binned.tied());
            assert!(binned.bins().count() <= BINS_MAX);
        };
        check("probabilities", &|u| u);
        check("0 to 100", &|u| 100.0 * u);
        check("below 0.004", &|u| 0.004 * u);
        check("above 0.996", &|u| 0.996 + 0.004 * u);
        check("logits", &|u| (u / (1.0 - u).max(1e-12)).max(1e-12).ln());
        check("negative", &|u| -1e6 * (1.0 - u));
        check("around a thousand", &|u| 1000.0 + u);
        check("tiny", &|u| 1e-300 * u);
    }

    #[test]
    fn parts_merge_to_the_same_bins_in_any_order() {
        let all = cases(6_000, |u, is_positive| if is_positive { 3.0 * u } else { u * u });
        let whole = ranking(&all);
        assert!(whole.level() > 0, "there are more scores than bins");
        let parts: Vec<Ranking> = all.chunks(700).map(ranking).collect();
        let mut forward = Ranking::default();
        for part in &parts {
            forward.merge(part);
        }
        let mut backward = Ranking::default();
        for part in parts.iter().rev() {
            backward.merge(part);
        }
        assert_eq!(forward, whole);
        assert_eq!(backward, whole);
        let mut pairs: Vec<Ranking> = parts
            .chunks(2)
            .map(|pair| {
                let mut sum = pair[0].clone();
                for part in &pair[1..] {
                    sum.merge(part);
                }
                sum
            })
            .collect();
        pairs.reverse();
        let mut by_pairs = Ranking::default();
        for part in &pairs {
            by_pairs.merge(part);
        }
        assert_eq!(by_pairs, whole);
        assert_eq!(Ranking::from_bins(whole.level(), whole.bins()), whole);
        let left = whole.without(&parts[0]).expect("it was counted");
        let (positives, negatives) = left.counts();
        assert_eq!(positives.iter().chain(&negatives).sum::<u64>(), 5_300);
        assert_eq!(parts[0].without(&whole), None);
    }

    #[test]
    fn equal_scores_tie_and_near_ones_only_where_bins_run_out() {
        let equal = ranking(&cases(5_000, |u, _| if u < 0.7 { 0.0 } else { 0.9 }));
        assert!(equal.tied() < 1e-12, "a model's own ties are no fault: {}", equal.tied());
        let mostly_zero = ranking(&cases(20_000, |u, _| if u < 0.7 { 0.0 } else { u }));
        assert!(mostly_zero.tied() < 0.03, "{}", mostly_zero.tied());
        // Half of the scores lie within a millionth, and the others take all bins with their range.
        let hidden = ranking(&cases(20_000, |u, _| {
            if u < 0.5 { 1000.0 + 1e-6 * u } else { 10_f64.powf(600.0 * (u - 0.5) - 150.0) }
        }));
        assert!(hidden.tied() > 0.1, "{}", hidden.tied());
        let same = ranking(&[(-0.0, true), (0.0, false), (1.0, true), (1.0, false)]);
        assert_eq!(same.bins().count(), 2);
    }

    #[test]
    fn bins_are_in_the_order_of_scores() {
        let scores = [
            f64::MIN,
            -1e10,
            -1.0,
            -0.5,
            -1e-300,
            0.0,
            1e-300,
            0.25,
            0.5,
            0.500_001,
            0.75,
            0.999_999_999,
            1.0,
            1.000_001,
            2.0,
            1e10,
            f64::MAX,
        ];
        let places: Vec<i64> = scores.iter().map(|s| super::place(*s)).collect();
        assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    }
}
