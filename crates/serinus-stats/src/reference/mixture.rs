//! Mixture boundaries for sums of increments that are bounded or have light tails: confidence sequences for reports.
//!
//! `M(s, v)` is a mixture of exponential supermartingales for a sum `s` with intrinsic time `v`; the boundary at level `alpha` is
//! where `ln M = ln(1/alpha)`. `rho = v_opt / (2 ln(1/a) + ln(1 + 2 ln(1/a)))`, one-sided at `2a`, makes it tightest at `v_opt`.
//!
//! Source: Howard, Ramdas, `McAuliffe` and Sekhon 2021, propositions 5 to 9, as in their library `confseq`.

use crate::beta::ln_beta_cdf;
use crate::special::{bisect, ln_beta, ln_gamma, normal_ln_cdf};
use statrs::function::gamma::{gamma_lr, gamma_ur};

/// One tail or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tails {
    /// The sum is watched from above only.
    One,
    /// The sum is watched from both sides.
    Two,
}

/// The intrinsic time and level at which a boundary is tightest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tightest {
    /// The intrinsic time.
    pub v: f64,
    /// The level.
    pub alpha: f64,
}

impl Tightest {
    fn rho(self, tails: Tails) -> f64 {
        let alpha = match tails {
            Tails::One => 2.0 * self.alpha,
            Tails::Two => self.alpha,
        };
        let bits = 2.0 * (1.0 / alpha).ln();
        self.v / (bits + bits.ln_1p())
    }
}

/// A mixture supermartingale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mixture {
    /// For sub-Gaussian sums.
    Normal {
        /// The prior's precision.
        rho: f64,
        /// Which tails it watches.
        tails: Tails,
    },
    /// For sub-exponential sums of scale `c` (empirical Bernstein), one tail.
    GammaExponential {
        /// The prior's precision.
        rho: f64,
        /// The scale.
        c: f64,
    },
    /// For sub-Poisson sums of scale `c`, one tail.
    GammaPoisson {
        /// The prior's precision.
        rho: f64,
        /// The scale.
        c: f64,
    },
    /// For sums of increments in `[-g, h]` with mean 0.
    BetaBinomial {
        /// The prior's precision.
        r: f64,
        /// The largest decrease of an increment.
        g: f64,
        /// The largest increase of an increment.
        h: f64,
        /// Which tails it watches.
        tails: Tails,
    },
}

impl Mixture {
    /// Returns the normal mixture tightest there.
    pub fn normal(at: Tightest, tails: Tails) -> Self {
        Self::Normal { rho: at.rho(tails), tails }
    }

    /// Returns the gamma-exponential mixture tightest there.
    pub fn gamma_exponential(at: Tightest, c: f64) -> Self {
        Self::GammaExponential { rho: at.rho(Tails::One), c }
    }

    /// Returns the gamma-Poisson mixture tightest there.
    pub fn gamma_poisson(at: Tightest, c: f64) -> Self {
        Self::GammaPoisson { rho: at.rho(Tails::One), c }
    }

    /// Returns the beta-binomial mixture tightest there.
    pub fn beta_binomial(at: Tightest, g: f64, h: f64, tails: Tails) -> Self {
        Self::BetaBinomial { r: (at.rho(tails) - g * h).max(1e-3 * g * h), g, h, tails }
    }

    /// Returns `ln M(s, v)`.
    pub fn log_e(&self, s: f64, v: f64) -> f64 {
        match *self {
            Self::Normal { rho, tails } => {
                let total = v + rho;
                let square = s * s / (2.0 * total);
                match tails {
                    Tails::Two => 0.5 * (rho / total).ln() + square,
                    Tails::One => {
                        0.5 * (4.0 * rho / total).ln() + square + normal_ln_cdf(s / total.sqrt())
                    }
                }
            }
            Self::GammaExponential { rho, c } => {
                let scale = c * c;
                let (prior, total, sum) = (rho / scale, (v + rho) / scale, (c * s + v) / scale);
                let constant = prior * prior.ln() - ln_gamma(prior) - gamma_lr(prior, prior).ln();
                let shifted = sum + prior;
                if shifted <= 0.0 {
                    return f64::NEG_INFINITY;
                }
                constant + ln_gamma(total) + gamma_lr(total, shifted).ln() - total * shifted.ln()
                    + sum
            }
            Self::GammaPoisson { rho, c } => {
                let scale = c * c;
                let (prior, total) = (rho / scale, (v + rho) / scale);
                let constant = prior * prior.ln() - ln_gamma(prior) - gamma_ur(prior, prior).ln();
                let shape = s / c + total;
                if shape <= 0.0 {
                    return f64::NEG_INFINITY;
                }
                constant + ln_gamma(shape) + gamma_ur(shape, total).ln() - shape * total.ln()
                    + v / scale
            }
            Self::BetaBinomial { r, g, h, tails } => {
                let span = g + h;
                let cut = match tails {
                    Tails::One => h / span,
                    Tails::Two => 1.0,
                };
                let ln_part = |a: f64, b: f64| ln_beta(a, b) + ln_beta_cdf(a, b, cut);
                let (a, b) = ((r + v - g * s) / (g * span), (r + v + h * s) / (h * span));
                if a <= 0.0 || b <= 0.0 {
                    return f64::INFINITY;
                }
                v / (g * h) * span.ln()
                    - (v + h * s) / (h * span) * g.ln()
                    - (v - g * s) / (g * span) * h.ln()
                    + ln_part(a, b)
                    - ln_part(r / (g * span), r / (h * span))
            }
        }
    }

