//! The acceptance protocol: how often the program may decide wrongly, and how soon it must decide.
//!
//! The scenarios are in `acceptance.yaml`. Each is a spec as a user would write it, decided by the judge in synthetic worlds.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::plan::rollout::{ModelPlan, RolloutPlan};
use crate::simulate::nature::{Delay, Drift, Gaps, Nature, Sticky};
use crate::simulate::survey::{Course, Ending, Survey, survey};
use crate::spec::plan::{Document, load};
use crate::spec::scalar::parse_duration;

const SCENARIOS: &str = include_str!("acceptance.yaml");

/// The documents before the `spec` of each scenario.
const HEAD: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: m}
spec: {stable: v1, timeout: 1s}
---
apiVersion: serinus/v1
kind: Rollout
metadata: {name: r}
spec: ";

/// In quick mode, one world in this many is drawn, so that the protocol fits into a minute of a CI job.
const QUICK: u64 = 10;

/// How much of an expected share may be missing: 0.01.
const SHARE_SLACK: f64 = 0.01;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Protocol {
    specs: BTreeMap<String, String>,
    scenarios: Vec<Scenario>,
}

/// One scenario: a spec, the truth, and the expected outcome.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it is, in one sentence.
    pub about: String,
    /// The expected outcome.
    pub expected: Expected,
    /// The name of its spec, and once loaded the spec itself.
    spec: String,
    batch: u64,
    requests: u64,
    worlds: u64,
    #[serde(default)]
    truth: World,
}

/// The expected outcome of a scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Expected {
    /// Few worlds may end in these ways, all of which are wrong.
    AtMost {
        /// The largest share of worlds.
        at_most: f64,
        /// The wrong endings.
        of: Vec<Ending>,
    },
    /// Most worlds must end in one of these ways.
    AtLeast {
        /// The smallest share of worlds.
        at_least: f64,
        /// The right endings.
        of: Vec<Ending>,
        /// The largest median of requests, where it was measured.
        median: Option<u64>,
    },
    /// The shares that were measured before, in 2,000 worlds.
    Shares {
        /// Promoted.
        promoted: f64,
        /// Aborted.
        aborted: f64,
    },
}

/// What is true in a world, where it differs from the spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct World {
    effect: f64,
    base: Option<f64>,
    variance: Option<f64>,
    apart: Option<f64>,
    drift: Option<DriftOf>,
    labels_after: Option<LabelsAfter>,
    units: Option<Units>,
    left_out: LeftOut,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum DriftOf {
    To { to: f64 },
    Wave { wave: f64, period: String },
}

/// The mean delays of labels, of cases in which the event happened and of the others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelsAfter {
    event: String,
    rest: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Units {
    count: u32,
    likeness: f64,
}

/// The shares of the candidate's answers and labels that are missing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LeftOut {
    answers: f64,
    labels: f64,
}

/// The result of a scenario.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The scenario.
    pub scenario: Scenario,
    /// The outcomes of its worlds.
    pub survey: Survey,
    /// Whether the outcome is as expected.
    pub within: bool,
    /// The compared shares, each with its bound or expected value.
    pub rates: Vec<(&'static str, f64, f64)>,
    /// The compared median, with its bound.
    pub median: Option<(Option<u64>, u64)>,
}

/// Returns all scenarios.
///
/// # Errors
///
/// `acceptance.yaml` is part of the program; an error is a mistake in it.
pub fn scenarios() -> Result<Vec<Scenario>, String> {
    let Protocol { specs, scenarios } =
        serde_saphyr::from_str(SCENARIOS).map_err(|error| format!("acceptance.yaml: {error}"))?;
    let with_spec = |scenario: Scenario| {
        let spec = specs.get(&scenario.spec);
        let spec = spec.ok_or_else(|| format!("{}: no spec {}", scenario.name, scenario.spec))?;
        Ok(Scenario { spec: spec.clone(), ..scenario })
    };
    scenarios.into_iter().map(with_spec).collect()
}

