//! `McNemar`'s tests: whether two versions are equally often correct on the same cases.

use crate::beta::{binomial_cdf, binomial_pmf};
use crate::special::chi2_sf;

/// Discordant pairs: cases on which exactly one version was right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discordant {
    /// Pairs in which only the stable version was right.
    pub stable: u64,
    /// Pairs in which only the candidate was right.
    pub candidate: u64,
}

/// `McNemar`'s tests of equal accuracy, fixed horizon (`McNemar` 1947; mid-p: Fagerland, Lydersen and Laake 2013).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mcnemar {
    /// The exact two-sided p-value; 1 without discordant pairs.
    pub p_exact: f64,
    /// The mid-p-value; 1 if both counts are equal.
    pub p_mid: f64,
    /// The chi-square statistic; 0 without discordant pairs.
    pub chi2: f64,
    /// Its p-value.
    pub p_chi2: f64,
    /// The statistic with continuity correction.
    pub chi2_corrected: f64,
    /// Its p-value.
    pub p_chi2_corrected: f64,
}

/// Tests whether the two versions are right equally often.
pub fn mcnemar(pairs: Discordant) -> Mcnemar {
    let n = pairs.stable + pairs.candidate;
    if n == 0 {
        return Mcnemar {
            p_exact: 1.0,
            p_mid: 1.0,
            chi2: 0.0,
            p_chi2: 1.0,
            chi2_corrected: 0.0,
            p_chi2_corrected: 1.0,
        };
    }
    let least = pairs.stable.min(pairs.candidate);
    let p_exact = (2.0 * binomial_cdf(least, n, 0.5)).min(1.0);
    let gap = pairs.stable.abs_diff(pairs.candidate) as f64;
    let chi2 = gap * gap / n as f64;
    let chi2_corrected = (gap - 1.0).powi(2) / n as f64;
    // Both tails meet at an even count. Twice the mid-p of one tail is then 1, and the formula below would take too much.
    let p_mid =
        if pairs.stable == pairs.candidate { 1.0 } else { p_exact - binomial_pmf(least, n, 0.5) };
    Mcnemar {
        p_exact,
        p_mid,
        chi2,
        p_chi2: chi2_sf(chi2, 1.0),
        chi2_corrected,
        p_chi2_corrected: chi2_sf(chi2_corrected, 1.0),
    }
}
