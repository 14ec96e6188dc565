//! The independent ledger: compares what was sent with the records of all topics and names every fault.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::kit::kafka::Record;
use crate::kit::worker::{answer as answer_of, is_late};
use crate::kit::world::{Sent, World};

/// Everything that was sent, and every record that a `read_committed` consumer sees.
#[derive(Clone, Default)]
pub struct Ledger {
    pub sent: Vec<Sent>,
    /// Records of the request topic. A caller's producer may write a request twice if its broker dies.
    pub asked: Vec<Record>,
    pub served: Vec<Record>,
    /// Requests forwarded to the workers of each version.
    pub forwarded: BTreeMap<String, Vec<Record>>,
    pub predictions: Vec<Record>,
    pub analysis: Vec<Record>,
    pub events: Vec<Record>,
    pub dead_letters: Vec<Record>,
    pub promise: Promise,
}

/// The outcomes that a test allows for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Promise {
    /// The assigned arm answers every request: the deadlines outlast every fault.
    #[default]
    Answered,
    /// If the prediction shows that the arm failed, the stable version serves; if that failed too, the
    /// default value of the spec.
    Explained {
        /// The default value of the spec; without one, the outcome is an error.
        default: Option<Vec<u8>>,
    },
}

/// Counts of the ledger besides faults.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// By version; requests that no version answered are counted by outcome.
    pub served_by: BTreeMap<String, usize>,
    pub outcomes: BTreeMap<String, usize>,
    pub shadowed_by: BTreeMap<String, usize>,
    pub revisions: BTreeMap<i64, usize>,
    /// How many more requests the topic holds than were sent.
    pub asked_again: usize,
}

/// The routing of one revision, as its event publishes it.
#[derive(Clone, Debug, PartialEq)]
struct Routing {
    stable: String,
    salt: String,
    shares: BTreeMap<String, f64>,
    shadows: BTreeMap<String, f64>,
    slices: Vec<(String, f64)>,
}

/// The expected outcome of one request.
struct Expected {
    revision: i64,
    arm: String,
    propensity: f64,
    shadows: Vec<String>,
    /// The stable version, if it was asked instead of the candidate.
    substitute: Option<String>,
    /// The serving version; `None` if no version answered.
    version: Option<String>,
    outcome: &'static str,
    value: Vec<u8>,
}

impl Ledger {
    pub fn read(world: &World, sent: Vec<Sent>, versions: &[&str]) -> Self {
        let all = |kind: &str| world.kafka.read_all(&world.topic(kind));
        let dead_letters = world.topic("dead-letters");
        Self {
            sent,
            asked: all("requests"),
            served: all("served"),
            forwarded: versions
                .iter()
                .map(|version| ((*version).to_owned(), all(&format!("{version}.requests"))))
                .collect(),
            predictions: all("predictions"),
            analysis: all("analysis"),
            events: world
                .kafka
                .read_all(&world.app_topic("rollout-events"))
                .into_iter()
                .filter(|a| {
                    // The key is the name of the rollout or of the model, which is readable in every format.
                    let names = [world.name.clone(), world.rollout()];
                    names.iter().any(|name| a.key.as_deref() == Some(name.as_bytes()))
                })
                .collect(),
            promise: Promise::default(),
            dead_letters: if world.kafka.partitions(&dead_letters) > 0 {
                world.kafka.read_all(&dead_letters)
            } else {
                Vec::new()
            },
        }
    }

