//! Any metric, and units with several requests: cases are drawn one by one and added up by the lane's accumulator.

use std::sync::Arc;

use rand::{Rng, RngExt};
use rand_distr::{Beta, Distribution, LogNormal, StandardNormal};
use xxhash_rust::xxh3::xxh3_64;

use crate::domain::assignment;
use crate::domain::ids::{CaseId, Version};
use crate::domain::time::Span;
use crate::engine::analyst::accumulator::EvidenceAccumulator;
use crate::engine::analyst::case_value::{Pass, Spot, Worth};
use crate::engine::analyst::score::Ranked;
use crate::evidence::bet_center::Order;
use crate::evidence::design::{Part, Stratum};
use crate::inference::planning;
use crate::plan::metric::{Metric, Shape};
use crate::plan::metric_kind::{Cells, Group};
use crate::plan::rollout::{MissingLabels, RolloutPlan};
use crate::simulate::flow::Tick;
use crate::simulate::nature::{Nature, Truth};
use serinus_stats::cluster::Clusters;
use serinus_stats::special::{normal_cdf, normal_quantile};

/// The spread of one version's latencies: the standard deviation of their logarithm.
const LATENCY_SPREAD: f64 = 0.6;
/// The share of positive cases in a ranking.
const POSITIVES: f64 = 0.2;
/// The recall if the spec has only a precision metric.
const RECALL: f64 = 0.8;
/// The false positive rate if the spec has only a recall metric.
const ALARMS: f64 = 0.05;

/// The units of a world.
#[derive(Debug)]
pub(crate) struct Population {
    /// Each unit's mean by metric, on the scale of the metric's range; empty if every request is its own unit.
    levels: Vec<Vec<f64>>,
    units: u32,
}

/// A case whose label is read later.
#[derive(Debug)]
pub(crate) struct Waiting {
    stratum: Stratum,
    bucket: usize,
    unit: Option<u64>,
    parts: Vec<(Version, Part)>,
    /// Its position in the world's traffic.
    order: Order,
    /// The versions that did not answer.
    lost: Vec<Version>,
    /// The versions that get no label.
    unlabelled: Vec<Version>,
    /// Whether there is a label at a quarter of the maturity, at half of it, and at maturity.
    labelled_by: [bool; 3],
    values: Vec<Drawn>,
}

/// The values drawn for one metric.
#[derive(Debug)]
struct Drawn {
    metric: usize,
    values: Vec<(Version, Part, f64)>,
    is_positive: bool,
}

impl Population {
    /// Draws the units of a world.
    pub(crate) fn draw(plan: &RolloutPlan, nature: &Nature, rng: &mut impl Rng) -> Self {
        let Some(sticky) = nature.sticky else {
            return Self { levels: Vec::new(), units: 0 };
        };
        let levels = plan
            .metrics
            .iter()
            .zip(&nature.truths)
            .map(|(metric, truth)| {
                let is_level = matches!(metric.kind.shape(), Shape::Binary | Shape::Bounded);
                if !is_level || metric.kind.group() == Group::Agreement {
                    return vec![truth.base; sticky.units as usize];
                }
                let (low, high) = scale(metric);
                if truth.base <= low {
                    return vec![low; sticky.units as usize];
                }
                let mean = ((truth.base - low) / (high - low)).clamp(1e-6, 1.0 - 1e-6);
                let strength = (1.0 / sticky.likeness.clamp(1e-6, 0.999)) - 1.0;
                let law = Beta::new(mean * strength, (1.0 - mean) * strength).ok();
                (0..sticky.units)
                    .map(|_| law.as_ref().map_or(mean, |m| m.sample(rng)))
                    .map(|r| low + r * (high - low))
                    .collect()
            })
            .collect();
        Self { levels, units: sticky.units }
    }
}

