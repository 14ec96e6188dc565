//! Several hypotheses at once: corrections for e-values and for p-values.
//!
//! Sources: Wang and Ramdas 2022 (e-BH), Vovk and Wang 2021 (e-Bonferroni, e-Holm); Holm 1979, Hochberg 1988, Benjamini and
//! Hochberg 1995, Benjamini and Yekutieli 2001. E-values may have any dependence.

/// Returns the indices with `e >= m / alpha`, ascending.
pub fn e_bonferroni(log_e: &[f64], alpha: f64) -> Vec<usize> {
    let bound = (log_e.len() as f64 / alpha).ln();
    (0..log_e.len()).filter(|i| log_e[*i] >= bound).collect()
}

/// Returns the log of the threshold of a hypothesis with this weight: `1 / (alpha w)`, weights summing to one.
pub fn e_bar(alpha: f64, weight: f64) -> f64 {
    -(alpha * weight).ln()
}

/// Returns the indices that Holm's step-down rejects: in falling order while `e_(k) >= (m - k + 1) / alpha`.
pub fn e_holm(log_e: &[f64], alpha: f64) -> Vec<usize> {
    let m = log_e.len();
    let order = falling(log_e);
    let kept = order
        .iter()
        .enumerate()
        .take_while(|(k, i)| log_e[**i] >= ((m - k) as f64 / alpha).ln())
        .count();
    ascending(&order[..kept])
}

/// Returns the indices that e-BH rejects at false discovery rate `alpha`: the top `k*` with `e_(k*) >= m / (k* alpha)`.
pub fn e_bh(log_e: &[f64], alpha: f64) -> Vec<usize> {
    let m = log_e.len() as f64;
    let order = falling(log_e);
    let kept =
        (1..=order.len()).rev().find(|k| log_e[order[k - 1]] >= (m / (*k as f64 * alpha)).ln());
    ascending(&order[..kept.unwrap_or(0)])
}

fn falling(log_e: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..log_e.len()).collect();
    order.sort_by(|a, b| log_e[*b].total_cmp(&log_e[*a]).then(a.cmp(b)));
    order
}

fn ascending(indices: &[usize]) -> Vec<usize> {
    let mut indices = indices.to_vec();
    indices.sort_unstable();
    indices
}

/// Returns `min(1, m p)` for each.
pub fn bonferroni(p: &[f64]) -> Vec<f64> {
    p.iter().map(|f| (f * p.len() as f64).min(1.0)).collect()
}

/// Returns Holm's adjusted p-values.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let m = p.len();
    let mut top: f64 = 0.0;
    adjusted(p, &rising(p), |k, p| {
        top = top.max((m - k) as f64 * p);
        top
    })
}

/// Returns Hochberg's adjusted p-values.
pub fn hochberg(p: &[f64]) -> Vec<f64> {
    let m = p.len();
    let mut least: f64 = 1.0;
    adjusted(p, &sinking(p), |k, p| {
        // `k` counts from the largest p-value: it has rank m - k and factor k + 1.
        debug_assert!(k < m);
        least = least.min((k + 1) as f64 * p);
        least
    })
}

/// Returns the adjusted p-values of Benjamini and Hochberg.
pub fn bh(p: &[f64]) -> Vec<f64> {
    step_up(p, 1.0)
}

/// Returns the adjusted p-values of Benjamini and Yekutieli, for any dependence.
pub fn by(p: &[f64]) -> Vec<f64> {
    step_up(p, (1..=p.len()).map(|k| 1.0 / k as f64).sum())
}

fn step_up(p: &[f64], factor: f64) -> Vec<f64> {
    let m = p.len();
    let mut least: f64 = 1.0;
    adjusted(p, &sinking(p), |k, p| {
        least = least.min(factor * m as f64 / (m - k) as f64 * p);
        least
    })
}

fn rising(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    order
}

fn sinking(p: &[f64]) -> Vec<usize> {
    let mut order = rising(p);
    order.reverse();
    order
}

/// Visits p-values in `order`, passes each with its rank, and stores the running result, at most 1.
fn adjusted(p: &[f64], order: &[usize], mut step: impl FnMut(usize, f64) -> f64) -> Vec<f64> {
    let mut out = vec![1.0; p.len()];
    for (k, i) in order.iter().enumerate() {
        out[*i] = step(k, p[*i]).min(1.0);
    }
    out
}
