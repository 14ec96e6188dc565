//! Comparable values: every row of the table in docs/statistics.md as an answer, a label and the resulting score.

use std::sync::Arc;

use serde_json::{Value, json};

use serinus_core::domain::case::{AnswerStatus, CaseAnswer};
use serinus_core::domain::routing::Role;
use serinus_core::engine::analyst::score::{Read, Scored, Truth, disagree, labelled, ranked};
use serinus_core::plan::metric::{Direction, Margin, Metric, MetricKind, MetricRole, Unusable};
use serinus_core::plan::metric_kind::Group;

fn metric(kind: MetricKind) -> Metric {
    Metric {
        name: "m".into(),
        kind,
        role: MetricRole::Goal,
        direction: Direction::Lower,
        margin: Margin::Absolute(0.01),
        mde: 0.01,
        prediction: Some("/score".to_owned()),
        label: Some("/late".to_owned()),
        threshold: None,
        positive: None,
        range: (0.0, 1.0),
        base: 0.1,
        centre: 0.1,
        tolerance: 0.0,
        ignore: vec!["/at".to_owned()],
        twin: None,
        segment: None,
        aborts: true,
        unusable: Unusable::Bounds,
    }
}

fn answer(bytes: &str) -> CaseAnswer {
    CaseAnswer {
        version: "v2".into(),
        role: Role::Serve,
        status: AnswerStatus::Ok,
        latency: None,
        value: Some(Arc::from(bytes.as_bytes())),
        error: None,
    }
}

/// Returns the score of an answer and a label, or the reason why there is none.
fn scored(metric: &Metric, answer: &CaseAnswer, truth: Truth<'_>) -> String {
    let read = Read::of(answer);
    let scored = match metric.kind.group() {
        group @ (Group::Table(_) | Group::Ranking) => ranked(metric, &read, truth).map(|t| {
            let score = if group == Group::Ranking { t.score } else { f64::from(t.is_called) };
            if t.is_positive { 100.0 + score } else { score }
        }),
        Group::Labelled(_) | Group::Response(_) | Group::Latency | Group::Agreement => {
            labelled(metric, &read, truth)
        }
    };
    match scored {
        Scored::Value(value) => format!("{:.4}", value + 0.0),
        Scored::Unusable(reason) | Scored::BadLabel(reason) => reason.word().to_owned(),
        Scored::NoAnswer => "no answer".to_owned(),
        Scored::Unlabelled => "no label".to_owned(),
        Scored::NotApplicable => "not scored".to_owned(),
    }
}

fn check(metric: &Metric, score: &str, label: &Value, expected: &str) {
    let answer = answer(&format!("{{\"score\": {score}}}"));
    let label = json!({ "late": label });
    let said = scored(metric, &answer, Truth::Known(&label));
    assert_eq!(said, expected, "{:?} of {score} against {label}", metric.kind);
}

#[test]
fn a_probability_is_scored_against_an_outcome_and_nothing_else() {
    let brier =
        |score, label: Value, expected| check(&metric(MetricKind::Brier), score, &label, expected);
    brier("0.7", json!(1), "0.0900");
    brier("0.7", json!(true), "0.0900");
    brier("0.7", json!(false), "0.4900");
    brier("0.5", json!(0.5), "0.0000");
    brier("true", json!(1), "0.0000");
    brier("-0.0", json!(0), "0.0000");
    brier("1.0000000002", json!(1), "0.0000");
    brier("0.7", json!(-1), "label: no outcome");
    brier("0.7", json!(2), "label: no outcome");
    brier("0.7", json!(100), "label: no outcome");
    brier("0.7", json!("1"), "label: not a number");
    brier("0.7", json!("yes"), "label: not a number");
    brier("0.7", json!({"a": 1}), "label: not a number");
    brier("0.7", json!([1]), "label: not a number");
    brier("0.7", Value::Null, "label: null");
    brier("70", json!(1), "outside [0, 1]");
    brier("1.01", json!(1), "outside [0, 1]");
    brier("-0.1", json!(1), "outside [0, 1]");
    brier("NaN", json!(1), "not finite");
    brier("Infinity", json!(1), "not finite");
    brier("-Infinity", json!(1), "not finite");
    brier("1e999", json!(1), "not finite");
    brier("\"nan\"", json!(1), "not a number");
    brier("\"0.7\"", json!(1), "not a number");
    brier("{\"p\": 0.7}", json!(1), "not a number");
    brier("[0.7]", json!(1), "not a number");
    brier("null", json!(1), "null");
    brier("0.7}", json!(1), "not JSON");
    check(&metric(MetricKind::LogLoss), "0.0", &json!(1), "34.5388");
    check(&metric(MetricKind::LogLoss), "0.5", &json!(-1), "label: no outcome");
}

