//! SRM (sample ratio mismatch): the sequential check, and the fixed-horizon check for reports.
//!
//! Source: Lindon and Malek 2022: a Dirichlet mixture `Dir(k theta0)` of multinomial likelihoods against the planned shares,
//! `log E = ln B(k theta0 + counts) - ln B(k theta0) - sum counts ln theta0`. It is valid with a look at every tick.

use crate::special::{chi2_sf, ln_multibeta, p_of_log_e};

/// The concentration of the prior on the planned shares: measured to be best for splits that are off by a hundredth.
pub const CONCENTRATION: f64 = 1000.0;

/// The level at which a split counts as broken.
pub const ALPHA: f64 = 0.001;

/// One stage: the planned shares and the observed counts.
#[derive(Clone, Copy, Debug)]
pub struct SplitStage<'a> {
    /// The planned shares, summing to one.
    pub weights: &'a [f64],
    /// The units seen in each arm, in the same order.
    pub counts: &'a [u64],
}

/// Returns the log of the e-value against `counts` being drawn with `weights`.
///
/// An arm of weight 0 is skipped while it has no units; with one unit the result is infinity.
pub fn multinomial_log_e(counts: &[u64], weights: &[f64], concentration: f64) -> f64 {
    let pairs = || counts.iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
    if counts.iter().zip(weights).any(|(count, weight)| *count > 0 && *weight <= 0.0) {
        return f64::INFINITY;
    }
    if counts.iter().all(|count| *count == 0) {
        return 0.0;
    }
    let after = ln_multibeta(pairs().map(|(count, weight)| concentration * weight + *count as f64));
    let before = ln_multibeta(pairs().map(|(_, weight)| concentration * weight));
    let null: f64 = pairs().map(|(count, weight)| *count as f64 * weight.ln()).sum();
    after - before - null
}

/// Returns the log of the e-value over all stages: stages are disjoint, so their e-values multiply.
pub fn log_e(stages: &[SplitStage<'_>]) -> f64 {
    stages.iter().map(|s| multinomial_log_e(s.counts, s.weights, CONCENTRATION)).sum()
}

/// Returns the p-value of the split at this look. For a p-value that is valid at all looks, keep the smallest one.
pub fn p(stages: &[SplitStage<'_>]) -> f64 {
    p_of_log_e(log_e(stages))
}

/// The chi-square test of goodness of fit: fixed horizon, for the final report only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChiSquare {
    /// The statistic.
    pub chi2: f64,
    /// Its p-value with one degree of freedom less than there are arms.
    pub p: f64,
}

/// Compares counts with planned shares; statistic 0 and p 1 without units.
pub fn chi_square(counts: &[u64], weights: &[f64]) -> ChiSquare {
    let n: f64 = counts.iter().map(|c| *c as f64).sum();
    let total: f64 = weights.iter().sum();
    let chi2 = counts
        .iter()
        .zip(weights)
        .map(|(count, weight)| (*count as f64, n * weight / total))
        .filter(|(count, expected)| *expected > 0.0 || *count > 0.0)
        .map(|(count, expected)| (count - expected).powi(2) / expected)
        .sum();
    let df = counts.len().saturating_sub(1) as f64;
    ChiSquare { chi2, p: if df > 0.0 { chi2_sf(chi2, df) } else { 1.0 } }
}
