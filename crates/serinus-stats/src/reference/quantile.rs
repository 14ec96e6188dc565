//! Quantiles and rates with intervals: order statistics, confidence sequences, the sequential quantile A/B test.
//!
//! Sources: Howard and Ramdas 2022 (sequential quantiles), with the mixtures of `mixture`; David and Nagaraja (order statistics).

#![expect(clippy::many_single_char_names, reason = "formulas keep the letters of their sources")]

use crate::beta::binomial_cdf;
use crate::interval::Interval;
use crate::reference::mixture::{Mixture, Tails, Tightest};
use crate::special::{bisect, ln_beta};

/// Ranks of order statistics that bracket a quantile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankInterval {
    /// The lower rank, 1-based; 0 when there is no lower bound.
    pub lower: u64,
    /// The upper rank; one more than there are values when there is no upper bound.
    pub upper: u64,
    /// The exact coverage.
    pub coverage: f64,
}

/// Returns the fixed-horizon ranks: `l = max r: P(Bin(n,p) <= r-1) <= a/2`, `u = min r: P(Bin(n,p) <= r-1) >= 1 - a/2`.
pub fn order_statistics(n: u64, p: f64, alpha: f64) -> RankInterval {
    let below = |rank: u64| if rank == 0 { 0.0 } else { binomial_cdf(rank - 1, n, p) };
    // Both conditions are monotone in the rank.
    let first = |holds: &dyn Fn(u64) -> bool| {
        let (mut low, mut high) = (1, n + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    };
    let lower = first(&|rank| below(rank) > 0.5 * alpha) - 1;
    let upper = first(&|rank| below(rank) >= 1.0 - 0.5 * alpha);
    let at_most = |rank: u64| if rank > n { 1.0 } else { below(rank) };
    RankInterval { lower, upper, coverage: at_most(upper) - at_most(lower) }
}

/// Radii and ranks of the anytime-valid interval of a quantile after `t` values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantileSequence {
    /// How far below `p` the empirical distribution may lie.
    pub lower_radius: f64,
    /// How far above.
    pub upper_radius: f64,
    /// The lower rank, 1-based; below 1 there is no lower bound.
    pub lower_rank: f64,
    /// The upper rank; above `t` there is no upper bound.
    pub upper_rank: f64,
}

/// Returns the ranks between which the `p`-quantile lies at all times at once, tightest after `t_opt` values.
pub fn sequence_ranks(t: f64, p: f64, t_opt: f64, alpha: f64, alpha_opt: f64) -> QuantileSequence {
    let q = 1.0 - p;
    let at = Tightest { v: t_opt * p * q, alpha: alpha_opt };
    let radius =
        |g: f64, h: f64| Mixture::beta_binomial(at, g, h, Tails::Two).bound(p * q * t, alpha) / t;
    let (upper_radius, lower_radius) = (radius(p, q), radius(q, p));
    QuantileSequence {
        lower_radius,
        upper_radius,
        lower_rank: (t * (p - lower_radius)).floor() + 1.0,
        upper_rank: (t * (p + upper_radius)).ceil(),
    }
}

/// Returns the always-valid p-value that two samples have different `q`-quantiles: `exp(-inf_x [ln M1(F1(x)) + ln M2(F2(x))])`.
///
/// Both arms watch their distribution functions at every `x`; where one jumps over `q` it counts at the nearest point of the jump.
pub fn ab_p(treated: &[f64], control: &[f64], q: f64, at: Tightest) -> f64 {
    if treated.is_empty() || control.is_empty() {
        return 1.0;
    }
    let mixture = Mixture::beta_binomial(at, q, 1.0 - q, Tails::Two);
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let arms = [sorted(treated), sorted(control)];
    let evidence = |values: &[f64], x: f64| {
        let n = values.len() as f64;
        let below = values.partition_point(|p| *p < x) as f64;
        let up_to = values.partition_point(|p| *p <= x) as f64;
        let nearest = (n * q).clamp(below, up_to);
        mixture.log_e(nearest - n * q, n * q * (1.0 - q))
    };
    let least = arms
        .iter()
        .flatten()
        .map(|x| evidence(&arms[0], *x) + evidence(&arms[1], *x))
        .fold(f64::INFINITY, f64::min);
    (-least).exp().min(1.0)
}

/// Returns the two-sided confidence sequence of a rate after `k` events in `n`, tightest after `t_opt` observations.
///
/// Inverts the beta-binomial mixture with `r = max(rho - p(1-p), p(1-p)/1000)` at each `p`.
pub fn rate_sequence(k: u64, n: u64, alpha: f64, t_opt: f64, alpha_opt: f64) -> Interval {
    if n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (k, n) = (k as f64, n as f64);
    let bits = 2.0 * (1.0 / alpha_opt).ln();
    let scale = t_opt / (bits + bits.ln_1p());
    let bar = -alpha.ln();
    let rejected = |p: f64| {
        let spread = p * (1.0 - p);
        let r = (spread * scale - spread).max(1e-3 * spread);
        let (a, b) = (r / (1.0 - p), r / p);
        let log_e = ln_beta(a + k, b + n - k) - ln_beta(a, b) - k * p.ln() - (n - k) * (-p).ln_1p();
        log_e >= bar
    };
    let rate = k / n;
    let (least, most) = (1e-12, 1.0 - 1e-12);
    Interval {
        low: if k == 0.0 || !rejected(least) { 0.0 } else { bisect(least, rate, rejected) },
        high: if n - k == 0.0 || !rejected(most) {
            1.0
        } else {
            bisect(rate, most, |p| !rejected(p))
        },
    }
}

/// Returns the time-uniform band of an empirical distribution function after `t` values, `A sqrt((ln(1 + ln(t/t_min)) + C)/t)`;
/// infinite before `t_min`.
///
/// `C` is the least constant with `inf_eta 4 e^(-g C) (1 + 1/((g-1) ln eta)) <= alpha`, `g = 2/eta (A - sqrt(2(eta-1)/C))^2`
/// (Howard and Ramdas 2022, theorem 2).
pub fn distribution_band(t: f64, alpha: f64, t_min: f64, a: f64) -> f64 {
    if t < t_min {
        return f64::INFINITY;
    }
    let c = bisect(0.1, 1e4, |c| ln_band_error(c, a) > alpha.ln());
    a * ((1.0 + (t / t_min).ln()).ln() + c).sqrt() / t.sqrt()
}

/// The log of the least error probability at constant `c`, over the epochs' ratio `eta` in `(1, 2 a^2)`.
fn ln_band_error(c: f64, a: f64) -> f64 {
    let error = |eta: f64| {
        let root = a - (2.0 * (eta - 1.0) / c).sqrt();
        let g = 2.0 / eta * root * root;
        if root <= 0.0 || g <= 1.0 {
            f64::INFINITY
        } else {
            4.0_f64.ln() - g * c + (1.0 / ((g - 1.0) * eta.ln())).ln_1p()
        }
    };
    let (mut low, mut high) = (1.0, 2.0 * a * a);
    // The error is infinite at both ends and has one valley; thirds shrink around its floor.
    let grid = 200;
    let width = (high - low) / f64::from(grid);
    let best = (1..grid)
        .map(|i| low + f64::from(i) * width)
        .min_by(|x, y| error(*x).total_cmp(&error(*y)))
        .unwrap_or(1.1);
    (low, high) = (best - width, best + width);
    for _ in 0..100 {
        let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if error(left) < error(right) {
            high = right;
        } else {
            low = left;
        }
    }
    error(0.5 * (low + high))
}
