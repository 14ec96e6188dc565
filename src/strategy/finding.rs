//! What the evidence says of one metric and one candidate: estimates for people, e-values for decisions.
//!
//! Differences are estimated stratum by stratum and then averaged, never pooled. Evidence multiplies over strata: within one
//! stratum a case enters either as a pair or by its arm, never both.

use crate::domain::ids::Version;
use crate::stats::asymp;
use crate::stats::bounded_bet::Capital;
use crate::stats::interval::Interval;
use crate::stats::ipw_bet;
use crate::stats::moments::Moments;
use crate::stats::paired_bet::{self, PairedStratum};
use crate::stats::prior::GRID;
use crate::strategy::design::Pairing;
use crate::strategy::look::{Detail, Sight};
use crate::strategy::metric::{Metric, MetricRole, Shape};
use crate::strategy::stage::PromoteWhen;
use crate::strategy::strata::{
    Average, Compared, VALUES_MIN, compared, events, tuning, with_interval,
};
use crate::strategy::verdict::{Classic, Estimate, Finding, LogE, Proof};
use crate::strategy::{classic, pace, planning, ranked};

/// What one metric says of one candidate, before it is judged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub(super) n: u64,
    pub(super) n_min: u64,
    pub(super) stable: Option<Estimate>,
    pub(super) value: Option<Estimate>,
    pub(super) difference: Option<Estimate>,
    pub(super) log_e: Option<LogE>,
    pub(super) classic: Option<Classic>,
}

/// Reads one metric of one candidate against the stable version.
pub fn finding(sight: &Sight<'_>, metric: &Metric, candidate: &Version) -> Finding {
    let reading = match metric.kind.shape() {
        Shape::Binary | Shape::Bounded => values(sight, metric, candidate),
        Shape::Ranking | Shape::Confusion => ranked::ranked(sight, metric, candidate),
        Shape::Duration => pace::duration(sight, metric, candidate),
    };
    Finding {
        metric: metric.name.clone(),
        kind: metric.kind,
        role: metric.role,
        needs_label: metric.needs_label(),
        wants_better: metric.role == MetricRole::Goal
            && sight.plan.decide.promote == PromoteWhen::Superior,
        direction: metric.direction,
        margin: metric.margin,
        candidate: candidate.clone(),
        n: reading.n,
        stable: reading.stable,
        value: reading.value,
        difference: reading.difference,
        log_e: reading.log_e,
        classic: reading.classic,
        proof: proof(sight, metric, &reading),
        aborts: metric.aborts && matches!(metric.role, MetricRole::Goal | MetricRole::Guardrail),
        n_min: reading.n_min,
        design_effect: sight.evidence.inflation(candidate, &metric.name),
    }
}

/// Each hypothesis about promotion has the whole alpha, since all must be rejected; those about harm share theirs.
fn proof(sight: &Sight<'_>, metric: &Metric, reading: &Reading) -> Proof {
    let Some(log_e) = reading.log_e.filter(|_| reading.n_min > 0) else {
        return Proof::NoData;
    };
    if metric.role == MetricRole::Watch {
        return Proof::Watched;
    }
    let alpha = sight.plan.decide.alpha;
    let aborting = sight.plan.metrics.iter().filter(|it| it.aborts).count().max(1);
    let ways_to_abort = (aborting * sight.plan.candidates.len().max(1)) as f64;
    let bar = (1.0 / alpha).ln();
    if log_e.harm >= (ways_to_abort / alpha).ln() {
        Proof::Harmful
    } else if log_e.superior >= bar {
        Proof::Superior
    } else if log_e.non_inferior >= bar {
        Proof::NonInferior
    } else {
        Proof::Open
    }
}

fn values(sight: &Sight<'_>, metric: &Metric, candidate: &Version) -> Reading {
    let strata = compared(sight, metric, candidate);
    let mut ours = Moments::default();
    let mut theirs = Moments::default();
    let mut difference = Average::default();
    let (mut n, mut n_min) = (0, 0);
    for it in &strata {
        ours.merge(&it.ours.moments);
        theirs.merge(&it.theirs.moments);
        match it.pairing {
            Pairing::Paired => {
                let paired = it.contrast.map_or_else(Moments::default, |it| it.difference);
                n += paired.n;
                n_min += paired.n;
                let summary = paired.summary();
                difference.add(summary.mean, summary.standard_error().powi(2), 0.5 * summary.n);
            }
            Pairing::Split { .. } | Pairing::Apart => {
                n += it.ours.moments.n + it.theirs.moments.n;
                n_min += it.ours.moments.n.min(it.theirs.moments.n);
                let (ours, theirs) = (it.ours.moments.summary(), it.theirs.moments.summary());
                let variance = ours.standard_error().powi(2) + theirs.standard_error().powi(2);
                let weight = ours.n * theirs.n / (ours.n + theirs.n);
                difference.add(ours.mean - theirs.mean, variance, weight);
            }
        }
    }
    let inflation = sight.evidence.inflation(candidate, &metric.name);
    if n_min == 0 {
        return Reading {
            stable: estimate(sight, metric, &theirs, inflation),
            value: estimate(sight, metric, &ours, inflation),
            ..Reading::default()
        };
    }
    let is_binary = metric.kind.shape() == Shape::Binary;
    let interval = if sight.detail == Detail::Verdict {
        Interval::WHOLE
    } else if is_binary && difference.weight > 0.0 {
        rate_interval(sight, metric, &strata, inflation)
    } else {
        difference.inflated(inflation).interval(n as f64, sight.plan.decide.alpha)
    };
    let [harm, non_inferior, superior] = if is_binary {
        rate_log_e(sight, metric, &strata, inflation)
    } else {
        mean_log_e(metric, &strata, inflation)
    };
    Reading {
        n,
        n_min,
        stable: estimate(sight, metric, &theirs, inflation),
        value: estimate(sight, metric, &ours, inflation),
        difference: difference.mean().map(|value| with_interval(value, interval, n)),
        log_e: Some(LogE { harm, non_inferior, superior }),
        classic: classic::values(metric, &strata).filter(|_| sight.detail == Detail::Full),
    }
}