#[test]
fn what_stands_elsewhere_or_nowhere_is_named() {
    let brier = metric(MetricKind::Brier);
    let known = json!({"late": 1});
    let said = |bytes: &str, truth| scored(&brier, &answer(bytes), truth);
    assert_eq!(said("{}", Truth::Known(&known)), "nothing at the pointer");
    assert_eq!(said("", Truth::Known(&known)), "not JSON");
    assert_eq!(said("{\"score\": 0.7, \"more\": NaN}", Truth::Known(&known)), "not finite");
    assert_eq!(said("{\"score\": 0.7, \"more\": 1e999}", Truth::Known(&known)), "0.0900");
    let label = json!({"early": 1});
    assert_eq!(said("{\"score\": 0.7}", Truth::Known(&label)), "label: nothing at the pointer");
    assert_eq!(said("{\"score\": 0.7}", Truth::Negative), "0.4900");
    assert_eq!(said("{\"score\": 0.7}", Truth::Unknown), "no label");
    let mut failed = answer("{\"score\": 0.7}");
    failed.status = AnswerStatus::Late;
    assert_eq!(scored(&brier, &failed, Truth::Known(&known)), "no answer");
    assert_eq!(scored(&brier, &failed, Truth::Known(&label)), "label: nothing at the pointer");
}

#[test]
fn classes_and_scores_are_right_or_wrong_or_not_comparable() {
    let accuracy = |score, label: Value, expected| {
        check(&metric(MetricKind::Accuracy), score, &label, expected);
    };
    accuracy("0.7", json!(1), "1.0000");
    accuracy("0.5", json!(1), "1.0000");
    accuracy("0.2", json!(true), "0.0000");
    accuracy("1", json!(1), "1.0000");
    accuracy("\"1\"", json!(1), "1.0000");
    accuracy("\"1.0\"", json!(1), "1.0000");
    accuracy("\"true\"", json!(true), "1.0000");
    accuracy("1", json!(true), "1.0000");
    accuracy("3", json!(3), "1.0000");
    accuracy("2", json!(3), "0.0000");
    accuracy("\"very\"", json!("very"), "1.0000");
    accuracy("\"very\"", json!("hardly"), "0.0000");
    accuracy("9007199254740993", json!(9_007_199_254_740_992_u64), "0.0000");
    accuracy("0.7", json!(-1), "label: no outcome");
    accuracy("0.7", json!(2), "label: no outcome");
    accuracy("85.5", json!(1), "outside [0, 1]");
    accuracy("\"very\"", json!(1), "not comparable with the label");
    accuracy("1", json!("very"), "not comparable with the label");
    accuracy("0.7", json!("very"), "not comparable with the label");
    accuracy("2", json!(true), "not comparable with the label");
    accuracy("[1]", json!(1), "not a class");
    accuracy("1", json!([1]), "label: not a class");
    accuracy("1", json!(1.234_567_890_123_456_8e22), "label: too many digits");
    accuracy("null", json!(1), "null");
    accuracy("NaN", json!(1), "not finite");
    check(&metric(MetricKind::ErrorRate), "0.2", &json!(1), "1.0000");
    check(&metric(MetricKind::ErrorRate), "\"1\"", &json!(1), "0.0000");
}

#[test]
fn a_threshold_holds_for_every_kind_that_takes_one() {
    for kind in [MetricKind::Accuracy, MetricKind::Precision] {
        let metric = Metric { threshold: Some(50.0), ..metric(kind) };
        let right = if kind == MetricKind::Accuracy { "1.0000" } else { "101.0000" };
        check(&metric, "85.5", &json!(1), right);
        check(&metric, "85", &json!(1), right);
        check(&metric, "50", &json!(true), right);
        check(&metric, "85", &json!(-1), "label: no outcome");
        check(&metric, "\"85\"", &json!(1), "not a number");
    }
    let accuracy = Metric { threshold: Some(50.0), ..metric(MetricKind::Accuracy) };
    check(&accuracy, "1", &json!(1), "0.0000");
    check(&accuracy, "49.9", &json!(0), "1.0000");
    for kind in [MetricKind::Precision, MetricKind::Recall, MetricKind::F1] {
        check(&metric(kind), "0.7", &json!(1), "101.0000");
        check(&metric(kind), "0.2", &json!(0), "0.0000");
        check(&metric(kind), "85", &json!(1), "outside [0, 1]");
        check(&metric(kind), "0.7", &json!(-1), "label: no outcome");
    }
    for score in ["-3.5", "85", "0.004"] {
        let expected = format!("{:.4}", 100.0 + score.parse::<f64>().expect("a number"));
        check(&metric(MetricKind::Auc), score, &json!(1), &expected);
    }
    check(&metric(MetricKind::Auc), "0.7", &json!(-1), "label: no outcome");
    check(&metric(MetricKind::Auc), "1e999", &json!(1), "not finite");
}