    /// Returns every fault as a sentence, and a summary.
    pub fn balance(&self) -> (Vec<String>, Summary) {
        let mut faults = Vec::new();
        let mut summary = Summary::default();
        let routings = self.routings(&mut faults);
        let asked = by_id(&self.asked, |a| a.header("ce_id").map(str::to_owned));
        let served = by_id(&self.served, |s| s.header("serinus-request-id").map(str::to_owned));
        let predictions =
            by_id(&self.predictions, |p| p.json()["request_id"].as_str().map(str::to_owned));
        let analysis =
            by_id(&self.analysis, |a| a.json()["request_id"].as_str().map(str::to_owned));
        let forwarded: BTreeMap<&str, _> = self
            .forwarded
            .iter()
            .map(|(version, records)| {
                (
                    version.as_str(),
                    by_id(records, |r| r.header("serinus-request-id").map(str::to_owned)),
                )
            })
            .collect();
        for request in &self.sent {
            let mut fault = |text: String| faults.push(format!("{}: {text}", request.id));
            let copies = count_of(&asked, request);
            if copies != 1 {
                let (served, closed) =
                    (count_of(&served, request), count_of(&predictions, request));
                if copies == 0 || (served, closed) != (copies, copies) {
                    fault(format!("asked {copies} times, served {served}, closed {closed} times"));
                }
                summary.asked_again += copies.saturating_sub(1);
                continue;
            }
            let Some(answer) = exactly_one(&served, request, "served", &mut fault) else {
                continue;
            };
            let prediction = exactly_one(&predictions, request, "predictions", &mut fault);
            let expected = match expect(answer, request, &routings)
                .and_then(|r| r.explained(&self.promise, prediction, request))
            {
                Ok(expected) => expected,
                Err(text) => {
                    fault(text);
                    continue;
                }
            };
            let by = expected.version.as_deref().unwrap_or(expected.outcome);
            *summary.served_by.entry(by.to_owned()).or_default() += 1;
            *summary.outcomes.entry(expected.outcome.to_owned()).or_default() += 1;
            *summary.revisions.entry(expected.revision).or_default() += 1;
            for version in &expected.shadows {
                *summary.shadowed_by.entry(version.clone()).or_default() += 1;
            }
            check_served(answer, request, &expected, &mut fault);
            for (version, records) in &forwarded {
                check_forwarded(
                    version,
                    records.get(&request.id).map_or(&[][..], |i| i),
                    request,
                    &expected,
                    &mut fault,
                );
            }
            if let Some(prediction) = prediction {
                check_prediction(prediction, request, &expected, &mut fault);
            }
            if let Some(row) = exactly_one(&analysis, request, "analysis", &mut fault) {
                check_row(&row.json(), request, &expected, &mut fault);
            }
        }
        self.check_foreign_records(&mut faults);
        (faults, summary)
    }

    /// Finds records that belong to no request.
    fn check_foreign_records(&self, faults: &mut Vec<String>) {
        let forwarded: usize = self.forwarded.values().map(Vec::len).sum();
        let known: BTreeSet<&str> = self.sent.iter().map(|s| s.id.as_str()).collect();
        for record in self.served.iter().chain(self.forwarded.values().flatten()) {
            if !record.header("serinus-request-id").is_some_and(|id| known.contains(id)) {
                faults.push(format!("a record answers to no request: {record:?}"));
            }
        }
        if self.served.len() != self.asked.len() || forwarded < self.asked.len() {
            faults.push(format!(
                "{} sent, {} asked, {forwarded} forwarded, {} served",
                self.sent.len(),
                self.asked.len(),
                self.served.len()
            ));
        }
        for record in &self.dead_letters {
            faults.push(format!("a dead letter: {:?}", record.header("serinus-dead-reason")));
        }
    }

    fn routings(&self, faults: &mut Vec<String>) -> BTreeMap<i64, Routing> {
        let mut routings: BTreeMap<i64, Routing> = BTreeMap::new();
        for (index, event) in self.events.iter().map(Record::json).enumerate() {
            let to = &event["to"];
            let (Some(revision), Some(routing)) = (to["revision"].as_i64(), Routing::read(to))
            else {
                faults.push(format!("event {index} does not say what routing needs: {to}"));
                continue;
            };
            if let Some(known) = routings.insert(revision, routing.clone())
                && known != routing
            {
                faults
                    .push(format!("revision {revision} means two things: {known:?}, {routing:?}"));
            }
        }
        routings
    }
}

impl Routing {
    fn read(to: &Value) -> Option<Self> {
        let shares = |value: &Value| -> Option<BTreeMap<String, f64>> {
            value
                .as_object()?
                .iter()
                .map(|(version, share)| Some((version.clone(), share.as_f64()?)))
                .collect()
        };
        let slice = |value: &Value| Some((value[0].as_str()?.to_owned(), value[1].as_f64()?));
        Some(Self {
            stable: to["stable"].as_str()?.to_owned(),
            salt: to["salt"].as_str().unwrap_or_default().to_owned(),
            shares: shares(&to["shares"])?,
            shadows: shares(&to["shadows"])?,
            slices: to["slices"]
                .as_array()
                .map(|a| a.iter().filter_map(slice).collect())
                .unwrap_or_default(),
        })
    }