/// Log-capitals of each planned effect add over all strata before the mixture: one process for the whole rollout.
fn rate_log_e(
    sight: &Sight<'_>,
    metric: &Metric,
    strata: &[Compared<'_>],
    inflation: f64,
) -> [f64; 3] {
    let prior = planning::prior(metric);
    planning::nulls(metric).map(|null| {
        let mut sums = [0.0; GRID];
        for it in strata {
            if let Some(split) = it.split(sight, metric) {
                sight
                    .bets
                    .split(split.propensity, split.base, null, &prior)
                    .add_to(&split.counts, &mut sums);
            } else {
                let paired = it.paired(sight, metric);
                sight
                    .bets
                    .paired(paired.discordance, null, &prior)
                    .add_to(&paired.counts, &mut sums);
            }
        }
        prior.mixture(&sums.map(|it| it / inflation))
    })
}

fn mean_log_e(metric: &Metric, strata: &[Compared<'_>], inflation: f64) -> [f64; 3] {
    let prior = planning::prior(metric);
    let mut capitals = [Capital::default(); 3];
    for it in strata {
        if let Some(theirs) = it.contrast.and_then(|it| it.capital.as_deref()) {
            for (capital, theirs) in capitals.iter_mut().zip(theirs) {
                capital.merge(theirs);
            }
        }
    }
    capitals.map(|it| prior.mixture(&it.log_capitals().map(|it| it / inflation)))
}

/// The interval comes from whichever kind of stratum has more cases; the e-values use all.
fn rate_interval(
    sight: &Sight<'_>,
    metric: &Metric,
    strata: &[Compared<'_>],
    inflation: f64,
) -> Interval {
    let prior = planning::prior(metric);
    let split: Vec<ipw_bet::Stratum> =
        strata.iter().filter_map(|it| it.split(sight, metric)).collect();
    let paired: Vec<PairedStratum> = strata
        .iter()
        .filter(|it| it.pairing == Pairing::Paired)
        .map(|it| it.paired(sight, metric))
        .collect();
    let arms: u64 = split.iter().map(|it| it.counts.treated + it.counts.control).sum();
    let pairs: u64 = paired.iter().map(|it| it.counts.pairs()).sum();
    let alpha = sight.plan.decide.alpha;
    if pairs > arms {
        paired_bet::interval_with(&paired, &prior, alpha, inflation, |it, null| {
            sight.bets.paired(it.discordance, null, &prior)
        })
    } else {
        ipw_bet::interval_with(&split, &prior, alpha, inflation, |it, null| {
            sight.bets.split(it.propensity, it.base, null, &prior)
        })
    }
}

impl Compared<'_> {
    fn split(&self, sight: &Sight<'_>, metric: &Metric) -> Option<ipw_bet::Stratum> {
        let Pairing::Split { rho } = self.pairing else { return None };
        let base = planning::assumption(sight.design, metric, self.stratum.stage).centre;
        Some(ipw_bet::Stratum {
            propensity: rho,
            base,
            counts: ipw_bet::Counts {
                treated: self.ours.moments.n,
                treated_events: events(&self.ours.moments),
                control: self.theirs.moments.n,
                control_events: events(&self.theirs.moments),
            },
        })
    }

    fn paired(&self, sight: &Sight<'_>, metric: &Metric) -> PairedStratum {
        let assumption = planning::assumption(sight.design, metric, self.stratum.stage);
        PairedStratum {
            discordance: assumption.discordance,
            counts: self.contrast.map(|it| it.pairs).unwrap_or_default(),
        }
    }
}

/// One arm's mean with its asymptotic confidence sequence.
fn estimate(
    sight: &Sight<'_>,
    metric: &Metric,
    moments: &Moments,
    inflation: f64,
) -> Option<Estimate> {
    let summary = moments.summary();
    if moments.n == 0 {
        return None;
    }
    let error = match metric.kind.shape() {
        Shape::Binary => {
            let rate = (summary.mean * summary.n + 0.5) / (summary.n + 1.0);
            (rate * (1.0 - rate) / summary.n).sqrt()
        }
        Shape::Bounded | Shape::Ranking | Shape::Duration | Shape::Confusion => {
            summary.standard_error()
        }
    };
    let error = error * inflation.sqrt();
    let asymptotic = asymp::Estimate { n: summary.n, difference: summary.mean, error };
    let interval = if summary.n >= VALUES_MIN {
        asymp::interval(&asymptotic, tuning(sight.plan.decide.alpha))
    } else {
        Interval::WHOLE
    };
    let (low, high) = match metric.kind.shape() {
        Shape::Bounded => metric.range,
        Shape::Binary | Shape::Ranking | Shape::Duration | Shape::Confusion => (0.0, 1.0),
    };
    let clipped = Interval {
        low: if interval.low.is_finite() { interval.low.max(low) } else { interval.low },
        high: if interval.high.is_finite() { interval.high.min(high) } else { interval.high },
    };
    Some(with_interval(summary.mean, clipped, moments.n))
}
