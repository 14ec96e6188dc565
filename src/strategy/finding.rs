//! What the evidence says of one metric and one candidate: estimates for people, e-values for decisions.
//!
//! Differences are estimated stratum by stratum and then averaged, never pooled. Evidence multiplies over strata: within one
//! stratum a case enters either as a pair or by its arm, never both.

use crate::domain::ids::Version;
use crate::stats::asymp::{self, N_STAR, POSITIVES_MIN, Tuning};
use crate::stats::bounded_bet::Capital;
use crate::stats::interval::Interval;
use crate::stats::ipw_bet;
use crate::stats::moments::{Moments, Summary};
use crate::stats::paired_bet::{self, PairedStratum};
use crate::stats::prior::GRID;
use crate::stats::roc::{self, Auc};
use crate::stats::side::Null;
use crate::stats::two_sample::{Rate, two_proportion_z, welch_t};
use crate::strategy::design::{ContrastKey, Pairing, Part, Stratum};
use crate::strategy::evidence::{Contrast, Ranks, Scores, Table};
use crate::strategy::look::{Detail, Sight};
use crate::strategy::metric::{Metric, MetricKind, MetricRole, Shape};
use crate::strategy::verdict::{Classic, Estimate, Finding, LogE, Proof};
use crate::strategy::{pace, planning};

/// From how many values on a mean gets a range.
const VALUES_MIN: f64 = 30.0;
/// From how many positives and negatives in each arm on a stratum counts for a ranking.
const RANKED_MIN: u64 = 30;

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
        Shape::Ranking => ranking(sight, metric, candidate),
        Shape::Duration => pace::duration(sight, metric, candidate),
        Shape::Confusion => confusion(sight, metric, candidate),
    };
    Finding {
        metric: metric.name.clone(),
        kind: metric.kind,
        role: metric.role,
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
    }
}

/// Each hypothesis about promotion has the whole alpha, since all must be rejected; those about harm share theirs.
fn proof(sight: &Sight<'_>, metric: &Metric, reading: &Reading) -> Proof {
    let Some(log_e) = reading.log_e.filter(|_| reading.n_min > 0) else {
        let is_report = metric.kind.shape() == Shape::Confusion && reading.n_min > 0;
        return if is_report { Proof::Watched } else { Proof::NoData };
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

/// What one stratum shows of a binary or bounded metric.
struct Compared<'a> {
    stratum: Stratum,
    pairing: Pairing,
    ours: Scores,
    theirs: Scores,
    contrast: Option<&'a Contrast>,
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
    if n_min == 0 {
        return Reading {
            stable: estimate(sight, metric, &theirs),
            value: estimate(sight, metric, &ours),
            ..Reading::default()
        };
    }
    let is_binary = metric.kind.shape() == Shape::Binary;
    let inflation = sight.evidence.inflation(candidate, &metric.name);
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
        stable: estimate(sight, metric, &theirs),
        value: estimate(sight, metric, &ours),
        difference: difference.mean().map(|value| with_interval(value, interval, n)),
        log_e: Some(LogE { harm, non_inferior, superior }),
        classic: classic(metric, &ours, &theirs).filter(|_| sight.detail == Detail::Full),
    }
}

fn compared<'a>(sight: &Sight<'a>, metric: &Metric, candidate: &Version) -> Vec<Compared<'a>> {
    let parts = |stratum, version: &Version, parts: &[Part]| {
        let mut sum = Scores::default();
        for part in parts {
            if let Some(scores) = sight.evidence.scored(stratum, version, *part, &metric.name) {
                sum.merge(scores);
            }
        }
        sum
    };
    sight
        .compared(candidate)
        .into_iter()
        .map(|(stratum, pairing)| {
            // Two answers to one case are all that there is to compare, whoever was served.
            let pairing = match metric.kind {
                MetricKind::Disagreement => Pairing::Paired,
                MetricKind::Accuracy
                | MetricKind::ErrorRate
                | MetricKind::LogLoss
                | MetricKind::Brier
                | MetricKind::SquaredError
                | MetricKind::AbsoluteError
                | MetricKind::Value
                | MetricKind::Precision
                | MetricKind::Recall
                | MetricKind::F1
                | MetricKind::Auc
                | MetricKind::ResponseError
                | MetricKind::Timeout
                | MetricKind::Latency => pairing,
            };
            let wanted: &[Part] = match pairing {
                Pairing::Paired => &[Part::Chosen, Part::Copied],
                Pairing::Split { .. } | Pairing::Apart => &[Part::Chosen],
            };
            let key =
                ContrastKey { stratum, candidate: candidate.clone(), metric: metric.name.clone() };
            Compared {
                stratum,
                pairing,
                ours: parts(stratum, candidate, wanted),
                theirs: parts(stratum, sight.stable, wanted),
                contrast: sight.evidence.contrasts.get(&key),
            }
        })
        .collect()
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

