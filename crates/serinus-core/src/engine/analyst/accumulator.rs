//! Adds cases to the evidence: the responses at arrival, the label at maturity.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
use crate::domain::ids::{MetricName, Version};
use crate::domain::routing::Role;
use crate::domain::time::Timestamp;
use crate::engine::analyst::case_value::{Pass, Spot, Worth, hash, part};
use crate::engine::analyst::score::{self, Read, Reads, Scored, Truth};
use crate::evidence::design::{ContrastKey, Design, Part, Stratum};
use crate::evidence::sums::{Amended, Evidence, Scores, Values};
use crate::plan::metric::{Metric, Shape};
use crate::plan::metric_kind::Group;
use crate::plan::rollout::RolloutPlan;
use serinus_stats::bounded_bet::Bets;
use serinus_stats::cluster::Clusters;

/// The score of each version's answer, in the plan's order of metrics.
pub type CaseScores = Vec<(Version, Vec<(MetricName, f64)>)>;

/// One rollout's sums in one lane, with their bets.
#[derive(Debug)]
pub struct EvidenceAccumulator {
    pub(crate) plan: Arc<RolloutPlan>,
    pub(crate) design: Design,
    pub(crate) stable: Version,
    /// By comparison, and by the bits of the assumed center and variance.
    pub(crate) bets: BTreeMap<(ContrastKey, [u64; 2]), Option<[Bets; 3]>>,
    pub(crate) stakes: BTreeMap<ContrastKey, f64>,
    pub(crate) sums: Evidence,
    pub(crate) partitions: i32,
    pub(crate) clipped: u64,
    unscored: u64,
}

/// The part of the units that a lane remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The lane's partition.
    pub partition: i32,
    /// The number of partitions.
    pub partitions: i32,
    /// Durations count older cases as of this time: one wrong clock must not end a rollout.
    pub oldest: Timestamp,
}

impl EvidenceAccumulator {
    /// Returns an empty accumulator.
    pub fn new(plan: Arc<RolloutPlan>, design: Design, stable: Version) -> Self {
        Self {
            plan,
            design,
            stable,
            bets: BTreeMap::new(),
            stakes: BTreeMap::new(),
            sums: Evidence::default(),
            partitions: 1,
            clipped: 0,
            unscored: 0,
        }
    }

    /// Sets the number of lanes that share the traffic.
    #[must_use = "it is another book then"]
    pub fn of_lanes(self, partitions: i32) -> Self {
        Self { partitions, ..self }
    }

    /// Sets a newer design, which is unchanged for stages that have begun.
    pub fn redesign(&mut self, design: Design) {
        self.bets = BTreeMap::new();
        self.stakes = BTreeMap::new();
        self.design = design;
    }

    /// Returns the plan.
    pub fn plan(&self) -> &Arc<RolloutPlan> {
        &self.plan
    }

    /// Returns the sums.
    pub fn sums(&self) -> &Evidence {
        &self.sums
    }

    /// Returns the sums for changes that are not made by cases.
    pub fn sums_mut(&mut self) -> &mut Evidence {
        &mut self.sums
    }

    /// Replaces the sums with those published before a restart.
    pub fn restore(&mut self, sums: Evidence) {
        self.sums = sums;
    }

