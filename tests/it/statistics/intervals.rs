//! The published interval agrees with the verdict, for every kind of metric and any evidence.

use std::sync::Arc;

use proptest::prelude::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serinus_core::domain::ids::{CaseId, StageIndex, Version};
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::accumulator::EvidenceAccumulator;
use serinus_core::engine::analyst::case_value::{Pass, Spot, Worth};
use serinus_core::engine::analyst::score::Ranked;
use serinus_core::evidence::design::{Design, Part, Stratum};
use serinus_core::inference::bet_cache::BetCache;
use serinus_core::inference::input::{AnalysisInput, Detail};
use serinus_core::inference::interim::analyze;
use serinus_core::inference::planning;
use serinus_core::inference::verdict::{Finding, Proof};
use serinus_core::plan::metric::Shape;
use serinus_core::plan::metric_kind::Group;
use serinus_core::plan::rollout::RolloutPlan;
use serinus_stats::cluster::Clusters;

use crate::scenarios::plans::{self, MIDNIGHT};

const STRATUM: Stratum = Stratum { stage: StageIndex(0), drops: 0 };

const KINDS: [&str; 9] = [
    "accuracy",
    "error_rate",
    "response_error",
    "brier",
    "auc",
    "f1",
    "recall",
    "disagreement",
    "latency",
];

/// Random parameters: the level of each version in [0, 1], and the structure of the cases.
#[derive(Clone, Copy, Debug)]
struct Nature {
    theirs: f64,
    ours: f64,
    cases: usize,
    /// The number of equal cases of a unit.
    cases_a_unit: usize,
    seed: u64,
}

/// A rollout with one metric, and its evidence.
struct World {
    plan: Arc<RolloutPlan>,
    design: Design,
    book: EvidenceAccumulator,
    rng: Xoshiro256PlusPlus,
    unit: u64,
}

impl World {
    fn new(metric: &str, stage: &str, seed: u64) -> Self {
        let mut plan = plans::rollout("m", "r", "canary", &["v2"]);
        for line in [stage, metric] {
            plans::line(&mut plan, &line.split_whitespace().collect::<Vec<_>>());
        }
        let plan = Arc::new(plan);
        let design = planning::initial(&plan);
        let book = EvidenceAccumulator::new(Arc::clone(&plan), design.clone(), "v1".into());
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { plan, design, book, rng, unit: 0 }
    }

    /// Draws the cases of one unit, which belongs to one arm.
    fn unit(&mut self, nature: &Nature) {
        self.unit += 1;
        let hash = self.rng.random::<u64>();
        let is_paired = self.plan.stages[0].shadows.iter().any(|_| true);
        let is_ours = self.rng.random::<f64>() < 0.2;
        let parts: Vec<(Version, Part, f64)> = if is_paired {
            vec![
                ("v1".into(), Part::Chosen, nature.theirs),
                ("v2".into(), Part::Copied, nature.ours),
            ]
        } else if is_ours {
            vec![("v2".into(), Part::Chosen, nature.ours)]
        } else {
            vec![("v1".into(), Part::Chosen, nature.theirs)]
        };
        let shared = self.rng.random::<f64>();
        for _ in 0..nature.cases_a_unit {
            let draw = if nature.cases_a_unit > 1 && self.rng.random::<f64>() < 0.9 {
                shared
            } else {
                self.rng.random()
            };
            self.case(Clusters::bucket(hash), &parts, draw);
        }
    }

    /// Freezes latency thresholds at every sixteenth unit.
    fn freeze(&mut self) {
        if self.unit.is_multiple_of(16) {
            let (sums, stable) = (self.book.sums().clone(), Version::from("v1"));
            let (at, tick) = (StageIndex(0), Timestamp(MIDNIGHT.0 + 1));
            planning::freeze_thresholds(&mut self.design, &self.plan, at, &stable, &sums, tick);
        }
    }