    /// The published assignment: each candidate serves the first part of its slice, the stable version everything else.
    fn arm(&self, unit: &[u8]) -> (String, f64) {
        let point = point(&self.salt, unit);
        let mut start = 0.0;
        for (version, width) in &self.slices {
            let share = self.shares.get(version).copied().unwrap_or_default();
            if (start..start + share).contains(&point) {
                return (version.clone(), share);
            }
            start += width;
        }
        (self.stable.clone(), 1.0 - self.shares.values().sum::<f64>())
    }

    fn shadows(&self, unit: &[u8], arm: &str) -> Vec<String> {
        let is_drawn = |version: &str, share: f64| {
            point(&format!("{}/shadow/{version}", self.salt), unit) < share
        };
        self.shadows
            .iter()
            .filter(|(version, share)| *version != arm && is_drawn(version, **share))
            .map(|(version, _)| version.clone())
            .collect()
    }
}

/// Contract, section 4.3: `(xxh3_64(salt ++ 0x1f ++ unit) >> 11) * 2^-53`.
fn point(salt: &str, unit: &[u8]) -> f64 {
    let bytes = [salt.as_bytes(), &[0x1f], unit].concat();
    // An f64 holds 53 bits exactly.
    let numerator = (xxh3_64(&bytes) >> 11) as f64;
    numerator * 2f64.powi(-53)
}

fn expect(
    answer: &Record,
    request: &Sent,
    routings: &BTreeMap<i64, Routing>,
) -> Result<Expected, String> {
    let revision = answer
        .header("serinus-revision")
        .and_then(|h| h.parse().ok())
        .ok_or("served without a revision")?;
    let routing = routings
        .get(&revision)
        .ok_or_else(|| format!("served under revision {revision}, which no event published"))?;
    let (arm, propensity) = routing.arm(request.unit());
    Ok(Expected {
        revision,
        propensity,
        shadows: routing.shadows(request.unit(), &arm),
        // The version that may replace the arm; the prediction shows whether it did.
        substitute: Some(routing.stable.clone()).filter(|s| *s != arm),
        version: Some(arm.clone()),
        outcome: "ok",
        value: answer_of(&arm, &request.value),
        arm,
    })
}

impl Expected {
    /// Takes the failed versions from the prediction if failures are allowed, and returns the expected outcome.
    fn explained(
        self,
        promise: &Promise,
        prediction: Option<&Record>,
        request: &Sent,
    ) -> Result<Self, String> {
        let Promise::Explained { default } = promise else {
            return Ok(Self { substitute: None, ..self });
        };
        let json = prediction.ok_or("no single prediction explains it")?.json();
        let asked = answers(&json, "serve");
        let is_ok = |v: &Value| v["status"] == "ok";
        let substitute = self.substitute.clone().filter(|_| asked.len() > 1);
        match asked[..] {
            [first, ..] if is_ok(first) => Ok(Self { substitute, ..self }),
            [_, second] if is_ok(second) => {
                let stable = substitute.ok_or("the stable version was asked twice")?;
                let value = answer_of(&stable, &request.value);
                let version = Some(stable.clone());
                Ok(Self { substitute: Some(stable), version, outcome: "fallback", value, ..self })
            }
            [_, ..] => {
                let outcome = if default.is_some() { "default" } else { "error" };
                let value = default.clone().unwrap_or_default();
                Ok(Self { substitute, version: None, outcome, value, ..self })
            }
            [] => Err("no version was asked to serve".to_owned()),
        }
    }
}

/// The answers of a prediction with this role, in order.
fn answers<'a>(prediction: &'a Value, role: &str) -> Vec<&'a Value> {
    let all = prediction["answers"].as_array().into_iter().flatten();
    all.filter(|a| a["role"] == role).collect()
}

