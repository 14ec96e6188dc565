//! How one case adds to the evidence: at its arrival what the responses show, at maturity what the label shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
use crate::domain::ids::{MetricName, RequestId, Version};
use crate::domain::routing::Role;
use crate::domain::time::Timestamp;
use crate::engine::score::{self, Read, Scored, Truth};
use crate::stats::bounded_bet::Bets;
use crate::stats::cluster::{Arm, Case, Clusters};
use crate::stats::ipw_bet;
use crate::stats::paired_bet::PairedDesign;
use crate::stats::prior::{GRID, MIDDLE};
use crate::strategy::amended::{Amended, Values};
use crate::strategy::design::{ContrastKey, Design, Pairing, Part, Stratum};
use crate::strategy::evidence::{Evidence, Scores};
use crate::strategy::metric::{Metric, MetricKind, Shape};
use crate::strategy::planning;
use crate::strategy::stage::RolloutPlan;

/// What each version's answer scored, in the plan's order of metrics.
pub type CaseScores = Vec<(Version, Vec<(MetricName, f64)>)>;

/// One rollout's sums in one lane, with the bets that they are made of.
#[derive(Debug)]
pub struct Book {
    pub(super) plan: Arc<RolloutPlan>,
    pub(super) design: Design,
    pub(super) stable: Version,
    bets: BTreeMap<ContrastKey, Option<[Bets; 3]>>,
    stakes: BTreeMap<ContrastKey, f64>,
    pub(super) sums: Evidence,
    clipped: u64,
    unscored: u64,
}

/// Which of the units a lane remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The lane's partition.
    pub partition: i32,
    /// Of how many.
    pub partitions: i32,
    /// A case that is older counts as of this time where it is asked how long something goes on: one wrong clock must not end a rollout.
    pub oldest: Timestamp,
}

impl Book {
    /// Opens a book with nothing in it.
    pub fn new(plan: Arc<RolloutPlan>, design: Design, stable: Version) -> Self {
        Self {
            plan,
            design,
            stable,
            bets: BTreeMap::new(),
            stakes: BTreeMap::new(),
            sums: Evidence::default(),
            clipped: 0,
            unscored: 0,
        }
    }

    /// Takes in a newer design; what it says of stages that have begun is the same as before.
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

    /// Returns the sums, for who adds to them what cannot be told by cases.
    pub fn sums_mut(&mut self) -> &mut Evidence {
        &mut self.sums
    }

    /// Puts the sums that were published before a restart in place of these.
    pub fn restore(&mut self, sums: Evidence) {
        self.sums = sums;
    }

