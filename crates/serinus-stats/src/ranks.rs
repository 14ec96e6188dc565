//! Rank tests of two samples, fixed horizon: Mann-Whitney and Kolmogorov-Smirnov.

use crate::special::{ln_gamma, normal_sf};

/// The test of Mann and Whitney.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// The number of pairs with the treated value above the control value; ties count half.
    pub u: f64,
    /// The two-sided p-value of the normal approximation, corrected for ties and continuity.
    pub p: f64,
    /// The exact two-sided p-value, if there are no ties and few values.
    pub p_exact: Option<f64>,
    /// `u / (n1 n0)`: the probability that a treated value is above a control value.
    pub superiority: f64,
}

impl MannWhitney {
    /// The result for samples that cannot be compared.
    const NOT_COMPARABLE: Self =
        Self { u: f64::NAN, p: f64::NAN, p_exact: None, superiority: f64::NAN };
}

/// Maximum product of sample sizes for the exact distribution.
const EXACT_MAX: f64 = 10_000.0;

/// Compares two samples by ranks; all values equal give p = 1.
///
/// An empty sample or a value of NaN gives NaN.
pub fn mann_whitney(treated: &[f64], control: &[f64]) -> MannWhitney {
    if treated.iter().chain(control).any(|value| value.is_nan()) {
        return MannWhitney::NOT_COMPARABLE;
    }
    of_groups(&groups(treated, control))
}

/// Compares two samples by ranks from their counts in the same bins, ascending; values in one bin tie.
pub fn mann_whitney_binned(treated: &[u64], control: &[u64]) -> MannWhitney {
    of_groups(&treated.iter().copied().zip(control.iter().copied()).collect::<Vec<_>>())
}

/// Counts the values of both samples in each group of equal values, ascending.
fn groups(treated: &[f64], control: &[f64]) -> Vec<(u64, u64)> {
    // Adding zero removes the sign, so that -0 ties with 0.
    let of = |values: &[f64], is_treated: bool| -> Vec<(f64, bool)> {
        values.iter().map(|b| (b + 0.0, is_treated)).collect()
    };
    let mut all = [of(treated, true), of(control, false)].concat();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq())
        .map(|group| {
            let of_treated = group.iter().filter(|g| g.1).count() as u64;
            (of_treated, group.len() as u64 - of_treated)
        })
        .collect()
}

/// Compares by the counts of each group of equal values, ascending.
fn of_groups(groups: &[(u64, u64)]) -> MannWhitney {
    let (mut n1, mut n0, mut rank_sum, mut ties) = (0.0, 0.0, 0.0, 0.0);
    for (treated, control) in groups {
        let (treated, control) = (*treated as f64, *control as f64);
        let size = treated + control;
        rank_sum += (n1 + n0 + 0.5 * (size + 1.0)) * treated;
        ties += size * size * size - size;
        n1 += treated;
        n0 += control;
    }
    if n1 == 0.0 || n0 == 0.0 {
        return MannWhitney::NOT_COMPARABLE;
    }
    let n: f64 = n1 + n0;
    let u = rank_sum - 0.5 * n1 * (n1 + 1.0);
    let deviation = (n1 * n0 / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)))).sqrt();
    let greater = u.max(n1 * n0 - u);
    let p = if deviation > 0.0 {
        (2.0 * normal_sf((greater - 0.5 * n1 * n0 - 0.5) / deviation)).min(1.0)
    } else {
        1.0
    };
    let has_ties = groups.iter().any(|(treated, control)| treated + control > 1);
    let p_exact = (!has_ties && n1 * n0 <= EXACT_MAX).then(|| {
        let of_treated = groups.iter().filter(|(treated, _)| *treated > 0).count();
        let of_control = groups.iter().filter(|(_, control)| *control > 0).count();
        exact_tail(of_treated, of_control, greater)
    });
    MannWhitney { u, p, p_exact, superiority: u / (n1 * n0) }
}

/// `2 P(U >= u)`: the law of `U` by which arm has the greatest value (Mann and Whitney 1947). Only sums: nothing cancels.
fn exact_tail(n1: usize, n0: usize, u: f64) -> f64 {
    let (few, many) = (n1.min(n0), n1.max(n0));
    // The laws for none to all of the fewer values and, so far, none of the others.
    let mut laws = vec![vec![1.0]; few + 1];
    for j in 1..=many {
        for i in 1..=few {
            let mut law = vec![0.0; i * j + 1];
            let share = i as f64 / (i + j) as f64;
            // The greatest is one of the fewer, and above all of the others; or one of the others, which adds nothing.
            for (k, p) in laws[i - 1].iter().enumerate() {
                law[k + j] += share * p;
            }
            for (k, p) in laws[i].iter().enumerate() {
                law[k] += (1.0 - share) * p;
            }
            laws[i] = law;
        }
    }
    let tail: f64 =
        laws[few].iter().enumerate().filter(|(k, _)| *k as f64 >= u).map(|(_, p)| p).sum();
    (2.0 * tail).min(1.0)
}

/// The test of Kolmogorov and Smirnov.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KolmogorovSmirnov {
    /// The greatest distance of the two distribution functions.
    pub d: f64,
    /// The p-value by the exact one-sample distribution at the effective size, rounded as scipy does: a half to the even size. Not a
    /// number where that size is 0 (one value each).
    pub p: f64,
    /// The p-value by the limiting distribution.
    pub p_limit: f64,
}

