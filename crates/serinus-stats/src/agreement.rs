//! Agreement of two versions on the same cases: `McNemar`'s tests and Cohen's kappa.

use std::f64::consts::LN_2;

use crate::beta::{binomial_cdf, binomial_pmf};
use crate::special::{chi2_sf, ln_beta};

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

/// The concentration of the sequential `McNemar` test's prior on "no difference".
pub const MCNEMAR_CONCENTRATION: f64 = 20.0;

/// Returns the log e-value of the sequential `McNemar` test: a `Beta(k/2, k/2)` mixture against 1/2.
pub fn mcnemar_log_e(pairs: Discordant, concentration: f64) -> f64 {
    let (b, c) = (pairs.stable as f64, pairs.candidate as f64);
    let half = 0.5 * concentration;
    ln_beta(half + c, half + b) - ln_beta(half, half) + (b + c) * LN_2
}

/// Agreement of two versions on classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kappa {
    /// The share of cases with equal predictions.
    pub agreement: f64,
    /// Cohen's kappa; NaN if the agreement expected under independence is 1.
    pub kappa: f64,
    /// Its asymptotic standard error (Fleiss, Cohen and Everitt 1969).
    pub error: f64,
    /// The standard error under no agreement beyond chance.
    pub error_null: f64,
}

/// Computes kappa from a square table, row = stable version's class, column = candidate's.
pub fn kappa(table: &[Vec<u64>]) -> Kappa {
    let size = table.len();
    let total: f64 = table.iter().flatten().map(|t| *t as f64).sum();
    let share = |i: usize, j: usize| table[i].get(j).map_or(0.0, |t| *t as f64) / total;
    let rows: Vec<f64> = (0..size).map(|i| (0..size).map(|j| share(i, j)).sum()).collect();
    let columns: Vec<f64> = (0..size).map(|j| (0..size).map(|i| share(i, j)).sum()).collect();
    let agreement: f64 = (0..size).map(|i| share(i, i)).sum();
    let chance: f64 = rows.iter().zip(&columns).map(|(r, c)| r * c).sum();
    let beyond = 1.0 - chance;
    if beyond.is_nan() || beyond <= 1e-15 {
        return Kappa { agreement, kappa: f64::NAN, error: f64::NAN, error_null: f64::NAN };
    }
    let kappa = (agreement - chance) / beyond;
    let miss = 1.0 - kappa;
    let mut spread = -(kappa - chance * miss).powi(2);
    for i in 0..size {
        for j in 0..size {
            spread += if i == j {
                share(i, i) * (1.0 - (rows[i] + columns[i]) * miss).powi(2)
            } else {
                share(i, j) * ((columns[i] + rows[j]) * miss).powi(2)
            };
        }
    }
    let product: f64 = rows.iter().zip(&columns).map(|(r, c)| r * c * (r + c)).sum();
    let spread_null = chance + chance * chance - product;
    let scale = |spread: f64| (spread.max(0.0) / total).sqrt() / beyond;
    Kappa { agreement, kappa, error: scale(spread), error_null: scale(spread_null) }
}