    /// Returns how many values were clipped, and how many could not be computed, since this was last asked.
    pub fn take_faults(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.clipped), std::mem::take(&mut self.unscored))
    }

    /// Adds what a case's responses show.
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
        self.sums.without_unit += u64::from(case.unit.is_none());
        self.watch(stratum, case, watch);
        let plan = Arc::clone(&self.plan);
        for metric in plan.metrics.iter().filter(|it| it.counts(&case.segments)) {
            self.measure_response(stratum, metric, bucket, case);
        }
    }

    /// Adds what one metric makes of a case's responses; nothing where it waits for the label.
    fn measure_response(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        bucket: usize,
        case: &Prediction,
    ) {
        match metric.kind {
            MetricKind::ResponseError | MetricKind::Timeout => {
                let values = case
                    .answers
                    .iter()
                    .filter_map(|it| {
                        let part = part(case, &it.version, it.role)?;
                        let bad = score::response(metric.kind, it.status)?;
                        Some((it.version.clone(), part, f64::from(bad)))
                    })
                    .collect::<Vec<_>>();
                self.add(stratum, metric, bucket, &values);
            }
            MetricKind::Disagreement => self.compare(stratum, metric, bucket, case),
            MetricKind::Value if metric.label.is_none() => {
                let reads: Vec<Read<'_>> = case.answers.iter().map(Read::of).collect();
                let values = self.score(stratum, metric, case, &reads, |read| {
                    score::labelled(metric, read, Truth::Unknown)
                });
                self.note_outside(stratum, metric, case, &values);
                self.add(stratum, metric, bucket, &values);
            }
            MetricKind::Latency => {
                let values = case
                    .answers
                    .iter()
                    .filter(|it| it.status == AnswerStatus::Ok)
                    .filter_map(|it| {
                        let part = part(case, &it.version, it.role)?;
                        Some((it.version.clone(), part, it.latency?.0 as f64))
                    })
                    .collect::<Vec<_>>();
                self.last(stratum, metric, bucket, &values);
            }
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
            | MetricKind::Auc => {}
        }
    }

    /// Adds what a case's label shows at maturity; returns what each answer scored.
    ///
    /// `known_by` says whether there was a label at a quarter and at half of the maturity.
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
        self.value(stratum, case, truth);
        self.scores(case, truth)
    }

    /// Keeps beside the sums what a label that came or changed after maturity would change in them.
    pub fn amend(&mut self, case: &Prediction, before: Truth<'_>, after: Truth<'_>) {
        let stratum = self.design.stratum(case.stage, case.revision);
        let faults = (self.clipped, self.unscored);
        // A few late labels do not change how alike the cases of a unit are.
        let clusters = std::mem::take(&mut self.sums.clusters);
        let Amended { labels, mut given, mut taken } = std::mem::take(&mut self.sums.amended);
        self.swap(&mut taken);
        self.value(stratum, case, before);
        self.swap(&mut taken);
        self.swap(&mut given);
        self.value(stratum, case, after);
        self.swap(&mut given);
        self.sums.amended = Amended { labels: labels + 1, given, taken };
        self.sums.clusters = clusters;
        (self.clipped, self.unscored) = faults;
    }

    fn swap(&mut self, values: &mut Values) {
        std::mem::swap(&mut self.sums.scores, &mut values.scores);
        std::mem::swap(&mut self.sums.contrasts, &mut values.contrasts);
    }

    /// Adds what the metrics that need a label make of a case.
    fn value(&mut self, stratum: Stratum, case: &Prediction, truth: Truth<'_>) {
        let bucket = bucket(case);
        let reads: Vec<Read<'_>> = case.answers.iter().map(Read::of).collect();
        let plan = Arc::clone(&self.plan);
        let counts = |it: &&Metric| it.needs_label() && it.counts(&case.segments);
        for metric in plan.metrics.iter().filter(counts) {
            match metric.kind.shape() {
                Shape::Binary | Shape::Bounded => {
                    let values = self.score(stratum, metric, case, &reads, |read| {
                        score::labelled(metric, read, truth)
                    });
                    self.note_outside(stratum, metric, case, &values);
                    self.add(stratum, metric, bucket, &values);
                }
                Shape::Ranking | Shape::Confusion => {
                    let places = self.score(stratum, metric, case, &reads, |read| {
                        score::ranked(metric, read, truth)
                    });
                    self.place(stratum, metric, bucket, &places);
                }
                Shape::Duration => {}
            }
        }
    }

    /// Returns what the versions' answers to a case are worth, and counts those that cannot be scored.
    fn score<T>(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        case: &Prediction,
        reads: &[Read<'_>],
        score: impl Fn(&Read<'_>) -> Scored<T>,
    ) -> Vec<(Version, Part, T)> {
        let mut values = Vec::new();
        for read in reads {
            let version = &read.answer.version;
            let Some(part) = part(case, version, read.answer.role) else { continue };
            let scored = score(read);
            if let Some(reason) = scored.reason() {
                let unscored = &mut self.scores_of(stratum, version, part, metric).unscored;
                unscored.cases += 1;
                unscored.add(reason, hash(&case.request_id), &case.request_id);
                self.unscored += 1;
            } else if let Some(value) = scored.value() {
                self.scores_of(stratum, version, part, metric).unscored.cases += 1;
                values.push((version.clone(), part, value));
            }
        }
        values
    }

    /// Counts a label that came after maturity, or was taken back.
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

    /// Returns what each answer scores, and adds nothing.
    pub fn scores(&self, case: &Prediction, truth: Truth<'_>) -> CaseScores {
        case.answers
            .iter()
            .filter(|it| part(case, &it.version, it.role).is_some())
            .map(|answer| {
                let read = Read::of(answer);
                let scores = self
                    .plan
                    .metrics
                    .iter()
                    .filter(|it| it.segment.is_none())
                    .filter_map(|it| {
                        Some((it.name.clone(), score::labelled(it, &read, truth).value()?))
                    })
                    .collect();
                (answer.version.clone(), scores)
            })
            .filter(|(_, scores): &(Version, Vec<_>)| !scores.is_empty())
            .collect()
    }

    /// Counts a case for the check of the split, and remembers its unit if that is for this lane to do.
    fn watch(&mut self, stratum: Stratum, case: &Prediction, watch: Watch) {
        let unit = unit(case);
        let partitions = u64::try_from(watch.partitions).unwrap_or(1).max(1);
        let is_ours =
            unit.is_none_or(|it| i128::from(it % partitions) == i128::from(watch.partition));
        let units = self.sums.units.entry(stratum).or_default();
        if is_ours {
            units.assign(unit, &case.arm, is_answered(case));
        } else {
            units.count(unit, &case.arm, is_answered(case));
        }
    }

    /// Adds each version's value in a binary or bounded metric, and the comparisons that follow.
    pub fn add(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        bucket: usize,
        values: &[(Version, Part, f64)],
    ) {
        let (low, high) = match metric.kind.shape() {
            Shape::Bounded => metric.range,
            Shape::Binary | Shape::Ranking | Shape::Duration | Shape::Confusion => (0.0, 1.0),
        };
        let values: Vec<(&Version, Part, f64)> = values
            .iter()
            .map(|(version, part, value)| {
                let clipped = value.clamp(low, high);
                let scores = self.scores_of(stratum, version, *part, metric);
                scores.moments.add(clipped);
                let is_clipped = u64::from((clipped - value).abs() > 0.0);
                scores.clipped += is_clipped;
                self.clipped += is_clipped;
                (version, *part, clipped)
            })
            .collect();
        for candidate in &Arc::clone(&self.plan).candidates {
            let pairing = self.design.pairing(&self.plan, stratum, candidate, &self.stable);
            let of = |version: &Version| values.iter().find(|(it, _, _)| *it == version);
            match pairing {
                Pairing::Apart => {}
                Pairing::Paired => {
                    if let (Some((_, _, ours)), Some((_, _, theirs))) =
                        (of(candidate), of(&self.stable))
                    {
                        let difference = ours - theirs;
                        self.pair(stratum, metric, candidate, difference);
                        let width = high - low;
                        let value = difference / width;
                        let case = Case { arm: Arm::Pair, weight: width, value, centre: value };
                        self.stake_case(stratum, metric, candidate, bucket, case);
                    }
                }
                Pairing::Split { rho } => {
                    let chosen = values.iter().find(|(_, part, _)| *part == Part::Chosen);
                    if let Some((version, _, value)) = chosen
                        && let Some(weight) = weight(version, candidate, &self.stable, rho)
                    {
                        self.bet(stratum, metric, candidate, |it| {
                            it.increments(*version == candidate, *value)
                        });
                        let planned = planning::assumption(&self.design, metric, stratum.stage);
                        let scaled = |number: f64| (number - low) / (high - low);
                        let case = Case {
                            arm: arm(version, candidate),
                            weight: weight * (high - low),
                            value: scaled(*value),
                            centre: scaled(planned.centre),
                        };
                        self.stake_case(stratum, metric, candidate, bucket, case);
                    }
                }
            }
        }
    }

    /// Adds the difference of two answers to one case.
    fn pair(&mut self, stratum: Stratum, metric: &Metric, candidate: &Version, difference: f64) {
        let key = key(stratum, metric, candidate);
        let contrast = self.sums.contrasts.entry(key).or_default();
        contrast.difference.add(difference);
        match metric.kind.shape() {
            Shape::Binary => contrast.pairs.record(difference > 0.5, difference < -0.5),
            Shape::Bounded => {
                self.bet(stratum, metric, candidate, |it| it.increments_paired(difference));
            }
            Shape::Ranking | Shape::Duration | Shape::Confusion => {}
        }
    }

    /// Adds a case to the bucket of its unit, weighted by what the middle bet against harm stakes on it.
    fn stake_case(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        candidate: &Version,
        bucket: usize,
        case: Case,
    ) {
        let key = key(stratum, metric, candidate);
        if !self.stakes.contains_key(&key) {
            self.stakes.insert(key.clone(), self.stake(&key, metric));
        }
        let stake = self.stakes.get(&key).copied().unwrap_or(0.0);
        let case = Case { weight: stake * case.weight, ..case };
        self.cluster(metric, candidate, bucket, case);
    }

    /// Adds a case to the bucket of its unit.
    pub(super) fn cluster(
        &mut self,
        metric: &Metric,
        candidate: &Version,
        bucket: usize,
        case: Case,
    ) {
        let key = (candidate.clone(), metric.name.clone());
        self.sums.clusters.entry(key).or_default().add(bucket, case);
    }

    /// Returns the middle bet against harm.
    fn stake(&self, key: &ContrastKey, metric: &Metric) -> f64 {
        let [harm, ..] = planning::nulls(metric);
        let prior = planning::prior(metric);
        let assumption = planning::assumption(&self.design, metric, key.stratum.stage);
        let pairing = self.design.pairing(&self.plan, key.stratum, &key.candidate, &self.stable);
        let lambdas = match (metric.kind.shape(), pairing) {
            (Shape::Ranking | Shape::Confusion, _) => return 1.0,
            (Shape::Binary, Pairing::Split { rho }) => {
                *ipw_bet::Design::new(rho, assumption.centre, harm, &prior).lambdas()
            }
            (Shape::Binary, Pairing::Paired | Pairing::Apart) => {
                *PairedDesign::new(assumption.discordance, harm, &prior).lambdas()
            }
            (_, _) => match planning::bets(metric, assumption, pairing) {
                Some([bets, _, _]) => *bets.lambdas(),
                None => [0.0; GRID],
            },
        };
        lambdas[MIDDLE]
    }

    /// Moves the capitals of a bounded metric.
    fn bet(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        candidate: &Version,
        increments: impl Fn(&Bets) -> [i64; GRID],
    ) {
        if metric.kind.shape() != Shape::Bounded {
            return;
        }
        let key = key(stratum, metric, candidate);
        let bets = self.bets.entry(key.clone()).or_insert_with(|| {
            let assumption = planning::assumption(&self.design, metric, stratum.stage);
            let pairing = self.design.pairing(&self.plan, stratum, candidate, &self.stable);
            planning::bets(metric, assumption, pairing)
        });
        let Some(bets) = bets else { return };
        let contrast = self.sums.contrasts.entry(key).or_default();
        let capitals = contrast.capital.get_or_insert_default();
        for (capital, bets) in capitals.iter_mut().zip(bets.iter()) {
            capital.add(&increments(bets));
        }
    }

    /// Adds how often each candidate's answer differs from the stable version's on the same case.
    fn compare(&mut self, stratum: Stratum, metric: &Metric, bucket: usize, case: &Prediction) {
        let of = |version: &Version| {
            case.answers
                .iter()
                .find(|it| it.version == *version && part(case, &it.version, it.role).is_some())
        };
        let Some(theirs) = of(&self.stable) else { return };
        let stable = Read::of(theirs);
        let by_itself = match &metric.twin {
            None => None,
            Some(twin) => {
                let differs =
                    of(twin).and_then(|it| score::disagree(metric, &Read::of(it), &stable));
                // Without the twin's answer there is nothing to subtract, and the case does not count.
                let Some(differs) = differs else { return };
                if let Some(part) = part(case, &self.stable, theirs.role) {
                    let name = self.stable.clone();
                    let scores = self.scores_of(stratum, &name, part, metric);
                    scores.moments.add(f64::from(differs));
                }
                Some(differs)
            }
        };
        for candidate in &Arc::clone(&self.plan).candidates {
            let Some(ours) = of(candidate) else { continue };
            let Some(differs) = score::disagree(metric, &Read::of(ours), &stable) else { continue };
            let Some(part) = part(case, candidate, ours.role) else { continue };
            let scores = self.scores_of(stratum, candidate, part, metric);
            scores.moments.add(f64::from(differs));
            self.differ(stratum, metric, bucket, candidate, [differs, by_itself.unwrap_or(false)]);
        }
    }

    /// Adds whether a candidate's answer differs from the stable version's on the same case, and whether its twin's does.
    pub fn differ(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        bucket: usize,
        candidate: &Version,
        [differs, by_itself]: [bool; 2],
    ) {
        let key = key(stratum, metric, candidate);
        let contrast = self.sums.contrasts.entry(key).or_default();
        let difference = f64::from(differs) - f64::from(by_itself);
        contrast.difference.add(difference);
        contrast.pairs.record(differs, by_itself);
        let case = Case { arm: Arm::Pair, weight: 1.0, value: difference, centre: difference };
        self.stake_case(stratum, metric, candidate, bucket, case);
    }

    /// Returns what a version's answers scored so far.
    pub(super) fn scores_of(
        &mut self,
        stratum: Stratum,
        version: &Version,
        part: Part,
        metric: &Metric,
    ) -> &mut Scores {
        self.sums.scores.entry((stratum, version.clone(), part, metric.name.clone())).or_default()
    }
}

/// Returns a version's part in a case; the stable version's answer in place of a failed one is nobody's part.
pub(super) fn part(case: &Prediction, version: &Version, role: Role) -> Option<Part> {
    match role {
        Role::Serve if *version == case.arm => Some(Part::Chosen),
        Role::Serve => None,
        Role::Shadow => Some(Part::Copied),
    }
}

/// Returns how much a case of this version counts in candidate minus stable; nothing where it is of neither.
pub(super) fn weight(
    version: &Version,
    candidate: &Version,
    stable: &Version,
    rho: f64,
) -> Option<f64> {
    if version == candidate {
        Some(1.0 / rho)
    } else {
        (version == stable).then_some(-1.0 / (1.0 - rho))
    }
}

/// Returns the arm of a case that was answered by the candidate or by the stable version.
pub(super) fn arm(version: &Version, candidate: &Version) -> Arm {
    if version == candidate { Arm::Candidate } else { Arm::Stable }
}

/// Returns what the cases shown as samples are chosen by.
pub(super) fn hash(id: &RequestId) -> u64 {
    xxh3_64(id.as_str().as_bytes())
}

/// Returns the bucket of a case's unit; a case without one is a unit of its own.
fn bucket(case: &Prediction) -> usize {
    let unit = case.unit.as_deref().unwrap_or(case.request_id.as_str().as_bytes());
    Clusters::bucket(xxh3_64(unit))
}

/// Returns what the case's unit is known by; nothing where every case is a unit of its own.
fn unit(case: &Prediction) -> Option<u64> {
    case.unit.as_deref().map(xxh3_64)
}

/// Returns whether the version that was chosen answered, and in time.
fn is_answered(case: &Prediction) -> bool {
    let is_its = |it: &&CaseAnswer| it.role == Role::Serve && it.version == case.arm;
    case.answers.iter().find(is_its).is_some_and(|it| it.status == AnswerStatus::Ok)
}

fn key(stratum: Stratum, metric: &Metric, candidate: &Version) -> ContrastKey {
    ContrastKey { stratum, candidate: candidate.clone(), metric: metric.name.clone() }
}
