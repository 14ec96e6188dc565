//! The mixture sequential probability ratio test and the anytime-valid t: for comparison with other tools.
//!
//! Sources: Johari, Pekelis and Walsh 2022; Lindon, Ham, Tingley and Bojinov 2022 for the t. Exact for normal data with known
//! variance; on rare events far from valid, so it decides nothing.

/// A difference of means over `n` pairs, with `variance` of one pair's difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pairs {
    /// The number of pairs.
    pub n: f64,
    /// The estimated difference.
    pub difference: f64,
    /// The variance of one pair's difference, `v1 + v0`.
    pub variance: f64,
}

/// Returns `ln sqrt(V/(V + n tau2)) + n^2 tau2 (d - at)^2 / (2 V (V + n tau2))`; 0 without pairs or variance.
pub fn log_e(pairs: &Pairs, tau2: f64, at: f64) -> f64 {
    log_e_of_error(pairs.difference, (pairs.variance / pairs.n).sqrt(), tau2, at)
}

/// The same for unequal arms: `V/n` is the squared standard error of the difference.
pub fn log_e_of_error(difference: f64, error: f64, tau2: f64, at: f64) -> f64 {
    let spread = error * error;
    if !(spread > 0.0 && spread.is_finite()) {
        return 0.0;
    }
    let gap = difference - at;
    -0.5 * (tau2 / spread).ln_1p() + 0.5 * tau2 * gap * gap / (spread * (spread + tau2))
}

/// Returns the half-width of the confidence sequence; infinite without pairs or variance.
pub fn half_width(pairs: &Pairs, tau2: f64, alpha: f64) -> f64 {
    let (n, variance) = (pairs.n, pairs.variance);
    if !(n > 0.0 && variance > 0.0) {
        return f64::INFINITY;
    }
    let total = variance + n * tau2;
    (variance * total / (n * n * tau2) * ((total / variance).ln() - 2.0 * alpha.ln())).sqrt()
}

/// Returns the log e-value of a t statistic with `nu` degrees of freedom: `r = phi/(phi + z2)`,
/// `ln r / 2 + (nu+1)/2 (ln(1 + t^2/nu) - ln(1 + r t^2/nu))`, with `z2 = (sigma/se)^2` (`n` for a mean).
pub fn t_log_e(t: f64, nu: f64, phi: f64, z2: f64) -> f64 {
    let r = phi / (phi + z2);
    let ratio = t * t / nu;
    0.5 * r.ln() + 0.5 * (nu + 1.0) * (ratio.ln_1p() - (r * ratio).ln_1p())
}
