//! Special functions: the normal, Student and chi-square distributions, log-gamma kin, and sums in log space.
//!
//! Sources: `libm::erfc` (relative error below 1e-15), Abramowitz-Stegun 26.2.17 and 26.7, Lentz's continued fractions,
//! Acklam's quantile refined by Halley's step, Loader's saddle point for the gamma ratio; `statrs` for `ln_gamma`.

#![expect(clippy::many_single_char_names, reason = "formulas keep the letters of their sources")]

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, PI, SQRT_2};

use statrs::function::gamma;

/// `ln(sqrt(2 pi))`.
pub const LN_SQRT_2PI: f64 = 0.918_938_533_204_672_8;

/// Returns the density of the standard normal distribution at `z`.
pub fn normal_pdf(z: f64) -> f64 {
    (-0.5 * z * z - LN_SQRT_2PI).exp()
}

/// Returns `P(Z <= z)` of the standard normal distribution.
pub fn normal_cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// Returns `P(Z > z)` of the standard normal distribution, without cancellation in the far tail.
pub fn normal_sf(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// Returns `ln P(Z > z)`, which does not underflow: beyond 5 by the continued fraction of Mills' ratio.
pub fn normal_ln_sf(z: f64) -> f64 {
    if z.is_nan() {
        return f64::NAN;
    }
    if z < -1.0 {
        return (-normal_cdf(z)).ln_1p();
    }
    if z < 5.0 {
        return normal_sf(z).ln();
    }
    if z.is_infinite() {
        return f64::NEG_INFINITY;
    }
    // Q(z) = phi(z) / (z + 1/(z + 2/(z + 3/(z + ...)))), evaluated from the far end.
    let mut tail = z;
    for k in (1..=120).rev() {
        tail = z + f64::from(k) / tail;
    }
    -0.5 * z * z - LN_SQRT_2PI - tail.ln()
}

/// Returns `ln P(Z <= z)`.
pub fn normal_ln_cdf(z: f64) -> f64 {
    normal_ln_sf(-z)
}

/// Returns the `z` with `P(Z <= z) = p`; minus and plus infinity at 0 and 1, NaN outside.
pub fn normal_quantile(p: f64) -> f64 {
    if p.is_nan() || !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    if 1.0 - p == 0.0 {
        return f64::INFINITY;
    }
    // The lower tail keeps its relative precision; the upper half is its mirror.
    if p > 0.5 { -lower_quantile(1.0 - p) } else { lower_quantile(p) }
}

/// Returns the `z` with `P(Z > z) = p`, precise for small `p`.
pub fn normal_isf(p: f64) -> f64 {
    -normal_quantile(p)
}

/// Acklam's rational approximation (1.15e-9) and two Halley steps, for `p <= 1/2`.
fn lower_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
    ];
    let horner = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let mut z = if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        horner(&C, q) / (horner(&D, q) * q + 1.0)
    } else {
        let q = p - 0.5;
        let r = q * q;
        horner(&A, r) * q / (horner(&B, r) * r + 1.0)
    };
    for _ in 0..2 {
        // Below 1e-300 the density underflows; the start is good to nine digits there.
        let density = normal_pdf(z);
        if density < 1e-300 {
            break;
        }
        let u = (normal_cdf(z) - p) / density;
        z -= u / (1.0 + 0.5 * z * u);
    }
    z
}

/// Returns `P(T > t)` of Student's t distribution with `df` degrees of freedom.
///
/// Large `df` near the center: Fisher's expansion in `1/df`. Otherwise the continued fraction of the incomplete beta function
/// with a prefactor free of cancellation, so that `df` of a billion keeps its digits.
pub fn student_sf(t: f64, df: f64) -> f64 {
    if t.is_nan() || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    if t.is_infinite() {
        return if t > 0.0 { 0.0 } else { 1.0 };
    }
    if df.is_infinite() {
        return normal_sf(t);
    }
    if t < 0.0 {
        return 1.0 - student_sf(-t, df);
    }
    let t2 = t * t;
    if df > 1e5 && t2 * t2 < 4e-3 * df {
        return student_sf_expansion(t, df);
    }
    let (a, b) = (0.5 * df, 0.5);
    let y = t2 / (df + t2);
    // x^a (1-x)^b Gamma(a+b) / (Gamma(a) Gamma(b)) with x = df/(df+t^2).
    let ln_front = -a * (t2 / df).ln_1p() + b * y.ln() + ln_gamma_half_ratio(a) - 0.5 * PI.ln();
    let x = df / (df + t2);
    if x < (a + 1.0) / (a + b + 2.0) {
        0.5 * ln_front.exp() * beta_fraction(a, b, x) / a
    } else if t == 0.0 {
        0.5
    } else {
        0.5 - 0.5 * ln_front.exp() * beta_fraction(b, a, y) / b
    }
}

