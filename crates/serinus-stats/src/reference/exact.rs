//! Exact tests of two proportions other than Fisher's, and the exact interval of one.

use crate::beta::{beta_quantile, binomial_pmf};
use crate::exact::fisher;
use crate::interval::Interval;
use crate::two_sample::Rate;

/// Clopper and Pearson's interval of a proportion (1934): coverage is at least nominal; [0, 1] among none.
pub fn clopper_pearson(rate: Rate, alpha: f64) -> Interval {
    let (x, n) = (rate.events as f64, rate.n as f64);
    Interval {
        low: if rate.events == 0 { 0.0 } else { beta_quantile(x, n - x + 1.0, 0.5 * alpha) },
        high: if rate.events >= rate.n {
            1.0
        } else {
            beta_quantile(x + 1.0, n - x, 1.0 - 0.5 * alpha)
        },
    }
}

/// Barnard's test with the pooled Wald statistic: the greatest probability, over the common rate, of a table as extreme.
///
/// It visits every table, so it is for arms of some hundreds at most. Tables that tie but for rounding count as extreme.
pub fn barnard(treated: Rate, control: Rate) -> f64 {
    barnard_by(treated, control, |statistic, seen| statistic >= seen * (1.0 - 1e-13))
}

/// The same with another notion of what is as extreme as the statistic that was seen.
pub fn barnard_by(treated: Rate, control: Rate, is_extreme: impl Fn(f64, f64) -> bool) -> f64 {
    let statistic = |x1: u64, x0: u64| {
        let (n1, n0) = (treated.n as f64, control.n as f64);
        let gap = x1 as f64 / n1 - x0 as f64 / n0;
        let pooled = (x1 + x0) as f64 / (n1 + n0);
        if gap == 0.0 {
            0.0
        } else {
            (gap / (pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n0)).sqrt()).abs()
        }
    };
    let seen = statistic(treated.events, control.events);
    worst_case(treated.n, control.n, |x1, x0| is_extreme(statistic(x1, x0), seen))
}

/// Boschloo's test: Fisher's one-sided p-value as statistic, two-sided as twice the lesser side.
pub fn boschloo(treated: Rate, control: Rate) -> f64 {
    let side = |greater: bool| {
        let statistic = |x1: u64, x0: u64| {
            let test = fisher(Rate { events: x1, n: treated.n }, Rate { events: x0, n: control.n });
            if greater { test.p_greater } else { test.p_less }
        };
        // Sums of probabilities that tie differ by what rounding leaves, up to some 1e-12.
        let seen = statistic(treated.events, control.events) * (1.0 + 1e-9);
        worst_case(treated.n, control.n, |x1, x0| statistic(x1, x0) <= seen)
    };
    (2.0 * f64::min(side(false), side(true))).min(1.0)
}

/// Into how many steps the common rate is cut before the maximum is refined.
const STEPS: u32 = 400;

/// Maximises, over the rate common to both arms, the probability of the tables chosen.
fn worst_case(n1: u64, n0: u64, chosen: impl Fn(u64, u64) -> bool) -> f64 {
    let tables: Vec<(u64, u64)> = (0..=n1)
        .flat_map(|x1| (0..=n0).map(move |x0| (x1, x0)))
        .filter(|(x1, x0)| chosen(*x1, *x0))
        .collect();
    let probability = |rate: f64| -> f64 {
        let law = |n: u64| -> Vec<f64> { (0..=n).map(|x| binomial_pmf(x, n, rate)).collect() };
        let (treated, control) = (law(n1), law(n0));
        let at = |law: &[f64], x: u64| {
            usize::try_from(x).ok().and_then(|t| law.get(t).copied()).unwrap_or(0.0)
        };
        tables.iter().map(|(x1, x0)| at(&treated, *x1) * at(&control, *x0)).sum()
    };
    let width = 1.0 / f64::from(STEPS);
    let best = (0..=STEPS)
        .map(|step| f64::from(step) * width)
        .max_by(|a, b| probability(*a).total_cmp(&probability(*b)))
        .unwrap_or(0.5);
    // Golden section around the best of the grid.
    let (mut low, mut high) = ((best - width).max(0.0), (best + width).min(1.0));
    let golden = 0.5 * (5.0_f64.sqrt() - 1.0);
    for _ in 0..40 {
        let (left, right) = (high - golden * (high - low), low + golden * (high - low));
        if probability(left) < probability(right) {
            low = left;
        } else {
            high = right;
        }
    }
    probability(best).max(probability(0.5 * (low + high))).min(1.0)
}
