//! The acceptance protocol: checks the program's error rates and how soon it decides.
//!
//! Each scenario is a spec as a user would write it, run through the judge. The expected figures were measured with an
//! independent implementation of the same tests: rejections of healthy candidates at most alpha, power and medians no worse.

use std::sync::Arc;

use crate::domain::time::Span;
use crate::plan::rollout::{ModelPlan, RolloutPlan};
use crate::simulate::nature::{Delay, Drift, Gaps, Nature, Sticky};
use crate::simulate::survey::{Course, Ending, Survey, survey};
use crate::spec::plan::{Document, load};

mod left_out;

const MODEL: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: m}
spec: {stable: v1, timeout: 1s}
---
apiVersion: serinus/v1
kind: Rollout
metadata: {name: r}
";

/// The expected result of a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expected {
    /// Maximum share of worlds that may end in one of these ways, all of which are errors.
    AtMost(f64, &'static [Ending]),
    /// Minimum share of worlds that end in this way, and the maximum median of requests.
    Power {
        /// The share of worlds.
        rate: f64,
        /// The median, if it was measured.
        median: Option<u64>,
        /// The ending.
        ending: &'static [Ending],
    },
    /// The shares of promoted and aborted worlds, as measured in 2,000 worlds.
    Shares {
        /// Promoted.
        promoted: f64,
        /// Aborted.
        aborted: f64,
    },
}

/// One scenario: a spec, the truth, and the expected result.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// A description in one sentence.
    pub about: &'static str,
    /// The expected result.
    pub expected: Expected,
    spec: &'static str,
    batch: u64,
    ticks: u64,
    worlds: u64,
    truth: World,
}

#[derive(Clone, Copy, Debug)]
struct World {
    effect: f64,
    drift: Drift,
    delay: Delay,
    sticky: Option<Sticky>,
    apart: Option<f64>,
    /// The stable version's true mean, if it differs from the base of the spec.
    base: Option<f64>,
    bounded: Option<Bounded>,
    gaps: Gaps,
}

/// The truth about a bounded metric, if it differs from the assumptions of its spec.
#[derive(Clone, Copy, Debug)]
struct Bounded {
    base: f64,
    variance: f64,
}

/// The result of a scenario.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The scenario.
    pub scenario: Scenario,
    /// The outcomes of its worlds.
    pub survey: Survey,
    /// Whether the result is as expected.
    pub within: bool,
    /// The compared shares, each with its bound or expected figure.
    pub rates: Vec<(&'static str, f64, f64)>,
    /// The compared median, with its bound.
    pub median: Option<(Option<u64>, u64)>,
}

const HARM_OR_BETTER: &[Ending] = &[Ending::Promoted, Ending::Aborted];
const HARM: &[Ending] = &[Ending::Aborted];
const PROMOTED: &[Ending] = &[Ending::Promoted];

/// Returns all scenarios.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = two_sided();
    all.extend(one_sided());
    all.extend(decisions());
    all.extend(ramps());
    all.extend(ranked());
    all.extend(units());
    all.extend(errors_of_users());
    all.extend(left_out::scenarios());
    all
}

/// A share of worlds in quick mode, so that it fits into a minute of a CI job.
const QUICK: u64 = 10;

/// Runs one scenario; `quick` runs a tenth of its worlds and allows for the larger noise.
pub fn check(scenario: Scenario, quick: bool, seed: u64) -> Result<Checked, String> {
    let course = course(&scenario)?;
    let truth = scenario.truth;
    let mut nature = Nature {
        drift: truth.drift,
        delay: truth.delay,
        sticky: truth.sticky,
        gaps: truth.gaps,
        ..Nature::alike(scenario.name, &course.plan)
            .with_effects(&course.plan, |_| Some(truth.effect))
    };
    for one in &mut nature.truths {
        one.apart = truth.apart;
        one.base = truth.base.unwrap_or(one.base);
        if let Some(Bounded { base, variance }) = truth.bounded {
            (one.base, one.variance) = (base, Some(variance));
        }
    }
    let worlds = if quick { scenario.worlds / QUICK } else { scenario.worlds };
    let survey = survey(&course, &nature, worlds, seed);
    // Three standard errors if there are few worlds.
    let slack =
        |rate: f64| if quick { 3.0 * (rate * (1.0 - rate) / worlds as f64).sqrt() } else { 0.0 };
    let (within, rates, median) = match scenario.expected {
        Expected::AtMost(limit, endings) => {
            let rate = survey.part(endings).rate;
            (rate <= limit + slack(limit), vec![("rejected", rate, limit)], None)
        }
        Expected::Power { rate, median, ending } => {
            let found = survey.part(ending).rate;
            let limit = rate - 0.01;
            let middle = median.map(|m| {
                let percent = if quick { 110 } else { 103 };
                (survey.requests(ending, 0.5), m * percent / 100)
            });
            let in_time = middle.is_none_or(|(found, limit)| found.is_some_and(|f| f <= limit));
            (found >= limit - slack(rate) && in_time, vec![("decided", found, limit)], middle)
        }
        Expected::Shares { promoted, aborted } => {
            let mut within = true;
            let mut rates = Vec::new();
            for (what, expected, endings) in
                [("promoted", promoted, PROMOTED), ("aborted", aborted, HARM)]
            {
                let found = survey.part(endings).rate;
                let spread = (expected * (1.0 - expected)).max(0.001);
                let error = (spread * (1.0 / worlds as f64 + 1.0 / 2000.0)).sqrt();
                within &= (found - expected).abs() <= 3.0 * error;
                rates.push((what, found, expected));
            }
            (within, rates, None)
        }
    };
    Ok(Checked { scenario, survey, within, rates, median })
}

