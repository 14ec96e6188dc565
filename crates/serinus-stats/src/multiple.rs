//! Several hypotheses at once: e-BH, which controls the false discovery rate of e-values that depend on each other in any way.
//!
//! Source: Wang and Ramdas 2022.

/// Returns the indices that e-BH rejects at false discovery rate `alpha`: the top `k*` with `e_(k*) >= m / (k* alpha)`.
pub fn e_bh(log_e: &[f64], alpha: f64) -> Vec<usize> {
    let m = log_e.len() as f64;
    let order = falling(log_e);
    let kept =
        (1..=order.len()).rev().find(|k| log_e[order[k - 1]] >= (m / (*k as f64 * alpha)).ln());
    ascending(&order[..kept.unwrap_or(0)])
}

pub(crate) fn falling(log_e: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..log_e.len()).collect();
    order.sort_by(|a, b| log_e[*b].total_cmp(&log_e[*a]).then(a.cmp(b)));
    order
}

pub(crate) fn ascending(indices: &[usize]) -> Vec<usize> {
    let mut indices = indices.to_vec();
    indices.sort_unstable();
    indices
}