/// A mean over strata, each weighted by how much it can tell.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    sum: f64,
    squares: f64,
    weight: f64,
}

impl Average {
    /// Adds a stratum; one without a value, or without a variance, is left out.
    fn add(&mut self, value: f64, variance: f64, weight: f64) {
        if value.is_finite() && variance.is_finite() && weight.is_finite() && weight > 0.0 {
            self.sum += weight * value;
            self.squares += weight * weight * variance;
            self.weight += weight;
        }
    }

    /// Returns the same with a variance so many times as large.
    fn inflated(self, inflation: f64) -> Self {
        Self { squares: self.squares * inflation, ..self }
    }

    fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    fn error(&self) -> f64 {
        self.squares.sqrt() / self.weight
    }

    fn asymptotic(&self, n: f64) -> Option<asymp::Estimate> {
        Some(asymp::Estimate { n, difference: self.mean()?, error: self.error() })
    }

    fn interval(&self, n: f64, alpha: f64) -> Interval {
        match self.asymptotic(n) {
            Some(estimate) if n >= VALUES_MIN => asymp::interval(&estimate, tuning(alpha)),
            Some(_) | None => Interval::WHOLE,
        }
    }
}

/// One arm's mean with its asymptotic confidence sequence.
fn estimate(sight: &Sight<'_>, metric: &Metric, moments: &Moments) -> Option<Estimate> {
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

fn classic(metric: &Metric, ours: &Moments, theirs: &Moments) -> Option<Classic> {
    let (test, statistic, p) = match metric.kind.shape() {
        Shape::Binary => {
            let rate = |it: &Moments| Rate { events: events(it), n: it.n };
            let test = two_proportion_z(rate(ours), rate(theirs));
            ("two_proportion_z", test.z_pooled, test.p_pooled)
        }
        Shape::Bounded | Shape::Ranking | Shape::Duration | Shape::Confusion => {
            let test = welch_t(&ours.summary(), &theirs.summary());
            ("welch_t", test.t, test.p)
        }
    };
    (statistic.is_finite() && p.is_finite()).then_some(Classic { test, statistic, p })
}

fn ranking(sight: &Sight<'_>, metric: &Metric, candidate: &Version) -> Reading {
    let alpha = sight.plan.decide.alpha;
    let mut difference = Average::default();
    let (mut ours_all, mut theirs_all) = (Ranks::default(), Ranks::default());
    let (mut n, mut n_min) = (0, 0);
    let (mut positives, mut cases) = (0, 0);
    for it in compared(sight, metric, candidate) {
        let (Some(ours), Some(theirs)) = (&it.ours.ranks, &it.theirs.ranks) else { continue };
        ours_all.merge(ours);
        theirs_all.merge(theirs);
        let (ours, theirs) = (area(ours), area(theirs));
        n += size(&ours) + size(&theirs);
        n_min += size(&ours).min(size(&theirs));
        let fewest = [ours.positives, ours.negatives, theirs.positives, theirs.negatives];
        if fewest.iter().all(|it| *it >= RANKED_MIN) {
            positives += ours.positives.min(theirs.positives);
            cases += size(&ours) + size(&theirs);
            let weight = (size(&ours) as f64) * (size(&theirs) as f64)
                / (size(&ours) + size(&theirs)) as f64;
            difference.add(ours.area - theirs.area, ours.variance + theirs.variance, weight);
        }
    }
    let one = |ranks: &Ranks| {
        let auc = area(ranks);
        let mut alone = Average::default();
        alone.add(auc.area, auc.variance, 1.0);
        let interval = alone.interval(size(&auc) as f64, alpha);
        auc.area.is_finite().then(|| with_interval(auc.area, interval, size(&auc)))
    };
    let asymptotic = difference.asymptotic(cases as f64).filter(|_| positives >= POSITIVES_MIN);
    let log_e = asymptotic.map(|it| {
        let [harm, non_inferior, superior] = planning::nulls(metric)
            .map(|null: Null| asymp::log_e_one_sided(&it, null, tuning(alpha)));
        LogE { harm, non_inferior, superior }
    });
    let interval = asymptotic.map_or(Interval::WHOLE, |it| asymp::interval(&it, tuning(alpha)));
    Reading {
        n,
        n_min,
        stable: one(&theirs_all),
        value: one(&ours_all),
        difference: difference.mean().map(|it| with_interval(it, interval, n)),
        // Without enough positives nothing is said yet, and that is an open question, not a lack of data.
        log_e: log_e.or((n_min > 0).then_some(LogE {
            harm: 0.0,
            non_inferior: 0.0,
            superior: 0.0,
        })),
        classic: None,
    }
}

fn confusion(sight: &Sight<'_>, metric: &Metric, candidate: &Version) -> Reading {
    let (mut ours, mut theirs) = (Scores::default(), Scores::default());
    for it in compared(sight, metric, candidate) {
        ours.merge(&it.ours);
        theirs.merge(&it.theirs);
    }
    let one = |table: &Table| {
        let share = |of: u64, among: u64| of as f64 / among as f64;
        let value = match metric.kind {
            MetricKind::Precision => share(table.hits, table.hits + table.alarms),
            MetricKind::Recall => share(table.hits, table.hits + table.misses),
            MetricKind::F1
            | MetricKind::Accuracy
            | MetricKind::ErrorRate
            | MetricKind::LogLoss
            | MetricKind::Brier
            | MetricKind::SquaredError
            | MetricKind::AbsoluteError
            | MetricKind::Value
            | MetricKind::Auc
            | MetricKind::ResponseError
            | MetricKind::Timeout
            | MetricKind::Latency
            | MetricKind::Disagreement => {
                share(2 * table.hits, 2 * table.hits + table.alarms + table.misses)
            }
        };
        let n = table.hits + table.alarms + table.misses + table.rest;
        value.is_finite().then_some(Estimate { value, low: None, high: None, n })
    };
    let (value, stable) = (one(&ours.table), one(&theirs.table));
    let difference = match (value, stable) {
        (Some(ours), Some(theirs)) => Some(Estimate {
            value: ours.value - theirs.value,
            low: None,
            high: None,
            n: ours.n + theirs.n,
        }),
        (_, _) => None,
    };
    let sizes = (value.map_or(0, |it| it.n), stable.map_or(0, |it| it.n));
    Reading {
        n: sizes.0 + sizes.1,
        n_min: sizes.0.min(sizes.1),
        stable,
        value,
        difference,
        ..Reading::default()
    }
}

fn area(ranks: &Ranks) -> Auc {
    roc::binned(&ranks.positives, &ranks.negatives)
}

fn size(auc: &Auc) -> u64 {
    auc.positives + auc.negatives
}

/// The sum of zeros and ones, which is how many ones there were.
fn events(moments: &Moments) -> u64 {
    let summary: Summary = moments.summary();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of events is a small whole number"
    )]
    let events = (summary.mean * summary.n).round().max(0.0) as u64;
    events.min(moments.n)
}

fn tuning(alpha: f64) -> Tuning {
    Tuning { alpha, n_star: N_STAR }
}

fn with_interval(value: f64, interval: Interval, n: u64) -> Estimate {
    let bound = |it: f64| it.is_finite().then_some(it);
    Estimate { value, low: bound(interval.low), high: bound(interval.high), n }
}
