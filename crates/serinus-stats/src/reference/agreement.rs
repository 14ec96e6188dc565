//! The sequential `McNemar` test, and Cohen's kappa.

use std::f64::consts::LN_2;

use crate::agreement::Discordant;
use crate::special::ln_beta;

/// How sharply the sequential `McNemar`'s prior is set on "no difference".
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
    /// The share of cases on which both say the same.
    pub agreement: f64,
    /// Cohen's kappa; not a number when chance alone would agree always.
    pub kappa: f64,
    /// Its asymptotic standard error (Fleiss, Cohen and Everitt 1969).
    pub error: f64,
    /// The same under no agreement beyond chance.
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
