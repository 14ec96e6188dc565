//! The ledger of the evidence: computes the expected last `rollout-metrics` record of a rollout from predictions and labels alone.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::kit::kafka::{Reader, Record};
use crate::kit::world::World;

/// Expected figures of one version once every case is mature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Account {
    exposures: u64,
    answered: u64,
    errors: u64,
    timeouts: u64,
    late: u64,
    fallbacks: u64,
    labelled: u64,
    /// In-time answers of cases whose label arrived in time.
    scored: u64,
    /// Of these, cases that the stable version scored too.
    paired: u64,
    /// The sum of their Brier scores, in millionths.
    brier: i64,
}

/// The expected evidence of one rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    rollout: String,
    stable: String,
    arms: BTreeMap<String, Account>,
}

impl Evidence {
    /// Counts the predictions of a rollout. A label counts if it was observed at most `maturity_ms` after its request.
    pub fn count(
        rollout: &str,
        stable: &str,
        maturity_ms: i64,
        predictions: &[Record],
        labels: &[Record],
    ) -> Self {
        let mut truths: BTreeMap<String, (f64, i64)> = BTreeMap::new();
        for label in labels.iter().map(Record::json) {
            let id = label["request_id"].as_str().expect("the test's labels name a request");
            let late = label["label"]["late"].as_f64().expect("the test's labels say a number");
            let at = label["observed_at"].as_i64().expect("the test's labels have a time");
            truths.entry(id.to_owned()).or_insert((late, at));
        }
        let mut this = Self {
            rollout: rollout.to_owned(),
            stable: stable.to_owned(),
            arms: BTreeMap::from([(stable.to_owned(), Account::default())]),
        };
        for case in predictions.iter().map(Record::json).filter(|j| j["rollout"] == rollout) {
            let truth = case["request_id"].as_str().and_then(|id| truths.get(id)).copied();
            this.take(&case, truth, maturity_ms);
        }
        this
    }

    /// Adds one case to the account of each version.
    fn take(&mut self, case: &Value, truth: Option<(f64, i64)>, maturity_ms: i64) {
        // The time of the case is at most the time at which it was routed, even if the caller's clock is ahead.
        let time = |field: &str| case[field].as_i64().unwrap_or(i64::MAX);
        let due = time("requested_at").min(time("routed_at")) + maturity_ms;
        let in_time = truth.filter(|(_, at)| *at <= due);
        let counted = case["answers"].as_array().into_iter().flatten().filter(|a| {
            // A version that replaced the failed arm was not assigned: no exposure.
            a["role"] == "shadow" || a["version"] == case["arm"]
        });
        let scored: Vec<&str> = counted
            .clone()
            .filter(|c| in_time.is_some() && c["status"] == "ok")
            .filter_map(|i| i["version"].as_str())
            .collect();
        for answer in counted {
            let version = answer["version"].as_str().unwrap_or_default();
            let account = self.arms.entry(version.to_owned()).or_default();
            account.exposures += 1;
            account.labelled += u64::from(truth.is_some());
            match answer["status"].as_str() {
                Some("ok") => account.answered += 1,
                Some("error") => account.errors += 1,
                Some("timeout") => account.timeouts += 1,
                Some("late") => account.late += 1,
                status => panic!("an answer's status is {status:?}"),
            }
            let is_fallback = answer["role"] == "serve" && case["served"]["outcome"] == "fallback";
            account.fallbacks += u64::from(is_fallback);
            if let (Some((late, _)), "ok") = (in_time, answer["status"].as_str().unwrap_or("")) {
                let score = answer["value"]["score"].as_f64().expect("the test's answers score");
                account.scored += 1;
                account.paired += u64::from(scored.contains(&self.stable.as_str()));
                account.brier += millionths((score - late).powi(2));
            }
        }
    }

    /// Waits until the newest record of the rollout matches; returns the remaining differences.
    pub fn wait(&self, world: &World, wait: Duration) -> Vec<String> {
        let mut metrics = Reader::open(&world.kafka, &world.app_topic("rollout-metrics"));
        let mut differences = vec!["no record of it was published".to_owned()];
        let mut seen = 0;
        metrics.wait(wait, |records| {
            if let Some(newest) = self.newest(&records[seen..]) {
                differences = self.differences(&newest);
            }
            seen = records.len();
            differences.is_empty()
        });
        differences
    }

    /// Returns the differences in the last record of the rollout.
    pub fn balance(&self, records: &[Record]) -> Vec<String> {
        match self.newest(records) {
            Some(record) => self.differences(&record),
            None => vec![format!("no record of {} was published", self.rollout)],
        }
    }

    fn newest(&self, records: &[Record]) -> Option<Value> {
        records
            .iter()
            .rev()
            .filter(|r| r.key.as_deref() == Some(self.rollout.as_bytes()))
            .map(Record::json)
            .next()
    }

    fn differences(&self, record: &Value) -> Vec<String> {
        let mut found = Vec::new();
        for (version, account) in &self.arms {
            let mut arms = record["arms"].as_array().into_iter().flatten();
            let said = arms.find(|a| a["version"] == version.as_str()).unwrap_or(&Value::Null);
            for (field, counted) in [
                ("exposures", account.exposures),
                ("answered", account.answered),
                ("errors", account.errors),
                ("timeouts", account.timeouts),
                ("late", account.late),
                ("fallbacks", account.fallbacks),
                ("labelled", account.labelled),
                ("mature", account.exposures),
            ] {
                if said[field].as_u64() != Some(counted) {
                    found.push(format!("{field} of {version} {} for {counted}", said[field]));
                }
            }
        }
        for candidate in self.arms.keys().filter(|a| **a != self.stable) {
            let mut findings = record["metrics"].as_array().into_iter().flatten();
            let finding = findings
                .find(|f| f["name"] == "brier" && f["candidate"] == candidate.as_str())
                .unwrap_or(&Value::Null);
            self.compare(candidate, record["strategy"] == "shadow", finding, &mut found);
        }
        found.iter().map(|f| format!("{} says {f}", self.rollout)).collect()
    }

    /// Compares the Brier score of one candidate.
    fn compare(&self, candidate: &str, is_paired: bool, said: &Value, found: &mut Vec<String>) {
        let (ours, theirs) = (&self.arms[candidate], &self.arms[&self.stable]);
        let n = if is_paired { ours.paired } else { ours.scored + theirs.scored };
        if said["n"].as_u64() != Some(n) {
            found.push(format!("brier of {candidate} with n {} for {n}", said["n"]));
        }
        for (version, account) in [(candidate, ours), (&self.stable, theirs)] {
            let value = &said["arms"][version];
            if account.scored == 0 && value.is_null() {
                continue;
            }
            // Scores are summed in millionths, so their mean may differ from ours in the last digit of a double.
            let mean = account.brier as f64 / account.scored as f64 / 1e6;
            let is_same = value["estimate"]
                .as_f64()
                .is_some_and(|a| (a - mean).abs() <= mean.abs() * 2.0 * f64::EPSILON);
            if value["n"].as_u64() != Some(account.scored) || !is_same {
                let n = account.scored;
                found.push(format!("brier of {version} {value} for {mean} of {n}"));
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "scores lie between 0 and 1")]
fn millionths(score: f64) -> i64 {
    (score * 1e6).round() as i64
}
