//! An independent scorer: computes every metric of every version from predictions and labels alone.
//!
//! It shares no code with the program. The rules for comparable values are implemented again from the table in docs/statistics.md.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::kit::kafka::{Reader, Record};
use crate::kit::world::World;

/// What a metric computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Brier,
    LogLoss,
    Accuracy,
    ErrorRate,
    SquaredError,
    AbsoluteError,
    Value,
}

/// One metric of the spec.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub name: &'static str,
    pub kind: Kind,
    /// The field of the answer.
    pub prediction: &'static str,
    /// The field of the label.
    pub label: &'static str,
    pub range: (f64, f64),
}

/// Counts of the mature cases of one version in one metric.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Account {
    /// Cases that have a value.
    pub scored: u64,
    /// The sum of the values, clipped to the range.
    pub sum: f64,
    /// Of these, the number of clipped values.
    pub clipped: u64,
    /// Answered, with a valid label, but the answer cannot be scored.
    pub bad_answers: u64,
    /// The label cannot be scored, regardless of the answer.
    pub bad_labels: u64,
    /// The label is valid, but there is no answer in time.
    pub unanswered: u64,
    /// No label in time.
    pub unlabelled: u64,
}

/// The counts of one rollout, by metric and version.
#[derive(Clone, Debug)]
pub struct Scorer {
    rollout: String,
    pub accounts: BTreeMap<(&'static str, String), Account>,
}

/// The score of one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Worth {
    Value(f64),
    BadAnswer,
    BadLabel,
}

#[derive(Deserialize)]
struct Label<'a> {
    #[serde(borrow)]
    request_id: &'a RawValue,
    #[serde(rename = "label")]
    value: Value,
    observed_at: i64,
}

impl Scorer {
    /// Scores the predictions of a rollout. A label counts if it was observed at most `maturity_ms` after its request.
    pub fn score(
        rollout: &str,
        measures: &[Measure],
        maturity_ms: i64,
        predictions: &[Record],
        labels: &[Record],
    ) -> Self {
        let mut truths: BTreeMap<String, (Value, i64)> = BTreeMap::new();
        for record in labels {
            let label: Label<'_> =
                serde_json::from_slice(&record.value).expect("the test's labels are JSON");
            // A numeric id is its digits, regardless of their number.
            let id = label.request_id.get().trim_matches('"').to_owned();
            truths.entry(id).or_insert((label.value, label.observed_at));
        }
        let mut this = Self { rollout: rollout.to_owned(), accounts: BTreeMap::new() };
        for case in predictions.iter().map(Record::json).filter(|j| j["rollout"] == rollout) {
            let id = case["request_id"].as_str().expect("a prediction names its request");
            let time = |field: &str| case[field].as_i64().unwrap_or(i64::MAX);
            let due = time("requested_at").min(time("routed_at")) + maturity_ms;
            let truth = truths.get(id).filter(|(_, at)| *at <= due).map(|(value, _)| value);
            this.take(&case, truth, measures);
        }
        this
    }

    fn take(&mut self, case: &Value, truth: Option<&Value>, measures: &[Measure]) {
        let answers = case["answers"].as_array().into_iter().flatten();
        for answer in answers.filter(|a| a["role"] == "shadow" || a["version"] == case["arm"]) {
            let version = answer["version"].as_str().expect("an answer names its version");
            for measure in measures {
                // Value is earned by the served answer, not by a copy.
                if measure.kind == Kind::Value && answer["role"] == "shadow" {
                    continue;
                }
                let account = self.accounts.entry((measure.name, version.to_owned())).or_default();
                account.add(measure, answer, truth);
            }
        }
    }

    /// Waits until the newest record of the rollout matches; returns the remaining differences.
    pub fn wait(&self, world: &World, wait: Duration) -> Vec<String> {
        let mut metrics = Reader::open(&world.kafka, &world.app_topic("rollout-metrics"));
        let mut differences = vec!["no record of it was published".to_owned()];
        metrics.wait(wait, |records| {
            let is_its = |r: &&Record| r.key.as_deref() == Some(self.rollout.as_bytes());
            if let Some(newest) = records.iter().rev().find(is_its) {
                differences = self.differences(&newest.json());
            }
            differences.is_empty()
        });
        differences
    }

