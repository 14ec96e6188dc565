//! Asymptotic confidence sequences: anytime-valid for means once the sample mean is nearly normal.
//!
//! For metrics without bounds to bet with (AUC, cluster ratios, CUPED). With `n` observations, standard error `se` and
//! `s2 = se^2 n`: two-sided `rho^2 = (-2 ln a + ln(-2 ln a + 1)) / n*`, half-width
//! `sqrt(s2) sqrt(2 (n rho^2 + 1) / (n rho)^2 ln(sqrt(n rho^2 + 1) / a))`; one-sided: `rho` at level `2a`.
//! Use it only after a burn-in, and not as the only reason to abort.
//!
//! Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, arXiv 2103.06476, as in `GrowthBook`.

use std::f64::consts::LN_2;

use crate::interval::Interval;
use crate::side::Null;
use crate::special::{normal_ln_cdf, p_of_log_e};

/// The sample size for which the boundary is tightest, unless the plan says otherwise.
pub const N_STAR: f64 = 5000.0;
/// Minimum number of positives per arm for asymptotic inference about AUC, precision, recall or F1.
pub const POSITIVES_MIN: u64 = 100;
/// Minimum number of events per arm for asymptotic inference about a proportion.
pub const EVENTS_MIN: u64 = 30;
/// Minimum number of values per arm for asymptotic inference about a skewed mean.
pub const VALUES_MIN: u64 = 1000;

/// An estimate of a difference with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Observations in both arms together.
    pub n: f64,
    /// The estimated difference.
    pub difference: f64,
    /// Its standard error.
    pub error: f64,
}

impl Estimate {
    /// Returns whether anything can be inferred: some observations and a positive, finite error.
    fn is_sound(&self) -> bool {
        self.n > 0.0 && self.error > 0.0 && self.error.is_finite() && self.difference.is_finite()
    }
}

/// The tuning of the boundary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// The level that it is tuned for.
    pub alpha: f64,
    /// The sample size at which it is tightest.
    pub n_star: f64,
}

impl Tuning {
    /// Returns the mixture's scale for a two-sided boundary.
    pub fn rho(&self) -> f64 {
        let bits = -2.0 * self.alpha.ln();
        ((bits + (bits + 1.0).ln()) / self.n_star).sqrt()
    }

    /// Returns the mixture's scale for a one-sided boundary.
    pub fn rho_one_sided(&self) -> f64 {
        Self { alpha: 2.0 * self.alpha, ..*self }.rho()
    }
}

/// Returns the half-width of the two-sided confidence sequence; infinite if nothing can be inferred.
pub fn half_width(estimate: &Estimate, tuning: Tuning) -> f64 {
    if !estimate.is_sound() {
        return f64::INFINITY;
    }
    let scale = tuning.rho();
    let spread = estimate.n * scale * scale + 1.0;
    let log_bound = (spread.sqrt() / tuning.alpha).ln();
    width(estimate, scale, 2.0 * spread * log_bound)
}

/// Returns the half-width of the one-sided confidence sequence.
pub fn half_width_one_sided(estimate: &Estimate, tuning: Tuning) -> f64 {
    if !estimate.is_sound() {
        return f64::INFINITY;
    }
    let scale = tuning.rho_one_sided();
    let spread = estimate.n * scale * scale + 1.0;
    let log_bound = (spread.sqrt() / (2.0 * tuning.alpha)).ln_1p();
    width(estimate, scale, 2.0 * spread * log_bound)
}

/// Returns how far below or above the estimate the null ends that a one-sided e-value rejects at `bar`; infinite if nothing can
/// be inferred. It inverts [`log_e_one_sided`]: a null further away than this has a `log_e` of `bar` or more.
pub fn reach_one_sided(estimate: &Estimate, tuning: Tuning, bar: f64) -> f64 {
    if !estimate.is_sound() || !bar.is_finite() {
        return f64::INFINITY;
    }
    let scale = tuning.rho_one_sided();
    let spread = estimate.n * scale * scale + 1.0;
    let log_e = |z: f64| LN_2 + 0.5 * z * z - 0.5 * spread.ln() + normal_ln_cdf(z);
    let (mut low, mut high) = (0.0, (2.0 * (bar.max(0.0) + spread.ln()) + 2.0).sqrt());
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if log_e(middle) >= bar {
            high = middle;
        } else {
            low = middle;
        }
    }
    high * spread.sqrt() * estimate.error / (scale * estimate.n.sqrt())
}

fn width(estimate: &Estimate, scale: f64, numerator: f64) -> f64 {
    estimate.error * estimate.n.sqrt() * numerator.sqrt() / (estimate.n * scale)
}

/// Returns the two-sided confidence sequence; the whole line if nothing can be inferred.
pub fn interval(estimate: &Estimate, tuning: Tuning) -> Interval {
    Interval::around(estimate.difference, half_width(estimate, tuning))
}

/// Returns the log of the two-sided e-value against `difference = at`; 0 when nothing can be inferred.
pub fn log_e(estimate: &Estimate, at: f64, tuning: Tuning) -> f64 {
    if !estimate.is_sound() || !at.is_finite() {
        return 0.0;
    }
    mixture(estimate, estimate.difference - at, tuning.rho()).0
}

/// Returns the log of the one-sided e-value: the mixture over the half of the normal distribution on the alternative's side.
pub fn log_e_one_sided(estimate: &Estimate, null: Null, tuning: Tuning) -> f64 {
    if !estimate.is_sound() || !null.at.is_finite() {
        return 0.0;
    }
    let gap = null.side.sign() * (estimate.difference - null.at);
    let (both, z) = mixture(estimate, gap, tuning.rho_one_sided());
    LN_2 + both + normal_ln_cdf(z)
}

/// Returns the always-valid two-sided p-value.
pub fn p(estimate: &Estimate, at: f64, tuning: Tuning) -> f64 {
    p_of_log_e(log_e(estimate, at, tuning))
}

/// `rho^2 S^2 / (2 (n rho^2 + 1)) - ln(n rho^2 + 1) / 2`, and the posterior's `z`, with `S = gap sqrt(n) / se`.
fn mixture(estimate: &Estimate, gap: f64, scale: f64) -> (f64, f64) {
    let spread = estimate.n * scale * scale + 1.0;
    let sum = gap * estimate.n.sqrt() / estimate.error;
    let z = scale * sum / spread.sqrt();
    (0.5 * z * z - 0.5 * spread.ln(), z)
}
