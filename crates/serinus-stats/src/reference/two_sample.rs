//! Other fixed-horizon comparisons of two samples: score intervals and tests of proportions, equivalence of means.

use crate::interval::Interval;
use crate::moments::Summary;
use crate::special::{bisect, chi2_sf, normal_isf, normal_sf, student_sf};
use crate::two_sample::{Rate, over, welch_t};

/// Wilson's score interval of a proportion, without continuity correction (Wilson 1927); [0, 1] among none.
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

/// Two one-sided tests: is the difference proved to lie within `±margin`?
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Equivalence {
    /// Against `difference <= -margin`.
    pub p_lower: f64,
    /// Against `difference >= margin`.
    pub p_upper: f64,
    /// The greater of the two: equivalence is proved when it is small (Schuirmann 1987).
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

/// Returns the p-value of a chi-square statistic with one degree of freedom.
pub fn chi2_one(chi2: f64) -> f64 {
    chi2_sf(chi2, 1.0)
}