    /// Returns the differences between a `rollout-metrics` record and the counts.
    pub fn differences(&self, record: &Value) -> Vec<String> {
        let mut found = Vec::new();
        for ((metric, version), account) in &self.accounts {
            let findings = || record["metrics"].as_array().into_iter().flatten();
            let finding = findings().find(|f| f["name"] == *metric).unwrap_or(&Value::Null);
            let said = &finding["arms"][version];
            let n = said["n"].as_u64().unwrap_or(0);
            if n != account.scored {
                found.push(format!("{metric} of {version}: n {n} for {account:?}"));
                continue;
            }
            let mean = account.sum / account.scored as f64;
            // The program sums values in millionths.
            let is_same = said["estimate"].as_f64().is_some_and(|a| (a - mean).abs() < 1e-6);
            if account.scored > 0 && !is_same {
                found.push(format!("{metric} of {version}: {said} for {mean} of {account:?}"));
            }
            found.extend(account.gaps(metric, version, &record["health"]["scoring"]));
        }
        found
    }
}

impl Account {
    /// Returns the differences in `health.scoring`, if it is published: the shares of unscorable cases, by side.
    fn gaps(&self, metric: &str, version: &str, scoring: &Value) -> Vec<String> {
        let Some(entries) = scoring.as_array() else { return Vec::new() };
        let cases = (self.scored + self.bad_answers + self.bad_labels) as f64;
        let mut shares = BTreeMap::from([("label", 0.0), ("range", 0.0), ("answer", 0.0)]);
        for entry in entries.iter().filter(|e| e["metric"] == metric && e["version"] == version) {
            let reason = entry["reason"].as_str().unwrap_or_default();
            let side = match reason {
                "outside the range" => "range",
                reason if reason.starts_with("label:") => "label",
                _ => "answer",
            };
            *shares.entry(side).or_default() += entry["share"].as_f64().unwrap_or(f64::NAN);
        }
        // A value outside the range of a loss in nats, or of a score without a range, leaves no gap.
        let clipped = if shares["range"] > 0.0 { self.clipped } else { 0 };
        [("label", self.bad_labels), ("answer", self.bad_answers), ("range", clipped)]
            .into_iter()
            .filter(|(side, n)| (shares[side] * cases - *n as f64).abs() > 1e-6)
            .map(|(side, n)| {
                let said = shares[side] * cases;
                format!("{metric} of {version}: {said} gaps by the {side} for {n} of {self:?}")
            })
            .collect()
    }

    fn add(&mut self, measure: &Measure, answer: &Value, truth: Option<&Value>) {
        let Some(truth) = truth else {
            self.unlabelled += 1;
            return;
        };
        let is_answered = answer["status"] == "ok";
        match worth(measure, answer, truth) {
            // The label comes first: it is the same for every version.
            Worth::BadLabel => self.bad_labels += 1,
            // Value belongs to the assigned version, even if another version answered for it.
            Worth::BadAnswer | Worth::Value(_) if !is_answered && measure.kind != Kind::Value => {
                self.unanswered += 1;
            }
            Worth::BadAnswer => self.bad_answers += 1,
            Worth::Value(value) => {
                let (low, high) = measure.range;
                let clipped = value.clamp(low, high);
                self.scored += 1;
                self.sum += clipped;
                self.clipped += u64::from(clipped.to_bits() != value.to_bits());
            }
        }
    }
}

fn worth(measure: &Measure, answer: &Value, truth: &Value) -> Worth {
    let label = &truth[measure.label];
    // An answer that is not JSON is stored in base64 next to `value`.
    let prediction = &answer["value"][measure.prediction];
    let both = |label: Option<f64>, prediction: Option<f64>, score: fn(f64, f64) -> f64| match (
        label, prediction,
    ) {
        (None, _) => Worth::BadLabel,
        (Some(_), None) => Worth::BadAnswer,
        (Some(label), Some(prediction)) => Worth::Value(score(prediction, label)),
    };
    match measure.kind {
        Kind::Brier => both(unit(label), unit(prediction), |p, y| (p - y) * (p - y)),
        Kind::LogLoss => both(unit(label), unit(prediction), |p, y| {
            let p = p.clamp(1e-15, 1.0 - 1e-15);
            -(y * p.ln() + (1.0 - y) * (1.0 - p).ln())
        }),
        Kind::SquaredError => both(number(label), number(prediction), |x, y| (x - y) * (x - y)),
        Kind::AbsoluteError => both(number(label), number(prediction), |x, y| (x - y).abs()),
        Kind::Value => both(number(label), Some(0.0), |_, money| money),
        Kind::Accuracy => of_class(label, prediction, f64::from),
        Kind::ErrorRate => of_class(label, prediction, |is_same| f64::from(!is_same)),
    }
}

/// A number, or the number of a boolean; text is not a number.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(is) => Some(f64::from(*is)),
        Value::Number(number) => number.as_f64().filter(|a| a.is_finite()),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number between 0 and 1.
