//! The difference of two rates under random assignment: the staged e-process and its confidence sequence.
//!
//! For an outcome `Y` in {0, 1}, arm `Z` in {0, 1} with known propensity `rho` and a base `c` fixed beforehand,
//! `x = (Z/rho - (1-Z)/(1-rho)) (Y - c) - m` has mean `p1 - p0 - m` for any `c`. A bet `lambda_k` fixed for each planned
//! effect `d_k` gives `E = sum_k w_k prod (1 + lambda_k s x)`, `s` the side: a nonnegative supermartingale under the null, at
//! every sample size, with drifting base rates and with propensities that change from stage to stage.
//!
//! Sources: Waudby-Smith and Ramdas 2024 (betting), Ville's inequality; the fixed grid makes the state four counts a stage.

use crate::interval::Interval;
use crate::invert::{self, Rung};
use crate::kelly;
use crate::prior::{GRID, LogCapitals, Prior};
use crate::side::{Null, Side};

/// The counts of a binary outcome in one stage: exact, mergeable, retractable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// Observations of the candidate's arm.
    pub treated: u64,
    /// Those with the event.
    pub treated_events: u64,
    /// Observations of the stable arm.
    pub control: u64,
    /// Those with the event.
    pub control_events: u64,
}

impl Counts {
    /// Counts one observation.
    pub fn record(&mut self, treated: bool, event: bool) {
        if treated {
            self.treated += 1;
            self.treated_events += u64::from(event);
        } else {
            self.control += 1;
            self.control_events += u64::from(event);
        }
    }

    /// Adds the counts of another part.
    pub fn merge(&mut self, other: &Self) {
        self.treated += other.treated;
        self.treated_events += other.treated_events;
        self.control += other.control;
        self.control_events += other.control_events;
    }

    /// Subtracts what was merged or recorded before.
    ///
    /// # Panics
    /// Panics if more is subtracted than was counted, which is a bug in the caller.
    pub fn retract(&mut self, other: &Self) {
        let less = |have: u64, take: u64| {
            have.checked_sub(take).expect("only counted values are subtracted")
        };
        self.treated = less(self.treated, other.treated);
        self.treated_events = less(self.treated_events, other.treated_events);
        self.control = less(self.control, other.control);
        self.control_events = less(self.control_events, other.control_events);
    }

    /// Returns the counts of the four outcomes, in the order of [`payoffs`].
    fn outcomes(&self) -> [f64; 4] {
        [
            self.treated_events as f64,
            self.treated.saturating_sub(self.treated_events) as f64,
            self.control_events as f64,
            self.control.saturating_sub(self.control_events) as f64,
        ]
    }
}

/// One stage: its propensity, its planned base rate and its counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stratum {
    /// The probability with which a unit of this comparison is assigned to the candidate.
    pub propensity: f64,
    /// The stable version's planned rate, fixed before the stage. A wrong value costs power, not validity.
    pub base: f64,
    /// The center of the outcomes: the best estimate of their mean before the stage. A wrong value costs power, not validity.
    pub centre: f64,
    /// The counts.
    pub counts: Counts,
}

impl Stratum {
    /// Plans the bets of this stage.
    pub fn design(&self, null: Null, prior: &Prior) -> Design {
        Design::centred(self.propensity, self.base, self.centre, null, prior)
    }
}

/// The bets of one stage against one null, so that a look costs a few multiplications.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Design {
    lambdas: [f64; GRID],
    log_factors: [[f64; 4]; GRID],
}

impl Design {
    /// Plans the bets: for each effect Kelly's fraction under `p0 = base`, `p1 = base + at + side * effect`.
    ///
    /// A propensity outside (0, 1), or a base or null that is NaN, gives bets of zero. A
    /// base outside [0, 1] is clipped.
    pub fn new(propensity: f64, base: f64, null: Null, prior: &Prior) -> Self {
        Self::centred(propensity, base, base, null, prior)
    }

    /// Plans the same bets for outcomes that are centered at a number other than the planned rate.
    pub fn centred(propensity: f64, base: f64, centre: f64, null: Null, prior: &Prior) -> Self {
        let idle = Self { lambdas: [0.0; GRID], log_factors: [[0.0; 4]; GRID] };
        if !comparable(propensity, base) || centre.is_nan() || !null.at.is_finite() {
            return idle;
        }
        let base = base.clamp(0.0, 1.0);
        let outcomes = payoffs(propensity, centre.clamp(0.0, 1.0), null);
        let mut design = idle;
        for (k, effect) in prior.effects.iter().enumerate() {
            let lambda = kelly::fraction(&law(propensity, base, null, *effect), &outcomes);
            design.lambdas[k] = lambda;
            design.log_factors[k] = outcomes.map(|x| (lambda * x).ln_1p());
        }
        design
    }

