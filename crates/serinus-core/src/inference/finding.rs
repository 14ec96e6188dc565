//! What the evidence says of one metric and one candidate: estimates for people, e-values for decisions.
//!
//! Differences are estimated stratum by stratum and then averaged, never pooled. Evidence multiplies over strata: within one
//! stratum a case enters either as a pair or by its arm, never both.

use crate::domain::ids::Version;
use crate::evidence::bounds::{self, Sides};
use crate::evidence::design::Pairing;
use crate::evidence::sums::Scores;
use crate::inference::claims::{Bars, Claims};
use crate::inference::fixed_horizon;
use crate::inference::input::{AnalysisInput, Detail};
use crate::inference::latency;
use crate::inference::planning;
use crate::inference::ranking;
use crate::inference::reading::Reading;
use crate::inference::scoring_gaps;
use crate::inference::strata::{Average, Compared, VALUES_MIN, compared, tuning, with_interval};
use crate::inference::verdict::{Estimate, Finding, LogE, LostAnswers, Proof};
use crate::plan::metric::{Direction, Metric, MetricRole, Shape};
use crate::plan::rollout::PromoteWhen;
use serinus_stats::asymp;
use serinus_stats::bounded_bet::Capital;
use serinus_stats::interval::Interval;
use serinus_stats::invert::{self, Rung};
use serinus_stats::moments::Moments;
use serinus_stats::prior::{GRID, Prior};
use serinus_stats::side::Null;

/// Reads one metric of one candidate against the stable version.
pub fn finding(input: &AnalysisInput<'_>, metric: &Metric, candidate: &Version) -> Finding {
    let reading = match metric.kind.shape() {
        Shape::Binary | Shape::Bounded => values(input, metric, candidate),
        Shape::Ranking | Shape::Confusion => ranking::ranked(input, metric, candidate),
        Shape::Duration => latency::duration(input, metric, candidate),
    };
    Finding {
        metric: metric.name.clone(),
        kind: metric.kind,
        role: metric.role,
        needs_label: metric.needs_label(),
        wants_better: metric.role == MetricRole::Goal
            && input.plan.decide.promote == PromoteWhen::Superior,
        direction: metric.direction,
        margin: metric.margin,
        candidate: candidate.clone(),
        n: reading.n,
        stable: reading.stable,
        value: reading.value,
        difference: reading.difference.map(|difference| match input.detail {
            Detail::Full => reading.claims.agreed(metric, difference),
            Detail::Verdict => difference,
        }),
        log_e: reading.log_e,
        classic: reading.classic,
        proof: proof(metric, &reading),
        aborts: metric.aborts && matches!(metric.role, MetricRole::Goal | MetricRole::Guardrail),
        n_min: reading.n_min,
        design_effect: input.evidence.inflation(candidate, &metric.name),
        clipped: scoring_gaps::clipped(input, metric, candidate),
        lost: reading.lost,
    }
}

/// Says what is proved; harm before everything else.
fn proof(metric: &Metric, reading: &Reading) -> Proof {
    if reading.log_e.is_none() || reading.n_min == 0 {
        Proof::NoData
    } else if metric.role == MetricRole::Watch {
        Proof::Watched
    } else if reading.claims.harm {
        Proof::Harmful
    } else if reading.claims.superior {
        Proof::Superior
    } else if reading.claims.non_inferior {
        Proof::NonInferior
    } else {
        Proof::Open
    }
}

