//! The end of a confidence sequence of a difference of rates: bets fixed beforehand, inverted over all nulls.
//!
//! A bet planned against one null can be tested against any other. Limited to `0.99 / max(-(x - m))`, its capital is monotone in
//! the null `m`, so the rejected nulls are an interval and bisection finds its end. At the null that the bet was planned
//! against, the limit has no effect, so the end is beyond that null if and only if the e-process itself rejects it.

use crate::kelly;
use crate::prior::{GRID, LogCapitals, Prior};

/// The outcomes of one stratum for bets on one side, with the payoff and the count of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rung {
    lambdas: [f64; GRID],
    payoffs: [f64; 4],
    outcomes: [f64; 4],
    worst: f64,
}

impl Rung {
    /// Combines the bets `lambdas` with counts; `payoffs` are those of the null 0, on the side of the alternative.
    pub fn new(lambdas: [f64; GRID], payoffs: [f64; 4], outcomes: [f64; 4]) -> Self {
        let worst = payoffs.iter().fold(0.0, |worst: f64, x| worst.max(-x));
        Self { lambdas, payoffs, outcomes, worst }
    }

    /// Adds the log-capitals against `side * difference <= at`.
    fn add_to(&self, at: f64, sums: &mut LogCapitals) {
        let bet_max = kelly::STAKE_MAX / (self.worst + at).max(1e-9);
        for (sum, lambda) in sums.iter_mut().zip(&self.lambdas) {
            let lambda = lambda.min(bet_max);
            // Unobserved outcomes contribute nothing, even if their factor is minus infinity.
            for (seen, x) in self.outcomes.iter().zip(&self.payoffs) {
                if *seen > 0.0 {
                    *sum += seen * (lambda * (x - at)).ln_1p();
                }
            }
        }
    }
}

/// Returns the greatest `at` in [-1, 1] for which `side * difference <= at` is rejected at `bound`; -1 if none is.
///
/// Log-capitals are divided by `inflation`; an infinite one rejects nothing.
pub fn end(rungs: &[Rung], prior: &Prior, bound: f64, inflation: f64) -> f64 {
    let is_rejected = |at: f64| {
        let mut sums = [0.0; GRID];
        for rung in rungs {
            rung.add_to(at, &mut sums);
        }
        prior.mixture(&sums.map(|sum| sum / inflation)) >= bound
    };
    if !is_rejected(-1.0) {
        return -1.0;
    }
    let (mut low, mut high) = (-1.0, 1.0);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if is_rejected(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}