fn unit(value: &Value) -> Option<f64> {
    number(value).filter(|v| (0.0..=1.0).contains(v))
}

/// Compares classes: numbers by value, text by its characters, text that reads as a number or a boolean with these.
fn of_class(label: &Value, prediction: &Value, score: fn(bool) -> f64) -> Worth {
    let is_class = |v: &Value| v.is_boolean() || v.is_number() || v.is_string();
    if !is_class(label) {
        return Worth::BadLabel;
    }
    if !is_class(prediction) {
        return Worth::BadAnswer;
    }
    let plain = |value: &Value| match value {
        Value::String(text) => text.parse::<bool>().map(f64::from).ok().or(text.parse().ok()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            number(value)
        }
    };
    if let (Value::String(ours), Value::String(theirs)) = (prediction, label) {
        return Worth::Value(score(ours == theirs));
    }
    let is_truth = |value: &Value| value.is_boolean() || *value == "true" || *value == "false";
    match (plain(prediction), plain(label)) {
        // Only 1 and 0 count as true and false.
        (Some(ours), Some(theirs))
            if is_truth(prediction) == is_truth(label)
                || [ours, theirs].iter().all(|t| *t <= 1.0 && t.fract().abs() < 1e-300) =>
        {
            Worth::Value(score((ours - theirs).abs() < 1e-300))
        }
        (_, _) => Worth::BadAnswer,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Account, Kind, Measure, Scorer};
    use crate::kit::kafka::Record;

    const BRIER: Measure = Measure {
        name: "brier",
        kind: Kind::Brier,
        prediction: "score",
        label: "late",
        range: (0.0, 1.0),
    };

    fn record(value: &Value) -> Record {
        Record { value: value.to_string().into(), ..Record::default() }
    }

    #[test]
    fn every_case_is_scored_or_stands_under_the_reason_why_not() {
        let case = |id: &str, answer: &Value| {
            record(&json!({
                "request_id": id, "rollout": "r", "arm": "v2", "requested_at": 0, "routed_at": 0,
                "answers": [answer],
            }))
        };
        let ok = |value: &Value| json!({"version": "v2", "role": "serve", "status": "ok", "value": value});
        let late = json!({"version": "v2", "role": "serve", "status": "late"});
        let label = |id: &str, late: &Value, at: i64| {
            record(&json!({"request_id": id, "label": {"late": late}, "observed_at": at}))
        };
        let predictions = [
            case("a", &ok(&json!({"score": 0.5}))),
            case("b", &ok(&json!({"score": "0.5"}))),
            case("c", &ok(&json!({"score": 0.5}))),
            case("d", &late),
            case("e", &ok(&json!({"score": true}))),
            case("12345678901234567890123", &ok(&json!({"score": 1}))),
        ];
        let mut labels = vec![
            label("a", &json!(1), 10),
            label("b", &json!(1), 10),
            label("c", &json!(-1), 10),
            label("d", &json!(0), 10),
            label("e", &json!(0), 101),
        ];
        let huge = r#"{"request_id":12345678901234567890123,"label":{"late":1},"observed_at":5}"#;
        labels.push(Record { value: huge.into(), ..Record::default() });
        let scorer = Scorer::score("r", &[BRIER], 100, &predictions, &labels);
        let account = Account {
            scored: 2,
            sum: 0.25,
            clipped: 0,
            bad_answers: 1,
            bad_labels: 1,
            unanswered: 1,
            unlabelled: 1,
        };
        assert_eq!(scorer.accounts[&("brier", "v2".to_owned())], account);
        let said = |n: u64, estimate: f64| json!({"metrics": [{"name": "brier", "arms": {"v2": {"n": n, "estimate": estimate}}}]});
        assert!(scorer.differences(&said(2, 0.125)).is_empty());
        assert_eq!(scorer.differences(&said(3, 0.125)).len(), 1, "a case too many");
        assert_eq!(scorer.differences(&said(2, 0.135)).len(), 1, "another sum");
        let with_gaps = |label: f64, answer: f64| {
            let gap = |reason: &str, share: f64| json!({"metric": "brier", "version": "v2", "reason": reason, "share": share});
            let gaps = [gap("label: no outcome", label), gap("not a number", answer)];
            let mut said = said(2, 0.125);
            said["health"] = json!({"scoring": gaps});
            scorer.differences(&said)
        };
        assert!(with_gaps(0.25, 0.25).is_empty());
        assert_eq!(with_gaps(0.5, 0.25).len(), 1, "a label too many");
        assert_eq!(with_gaps(0.25, 0.0).len(), 1, "an answer too few");
    }
}
