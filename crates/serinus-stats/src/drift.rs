//! Drift of predictions: distances of two histograms with the same bins, for alerts and not for decisions.
//!
//! Thresholds of .1 and .25 for the stability index are folklore: without drift `PSI / (1/N + 1/M)` is nearly chi-square with
//! one degree of freedom less than bins (Yurdakul 2018), and [`psi_critical`] returns what sampling alone explains.

use crate::special::chi2_isf;

/// Distances of the current distribution from the reference; the first six with 1/2 added to every bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// The population stability index, `sum (q - p) ln(q/p)`.
    pub psi: f64,
    /// Kullback and Leibler's divergence of the current from the reference, in nats.
    pub kl: f64,
    /// Jensen and Shannon's divergence, in nats.
    pub js: f64,
    /// Jensen and Shannon's distance with logarithms to base 2 (0 to 1).
    pub js_distance: f64,
    /// Total variation.
    pub tv: f64,
    /// Hellinger's distance.
    pub hellinger: f64,
    /// The greatest distance of the cumulative shares; NaN if a histogram has no counts.
    pub ks: f64,
    /// Wasserstein's first distance, in bins; NaN if a histogram has no counts.
    pub w1: f64,
}

/// Compares counts in the same bins.
pub fn drift(reference: &[u64], current: &[u64]) -> Drift {
    let smooth = |counts: &[u64]| -> Vec<f64> {
        let total = counts.iter().map(|c| *c as f64).sum::<f64>() + 0.5 * counts.len() as f64;
        counts.iter().map(|c| (*c as f64 + 0.5) / total).collect()
    };
    let (p, q) = (smooth(reference), smooth(current));
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| -> f64 { p.iter().zip(&q).map(|(p, q)| f(*p, *q)).sum() };
    let js = sum(&|p, q| {
        let middle = 0.5 * (p + q);
        0.5 * (p * (p / middle).ln() + q * (q / middle).ln())
    });
    let (ks, w1) = cumulative(reference, current);
    Drift {
        psi: sum(&|p, q| (q - p) * (q / p).ln()),
        kl: sum(&|p, q| q * (q / p).ln()),
        js,
        js_distance: (js.max(0.0) / std::f64::consts::LN_2).sqrt(),
        tv: 0.5 * sum(&|p, q| (p - q).abs()),
        hellinger: (0.5 * sum(&|p, q| (p.sqrt() - q.sqrt()).powi(2))).sqrt(),
        ks,
        w1,
    }
}

/// The greatest and the summed distance of cumulative shares. A sample outside all bins has no shares: it is not
/// comparable, and both distances are NaN.
fn cumulative(reference: &[u64], current: &[u64]) -> (f64, f64) {
    let total = |counts: &[u64]| counts.iter().map(|count| *count as f64).sum::<f64>();
    let (n, m) = (total(reference), total(current));
    if n == 0.0 || m == 0.0 {
        return (f64::NAN, f64::NAN);
    }
    let (mut gap, mut greatest, mut summed) = (0.0, 0.0_f64, 0.0);
    for (p, q) in reference.iter().zip(current) {
        gap += *p as f64 / n - *q as f64 / m;
        greatest = greatest.max(gap.abs());
        summed += gap.abs();
    }
    (greatest, summed)
}

/// Returns the stability index that sampling alone gives on average: `(B - 1)(1/N + 1/M)`.
pub fn psi_expected(reference: f64, current: f64, bins: f64) -> f64 {
    (bins - 1.0) * (1.0 / reference + 1.0 / current)
}

/// Returns the stability index that sampling alone exceeds with probability `alpha`.
pub fn psi_critical(reference: f64, current: f64, bins: f64, alpha: f64) -> f64 {
    chi2_isf(alpha, bins - 1.0) * (1.0 / reference + 1.0 / current)
}
