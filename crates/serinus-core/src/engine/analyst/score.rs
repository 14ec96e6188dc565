//! The score of one answer, given the truth: one number per metric, or the reason why there is none.
//!
//! The rules of each metric kind are here; docs/statistics.md has them as a table.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::case::{AnswerStatus, CaseAnswer, Prediction};
use crate::domain::routing::Role;
use crate::engine::analyst::class::{self, Class};
use crate::engine::analyst::document::{Document, Node};
use crate::evidence::unscored::Reason;
use crate::plan::metric::Metric;
use crate::plan::metric_kind::{Cells, Group, Labelled, Response};

/// How far outside of [0, 1] rounding may leave a probability: sums of 32-bit floats are off by less.
const ROUNDING: f64 = 1e-6;

/// The ground truth of a case at the time of scoring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Truth<'a> {
    /// The label's value.
    Known(&'a Value),
    /// There is no label, which counts as a negative.
    Negative,
    /// There is no label, and the case is not counted.
    Unknown,
}

/// An answer with its value, parsed once.
#[derive(Clone, Debug)]
pub struct Read<'a> {
    /// The answer.
    pub answer: &'a CaseAnswer,
    /// The parsed value.
    pub document: Document<'a>,
}

impl<'a> Read<'a> {
    /// Reads an answer.
    pub fn of(answer: &'a CaseAnswer) -> Self {
        let document = match (answer.status, answer.value.as_deref()) {
            (AnswerStatus::Ok, Some(bytes)) => Document::of(bytes),
            (AnswerStatus::Ok, None)
            | (AnswerStatus::Error | AnswerStatus::Late | AnswerStatus::Timeout, _) => {
                Document::Other
            }
        };
        Self { answer, document }
    }
}

/// The answers of a case, each read once, when a metric first needs it.
#[derive(Debug)]
pub struct Reads<'a> {
    /// The case.
    pub case: &'a Prediction,
    answers: OnceCell<Vec<Read<'a>>>,
}

impl<'a> Reads<'a> {
    /// Returns the answers of a case, none of them read yet.
    pub fn of(case: &'a Prediction) -> Self {
        Self { case, answers: OnceCell::new() }
    }

    /// Returns all answers.
    pub fn all(&self) -> &[Read<'a>] {
        self.answers.get_or_init(|| self.case.answers.iter().map(Read::of).collect())
    }
}

/// One point of a ranking metric, or one cell of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The predicted score.
    pub score: f64,
    /// Whether the prediction is positive.
    pub is_called: bool,
    /// Whether the case is positive.
    pub is_positive: bool,
}

impl Ranked {
    /// Returns the influence of the case on the metric, up to a factor; its mean is 0 if the metric's value is `base`.
    ///
    /// For the area under the curve it is the residual of the score, which is correlated within a unit if the ranks are.
    pub fn influence(&self, metric: &Metric, base: f64) -> f64 {
        let (called, is) = (f64::from(self.is_called), f64::from(self.is_positive));
        match metric.kind.group() {
            Group::Table(Cells::Precision) => called * (is - base),
            Group::Table(Cells::Recall) => is * (called - base),
            Group::Table(Cells::F1) => 2.0 * called * is - base * (called + is),
            Group::Ranking
            | Group::Labelled(_)
            | Group::Response(_)
            | Group::Latency
            | Group::Agreement => {
                // Ranks have no scale: a score that is no probability is brought into [0, 1].
                let is_probability = (0.0..=1.0).contains(&self.score);
                let place =
                    if is_probability { self.score } else { 1.0 / (1.0 + (-self.score).exp()) };
                place - is
            }
        }
    }
}

/// The score of one answer in a metric, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scored<T> {
    /// It has this value.
    Value(T),
    /// The version did not answer, answered too late, or returned an error.
    NoAnswer,
    /// The version answered, and its answer cannot be scored.
    Unusable(Reason),
    /// The label cannot be scored, regardless of the answer.
    BadLabel(Reason),
    /// There is no label.
    Unlabelled,
    /// The metric does not score this answer: it is of another kind, or the label's number belongs to another version.
    NotApplicable,
}

