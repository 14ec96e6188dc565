//! The difference of two rates on paired answers (shadow): the e-process and its confidence sequence.
//!
//! `D = [candidate right] - [stable right]` is +1, -1 or 0 on each case; `x = side (D - m)` has mean at most 0 under the null.
//! Bets are Kelly's for the planned discordance, as in `ipw_bet`. A shadow is sampled, not randomized: validity needs
//! `E[D | past] <= m`, so a unit with several requests must enter as one value.
//!
//! Source: betting by Waudby-Smith and Ramdas 2024 on the discordant pairs of `McNemar`'s table.

use crate::interval::Interval;
use crate::invert::{self, Rung};
use crate::kelly;
use crate::prior::{GRID, LogCapitals, Prior};
use crate::side::{Null, Side};

/// The number of pairs in which only the candidate was right, only the stable version, and both or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PairedCounts {
    /// Pairs with `D = +1`.
    pub plus: u64,
    /// Pairs with `D = -1`.
    pub minus: u64,
    /// Pairs with `D = 0`.
    pub zero: u64,
}

impl PairedCounts {
    /// Counts one pair: the event in the candidate's answer and in the stable one's.
    pub fn record(&mut self, candidate: bool, stable: bool) {
        match (candidate, stable) {
            (true, false) => self.plus += 1,
            (false, true) => self.minus += 1,
            (true, true) | (false, false) => self.zero += 1,
        }
    }

    /// Adds the counts of another part.
    pub fn merge(&mut self, other: &Self) {
        self.plus += other.plus;
        self.minus += other.minus;
        self.zero += other.zero;
    }

    /// Subtracts what was merged or recorded before.
    ///
    /// # Panics
    /// Panics if more is subtracted than was counted, which is a bug in the caller.
    pub fn retract(&mut self, other: &Self) {
        let less = |have: u64, take: u64| {
            have.checked_sub(take).expect("only counted values are subtracted")
        };
        self.plus = less(self.plus, other.plus);
        self.minus = less(self.minus, other.minus);
        self.zero = less(self.zero, other.zero);
    }

    /// Returns the number of pairs.
    pub fn pairs(&self) -> u64 {
        self.plus + self.minus + self.zero
    }

    fn outcomes(&self) -> [f64; 3] {
        [self.plus as f64, self.minus as f64, self.zero as f64]
    }
}

/// One stage: its planned share of discordant pairs, and its counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedStratum {
    /// The planned share of pairs with `D != 0`. A wrong value costs power, not validity.
    pub discordance: f64,
    /// The counts.
    pub counts: PairedCounts,
}

/// The bets of one stage against one null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedDesign {
    lambdas: [f64; GRID],
    log_factors: [[f64; 3]; GRID],
}

impl PairedDesign {
    /// Plans the bets: for each effect `d = min(effect, 0.98 discordance)` Kelly's fraction under
    /// `((disc + m + side d)/2, (disc - m - side d)/2, 1 - disc)`, each at least 1e-12.
    ///
    /// A discordance of NaN or zero gives bets of zero; one above 1 counts as 1.
    pub fn new(discordance: f64, null: Null, prior: &Prior) -> Self {
        let mut design = Self { lambdas: [0.0; GRID], log_factors: [[0.0; 3]; GRID] };
        if discordance.is_nan() || discordance <= 0.0 || !null.at.is_finite() {
            return design;
        }
        let discordance = discordance.min(1.0);
        let sign = null.side.sign();
        let outcomes = payoffs(null);
        for (k, effect) in prior.effects.iter().enumerate() {
            let shift = null.at + sign * effect.min(0.98 * discordance);
            let law = [0.5 * (discordance + shift), 0.5 * (discordance - shift), 1.0 - discordance];
            let lambda = kelly::fraction(&law.map(|p| p.max(1e-12)), &outcomes);
            design.lambdas[k] = lambda;
            design.log_factors[k] = outcomes.map(|x| (lambda * x).ln_1p());
        }
        design
    }

    /// Returns the bets, one for each planned effect.
    pub fn lambdas(&self) -> &[f64; GRID] {
        &self.lambdas
    }

    /// Returns the expected log growth per pair of the best bet for this share of discordant pairs and this mean of `D`.
    pub fn growth(&self, discordance: f64, mean: f64) -> f64 {
        let apart = discordance.max(mean.abs());
        let law = [0.5 * (apart + mean), 0.5 * (apart - mean), 1.0 - apart];
        self.log_factors.iter().map(|factors| dot(&law, factors)).fold(0.0, f64::max)
    }

    /// Returns these bets with the counts of a stage, to be tested against other nulls; `None` without pairs.
    pub fn rung(&self, stratum: &PairedStratum, side: Side) -> Option<Rung> {
        let [plus, minus, zero] = payoffs(Null { at: 0.0, side });
        let [n_plus, n_minus, n_zero] = stratum.counts.outcomes();
        (stratum.counts.pairs() > 0).then(|| {
            Rung::new(self.lambdas, [plus, minus, zero, 0.0], [n_plus, n_minus, n_zero, 0.0])
        })
    }

    /// Adds the log-capitals of this stage to `sums`.
    pub fn add_to(&self, counts: &PairedCounts, sums: &mut LogCapitals) {
        let outcomes = counts.outcomes();
        for (sum, factors) in sums.iter_mut().zip(&self.log_factors) {
            *sum += dot(&outcomes, factors);
        }
    }
}

/// Returns the log of the e-value against `null` over all stages; 0 without pairs.
pub fn log_e(strata: &[PairedStratum], null: Null, prior: &Prior) -> f64 {
    let mut sums = [0.0; GRID];
    for stratum in strata {
        PairedDesign::new(stratum.discordance, null, prior).add_to(&stratum.counts, &mut sums);
    }
    prior.mixture(&sums)
}

/// Returns the confidence sequence of the mean of `D`, valid uniformly over time with probability `1 - alpha`.
///
/// Built as in `ipw_bet::interval`.
pub fn interval(strata: &[PairedStratum], prior: &Prior, alpha: f64) -> Interval {
    let end = |side: Side| {
        let null = Null { at: 0.0, side };
        let rungs: Vec<Rung> = strata
            .iter()
            .filter_map(|s| PairedDesign::new(s.discordance, null, prior).rung(s, side))
            .collect();
        invert::end(&rungs, prior, (2.0 / alpha).ln(), 1.0)
    };
    Interval { low: end(Side::Greater), high: -end(Side::Less) }
}

/// Returns `side (D - m)` for `D` = +1, -1, 0.
fn payoffs(null: Null) -> [f64; 3] {
    [1.0, -1.0, 0.0].map(|d| null.side.sign() * (d - null.at))
}

fn dot(outcomes: &[f64; 3], factors: &[f64; 3]) -> f64 {
    outcomes.iter().zip(factors).filter(|(n, _)| **n > 0.0).map(|(n, factor)| n * factor).sum()
}
