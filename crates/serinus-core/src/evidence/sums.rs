//! What is learned, as sums: they merge by addition, in any order, to the same to the last bit.

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

/// What came before so long a time without any case does not tell when something began: a wrong date must not end a rollout.
pub const GAP_MAX: Span = Span(30 * 24 * 3_600_000);

/// The evidence of one rollout, over its whole life so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// What happened to each version's cases.
    pub arms: BTreeMap<(Stratum, Version, Part), Tally>,
    /// What each version's answers scored.
    pub scores: BTreeMap<(Stratum, Version, Part, MetricName), Scores>,
    /// Comparisons that need more than each side's sums.
    pub contrasts: BTreeMap<ContrastKey, Contrast>,
    /// The units that the split of traffic is checked on.
    pub units: BTreeMap<Stratum, Units>,
    /// Values by buckets of units, over all strata: how far cases of one unit resemble each other. Of latency the logarithm.
    pub clusters: BTreeMap<(Version, MetricName), Clusters>,
    /// Cases whose request id stands for their unit: requests without one, and all where the spec takes the id.
    pub without_unit: u64,
    /// What this lane's split bets are centred on. A lane's own: it is not added up.
    pub centres: BTreeMap<(Stratum, MetricName), Centres>,
    /// What labels that changed after maturity would change; no decision rests on it.
    pub amended: Amended,
}

/// What happened to one version's cases in one stratum.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// Cases that it was chosen for, or copied to.
    pub exposures: u64,
    /// Answers in time.
    pub answered: u64,
    /// Errors said by the worker.
    pub errors: u64,
    /// Answers that never came.
    pub timeouts: u64,
    /// Answers that came after the deadline.
    pub late: u64,
    /// Cases that another version answered for it.
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
    /// How long answers took, in milliseconds.
    pub latency: Sketch,
}

/// What one version's answers scored in one metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Sums of the values, clipped to the metric's range.
    pub moments: Moments,
    /// How many had to be clipped.
    pub clipped: u64,
    /// Answers that could not be scored although the truth is known.
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
    /// Called positive, and are.
    pub hits: u64,
    /// Called positive, and are not.
    pub alarms: u64,
    /// Not called positive, but are.
    pub misses: u64,
    /// Not called positive, and are not.
    pub rest: u64,
}

/// What is kept of a candidate against the stable version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contrast {
    /// How often the two differed on the same case, for a binary metric.
    pub pairs: PairedCounts,
    /// Sums of candidate minus stable on the same case.
    pub difference: Moments,
    /// Such pairs of a binary metric as have an answer that cannot be scored, as each side counts them.
    pub lost_pairs: Sides<PairedCounts>,
    /// The differences of the same pairs, of any metric.
    pub lost_difference: Sides<Moments>,
    /// Cases that were split between the two, for a binary metric, by the centre of their bets.
    pub split: BTreeMap<Centre, Sides<ipw_bet::Counts>>,
    /// The capital of the bets on a bounded metric: harm, non-inferior, superior.
    pub capital: Option<Box<[Capital; 3]>>,
}

/// What labels that came or changed after maturity would change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amended {
    /// How many times a label came, changed or was taken back after maturity.
    pub labels: u64,
    /// What the newer labels show.
    pub given: Values,
    /// What the labels before them had shown.
    pub taken: Values,
}

/// The part of the evidence that rests on labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// What each version's answers scored.
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
    /// Adds what another lane learned.
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

    /// Returns a version's part in one stratum.
    pub fn tally(&self, stratum: Stratum, version: &Version, part: Part) -> Option<&Tally> {
        self.arms.get(&(stratum, version.clone(), part))
    }

    /// Returns the sum of a version's parts in all strata that are wanted.
    pub fn sum(&self, version: &Version, wanted: impl Fn(Stratum) -> bool) -> Tally {
        let mut sum = Tally::default();
        for ((stratum, it, _), tally) in &self.arms {
            if it == version && wanted(*stratum) {
                sum.merge(tally);
            }
        }
        sum
    }

    /// Returns what a version's answers scored in one stratum.
    pub fn scored(
        &self,
        stratum: Stratum,
        version: &Version,
        part: Part,
        metric: &MetricName,
    ) -> Option<&Scores> {
        self.scores.get(&(stratum, version.clone(), part, metric.clone()))
    }

    /// Returns by how much the cases of one unit inflate the variance of a comparison.
    pub fn inflation(&self, candidate: &Version, metric: &MetricName) -> f64 {
        let key = (candidate.clone(), metric.clone());
        self.clusters.get(&key).map_or(1.0, Clusters::inflation)
    }

    /// Returns the event time of the first case.
    pub fn first_at(&self) -> Option<Timestamp> {
        self.arms.values().filter(|a| a.exposures > 0).map(|e| e.first_at).min()
    }

    /// Counts what came before this time as of this time, where it is asked how long something goes on.
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
    /// Adds another lane's.
    pub fn merge(&mut self, other: &Self) {
        self.labels += other.labels;
        self.given.merge(&other.given);
        self.taken.merge(&other.taken);
    }
}

impl Values {
    /// Adds another lane's.
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