impl<T> Scored<T> {
    /// Returns the value, if any.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::NoAnswer
            | Self::Unusable(_)
            | Self::BadLabel(_)
            | Self::Unlabelled
            | Self::NotApplicable => None,
        }
    }

    /// Returns why there is no value, if there are both an answer and a label.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Unusable(reason) | Self::BadLabel(reason) => Some(*reason),
            Self::Value(_) | Self::NoAnswer | Self::Unlabelled | Self::NotApplicable => None,
        }
    }

    /// Scores further with the value.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> Scored<U>) -> Scored<U> {
        match self {
            Self::Value(value) => next(value),
            Self::NoAnswer => Scored::NoAnswer,
            Self::Unusable(reason) => Scored::Unusable(reason),
            Self::BadLabel(reason) => Scored::BadLabel(reason),
            Self::Unlabelled => Scored::Unlabelled,
            Self::NotApplicable => Scored::NotApplicable,
        }
    }

    /// Changes the value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Scored<U> {
        self.and_then(|value| Scored::Value(change(value)))
    }
}

/// Returns the unclipped score of an answer in a metric that is a mean over cases.
///
/// A label that cannot be scored is reported before the answer, because it excludes the case for every version.
pub fn labelled(metric: &Metric, read: &Read<'_>, truth: Truth<'_>) -> Scored<f64> {
    let Group::Labelled(kind) = metric.kind.group() else { return Scored::NotApplicable };
    match kind {
        Labelled::Accuracy => is_right(metric, read, truth).map(f64::from),
        Labelled::ErrorRate => is_right(metric, read, truth).map(|is| f64::from(!is)),
        Labelled::LogLoss => of_probability(metric, read, truth, |p, y| {
            let p = p.clamp(1e-15, 1.0 - 1e-15);
            -(y * p.ln() + (1.0 - y) * (1.0 - p).ln())
        }),
        Labelled::Brier => of_probability(metric, read, truth, |p, y| (p - y) * (p - y)),
        Labelled::SquaredError => of_numbers(metric, read, truth, |x, y| (x - y) * (x - y)),
        Labelled::AbsoluteError => of_numbers(metric, read, truth, |x, y| (x - y).abs()),
        Labelled::Value => value(metric, read, truth),
    }
}

/// Returns the score and the classes of an answer, for ranking metrics and two-by-two tables.
pub fn ranked(metric: &Metric, read: &Read<'_>, truth: Truth<'_>) -> Scored<Ranked> {
    outcome(metric, truth).and_then(|y| {
        prediction(metric, read).and_then(|node| {
            let is_positive = y >= 0.5;
            if metric.kind.group() == Group::Ranking {
                return number(node).map(|score| Ranked { score, is_called: false, is_positive });
            }
            called(metric, node).map(|is_called| Ranked {
                score: f64::from(is_called),
                is_called,
                is_positive,
            })
        })
    })
}

/// Returns whether a case is positive, for ranking metrics and two-by-two tables; `None` if that is unknown.
pub fn is_positive(metric: &Metric, truth: Truth<'_>) -> Option<bool> {
    outcome(metric, truth).value().map(|y| y >= 0.5)
}

/// Returns whether a response went wrong.
pub fn response(kind: Response, status: AnswerStatus) -> bool {
    match (kind, status) {
        (_, AnswerStatus::Ok) | (Response::Timeout, AnswerStatus::Error) => false,
        (Response::Error, AnswerStatus::Error)
        | (_, AnswerStatus::Late | AnswerStatus::Timeout) => true,
    }
}

/// Returns whether two answers differ; `None` if one is missing.
///
/// Numbers within the tolerance agree, ignored pointers are skipped, and bytes that are not JSON are compared byte for byte.
pub fn disagree(metric: &Metric, candidate: &Read<'_>, stable: &Read<'_>) -> Option<bool> {
    if candidate.answer.status != AnswerStatus::Ok || stable.answer.status != AnswerStatus::Ok {
        return None;
    }
    match (&candidate.document, &stable.document) {
        (Document::Json(ours), Document::Json(theirs)) => {
            let pointer = metric.prediction.as_deref().unwrap_or("");
            let (ours, theirs) = (ours.pointer(pointer), theirs.pointer(pointer));
            let ignored = metric.ignore.iter().map(String::as_str).collect();
            Some(!agree(ours, theirs, metric.tolerance, &ignored, pointer))
        }
        (_, _) => Some(candidate.answer.value != stable.answer.value),
    }
}

