//! Unscorable answers prove a candidate neither better nor worse, for every metric.

use serde_json::{Value, json};

use serinus_core::domain::ids::Version;
use serinus_core::domain::label::Label;
use serinus_core::domain::time::Span;
use serinus_core::engine::judge::command::{Parsed, Verb, Written};
use serinus_core::inference::verdict::{Finding, LogE, Proof};
use serinus_core::spec::plan::{Document, load};

use crate::scenarios::plans::MIDNIGHT;
use crate::statistics::world::{Answer, World};

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
/// The log e-value that rejects at the default alpha.
const BAR: f64 = 2.995_732_273_553_991;

/// The observations of a rollout while it ran.
struct Shown {
    world: World,
    /// The largest log e-values of the first metric over all ticks.
    most: LogE,
    last: Finding,
}

impl Shown {
    /// Returns the judge's own decisions, without the commands that started it.
    fn actions(&self) -> Vec<String> {
        self.world.changes.iter().skip(2).map(|c| c.action.word().to_owned()).collect()
    }

    fn reason(&self) -> &str {
        &self.world.report.as_ref().expect("it was judged").reason
    }
}

/// Runs a rollout with the given cases, ten per second, with the given answers and labels.
fn run(
    spec: &str,
    cases: u64,
    answer: impl Fn(u64, &str) -> Answer,
    label: impl Fn(u64) -> Value,
) -> Shown {
    let mut world = World::new("m", 2);
    for document in load("unusable.yaml", &format!("{MODEL}{spec}")).expect("a spec that loads") {
        let (name, parsed) = match document {
            Document::Model(plan, _) => {
                let document = Value::from("the model");
                (None, Parsed::Model(Box::new(Written { plan, document })))
            }
            Document::Rollout(plan, _) => {
                let document = Value::from("the rollout");
                (Some("r"), Parsed::Rollout(Box::new(Written { plan, document })))
            }
        };
        world.command(Verb::Apply, name, Some(parsed), None);
    }
    let none = f64::NEG_INFINITY;
    let mut most = LogE { harm: none, non_inferior: none, superior: none };
    let mut last = None;
    for case in 0..cases + 200 {
        world.wait_until(MIDNIGHT + Span(i64::try_from(case).expect("few") * 100));
        let id = case.to_string();
        world.case(&id, &id, |version: &Version| answer(case, version.as_str()));
        world.label(Label {
            request_id: id.as_str().into(),
            value: label(case),
            observed_at: world.now,
            version: 1,
            retract: false,
        });
        let Some(finding) = world.report.as_ref().and_then(|r| r.findings.first()) else {
            continue;
        };
        if let Some(log_e) = finding.log_e {
            most.harm = most.harm.max(log_e.harm);
            most.non_inferior = most.non_inferior.max(log_e.non_inferior);
            most.superior = most.superior.max(log_e.superior);
        }
        last = Some(finding.clone());
    }
    Shown { world, most, last: last.expect("it was judged") }
}

fn luck(case: u64, of: u64) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&case.to_le_bytes(), of);
    (hash >> 11) as f64 * f64::exp2(-53.0)
}

const HALF: &str = "spec: {model: m, candidates: [v2], strategy: ab, stages: [{share: 50%}],
  metrics: [{kind: brier, prediction: json:/score, label: json:/late, role: goal, margin: 0.3}],
  labels: {maturity: 10s},
  decide: {tick: 5s}}";

/// Both versions always answer 0.5 and every label is true: Brier is 0.25 for every answer.
fn equal_scores(spec: &str, who: &'static str, leaves_out: impl Fn(u64) -> bool) -> Shown {
    let answer = |case, version: &str| {
        if version == who && leaves_out(case) { Answer::Nothing } else { Answer::Score(0.5) }
    };
    run(spec, 2_600, answer, |_| json!({"late": 1}))
}

#[test]
fn a_candidate_that_leaves_out_a_third_of_its_answers_is_not_better() {
    let shown = equal_scores(HALF, "v2", |case| case % 3 == 0);
    assert_eq!(shown.actions(), [""; 0], "{}", shown.reason());
    assert!(shown.most.superior < BAR && shown.most.harm < BAR, "{:?}", shown.most);
    assert!(shown.last.lost.candidate > 300, "{:?}", shown.last.lost);
    assert_eq!(shown.last.lost.stable, 0);
}

#[test]
fn a_candidate_that_begins_to_leave_out_two_of_three_answers_is_not_better() {
    let shown = equal_scores(HALF, "v2", |case| case > 1_100 && case % 3 > 0);
    assert_eq!(shown.actions(), [""; 0], "{}", shown.reason());
    assert!(shown.most.superior < BAR && shown.most.harm < BAR, "{:?}", shown.most);
}

#[test]
fn a_stable_version_that_leaves_out_answers_makes_the_candidate_no_worse() {
    let shown = equal_scores(HALF, "v1", |case| case % 3 == 0);
    assert_eq!(shown.actions(), [""; 0], "{}", shown.reason());
    assert!(shown.most.superior < BAR && shown.most.harm < BAR, "{:?}", shown.most);
}

#[test]
fn the_interval_contains_whatever_the_answers_left_out_would_have_been() {
    let shown = equal_scores(HALF, "v2", |case| case % 3 == 0);
    let difference = shown.last.difference.expect("there are cases");
    assert!(difference.value.abs() < 1e-9, "the estimate is of the scored cases: {difference:?}");
    // A third of the answers is anywhere between 0 and 1.
    let (lowest, highest) = (0.25 * 2.0 / 3.0 - 0.25, 0.25 * 2.0 / 3.0 + 1.0 / 3.0 - 0.25);
    assert!(difference.low < Some(lowest + 0.02), "{difference:?}");
    assert!(difference.high > Some(highest - 0.02), "{difference:?}");
}