#[test]
fn a_declared_positive_makes_outcomes_of_labels() {
    let positive = |kind, positive: Value| Metric { positive: Some(positive), ..metric(kind) };
    let brier = |it, label: Value, expected| {
        check(&positive(MetricKind::Brier, it), "0.7", &label, expected);
    };
    brier(json!(1), json!(1), "0.0900");
    brier(json!(1), json!(-1), "0.4900");
    brier(json!(2), json!(1), "0.4900");
    brier(json!(100), json!(100), "0.0900");
    brier(json!("yes"), json!("yes"), "0.0900");
    brier(json!("yes"), json!("no"), "0.4900");
    brier(json!(true), json!("true"), "0.0900");
    brier(json!("yes"), json!(1), "label: no outcome");
    brier(json!("yes"), Value::Null, "label: null");
    brier(json!(1), json!({"a": 1}), "label: not a class");
    let accuracy = positive(MetricKind::Accuracy, json!("yes"));
    check(&accuracy, "0.7", &json!("yes"), "1.0000");
    check(&accuracy, "\"yes\"", &json!("yes"), "1.0000");
    check(&accuracy, "\"no\"", &json!("yes"), "0.0000");
    let accuracy = positive(MetricKind::Accuracy, json!(2));
    check(&accuracy, "0.7", &json!(1), "0.0000");
    check(&accuracy, "2", &json!(2), "outside [0, 1]");
    check(&accuracy, "\"two\"", &json!(2), "not comparable with the label");
    let missing = scored(&accuracy, &answer("{\"score\": 0.2}"), Truth::Negative);
    assert_eq!(missing, "1.0000", "a missing label that counts as negative is not a positive");
}

#[test]
fn numbers_are_scored_against_numbers() {
    check(&metric(MetricKind::AbsoluteError), "3.5", &json!(1), "2.5000");
    check(&metric(MetricKind::SquaredError), "3.0", &json!(1), "4.0000");
    check(&metric(MetricKind::SquaredError), "3.0", &json!("1"), "label: not a number");
    check(&metric(MetricKind::SquaredError), "\"3\"", &json!(1), "not a number");
    check(&metric(MetricKind::AbsoluteError), "1e999", &json!(1), "not finite");
    check(&metric(MetricKind::Value), "0.1", &json!(3), "3.0000");
    check(&metric(MetricKind::Value), "0.1", &json!("3"), "label: not a number");
    let of_answer = Metric { label: None, ..metric(MetricKind::Value) };
    check(&of_answer, "3.5", &json!(1), "3.5000");
    check(&of_answer, "\"3.5\"", &json!(1), "not a number");
    let mut copy = answer("{\"score\": 3.5}");
    copy.role = Role::Shadow;
    let label = json!({"late": 1});
    let said = scored(&metric(MetricKind::Value), &copy, Truth::Known(&label));
    assert_eq!(said, "not scored", "a copy changed nothing in the world");
    let huge = labelled(
        &metric(MetricKind::SquaredError),
        &Read::of(&answer("{\"score\": 1e200}")),
        Truth::Known(&label),
    );
    assert_eq!(huge, Scored::Value(f64::MAX), "the range clips what a float cannot hold");
}

#[test]
fn answers_agree_within_the_tolerance() {
    let check = |ours: &str, theirs: &str, tolerance: f64, expected: bool| {
        let metric = Metric { prediction: None, tolerance, ..metric(MetricKind::Disagreement) };
        let (ours, theirs) = (answer(ours), answer(theirs));
        assert_eq!(
            disagree(&metric, &Read::of(&ours), &Read::of(&theirs)),
            Some(expected),
            "{ours:?} {theirs:?}"
        );
    };
    check(r#"{"score": 0.1}"#, r#"{"score": 0.105}"#, 0.01, false);
    check(r#"{"score": 0.1}"#, r#"{"score": 0.12}"#, 0.01, true);
    check(r#"{"score": 0.1, "at": 1}"#, r#"{"score": 0.1, "at": 2}"#, 0.0, false);
    check(r#"{"score": 0.1}"#, r#"{"score": 0.1, "more": 2}"#, 0.0, true);
    check("[1, 2]", "[1]", 0.0, true);
    check("9007199254740993", "9007199254740992", 0.0, true);
    check("[18446744073709551616]", "[18446744073709551617]", 0.0, true);
    check("1", "1.0", 0.0, false);
    check("1", "\"1\"", 0.0, true);
    check("{\"score\": NaN}", "{\"score\": NaN}", 0.0, false);
    check("{\"score\": NaN}", "{\"score\":NaN}", 0.0, true);
    check("{\"score\": NaN}", "{\"score\": 1}", 0.0, true);
    check("1e999", "1e999", 0.0, false);
}

#[test]
fn an_answer_that_is_not_there_is_not_compared() {
    let mut failed = answer("{\"score\": 0.1}");
    failed.status = AnswerStatus::Error;
    let whole = answer("{\"score\": 0.1}");
    let metric = metric(MetricKind::Disagreement);
    assert_eq!(disagree(&metric, &Read::of(&failed), &Read::of(&whole)), None);
    assert_eq!(labelled(&metric, &Read::of(&failed), Truth::Negative), Scored::NotApplicable);
}
