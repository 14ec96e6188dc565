//! What one case's values add to the sums: means for people, and the bets of every comparison.

use std::sync::Arc;

use crate::domain::case::AnswerStatus;
use crate::domain::ids::Version;
use crate::engine::analyst::accumulator::EvidenceAccumulator;
use crate::engine::analyst::case_value::{Pass, Spot, Worth, arm, part, weight};
use crate::engine::analyst::score::{self, Read, Reads};
use crate::evidence::bet_center::Centre;
use crate::evidence::bounds::{self, Sides, Whose};
use crate::evidence::design::{Assumption, ContrastKey, Pairing, Part, Stratum};
use crate::inference::planning;
use crate::plan::metric::{Metric, Shape, Unusable};
use serinus_stats::bounded_bet::Bets;
use serinus_stats::cluster::{Arm, Case};
use serinus_stats::ipw_bet;
use serinus_stats::paired_bet::PairedDesign;
use serinus_stats::prior::{GRID, MIDDLE};

impl EvidenceAccumulator {
    /// Adds each version's value in a binary or bounded metric, and the comparisons that follow.
    pub fn add(&mut self, spot: Spot, metric: &Metric, values: &[(Version, Part, Worth)]) {
        let plan = Arc::clone(&self.plan);
        let pairings: Vec<(&Version, Pairing)> = plan
            .candidates
            .iter()
            .map(|c| (c, self.design.pairing(&plan, spot.stratum, c, &self.stable)))
            .collect();
        let is_split = pairings.iter().any(|(_, p)| matches!(p, Pairing::Split { .. }));
        // Before the case counts, so that its own value has no part in it.
        let assumed = if is_split {
            self.centred(spot, metric)
        } else {
            self.assumption(spot.stratum, metric)
        };
        let values: Vec<(&Version, Part, Worth)> = values
            .iter()
            .map(|(version, part, worth)| {
                (version, *part, self.count(spot.stratum, metric, (version, *part), *worth))
            })
            .collect();
        let chosen = values.iter().find(|(_, part, _)| *part == Part::Chosen);
        for (candidate, pairing) in pairings {
            let of = |version: &Version| values.iter().find(|(v, _, _)| *v == version);
            match pairing {
                Pairing::Apart => {}
                Pairing::Paired => {
                    if let (Some((_, _, ours)), Some((_, _, theirs))) =
                        (of(candidate), of(&self.stable))
                    {
                        self.add_pair(spot, metric, candidate, assumed, [*ours, *theirs]);
                    }
                }
                Pairing::Split { rho } => {
                    if let Some((version, _, worth)) = chosen
                        && (*version == candidate || **version == self.stable)
                    {
                        let split = Split { rho, assumed };
                        self.add_split(spot, metric, candidate, split, (version, *worth));
                    }
                }
            }
        }
        if let (true, Pass::First, Some((_, _, Worth::Value(value)))) =
            (is_split, spot.pass, chosen)
        {
            let key = (spot.stratum, metric.name.clone());
            self.sums.centres.entry(key).or_default().see(spot.order, *value);
        }
    }

    /// Adds a value to its version's own sums; returns it as it counts.
    fn count(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        (version, part): (&Version, Part),
        worth: Worth,
    ) -> Worth {
        let (low, high) = bounds::scale(metric);
        let scores = self.scores_of(stratum, version, part, metric);
        match worth {
            Worth::Value(value) => {
                let clipped = value.clamp(low, high);
                scores.moments.add(clipped);
                let is_clipped = u64::from((clipped - value).abs() > 0.0);
                scores.clipped += is_clipped;
                self.clipped += is_clipped;
                Worth::Value(clipped)
            }
            Worth::Lost => {
                scores.lost.rest += 1;
                Worth::Lost
            }
        }
    }