#[test]
fn the_hold_says_that_left_out_answers_are_in_the_way() {
    let spec =
        HALF.replace("margin: 0.3", "margin: 0.02").replace("strategy: ab", "strategy: canary");
    let spec = spec.replace("decide: {", "decide: {promote: non_inferior, ");
    let shown = equal_scores(&spec, "v2", |case| luck(case, 5) < 0.05);
    assert_eq!(shown.actions(), [""; 0], "{}", shown.reason());
    let reason = shown.reason();
    assert!(
        reason.contains(
            "% of v2's answers cannot be scored; brier cannot be proved within 0.02 while they are"
        ),
        "{reason}"
    );
}

/// Each metric with the answers of both versions; v2 leaves out the cases in which v1 does worst.
#[test]
fn leaving_out_the_hard_cases_makes_no_metric_better() {
    let kinds = [
        ("accuracy", "margin: 2%", "50%"),
        ("error_rate", "margin: 2%", "50%"),
        ("brier", "margin: 0.02", "50%"),
        ("log_loss", "margin: 0.2", "50%"),
        ("squared_error", "margin: 0.02, range: [0, 1]", "50%"),
        ("absolute_error", "margin: 0.02, range: [0, 1]", "50%"),
        ("precision", "margin: 2%", "50%"),
        ("recall", "margin: 2%", "50%"),
        ("f1", "margin: 2%", "50%"),
        ("auc", "margin: 2%", "50%"),
    ];
    for (kind, more, share) in kinds {
        for stage in
            [format!("canary, stages: [{{share: {share}, approve: true}}]"), "shadow".to_owned()]
        {
            let spec = format!(
                "spec: {{model: m, candidates: [v2], strategy: {stage},
  metrics: [{{kind: {kind}, prediction: json:/score, label: json:/late, role: goal, {more}}}],
  labels: {{maturity: 10s}},
  decide: {{tick: 5s, promote: non_inferior}}}}"
            );
            let late = |case| luck(case, 1) < 0.5;
            let score = |case| {
                let is_right = luck(case, 2) < 0.8;
                let high = 0.6 + 0.4 * luck(case, 3);
                if is_right == late(case) { high } else { 1.0 - high }
            };
            let is_hard = |case| luck(case, 2) >= 0.9;
            let answer = |case, version: &str| {
                if version == "v2" && is_hard(case) {
                    Answer::Nothing
                } else {
                    Answer::Score(score(case))
                }
            };
            let shown = run(&spec, 3_000, answer, |case| json!({"late": u8::from(late(case))}));
            let what = format!("{kind}, {stage}: {:?}, {}", shown.most, shown.reason());
            assert!(shown.most.superior < BAR && shown.most.harm < BAR, "{what}");
            // If both answer every case, v2 cannot be worse in a case that v1 got wrong.
            let is_split = stage != "shadow";
            assert!(!is_split || shown.most.non_inferior < BAR, "{what}");
            assert!(!is_split || shown.last.proof == Proof::Open, "{what}");
        }
    }
}

#[test]
fn answers_that_do_not_come_are_not_fast_and_do_not_agree() {
    for (metric, limit) in [("disagreement", "5%"), ("latency", "20%")] {
        let spec = format!(
            "spec: {{model: m, candidates: [v2], strategy: shadow,
  metrics: [{{kind: {metric}, role: goal, margin: {limit}}}],
  decide: {{tick: 5s, promote: non_inferior}}}}"
        );
        // Half of v2's answers equal v1's and are much faster; the others never arrive.
        let answer = |case, version: &str| match version {
            "v2" if case % 2 == 0 => Answer::Nothing,
            "v2" => Answer::After(0.5, 5 + i64::try_from(case % 7).expect("small")),
            _ => Answer::After(0.5, 20 + i64::try_from(case % 20).expect("small")),
        };
        let shown = run(&spec, 3_000, answer, |_| json!({"late": 1}));
        let what = format!("{metric}: {:?}, {}", shown.most, shown.reason());
        assert!(shown.most.superior < BAR && shown.most.non_inferior < BAR, "{what}");
        assert!(shown.most.harm < BAR, "{what}");
    }
}

#[test]
fn left_out_cases_count_as_nothing_only_where_the_spec_says_so_and_the_split_is_green() {
    let spec = HALF.replace("margin: 0.3", "margin: 0.3, unusable: exclude");
    let errors = "{kind: response_error, role: guardrail, margin: 90%, abort: false}";
    let spec = spec.replace(
        "margin: 0.3, unusable: exclude}]",
        &format!("margin: 0.3, unusable: exclude}}, {errors}]"),
    );
    let shown = equal_scores(&spec, "v2", |case| case % 3 == 0);
    assert!(shown.last.lost.candidate == 0, "none counts: {:?}", shown.last.lost);
    let reason = shown.reason();
    assert!(reason.contains("units of v2 go missing between assignment and answer"), "{reason}");
    let bounded = spec.replace(", unusable: exclude", "");
    let shown = equal_scores(&bounded, "v2", |case| case % 3 == 0);
    assert!(
        !shown.reason().contains("go missing"),
        "the guardrail on errors says it: {}",
        shown.reason()
    );
}

#[test]
fn labels_that_no_metric_can_use_leave_a_case_out_for_both_versions() {
    let shown = run(
        HALF,
        1_000,
        |_, _| Answer::Score(0.5),
        |case| json!({"late": if case % 2 == 0 { -1 } else { 1 }}),
    );
    assert_eq!((shown.last.lost.candidate, shown.last.lost.stable), (0, 0));
    assert!(shown.last.n < 700, "half of the labels are no outcomes: {}", shown.last.n);
}