fn course(scenario: &Scenario) -> Result<Course, String> {
    let text = format!("{MODEL}{}", scenario.spec);
    let documents = load(scenario.name, &text).map_err(|t| t.to_string())?;
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
            Ok(Course { model, plan: Arc::new(plan), batch: scenario.batch, ticks: scenario.ticks })
        }
        (_, _) => Err(format!("{}: a model and a rollout are wanted", scenario.name)),
    }
}

/// A scenario with defaults; other scenarios override fields.
fn plain(
    name: &'static str,
    about: &'static str,
    spec: &'static str,
    (batch, requests): (u64, u64),
    effect: f64,
    expected: Expected,
) -> Scenario {
    let worlds = match expected {
        Expected::AtMost(..) => 10_000,
        Expected::Power { .. } => 5_000,
        Expected::Shares { .. } => 2_000,
    };
    let truth = bare(effect);
    Scenario { name, about, expected, spec, batch, ticks: requests / batch, worlds, truth }
}

const T1: &str = "spec: {model: m, candidates: [v2], strategy: ab, stages: [{share: 50%}],
  metrics: [{name: errors, kind: response_error, role: goal, mde: 0.02, base: 0.1}],
  decide: {promote: superior, alpha: 0.025, tick: 1s}}";
const T5: &str = "spec: {model: m, candidates: [v2], strategy: ab, stages: [{share: 5%}],
  metrics: [{name: errors, kind: response_error, role: goal, mde: 0.001, base: 0.001}],
  decide: {promote: superior, alpha: 0.025, tick: 1s}}";
const T9: &str = "spec: {model: m, candidates: [v2], strategy: ab, stages: [{share: 10%}],
  metrics: [{name: errors, kind: response_error, role: goal, mde: 0.006, base: 0.02}],
  decide: {promote: superior, alpha: 0.025, tick: 1s}}";
const T11: &str = "spec: {model: m, candidates: [v2], strategy: ab, stages: [{share: 50%}],
  metrics: [{name: errors, kind: response_error, role: goal, mde: 0.003, base: 0.3}],
  decide: {promote: superior, alpha: 0.025, tick: 1s}}";

/// Two-sided tests at 5 %: an A/B test with a look at every batch.
fn two_sided() -> Vec<Scenario> {
    let healthy = Expected::AtMost(0.05, HARM_OR_BETTER);
    let power =
        |rate, median| Expected::Power { rate, median: Some(median), ending: HARM_OR_BETTER };
    let (small, rare, thin, large) =
        ((100, 20_000), (2_000, 500_000), (500, 100_000), (10_000, 2_000_000));
    vec![
        plain("T1", "A/A, errors 10 %, half the traffic", T1, small, 0.0, healthy),
        plain("T1 each", "the same, looked at after every request", T1, (1, 5_000), 0.0, healthy),
        plain("T2", "10 % against 12 %", T1, small, 0.02, power(0.964, 7_000)),
        plain("T2b", "10 % against 8 %", T1, small, -0.02, power(0.986, 6_100)),
        plain(
            "T3",
            "10 % against 11 %",
            T1,
            small,
            0.01,
            Expected::Power { rate: 0.377, median: None, ending: HARM_OR_BETTER },
        ),
        plain("T4", "10 % against 20 %", T1, small, 0.10, power(1.0, 800)),
        plain("T5", "A/A, errors 0.1 %, a canary of 5 %", T5, rare, 0.0, healthy),
        plain("T6", "0.1 % against 0.2 %", T5, rare, 0.001, power(0.917, 196_000)),
        plain("T7", "0.1 % against 0.3 %", T5, rare, 0.002, power(1.0, 72_000)),
        plain("T8", "0.1 % against 1 %", T5, rare, 0.009, power(1.0, 14_000)),
        plain("T9", "A/A, errors 2 %, a canary of 10 %", T9, thin, 0.0, healthy),
        // The power is so close to its bound that 5,000 worlds would fail in every third run.
        Scenario {
            worlds: 40_000,
            ..plain("T10", "2 % against 2.6 %", T9, thin, 0.006, power(0.879, 47_000))
        },
        plain("T11", "A/A, errors 30 %, two million requests", T11, large, 0.0, healthy),
        plain("T12", "30 % against 30.3 %", T11, large, 0.003, power(0.971, 680_000)),
    ]
}

