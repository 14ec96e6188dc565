//! Plans the bets: from the spec before there is data, from the stable version's own history afterwards.
//!
//! The plan of a stage depends only on earlier stages and does not change during the stage.

use crate::domain::ids::{MetricName, StageIndex, Version};
use crate::domain::time::Timestamp;
use crate::evidence::design::{
    Assumption, Block, Counted, Design, Exceedances, Pairing, Part, Stratum, Thresholds,
};
use crate::evidence::sums::{Evidence, Scores, Tally};
use crate::plan::metric::{Metric, Shape};
use crate::plan::metric_kind::{Group, RARE_BASE};
use crate::plan::rollout::RolloutPlan;
use serinus_stats::bounded_bet::{Bets, Range};
use serinus_stats::exceedance::{Ladder, RUNGS};
use serinus_stats::ipw_bet;
use serinus_stats::moments::{Moments, Summary};
use serinus_stats::paired_bet::{PairedCounts, PairedDesign};
use serinus_stats::prior::Prior;
use serinus_stats::side::{Null, Side};
use serinus_stats::sketch::{ACCURACY, Sketch};

/// Minimum number of observations for planning from the data instead of the spec.
const HISTORY_MIN: u64 = 100;
/// Minimum number of answers from which latency thresholds are frozen, in each stage.
const ANSWERS_MIN: u64 = 200;
/// Minimum number of answers after a freeze before the thresholds are checked for being far off.
const ANSWERS_TO_DOUBT: u64 = 100;
/// Maximum number of threshold sets of a metric: the design holds all of them, and every event carries the design.
const BLOCKS_MAX: usize = 16;

/// The null hypotheses of a metric's three questions: harm, non-inferior, superior.
///
/// Two copies of one deterministic version never disagree, so for disagreement, harm begins at the margin.
pub fn nulls(metric: &Metric) -> [Null; 3] {
    let sign = metric.direction.harm_sign();
    let (worse, better) =
        if sign > 0.0 { (Side::Greater, Side::Less) } else { (Side::Less, Side::Greater) };
    let limit = sign * metric.margin.value();
    let harm = if metric.kind.group() == Group::Agreement { limit } else { 0.0 };
    [
        Null { at: harm, side: worse },
        Null { at: limit, side: better },
        Null { at: 0.0, side: better },
    ]
}

/// Returns the prior (mixture of effects) that a metric is planned for.
pub fn prior(metric: &Metric) -> Prior {
    Prior::planned(metric.mde)
}

/// Returns the bets of a bounded metric for its three questions; `None` if nothing is compared.
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

/// Returns the expected log growth per case of a binary metric's best bet if the candidate differs by `truth`.
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
            let centre = assumption.centre;
            let ours = (centre + truth).clamp(0.0, 1.0);
            let design = ipw_bet::Design::centred(rho, planned_rate(centre), centre, null, &prior);
            design.growth(rho, centre, ours)
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

/// Returns the stable version's rate for which bets around a center are planned.
///
/// Bets on rare events are centered at 0: a case without the event then bets nothing, so a service without errors is proved by
/// the margin alone. If they were planned for a rate of 0, a single event would cost nearly the whole capital.
pub fn planned_rate(centre: f64) -> f64 {
    if centre > 0.0 { centre } else { RARE_BASE }
}

/// Returns the assumptions about a metric at a stage.
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

/// Plans a stage from the stable version's evidence in earlier stages.
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

/// Freezes latency thresholds that are due; returns whether any were.
///
/// Thresholds are chosen from earlier answers, and only later answers are compared with them. Comparisons with earlier thresholds
/// are kept: the evidence of all blocks is added up.
pub fn freeze_thresholds(
    design: &mut Design,
    plan: &RolloutPlan,
    stage: StageIndex,
    stable: &Version,
    evidence: &Evidence,
    tick: Timestamp,
) -> bool {
    let mut has_frozen = false;
    for metric in plan.metrics.iter().filter(|m| m.kind.group() == Group::Latency) {
        let mut seen = Sketch::default();
        for ((_, version, part), tally) in &evidence.arms {
            if version == stable && *part == Part::Chosen {
                seen.merge(&tally.latency);
            }
        }
        let fresh = match design.thresholds.get(&metric.name).and_then(|n| n.last()) {
            Some(Thresholds { block: Block::Open { seen: before, .. }, .. }) => seen.since(before),
            Some(Thresholds { block: Block::Closed(_), .. }) | None => seen.clone(),
        };
        let blocks = design.thresholds.get(&metric.name).map_or(&[][..], Vec::as_slice);
        if !is_due(blocks, &fresh, stage) {
            continue;
        }
        let Some(ladder) = Ladder::of(&fresh) else { continue };
        // One bucket down: answers equal to the quantile count as slower for both versions. There are many of them if clocks
        // have a resolution of one millisecond.
        let below = (1.0 - ACCURACY) / (1.0 + ACCURACY);
        let latency_ms = ladder.scaled(below).thresholds.map(rounded);
        let blocks = design.thresholds.entry(metric.name.clone()).or_default();
        if let Some(last) = blocks.last_mut() {
            close(last, evidence, metric);
        }
        let count = |(key, tally): (&Key, &Tally)| {
            (key.clone(), exceedances_of(tally, &latency_ms, metric))
        };
        let counted = evidence.arms.iter().map(count).collect();
        let block = Block::Open { counted, seen };
        blocks.push(Thresholds { latency_ms, since: tick, stage, block });
        has_frozen = true;
    }
    has_frozen
}

