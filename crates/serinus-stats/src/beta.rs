//! The binomial and beta distributions, accurate to all digits at counts of a billion.
//!
//! Sources: Loader 2000 (saddle-point binomial probabilities), Numerical Recipes 6.4 (continued fraction).

use std::f64::consts::TAU;

use crate::special::{LN_SQRT_2PI, beta_fraction, bisect, ln_gamma};

/// Returns the log of `C(n, x) p^x q^(n-x)`, `q = 1 - p`, also for `n` and `x` that are not whole.
pub fn ln_binomial(x: f64, n: f64, p: f64, q: f64) -> f64 {
    let rest = n - x;
    if x < 0.0 || rest < 0.0 {
        return f64::NEG_INFINITY;
    }
    if x == 0.0 {
        return if rest == 0.0 { 0.0 } else { n * ln_power_base(q, p) };
    }
    if rest == 0.0 {
        return n * ln_power_base(p, q);
    }
    if p <= 0.0 || q <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let lost = stirling_error(n) - stirling_error(x) - stirling_error(rest);
    lost - deviance(x, n * p) - deviance(rest, n * q) + 0.5 * (n / (TAU * x * rest)).ln()
}

/// `ln base`, computed from the complement if that is smaller.
fn ln_power_base(base: f64, complement: f64) -> f64 {
    if complement < 0.5 { (-complement).ln_1p() } else { base.ln() }
}

/// `ln Gamma(n+1) - ((n + 1/2) ln n - n + ln sqrt(2 pi))`.
fn stirling_error(n: f64) -> f64 {
    if n < 16.0 {
        return ln_gamma(n + 1.0) - (n + 0.5) * n.ln() + n - LN_SQRT_2PI;
    }
    let r = 1.0 / n;
    let r2 = r * r;
    r * (1.0 / 12.0 - r2 * (1.0 / 360.0 - r2 * (1.0 / 1260.0 - r2 * (1.0 / 1680.0 - r2 / 1188.0))))
}

/// `x ln(x/m) + m - x`, by a series if the terms would cancel.
fn deviance(x: f64, m: f64) -> f64 {
    let gap = x - m;
    if gap.abs() >= 0.1 * (x + m) {
        return x * (x / m).ln() - gap;
    }
    let v = gap / (x + m);
    let v2 = v * v;
    let mut sum = gap * v;
    let mut term = 2.0 * x * v;
    for k in 1..1000 {
        term *= v2;
        let next = sum + term / f64::from(2 * k + 1);
        if (next - sum).abs() <= f64::EPSILON * 0.1 * next.abs() {
            return next;
        }
        sum = next;
    }
    sum
}

/// Returns the log of the regularized incomplete beta function, `ln P(B <= x)` for a beta distribution.
pub fn ln_beta_cdf(a: f64, b: f64, x: f64) -> f64 {
    if x.is_nan() || a.is_nan() || b.is_nan() || a <= 0.0 || b <= 0.0 {
        return f64::NAN;
    }
    if x <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if x >= 1.0 {
        return 0.0;
    }
    let y = 1.0 - x;
    let total = a + b;
    let front = ln_binomial(a, total, x, y);
    if x < (a + 1.0) / (total + 2.0) {
        front + (b / total * beta_fraction(a, b, x)).ln()
    } else {
        (-(front.exp() * a / total * beta_fraction(b, a, y))).ln_1p()
    }
}

/// Returns `P(B <= x)` for a beta distribution.
pub fn beta_cdf(a: f64, b: f64, x: f64) -> f64 {
    ln_beta_cdf(a, b, x).exp()
}

/// Returns `P(B > x)` for a beta distribution, precise where it is small.
pub fn beta_sf(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if x >= 1.0 {
        return 0.0;
    }
    let (y, total) = (1.0 - x, a + b);
    let front = ln_binomial(a, total, x, y).exp();
    if x < (a + 1.0) / (total + 2.0) {
        1.0 - front * b / total * beta_fraction(a, b, x)
    } else {
        front * a / total * beta_fraction(b, a, y)
    }
}

/// Returns the density of a beta distribution.
pub fn beta_pdf(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let total = a + b;
    (ln_binomial(a, total, x, 1.0 - x) + (a / total * b).ln() - x.ln() - (1.0 - x).ln()).exp()
}

/// Returns the `x` with `P(B <= x) = p` for a beta distribution, by bisection.
pub fn beta_quantile(a: f64, b: f64, p: f64) -> f64 {
    if p > 0.5 {
        bisect(0.0, 1.0, |x| beta_sf(a, b, x) > 1.0 - p)
    } else {
        bisect(0.0, 1.0, |x| beta_cdf(a, b, x) < p)
    }
}

/// Returns `P(X <= k)` of a binomial distribution.
pub fn binomial_cdf(k: u64, n: u64, p: f64) -> f64 {
    if k >= n { 1.0 } else { beta_sf(k as f64 + 1.0, (n - k) as f64, p) }
}

/// Returns `P(X = k)` of a binomial distribution.
pub fn binomial_pmf(k: u64, n: u64, p: f64) -> f64 {
    ln_binomial(k as f64, n as f64, p, 1.0 - p).exp()
}

/// Returns `P(X = x)` where `x` of `drawn` events fall among `n1` of `n1 + n0` units.
pub fn hypergeometric_pmf(x: u64, n1: u64, n0: u64, drawn: u64) -> f64 {
    let total = n1 + n0;
    if x > n1 || x > drawn || drawn - x > n0 || total == 0 {
        return if total == 0 { 1.0 } else { 0.0 };
    }
    let p = drawn as f64 / total as f64;
    let q = (total - drawn) as f64 / total as f64;
    let ln = |x: u64, n: u64| ln_binomial(x as f64, n as f64, p, q);
    (ln(x, n1) + ln(drawn - x, n0) - ln(drawn, total)).exp()
}