const RARE_CANARY: &str = "spec: {model: m, candidates: [v2], strategy: canary, stages: [{share: 5%}],
  metrics: [{name: errors, kind: response_error, role: guardrail, margin: 0.001, mde: 0.001, base: 0.001}],
  decide: {promote: non_inferior, alpha: 0.05, tick: 1s}}";
const SHADOW: &str = "spec: {model: m, candidates: [v2], strategy: shadow,
  metrics: [{name: accuracy, kind: accuracy, prediction: json:/class, label: json:/class, role: goal, mde: 0.01, base: 0.9}],
  labels: {maturity: 0s},
  decide: {promote: superior, alpha: 0.05, tick: 1s, min_labelled: 0}}";
const TAIL: &str = "spec: {model: m, candidates: [v2], strategy: ab, stages: [{share: 10%}],
  metrics: [{name: cost, kind: value, prediction: json:/cost, direction: lower, role: goal, range: [0, 10], mde: 0.15, base: 1}],
  labels: {maturity: 0s},
  decide: {promote: superior, alpha: 0.025, tick: 1s, min_labelled: 0}}";

/// One-sided tests at 5 %.
fn one_sided() -> Vec<Scenario> {
    let rare = (2_000, 500_000);
    let apart = |mut s: Scenario| {
        s.truth.apart = Some(0.05);
        s
    };
    vec![
        plain(
            "canary at the limit",
            "twice the errors is just too many: never to be promoted (0.1 % against 0.2 %, 5 % of the traffic)",
            RARE_CANARY,
            rare,
            0.001,
            Expected::AtMost(0.05, PROMOTED),
        ),
        plain(
            "canary in harm",
            "the same, aborted for harm",
            RARE_CANARY,
            rare,
            0.001,
            Expected::Power { rate: 0.951, median: Some(156_000), ending: HARM },
        ),
        apart(plain(
            "shadow A/A",
            "both right in 90 %, different answers in 5 %: not to be called better",
            SHADOW,
            (100, 20_000),
            0.0,
            Expected::AtMost(0.05, PROMOTED),
        )),
        apart(plain(
            "shadow better",
            "one percentage point more right answers, on the same requests",
            SHADOW,
            (100, 20_000),
            0.01,
            Expected::Power { rate: 0.99, median: Some(3_000), ending: PROMOTED },
        )),
        plain(
            "bounded A/A",
            "a cost in a fixed range, skewed, a canary of 10 %",
            TAIL,
            (100, 10_000),
            0.0,
            Expected::AtMost(0.05, HARM_OR_BETTER),
        ),
    ]
}

const HALF: &str = "spec: {model: m, candidates: [v2], strategy: canary, stages: [{share: 50%}],
  metrics: [{name: errors, kind: response_error, role: goal, margin: 0.01, mde: 0.01, base: 0.1}],
  decide: {promote: non_inferior, alpha: 0.05, tick: 1s}}";

/// The shares of each decision: promote and abort at 5 % each.
fn decisions() -> Vec<Scenario> {
    let (half, rare) = ((500, 100_000), (2_000, 1_000_000));
    let shares = |promoted, aborted| Expected::Shares { promoted, aborted };
    vec![
        plain("much better", "10 % against 9 %", HALF, half, -0.01, shares(1.0, 0.0)),
        plain("the same", "10 % against 10 %", HALF, half, 0.0, shares(0.976, 0.025)),
        plain("half the margin", "10 % against 10.5 %", HALF, half, 0.005, shares(0.488, 0.503)),
        plain("the margin", "10 % against 11 %", HALF, half, 0.01, shares(0.027, 0.973)),
        plain("twice the margin", "10 % against 12 %", HALF, half, 0.02, shares(0.0, 1.0)),
        plain(
            "rare, the same",
            "0.1 % against 0.1 %",
            RARE_CANARY,
            rare,
            0.0,
            shares(0.968, 0.032),
        ),
        plain(
            "rare, the margin",
            "0.1 % against 0.2 %",
            RARE_CANARY,
            rare,
            0.001,
            shares(0.030, 0.970),
        ),
        plain("rare, twice", "0.1 % against 0.3 %", RARE_CANARY, rare, 0.002, shares(0.001, 0.999)),
    ]
}

