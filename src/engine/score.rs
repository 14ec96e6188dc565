//! What one answer is worth, given the truth: one number a metric, or none.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::case::{AnswerStatus, CaseAnswer};
use crate::domain::routing::Role;
use crate::strategy::metric::{Metric, MetricKind};

/// What is known of the truth when a case is scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Truth<'a> {
    /// The label's value.
    Known(&'a Value),
    /// There is no label, and that means: it did not happen.
    Negative,
    /// There is no label, and that means nothing.
    Unknown,
}

/// An answer with its value read once.
#[derive(Clone, Debug)]
pub struct Read<'a> {
    /// The answer.
    pub answer: &'a CaseAnswer,
    /// Its value as JSON, where it is JSON.
    pub json: Option<Value>,
}

impl<'a> Read<'a> {
    /// Reads an answer.
    pub fn of(answer: &'a CaseAnswer) -> Self {
        let json = match answer.status {
            AnswerStatus::Ok => {
                answer.value.as_deref().and_then(|it| std::str::from_utf8(it).ok()?.parse().ok())
            }
            AnswerStatus::Error | AnswerStatus::Late | AnswerStatus::Timeout => None,
        };
        Self { answer, json }
    }
}

/// One point of a ranking metric, or one cell of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// How likely the answer called it.
    pub score: f64,
    /// Whether it was called positive.
    pub is_called: bool,
    /// Whether it is.
    pub is_positive: bool,
}

impl Ranked {
    /// Returns by how much the case moves the metric's value, up to a factor; 0 on average where the value is `base`.
    ///
    /// For the area under the curve it is the residual of the score, which is alike within a unit where ranks are.
    pub fn influence(&self, metric: &Metric, base: f64) -> f64 {
        let (called, is) = (f64::from(self.is_called), f64::from(self.is_positive));
        match metric.kind {
            MetricKind::Precision => called * (is - base),
            MetricKind::Recall => is * (called - base),
            MetricKind::F1 => 2.0 * called * is - base * (called + is),
            MetricKind::Auc
            | MetricKind::Accuracy
            | MetricKind::ErrorRate
            | MetricKind::LogLoss
            | MetricKind::Brier
            | MetricKind::SquaredError
            | MetricKind::AbsoluteError
            | MetricKind::Value
            | MetricKind::ResponseError
            | MetricKind::Timeout
            | MetricKind::Latency
            | MetricKind::Disagreement => {
                let (low, high) = metric.range;
                (self.score - low) / (high - low) - is
            }
        }
    }
}

/// Returns what an answer scores in a metric that waits for labels, unclipped.
pub fn labelled(metric: &Metric, read: &Read<'_>, truth: Truth<'_>) -> Option<f64> {
    let score = match metric.kind {
        MetricKind::Accuracy => f64::from(is_right(metric, read, truth)?),
        MetricKind::ErrorRate => f64::from(!is_right(metric, read, truth)?),
        MetricKind::LogLoss => {
            let p = probability(metric, read)?.clamp(1e-15, 1.0 - 1e-15);
            let y = outcome(metric, truth)?;
            -(y * p.ln() + (1.0 - y) * (1.0 - p).ln())
        }
        MetricKind::Brier => {
            let off = probability(metric, read)? - outcome(metric, truth)?;
            off * off
        }
        MetricKind::SquaredError => {
            let off = number(prediction(metric, read)?)? - truth_number(metric, truth)?;
            off * off
        }
        MetricKind::AbsoluteError => {
            (number(prediction(metric, read)?)? - truth_number(metric, truth)?).abs()
        }
        MetricKind::Value => value(metric, read, truth)?,
        MetricKind::Precision
        | MetricKind::Recall
        | MetricKind::F1
        | MetricKind::Auc
        | MetricKind::ResponseError
        | MetricKind::Timeout
        | MetricKind::Latency
        | MetricKind::Disagreement => return None,
    };
    score.is_finite().then_some(score)
}

/// Returns where an answer stands among positives and negatives, for rankings and two-by-two tables.
pub fn ranked(metric: &Metric, read: &Read<'_>, truth: Truth<'_>) -> Option<Ranked> {
    let score = number(prediction(metric, read)?)?;
    let is_positive = outcome(metric, truth)? >= 0.5;
    score.is_finite().then_some(Ranked { score, is_called: score >= metric.threshold, is_positive })
}

