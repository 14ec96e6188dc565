//! The examples load with their intended meaning.

use serinus_core::domain::ids::{StageIndex, Version};
use serinus_core::domain::routing::OnFailure;
use serinus_core::domain::share::Share;
use serinus_core::domain::time::Span;
use serinus_core::plan::metric::{Direction, Margin, MetricRole};
use serinus_core::plan::rollout::{
    ModelPlan, PromoteWhen, RolloutPlan, Source, StrategyKind, WhenInconclusive,
};
use serinus_core::spec::plan::{Document, load, model_from_json, rollout_from_json};

const MODEL: &str = include_str!("../../../examples/model.yaml");
const SHADOW: &str = include_str!("../../../examples/shadow.yaml");
const AB: &str = include_str!("../../../examples/ab.yaml");
const CANARY: &str = include_str!("../../../examples/canary.yaml");

fn documents(text: &str) -> Vec<Document> {
    load("flights.yaml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn model(text: &str) -> ModelPlan {
    match documents(text).remove(0) {
        Document::Model(plan, _) => plan,
        Document::Rollout(plan, _) => panic!("{} is a rollout", plan.name),
    }
}

fn rollout(text: &str) -> RolloutPlan {
    match documents(text).remove(0) {
        Document::Rollout(plan, _) => plan,
        Document::Model(plan, _) => panic!("{} is a model", plan.name),
    }
}

fn percent(percent: u32) -> Share {
    Share::from_millionths(percent * 10_000).expect("the tests know what a percentage is")
}

#[test]
fn a_model_is_read_as_meant() {
    let plan = model(MODEL);
    assert_eq!(plan.name.as_str(), "flights");
    assert_eq!(plan.unit, Source::Json("/tailnum".to_owned()));
    assert_eq!(plan.request_id, Some(Source::Header("ce_id".to_owned())));
    assert_eq!((plan.timeout, plan.shadow_timeout), (Span(500), Span::seconds(5)));
    assert_eq!(plan.on_failure, OnFailure::Stable);
    assert_eq!(plan.default.as_deref(), Some(&br#"{"score":0.2}"#[..]));
    assert_eq!(plan.labels.request_id, Source::Json("/request_id".to_owned()));
    assert_eq!(
        (plan.labels.value.as_str(), plan.labels.observed_at.as_deref()),
        ("/label", Some("/observed_at"))
    );
    assert_eq!(plan.topics.of_version(&Version::new("v2")), "flights.v2.requests");
}

#[test]
fn a_model_needs_little() {
    let plan = model(
        r#"{"apiVersion": "serinus/v1", "kind": "Model", "metadata": {"name": "m"},
	"spec": {"stable": "v1", "timeout": "2s", "topics": {"deadLetters": "lost"}}}"#,
    );
    assert_eq!((plan.unit, plan.request_id), (Source::Key, None));
    assert_eq!(plan.shadow_timeout, Span::seconds(20));
    assert_eq!((plan.open_cases_max, plan.partitions), (100_000, 8));
    assert_eq!(
        (plan.topics.dead_letters.as_str(), plan.topics.requests.as_str()),
        ("lost", "m.requests")
    );
}

#[test]
fn a_canary_is_read_as_meant() {
    let plan = rollout(CANARY);
    assert_eq!(plan.strategy, StrategyKind::Canary);
    assert_eq!(plan.candidates, [Version::new("v2")]);
    let v2 = Version::new("v2");
    let shares: Vec<Share> = plan.stages.iter().map(|s| s.share_of(&v2)).collect();
    assert_eq!(shares, [percent(0), percent(5), percent(25), percent(50)]);
    assert_eq!(plan.stages[0].shadows, [(v2, Share::ALL)]);
    assert_eq!(plan.stages[0].exposures_min, 2000);
    let approvals: Vec<bool> = plan.stages.iter().map(|s| s.approve).collect();
    assert_eq!(approvals, [false, false, true, false]);
    assert_eq!(plan.slices(StageIndex(1))[0].width, percent(50));
    let [brier, errors, latency] = &plan.metrics[..] else { panic!("there are three metrics") };
    assert_eq!((brier.role, brier.direction), (MetricRole::Goal, Direction::Lower));
    assert_eq!((brier.margin, brier.range), (Margin::Absolute(0.01), (0.0, 1.0)));
    assert_eq!((errors.margin, errors.mde), (Margin::Absolute(0.005), 0.005));
    assert_eq!((latency.margin, latency.mde), (Margin::Relative(0.2), 0.2));
    assert!(plan.metrics.iter().all(|m| m.aborts));
    assert_eq!((plan.maturity, plan.keep), (Span::seconds(21_600), Span::seconds(21_600)));
    assert_eq!(plan.decide.promote, PromoteWhen::NonInferior);
    assert_eq!(plan.decide.by, Some(Span::seconds(14 * 86_400)));
    assert_eq!((plan.decide.min_labelled, plan.decide.min_coverage), (30, 0.95));
    assert_eq!(plan.tick, Span::seconds(60), "a twentieth of 30m, but not over a minute");
}

#[test]
fn the_other_strategies_are_read_as_meant() {
    assert_eq!(rollout(SHADOW).strategy, StrategyKind::Shadow);
    let plan = rollout(AB);
    assert_eq!((plan.strategy, plan.decide.promote), (StrategyKind::Ab, PromoteWhen::Superior));
    assert_eq!(plan.stages[0].shares, [(Version::new("v2"), percent(50))]);
}

#[test]
fn a_shadow_may_leave_its_stage_out() {
    let plan = rollout(
        "{apiVersion: serinus/v1, kind: Rollout, metadata: {name: r}, spec: {model: m, candidates: [v2, v3], \
         strategy: shadow, metrics: [{kind: latency, role: watch}], decide: {inconclusive: hold}}}",
    );
    let copied: Vec<&str> = plan.stages[0].shadows.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(copied, ["v2", "v3"]);
    assert_eq!(
        (plan.maturity, plan.keep, plan.tick),
        (Span::ZERO, Span::seconds(60), Span::seconds(1))
    );
    assert_eq!(plan.decide.inconclusive, WhenInconclusive::Pause);
    assert_eq!(plan.metrics[0].name.as_str(), "latency");
}

#[test]
fn a_plan_does_not_depend_on_how_its_spec_travelled() {
    let several = format!("{MODEL}\n---\n{CANARY}\n---\n{SHADOW}\n---\n{AB}\n---\n{MANY}");
    let documents = documents(&several);
    assert_eq!(documents.len(), 5);
    for document in documents {
        match document {
            Document::Model(plan, written) => {
                let travelled = serde_json::from_str(&written.to_string()).expect("JSON");
                assert_eq!(model_from_json(&travelled).expect("the plan it was"), plan);
            }
            Document::Rollout(plan, written) => {
                let travelled = serde_json::from_str(&written.to_string()).expect("JSON");
                assert_eq!(rollout_from_json(&travelled).expect("the plan it was"), plan);
            }
        }
    }
}

const MANY: &str = "
apiVersion: serinus/v1
kind: Rollout
metadata: {name: many}
spec:
  model: m
  candidates: [z, b]
  strategy: canary
  stages:
    - {share: {b: 0.1, z: 20%}, shadow: {v1: 100%, b: 50%, a: 1%, z: 5%}}
    - {share: {z: 20%, b: 60%}}
  metrics:
    - {kind: value, label: json:/revenue, role: goal, direction: higher, margin: 1, range: [0, 200]}
    - {kind: auc, prediction: json:/p, label: json, role: guardrail, margin: 1%}
    - {kind: recall, prediction: json:/p, label: json, role: watch}
  labels: {maturity: 10s, missing: negative}
";

#[test]
fn many_candidates_keep_the_order_of_the_spec() {
    let plan = rollout(MANY);
    let slices: Vec<_> =
        plan.slices(StageIndex(0)).into_iter().map(|s| (s.version, s.width, s.share)).collect();
    assert_eq!(
        slices,
        [
            (Version::new("z"), percent(20), percent(20)),
            (Version::new("b"), percent(60), percent(10))
        ]
    );
    let copied: Vec<&str> = plan.stages[0].shadows.iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(copied, ["z", "b", "a", "v1"]);
    let aborts: Vec<bool> = plan.metrics.iter().map(|m| m.aborts).collect();
    assert_eq!(aborts, [true, false, false]);
    assert_eq!((plan.metrics[0].base, plan.metrics[0].mde), (100.0, 1.0));
    assert!(plan.decide.min_coverage.abs() < f64::EPSILON, "a missing label is an answer here");
}