    fn case(&mut self, bucket: usize, parts: &[(Version, Part, f64)], draw: f64) {
        let metric = self.plan.metrics[0].clone();
        for (version, part, _) in parts {
            let key = (STRATUM, version.clone(), *part);
            let tally = self.book.sums_mut().arms.entry(key).or_default();
            tally.exposures += 1;
            tally.answered += 1;
            tally.first_at = tally.first_at.min(MIDNIGHT);
            tally.last_at = tally.last_at.max(MIDNIGHT + Span::seconds(30));
        }
        if metric.kind.group() == Group::Agreement {
            if let [_, (version, part, level)] = parts {
                let key = (STRATUM, version.clone(), *part, metric.name.clone());
                let differs = draw < *level;
                self.book.sums_mut().scores.entry(key).or_default().moments.add(f64::from(differs));
                self.book.differ(STRATUM, &metric, bucket, version, [differs, false]);
            }
            return;
        }
        let values = |of: &dyn Fn(f64) -> f64| -> Vec<(Version, Part, f64)> {
            parts.iter().map(|(p, part, level)| (p.clone(), *part, of(*level))).collect()
        };
        let worths = |values: Vec<(Version, Part, f64)>| -> Vec<(Version, Part, Worth)> {
            values.into_iter().map(|(f, part, value)| (f, part, Worth::Value(value))).collect()
        };
        let place = CaseId { partition: 0, offset: i64::try_from(self.unit).expect("a few") };
        let spot = Spot { stratum: STRATUM, bucket, order: (MIDNIGHT, place), pass: Pass::First };
        match metric.kind.shape() {
            Shape::Binary => {
                let values = values(&|level| f64::from(draw < level));
                self.book.add(spot, &metric, &worths(values));
            }
            Shape::Bounded => {
                let values = values(&|level| (level * 2.0 * draw).min(1.0));
                self.book.add(spot, &metric, &worths(values));
            }
            Shape::Ranking | Shape::Confusion => {
                let is_positive = self.rng.random::<f64>() < 0.4;
                let places: Vec<(Version, Part, Ranked)> = parts
                    .iter()
                    .map(|(version, part, level)| {
                        let is_right = draw < *level;
                        let score = if is_right == is_positive { 0.7 } else { 0.3 };
                        let ranked = Ranked { score, is_called: score >= 0.5, is_positive };
                        (version.clone(), *part, ranked)
                    })
                    .collect();
                self.book.place(STRATUM, &metric, bucket, &places);
            }
            Shape::Duration => {
                let values = values(&|level| (10.0 + 100.0 * level) * (0.5 + draw * draw));
                for (version, part, value) in &values {
                    let key = (STRATUM, version.clone(), *part);
                    let tally = self.book.sums_mut().arms.entry(key).or_default();
                    tally.latency.insert(*value);
                }
                self.book.add_latency(STRATUM, &metric, bucket, &values);
                self.freeze();
            }
        }
    }

    fn finding(&self, detail: Detail) -> Finding {
        let (stable, bets) = (Version::from("v1"), BetCache::default());
        let sight = AnalysisInput {
            unplanned: 0,
            is_approved: false,
            plan: &self.plan,
            design: &self.design,
            evidence: self.book.sums(),
            stage: StageIndex(0),
            stable: &stable,
            live: &self.plan.candidates,
            tick: MIDNIGHT + Span::seconds(60),
            entered_at: Some(MIDNIGHT),
            lag: 0,
            bets: &bets,
            detail,
        };
        analyze(&sight).findings.into_iter().next().expect("one metric and one candidate")
    }
}

/// Returns the interval and its estimate, oriented so that larger is worse.
fn ends(finding: &Finding) -> Option<[f64; 3]> {
    let difference = finding.difference?;
    let low = difference.low.unwrap_or(f64::NEG_INFINITY);
    let high = difference.high.unwrap_or(f64::INFINITY);
    let sign = finding.direction.harm_sign();
    Some(if sign > 0.0 { [low, difference.value, high] } else { [-high, -difference.value, -low] })
}