/// Returns what a response scores by itself: 1 for what went wrong, 0 for what went well.
pub fn response(kind: MetricKind, status: AnswerStatus) -> Option<bool> {
    match kind {
        MetricKind::ResponseError => Some(match status {
            AnswerStatus::Ok => false,
            AnswerStatus::Error | AnswerStatus::Late | AnswerStatus::Timeout => true,
        }),
        MetricKind::Timeout => Some(match status {
            AnswerStatus::Ok | AnswerStatus::Error => false,
            AnswerStatus::Late | AnswerStatus::Timeout => true,
        }),
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
        | MetricKind::Auc
        | MetricKind::Latency
        | MetricKind::Disagreement => None,
    }
}

/// Returns whether two answers differ, or nothing unless both are there.
///
/// Numbers within the tolerance agree, ignored pointers are not looked at, and bytes that are not JSON are compared as they are.
pub fn disagree(metric: &Metric, candidate: &Read<'_>, stable: &Read<'_>) -> Option<bool> {
    if candidate.answer.status != AnswerStatus::Ok || stable.answer.status != AnswerStatus::Ok {
        return None;
    }
    match (&candidate.json, &stable.json) {
        (Some(ours), Some(theirs)) => {
            let pointer = metric.prediction.as_deref().unwrap_or("");
            let (ours, theirs) = (ours.pointer(pointer), theirs.pointer(pointer));
            let ignored = metric.ignore.iter().map(String::as_str).collect();
            Some(!agree(ours, theirs, metric.tolerance, &ignored, pointer))
        }
        (_, _) => Some(candidate.answer.value != stable.answer.value),
    }
}

fn agree(
    ours: Option<&Value>,
    theirs: Option<&Value>,
    tolerance: f64,
    ignored: &BTreeSet<&str>,
    at: &str,
) -> bool {
    if ignored.contains(at) {
        return true;
    }
    match (ours, theirs) {
        (None, None) => true,
        (Some(Value::Object(ours)), Some(Value::Object(theirs))) => {
            let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            keys.into_iter().all(|key| {
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                agree(ours.get(key), theirs.get(key), tolerance, ignored, &at)
            })
        }
        (Some(Value::Array(ours)), Some(Value::Array(theirs))) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).enumerate().all(|(index, (ours, theirs))| {
                    agree(Some(ours), Some(theirs), tolerance, ignored, &format!("{at}/{index}"))
                })
        }
        (Some(Value::Number(ours)), Some(Value::Number(theirs))) => {
            match (ours.as_f64(), theirs.as_f64()) {
                (Some(x), Some(y)) => (x - y).abs() <= tolerance,
                (_, _) => ours == theirs,
            }
        }
        (ours, theirs) => ours == theirs,
    }
}

fn prediction<'a>(metric: &Metric, read: &'a Read<'_>) -> Option<&'a Value> {
    read.json.as_ref()?.pointer(metric.prediction.as_deref().unwrap_or(""))
}

fn probability(metric: &Metric, read: &Read<'_>) -> Option<f64> {
    number(prediction(metric, read)?).filter(|it| (0.0..=1.0).contains(it))
}

fn truth_value<'a>(metric: &Metric, truth: Truth<'a>) -> Option<&'a Value> {
    const NOTHING: &Value = &Value::Bool(false);
    match truth {
        Truth::Known(value) => value.pointer(metric.label.as_deref().unwrap_or("")),
        Truth::Negative => Some(NOTHING),
        Truth::Unknown => None,
    }
}

fn truth_number(metric: &Metric, truth: Truth<'_>) -> Option<f64> {
    number(truth_value(metric, truth)?)
}

/// Returns 1 where it happened, else 0; a number in between is a probability of its own.
fn outcome(metric: &Metric, truth: Truth<'_>) -> Option<f64> {
    truth_number(metric, truth).filter(|it| (0.0..=1.0).contains(it))
}

/// A score against a yes-or-no label is right on the same side of the threshold; anything else is right when it is equal.
fn is_right(metric: &Metric, read: &Read<'_>, truth: Truth<'_>) -> Option<bool> {
    let prediction = prediction(metric, read)?;
    let truth = truth_value(metric, truth)?;
    match (prediction, number(prediction), number(truth)) {
        (Value::Number(_), Some(score), Some(y))
            if (0.0..=1.0).contains(&y) && (0.0..=1.0).contains(&score) =>
        {
            Some((score >= metric.threshold) == (y >= 0.5))
        }
        (_, Some(x), Some(y)) => Some((x - y).abs() <= f64::EPSILON),
        (_, _, _) if prediction.is_null() || truth.is_null() => None,
        (_, _, _) => Some(prediction == truth),
    }
}