fn values(input: &AnalysisInput<'_>, metric: &Metric, candidate: &Version) -> Reading {
    let strata = compared(input, metric, candidate);
    let mut ours = Moments::default();
    let mut theirs = Moments::default();
    let mut difference = Average::default();
    let (mut n, mut n_min) = (0, 0);
    for it in &strata {
        ours.merge(&it.ours.moments);
        theirs.merge(&it.theirs.moments);
        match it.pairing {
            Pairing::Paired => {
                let paired = it.contrast.map_or_else(Moments::default, |d| d.difference);
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
    let inflation = input.evidence.inflation(candidate, &metric.name);
    if n_min == 0 {
        return Reading {
            stable: estimate(input, metric, &theirs, inflation),
            value: estimate(input, metric, &ours, inflation),
            ..Reading::default()
        };
    }
    let is_binary = metric.kind.shape() == Shape::Binary;
    let sides = bounded_difference(metric, &strata);
    let [harm, non_inferior, superior] = if is_binary {
        rate_log_e(input, metric, &strata, inflation)
    } else {
        mean_log_e(metric, &strata, inflation)
    };
    let log_e = LogE { harm, non_inferior, superior };
    let bars = Bars::of(input.plan);
    let claims = match difference.mean() {
        Some(difference) => Claims::of(metric, bars, log_e, difference),
        None => Claims::default(),
    };
    let interval = if input.detail == Detail::Verdict {
        Interval::WHOLE
    } else if is_binary {
        rate_interval(input, metric, &strata, inflation, claims)
    } else {
        let alpha = input.plan.decide.alpha;
        let unrejected =
            |side: Average| side.inflated(inflation).unrejected(n as f64, metric, alpha, bars);
        bounds::ends(metric, sides.map(unrejected))
    };
    Reading {
        n,
        n_min,
        stable: estimate(input, metric, &theirs, inflation),
        value: estimate(input, metric, &ours, inflation),
        difference: difference.mean().map(|value| with_interval(value, interval, n)),
        log_e: Some(log_e),
        claims,
        classic: fixed_horizon::values(metric, &strata).filter(|_| input.detail == Detail::Full),
        lost: lost_answers(metric, &strata, sides.favour.mean()),
    }
}

/// Counts the answers that cannot be scored.
fn lost_answers(
    metric: &Metric,
    strata: &[Compared<'_>],
    worst_difference: Option<f64>,
) -> LostAnswers {
    let lost = |scores: &Scores| bounds::counted(metric, scores.lost).all();
    LostAnswers {
        candidate: strata.iter().map(|stratum| lost(&stratum.ours)).sum(),
        stable: strata.iter().map(|stratum| lost(&stratum.theirs)).sum(),
        worst_difference,
    }
}

/// Returns the mean difference as each side counts answers that cannot be scored.
fn bounded_difference(metric: &Metric, strata: &[Compared<'_>]) -> Sides<Average> {
    let mut sides = Sides::both(Average::default());
    for it in strata {
        match it.pairing {
            Pairing::Paired => {
                let paired = it.contrast.cloned().unwrap_or_default();
                let lost = paired.lost_difference;
                for (side, lost) in [(&mut sides.harm, lost.harm), (&mut sides.favour, lost.favour)]
                {
                    let mut all = paired.difference;
                    all.merge(&lost);
                    let summary = all.summary();
                    side.add(summary.mean, summary.standard_error().powi(2), 0.5 * summary.n);
                }
            }
            Pairing::Split { .. } | Pairing::Apart => {
                let arms = it.arms(metric);
                for (side, (ours, theirs)) in
                    [(&mut sides.harm, arms.harm), (&mut sides.favour, arms.favour)]
                {
                    let variance = ours.standard_error().powi(2) + theirs.standard_error().powi(2);
                    let weight = ours.n * theirs.n / (ours.n + theirs.n);
                    side.add(ours.mean - theirs.mean, variance, weight);
                }
            }
        }
    }
    sides
}

/// Log-capitals of each planned effect add over all strata before the mixture: one process for the whole rollout.
fn rate_log_e(
    input: &AnalysisInput<'_>,
    metric: &Metric,
    strata: &[Compared<'_>],
    inflation: f64,
) -> [f64; 3] {
    let prior = planning::prior(metric);
    let mut questions = [[0.0; GRID]; 3];
    let nulls = planning::nulls(metric);
    for it in strata {
        for split in it.splits(input, metric) {
            for ((sums, null), split) in questions.iter_mut().zip(nulls).zip(split.questions()) {
                input.bets.split(&split, null, &prior).add_to(&split.counts, sums);
            }
        }
        if it.pairing == Pairing::Paired {
            let paired = it.paired(input, metric).questions();
            for ((sums, null), paired) in questions.iter_mut().zip(nulls).zip(paired) {
                let design = input.bets.paired(paired.discordance, null, &prior);
                design.add_to(&paired.counts, sums);
            }
        }
    }
    questions.map(|sums| prior.mixture(&sums.map(|s| s / inflation)))
}

fn mean_log_e(metric: &Metric, strata: &[Compared<'_>], inflation: f64) -> [f64; 3] {
    let prior = planning::prior(metric);
    let mut capitals = [Capital::default(); 3];
    for it in strata {
        if let Some(theirs) = it.contrast.and_then(|c| c.capital.as_deref()) {
            for (capital, theirs) in capitals.iter_mut().zip(theirs) {
                capital.merge(theirs);
            }
        }
    }
    capitals.map(|c| prior.mixture(&c.log_capitals().map(|l| l / inflation)))
}

/// Returns the nulls that the deciding bets do not reject, over all strata: for harm at its bar, for the candidate at that of a
/// promotion. What speaks for the candidate is planned against the margin, and against no difference where better is proved.
fn rate_interval(
    input: &AnalysisInput<'_>,
    metric: &Metric,
    strata: &[Compared<'_>],
    inflation: f64,
    claims: Claims,
) -> Interval {
    let prior = planning::prior(metric);
    let [harm, non_inferior, superior] = planning::nulls(metric);
    let end = |question: usize, null: Null, bar: f64| {
        let rungs: Vec<Rung> = strata
            .iter()
            .flat_map(|one| one.rungs(input, metric, (question, null), &prior))
            .collect();
        invert::end(&rungs, &prior, bar, inflation)
    };
    let bars = Bars::of(input.plan);
    let worse = end(0, harm, bars.harm);
    let better = end(1, if claims.superior { superior } else { non_inferior }, bars.promotion);
    match metric.direction {
        Direction::Lower => Interval { low: worse, high: -better },
        Direction::Higher => Interval { low: better, high: -worse },
    }
}

impl Compared<'_> {
    /// Returns the bets against the null of a question with what it is asked of, to be held against other nulls.
    fn rungs(
        &self,
        input: &AnalysisInput<'_>,
        metric: &Metric,
        (question, null): (usize, Null),
        prior: &Prior,
    ) -> Vec<Rung> {
        if self.pairing == Pairing::Paired {
            let paired = self.paired(input, metric).questions()[question];
            let design = input.bets.paired(paired.discordance, null, prior);
            return design.rung(&paired, null.side).into_iter().collect();
        }
        let splits = self.splits(input, metric).into_iter().map(|m| m.questions()[question]);
        splits
            .filter_map(|split| input.bets.split(&split, null, prior).rung(&split, null.side))
            .collect()
    }
}

/// One arm's mean with its asymptotic confidence sequence.
fn estimate(
    input: &AnalysisInput<'_>,
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
        asymp::interval(&asymptotic, tuning(input.plan.decide.alpha))
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