    /// Returns the number of clipped values and of values that could not be computed, since the last call.
    pub fn take_faults(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.clipped), std::mem::take(&mut self.unscored))
    }

    /// Adds a case's responses.
    pub fn respond(&mut self, case: &Prediction, watch: Watch) {
        let stratum = self.design.stratum(case.stage, case.revision);
        let bucket = bucket(case);
        let at = case.event_time().max(watch.oldest);
        for answer in &case.answers {
            let Some(part) = part(case, &answer.version, answer.role) else { continue };
            let key = (stratum, answer.version.clone(), part);
            let tally = self.sums.arms.entry(key).or_default();
            tally.exposures += 1;
            tally.first_at = tally.first_at.min(at);
            tally.last_at = tally.last_at.max(at);
            match answer.status {
                AnswerStatus::Ok => tally.answered += 1,
                AnswerStatus::Error => tally.errors += 1,
                AnswerStatus::Late => tally.late += 1,
                AnswerStatus::Timeout => tally.timeouts += 1,
            }
            if let (AnswerStatus::Ok, Some(latency)) = (answer.status, answer.latency) {
                tally.latency.insert(latency.0 as f64);
            }
            if part == Part::Chosen && case.outcome == Outcome::Fallback {
                tally.fallbacks += 1;
            }
        }
        self.sums.without_unit += u64::from(unit_is_id(case));
        self.watch(stratum, case, watch);
        let plan = Arc::clone(&self.plan);
        let reads = Reads::of(case);
        for metric in plan.metrics.iter().filter(|m| m.counts(&case.segments)) {
            let order = (watch.oldest, case.case);
            let spot = Spot { stratum, bucket, order, pass: Pass::First };
            self.measure_response(spot, metric, &reads);
        }
    }

    /// Adds what one metric makes of a case's responses; nothing where it waits for the label.
    fn measure_response(&mut self, spot: Spot, metric: &Metric, reads: &Reads<'_>) {
        let case = reads.case;
        let Spot { stratum, bucket, .. } = spot;
        match metric.kind.group() {
            Group::Response(kind) => {
                let values = case
                    .answers
                    .iter()
                    .filter_map(|a| {
                        let part = part(case, &a.version, a.role)?;
                        let value = f64::from(score::response(kind, a.status));
                        Some((a.version.clone(), part, Worth::Value(value)))
                    })
                    .collect::<Vec<_>>();
                self.add(spot, metric, &values);
            }
            Group::Agreement => self.compare(stratum, metric, bucket, reads),
            Group::Labelled(_) if !metric.needs_label() => {
                let values = self.score(stratum, metric, reads, |read| {
                    score::labelled(metric, read, Truth::Unknown)
                });
                self.note_outside(stratum, metric, case, &values);
                self.add(spot, metric, &values);
            }
            Group::Latency => {
                let values = case
                    .answers
                    .iter()
                    .filter(|a| a.status == AnswerStatus::Ok)
                    .filter_map(|a| {
                        let part = part(case, &a.version, a.role)?;
                        Some((a.version.clone(), part, a.latency?.0 as f64))
                    })
                    .collect::<Vec<_>>();
                self.add_latency(stratum, metric, bucket, &values);
            }
            Group::Labelled(_) | Group::Table(_) | Group::Ranking => {}
        }
    }

    /// Adds a case with its label at maturity; returns the score of each answer.
    ///
    /// `known_by` is whether there was a label at a quarter and at half of the maturity.
    pub fn mature(
        &mut self,
        case: &Prediction,
        truth: Truth<'_>,
        known_by: [bool; 2],
    ) -> CaseScores {
        let stratum = self.design.stratum(case.stage, case.revision);
        let is_labelled = matches!(truth, Truth::Known(_));
        let units = self.sums.units.entry(stratum).or_default();
        let [quarter, half] = known_by;
        units.mature(unit(case), &case.arm, [quarter, half, is_labelled]);
        if is_labelled && is_answered(case) {
            units.label(unit(case), &case.arm);
        }
        for answer in &case.answers {
            let Some(part) = part(case, &answer.version, answer.role) else { continue };
            let tally = self.sums.arms.entry((stratum, answer.version.clone(), part)).or_default();
            tally.mature += 1;
            tally.labelled += u64::from(is_labelled);
            tally.missing += u64::from(!is_labelled);
            for (count, is_known) in tally.labelled_by.iter_mut().zip(known_by) {
                *count += u64::from(is_known);
            }
        }
        let reads = Reads::of(case);
        self.value(stratum, &reads, truth, Pass::First);
        self.scores_of_answers(&reads, truth)
    }

    /// Records the effect of a label that arrived or changed after maturity, separately from the sums. Returns the score of each answer.
    pub fn amend(&mut self, case: &Prediction, before: Truth<'_>, after: Truth<'_>) -> CaseScores {
        let stratum = self.design.stratum(case.stage, case.revision);
        let faults = (self.clipped, self.unscored);
        // A few late labels do not change the correlation within units.
        let clusters = std::mem::take(&mut self.sums.clusters);
        let Amended { labels, mut given, mut taken } = std::mem::take(&mut self.sums.amended);
        let reads = Reads::of(case);
        self.swap(&mut taken);
        self.value(stratum, &reads, before, Pass::Amended);
        self.swap(&mut taken);
        self.swap(&mut given);
        self.value(stratum, &reads, after, Pass::Amended);
        self.swap(&mut given);
        self.sums.amended = Amended { labels: labels + 1, given, taken };
        self.sums.clusters = clusters;
        (self.clipped, self.unscored) = faults;
        self.scores_of_answers(&reads, after)
    }

    fn swap(&mut self, values: &mut Values) {
        std::mem::swap(&mut self.sums.scores, &mut values.scores);
        std::mem::swap(&mut self.sums.contrasts, &mut values.contrasts);
    }

    /// Adds what the metrics that need a label make of a case.
    fn value(&mut self, stratum: Stratum, reads: &Reads<'_>, truth: Truth<'_>, pass: Pass) {
        let case = reads.case;
        let bucket = bucket(case);
        let spot = Spot { stratum, bucket, order: (case.event_time(), case.case), pass };
        let plan = Arc::clone(&self.plan);
        let counts = |m: &&Metric| m.needs_label() && m.counts(&case.segments);
        for metric in plan.metrics.iter().filter(counts) {
            match metric.kind.shape() {
                Shape::Binary | Shape::Bounded => {
                    let values = self
                        .score(stratum, metric, reads, |read| score::labelled(metric, read, truth));
                    self.note_outside(stratum, metric, case, &values);
                    self.add(spot, metric, &values);
                }
                Shape::Ranking | Shape::Confusion => {
                    let worths = self
                        .score(stratum, metric, reads, |read| score::ranked(metric, read, truth));
                    let mut places = Vec::new();
                    for (version, part, worth) in worths {
                        match (worth, score::is_positive(metric, truth)) {
                            (Worth::Value(ranked), _) => places.push((version, part, ranked)),
                            (Worth::Lost, Some(is_positive)) => {
                                self.lose(stratum, metric, (&version, part), is_positive);
                            }
                            (Worth::Lost, None) => {}
                        }
                    }
                    self.place(stratum, metric, bucket, &places);
                }
                Shape::Duration => {}
            }
        }
    }

    /// Returns the scores of the versions' answers if the truth is known, and counts those that cannot be scored.
    fn score<T>(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        reads: &Reads<'_>,
        score: impl Fn(&Read<'_>) -> Scored<T>,
    ) -> Vec<(Version, Part, Worth<T>)> {
        let case = reads.case;
        let mut values = Vec::new();
        for read in reads.all() {
            let version = &read.answer.version;
            let Some(part) = part(case, version, read.answer.role) else { continue };
            let scored = score(read);
            if let Some(reason) = scored.reason() {
                let unscored = &mut self.scores_of(stratum, version, part, metric).unscored;
                unscored.cases += 1;
                unscored.add(reason, hash(&case.request_id), &case.request_id);
                self.unscored += 1;
            }
            let worth = match scored {
                Scored::Value(value) => {
                    self.scores_of(stratum, version, part, metric).unscored.cases += 1;
                    Worth::Value(value)
                }
                Scored::NoAnswer | Scored::Unusable(_) => Worth::Lost,
                Scored::BadLabel(_) | Scored::Unlabelled | Scored::NotApplicable => continue,
            };
            values.push((version.clone(), part, worth));
        }
        values
    }

    /// Counts a label that arrived or was retracted after maturity.
    pub fn relabel(&mut self, case: &Prediction, is_labelled: bool) {
        let stratum = self.design.stratum(case.stage, case.revision);
        for answer in &case.answers {
            let Some(part) = part(case, &answer.version, answer.role) else { continue };
            let tally = self.sums.arms.entry((stratum, answer.version.clone(), part)).or_default();
            if is_labelled {
                tally.labelled += 1;
            } else {
                tally.labelled = tally.labelled.saturating_sub(1);
            }
        }
    }

    /// Returns the score of each answer without adding it.
    fn scores_of_answers(&self, reads: &Reads<'_>, truth: Truth<'_>) -> CaseScores {
        let is_counted =
            |read: &&Read<'_>| part(reads.case, &read.answer.version, read.answer.role).is_some();
        let whole = |m: &&Metric| m.segment.is_none();
        reads
            .all()
            .iter()
            .filter(is_counted)
            .map(|read| {
                let of =
                    |m: &Metric| Some((m.name.clone(), score::labelled(m, read, truth).value()?));
                let scores = self.plan.metrics.iter().filter(whole).filter_map(of).collect();
                (read.answer.version.clone(), scores)
            })
            .filter(|(_, scores): &(Version, Vec<_>)| !scores.is_empty())
            .collect()
    }

    /// Counts a case for the SRM check, and remembers its unit if it belongs to this lane.
    fn watch(&mut self, stratum: Stratum, case: &Prediction, watch: Watch) {
        let unit = unit(case);
        let partitions = u64::try_from(watch.partitions).unwrap_or(1).max(1);
        let is_ours =
            unit.is_none_or(|u| i128::from(u % partitions) == i128::from(watch.partition));
        let units = self.sums.units.entry(stratum).or_default();
        if is_ours {
            units.assign(unit, &case.arm, is_answered(case));
        } else {
            units.count(unit, &case.arm, is_answered(case));
        }
    }

    /// Returns the scores of a version's answers so far.
    pub(crate) fn scores_of(
        &mut self,
        stratum: Stratum,
        version: &Version,
        part: Part,
        metric: &Metric,
    ) -> &mut Scores {
        self.sums.scores.entry((stratum, version.clone(), part, metric.name.clone())).or_default()
    }
}

/// Returns the bucket of a case's unit; a case without a unit is its own unit.
fn bucket(case: &Prediction) -> usize {
    let unit = case.unit.as_deref().unwrap_or(case.request_id.as_str().as_bytes());
    Clusters::bucket(xxh3_64(unit))
}

/// Returns whether the request id is the unit: for a request without a unit, and for all requests if the spec sets `unit` to the id.
fn unit_is_id(case: &Prediction) -> bool {
    case.unit.as_deref().is_none_or(|unit| unit == case.request_id.as_str().as_bytes())
}

/// Returns the key of the case's unit; `None` if every case is its own unit.
fn unit(case: &Prediction) -> Option<u64> {
    case.unit.as_deref().map(xxh3_64)
}

/// Returns whether the assigned version answered in time.
fn is_answered(case: &Prediction) -> bool {
    let is_its = |c: &&CaseAnswer| c.role == Role::Serve && c.version == case.arm;
    case.answers.iter().find(is_its).is_some_and(|i| i.status == AnswerStatus::Ok)
}