/// Draws a tick's cases into the accumulator; returns those that wait for labels.
pub(crate) fn draw(
    tick: &Tick<'_>,
    nature: &Nature,
    people: &Population,
    book: &mut EvidenceAccumulator,
    rng: &mut impl Rng,
) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    for offset in 0..tick.requests {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let order = (tick.from, CaseId { partition: 0, offset });
        let unit = if people.units == 0 {
            rng.random::<u64>()
        } else {
            u64::from(rng.random_range(0..people.units))
        };
        if let Some(case) = draw_case(tick, nature, people, (unit, order), book, rng) {
            waiting.push(case);
        }
    }
    waiting
}

fn draw_case(
    tick: &Tick<'_>,
    nature: &Nature,
    people: &Population,
    (unit, order): (u64, Order),
    book: &mut EvidenceAccumulator,
    rng: &mut impl Rng,
) -> Option<Waiting> {
    let bytes = unit.to_le_bytes();
    let arm = assignment::arm(tick.routing, &bytes);
    let mut parts = vec![(arm.version.clone(), Part::Chosen)];
    for shadow in tick.routing.shadows.iter().filter(|s| s.version != arm.version) {
        if assignment::is_copied(&tick.routing.salt, shadow, &bytes) {
            parts.push((shadow.version.clone(), Part::Copied));
        }
    }
    for (version, part) in &parts {
        tick.expose(book.sums_mut(), version, *part, 1);
    }
    let hash = xxh3_64(&bytes);
    let known_by = (people.units > 0).then_some(hash);
    let units = book.sums_mut().units.entry(tick.stratum).or_default();
    units.assign(known_by, &arm.version, true);
    let bucket = Clusters::bucket(hash);
    let mut later = Vec::new();
    for (index, (metric, truth)) in tick.plan.metrics.iter().zip(&nature.truths).enumerate() {
        let level = usize::try_from(unit)
            .ok()
            .and_then(|u| people.levels.get(index)?.get(u).copied())
            .unwrap_or(truth.base);
        let source = Source { tick, metric, truth: *truth, level, parts: &parts };
        let (values, is_positive) = source.draw(rng);
        let is_positive = source.is_event(&values, rng).unwrap_or(is_positive);
        let drawn = Drawn { metric: index, values, is_positive };
        if metric.needs_label() {
            later.push(drawn);
        } else {
            let spot = Spot { stratum: tick.stratum, bucket, order, pass: Pass::First };
            add(book, tick.plan, spot, &drawn, &[]);
        }
    }
    if later.is_empty() {
        return None;
    }
    let is_event = later[0].is_positive;
    // One draw decides for every age whether the label has arrived by then.
    let patience: f64 = rng.random();
    let is_there = |age| patience >= nature.delay.missing(is_event, age);
    let labelled_by = [4, 2, 1].map(|part| is_there(Span(tick.plan.maturity.0 / part)));
    let mut left_out = |share: f64| -> Vec<Version> {
        let candidates = parts.iter().filter(|(p, _)| share > 0.0 && p != tick.stable());
        candidates.filter(|_| rng.random::<f64>() < share).map(|(s, _)| s.clone()).collect()
    };
    let (lost, unlabelled) = (left_out(nature.gaps.answers), left_out(nature.gaps.labels));
    Some(Waiting {
        stratum: tick.stratum,
        bucket,
        unit: known_by,
        parts,
        order,
        lost,
        unlabelled,
        labelled_by,
        values: later,
    })
}