/// Compares the distribution functions of two samples.
///
/// An empty sample or a value of NaN gives NaN.
pub fn kolmogorov_smirnov(treated: &[f64], control: &[f64]) -> KolmogorovSmirnov {
    let has_gaps = treated.iter().chain(control).any(|value| value.is_nan());
    if treated.is_empty() || control.is_empty() || has_gaps {
        return KolmogorovSmirnov { d: f64::NAN, p: f64::NAN, p_limit: f64::NAN };
    }
    let (n1, n0) = (treated.len() as f64, control.len() as f64);
    let (mut below1, mut below0, mut d) = (0.0, 0.0, 0.0_f64);
    for (of_treated, of_control) in groups(treated, control) {
        below1 += of_treated as f64;
        below0 += of_control as f64;
        d = d.max((below1 / n1 - below0 / n0).abs());
    }
    let size = n1 * n0 / (n1 + n0);
    let rounded = size.round_ties_even();
    KolmogorovSmirnov {
        d,
        p: if rounded < 1.0 { f64::NAN } else { kolmogorov_n_sf(rounded, d) },
        p_limit: kolmogorov_sf(size.sqrt() * d),
    }
}

/// Returns `P(K > x)` of Kolmogorov's limiting distribution.
pub fn kolmogorov_sf(x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if x < 0.8 {
        // The theta function's other form converges at once for small x.
        let t = std::f64::consts::PI * std::f64::consts::PI / (8.0 * x * x);
        let sum: f64 = (0..20).map(|k| (-t * f64::from((2 * k + 1) * (2 * k + 1))).exp()).sum();
        return 1.0 - std::f64::consts::TAU.sqrt() / x * sum;
    }
    let sum: f64 = (1..=50)
        .map(|k| {
            let k = f64::from(k);
            let term = (-2.0 * k * k * x * x).exp();
            if k % 2.0 == 0.0 { -term } else { term }
        })
        .sum();
    (2.0 * sum).clamp(0.0, 1.0)
}

/// Returns `P(D_n > d)` for one sample of size `n`.
///
/// In the tail twice Smirnov's one-sided distribution, exact from `d = 1/2` and to all digits from `n d^2 = 4`; else the matrix of
/// Marsaglia, Tsang and Wang 2003; for samples beyond ten thousand the limiting distribution with Vrbik's correction.
pub fn kolmogorov_n_sf(n: f64, d: f64) -> f64 {
    if n < 1.0 || d <= 0.5 / n {
        return 1.0;
    }
    if d >= 1.0 {
        return 0.0;
    }
    if d >= 0.5 || n * d * d >= 4.0 {
        return (2.0 * smirnov_sf(n, d)).min(1.0);
    }
    if n > 10_000.0 {
        let root = n.sqrt();
        let x = root * d;
        return kolmogorov_sf(x + 1.0 / (6.0 * root) + (x - 1.0) / (4.0 * n));
    }
    (1.0 - durbin_cdf(n, d)).clamp(0.0, 1.0)
}

/// `P(D+ > d) = d sum_j C(n, j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j)`.
fn smirnov_sf(n: f64, d: f64) -> f64 {
    let mut sum = 0.0;
    let mut j = 0.0;
    while j <= n * (1.0 - d) {
        let left = 1.0 - d - j / n;
        let ln_choose = ln_gamma(n + 1.0) - ln_gamma(j + 1.0) - ln_gamma(n - j + 1.0);
        let ln_left = if n - j == 0.0 { 0.0 } else { (n - j) * left.ln() };
        sum += (ln_choose + (j - 1.0) * (d + j / n).ln() + ln_left).exp();
        j += 1.0;
    }
    d * sum
}

/// `P(D_n < d)` by the n-th power of Durbin's matrix.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "n d is below some hundreds"
)]
fn durbin_cdf(n: f64, d: f64) -> f64 {
    let k = (n * d) as usize + 1;
    let size = 2 * k - 1;
    let h = k as f64 - n * d;
    let mut matrix = vec![0.0; size * size];
    let factorial = |m: usize| ln_gamma(m as f64 + 1.0).exp();
    for i in 0..size {
        for j in 0..size.min(i + 2) {
            let steps = i + 1 - j;
            let mut value = 1.0;
            if j == 0 {
                value -= h.powi(i as i32 + 1);
            }
            if i == size - 1 {
                value -= h.powi((size - j) as i32);
            }
            if j == 0 && i == size - 1 && 2.0 * h > 1.0 {
                value += (2.0 * h - 1.0).powi(size as i32);
            }
            matrix[i * size + j] = value / factorial(steps);
        }
    }
    let mut power = n as u64;
    let mut result: Vec<f64> =
        (0..size * size).map(|i| if i % (size + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let (mut result_log, mut matrix_log) = (0.0, 0.0);
    while power > 0 {
        if power & 1 == 1 {
            result = product(&result, &matrix, size);
            result_log += matrix_log + rescale(&mut result);
        }
        matrix = product(&matrix, &matrix, size);
        matrix_log = 2.0 * matrix_log + rescale(&mut matrix);
        power >>= 1;
    }
    let corner = result[(k - 1) * size + k - 1];
    (corner.ln() + result_log + ln_gamma(n + 1.0) - n * n.ln()).exp()
}

fn product(a: &[f64], b: &[f64], size: usize) -> Vec<f64> {
    let mut out = vec![0.0; size * size];
    for i in 0..size {
        for k in 0..size {
            let factor = a[i * size + k];
            for j in 0..size {
                out[i * size + j] += factor * b[k * size + j];
            }
        }
    }
    out
}

/// Divides by the greatest entry and returns its log.
fn rescale(matrix: &mut [f64]) -> f64 {
    let top = matrix.iter().copied().fold(0.0, f64::max);
    if top <= 0.0 {
        return 0.0;
    }
    for it in matrix.iter_mut() {
        *it /= top;
    }
    top.ln()
}