/// Fisher's expansion of the upper tail to the third order in `1/df`.
fn student_sf_expansion(t: f64, df: f64) -> f64 {
    let s = t * t;
    let first = t * (s + 1.0) / 4.0;
    let second = t * (((3.0 * s - 7.0) * s - 5.0) * s - 3.0) / 96.0;
    let third = t * (((((s - 11.0) * s + 14.0) * s + 6.0) * s - 3.0) * s - 15.0) / 384.0;
    normal_sf(t) + normal_pdf(t) * (first + (second + third / df) / df) / df
}

/// Returns `ln(Gamma(a + 1/2) / Gamma(a))`.
fn ln_gamma_half_ratio(a: f64) -> f64 {
    if a < 40.0 {
        return gamma::ln_gamma(a + 0.5) - gamma::ln_gamma(a);
    }
    let r = 1.0 / a;
    let r2 = r * r;
    0.5 * a.ln() + r * (-1.0 / 8.0 + r2 * (1.0 / 192.0 + r2 * (-1.0 / 640.0 + r2 * 17.0 / 14336.0)))
}

/// Returns the continued fraction of the incomplete beta function by Lentz's method (Numerical Recipes 6.4).
pub fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let guard = |f: f64| if f.abs() < 1e-300 { 1e-300 } else { f };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    for m in 1..200_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        let step = d * c;
        h *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    h
}

/// Returns the `t` with `P(T > t) = p` for `p` in (0, 1); Newton's method, which climbs monotonically on the convex tail.
pub fn student_isf(p: f64, df: f64) -> f64 {
    if p.is_nan() || df.is_nan() || df <= 0.0 || p <= 0.0 || p >= 1.0 {
        return f64::NAN;
    }
    if p > 0.5 {
        return -student_isf(1.0 - p, df);
    }
    let ln_scale = ln_gamma_half_ratio(0.5 * df) - 0.5 * (PI * df).ln();
    let mut t = normal_isf(p);
    for _ in 0..200 {
        let density = (ln_scale - 0.5 * (df + 1.0) * (t * t / df).ln_1p()).exp();
        let step = (student_sf(t, df) - p) / density;
        t += step;
        if step.abs() <= 1e-15 * t.abs() {
            break;
        }
    }
    t
}

/// Returns `P(X > x)` of the chi-square distribution with `df` degrees of freedom; 1 for `x <= 0`.
pub fn chi2_sf(x: f64, df: f64) -> f64 {
    if x.is_nan() || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    if x <= 0.0 {
        return 1.0;
    }
    if x.is_infinite() {
        return 0.0;
    }
    gamma::gamma_ur(0.5 * df, 0.5 * x)
}

/// Returns the `x` with `P(X > x) = p` of the chi-square distribution, by bisection.
pub fn chi2_isf(p: f64, df: f64) -> f64 {
    if p.is_nan() || df.is_nan() || df <= 0.0 || p <= 0.0 || p > 1.0 {
        return f64::NAN;
    }
    let mut high = df.max(1.0);
    while chi2_sf(high, df) > p && high < 1e300 {
        high *= 2.0;
    }
    bisect(0.0, high, |x| chi2_sf(x, df) > p)
}

/// Returns the point at which `holds` changes from true (at `low`) to false (at `high`), to the last bit.
pub fn bisect(low: f64, high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (low, high);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Returns `ln Gamma(x)` for `x > 0`.
pub fn ln_gamma(x: f64) -> f64 {
    gamma::ln_gamma(x)
}

/// Returns `ln B(a, b)`.
pub fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Returns the log of the multivariate beta function, `sum ln Gamma(a_i) - ln Gamma(sum a_i)`.
pub fn ln_multibeta(a: impl IntoIterator<Item = f64>) -> f64 {
    let (logs, total) =
        a.into_iter().fold((0.0, 0.0), |(logs, total), it| (logs + ln_gamma(it), total + it));
    logs - ln_gamma(total)
}

/// Returns `ln sum exp(v_i)` without overflow; minus infinity for nothing.
pub fn log_sum_exp(values: &[f64]) -> f64 {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top.is_infinite() {
        // All are minus infinity, or one is plus infinity: no finite scale to take out.
        return top;
    }
    top + values.iter().map(|t| (t - top).exp()).sum::<f64>().ln()
}

/// Returns the log of the arithmetic mean of `exp(v_i)`: the mean of e-values is an e-value regardless of their dependence.
pub fn log_mean_exp(values: &[f64]) -> f64 {
    log_sum_exp(values) - (values.len() as f64).ln()
}

/// Returns the log of the mean of two e-values: a two-sided test from two one-sided tests.
pub fn log_mean_of_two(first: f64, second: f64) -> f64 {
    log_sum_exp(&[first, second]) - LN_2
}

/// Returns the always-valid p-value of an e-value, `min(1, exp(-log_e))`.
pub fn p_of_log_e(log_e: f64) -> f64 {
    (-log_e).exp().min(1.0)
}

/// Returns the two-sided normal p-value of `z`.
pub fn normal_two_sided(z: f64) -> f64 {
    libm::erfc(z.abs() / SQRT_2)
}