/// Adds the labels of mature cases.
pub(crate) fn mature(plan: &Arc<RolloutPlan>, cases: Vec<Waiting>, book: &mut EvidenceAccumulator) {
    for case in cases {
        let [quarter, half, is_labelled] = case.labelled_by;
        if let Some((arm, _)) = case.parts.first() {
            let units = book.sums_mut().units.entry(case.stratum).or_default();
            units.mature(case.unit, arm, case.labelled_by);
            if is_labelled {
                units.label(case.unit, arm);
            }
        }
        for (version, part) in &case.parts {
            let key = (case.stratum, version.clone(), *part);
            let tally = book.sums_mut().arms.entry(key).or_default();
            tally.mature += 1;
            tally.missing += u64::from(!is_labelled);
            tally.labelled += u64::from(is_labelled);
            tally.labelled_by[0] += u64::from(quarter);
            tally.labelled_by[1] += u64::from(half);
        }
        for mut drawn in case.values {
            match (!is_labelled, plan.missing) {
                (true, MissingLabels::Exclude) => continue,
                (true, MissingLabels::Negative) => {
                    drawn.is_positive = false;
                    let shape = plan.metrics.get(drawn.metric).map(|m| m.kind.shape());
                    if matches!(shape, Some(Shape::Binary | Shape::Bounded)) {
                        drawn.values.iter_mut().for_each(|(_, _, value)| *value = 0.0);
                    }
                }
                (false, _) => {}
            }
            drawn.values.retain(|(version, _, _)| !case.unlabelled.contains(version));
            let Waiting { stratum, bucket, order, .. } = case;
            let spot = Spot { stratum, bucket, order, pass: Pass::First };
            add(book, plan, spot, &drawn, &case.lost);
        }
    }
}

/// Adds the drawn values, except those of lost answers.
fn add(
    book: &mut EvidenceAccumulator,
    plan: &RolloutPlan,
    spot: Spot,
    drawn: &Drawn,
    lost: &[Version],
) {
    let Spot { stratum, bucket, .. } = spot;
    let Some(metric) = plan.metrics.get(drawn.metric) else { return };
    match metric.kind.group() {
        Group::Agreement => {
            for (version, part, value) in &drawn.values {
                let key = (stratum, version.clone(), *part, metric.name.clone());
                book.sums_mut().scores.entry(key).or_default().moments.add(*value);
                book.differ(stratum, metric, bucket, version, [*value > 0.5, false]);
            }
        }
        Group::Labelled(_) | Group::Response(_) => {
            let worth = |(version, part, value): &(Version, Part, f64)| {
                let is_lost = lost.contains(version);
                let worth = if is_lost { Worth::Lost } else { Worth::Value(*value) };
                (version.clone(), *part, worth)
            };
            let values: Vec<(Version, Part, Worth)> = drawn.values.iter().map(worth).collect();
            book.add(spot, metric, &values);
        }
        Group::Table(_) | Group::Ranking => {
            let place = |(version, part, score): &(Version, Part, f64)| {
                let is_called = *score > 0.5;
                let ranked = Ranked { score: *score, is_called, is_positive: drawn.is_positive };
                (version.clone(), *part, ranked)
            };
            let (lost, there): (Vec<_>, Vec<_>) =
                drawn.values.iter().partition(|(version, _, _)| lost.contains(version));
            for (version, part, _) in lost {
                book.lose(stratum, metric, (version, *part), drawn.is_positive);
            }
            let places: Vec<(Version, Part, Ranked)> = there.into_iter().map(place).collect();
            book.place(stratum, metric, bucket, &places);
        }
        Group::Latency => {
            for (version, part, value) in &drawn.values {
                let key = (stratum, version.clone(), *part);
                book.sums_mut().arms.entry(key).or_default().latency.insert(*value);
            }
            book.add_latency(stratum, metric, bucket, &drawn.values);
        }
    }
}

/// The parameters from which one metric is drawn in one case.
#[derive(Clone, Copy)]
struct Source<'a> {
    tick: &'a Tick<'a>,
    metric: &'a Metric,
    truth: Truth,
    /// The unit's mean.
    level: f64,
    parts: &'a [(Version, Part)],
}

