//! The difference of two means of a bounded metric: the e-process whose state is one exact sum for each planned effect.
//!
//! Unpaired, `x = (Z/rho - (1-Z)/(1-rho)) (Y - c) - m`; paired, `x = D - m`. A bet is fixed before the data,
//! `lambda_k = min(d_k / (V' + d_k^2), 0.99 / max(-x'))` with `V' = V/(rho(1-rho))` unpaired, `V' = V` paired, `x' = side x`. Each
//! increment `ln(1 + lambda_k x')` is floored to 2^-40: the sum can only be too small, so the supermartingale stays one, and
//! integers make merging and subtraction exact in any order.
//!
//! Source: betting by Waudby-Smith and Ramdas 2024 with bets that do not depend on the data.

use crate::kelly::STAKE_MAX;
use crate::prior::{GRID, LogCapitals, Prior};
use crate::side::Null;

/// One in the fixed point of [`Capital`]: increments are multiples of 2^-40.
const ONE: f64 = (1_u64 << 40) as f64;

/// The assumptions about a metric, frozen before a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The minimum; lower values are clipped to it.
    pub low: f64,
    /// The maximum; higher values are clipped to it.
    pub high: f64,
    /// The stable version's mean. A wrong value costs power, not validity.
    pub centre: f64,
    /// Unpaired: the stable version's variance around the center. Paired: the variance of differences.
    pub variance: f64,
}

/// How the two versions are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scheme {
    /// A case is assigned to the candidate with this probability, and one arm answers it.
    Split { propensity: f64 },
    /// Both versions answered the case.
    Paired,
}

/// The bets of one stage against one null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bets {
    lambdas: [f64; GRID],
    null: Null,
    range: Range,
    scheme: Scheme,
}

impl Bets {
    /// Plans bets on cases that are answered by one arm each.
    ///
    /// A propensity outside (0, 1), or a range that is empty or NaN, gives bets of zero.
    pub fn split(range: Range, propensity: f64, null: Null, prior: &Prior) -> Self {
        let scheme = Scheme::Split { propensity };
        let spread = range.variance / (propensity * (1.0 - propensity));
        let lambdas = planned(spread, worst(range, scheme, null), prior);
        let sound = propensity > 0.0 && propensity < 1.0 && is_sound(range, null);
        Self { lambdas: if sound { lambdas } else { [0.0; GRID] }, null, range, scheme }
    }

    /// Plans bets on cases that both versions answered.
    pub fn paired(range: Range, null: Null, prior: &Prior) -> Self {
        let scheme = Scheme::Paired;
        let lambdas = planned(range.variance, worst(range, scheme, null), prior);
        Self {
            lambdas: if is_sound(range, null) { lambdas } else { [0.0; GRID] },
            null,
            range,
            scheme,
        }
    }

    /// Replaces the bets, each limited by the worst outcome.
    #[must_use]
    pub fn with_lambdas(self, lambdas: [f64; GRID]) -> Self {
        let bet_max = STAKE_MAX / worst(self.range, self.scheme, self.null).max(1e-9);
        Self { lambdas: lambdas.map(|l| l.clamp(0.0, bet_max)), ..self }
    }

    /// Returns the bets, one for each planned effect.
    pub fn lambdas(&self) -> &[f64; GRID] {
        &self.lambdas
    }

    /// Returns the logs of the factors by which one answered case multiplies the capitals.
    ///
    /// `treated` is whether the candidate answered. The caller refuses NaN; here it
    /// changes nothing. Bets planned for pairs are not moved by single answers.
    pub fn log_factors(&self, treated: bool, value: f64) -> LogCapitals {
        match self.scheme {
            Scheme::Split { propensity } => {
                let weight = if treated { 1.0 / propensity } else { -1.0 / (1.0 - propensity) };
                self.factors(
                    weight * (value.clamp(self.range.low, self.range.high) - self.range.centre),
                )
            }
            Scheme::Paired => [0.0; GRID],
        }
    }