const RAMP: &str = "spec: {model: m, candidates: [v2], strategy: canary,
  stages: [{share: 1%, hold: 50s}, {share: 5%, hold: 50s}, {share: 25%, hold: 50s}, {share: 50%, hold: 50s}],
  metrics: [{name: errors, kind: response_error, role: goal, margin: 0.02, mde: 0.02, base: 0.1}],
  decide: {promote: non_inferior, alpha: 0.05, tick: 1s}}";
const LATE_RAMP: &str = "spec: {model: m, candidates: [v2], strategy: canary,
  stages: [{share: 5%, hold: 7d}, {share: 10%, hold: 7d}, {share: 25%, hold: 7d}, {share: 50%, hold: 7d}],
  metrics: [{name: bought, kind: error_rate, prediction: json:/p, label: json:/y, role: goal, margin: 0.01, mde: 0.01, base: 0.05}],
  labels: {maturity: 14d, missing: negative},
  decide: {promote: non_inferior, alpha: 0.05, tick: 6h, min_labelled: 0}}";

/// Ramps during which rates drift, and late labels.
fn ramps() -> Vec<Scenario> {
    let healthy = Expected::AtMost(0.05, HARM);
    let unsafe_ = Expected::AtMost(0.05, PROMOTED);
    let falling = World { drift: Drift::To(0.5), ..bare(0.0) };
    let wave = Drift::Wave { by: 0.3, period: Span::seconds(40) };
    let days = |days: i64| Span(days * 86_400_000);
    let late = Delay { event: days(7), rest: Span(days(1).0 / 2), never: 0.0 };
    let with = |mut s: Scenario, truth: World| {
        s.truth = truth;
        s.worlds = 3_000;
        s
    };
    let ramp = (500, 200_000);
    let months = (400, 400 * 4 * 56);
    vec![
        with(
            plain(
                "ramp with drift",
                "A/A, 1 to 50 % while errors fall from 10 % to 5 %",
                RAMP,
                ramp,
                0.0,
                healthy,
            ),
            falling,
        ),
        with(
            plain("ramp at the limit", "the same, at the margin", RAMP, ramp, 0.02, unsafe_),
            World { effect: 0.02, ..falling },
        ),
        with(
            plain("ramp with a wave", "A/A, while errors swing by 30 %", RAMP, ramp, 0.0, healthy),
            World { drift: wave, ..bare(0.0) },
        ),
        with(
            plain(
                "late labels",
                "A/A, positives after 7 days on average, read at 14 days, a ramp of 28 days",
                LATE_RAMP,
                months,
                0.0,
                healthy,
            ),
            World { delay: late, ..bare(0.0) },
        ),
        with(
            plain(
                "late labels at the limit",
                "the same, at the margin within 14 days",
                LATE_RAMP,
                months,
                0.0,
                unsafe_,
            ),
            // Only events within the window count: the effect is scaled so that the margin is reached at maturity.
            World { delay: late, effect: 0.01 / (1.0 - (-2.0_f64).exp()), ..bare(0.0) },
        ),
    ]
}

const RECALL: &str = "spec: {model: m, candidates: [v2], strategy: canary, stages: [{share: 50%}],
  metrics: [{name: recall, kind: recall, prediction: json:/p, label: json:/y, role: goal, margin: 0.05, mde: 0.05, base: 0.8, abort: true}],
  labels: {maturity: 0s},
  decide: {promote: non_inferior, alpha: 0.05, tick: 1s, min_labelled: 0}}";
const F1: &str = "spec: {model: m, candidates: [v2], strategy: canary, stages: [{share: 20%}],
  metrics: [{name: f1, kind: f1, prediction: json:/p, label: json:/y, role: goal, margin: 0.05, mde: 0.05, base: 0.7, abort: true}],
  labels: {maturity: 0s},
  decide: {promote: non_inferior, alpha: 0.05, tick: 1s, min_labelled: 0}}";
const AUC: &str = "spec: {model: m, candidates: [v2], strategy: canary, stages: [{share: 50%}],
  metrics: [{name: auc, kind: auc, prediction: json:/p, label: json:/y, role: goal, margin: 0.03, mde: 0.03, base: 0.75, abort: true}],
  labels: {maturity: 0s},
  decide: {promote: non_inferior, alpha: 0.05, tick: 1s, min_labelled: 0}}";