type Key = (Stratum, Version, Part);

/// Returns whether new thresholds are due, given the stable version's answers since the last ones. They are due for the first
/// time, in a new stage, after ten times as many answers in total, and if the last ones are far off, as after a cold start.
fn is_due(blocks: &[Thresholds], fresh: &Sketch, stage: StageIndex) -> bool {
    let Some(last) = blocks.last() else { return fresh.count() >= ANSWERS_MIN };
    let before = match &last.block {
        Block::Open { seen, .. } => seen.count(),
        Block::Closed(_) => 0,
    };
    if blocks.len() >= BLOCKS_MAX {
        return false;
    }
    // Each set needs half as many more answers, so that fluctuating latency does not use up all sets at once.
    let is_doubted = fresh.count() >= ANSWERS_TO_DOUBT.max(before / 2);
    last.stage < stage && fresh.count() >= ANSWERS_MIN
        || fresh.count() / 9 >= before.max(ANSWERS_MIN)
        || is_doubted && is_far_off(last, fresh)
}

/// Returns whether the median or the ninth decile of the answers has moved.
fn is_far_off(thresholds: &Thresholds, fresh: &Sketch) -> bool {
    let Some(ladder) = Ladder::of(fresh) else { return false };
    // Half a millisecond is below the resolution of clocks with whole milliseconds.
    let is_apart = |a: f64, b: f64, factor: f64| a.max(b) > factor * a.min(b) + 0.5;
    is_apart(thresholds.latency_ms[0], ladder.thresholds[0], 1.5)
        || is_apart(thresholds.latency_ms[1], ladder.thresholds[1], 2.0)
}

/// Closes a block with its counts.
fn close(thresholds: &mut Thresholds, evidence: &Evidence, metric: &Metric) {
    let counted: Counted = evidence
        .arms
        .iter()
        .map(|(key, tally)| (key.clone(), in_block(thresholds, key, tally, metric)))
        .filter(|(_, counted)| counted.all() > 0)
        .collect();
    thresholds.block = Block::Closed(counted);
}

/// Counts the part of a tally that falls into a block.
pub fn in_block(
    thresholds: &Thresholds,
    key: &(Stratum, Version, Part),
    tally: &Tally,
    metric: &Metric,
) -> Exceedances {
    match &thresholds.block {
        Block::Open { counted, .. } => {
            let before = counted.get(key).copied().unwrap_or_default();
            exceedances_of(tally, &thresholds.latency_ms, metric).since(&before)
        }
        Block::Closed(counted) => counted.get(key).copied().unwrap_or_default(),
    }
}

/// Counts the answers slower than the thresholds, and the missing answers.
fn exceedances_of(tally: &Tally, latency_ms: &[f64; RUNGS], metric: &Metric) -> Exceedances {
    Exceedances {
        unanswered: tally.errors + tally.late + tally.timeouts,
        ..exceedances(&tally.latency, latency_ms, metric)
    }
}

/// Counts the answers of a sketch that were slower than the thresholds.
pub fn exceedances(sketch: &Sketch, latency_ms: &[f64; RUNGS], metric: &Metric) -> Exceedances {
    let ladder = Ladder { thresholds: *latency_ms };
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
        unanswered: 0,
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
                // A rate of 0 or 1 in the sample does not mean the same rate in the population.
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

/// Without data, a rate has its binomial variance; a bounded value has half of the largest variance that its mean allows.
fn from_spec(metric: &Metric) -> Assumption {
    let (low, high) = match metric.kind.shape() {
        Shape::Bounded => metric.range,
        Shape::Binary | Shape::Ranking | Shape::Duration | Shape::Confusion => (0.0, 1.0),
    };
    let centre = metric.centre.clamp(low, high);
    let base = metric.base.clamp(low, high);
    let spread = ((base - low) * (high - base)).max((high - low).powi(2) * 1e-4);
    let (variance, paired_variance) = match metric.kind.shape() {
        Shape::Binary => (spread, spread),
        Shape::Bounded | Shape::Ranking | Shape::Duration | Shape::Confusion => {
            (0.5 * spread, 0.1 * spread)
        }
    };
    // Versions of one model often err on the same cases: assume half as many discordant pairs as under independence.
    let discordance = (0.5 * spread).max(2.0 * metric.mde).clamp(1e-3, 1.0);
    Assumption { centre, variance, paired_variance, discordance }
}

/// Rounds to seven digits: enough for a plan, and exact in any text format.
fn rounded(number: f64) -> f64 {
    format!("{number:.6e}").parse().unwrap_or(number)
}
