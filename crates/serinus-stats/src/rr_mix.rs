//! The ratio of two event rates under random assignment: the staged e-process on events alone, and the parity of labels.
//!
//! Given an event in a stage with propensity `rho`, it belongs to the candidate with probability
//! `theta(v) = rho e^v / (rho e^v + 1 - rho)`, `v = ln(p1/p0)` (exact for Bernoulli and Poisson events). The mixture over planned
//! effects of the likelihood ratio of `theta(nu + side d)` against `theta(nu)` is an e-process for `v <= nu` or `v >= nu`.
//! It does not depend on the base rate but needs the right propensity: gate it on the SRM check.
//!
//! Source: likelihood-ratio martingale with a fixed grid (Lindon and Malek 2022 with a finite prior).

use crate::prior::{GRID, LogCapitals, Prior};
use crate::side::{Null, Side};
use crate::special::log_mean_of_two;

/// The events of one stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventStratum {
    /// The probability with which a unit of this comparison is assigned to the candidate.
    pub propensity: f64,
    /// Events in the candidate's arm.
    pub treated_events: u64,
    /// Events in the stable arm.
    pub control_events: u64,
}

/// Returns the log of the e-value; `null.at` and the prior's effects are logs of rate ratios.
///
/// A propensity outside (0, 1) or a null of NaN adds nothing. Without events the result is 0.
pub fn log_e(strata: &[EventStratum], null: Null, prior: &Prior) -> f64 {
    let mut sums: LogCapitals = [0.0; GRID];
    if !null.at.is_finite() {
        return 0.0;
    }
    for stratum in strata.iter().filter(|s| s.propensity > 0.0 && s.propensity < 1.0) {
        let norm_null = ln_norm(stratum.propensity, null.at);
        let treated = stratum.treated_events as f64;
        let events = treated + stratum.control_events as f64;
        for (sum, effect) in sums.iter_mut().zip(&prior.effects) {
            // ln(theta'/theta) = shift - gain and ln((1-theta')/(1-theta)) = -gain.
            let shift = null.side.sign() * effect;
            let gain = ln_norm(stratum.propensity, null.at + shift) - norm_null;
            if gain.is_finite() {
                *sum += treated * shift - events * gain;
            }
        }
    }
    prior.mixture(&sums)
}

/// `ln(rho e^v + 1 - rho)`, precise near `v = 0` and finite for large `v`.
fn ln_norm(propensity: f64, log_ratio: f64) -> f64 {
    if log_ratio > 30.0 {
        return log_ratio + (propensity + (1.0 - propensity) * (-log_ratio).exp()).ln();
    }
    (propensity * log_ratio.exp_m1()).ln_1p()
}

/// Predictions of one stage that have matured, and how many of them got a label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Coverage {
    /// The probability with which a unit of this comparison is assigned to the candidate.
    pub propensity: f64,
    /// Mature predictions of the candidate's arm.
    pub treated: u64,
    /// Those with a label.
    pub treated_labelled: u64,
    /// Mature predictions of the stable arm.
    pub control: u64,
    /// Those with a label.
    pub control_labelled: u64,
}

/// The ratio of missing shares that the parity test is planned for.
pub const PARITY_RATIO: f64 = 1.1;

/// Returns the log of the two-sided e-value that labels are missing at different rates: events are missing labels.
pub fn label_parity(strata: &[Coverage]) -> f64 {
    let prior = Prior::planned(PARITY_RATIO.ln());
    let missing: Vec<EventStratum> = strata
        .iter()
        .map(|s| EventStratum {
            propensity: s.propensity,
            treated_events: s.treated.saturating_sub(s.treated_labelled),
            control_events: s.control.saturating_sub(s.control_labelled),
        })
        .collect();
    let one_sided = |side| log_e(&missing, Null { at: 0.0, side }, &prior);
    log_mean_of_two(one_sided(Side::Greater), one_sided(Side::Less))
}
