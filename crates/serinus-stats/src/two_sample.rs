//! Fixed-horizon tests of two samples: for reports, planning and a last confirmation, not as a stopping rule.

use crate::interval::Interval;
use crate::moments::Summary;
use crate::special::{normal_isf, normal_ln_sf, normal_two_sided, student_isf, student_sf};

/// Successes among trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// The number of events.
    pub events: u64,
    /// The number of trials.
    pub n: u64,
}

impl Rate {
    /// Returns the share; NaN without trials.
    pub fn share(self) -> f64 {
        self.events as f64 / self.n as f64
    }
}

/// The z-test of two proportions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProportionTest {
    /// `p1 - p0`.
    pub difference: f64,
    /// The statistic with the pooled variance, 0 if all trials of both arms are events or none are.
    pub z_pooled: f64,
    /// Its two-sided p-value.
    pub p_pooled: f64,
    /// The log of that p-value, which does not underflow.
    pub ln_p_pooled: f64,
    /// The statistic with each arm's own variance; NaN if both are 0 and the arms differ.
    pub z_unpooled: f64,
    /// Its two-sided p-value.
    pub p_unpooled: f64,
    /// Wald's interval of the difference at 95 %.
    pub wald95: Interval,
}

/// Compares two proportions by the normal approximation.
///
/// Both all events or both none: z = 0, p = 1. Without observations in an arm everything is NaN and the interval is the
/// whole line.
pub fn two_proportion_z(treated: Rate, control: Rate) -> ProportionTest {
    let (p1, p0) = (treated.share(), control.share());
    let (n1, n0) = (treated.n as f64, control.n as f64);
    let difference = p1 - p0;
    let pooled = (treated.events + control.events) as f64 / (n1 + n0);
    let z_pooled = over(difference, (pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n0)).sqrt());
    let error = (p1 * (1.0 - p1) / n1 + p0 * (1.0 - p0) / n0).sqrt();
    let z_unpooled = over(difference, error);
    ProportionTest {
        difference,
        z_pooled,
        p_pooled: normal_two_sided(z_pooled),
        ln_p_pooled: std::f64::consts::LN_2 + normal_ln_sf(z_pooled.abs()),
        z_unpooled,
        p_unpooled: normal_two_sided(z_unpooled),
        wald95: Interval::around(difference, normal_isf(0.025) * error),
    }
}

/// A statistic: 0 where nothing differs, not a number where a difference has no error to be measured by.
pub(crate) fn over(difference: f64, error: f64) -> f64 {
    if error == 0.0 {
        return if difference == 0.0 { 0.0 } else { f64::NAN };
    }
    difference / error
}

/// Welch's test of two means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Welch {
    /// The statistic; NaN if both variances are 0 and the means differ: no decision.
    pub t: f64,
    /// Satterthwaite's degrees of freedom.
    pub df: f64,
    /// The two-sided p-value.
    pub p: f64,
    /// The interval of the difference at 95 %.
    pub ci95: Interval,
}

/// Compares two means with unequal variances (Welch 1947).
///
/// Both variances 0: equal means give t = 0 and p = 1, unequal ones NaN. An arm with fewer than two values: NaN.
pub fn welch_t(treated: &Summary, control: &Summary) -> Welch {
    let difference = treated.mean - control.mean;
    let (v1, v0) = (treated.variance() / treated.n, control.variance() / control.n);
    let error = (v1 + v0).sqrt();
    if error == 0.0 || treated.is_constant() && control.is_constant() && !error.is_nan() {
        let (t, p) = if difference == 0.0 { (0.0, 1.0) } else { (f64::NAN, f64::NAN) };
        return Welch { t, df: f64::NAN, p, ci95: Interval::WHOLE };
    }
    let df = (v1 + v0).powi(2) / (v1 * v1 / (treated.n - 1.0) + v0 * v0 / (control.n - 1.0));
    let t = difference / error;
    let p = 2.0 * student_sf(t.abs(), df);
    Welch { t, df, p, ci95: Interval::around(difference, student_isf(0.025, df) * error) }
}

/// The t-test of paired differences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedT {
    /// The statistic; NaN if all differences are equal but not 0: no decision.
    pub t: f64,
    /// The two-sided p-value.
    pub p: f64,
}

/// Tests whether the mean of paired differences is 0; all 0 gives t = 0, p = 1.
pub fn paired_t(differences: &Summary) -> PairedT {
    let error = differences.standard_error();
    let is_constant = differences.is_constant() && !error.is_nan();
    let t = over(differences.mean, if is_constant { 0.0 } else { error });
    let p = if t == 0.0 { 1.0 } else { 2.0 * student_sf(t.abs(), differences.n - 1.0) };
    PairedT { t, p }
}
