//! The latency guardrail: whether the candidate is slower at any of four quantiles of the stable version's distribution.
//!
//! Thresholds are the stable version's p50, p90, p99 and p99.9, frozen before the stage. At each the event is "slower than this", its
//! e-process that of `ipw_bet` (a difference of rates) or `rr_mix` (a ratio), and the evidence is the mean of the four e-values:
//! valid regardless of their dependence, and the log is within ln 4 of the best of them.
//!
//! A relative margin is part of the thresholds: to prove "at most 20 % slower", a treated answer counts if it is
//! slower than 1.2 times the threshold and a control answer if it is slower than the threshold itself ([`Ladder::exceeded`] of each).
//! Then a candidate that is exactly 20 % slower is on the boundary of the null at all four.

use crate::ipw_bet::{self, Stratum};
use crate::prior::Prior;
use crate::rr_mix::{self, EventStratum};
use crate::side::{Null, Side};
use crate::sketch::Sketch;
use crate::special::log_mean_exp;

/// The number of thresholds.
pub const RUNGS: usize = 4;
/// The quantiles of the stable version's distribution that the thresholds are.
pub const QUANTILES: [f64; RUNGS] = [0.5, 0.9, 0.99, 0.999];

/// Frozen thresholds, ascending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ladder {
    /// The stable version's quantiles.
    pub thresholds: [f64; RUNGS],
}

impl Ladder {
    /// Freezes the stable version's quantiles; absent without values.
    pub fn of(champion: &Sketch) -> Option<Self> {
        let mut thresholds = [0.0; RUNGS];
        for (threshold, q) in thresholds.iter_mut().zip(QUANTILES) {
            *threshold = champion.quantile(q)?;
        }
        Some(Self { thresholds })
    }

    /// Returns the ladder with every threshold multiplied, for example by `1 + margin` for the candidate's arm.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { thresholds: self.thresholds.map(|t| t * factor) }
    }

    /// Returns which thresholds a value exceeds; none for NaN.
    pub fn exceeded(&self, value: f64) -> [bool; RUNGS] {
        self.thresholds.map(|t| value > t)
    }

    /// Returns the planned base rate at each threshold: by construction `1 - q`.
    pub fn bases() -> [f64; RUNGS] {
        QUANTILES.map(|q| 1.0 - q)
    }
}

/// Returns the log of the mean e-value that exceedances differ on `side`, as differences of rates.
///
/// `stages[rung]` are the counts at that threshold over all stages. Bets are planned for exceedances that grow or fall by the
/// share `relative` of the threshold's base rate.
pub fn log_e_difference(stages: [&[Stratum]; RUNGS], side: Side, relative: f64) -> f64 {
    let mut log_es = [0.0; RUNGS];
    for ((log_e, strata), base) in log_es.iter_mut().zip(stages).zip(Ladder::bases()) {
        *log_e = ipw_bet::log_e(strata, Null { at: 0.0, side }, &Prior::planned(relative * base));
    }
    log_mean_exp(&log_es)
}

/// Returns the log of the mean e-value against a null on the log ratio of exceedances, the same at each threshold.
pub fn log_e_ratio(stages: [&[EventStratum]; RUNGS], null: Null, prior: &Prior) -> f64 {
    log_mean_exp(&stages.map(|strata| rr_mix::log_e(strata, null, prior)))
}