/// A value out of the label belongs to the version that was chosen, even where another answered in its place; one out of the
/// answer to whoever gave it.
fn value(metric: &Metric, read: &Read<'_>, truth: Truth<'_>) -> Option<f64> {
    if metric.label.is_none() {
        return number(prediction(metric, read)?);
    }
    match read.answer.role {
        Role::Serve => truth_number(metric, truth),
        Role::Shadow => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(yes) => Some(f64::from(*yes)),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::{Read, Truth, disagree, labelled};
    use crate::domain::case::{AnswerStatus, CaseAnswer};
    use crate::domain::routing::Role;
    use crate::strategy::metric::{Direction, Margin, Metric, MetricKind, MetricRole};

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
            threshold: 0.5,
            range: (0.0, 1.0),
            base: 0.1,
            tolerance: 0.01,
            ignore: vec!["/at".to_owned()],
            twin: None,
            segment: None,
            aborts: true,
        }
    }

    fn answer(value: &Value) -> CaseAnswer {
        CaseAnswer {
            version: "v2".into(),
            role: Role::Serve,
            status: AnswerStatus::Ok,
            latency: None,
            value: Some(Arc::from(value.to_string().into_bytes())),
            error: None,
        }
    }

    #[test]
    fn answers_score_against_the_truth() {
        let check = |kind, value: Value, truth: Truth<'_>, expected: Option<f64>| {
            let answer = answer(&value);
            let score = labelled(&metric(kind), &Read::of(&answer), truth);
            assert_eq!(
                score.map(|it| format!("{it:.4}")),
                expected.map(|it| format!("{it:.4}")),
                "{kind:?} of {value}"
            );
        };
        let late = json!({"late": 1});
        let known = Truth::Known(&late);
        check(MetricKind::Accuracy, json!({"score": 0.7}), known, Some(1.0));
        check(MetricKind::Accuracy, json!({"score": 0.5}), known, Some(1.0));
        check(MetricKind::ErrorRate, json!({"score": 0.2}), known, Some(1.0));
        check(MetricKind::Brier, json!({"score": 0.7}), known, Some(0.09));
        check(MetricKind::Brier, json!({"score": 0.7}), Truth::Negative, Some(0.49));
        check(MetricKind::Brier, json!({"score": 0.7}), Truth::Unknown, None);
        check(MetricKind::Brier, json!({"score": 1.7}), known, None);
        check(MetricKind::Brier, json!({"score": "high"}), known, None);
        check(MetricKind::Brier, json!({}), known, None);
        check(MetricKind::LogLoss, json!({"score": 0.0}), known, Some(34.5388));
        check(MetricKind::AbsoluteError, json!({"score": 3.5}), known, Some(2.5));
        check(MetricKind::SquaredError, json!({"score": 3.0}), known, Some(4.0));
        check(MetricKind::Value, json!({"score": 3.0}), known, Some(1.0));
        let class = json!({"late": "very"});
        check(MetricKind::Accuracy, json!({"score": "very"}), Truth::Known(&class), Some(1.0));
        let class = json!({"late": 3});
        check(MetricKind::Accuracy, json!({"score": 3}), Truth::Known(&class), Some(1.0));
        check(MetricKind::Accuracy, json!({"score": 2}), Truth::Known(&class), Some(0.0));
        check(MetricKind::Accuracy, json!({"score": 2}), known, Some(0.0));
        let nothing = json!({"late": null});
        check(MetricKind::Accuracy, json!({"score": 2}), Truth::Known(&nothing), None);
    }

    #[test]
    fn answers_agree_within_the_tolerance() {
        let check = |ours: Value, theirs: Value, expected: bool| {
            let mut metric = metric(MetricKind::Disagreement);
            metric.prediction = None;
            let (ours, theirs) = (answer(&ours), answer(&theirs));
            assert_eq!(
                disagree(&metric, &Read::of(&ours), &Read::of(&theirs)),
                Some(expected),
                "{ours:?} {theirs:?}"
            );
        };
        check(json!({"score": 0.1}), json!({"score": 0.105}), false);
        check(json!({"score": 0.1}), json!({"score": 0.12}), true);
        check(json!({"score": 0.1, "at": 1}), json!({"score": 0.1, "at": 2}), false);
        check(json!({"score": 0.1}), json!({"score": 0.1, "more": 2}), true);
        check(json!([1, 2]), json!([1]), true);
    }

    #[test]
    fn an_answer_that_is_not_there_is_not_compared() {
        let mut failed = answer(&json!({"score": 0.1}));
        failed.status = AnswerStatus::Error;
        let whole = answer(&json!({"score": 0.1}));
        let metric = metric(MetricKind::Disagreement);
        assert_eq!(disagree(&metric, &Read::of(&failed), &Read::of(&whole)), None);
        assert_eq!(labelled(&metric, &Read::of(&failed), Truth::Negative), None);
    }
}