    /// Returns what the split bets on this case assume.
    fn centred(&mut self, spot: Spot, metric: &Metric) -> Assumption {
        let key = (spot.stratum, metric.name.clone());
        let partitions = self.partitions;
        let frozen = match spot.pass {
            Pass::First => {
                let centres = self.sums.centres.entry(key).or_default();
                centres.freeze_if_due(partitions);
                centres.of(spot.order)
            }
            Pass::Amended => self.sums.centres.get(&key).and_then(|k| k.of(spot.order)),
        };
        let planned = self.assumption(spot.stratum, metric);
        frozen.map_or(planned, |p| Assumption {
            centre: p.centre,
            variance: p.variance.unwrap_or(planned.variance),
            ..planned
        })
    }

    fn assumption(&self, stratum: Stratum, metric: &Metric) -> Assumption {
        planning::assumption(&self.design, metric, stratum.stage)
    }

    /// Adds a case that one of the two answered.
    fn add_split(
        &mut self,
        spot: Spot,
        metric: &Metric,
        candidate: &Version,
        split: Split,
        (version, worth): (&Version, Worth),
    ) {
        let is_treated = version == candidate;
        let whose = if is_treated { Whose::Candidates } else { Whose::Stables };
        if (worth, metric.unusable) == (Worth::Lost, Unusable::Exclude) {
            return;
        }
        let sides = worth.sides(metric, whose);
        match metric.kind.shape() {
            Shape::Binary => {
                let key = key(spot.stratum, metric, candidate);
                let contrast = self.sums.contrasts.entry(key).or_default();
                let counts = contrast.split.entry(Centre::of(split.assumed.centre)).or_default();
                counts.harm.record(is_treated, sides.harm > 0.5);
                counts.favour.record(is_treated, sides.favour > 0.5);
            }
            Shape::Bounded => {
                let increments = |bets: &Bets, value: f64| bets.increments(is_treated, value);
                self.bet(spot.stratum, metric, candidate, split.assumed, sides, increments);
            }
            Shape::Ranking | Shape::Duration | Shape::Confusion => {}
        }
        if let (Worth::Value(value), Some(weight)) =
            (worth, weight(version, candidate, &self.stable, split.rho))
        {
            let (low, high) = bounds::scale(metric);
            let scaled = |number: f64| (number - low) / (high - low);
            let case = Case {
                arm: arm(version, candidate),
                weight: weight * (high - low),
                value: scaled(value),
                centre: scaled(split.assumed.centre),
            };
            self.stake_case(spot.stratum, metric, candidate, spot.bucket, case);
        }
    }

    /// Adds two answers to one case.
    fn add_pair(
        &mut self,
        spot: Spot,
        metric: &Metric,
        candidate: &Version,
        assumed: Assumption,
        [ours, theirs]: [Worth; 2],
    ) {
        let sides = ours
            .sides(metric, Whose::Candidates)
            .with(theirs.sides(metric, Whose::Stables), |ours, theirs| ours - theirs);
        let contrast = self.sums.contrasts.entry(key(spot.stratum, metric, candidate)).or_default();
        if let (Worth::Value(_), Worth::Value(_)) = (ours, theirs) {
            let difference = sides.harm;
            contrast.difference.add(difference);
            if metric.kind.shape() == Shape::Binary {
                contrast.pairs.record(difference > 0.5, difference < -0.5);
            }
            let (low, high) = bounds::scale(metric);
            let (weight, value) = (high - low, difference / (high - low));
            let case = Case { arm: Arm::Pair, weight, value, centre: value };
            self.stake_case(spot.stratum, metric, candidate, spot.bucket, case);
        } else {
            if metric.unusable == Unusable::Exclude {
                return;
            }
            contrast.lost_difference.harm.add(sides.harm);
            contrast.lost_difference.favour.add(sides.favour);
            if metric.kind.shape() == Shape::Binary {
                contrast.lost_pairs.harm.record(sides.harm > 0.5, sides.harm < -0.5);
                contrast.lost_pairs.favour.record(sides.favour > 0.5, sides.favour < -0.5);
            }
        }
        if metric.kind.shape() == Shape::Bounded {
            let increments = |bets: &Bets, value: f64| bets.increments_paired(value);
            self.bet(spot.stratum, metric, candidate, assumed, sides, increments);
        }
    }

