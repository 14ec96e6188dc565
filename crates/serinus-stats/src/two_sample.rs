//! Fixed-horizon tests of two samples: for reports, planning and a last confirmation, not as a stopping rule.

use crate::interval::Interval;
use crate::moments::Summary;
use crate::special::{
    bisect, chi2_sf, normal_isf, normal_ln_sf, normal_sf, normal_two_sided, student_isf, student_sf,
};

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

/// A statistic: 0 without a difference, NaN if a difference has a standard error of 0.
fn over(difference: f64, error: f64) -> f64 {
    if error == 0.0 {
        return if difference == 0.0 { 0.0 } else { f64::NAN };
    }
    difference / error
}

/// Wilson's score interval of a proportion, without continuity correction (Wilson 1927); [0, 1] without trials.
pub fn wilson(rate: Rate, alpha: f64) -> Interval {
    if rate.n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let n = rate.n as f64;
    let z = normal_isf(0.5 * alpha);
    let z2 = z * z;
    let p = rate.share();
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Interval {
        low: if rate.events == 0 { 0.0 } else { centre - half },
        high: if rate.events == rate.n { 1.0 } else { centre + half },
    }
}

/// Newcombe's interval of a difference of proportions from two Wilson intervals (Newcombe 1998, method 10).
pub fn newcombe(treated: Rate, control: Rate, alpha: f64) -> Interval {
    let (w1, w0) = (wilson(treated, alpha), wilson(control, alpha));
    if treated.n == 0 || control.n == 0 {
        return Interval { low: -1.0, high: 1.0 };
    }
    let (p1, p0) = (treated.share(), control.share());
    let difference = p1 - p0;
    Interval {
        low: difference - (p1 - w1.low).hypot(w0.high - p0),
        high: difference + (w1.high - p1).hypot(p0 - w0.low),
    }
}

/// The score test of a difference of proportions against a margin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreTest {
    /// Farrington and Manning's statistic.
    pub z: f64,
    /// `P(Z > z)`: small when `p1 - p0 > margin`.
    pub p_larger: f64,
    /// Miettinen and Nurminen's, with the variance times `N / (N - 1)`.
    pub z_mn: f64,
    /// Its one-sided p-value.
    pub p_larger_mn: f64,
}

/// Tests `p1 - p0 = margin` with the variance at the restricted maximum likelihood estimate.
///
/// Sources: Farrington and Manning 1990, Miettinen and Nurminen 1985. No difference and no variance: z = 0.
pub fn score_test(treated: Rate, control: Rate, margin: f64) -> ScoreTest {
    score_test_at(treated, control, margin, restricted_rate(treated, control, margin))
}

/// Tests `p1 - p0 = margin` with the variance at a given rate of the control's arm.
pub fn score_test_at(treated: Rate, control: Rate, margin: f64, control_rate: f64) -> ScoreTest {
    let (n1, n0) = (treated.n as f64, control.n as f64);
    let treated_rate = control_rate + margin;
    let variance =
        treated_rate * (1.0 - treated_rate) / n1 + control_rate * (1.0 - control_rate) / n0;
    let variance = variance.max(0.0);
    let gap = treated.share() - control.share() - margin;
    let z = over(gap, variance.sqrt());
    let n = n1 + n0;
    let z_mn = over(gap, (variance * n / (n - 1.0)).sqrt());
    ScoreTest { z, p_larger: normal_sf(z), z_mn, p_larger_mn: normal_sf(z_mn) }
}

/// Returns the control's rate that is most likely given `p1 - p0 = margin`.
///
/// The score `e1/q1 - f1/(1-q1) + e0/q0 - f0/(1-q0)` falls in `q0`; its zero is the root of Miettinen's cubic, found here by
/// bisection because the cubic's closed form loses digits near its ends.
pub fn restricted_rate(treated: Rate, control: Rate, margin: f64) -> f64 {
    let (e1, f1) = (treated.events as f64, treated.n.saturating_sub(treated.events) as f64);
    let (e0, f0) = (control.events as f64, control.n.saturating_sub(control.events) as f64);
    let term = |count: f64, q: f64| if count > 0.0 { count / q } else { 0.0 };
    let (low, high) = ((-margin).max(0.0), (1.0 - margin).min(1.0));
    bisect(low, high, |q| {
        let q1 = q + margin;
        term(e1, q1) - term(f1, 1.0 - q1) + term(e0, q) - term(f0, 1.0 - q) > 0.0
    })
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

/// Two one-sided tests: is the difference proved to lie within `±margin`?
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Equivalence {
    /// Against `difference <= -margin`.
    pub p_lower: f64,
    /// Against `difference >= margin`.
    pub p_upper: f64,
    /// The larger of the two: equivalence is proved if it is small (Schuirmann 1987).
    pub p: f64,
}

/// Tests equivalence of two means by two Welch tests.
pub fn tost_welch(treated: &Summary, control: &Summary, margin: f64) -> Equivalence {
    let shifted = |by: f64| welch_t(&Summary { mean: treated.mean + by, ..*treated }, control);
    let (lower, upper) = (shifted(margin), shifted(-margin));
    let p_lower = student_sf(lower.t, lower.df);
    let p_upper = student_sf(-upper.t, upper.df);
    let p = if p_lower.is_nan() || p_upper.is_nan() { f64::NAN } else { p_lower.max(p_upper) };
    Equivalence { p_lower, p_upper, p }
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

/// Returns the p-value of a chi-square statistic with one degree of freedom.
pub fn chi2_one(chi2: f64) -> f64 {
    chi2_sf(chi2, 1.0)
}
