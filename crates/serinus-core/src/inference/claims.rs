//! What is proved of a metric, and the interval that says the same.
//!
//! A claim needs both its e-process and its estimate: a candidate is not called worse while it looks better, whatever the bets
//! say. That makes a claim rarer and so keeps its level. The published interval then lies above the null that was rejected for
//! harm, or below the one that was rejected for the candidate, if and only if the claim is made, and it contains the estimate.
//!
//! The end that speaks for harm is computed at the level of harm, alpha over the ways to abort; the end that speaks for the
//! candidate at alpha. Everything here is turned so that more is worse.

use crate::inference::planning;
use crate::inference::verdict::{Estimate, LogE};
use crate::plan::metric::{Margin, Metric, Shape};
use crate::plan::rollout::RolloutPlan;
use serinus_stats::side::Null;

/// How far inside of a rejected null an interval is cut, as a share of the smallest effect worth detecting.
const CUT: f64 = 1e-3;

/// What the logs of e-values have to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bars {
    /// For harm: alpha is shared by all metrics that may abort, of all candidates.
    pub(crate) harm: f64,
    /// For non-inferior and superior: all must be proved, so each has the whole alpha.
    pub(crate) promotion: f64,
}

/// What is proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) harm: bool,
    pub(crate) non_inferior: bool,
    pub(crate) superior: bool,
}

impl Bars {
    pub(crate) fn of(plan: &RolloutPlan) -> Self {
        let aborting = plan.metrics.iter().filter(|metric| metric.aborts).count().max(1);
        let ways_to_abort = (aborting * plan.candidates.len().max(1)) as f64;
        let alpha = plan.decide.alpha;
        Self { harm: (ways_to_abort / alpha).ln(), promotion: (1.0 / alpha).ln() }
    }
}

impl Claims {
    /// Returns what is proved by these e-values where the difference is estimated so.
    pub(crate) fn of(metric: &Metric, bars: Bars, log_e: LogE, difference: f64) -> Self {
        let [harm, non_inferior, superior] = planning::nulls(metric);
        let harm = Null { at: metric.direction.harm_sign() * harm_null(metric), ..harm };
        let is_beyond = |null: Null| null.side.sign() * (difference - null.at) > 0.0;
        let superior = log_e.superior >= bars.promotion && is_beyond(superior);
        Self {
            harm: log_e.harm >= bars.harm && is_beyond(harm),
            non_inferior: superior
                || (log_e.non_inferior >= bars.promotion && is_beyond(non_inferior)),
            superior,
        }
    }

    /// Returns what these e-values prove by themselves, and nothing beside harm: latency is harmed at one height of several.
    pub(crate) fn of_e_values(bars: Bars, log_e: LogE) -> Self {
        let harm = log_e.harm >= bars.harm;
        let superior = !harm && log_e.superior >= bars.promotion;
        let non_inferior = superior || (!harm && log_e.non_inferior >= bars.promotion);
        Self { harm, non_inferior, superior }
    }

    /// Returns a slowdown of all answers, or the nearest that the claims allow: they rest on the answers after thresholds were
    /// frozen, and on the shares of answers above these.
    pub(crate) fn allowed(self, metric: &Metric, slowdown: f64) -> f64 {
        let (margin, step) = (metric.margin.value(), 2.0 * CUT * metric.mde);
        if self.harm {
            slowdown.max(margin + step)
        } else if self.superior {
            slowdown.min(-step)
        } else if self.non_inferior {
            slowdown.min(margin - step)
        } else {
            slowdown
        }
    }

    /// Returns an estimate whose interval agrees with the claims.
    ///
    /// Where the interval inverts the deciding bets this changes nothing but the last digit. Where it is an approximation, it is
    /// widened to the null that was not rejected, or cut just inside of the one that was.
    pub(crate) fn agreed(self, metric: &Metric, estimate: Estimate) -> Estimate {
        turned(metric, estimate, |value, low, high| {
            let low = self.lower(metric, value, low);
            let high = self.upper(metric, value, high);
            let (least, most) = natural(metric);
            (low.max(least.min(value)), high.min(most.max(value)))
        })
    }

    /// Returns the lower end where more is worse: above the null of harm if and only if harm is claimed.
    fn lower(self, metric: &Metric, value: f64, low: f64) -> f64 {
        let null = harm_null(metric);
        let low = if self.harm { low.max(null + cut(metric, value - null)) } else { low.min(null) };
        low.min(value)
    }

    fn upper(self, metric: &Metric, value: f64, high: f64) -> f64 {
        let margin = metric.margin.value();
        let high = if self.superior {
            high.min(-cut(metric, -value))
        } else if self.non_inferior {
            high.clamp(0.0, (margin - cut(metric, margin - value)).max(0.0))
        } else {
            high.max(margin)
        };
        high.max(value)
    }
}

/// Returns an estimate whose interval agrees with one claim of harm alone.
pub(crate) fn agreed_on_harm(metric: &Metric, is_harm: bool, estimate: Estimate) -> Estimate {
    let claims = Claims { harm: is_harm, ..Claims::default() };
    turned(metric, estimate, |value, low, high| (claims.lower(metric, value, low), high))
}

/// Returns whether a difference is on the side of harm.
pub(crate) fn looks_worse(metric: &Metric, difference: f64) -> bool {
    metric.direction.harm_sign() * difference > harm_null(metric)
}

/// Changes the ends of an estimate as seen where more is worse.
fn turned(
    metric: &Metric,
    estimate: Estimate,
    ends: impl Fn(f64, f64, f64) -> (f64, f64),
) -> Estimate {
    let sign = metric.direction.harm_sign();
    let low = estimate.low.unwrap_or(f64::NEG_INFINITY);
    let high = estimate.high.unwrap_or(f64::INFINITY);
    let (low, high) = if sign > 0.0 { (low, high) } else { (-high, -low) };
    let (low, high) = ends(sign * estimate.value, low, high);
    let (low, high) = if sign > 0.0 { (low, high) } else { (-high, -low) };
    let bound = |end: f64| end.is_finite().then_some(end);
    Estimate { low: bound(low), high: bound(high), ..estimate }
}

/// Returns the null of harm, where more is worse. Thresholds carry the margin of latency, so that its null is the margin.
fn harm_null(metric: &Metric) -> f64 {
    let [harm, _, _] = planning::nulls(metric);
    match metric.margin {
        Margin::Relative(margin) => margin,
        Margin::Absolute(_) => metric.direction.harm_sign() * harm.at,
    }
}

fn cut(metric: &Metric, gap: f64) -> f64 {
    (CUT * metric.mde).min(0.5 * gap).max(0.0)
}

/// Returns between what a difference lies.
fn natural(metric: &Metric) -> (f64, f64) {
    match metric.kind.shape() {
        Shape::Binary | Shape::Ranking | Shape::Confusion => (-1.0, 1.0),
        Shape::Bounded => {
            let width = metric.range.1 - metric.range.0;
            (-width, width)
        }
        Shape::Duration => (-1.0, f64::INFINITY),
    }
}
