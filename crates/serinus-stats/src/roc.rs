//! The area under the ROC curve and its variance, from scores or from counts of scores in bins.
//!
//! `AUC = P(score of a positive > score of a negative)`, ties counting half. All scores in a bin tie, and the
//! state is counts: mergeable and retractable. Variance: `DeLong`, `DeLong` and Clarke-Pearson 1988, from the placements
//! `V10_i = P(negative below positive i)` and `V01_j = P(positive above negative j)`.

/// An area, its `DeLong` variance, and its sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auc {
    /// The area; NaN without a positive or without a negative.
    pub area: f64,
    /// The variance of the area; NaN with fewer than two of either.
    pub variance: f64,
    /// The number of positives.
    pub positives: u64,
    /// The number of negatives.
    pub negatives: u64,
}

/// Returns the area from counts by bin, bins ascending in score.
pub fn binned(positives: &[u64], negatives: &[u64]) -> Auc {
    let total_positive: u64 = positives.iter().sum();
    let total_negative: u64 = negatives.iter().sum();
    let (m, n) = (total_positive as f64, total_negative as f64);
    let bins = || positives.iter().zip(negatives).map(|(p, n)| (*p as f64, *n as f64));
    let mut below = 0.0;
    let mut wins = 0.0;
    for (positive, negative) in bins() {
        wins += positive * (below + 0.5 * negative);
        below += negative;
    }
    let area = wins / (m * n);
    let (mut negatives_below, mut positives_above) = (0.0, m);
    let (mut spread_positive, mut spread_negative) = (0.0, 0.0);
    for (positive, negative) in bins() {
        positives_above -= positive;
        let placed_positive = (negatives_below + 0.5 * negative) / n;
        let placed_negative = (positives_above + 0.5 * positive) / m;
        spread_positive += positive * (placed_positive - area).powi(2);
        spread_negative += negative * (placed_negative - area).powi(2);
        negatives_below += negative;
    }
    let variance = if total_positive > 1 && total_negative > 1 {
        spread_positive / (m - 1.0) / m + spread_negative / (n - 1.0) / n
    } else {
        f64::NAN
    };
    Auc { area, variance, positives: total_positive, negatives: total_negative }
}

/// Two areas on the same cases, compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedAuc {
    /// The first scores' area.
    pub first: Auc,
    /// The second scores' area.
    pub second: Auc,
    /// The covariance of the two areas.
    pub covariance: f64,
    /// `(second - first) / sqrt(var)`; 0 if both scores rank alike, NaN if a difference has no variance.
    pub z: f64,
}

/// A variance of the difference below this share of the areas' variances is rounding error.
const ROUNDING: f64 = 1e-13;

/// Compares two scores of the same cases; a score of NaN gives NaN.
pub fn paired(labels: &[bool], first: &[f64], second: &[f64]) -> PairedAuc {
    let a = placements(labels, first);
    let b = placements(labels, second);
    let rank_alike = a == b;
    let covariance = covariance(&a.positive, &b.positive) / a.positive.len() as f64
        + covariance(&a.negative, &b.negative) / a.negative.len() as f64;
    let (first, second) = (a.auc(), b.auc());
    let own = first.variance + second.variance;
    let variance = own - 2.0 * covariance;
    let z = if rank_alike && !first.area.is_nan() {
        0.0
    } else if variance > ROUNDING * own {
        (second.area - first.area) / variance.sqrt()
    } else {
        f64::NAN
    };
    PairedAuc { first, second, covariance, z }
}

/// Returns the area of one score of the cases.
pub fn exact(labels: &[bool], scores: &[f64]) -> Auc {
    placements(labels, scores).auc()
}

/// For each positive the share of negatives below it, for each negative the share of positives above it.
#[derive(PartialEq)]
struct Placements {
    positive: Vec<f64>,
    negative: Vec<f64>,
}

impl Placements {
    fn auc(&self) -> Auc {
        let (m, n) = (self.positive.len(), self.negative.len());
        let area = mean(&self.positive);
        let variance = covariance(&self.positive, &self.positive) / m as f64
            + covariance(&self.negative, &self.negative) / n as f64;
        Auc { area, variance, positives: m as u64, negatives: n as u64 }
    }
}

fn placements(labels: &[bool], scores: &[f64]) -> Placements {
    let of = |wanted: bool| -> Vec<f64> {
        labels
            .iter()
            .zip(scores)
            .filter(|(label, _)| **label == wanted)
            // Adding zero removes the sign, so that -0 ties with 0.
            .map(|(_, score)| score + 0.0)
            .collect()
    };
    let (positives, negatives) = (of(true), of(false));
    if scores.iter().any(|score| score.is_nan()) {
        let unknown = |scores: &[f64]| vec![f64::NAN; scores.len()];
        return Placements { positive: unknown(&positives), negative: unknown(&negatives) };
    }
    let share_below = |sorted: &[f64], score: f64| {
        let below = sorted.partition_point(|p| p.total_cmp(&score).is_lt());
        let up_to = sorted.partition_point(|p| p.total_cmp(&score).is_le());
        0.5 * (below + up_to) as f64 / sorted.len() as f64
    };
    let sorted = |scores: &[f64]| {
        let mut scores = scores.to_vec();
        scores.sort_by(f64::total_cmp);
        scores
    };
    let (sorted_positives, sorted_negatives) = (sorted(&positives), sorted(&negatives));
    Placements {
        positive: positives.iter().map(|p| share_below(&sorted_negatives, *p)).collect(),
        negative: negatives.iter().map(|n| 1.0 - share_below(&sorted_positives, *n)).collect(),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample covariance; NaN for fewer than two values.
fn covariance(a: &[f64], b: &[f64]) -> f64 {
    if a.len() < 2 {
        return f64::NAN;
    }
    let (mean_a, mean_b) = (mean(a), mean(b));
    a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum::<f64>() / (a.len() as f64 - 1.0)
}
