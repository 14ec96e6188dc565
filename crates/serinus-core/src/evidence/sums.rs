//! The evidence as sums. They merge by addition: the result is the same to the last bit in any order.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::{MetricName, StageIndex, Version};
use crate::domain::time::{Span, Timestamp};
use crate::evidence::bet_center::{Centre, Centres};
use crate::evidence::bounds::{Lost, Sides};
use crate::evidence::design::{ContrastKey, Part, Stratum};
use crate::evidence::units::Units;
use crate::evidence::unscored::Unscored;
use serinus_stats::bounded_bet::Capital;
use serinus_stats::cluster::Clusters;
use serinus_stats::ipw_bet;
use serinus_stats::moments::Moments;
use serinus_stats::paired_bet::PairedCounts;
use serinus_stats::ranking::Ranking;
use serinus_stats::sketch::Sketch;

/// Cases before a gap of 30 days do not count for the start of a stage: a single wrong timestamp must not end a rollout.
pub const GAP_MAX: Span = Span(30 * 24 * 3_600_000);

/// The evidence of one rollout since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Counts of each version's cases.
    pub arms: BTreeMap<(Stratum, Version, Part), Tally>,
    /// The scores of each version's answers.
    pub scores: BTreeMap<(Stratum, Version, Part, MetricName), Scores>,
    /// Comparisons that need more than each side's sums.
    pub contrasts: BTreeMap<ContrastKey, Contrast>,
    /// The units of the SRM check.
    pub units: BTreeMap<Stratum, Units>,
    /// Values by bucket of units, over all strata, for the design effect. Latency is on the log scale.
    pub clusters: BTreeMap<(Version, MetricName), Clusters>,
    /// Cases whose unit is their request id: requests without a unit, and all cases if the spec uses the id as the unit.
    pub without_unit: u64,
    /// The centers of this lane's split bets. They differ by lane and are not added up.
    pub centres: BTreeMap<(Stratum, MetricName), Centres>,
    /// The effect of labels that changed after maturity; no decision uses it.
    pub amended: Amended,
}

/// Counts of one version's cases in one stratum.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// Cases assigned or copied to it.
    pub exposures: u64,
    /// Answers in time.
    pub answered: u64,
    /// Errors returned by the worker.
    pub errors: u64,
    /// Requests without an answer.
    pub timeouts: u64,
    /// Answers after the deadline.
    pub late: u64,
    /// Cases in which another version answered in its place.
    pub fallbacks: u64,
    /// Cases that have a label now, late ones included.
    pub labelled: u64,
    /// Mature cases.
    pub mature: u64,
    /// Mature cases without a label.
    pub missing: u64,
    /// Mature cases that had a label by a quarter of the maturity, and by half of it.
    pub labelled_by: [u64; 2],
    /// The first case's event time.
    pub first_at: Timestamp,
    /// The newest case's event time.
    pub last_at: Timestamp,
    /// Latencies of the answers in milliseconds.
    pub latency: Sketch,
}

/// The scores of one version's answers in one metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Sums of the values, clipped to the metric's range.
    pub moments: Moments,
    /// The number of clipped values.
    pub clipped: u64,
    /// Labeled cases whose answer could not be scored.
    pub lost: Lost,
    /// The two-by-two table of precision, recall and f1.
    pub table: Table,
    /// Scores by class, for rankings.
    pub ranks: Option<Ranking>,
    /// Cases that could not be scored.
    pub unscored: Unscored,
}

/// A two-by-two table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// True positives.
    pub hits: u64,
    /// False positives.
    pub alarms: u64,
    /// False negatives.
    pub misses: u64,
    /// True negatives.
    pub rest: u64,
}

/// The comparison of a candidate with the stable version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contrast {
    /// Discordant pairs of a binary metric.
    pub pairs: PairedCounts,
    /// Sums of candidate minus stable on the same case.
    pub difference: Moments,
    /// Pairs of a binary metric with an answer that cannot be scored, as they count for harm and in the candidate's favor.
    pub lost_pairs: Sides<PairedCounts>,
    /// The differences of the same pairs, of any metric.
    pub lost_difference: Sides<Moments>,
    /// Split cases of a binary metric, by the center of their bets.
    pub split: BTreeMap<Centre, Sides<ipw_bet::Counts>>,
    /// The capital of the bets on a bounded metric: harm, non-inferior, superior.
    pub capital: Option<Box<[Capital; 3]>>,
}

/// The effect of labels that arrived or changed after maturity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amended {
    /// How many times a label arrived, changed or was retracted after maturity.
    pub labels: u64,
    /// The values by the newer labels.
    pub given: Values,
    /// The values by the labels that they replace.
    pub taken: Values,
}

/// The part of the evidence that depends on labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// The scores of each version's answers.
    pub scores: BTreeMap<(Stratum, Version, Part, MetricName), Scores>,
    /// Comparisons that need more than each side's sums.
    pub contrasts: BTreeMap<ContrastKey, Contrast>,
}

impl Table {
    /// Counts a case.
    pub fn count(&mut self, is_called: bool, is_positive: bool) {
        let cell = match (is_called, is_positive) {
            (true, true) => &mut self.hits,
            (true, false) => &mut self.alarms,
            (false, true) => &mut self.misses,
            (false, false) => &mut self.rest,
        };
        *cell += 1;
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            exposures: 0,
            answered: 0,
            errors: 0,
            timeouts: 0,
            late: 0,
            fallbacks: 0,
            labelled: 0,
            mature: 0,
            missing: 0,
            labelled_by: [0; 2],
            first_at: Timestamp::MAX,
            last_at: Timestamp::MIN,
            latency: Sketch::default(),
        }
    }
}

