//! Plans the bets: from the spec before there is data, from the stable version's own history afterwards.
//!
//! What is planned for a stage rests on the stages before it only, and never changes while the stage lasts.

use std::collections::BTreeMap;

use crate::domain::ids::{MetricName, StageIndex, Version};
use crate::domain::time::Timestamp;
use crate::stats::bounded_bet::{Bets, Range};
use crate::stats::exceedance::{Ladder, RUNGS};
use crate::stats::ipw_bet;
use crate::stats::moments::{Moments, Summary};
use crate::stats::paired_bet::{PairedCounts, PairedDesign};
use crate::stats::prior::Prior;
use crate::stats::side::{Null, Side};
use crate::stats::sketch::{ACCURACY, Sketch};
use crate::strategy::design::{Assumption, Design, Exceedances, Pairing, Part, Thresholds};
use crate::strategy::evidence::{Evidence, Scores};
use crate::strategy::metric::{Metric, MetricKind, Shape};
use crate::strategy::stage::RolloutPlan;

/// From how many observations on the data is believed more than the spec.
const HISTORY_MIN: u64 = 100;
/// From how many answers on latency thresholds are frozen.
const ANSWERS_MIN: u64 = 200;

/// The three questions of a metric as hypotheses to speak against: harm, non-inferior, superior.
///
/// Two copies of one version disagree with themselves never, so for disagreement harm begins at the margin.
pub fn nulls(metric: &Metric) -> [Null; 3] {
    let sign = metric.direction.harm_sign();
    let (worse, better) =
        if sign > 0.0 { (Side::Greater, Side::Less) } else { (Side::Less, Side::Greater) };
    let limit = sign * metric.margin.value();
    let harm = if metric.kind == MetricKind::Disagreement { limit } else { 0.0 };
    [
        Null { at: harm, side: worse },
        Null { at: limit, side: better },
        Null { at: 0.0, side: better },
    ]
}

/// Returns the mixture of effects that a metric is planned for.
pub fn prior(metric: &Metric) -> Prior {
    Prior::planned(metric.mde)
}

/// Returns the bets of a bounded metric, for its three questions; nothing where nothing is compared.
pub fn bets(metric: &Metric, assumption: Assumption, pairing: Pairing) -> Option<[Bets; 3]> {
    let (low, high) = metric.range;
    let prior = prior(metric);
    let range = |variance| Range { low, high, centre: assumption.centre, variance };
    match pairing {
        Pairing::Apart => None,
        Pairing::Paired => {
            let range = range(assumption.paired_variance);
            Some(nulls(metric).map(|null| Bets::paired(range, null, &prior)))
        }
        Pairing::Split { rho } => {
            let range = range(assumption.variance);
            Some(nulls(metric).map(|null| Bets::split(range, rho, null, &prior)))
        }
    }
}

/// Returns what a binary metric's best bet wins by a case on average, as a logarithm, where the candidate differs by `truth`.
pub fn rate_growth(
    metric: &Metric,
    assumption: Assumption,
    pairing: Pairing,
    null: Null,
    truth: f64,
) -> f64 {
    let prior = prior(metric);
    match pairing {
        Pairing::Split { rho } => {
            let base = assumption.centre;
            let ours = (base + truth).clamp(0.0, 1.0);
            ipw_bet::Design::new(rho, base, null, &prior).growth(rho, base, ours)
        }
        Pairing::Paired => {
            let discordance = assumption.discordance;
            PairedDesign::new(discordance, null, &prior).growth(discordance, truth)
        }
        Pairing::Apart => 0.0,
    }
}

/// Returns the same for a bounded metric, from its mean and variance alone: `lambda m - lambda^2 (V + m^2) / 2`.
pub fn mean_growth(
    metric: &Metric,
    assumption: Assumption,
    pairing: Pairing,
    null: Null,
    truth: f64,
) -> f64 {
    let (low, high) = metric.range;
    let prior = prior(metric);
    let range = |variance| Range { low, high, centre: assumption.centre, variance };
    let (bets, variance) = match pairing {
        Pairing::Apart => return 0.0,
        Pairing::Paired => {
            let variance = assumption.paired_variance;
            (Bets::paired(range(variance), null, &prior), variance)
        }
        Pairing::Split { rho } => {
            let variance = assumption.variance;
            (Bets::split(range(variance), rho, null, &prior), variance / (rho * (1.0 - rho)))
        }
    };
    let edge = null.side.sign() * (truth - null.at);
    let win = |lambda: &f64| lambda * edge - 0.5 * lambda * lambda * (variance + edge * edge);
    bets.lambdas().iter().map(win).fold(0.0, f64::max)
}

/// Returns what is assumed of a metric at a stage.
pub fn assumption(design: &Design, metric: &Metric, stage: StageIndex) -> Assumption {
    design
        .assumptions
        .get(&(stage, metric.name.clone()))
        .copied()
        .unwrap_or_else(|| from_spec(metric))
}

/// Returns the design of a rollout's first stage.
pub fn initial(plan: &RolloutPlan) -> Design {
    let mut design = Design::default();
    plan_stage(&mut design, plan, StageIndex(0), &Version::new(""), &Evidence::default());
    design
}

/// Plans a stage from what the stages before it showed of the stable version.
pub fn plan_stage(
    design: &mut Design,
    plan: &RolloutPlan,
    stage: StageIndex,
    stable: &Version,
    evidence: &Evidence,
) {
    for metric in &plan.metrics {
        match metric.kind.shape() {
            Shape::Binary | Shape::Bounded => {
                let assumption = from_history(metric, stage, stable, evidence);
                design.assumptions.insert((stage, metric.name.clone()), assumption);
            }
            Shape::Ranking | Shape::Duration | Shape::Confusion => {}
        }
    }
}