    /// Returns the logs of the factors by which one pair multiplies the capitals; `difference` is candidate minus stable.
    pub fn log_factors_paired(&self, difference: f64) -> LogCapitals {
        match self.scheme {
            Scheme::Paired => {
                let reach = self.range.high - self.range.low;
                self.factors(difference.clamp(-reach, reach))
            }
            Scheme::Split { .. } => [0.0; GRID],
        }
    }

    /// Returns the increments of one answered case, floored to the fixed point.
    pub fn increments(&self, treated: bool, value: f64) -> [i64; GRID] {
        self.log_factors(treated, value).map(fixed)
    }

    /// Returns the increments of one pair, floored to the fixed point.
    pub fn increments_paired(&self, difference: f64) -> [i64; GRID] {
        self.log_factors_paired(difference).map(fixed)
    }

    fn factors(&self, estimate: f64) -> LogCapitals {
        let x = self.null.side.sign() * (estimate - self.null.at);
        if x.is_nan() {
            return [0.0; GRID];
        }
        self.lambdas.map(|lambda| (lambda * x).ln_1p())
    }
}

fn is_sound(range: Range, null: Null) -> bool {
    let finite = [range.low, range.high, range.centre, range.variance, null.at]
        .iter()
        .all(|a| a.is_finite());
    finite && range.low < range.high && range.variance >= 0.0
}

/// Returns `max(-x')`: the largest loss of a bet of 1.
fn worst(range: Range, scheme: Scheme, null: Null) -> f64 {
    let sign = null.side.sign();
    let ends = [range.low, range.high];
    match scheme {
        Scheme::Split { propensity } => ends
            .iter()
            .flat_map(|y| {
                [1.0 / propensity, -1.0 / (1.0 - propensity)]
                    .map(|weight| weight * (y - range.centre))
            })
            .map(|estimate| -sign * (estimate - null.at))
            .fold(0.0, f64::max),
        Scheme::Paired => (range.high - range.low + sign * null.at).max(0.0),
    }
}

fn planned(spread: f64, worst: f64, prior: &Prior) -> [f64; GRID] {
    prior.effects.map(|effect| {
        let lambda = (effect / (spread + effect * effect)).min(STAKE_MAX / worst.max(1e-9));
        // An effect of zero with no variance is 0/0: the bet is 0.
        if lambda.is_finite() { lambda.max(0.0) } else { 0.0 }
    })
}

/// Floors to a multiple of 2^-40. The bets' cap keeps every factor far within the range of an `i64`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast saturates, and no factor comes near the ends"
)]
fn fixed(log_factor: f64) -> i64 {
    (log_factor * ONE).floor() as i64
}

/// The log-capital of each planned effect, exact to 2^-40 in any order of observations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capital(pub [i128; GRID]);

impl Capital {
    /// Adds the increments of one observation.
    pub fn add(&mut self, increments: &[i64; GRID]) {
        for (sum, increment) in self.0.iter_mut().zip(increments) {
            *sum += i128::from(*increment);
        }
    }

    /// Subtracts the increments of one observation.
    pub fn sub(&mut self, increments: &[i64; GRID]) {
        for (sum, increment) in self.0.iter_mut().zip(increments) {
            *sum -= i128::from(*increment);
        }
    }

    /// Adds the capital of another part or stage.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum += more;
        }
    }

    /// Subtracts what was merged before.
    pub fn retract(&mut self, other: &Self) {
        for (sum, less) in self.0.iter_mut().zip(&other.0) {
            *sum -= less;
        }
    }

    /// Returns the log-capitals as numbers.
    pub fn log_capitals(&self) -> LogCapitals {
        self.0.map(|l| l as f64 / ONE)
    }

    /// Returns the log of the e-value; 0 before any observation.
    pub fn log_e(&self, prior: &Prior) -> f64 {
        prior.mixture(&self.log_capitals())
    }
}
