//! Ranking and latency metrics, which are not sums of scores.

use std::sync::Arc;

use crate::domain::case::Prediction;
use crate::domain::ids::Version;
use crate::engine::analyst::accumulator::EvidenceAccumulator;
use crate::engine::analyst::case_value::{Worth, arm, hash, weight};
use crate::engine::analyst::score::Ranked;
use crate::evidence::design::{Pairing, Part, Stratum};
use crate::evidence::unscored::Reason;
use crate::inference::planning;
use crate::inference::scoring_gaps;
use crate::plan::metric::{Metric, Shape};
use serinus_stats::cluster::{Arm, Case};

impl EvidenceAccumulator {
    /// Records the case of each value outside of the metric's declared range.
    pub(crate) fn note_outside(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        case: &Prediction,
        values: &[(Version, Part, Worth)],
    ) {
        let (low, high) = metric.range;
        let is_outside = |worth: &Worth| match worth {
            Worth::Value(value) => !(low..=high).contains(value),
            Worth::Lost => false,
        };
        if !scoring_gaps::is_range_declared(metric.kind) {
            return;
        }
        for (version, part, _) in values.iter().filter(|(_, _, worth)| is_outside(worth)) {
            let unscored = &mut self.scores_of(stratum, version, *part, metric).unscored;
            unscored.add(Reason::OutsideRange, hash(&case.request_id), &case.request_id);
        }
    }

    /// Counts an answer that cannot be ranked although the class of its case is known.
    pub fn lose(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        (version, part): (&Version, Part),
        is_positive: bool,
    ) {
        let lost = &mut self.scores_of(stratum, version, part, metric).lost;
        let of_class = if is_positive { &mut lost.positives } else { &mut lost.rest };
        *of_class += 1;
    }

    /// Adds the scores of answers by class, and their influence by unit for the design effect.
    pub fn place(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        bucket: usize,
        places: &[(Version, Part, Ranked)],
    ) {
        for (version, part, ranked) in places {
            let scores = self.scores_of(stratum, version, *part, metric);
            if metric.kind.shape() == Shape::Ranking {
                scores.ranks.get_or_insert_default().add(ranked.score, ranked.is_positive);
            } else {
                scores.table.count(ranked.is_called, ranked.is_positive);
            }
        }
        let base = planning::assumption(&self.design, metric, stratum.stage).centre;
        let influence = |r: &Ranked| r.influence(metric, base);
        for candidate in &Arc::clone(&self.plan).candidates {
            let of = |version: &Version| places.iter().find(|(p, _, _)| p == version);
            let case = match self.design.pairing(&self.plan, stratum, candidate, &self.stable) {
                Pairing::Apart => None,
                Pairing::Paired => {
                    of(candidate).zip(of(&self.stable)).map(|((_, _, ours), (_, _, theirs))| {
                        let value = influence(ours) - influence(theirs);
                        unstaked(Arm::Pair, 1.0, value)
                    })
                }
                Pairing::Split { rho } => {
                    let chosen = places.iter().find(|(_, part, _)| *part == Part::Chosen);
                    chosen.and_then(|(version, _, ranked)| {
                        let weight = weight(version, candidate, &self.stable, rho)?;
                        Some(unstaked(arm(version, candidate), weight, influence(ranked)))
                    })
                }
            };
            if let Some(case) = case {
                self.cluster(metric, candidate, bucket, case);
            }
        }
    }

    /// Adds how long answers took, in milliseconds, for how far that is alike within units.
    pub fn add_latency(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        bucket: usize,
        values: &[(Version, Part, f64)],
    ) {
        for candidate in &Arc::clone(&self.plan).candidates {
            let of = |version: &Version| values.iter().find(|(v, _, _)| v == version);
            let level = |ms: f64| (ms + 1.0).ln();
            let case = match self.design.pairing(&self.plan, stratum, candidate, &self.stable) {
                Pairing::Apart => None,
                Pairing::Paired => {
                    of(candidate).zip(of(&self.stable)).map(|((_, _, ours), (_, _, theirs))| {
                        unstaked(Arm::Pair, 1.0, level(*ours) - level(*theirs))
                    })
                }
                Pairing::Split { rho } => {
                    let chosen = values.iter().find(|(_, part, _)| *part == Part::Chosen);
                    chosen.and_then(|(version, _, ms)| {
                        let weight = weight(version, candidate, &self.stable, rho)?;
                        Some(unstaked(arm(version, candidate), weight, level(*ms)))
                    })
                }
            };
            if let Some(case) = case {
                self.cluster(metric, candidate, bucket, case);
            }
        }
    }
}

/// Returns a case of a metric without bets on single answers.
fn unstaked(arm: Arm, weight: f64, value: f64) -> Case {
    Case { arm, weight, value, centre: value }
}
