//! Exact tests and intervals for small counts: fixed horizon, for reports.

use crate::beta::{beta_quantile, binomial_pmf, hypergeometric_pmf};
use crate::interval::Interval;
use crate::two_sample::Rate;

/// Clopper and Pearson's interval of a proportion (1934): coverage is at least nominal; [0, 1] without trials.
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

/// The p-values of an exact test of two proportions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExactTest {
    /// Two-sided.
    pub p: f64,
    /// Against the treated rate not being greater.
    pub p_greater: f64,
    /// Against the treated rate not being less.
    pub p_less: f64,
}

/// Fisher's exact test: the two-sided p-value is the sum over tables that are not more probable than the observed one.
pub fn fisher(treated: Rate, control: Rate) -> ExactTest {
    let drawn = treated.events + control.events;
    let pmf = |x: u64| hypergeometric_pmf(x, treated.n, control.n, drawn);
    let seen = pmf(treated.events) * (1.0 + 1e-7);
    let (mut two, mut greater, mut less) = (0.0, 0.0, 0.0);
    for x in drawn.saturating_sub(control.n)..=drawn.min(treated.n) {
        let p = pmf(x);
        if p <= seen {
            two += p;
        }
        if x >= treated.events {
            greater += p;
        }
        if x <= treated.events {
            less += p;
        }
    }
    ExactTest {
        p: f64::min(two, 1.0),
        p_greater: f64::min(greater, 1.0),
        p_less: f64::min(less, 1.0),
    }
}

/// Barnard's test with the pooled Wald statistic: the maximum, over the common rate, of the probability of a table as extreme.
///
/// It visits every table, so it is for arms of at most a few hundred. Tables that tie up to rounding count as extreme.
pub fn barnard(treated: Rate, control: Rate) -> f64 {
    barnard_by(treated, control, |statistic, seen| statistic >= seen * (1.0 - 1e-13))
}

/// The same test with another definition of "as extreme as the observed statistic".
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

/// Boschloo's test: Fisher's one-sided p-value as statistic, two-sided as twice the smaller side.
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

/// The number of grid steps of the common rate before the maximum is refined.
const STEPS: u32 = 400;

/// Maximizes, over the rate common to both arms, the probability of the chosen tables.
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