impl Source<'_> {
    /// Draws each version's value, and whether the case is positive.
    fn draw(&self, rng: &mut impl Rng) -> (Vec<(Version, Part, f64)>, bool) {
        match self.metric.kind.group() {
            Group::Labelled(_) | Group::Response(_) => {
                if self.metric.kind.shape() == Shape::Bounded {
                    self.draw_bounded(rng)
                } else {
                    self.draw_events(rng)
                }
            }
            Group::Table(cells) => self.draw_calls(cells, rng),
            Group::Ranking => self.draw_scores(rng),
            Group::Latency => (self.draw_durations(rng), false),
            Group::Agreement => (self.draw_differences(rng), false),
        }
    }

    /// Returns whether the labeled event happened, on which the label's delay depends. It treats all versions alike, so that missing
    /// labels favor none. `None` for ranking metrics, which draw the event themselves.
    fn is_event(&self, values: &[(Version, Part, f64)], rng: &mut impl Rng) -> Option<bool> {
        let middle = match self.metric.kind.shape() {
            Shape::Binary => 0.5,
            Shape::Bounded => self.mean(),
            Shape::Ranking | Shape::Duration | Shape::Confusion => return None,
        };
        let (_, _, value) = values.get(rng.random_range(0..values.len().max(1)))?;
        Some(*value > middle)
    }

    /// Returns the stable version's current mean.
    fn mean(&self) -> f64 {
        self.level * self.tick.factor
    }

    fn effect_of(&self, version: &Version) -> f64 {
        if version == self.tick.stable() { 0.0 } else { self.truth.effect }
    }

    fn draw_differences(&self, rng: &mut impl Rng) -> Vec<(Version, Part, f64)> {
        let stable = self.tick.stable();
        let has_stable = self.parts.iter().any(|(p, _)| p == stable);
        let candidates = self.parts.iter().filter(|(p, _)| has_stable && p != stable);
        candidates
            .map(|(version, part)| {
                let differs = rng.random::<f64>() < self.truth.base + self.truth.effect;
                (version.clone(), *part, f64::from(differs))
            })
            .collect()
    }

    fn draw_events(&self, rng: &mut impl Rng) -> (Vec<(Version, Part, f64)>, bool) {
        let (mean, effect) = (self.mean(), self.truth.effect);
        if let [(version, part)] = self.parts {
            let happens = rng.random::<f64>() < mean + self.effect_of(version);
            return (vec![(version.clone(), *part, f64::from(happens))], happens);
        }
        let assumed = planning::assumption(self.tick.design, self.metric, self.tick.stratum.stage);
        // Conditional on the stable answer, so that the two differ at the planned rate.
        let widest = 2.0 * mean.min(1.0 - mean);
        let apart = self.truth.apart.unwrap_or(assumed.discordance).min(widest).max(effect.abs());
        let (plus, minus) = (0.5 * (apart + effect), 0.5 * (apart - effect));
        let theirs = rng.random::<f64>() < mean;
        let p = if theirs { 1.0 - minus / mean } else { plus / (1.0 - mean) };
        let values = self.parts.iter().map(|(version, part)| {
            let happens =
                if version == self.tick.stable() { theirs } else { rng.random::<f64>() < p };
            (version.clone(), *part, f64::from(happens))
        });
        (values.collect(), theirs)
    }

    fn draw_bounded(&self, rng: &mut impl Rng) -> (Vec<(Version, Part, f64)>, bool) {
        let assumed = planning::assumption(self.tick.design, self.metric, self.tick.stratum.stage);
        let (low, high) = scale(self.metric);
        let mean = self.mean().clamp(low + 1e-9, high - 1e-9);
        let variance = self.truth.variance.unwrap_or(assumed.variance);
        let theirs = bounded(self.metric, mean, variance, rng);
        let redrawn = (assumed.paired_variance / (2.0 * assumed.variance)).clamp(0.02, 1.0);
        let values = self.parts.iter().map(|(version, part)| {
            let mut value = theirs;
            if version != self.tick.stable() {
                if rng.random::<f64>() < redrawn {
                    value = bounded(self.metric, mean, variance, rng);
                }
                value = shifted(value, self.truth.effect, mean, (low, high));
            }
            (version.clone(), *part, value)
        });
        (values.collect(), theirs > mean)
    }

    fn draw_scores(&self, rng: &mut impl Rng) -> (Vec<(Version, Part, f64)>, bool) {
        let is_positive = rng.random::<f64>() < POSITIVES;
        let shared: f64 = StandardNormal.sample(rng);
        let (low, high) = self.metric.range;
        let values = self.parts.iter().map(|(version, part)| {
            let area = (self.level + self.effect_of(version)).clamp(0.01, 0.99);
            let apart = std::f64::consts::SQRT_2 * normal_quantile(area);
            let own: f64 = StandardNormal.sample(rng);
            let z = 0.9 * shared + (1.0 - 0.81_f64).sqrt() * own;
            let z = z + if is_positive { apart } else { 0.0 };
            (version.clone(), *part, low + normal_cdf(z) * (high - low))
        });
        (values.collect(), is_positive)
    }

    /// Draws the predictions: 1 for positive, otherwise 0.
    ///
    /// The effect changes false positives for precision, true positives for recall, and both for F1, where precision equals recall.
    fn draw_calls(&self, cells: Cells, rng: &mut impl Rng) -> (Vec<(Version, Part, f64)>, bool) {
        let is_positive = rng.random::<f64>() < POSITIVES;
        let odds = POSITIVES / (1.0 - POSITIVES);
        let shared: f64 = rng.random();
        let values = self.parts.iter().map(|(version, part)| {
            let value = (self.level + self.effect_of(version)).clamp(0.01, 0.99);
            let alarm = |hit: f64| (odds * hit * (1.0 - value) / value).min(1.0);
            let (hit, alarm) = match cells {
                Cells::Precision => (RECALL, alarm(RECALL)),
                Cells::Recall => (value, ALARMS),
                Cells::F1 => (value, alarm(value)),
            };
            let alike = rng.random::<f64>() < 0.8;
            let draw = if alike { shared } else { rng.random() };
            let is_called = draw < if is_positive { hit } else { alarm };
            (version.clone(), *part, f64::from(is_called))
        });
        (values.collect(), is_positive)
    }

    fn draw_durations(&self, rng: &mut impl Rng) -> Vec<(Version, Part, f64)> {
        let one = |(version, part): &(Version, Part)| {
            let median = (self.mean() * (1.0 + self.effect_of(version))).max(1e-6);
            let law = LogNormal::new(median.ln(), LATENCY_SPREAD).ok()?;
            Some((version.clone(), *part, law.sample(rng)))
        };
        self.parts.iter().filter_map(one).collect()
    }
}