fn agree(
    ours: Option<&Node<'_>>,
    theirs: Option<&Node<'_>>,
    tolerance: f64,
    ignored: &BTreeSet<&str>,
    at: &str,
) -> bool {
    if ignored.contains(at) {
        return true;
    }
    match (ours, theirs) {
        (None, None) => true,
        (Some(Node::Object(ours)), Some(Node::Object(theirs))) => {
            let keys: BTreeSet<&str> =
                ours.keys().chain(theirs.keys()).map(|name| &**name).collect();
            keys.into_iter().all(|key| {
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                agree(ours.get(key), theirs.get(key), tolerance, ignored, &at)
            })
        }
        (Some(Node::List(ours)), Some(Node::List(theirs))) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).enumerate().all(|(index, (ours, theirs))| {
                    agree(Some(ours), Some(theirs), tolerance, ignored, &format!("{at}/{index}"))
                })
        }
        (Some(Node::Number(ours)), Some(Node::Number(theirs))) => {
            ours.is_within(*theirs, tolerance)
        }
        (ours, theirs) => ours == theirs,
    }
}

/// Returns the prediction of an answer in time; null is not a prediction.
fn prediction<'a>(metric: &Metric, read: &'a Read<'_>) -> Scored<&'a Node<'a>> {
    if read.answer.status != AnswerStatus::Ok {
        return Scored::NoAnswer;
    }
    let root = match &read.document {
        Document::Json(root) => root,
        Document::NotFinite => return Scored::Unusable(Reason::NotFinite),
        Document::Other => return Scored::Unusable(Reason::NotJson),
    };
    match root.pointer(metric.prediction.as_deref().unwrap_or("")) {
        None => Scored::Unusable(Reason::Nothing),
        Some(Node::Null) => Scored::Unusable(Reason::Null),
        Some(node) => Scored::Value(node),
    }
}

/// Returns the number of a prediction; true is 1, false is 0.
fn number(node: &Node<'_>) -> Scored<f64> {
    let number = match node {
        Node::Number(number) => number.float(),
        Node::Bool(is) => f64::from(*is),
        Node::Null | Node::NotFinite | Node::Text(_) | Node::List(_) | Node::Object(_) => {
            return Scored::Unusable(Reason::NotNumber);
        }
    };
    if number.is_finite() { Scored::Value(number) } else { Scored::Unusable(Reason::NotFinite) }
}

/// Returns a number as a probability; one that rounding left outside of [0, 1] is clipped.
fn unit(number: f64) -> Scored<f64> {
    if (-ROUNDING..=1.0 + ROUNDING).contains(&number) {
        Scored::Value(number.clamp(0.0, 1.0))
    } else {
        Scored::Unusable(Reason::OutsideUnit)
    }
}

/// Returns whether the prediction is positive: by the threshold if one is given, otherwise by the larger probability.
fn called(metric: &Metric, node: &Node<'_>) -> Scored<bool> {
    if let (Node::Text(_), Some(positive)) = (node, &metric.positive) {
        let same = Class::predicted(node)
            .zip(Class::labelled(positive))
            .and_then(|(ours, positive)| ours.is_same(&positive));
        return same.map_or(Scored::Unusable(Reason::NotComparable), Scored::Value);
    }
    match metric.threshold {
        Some(threshold) => number(node).map(|score| score >= threshold),
        None => number(node).and_then(unit).map(|probability| probability >= 0.5),
    }
}

/// Returns the label's value for a metric; null is not a truth.
fn truth_value<'a>(metric: &Metric, truth: Truth<'a>) -> Scored<&'a Value> {
    const NOTHING: &Value = &Value::Bool(false);
    match truth {
        Truth::Known(value) => match value.pointer(metric.label.as_deref().unwrap_or("")) {
            None => Scored::BadLabel(Reason::LabelNothing),
            Some(Value::Null) => Scored::BadLabel(Reason::LabelNull),
            Some(value) => Scored::Value(value),
        },
        Truth::Negative => Scored::Value(NOTHING),
        Truth::Unknown => Scored::Unlabelled,
    }
}