fn check(finding: &Finding) {
    let Some([low, value, high]) = ends(finding) else {
        assert!(matches!(finding.proof, Proof::NoData | Proof::Open), "{finding:?}");
        return;
    };
    assert!(low <= value && value <= high, "the estimate lies inside: {finding:?}");
    let margin = finding.margin.value();
    let harm = match finding.kind.group() {
        Group::Latency | Group::Agreement => margin,
        Group::Labelled(_) | Group::Table(_) | Group::Ranking | Group::Response(_) => 0.0,
    };
    assert_eq!(finding.proof == Proof::Harmful, low > harm, "worse: {finding:?}");
    if finding.proof != Proof::Harmful {
        assert_eq!(finding.proof == Proof::Superior, high < 0.0, "better: {finding:?}");
        let is_proved = matches!(finding.proof, Proof::NonInferior | Proof::Superior);
        assert_eq!(is_proved, high < margin || high < 0.0, "non-inferior: {finding:?}");
    }
    if finding.design_effect.is_infinite() && finding.kind.group() != Group::Latency {
        let width = -low.min(-high);
        assert!(width >= 1.0, "nothing is known: {finding:?}");
        assert!(low <= -1.0 && high >= 1.0, "nothing is known: {finding:?}");
    }
}

fn nature() -> impl Strategy<Value = Nature> {
    let level = || prop_oneof![Just(0.0), Just(0.25), Just(1.0), 0.0..0.1, 0.0..1.0];
    let cases = prop_oneof![1_usize..60, 60_usize..3_000];
    let same = prop_oneof![3 => Just(1_usize), 1 => Just(25_usize)];
    let close = prop_oneof![Just(0.0), -0.1..0.1, -1.0..1.0];
    (level(), close, cases, same, any::<u64>()).prop_map(
        |(theirs, by, cases, cases_a_unit, seed)| Nature {
            theirs,
            ours: (theirs + by).clamp(0.0, 1.0),
            cases,
            cases_a_unit,
            seed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_interval_says_what_the_verdict_says(
        kind in prop::sample::select(&KINDS[..]),
        is_paired: bool,
        margin in prop_oneof![Just("margin=5%"), Just("margin=0.5%"), Just("margin=0% mde=4%")],
        nature in nature(),
    ) {
        let stage = if is_paired || kind == "disagreement" {
            "stage shadow=100%"
        } else {
            "stage share=20%"
        };
        // Ties alone would prove a latency without a margin.
        let margin = if kind == "latency" { "margin=20%" } else { margin };
        let mut world = World::new(&format!("metric m {kind} guardrail {margin}"), stage, nature.seed);
        let mut drawn = 0;
        for look_at in [nature.cases / 8, nature.cases] {
            while drawn < look_at {
                world.unit(&nature);
                drawn += nature.cases_a_unit;
            }
            let finding = world.finding(Detail::Full);
            check(&finding);
            prop_assert_eq!(world.finding(Detail::Verdict).proof, finding.proof);
        }
    }
}

/// Returns the share of worlds in which the interval ever missed the true difference.
fn missed(metric: &str, stage: &str, nature: Nature, truth: f64) -> f64 {
    const WORLDS: u64 = 200;
    let mut missed = 0;
    for seed in 0..WORLDS {
        let mut world = World::new(metric, stage, seed);
        let is_missed = (0..30).any(|_| {
            for _ in 0..nature.cases / 30 {
                world.unit(&nature);
            }
            let is_inside = ends(&world.finding(Detail::Full))
                .is_none_or(|[low, _, high]| low <= truth && truth <= high);
            !is_inside
        });
        missed += u64::from(is_missed);
    }
    missed as f64 / WORLDS as f64
}

#[test]
fn the_interval_covers_at_its_level() {
    let nature = |theirs, ours| Nature { theirs, ours, cases: 3_000, cases_a_unit: 1, seed: 0 };
    let (split, pairs) = ("stage share=20%", "stage shadow=100%");
    let errors = "metric m response_error guardrail margin=5%";
    let brier = "metric m brier guardrail margin=5% base=0.2";
    for (metric, stage, nature, truth) in [
        (errors, split, nature(0.1, 0.1), 0.0),
        (errors, split, nature(0.1, 0.15), 0.05),
        (errors, split, nature(0.05, 0.02), -0.03),
        (errors, pairs, nature(0.1, 0.12), 0.02),
        (brier, split, nature(0.2, 0.2), 0.0),
        (brier, split, nature(0.2, 0.25), 0.05),
    ] {
        let missed = missed(metric, stage, nature, truth);
        // 5 % on either side, plus three standard errors of 200 worlds.
        assert!(missed <= 0.1 + 0.064, "{metric}, {stage}: {nature:?} is missed in {missed}");
    }
}