/// Metrics that are not means over cases: asymptotic, from a hundred positives in each arm.
fn ranked() -> Vec<Scenario> {
    let healthy = Expected::AtMost(0.05, HARM);
    let unsafe_ = Expected::AtMost(0.05, PROMOTED);
    let requests = (200, 20_000);
    let one = |name, about, spec, effect, expected| {
        let mut it = plain(name, about, spec, requests, effect, expected);
        it.worlds = 1_000;
        it
    };
    vec![
        one("recall A/A", "recall 80 %, a fifth of the cases positive", RECALL, 0.0, healthy),
        one(
            "recall at the limit",
            "five percentage points less, the margin",
            RECALL,
            -0.05,
            unsafe_,
        ),
        one("f1 A/A", "F1 0.7, a canary of 20 %", F1, 0.0, healthy),
        one("f1 at the limit", "0.05 less, the margin", F1, -0.05, unsafe_),
        one("auc A/A", "area under the curve 0.75", AUC, 0.0, healthy),
        one("auc at the limit", "0.03 less, the margin", AUC, -0.03, unsafe_),
    ]
}

/// Units with several requests.
fn units() -> Vec<Scenario> {
    let healthy = Expected::AtMost(0.05, HARM_OR_BETTER);
    let sticky = |units| World { sticky: Some(Sticky { units, likeness: 1.0 / 6.0 }), ..bare(0.0) };
    let with = |mut s: Scenario, truth: World| {
        s.truth = truth;
        s.worlds = 3_000;
        s
    };
    let requests = (200, 20_000);
    vec![
        with(
            plain("2,000 users", "A/A, 10 requests each, alike by 1/6", T1, requests, 0.0, healthy),
            sticky(2_000),
        ),
        with(
            plain("500 users", "A/A, 40 requests each, alike by 1/6", T1, requests, 0.0, healthy),
            sticky(500),
        ),
    ]
}

const GUARDRAIL: &str =
    "spec: {model: m, candidates: [v2], strategy: canary, stages: [{share: 10%}],
  metrics: [{name: errors, kind: response_error, role: guardrail, margin: 2%}],
  decide: {promote: non_inferior, alpha: 0.05, tick: 1s}}";

/// Guardrails on errors without a base; users with many requests each, a tenth of them on the candidate.
fn errors_of_users() -> Vec<Scenario> {
    let clean = Expected::Power { rate: 1.0, median: Some(2_425), ending: PROMOTED };
    let rare = Expected::Power { rate: 0.98, median: Some(2_425), ending: PROMOTED };
    let healthy = Expected::AtMost(0.05, HARM);
    let unsafe_ = Expected::AtMost(0.05, PROMOTED);
    let one = |name, about, (units, likeness, base), effect, expected| {
        let mut it = plain(name, about, GUARDRAIL, (100, 24_000), effect, expected);
        it.truth.sticky = Some(Sticky { units, likeness });
        it.truth.base = Some(base);
        it.worlds = 2_000;
        it
    };
    vec![
        one("clean", "no errors, 300 users with 80 requests", (300, 0.0, 0.0), 0.0, clean),
        one("nearly clean", "errors 0.2 %, independent", (300, 0.0, 0.002), 0.0, rare),
        one("clean at the limit", "no errors against 2 %", (300, 0.0, 0.0), 0.02, unsafe_),
        one(
            "errors of 2,000 users",
            "A/A, 2 %, alike by 1/6",
            (2_000, 1.0 / 6.0, 0.02),
            0.0,
            healthy,
        ),
        one("2,000 users at the limit", "2 % against 4 %", (2_000, 1.0 / 6.0, 0.02), 0.02, unsafe_),
        one("errors of 500 users", "A/A, 2 %, alike by 1/6", (500, 1.0 / 6.0, 0.02), 0.0, healthy),
        one("500 users at the limit", "2 % against 4 %", (500, 1.0 / 6.0, 0.02), 0.02, unsafe_),
        one(
            "users who only fail",
            "A/A, 3 % of 500 users fail always",
            (500, 1.0, 0.03),
            0.0,
            healthy,
        ),
        one("such users at the limit", "the same against 5 %", (500, 1.0, 0.03), 0.02, unsafe_),
    ]
}

fn bare(effect: f64) -> World {
    World {
        effect,
        drift: Drift::None,
        delay: Delay::NONE,
        sticky: None,
        apart: None,
        base: None,
        bounded: None,
        gaps: Gaps::default(),
    }
}