fn truth_number(metric: &Metric, truth: Truth<'_>) -> Scored<f64> {
    truth_value(metric, truth).and_then(|value| match value {
        Value::Number(number) => {
            number.as_f64().map_or(Scored::BadLabel(Reason::LabelNotNumber), Scored::Value)
        }
        Value::Bool(is) => Scored::Value(f64::from(*is)),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Scored::BadLabel(Reason::LabelNotNumber)
        }
    })
}

/// Returns 1 for a positive outcome and 0 for a negative one; a number between them is a probability.
fn outcome(metric: &Metric, truth: Truth<'_>) -> Scored<f64> {
    match (&metric.positive, truth) {
        (Some(positive), Truth::Known(_)) => class(metric, truth).and_then(|class| {
            let same = Class::labelled(positive).and_then(|positive| class.is_same(&positive));
            same.map_or(Scored::BadLabel(Reason::LabelNoOutcome), |is| Scored::Value(f64::from(is)))
        }),
        (Some(_) | None, _) => truth_number(metric, truth).and_then(|y| {
            if (0.0..=1.0).contains(&y) {
                Scored::Value(y)
            } else {
                Scored::BadLabel(Reason::LabelNoOutcome)
            }
        }),
    }
}

/// Returns the labelled class.
fn class<'a>(metric: &Metric, truth: Truth<'a>) -> Scored<Class<'a>> {
    truth_value(metric, truth).and_then(|value| {
        if class::is_too_long(value) {
            return Scored::BadLabel(Reason::LabelTooLong);
        }
        Class::labelled(value).map_or(Scored::BadLabel(Reason::LabelNotClass), Scored::Value)
    })
}

/// A score is right if it is on the same side of the threshold as the outcome; a class is right if it is the labelled one.
///
/// Without a threshold, a fraction is a score and needs an outcome as its label; a text, boolean or whole number is a class.
fn is_right(metric: &Metric, read: &Read<'_>, truth: Truth<'_>) -> Scored<bool> {
    if metric.threshold.is_some() || metric.positive.is_some() {
        return outcome(metric, truth).and_then(|y| {
            let called = prediction(metric, read).and_then(|node| called(metric, node));
            called.map(|is_called| is_called == (y >= 0.5))
        });
    }
    class(metric, truth).and_then(|label| {
        prediction(metric, read).and_then(|node| {
            let predicted = Class::predicted(node);
            predicted
                .map_or(Scored::Unusable(Reason::NotClass), |predicted| compare(&predicted, &label))
        })
    })
}

fn compare(predicted: &Class<'_>, label: &Class<'_>) -> Scored<bool> {
    if !predicted.is_fraction() && !label.is_fraction() {
        let same = predicted.is_same(label);
        return same.map_or(Scored::Unusable(Reason::NotComparable), Scored::Value);
    }
    match (predicted.number(), label.number()) {
        (Some(score), Some(y)) if (0.0..=1.0).contains(&y) => {
            unit(score).map(|score| (score >= 0.5) == (y >= 0.5))
        }
        (Some(_), Some(_)) => Scored::BadLabel(Reason::LabelNoOutcome),
        (_, _) => Scored::Unusable(Reason::NotComparable),
    }
}

fn of_probability(
    metric: &Metric,
    read: &Read<'_>,
    truth: Truth<'_>,
    loss: impl FnOnce(f64, f64) -> f64,
) -> Scored<f64> {
    outcome(metric, truth).and_then(|y| {
        let probability = prediction(metric, read).and_then(number).and_then(unit);
        probability.map(|p| loss(p, y))
    })
}

/// A loss too large for a float is set to the largest float: the range clips it.
fn of_numbers(
    metric: &Metric,
    read: &Read<'_>,
    truth: Truth<'_>,
    loss: impl FnOnce(f64, f64) -> f64,
) -> Scored<f64> {
    truth_number(metric, truth).and_then(|y| {
        let predicted = prediction(metric, read).and_then(number);
        predicted.map(|x| loss(x, y).min(f64::MAX))
    })
}

/// A value from the label belongs to the assigned version, even if another version answered in its place. A value from the
/// answer belongs to the version that answered.
fn value(metric: &Metric, read: &Read<'_>, truth: Truth<'_>) -> Scored<f64> {
    if metric.label.is_none() {
        return prediction(metric, read).and_then(number);
    }
    match read.answer.role {
        Role::Serve => truth_number(metric, truth),
        Role::Shadow => Scored::NotApplicable,
    }
}
