//! The rank test of Mann and Whitney, fixed horizon.

use crate::special::normal_sf;

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

/// Counts the values of either sample in each group of equal ones, ascending.
pub(crate) fn groups(treated: &[f64], control: &[f64]) -> Vec<(u64, u64)> {
    // A sum with zero has no sign: -0 ties with 0.
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