fn check_served(
    record: &Record,
    request: &Sent,
    expected: &Expected,
    fault: &mut impl FnMut(String),
) {
    if record.partition != request.partition {
        fault(format!("asked on partition {}, served on {}", request.partition, record.partition));
    }
    if record.key != request.key {
        fault(format!("served under the key {:?}", record.key));
    }
    let (version, outcome) = (record.header("serinus-version"), record.header("serinus-outcome"));
    if (version, outcome) != (expected.version.as_deref(), Some(expected.outcome)) {
        fault(format!(
            "served by {version:?}, outcome {outcome:?}, instead of {}, {}",
            expected.version.as_deref().unwrap_or("none"),
            expected.outcome
        ));
    }
    if record.value != expected.value {
        fault(format!(
            "served other bytes than those of {:?}: {}",
            expected.version,
            String::from_utf8_lossy(&record.value)
        ));
    }
    check_headers("served", record, request, fault);
}

fn check_forwarded(
    version: &str,
    records: &[&Record],
    request: &Sent,
    expected: &Expected,
    fault: &mut impl FnMut(String),
) {
    let role = if version == expected.arm || expected.substitute.as_deref() == Some(version) {
        "serve"
    } else if expected.shadows.iter().any(|s| s == version) {
        "shadow"
    } else {
        ""
    };
    // Copies are sent outside the transactions, so copies of an aborted turn remain. The turn that replaced it has another time, and
    // another routing if the routing has changed.
    let of_turn = |r: &&Record| r.header("serinus-revision").and_then(|h| h.parse().ok());
    let is_of_the_turn = |r: &&&Record| of_turn(r) == Some(expected.revision);
    let tokens: BTreeSet<Option<&str>> = records.iter().map(|r| r.header("serinus-case")).collect();
    let counted = records.iter().filter(is_of_the_turn).count();
    if tokens.len() < records.len() || (counted == 0) != role.is_empty() {
        match (counted, role) {
            (0, _) | (_, "") if !records.is_empty() && tokens.len() == records.len() => {
                fault(format!("forwarded to {version}, which had no part in it"));
            }
            _ => fault(format!("forwarded to {version} {} times", records.len())),
        }
        return;
    }
    for record in records.iter().filter(is_of_the_turn) {
        check_copy(version, role, record, request, fault);
    }
}

fn check_copy(
    version: &str,
    role: &str,
    record: &Record,
    request: &Sent,
    fault: &mut impl FnMut(String),
) {
    if (record.header("serinus-role"), record.header("serinus-version"))
        != (Some(role), Some(version))
    {
        fault(format!(
            "forwarded to {version} as {:?} of {:?}, not as {role}",
            record.header("serinus-role"),
            record.header("serinus-version")
        ));
    }
    if (&record.key, &record.value) != (&request.key, &request.value) {
        fault(format!("forwarded to {version} with another key or other bytes"));
    }
    check_headers("forwarded", record, request, fault);
}

/// The producer's own headers are passed through unchanged.
fn check_headers(kind: &str, record: &Record, request: &Sent, fault: &mut impl FnMut(String)) {
    for header in &request.headers {
        if record.headers.iter().filter(|h| *h == header).count() != 1 {
            fault(format!("{kind} without the producer's header {}", header.0));
        }
    }
}

fn check_prediction(
    record: &Record,
    request: &Sent,
    expected: &Expected,
    fault: &mut impl FnMut(String),
) {
    let json = record.json();
    if record.key.as_deref() != Some(request.id.as_bytes()) {
        fault(format!("the prediction's key is {:?}", record.key));
    }
    check_case(&json, "prediction", request, expected, fault);
    let asked = answers(&json, "serve");
    let wanted: Vec<&str> = [Some(&expected.arm), expected.substitute.as_ref()]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let is_told = |v: &Value| {
        let version = v["version"].as_str().unwrap_or_default();
        let value = serde_json::from_slice::<Value>(&answer_of(version, &request.value));
        v["status"] != "ok" || v["value"] == value.expect("the test's answers are JSON")
    };
    let is_arm_ok = asked.first().is_some_and(|a| a["status"] == "ok");
    if asked.iter().map(|a| a["version"].as_str().unwrap_or_default()).ne(wanted)
        || !asked.iter().all(|a| is_told(a))
        || is_arm_ok != (expected.outcome == "ok")
    {
        fault(format!("the prediction's serving answers are {asked:?}"));
    }
    let shadows = answers(&json, "shadow");
    let mut shadows: Vec<&str> = shadows.iter().filter_map(|s| s["version"].as_str()).collect();
    shadows.sort_unstable();
    if shadows != expected.shadows {
        fault(format!(
            "the prediction's shadows are {shadows:?} instead of {:?}",
            expected.shadows
        ));
    }
}