    /// Moves the capitals of a bounded metric.
    fn bet(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        candidate: &Version,
        assumed: Assumption,
        sides: Sides<f64>,
        increments: impl Fn(&Bets, f64) -> [i64; GRID],
    ) {
        let key = key(stratum, metric, candidate);
        let planned = (key.clone(), [assumed.centre, assumed.variance].map(f64::to_bits));
        if !self.bets.contains_key(&planned) {
            let pairing = self.design.pairing(&self.plan, stratum, candidate, &self.stable);
            self.bets.insert(planned.clone(), planning::bets(metric, assumed, pairing));
        }
        let Some(Some(bets)) = self.bets.get(&planned) else { return };
        let contrast = self.sums.contrasts.entry(key).or_default();
        let capitals = contrast.capital.get_or_insert_default();
        for ((capital, bets), value) in capitals.iter_mut().zip(bets).zip(sides.questions()) {
            capital.add(&increments(bets, value));
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
    pub(crate) fn cluster(
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
                let centre = assumption.centre;
                let base = planning::planned_rate(centre);
                *ipw_bet::Design::centred(rho, base, centre, harm, &prior).lambdas()
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

    /// Adds how often each candidate's answer differs from the stable version's on the same case.
    ///
    /// An answer that is not there differs for claims in the candidate's favour, and does not for the claim of harm.
    pub(crate) fn compare(
        &mut self,
        stratum: Stratum,
        metric: &Metric,
        bucket: usize,
        reads: &Reads<'_>,
    ) {
        let case = reads.case;
        let of = |version: &Version| {
            let its = |read: &&Read<'_>| {
                let answer = read.answer;
                answer.version == *version && part(case, version, answer.role).is_some()
            };
            reads.all().iter().find(its)
        };
        let Some(stable) = of(&self.stable) else { return };
        let Some(stable_part) = part(case, &self.stable, stable.answer.role) else { return };
        let by_itself = match &metric.twin {
            None => Some(false),
            Some(twin) => {
                // A case that the twin was not asked has nothing to subtract, and does not count.
                let Some(twin) = of(twin) else { return };
                let differs = score::disagree(metric, twin, stable);
                if let Some(differs) = differs {
                    let name = self.stable.clone();
                    let scores = self.scores_of(stratum, &name, stable_part, metric);
                    scores.moments.add(f64::from(differs));
                }
                differs
            }
        };
        let is_lost = stable.answer.status != AnswerStatus::Ok;
        for candidate in &Arc::clone(&self.plan).candidates {
            let Some(ours) = of(candidate) else { continue };
            let Some(part) = part(case, candidate, ours.answer.role) else { continue };
            let differs = score::disagree(metric, ours, stable);
            let scores = self.scores_of(stratum, candidate, part, metric);
            scores.lost.rest += u64::from(ours.answer.status != AnswerStatus::Ok);
            if let (Some(differs), Some(by_itself)) = (differs, by_itself) {
                scores.moments.add(f64::from(differs));
                self.differ(stratum, metric, bucket, candidate, [differs, by_itself]);
            } else if metric.unusable == Unusable::Bounds {
                let key = key(stratum, metric, candidate);
                let contrast = self.sums.contrasts.entry(key).or_default();
                let sides = Sides {
                    harm: [differs.unwrap_or(false), by_itself.unwrap_or(metric.twin.is_some())],
                    favour: [differs.unwrap_or(true), by_itself.unwrap_or(false)],
                };
                let by = sides.map(|[ours, twins]| f64::from(ours) - f64::from(twins));
                contrast.lost_difference.harm.add(by.harm);
                contrast.lost_difference.favour.add(by.favour);
                let Sides { harm, favour } = sides;
                contrast.lost_pairs.harm.record(harm[0], harm[1]);
                contrast.lost_pairs.favour.record(favour[0], favour[1]);
            }
        }
        if is_lost {
            let name = self.stable.clone();
            self.scores_of(stratum, &name, stable_part, metric).lost.rest += 1;
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
}

/// How a split case is bet on.
#[derive(Clone, Copy)]
struct Split {
    rho: f64,
    assumed: Assumption,
}

fn key(stratum: Stratum, metric: &Metric, candidate: &Version) -> ContrastKey {
    ContrastKey { stratum, candidate: candidate.clone(), metric: metric.name.clone() }
}