/// Freezes latency thresholds once the stable version has answered often enough; returns whether it did.
pub fn freeze_thresholds(
    design: &mut Design,
    plan: &RolloutPlan,
    stable: &Version,
    evidence: &Evidence,
    tick: Timestamp,
) -> bool {
    let mut has_frozen = false;
    for metric in plan.metrics.iter().filter(|it| it.kind == MetricKind::Latency) {
        if design.thresholds.contains_key(&metric.name) {
            continue;
        }
        let mut sketch = Sketch::default();
        for ((_, version, part), tally) in &evidence.arms {
            if version == stable && *part == Part::Chosen {
                sketch.merge(&tally.latency);
            }
        }
        if sketch.count() < ANSWERS_MIN {
            continue;
        }
        let Some(ladder) = Ladder::of(&sketch) else { continue };
        // One bucket down: answers that take as long as the quantile itself, of which there are many when clocks tick in
        // whole milliseconds, count as slower for both versions.
        let below = (1.0 - ACCURACY) / (1.0 + ACCURACY);
        let latency_ms = ladder.scaled(below).thresholds.map(rounded);
        let mut thresholds = Thresholds { latency_ms, since: tick, counted: BTreeMap::new() };
        for (key, tally) in &evidence.arms {
            let counted = exceedances(&tally.latency, &thresholds, metric);
            thresholds.counted.insert(key.clone(), counted);
        }
        design.thresholds.insert(metric.name.clone(), thresholds);
        has_frozen = true;
    }
    has_frozen
}

/// Counts how many answers of a sketch took longer than the thresholds.
pub fn exceedances(sketch: &Sketch, thresholds: &Thresholds, metric: &Metric) -> Exceedances {
    let ladder = Ladder { thresholds: thresholds.latency_ms };
    let above = |ladder: Ladder| {
        let mut counts = [0; RUNGS];
        for (count, threshold) in counts.iter_mut().zip(ladder.thresholds) {
            *count = sketch.count_above(threshold);
        }
        counts
    };
    Exceedances {
        n: sketch.count(),
        above: above(ladder),
        above_limit: above(ladder.scaled(1.0 + metric.margin.value())),
    }
}

fn from_history(
    metric: &Metric,
    stage: StageIndex,
    stable: &Version,
    evidence: &Evidence,
) -> Assumption {
    let mut assumption = from_spec(metric);
    let mut scores = Scores::default();
    for ((stratum, version, _, name), it) in &evidence.scores {
        if stratum.stage < stage && version == stable && *name == metric.name {
            scores.merge(it);
        }
    }
    let summary = scores.moments.summary();
    if scores.moments.n >= HISTORY_MIN {
        match metric.kind.shape() {
            Shape::Binary => {
                // A rate of 0 or 1 in the sample is not one in the world.
                let centre = (summary.mean * summary.n + 0.5) / (summary.n + 1.0);
                assumption.centre = centre;
                assumption.variance = centre * (1.0 - centre);
            }
            Shape::Bounded | Shape::Ranking | Shape::Duration | Shape::Confusion => {
                assumption.centre = summary.mean;
                if summary.variance() > 0.0 {
                    assumption.variance = summary.variance();
                }
            }
        }
    }
    let (pairs, differences) = pairs(&metric.name, stage, evidence);
    if differences.n >= HISTORY_MIN as f64 {
        let squares = differences.m2 / differences.n + differences.mean * differences.mean;
        assumption.paired_variance = squares.max(assumption.paired_variance * 1e-3);
    }
    if pairs.pairs() >= HISTORY_MIN {
        let apart = (pairs.plus + pairs.minus) as f64 + 0.5;
        assumption.discordance = apart / (pairs.pairs() as f64 + 1.0);
    }
    Assumption {
        centre: rounded(assumption.centre),
        variance: rounded(assumption.variance),
        paired_variance: rounded(assumption.paired_variance),
        discordance: rounded(assumption.discordance),
    }
}

fn pairs(name: &MetricName, stage: StageIndex, evidence: &Evidence) -> (PairedCounts, Summary) {
    let mut pairs = PairedCounts::default();
    let mut differences = Moments::default();
    for (key, contrast) in &evidence.contrasts {
        if key.stratum.stage < stage && key.metric == *name {
            pairs.merge(&contrast.pairs);
            differences.merge(&contrast.difference);
        }
    }
    (pairs, differences.summary())
}

/// Before there is data: a rate has the variance of a rate; a bounded value half of what its mean allows at the most.
fn from_spec(metric: &Metric) -> Assumption {
    let (low, high) = match metric.kind.shape() {
        Shape::Bounded => metric.range,
        Shape::Binary | Shape::Ranking | Shape::Duration | Shape::Confusion => (0.0, 1.0),
    };
    let centre = metric.base.clamp(low, high);
    let spread = ((centre - low) * (high - centre)).max((high - low).powi(2) * 1e-4);
    let (variance, paired_variance) = match metric.kind.shape() {
        Shape::Binary => (spread, spread),
        Shape::Bounded | Shape::Ranking | Shape::Duration | Shape::Confusion => {
            (0.5 * spread, 0.1 * spread)
        }
    };
    // Builds of one model err on the same cases more often than not: half as many differ as if one guessed the other's rate.
    let discordance = (0.5 * spread).max(2.0 * metric.mde).clamp(1e-3, 1.0);
    Assumption { centre, variance, paired_variance, discordance }
}

/// Seven digits: a plan needs no more, and they come back the same from any text form.
fn rounded(number: f64) -> f64 {
    format!("{number:.6e}").parse().unwrap_or(number)
}