    /// Returns the bets, one for each planned effect.
    pub fn lambdas(&self) -> &[f64; GRID] {
        &self.lambdas
    }

    /// Returns the expected log growth per observation of the best bet if the rates are these.
    pub fn growth(&self, propensity: f64, control_rate: f64, treated_rate: f64) -> f64 {
        let rest = 1.0 - propensity;
        let law = [
            propensity * treated_rate,
            propensity * (1.0 - treated_rate),
            rest * control_rate,
            rest * (1.0 - control_rate),
        ];
        self.log_factors.iter().map(|factors| dot(&law, factors)).fold(0.0, f64::max)
    }

    /// Returns these bets with the counts of a stage, to be tested against other nulls; `None` if nothing is compared.
    pub fn rung(&self, stratum: &Stratum, side: Side) -> Option<Rung> {
        if stratum.counts == Counts::default() || !comparable(stratum.propensity, stratum.centre) {
            return None;
        }
        let null = Null { at: 0.0, side };
        let payoffs = payoffs(stratum.propensity, stratum.centre.clamp(0.0, 1.0), null);
        Some(Rung::new(self.lambdas, payoffs, stratum.counts.outcomes()))
    }

    /// Adds the log-capitals of this stage to `sums`.
    pub fn add_to(&self, counts: &Counts, sums: &mut LogCapitals) {
        let outcomes = counts.outcomes();
        for (sum, factors) in sums.iter_mut().zip(&self.log_factors) {
            *sum += dot(&outcomes, factors);
        }
    }
}

/// Returns the log of the e-value against `null` over all stages.
///
/// Log-capitals of each planned effect are added over stages before they are mixed: the process continues across stages and is never
/// reset. A stage with an empty arm still counts (leaving it out would depend on the data); without observations `log E = 0`.
pub fn log_e(strata: &[Stratum], null: Null, prior: &Prior) -> f64 {
    let mut sums = [0.0; GRID];
    for stratum in strata {
        stratum.design(null, prior).add_to(&stratum.counts, &mut sums);
    }
    prior.mixture(&sums)
}

/// Returns the confidence sequence of the difference of rates, valid uniformly over time with probability `1 - alpha`.
///
/// It is `{m: log E_m < ln(2/alpha)}` for both sides, with the bets planned at no difference: see [`invert::end`]. Ends are within
/// [-1, 1], which is the interval with hardly any data. The ends can cross only if the propensities are wrong.
pub fn interval(strata: &[Stratum], prior: &Prior, alpha: f64) -> Interval {
    let end = |side: Side| {
        let null = Null { at: 0.0, side };
        let rungs: Vec<Rung> = strata
            .iter()
            .filter_map(|stratum| stratum.design(null, prior).rung(stratum, side))
            .collect();
        invert::end(&rungs, prior, (2.0 / alpha).ln(), 1.0)
    };
    Interval { low: end(Side::Greater), high: -end(Side::Less) }
}

fn comparable(propensity: f64, base: f64) -> bool {
    propensity > 0.0 && propensity < 1.0 && !base.is_nan()
}

/// Returns `side * x` for: treated with the event, treated without, control with, control without.
fn payoffs(propensity: f64, base: f64, null: Null) -> [f64; 4] {
    let (up, down) = (1.0 / propensity, -1.0 / (1.0 - propensity));
    [up * (1.0 - base), -up * base, down * (1.0 - base), -down * base]
        .map(|x| null.side.sign() * (x - null.at))
}

/// Returns the planned probabilities of the same four outcomes.
fn law(propensity: f64, base: f64, null: Null, effect: f64) -> [f64; 4] {
    let treated = (base + null.at + null.side.sign() * effect).clamp(1e-9, 1.0 - 1e-9);
    let rest = 1.0 - propensity;
    [propensity * treated, propensity * (1.0 - treated), rest * base, rest * (1.0 - base)]
}

/// Unobserved outcomes contribute nothing, even if their factor is minus infinity.
fn dot(outcomes: &[f64; 4], factors: &[f64; 4]) -> f64 {
    outcomes.iter().zip(factors).filter(|(n, _)| **n > 0.0).map(|(n, factor)| n * factor).sum()
}