/// Draws a value of a bounded metric with this mean, and with this variance if the range allows it.
fn bounded(metric: &Metric, mean: f64, variance: f64, rng: &mut impl Rng) -> f64 {
    let (low, high) = scale(metric);
    let width = high - low;
    let m = ((mean - low) / width).clamp(1e-6, 1.0 - 1e-6);
    let most = m * (1.0 - m);
    let v = (variance / (width * width)).clamp(most * 1e-3, most * 0.95);
    let strength = most / v - 1.0;
    match Beta::new(m * strength, (1.0 - m) * strength) {
        Ok(law) => low + width * law.sample(rng),
        Err(_) => mean,
    }
}

/// Moves a value so that the mean moves by exactly `by` and no value leaves the range.
fn shifted(value: f64, by: f64, mean: f64, (low, high): (f64, f64)) -> f64 {
    let room = if by > 0.0 { (high - value) / (high - mean) } else { (value - low) / (mean - low) };
    (value + by * room).clamp(low, high)
}

fn scale(metric: &Metric) -> (f64, f64) {
    match metric.kind.shape() {
        Shape::Bounded => metric.range,
        Shape::Binary | Shape::Ranking | Shape::Duration | Shape::Confusion => (0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::shifted;

    #[test]
    fn a_shift_moves_the_mean_and_stays_inside() {
        let values = [0.0, 0.1, 0.3, 0.8, 1.0];
        let mean = values.iter().sum::<f64>() / 5.0;
        for by in [0.05, -0.05] {
            let moved: Vec<f64> =
                values.iter().map(|f| shifted(*f, by, mean, (0.0, 1.0))).collect();
            assert!(moved.iter().all(|m| (0.0..=1.0).contains(m)), "{moved:?}");
            assert!((moved.iter().sum::<f64>() / 5.0 - mean - by).abs() < 1e-12, "{moved:?}");
        }
    }
}