/// Runs one scenario; `quick` runs a tenth of its worlds and allows for their noise.
///
/// # Errors
///
/// The spec of the scenario is wrong.
pub fn check(scenario: Scenario, quick: bool, seed: u64) -> Result<Checked, String> {
    let course = course(&scenario)?;
    let nature = scenario.truth.nature(&scenario.name, &course.plan)?;
    let worlds = if quick { scenario.worlds / QUICK } else { scenario.worlds };
    let survey = survey(&course, &nature, worlds, seed);
    // Three standard errors if there are few worlds.
    let slack =
        |rate: f64| if quick { 3.0 * (rate * (1.0 - rate) / worlds as f64).sqrt() } else { 0.0 };
    let (within, rates, median) = match &scenario.expected {
        Expected::AtMost { at_most, of } => {
            let rate = survey.part(of).rate;
            (rate <= at_most + slack(*at_most), vec![("rejected", rate, *at_most)], None)
        }
        Expected::AtLeast { at_least, of, median } => {
            let rate = survey.part(of).rate;
            let limit = at_least - SHARE_SLACK;
            let median = median.map(|median| {
                let percent = if quick { 110 } else { 103 };
                (survey.requests(of, 0.5), median * percent / 100)
            });
            let in_time = median.is_none_or(|(found, limit)| found.is_some_and(|f| f <= limit));
            let within = rate >= limit - slack(*at_least) && in_time;
            (within, vec![("decided", rate, limit)], median)
        }
        Expected::Shares { promoted, aborted } => {
            let compare = |what, expected: f64, ending| {
                let found = survey.part(&[ending]).rate;
                let spread = (expected * (1.0 - expected)).max(0.001);
                let error = (spread * (1.0 / worlds as f64 + 1.0 / 2000.0)).sqrt();
                ((found - expected).abs() <= 3.0 * error, (what, found, expected))
            };
            let both = [
                compare("promoted", *promoted, Ending::Promoted),
                compare("aborted", *aborted, Ending::Aborted),
            ];
            let within = both.iter().all(|(within, _)| *within);
            (within, both.map(|(_, rate)| rate).to_vec(), None)
        }
    };
    Ok(Checked { scenario, survey, within, rates, median })
}

impl World {
    fn nature(&self, name: &str, plan: &RolloutPlan) -> Result<Nature, String> {
        let span =
            |text: &str| parse_duration(text).ok_or(format!("{name}: {text} is no duration"));
        let drift = match &self.drift {
            None => Drift::None,
            Some(DriftOf::To { to }) => Drift::To(*to),
            Some(DriftOf::Wave { wave, period }) => {
                Drift::Wave { by: *wave, period: span(period)? }
            }
        };
        let delay = match &self.labels_after {
            None => Delay::NONE,
            Some(LabelsAfter { event, rest }) => {
                Delay { event: span(event)?, rest: span(rest)?, never: 0.0 }
            }
        };
        let units = self.units.as_ref();
        let alike = Nature::alike(name, plan).with_effects(plan, |_| Some(self.effect));
        let mut nature = Nature {
            drift,
            delay,
            sticky: units.map(|u| Sticky { units: u.count, likeness: u.likeness }),
            gaps: Gaps { answers: self.left_out.answers, labels: self.left_out.labels },
            ..alike
        };
        for truth in &mut nature.truths {
            truth.apart = self.apart;
            truth.base = self.base.unwrap_or(truth.base);
            truth.variance = self.variance;
        }
        Ok(nature)
    }
}

fn course(scenario: &Scenario) -> Result<Course, String> {
    let text = format!("{HEAD}{}", scenario.spec);
    let documents = load(&scenario.name, &text).map_err(|errors| errors.to_string())?;
    let mut model: Option<ModelPlan> = None;
    let mut rollout: Option<RolloutPlan> = None;
    for document in documents {
        match document {
            Document::Model(plan, _) => model = Some(plan),
            Document::Rollout(plan, _) => rollout = Some(plan),
        }
    }
    match (model, rollout) {
        (Some(model), Some(plan)) => {
            let Scenario { batch, requests, .. } = *scenario;
            Ok(Course { model, plan: Arc::new(plan), batch, ticks: requests / batch })
        }
        (_, _) => Err(format!("{}: it needs a model and a rollout", scenario.name)),
    }
}