    /// Returns the least positive `s` with `ln M(s, v) >= ln(1/alpha)`, at most the greatest possible sum.
    pub fn bound(&self, v: f64, alpha: f64) -> f64 {
        let bar = -alpha.ln();
        let limit = match *self {
            Self::BetaBinomial { g, .. } => v / g,
            Self::Normal { .. } | Self::GammaExponential { .. } | Self::GammaPoisson { .. } => {
                f64::INFINITY
            }
        };
        let mut high = v.max(1.0).min(limit);
        while high < limit && self.log_e(high, v) < bar && high < 1e300 {
            high = (2.0 * high).min(limit);
        }
        if self.log_e(high, v) < bar {
            return limit;
        }
        bisect(0.0, high, |s| self.log_e(s, v) < bar)
    }
}

/// Returns the stitched boundary of Howard et al. theorem 1: `v` from `v_min` on, geometric epochs `eta`, polynomial `s`, scale `c`.
pub fn poly_stitching_bound(v: f64, alpha: f64, v_min: f64, c: f64, s: f64, eta: f64) -> f64 {
    let v = v.max(v_min);
    let ell = s * (eta * v / v_min).ln().ln() + (zeta(s) / (alpha * eta.ln().powf(s))).ln();
    let k1 = (eta.powf(0.25) + eta.powf(-0.25)) / std::f64::consts::SQRT_2;
    let k2 = 0.5 * (eta.sqrt() + 1.0);
    let linear = k2 * c * ell;
    (k1 * k1 * v * ell + linear * linear).sqrt() + linear
}

/// Riemann's zeta for `s > 1`, by Euler and Maclaurin's sum.
fn zeta(s: f64) -> f64 {
    const N: u32 = 30;
    let n = f64::from(N);
    let head: f64 = (1..N).map(|k| f64::from(k).powf(-s)).sum();
    let power = n.powf(-s);
    head + power * n / (s - 1.0) + 0.5 * power + s * power / (12.0 * n)
        - s * (s + 1.0) * (s + 2.0) * power / (720.0 * n.powi(3))
        + s * (s + 1.0) * (s + 2.0) * (s + 3.0) * (s + 4.0) * power / (30_240.0 * n.powi(5))
}

/// Returns the capital processes of predictable plug-in betting on values in [0, 1] at the mean `m`: `ln K+`, `ln K-` and
/// `max(ln K+, ln K-) - ln 2` (Waudby-Smith and Ramdas 2024).
///
/// Bets depend on the order of the values, so this can be neither merged nor replayed in parts. It is a reference for tests and reports.
pub fn hedged_betting(values: &[f64], m: f64, alpha: f64) -> [f64; 3] {
    let (mut plus, mut minus) = (0.0, 0.0);
    let (mut sum, mut squares, mut variance) = (0.5, 0.25, 0.25);
    let mut t = 0.0;
    for x in values {
        t += 1.0;
        let lambda = (2.0 * (2.0 / alpha).ln() / (variance * t * f64::ln_1p(t))).sqrt();
        plus += (lambda.min(0.5 / m) * (x - m)).ln_1p();
        minus += (-lambda.min(0.5 / (1.0 - m)) * (x - m)).ln_1p();
        sum += x;
        squares += (x - sum / (t + 1.0)).powi(2);
        variance = squares / (t + 1.0);
    }
    [plus, minus, f64::max(plus, minus) - std::f64::consts::LN_2]
}
