//! Fisher's exact test, for small counts: fixed horizon, for reports.

use crate::beta::hypergeometric_pmf;
use crate::two_sample::Rate;

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
