//! Sample size planning: fixed sample sizes, and the sizes at which the betting tests decide.

use crate::ipw_bet::Design;
use crate::prior::Prior;
use crate::side::Null;
use crate::special::normal_isf;

/// The assumptions of a fixed-horizon comparison of rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatePlan {
    /// The stable version's rate.
    pub base: f64,
    /// The true difference.
    pub difference: f64,
    /// The margin of the test.
    pub margin: f64,
    /// The candidate's share of the comparison.
    pub propensity: f64,
}

/// The observations that a plan needs in each arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArmSizes {
    /// In the candidate's arm.
    pub treated: f64,
    /// In the stable arm.
    pub control: f64,
}

/// Returns `n1 = (z_a + z_b)^2 (p1 q1 + rho/(1-rho) p0 q0) / (difference - margin)^2`; `tail` is `alpha`, or half of it two-sided.
pub fn fixed_size(plan: &RatePlan, tail: f64, power: f64) -> ArmSizes {
    let odds = plan.propensity / (1.0 - plan.propensity);
    let treated_rate = plan.base + plan.difference;
    let z = normal_isf(tail) + normal_isf(1.0 - power);
    let spread = treated_rate * (1.0 - treated_rate) + odds * plan.base * (1.0 - plan.base);
    let treated = z * z * spread / (plan.difference - plan.margin).powi(2);
    ArmSizes { treated, control: treated / odds }
}

/// When a betting test decides, in observations of both arms together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Duration {
    /// The expected log growth per observation.
    pub growth: f64,
    /// Half of all tests have decided by now.
    pub median: f64,
    /// Four fifths have.
    pub n_80: f64,
    /// Nine tenths have.
    pub n_90: f64,
    /// Nineteen twentieths have.
    pub n_95: f64,
}

/// Returns when `ipw_bet` rejects `null` if the truth differs from the base by `difference`.
///
/// The growth is that of the best bet of the grid; sizes are `ln(1/alpha) / growth` times factors measured over seven scenarios
/// (.95, 1.75, 2.3, 2.8; within 8 %). Infinite if no bet of the grid grows: the truth is inside the null.
pub fn ipw_duration(plan: &RatePlan, null: Null, prior: &Prior, alpha: f64) -> Duration {
    let design = Design::new(plan.propensity, plan.base, null, prior);
    let growth = design.growth(plan.propensity, plan.base, plan.base + plan.difference);
    let unit = if growth > 0.0 { -alpha.ln() / growth } else { f64::INFINITY };
    Duration { growth, median: 0.95 * unit, n_80: 1.75 * unit, n_90: 2.3 * unit, n_95: 2.8 * unit }
}