/// Checks the fields that predictions and analysis rows share.
fn check_case(
    json: &Value,
    kind: &str,
    request: &Sent,
    expected: &Expected,
    fault: &mut impl FnMut(String),
) {
    let said = (
        json["arm"].as_str(),
        json["served"]["version"].as_str(),
        json["served"]["outcome"].as_str(),
        json["revision"].as_i64(),
    );
    if said
        != (
            Some(expected.arm.as_str()),
            expected.version.as_deref(),
            Some(expected.outcome),
            Some(expected.revision),
        )
    {
        fault(format!(
            "the {kind} says {said:?}, the arm was {}, served was {:?} at revision {}",
            expected.arm, expected.version, expected.revision
        ));
    }
    if json["unit"].as_str().map(str::as_bytes) != Some(request.unit()) {
        fault(format!("the {kind}'s unit is {}", json["unit"]));
    }
    if !json["propensity"].as_f64().is_some_and(|a| (a - expected.propensity).abs() < 1e-9) {
        fault(format!(
            "the {kind}'s propensity is {} instead of {}",
            json["propensity"], expected.propensity
        ));
    }
    let source = (json["source"]["partition"].as_i64(), json["source"]["offset"].as_i64());
    if source != (Some(i64::from(request.partition)), Some(request.offset)) {
        fault(format!(
            "the {kind}'s source is {source:?}, it stands at {}, {}",
            request.partition, request.offset
        ));
    }
}

fn check_row(json: &Value, request: &Sent, expected: &Expected, fault: &mut impl FnMut(String)) {
    check_case(json, "analysis row", request, expected, fault);
    let status = if request.has_label { "labelled" } else { "missing" };
    if json["label_status"] != status {
        fault(format!("the analysis row is {}, it should be {status}", json["label_status"]));
    }
    if !request.has_label {
        return;
    }
    let late = f64::from(u8::from(is_late(&request.value)));
    if json["label"]["late"].as_f64().is_none_or(|a| (a - late).abs() > 1e-12) {
        fault(format!("the analysis row's label is {}", json["label"]));
    }
    if expected.outcome != "ok" {
        // A failed answer has no score.
        if !json["scores"][&expected.arm].is_null() {
            fault(format!("{} failed and scored {}", expected.arm, json["scores"]));
        }
        return;
    }
    let said: Value = serde_json::from_slice(&answer_of(&expected.arm, &request.value))
        .expect("the test's answers are JSON");
    let brier = (said["score"].as_f64().expect("they have a score") - late).powi(2);
    if !json["scores"][&expected.arm]["brier"].as_f64().is_some_and(|a| (a - brier).abs() < 1e-9) {
        fault(format!(
            "the analysis row's scores are {}, {} should have a Brier score of {brier}",
            json["scores"], expected.arm
        ));
    }
}

fn by_id(
    records: &[Record],
    id: impl Fn(&Record) -> Option<String>,
) -> BTreeMap<String, Vec<&Record>> {
    let mut found: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in records {
        found.entry(id(record).unwrap_or_default()).or_default().push(record);
    }
    found
}

fn count_of(found: &BTreeMap<String, Vec<&Record>>, request: &Sent) -> usize {
    found.get(&request.id).map_or(0, Vec::len)
}

/// The fields that distinguish two records of one case.
fn summary_of(record: &Record) -> String {
    let json: Value = serde_json::from_slice(&record.value).unwrap_or_default();
    let said: String = ["row_version", "label_status", "label_delay_ms", "source"]
        .iter()
        .filter_map(|name| Some(format!(", {name} {}", json.get(name)?)))
        .collect();
    format!("at {}/{}{said}", record.partition, record.offset)
}

fn exactly_one<'a>(
    found: &BTreeMap<String, Vec<&'a Record>>,
    request: &Sent,
    topic: &str,
    fault: &mut impl FnMut(String),
) -> Option<&'a Record> {
    match found.get(&request.id).map_or(&[][..], |i| i) {
        [one] => Some(one),
        others => {
            let seen: Vec<String> = others.iter().map(|o| summary_of(o)).collect();
            fault(format!("{} records on `{topic}`: {}", others.len(), seen.join("; ")));
            None
        }
    }
}