impl Evidence {
    /// Adds the evidence of another lane.
    pub fn merge(&mut self, other: &Self) {
        for (key, tally) in &other.arms {
            self.arms.entry(key.clone()).or_default().merge(tally);
        }
        for (key, scores) in &other.scores {
            self.scores.entry(key.clone()).or_default().merge(scores);
        }
        for (key, contrast) in &other.contrasts {
            self.contrasts.entry(key.clone()).or_default().merge(contrast);
        }
        for (stratum, units) in &other.units {
            self.units.entry(*stratum).or_default().merge(units);
        }
        for (key, clusters) in &other.clusters {
            self.clusters.entry(key.clone()).or_default().merge(clusters);
        }
        self.without_unit += other.without_unit;
        self.amended.merge(&other.amended);
    }

    /// Returns the strata that have cases, in order.
    pub fn strata(&self) -> BTreeSet<Stratum> {
        self.arms.keys().map(|(stratum, _, _)| *stratum).collect()
    }

    /// Returns the counts of a version in one stratum.
    pub fn tally(&self, stratum: Stratum, version: &Version, part: Part) -> Option<&Tally> {
        self.arms.get(&(stratum, version.clone(), part))
    }

    /// Returns the sum of a version's counts over the strata that `wanted` selects.
    pub fn sum(&self, version: &Version, wanted: impl Fn(Stratum) -> bool) -> Tally {
        let mut sum = Tally::default();
        for ((stratum, it, _), tally) in &self.arms {
            if it == version && wanted(*stratum) {
                sum.merge(tally);
            }
        }
        sum
    }

    /// Returns the scores of a version's answers in one stratum.
    pub fn scored(
        &self,
        stratum: Stratum,
        version: &Version,
        part: Part,
        metric: &MetricName,
    ) -> Option<&Scores> {
        self.scores.get(&(stratum, version.clone(), part, metric.clone()))
    }

    /// Returns the design effect of a comparison: how much correlated cases of one unit inflate its variance.
    pub fn inflation(&self, candidate: &Version, metric: &MetricName) -> f64 {
        let key = (candidate.clone(), metric.clone());
        self.clusters.get(&key).map_or(1.0, Clusters::inflation)
    }

    /// Returns the event time of the first case.
    pub fn first_at(&self) -> Option<Timestamp> {
        self.arms.values().filter(|a| a.exposures > 0).map(|e| e.first_at).min()
    }

    /// Counts earlier cases as cases of this time when durations are measured.
    pub fn begin_at(&mut self, at: Timestamp) {
        for tally in self.arms.values_mut().filter(|a| a.exposures > 0) {
            tally.first_at = tally.first_at.max(at);
            tally.last_at = tally.last_at.max(at);
        }
    }

    /// Returns the event times of a stage's first and newest case.
    pub fn span_of(&self, stage: StageIndex) -> Option<(Timestamp, Timestamp)> {
        let tallies =
            || self.arms.iter().filter(|((a, _, _), _)| a.stage == stage).map(|(_, tally)| tally);
        let first = tallies().map(|t| t.first_at).min()?;
        let last = tallies().map(|t| t.last_at).max()?;
        Some((first, last))
    }
}

impl Tally {
    /// Returns how many mature cases had a label by a quarter of the maturity, by half of it, and at it.
    pub fn labelled_by_age(&self) -> [u64; 3] {
        let [quarter, half] = self.labelled_by;
        [quarter, half, self.mature - self.missing]
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        self.exposures += other.exposures;
        self.answered += other.answered;
        self.errors += other.errors;
        self.timeouts += other.timeouts;
        self.late += other.late;
        self.fallbacks += other.fallbacks;
        self.labelled += other.labelled;
        self.mature += other.mature;
        self.missing += other.missing;
        for (ours, theirs) in self.labelled_by.iter_mut().zip(other.labelled_by) {
            *ours += theirs;
        }
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
        self.latency.merge(&other.latency);
    }
}

impl Amended {
    /// Adds the values of another lane.
    pub fn merge(&mut self, other: &Self) {
        self.labels += other.labels;
        self.given.merge(&other.given);
        self.taken.merge(&other.taken);
    }
}

impl Values {
    /// Adds the values of another lane.
    pub fn merge(&mut self, other: &Self) {
        for (key, scores) in &other.scores {
            self.scores.entry(key.clone()).or_default().merge(scores);
        }
        for (key, contrast) in &other.contrasts {
            self.contrasts.entry(key.clone()).or_default().merge(contrast);
        }
    }
}

impl Scores {
    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        self.clipped += other.clipped;
        self.lost.merge(other.lost);
        self.table.hits += other.table.hits;
        self.table.alarms += other.table.alarms;
        self.table.misses += other.table.misses;
        self.table.rest += other.table.rest;
        if let Some(theirs) = &other.ranks {
            self.ranks.get_or_insert_default().merge(theirs);
        }
        self.unscored.merge(&other.unscored);
    }
}

impl Contrast {
    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        self.pairs.merge(&other.pairs);
        self.difference.merge(&other.difference);
        self.lost_pairs.merge(&other.lost_pairs);
        self.lost_difference.merge(&other.lost_difference);
        for (centre, counts) in &other.split {
            self.split.entry(*centre).or_default().merge(counts);
        }
        if let Some(theirs) = &other.capital {
            let ours = self.capital.get_or_insert_default();
            for (ours, theirs) in ours.iter_mut().zip(theirs.iter()) {
                ours.merge(theirs);
            }
        }
    }
}
