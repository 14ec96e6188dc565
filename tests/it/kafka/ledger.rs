//! Exactly one answer per request on a real Kafka, checked by an independent ledger through kill -9 of the program and of a worker.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::kit::evidence::Evidence;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::ledger::{Ledger, Promise, Summary};
use crate::kit::specs;
use crate::kit::worker::{Behavior, Worker, answer, is_late};
use crate::kit::world::{Sent, WAIT, World};

/// Long deadlines: a crash costs time only, and no request of these tests may be late.
pub(crate) fn spec(rollout: &str) -> String {
    let model = "
  timeout: 60s
  shadowTimeout: 90s
  onFailure: stable
";
    specs::scored(model, &format!("  labels: {{maturity: 3s, missing: exclude}}{rollout}"))
}

/// As in the spec.
const MATURITY_MS: i64 = 3_000;

/// A slow worker keeps requests in flight, so that a kill always interrupts some.
const SLOW: Behavior = Behavior {
    delay: Duration::from_millis(100),
    error_every: None,
    drop_every: None,
    duplicate_every: None,
    nan_every: None,
    misdirect_every: None,
};

#[test]
fn shadow_serves_every_request_once_through_kills() {
    let Some(kafka) = Kafka::find() else { return };
    let spec = "
  candidates: [v2]
  strategy: shadow
  stages: [{shadow: 100%, until: {exposures: 100000000}}]
  decide: {alpha: 0.05, by: 14d, no_data: hold}
";
    // The shadow is slow, answers twice and fails: served requests must not be affected.
    let shadow = Behavior { error_every: Some(7), duplicate_every: Some(5), ..SLOW };
    let trial = Trial { what: "shadow", spec, versions: &[("v2", shadow)], killed_version: "v1" };
    let summary = trial.run(&kafka, |_| {});
    let all = BTreeMap::from([("v1".to_owned(), requests_total())]);
    assert_eq!(summary.served_by, all);
    assert_eq!(summary.shadowed_by, BTreeMap::from([("v2".to_owned(), requests_total())]));
}

#[test]
fn ab_serves_every_request_once_through_kills() {
    let Some(kafka) = Kafka::find() else { return };
    let spec = "
  candidates: [v2, v3]
  strategy: ab
  stages: [{share: {v2: 30%, v3: 20%}, hold: 1h}]
  decide: {promote: superior, alpha: 0.05, by: 14d, no_data: hold}
";
    let trial = Trial {
        what: "ab",
        spec,
        versions: &[("v1", SLOW), ("v3", Behavior { misdirect_every: Some(11), ..SLOW })],
        killed_version: "v2",
    };
    let summary = trial.run(&kafka, |_| {});
    assert_eq!(summary.served_by.keys().collect::<Vec<_>>(), ["v1", "v2", "v3"]);
    assert_eq!(summary.shadowed_by, BTreeMap::new());
}

#[test]
fn canary_serves_every_request_once_through_kills_and_a_change_of_stage() {
    let Some(kafka) = Kafka::find() else { return };
    let spec = "
  candidates: [v2]
  strategy: canary
  stages: [{share: 10%, hold: 1h}, {share: 50%, hold: 1h}]
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold}
";
    let trial = Trial {
        what: "canary",
        spec,
        versions: &[(
            "v1",
            Behavior { duplicate_every: Some(5), misdirect_every: Some(11), ..SLOW },
        )],
        killed_version: "v2",
    };
    let summary = trial.run(&kafka, |world| {
        let event = world.command("promote");
        assert_eq!(
            (&event["to"]["stage"], &event["to"]["shares"]["v2"]),
            (&json!(1), &json!(0.5)),
            "{event}"
        );
    });
    assert_eq!(summary.served_by.keys().collect::<Vec<_>>(), ["v1", "v2"]);
    assert_eq!(
        summary.revisions.len(),
        2,
        "requests were served before and after the change of stage: {summary:?}"
    );
}

/// The rollout of one strategy, its workers, and the version whose worker is killed.
struct Trial<'a> {
    what: &'a str,
    spec: &'a str,
    versions: &'a [(&'a str, Behavior)],
    killed_version: &'a str,
}

/// Waits for a record of every case, and until the newest metrics agree with an independent count.
fn await_evidence(world: &World, total: usize) {
    for kind in ["predictions", "analysis"] {
        Reader::open(&world.kafka, &world.topic(kind)).until(
            "a record of every case",
            WAIT,
            |records| records.len() >= total,
        );
    }
    let all = |kind: &str| world.kafka.read_all(&world.topic(kind));
    let evidence =
        Evidence::count(&world.rollout(), "v1", MATURITY_MS, &all("predictions"), &all("labels"));
    let differences = evidence.wait(world, WAIT);
    assert_eq!(differences, [""; 0], "the last metrics record of `{}`", world.name);
}

impl Trial<'_> {
    /// Sends all requests in ten parts: kills the program in the fourth, calls `halfway` in the sixth, kills a worker in the eighth.
    fn run(&self, kafka: &Kafka, halfway: impl Fn(&World)) -> Summary {
        let world = World::new(kafka, self.what, &spec(self.spec));
        let mut run = world.run();
        world.await_phase("Progressing", &mut run);
        let workers: Vec<Worker> = self
            .versions
            .iter()
            .map(|(version, behavior)| Worker::start(kafka, &world.name, version, *behavior))
            .collect();
        let mut killed_worker = Worker::process(kafka, &world.name, self.killed_version);
        let mut served = Reader::open(kafka, &world.topic("served"));
        let mut sent: Vec<Sent> = Vec::new();
        let total = requests_total();
        for part in 0..10 {
            let before = sent.len();
            if part == 3 {
                // Its requests stay in flight, however long it takes to send them.
                killed_worker.signal("STOP");
            }
            sent.extend(world.send_requests(total * part / 10, total * (part + 1) / 10));
            match part {
                3 => {
                    run.kill();
                    let done = kafka.read_all(&world.topic("served")).len();
                    assert!(
                        done < sent.len(),
                        "the kill came too late to find a request in flight"
                    );
                    killed_worker.signal("CONT");
                    run = world.run();
                }
                5 => halfway(&world),
                7 => {
                    killed_worker.kill();
                    killed_worker = Worker::process(kafka, &world.name, self.killed_version);
                }
                _ => {}
            }
            world.send_labels(&sent[before..]);
            served.until("the parts before this one", WAIT, |records| records.len() >= before);
        }
        served.until("an answer to every request", WAIT, |records| records.len() >= total);
        await_evidence(&world, total);
        run.stop();
        drop((workers, killed_worker));
        let versions: Vec<&str> = self
            .versions
            .iter()
            .map(|(version, _)| *version)
            .chain([self.killed_version])
            .collect();
        let (faults, summary) = Ledger::read(&world, sent, &versions).balance();
        assert!(
            faults.is_empty(),
            "{} faults in {total} requests of `{}`, the first:\n{}",
            faults.len(),
            world.name,
            first(&faults)
        );
        summary
    }
}

/// `make soak` sends 20,000.
fn requests_total() -> usize {
    std::env::var("SERINUS_LEDGER_REQUESTS")
        .map_or(5_000, |v| v.parse().expect("SERINUS_LEDGER_REQUESTS is a number"))
}

fn first(faults: &[String]) -> String {
    faults[..faults.len().min(20)].join("\n")
}

fn forward_to_stable(ledger: &mut Ledger) {
    ledger.forwarded.entry("v1".to_owned()).or_default().push(ledger.served[0].clone());
}

/// Tests the ledger itself: correct records balance, and each wrong record is found.
#[test]
fn the_ledger_finds_every_kind_of_fault() {
    let (faults, summary) = correct_ledger().balance();
    assert_eq!(faults, [""; 0]);
    assert_eq!(summary.served_by, BTreeMap::from([("v2".to_owned(), 2)]));
    let check = |wrong: fn(&mut Ledger), expected: &str| {
        let mut ledger = correct_ledger();
        wrong(&mut ledger);
        let (faults, _) = ledger.balance();
        assert!(faults.iter().any(|f| f.contains(expected)), "no `{expected}` among {faults:?}");
    };
    check(|ledger| drop(ledger.served.pop()), "0 records on `served`");
    check(|ledger| ledger.served.push(ledger.served[0].clone()), "2 records on `served`");
    check(|ledger| ledger.served[0].partition = 1, "served on 1");
    check(|ledger| ledger.served[0].key = None, "served under the key");
    check(|ledger| ledger.served[0].value.push(b' '), "served other bytes");
    check(|ledger| set_header(&mut ledger.served[0], "serinus-version", "v1"), "instead of v2");
    check(
        |ledger| set_header(&mut ledger.served[0], "serinus-outcome", "fallback"),
        "instead of v2",
    );
    check(
        |ledger| set_header(&mut ledger.served[0], "serinus-revision", "9"),
        "which no event published",
    );
    check(
        |ledger| set_header(&mut ledger.served[0], "traceparent", "other"),
        "without the producer's header traceparent",
    );
    check(
        |ledger| set_header(&mut ledger.served[0], "serinus-request-id", "r77"),
        "answers to no request",
    );
    check(
        |ledger| ledger.forwarded.entry("v2".to_owned()).or_default().clear(),
        "forwarded to v2 0 times",
    );
    check(forward_to_stable, "which had no part in it");
    check(|ledger| drop(ledger.predictions.pop()), "0 records on `predictions`");
    check(|ledger| set_json(&mut ledger.predictions[0], "/source/offset", json!(99)), "source is");
    check(
        |ledger| set_json(&mut ledger.predictions[0], "/propensity", json!(0.5)),
        "propensity is 0.5",
    );
    check(
        |ledger| set_json(&mut ledger.predictions[0], "/answers", json!([])),
        "serving answers are []",
    );
    check(|ledger| ledger.analysis.push(ledger.analysis[0].clone()), "2 records on `analysis`");
    check(|ledger| drop(ledger.asked.pop()), "asked 0 times, served 1");
    check(|ledger| ledger.asked.push(ledger.asked[0].clone()), "asked 2 times, served 1");
    check(
        |ledger| ledger.served.push(ledger.served[0].clone()),
        "2 sent, 2 asked, 2 forwarded, 3 served",
    );
    check(
        |ledger| set_json(&mut ledger.analysis[0], "/label_status", json!("late")),
        "it should be labelled",
    );
    check(
        |ledger| set_json(&mut ledger.analysis[0], "/scores/v2/brier", json!(0.9)),
        "Brier score",
    );
    check(|ledger| ledger.dead_letters.push(Record::default()), "a dead letter");
    check(
        |ledger| set_json(&mut ledger.events[0], "/to/stable", json!(null)),
        "does not say what routing needs",
    );
}

/// Copies are sent outside the transactions: after a crash a request may be copied again.
#[test]
fn the_ledger_accepts_copies_of_aborted_turns() {
    let mut ledger = correct_ledger();
    let mut again = ledger.forwarded["v2"][0].clone();
    again.headers.push(("serinus-case".to_owned(), b"0.0.0.7".to_vec()));
    let mut before = again.clone();
    set_header(&mut before, "serinus-revision", "0");
    set_header(&mut before, "serinus-version", "v1");
    ledger.forwarded.entry("v2".to_owned()).or_default().push(again);
    ledger.forwarded.entry("v1".to_owned()).or_default().push(before);
    assert_eq!(ledger.balance().0, [""; 0]);
    let check = |wrong: fn(&mut Vec<Record>), expected: &str| {
        let mut ledger = correct_ledger();
        wrong(ledger.forwarded.get_mut("v2").expect("it was asked"));
        let (faults, _) = ledger.balance();
        assert!(faults.iter().any(|f| f.contains(expected)), "no `{expected}` in {faults:?}");
    };
    // One turn copies a request once, and the committed turn has copied it.
    check(|copies| copies.push(copies[0].clone()), "forwarded to v2 2 times");
    check(|copies| set_header(&mut copies[0], "serinus-revision", "7"), "forwarded to v2");
}

/// A version other than the arm may serve only if the prediction explains it.
#[test]
fn the_ledger_accepts_only_failures_that_the_prediction_explains() {
    let check = |wrong: fn(&mut Ledger), expected: Option<&str>| {
        let mut ledger = ledger_with_failures();
        wrong(&mut ledger);
        let (faults, _) = ledger.balance();
        match expected {
            None => assert_eq!(faults, [""; 0]),
            Some(text) => {
                assert!(faults.iter().any(|f| f.contains(text)), "no `{text}` among {faults:?}");
            }
        }
    };
    check(|_| {}, None);
    assert_eq!(
        ledger_with_failures().balance().1.outcomes,
        BTreeMap::from([("default".to_owned(), 1), ("fallback".to_owned(), 1)])
    );
    check(|ledger| ledger.promise = Promise::Answered, Some("instead of v2, ok"));
    check(
        |ledger| ledger.promise = Promise::Explained { default: None },
        Some("instead of none, error"),
    );
    check(
        |ledger| set_json(&mut ledger.predictions[0], "/answers/0/status", json!("ok")),
        Some("instead of v2, ok"),
    );
    check(
        |ledger| set_json(&mut ledger.predictions[0], "/answers/1/status", json!("late")),
        Some("instead of none, default"),
    );
    check(|ledger| ledger.served[0].value.push(b' '), Some("served other bytes"));
    check(|ledger| ledger.served[1].value.push(b' '), Some("served other bytes"));
    check(
        |ledger| drop(ledger.forwarded.get_mut("v1").expect("it was asked").pop()),
        Some("forwarded to v1 0 times"),
    );
    check(
        |ledger| set_json(&mut ledger.predictions[1], "/answers/1/version", json!("v3")),
        Some("the prediction's serving answers are"),
    );
    check(
        |ledger| set_json(&mut ledger.analysis[0], "/scores", json!({"v2": {"brier": 0.1}})),
        Some("v2 failed and scored"),
    );
}

/// The candidate fails both requests; the stable version also fails the second.
fn ledger_with_failures() -> Ledger {
    let mut ledger = correct_ledger();
    ledger.promise = Promise::Explained { default: Some(b"so be it".to_vec()) };
    let asked = ledger.forwarded["v2"].clone();
    for (index, mut asked) in asked.into_iter().enumerate() {
        let value = answer("v1", &asked.value);
        let json: serde_json::Value = serde_json::from_slice(&value).expect("it is JSON");
        let (served, answers) = if index == 0 {
            set_header(&mut ledger.served[0], "serinus-version", "v1");
            set_header(&mut ledger.served[0], "serinus-outcome", "fallback");
            ledger.served[0].value = value;
            (
                json!({"version": "v1", "outcome": "fallback"}),
                json!([{"version": "v2", "role": "serve", "status": "timeout"},
                    {"version": "v1", "role": "serve", "status": "ok", "value": json}]),
            )
        } else {
            ledger.served[1].headers.retain(|(name, _)| name != "serinus-version");
            set_header(&mut ledger.served[1], "serinus-outcome", "default");
            ledger.served[1].value = b"so be it".to_vec();
            (
                json!({"version": null, "outcome": "default"}),
                json!([{"version": "v2", "role": "serve", "status": "error"},
                    {"version": "v1", "role": "serve", "status": "late"}]),
            )
        };
        for record in [&mut ledger.predictions[index], &mut ledger.analysis[index]] {
            set_json(record, "/served", served.clone());
            set_json(record, "/answers", answers.clone());
        }
        set_json(&mut ledger.analysis[index], "/scores", json!({}));
        set_header(&mut asked, "serinus-version", "v1");
        ledger.forwarded.entry("v1".to_owned()).or_default().push(asked);
    }
    ledger
}

/// Tests the evidence ledger: it accepts the correct record and finds each wrong figure.
#[test]
fn the_evidence_ledger_finds_every_wrong_figure() {
    let ok = |version: &str, score: f64| json!({"version": version, "role": "serve", "status": "ok", "value": {"score": score}});
    let late = json!({"version": "v2", "role": "serve", "status": "timeout"});
    let case = |id: &str, arm: &str, outcome: &str, answers: serde_json::Value| {
        let case = json!({"request_id": id, "rollout": "r", "arm": arm, "served": {"outcome": outcome},
            "requested_at": 1_000, "routed_at": 1_001, "answers": answers});
        record(0, Some(id), case.to_string().as_bytes(), &[])
    };
    let predictions = [
        case("a", "v2", "ok", json!([ok("v2", 0.2)])),
        case("b", "v1", "ok", json!([ok("v1", 0.5)])),
        case("c", "v2", "fallback", json!([late, ok("v1", 0.5)])),
        case("d", "v2", "ok", json!([ok("v2", 0.8)])),
        case("e", "v2", "ok", json!([ok("v2", 0.8)])),
    ];
    // In time, at the last moment, for a failed case, too late; the fifth has no label.
    let labels = [("a", 0, 1_010), ("b", 1, 1_100), ("c", 1, 1_050), ("d", 0, 1_101)].map(
        |(id, late, at)| {
            let label = json!({"request_id": id, "label": {"late": late}, "observed_at": at});
            record(0, None, label.to_string().as_bytes(), &[])
        },
    );
    let evidence = Evidence::count("r", "v1", 100, &predictions, &labels);
    let right = json!({"rollout": "r", "strategy": "canary",
        "arms": [
            {"version": "v1", "exposures": 1, "answered": 1, "errors": 0, "timeouts": 0, "late": 0, "fallbacks": 0, "labelled": 1, "mature": 1},
            {"version": "v2", "exposures": 4, "answered": 3, "errors": 0, "timeouts": 1, "late": 0, "fallbacks": 1, "labelled": 3, "mature": 4}],
        "metrics": [{"name": "brier", "candidate": "v2", "n": 2,
            "arms": {"v1": {"estimate": 0.25, "n": 1}, "v2": {"estimate": 0.04, "n": 1}}}]});
    let balance = |json: &serde_json::Value| {
        evidence.balance(&[record(0, Some("r"), json.to_string().as_bytes(), &[])])
    };
    assert_eq!(balance(&right), [""; 0]);
    let check = |pointer: &str, wrong: serde_json::Value, expected: &str| {
        let mut json = right.clone();
        *json.pointer_mut(pointer).expect("the field is there") = wrong;
        assert_eq!(balance(&json), [format!("r says {expected}")]);
    };
    check("/arms/0/exposures", json!(2), "exposures of v1 2 for 1");
    check("/arms/1/answered", json!(4), "answered of v2 4 for 3");
    check("/arms/1/timeouts", json!(0), "timeouts of v2 0 for 1");
    check("/arms/1/fallbacks", json!(0), "fallbacks of v2 0 for 1");
    check("/arms/1/labelled", json!(4), "labelled of v2 4 for 3");
    check("/arms/1/mature", json!(3), "mature of v2 3 for 4");
    check("/metrics/0/n", json!(3), "brier of v2 with n 3 for 2");
    check(
        "/metrics/0/arms/v2/estimate",
        json!(0.040_000_1),
        r#"brier of v2 {"estimate":0.0400001,"n":1} for 0.04 of 1"#,
    );
    check("/metrics/0/arms/v1/n", json!(2), r#"brier of v1 {"estimate":0.25,"n":2} for 0.25 of 1"#);
    assert_eq!(evidence.balance(&[]), ["no record of r was published"]);
}

/// Two requests, served by a candidate that has all of the traffic.
fn correct_ledger() -> Ledger {
    let mut ledger = Ledger::default();
    let to = json!({"phase": "Progressing", "stage": 1, "revision": 1, "stable": "v1", "salt": "s", "shares": {"v2": 1.0}, "shadows": {}, "slices": [["v2", 1.0]]});
    ledger.events.push(record(0, None, json!({"to": to}).to_string().as_bytes(), &[]));
    for (offset, id) in ["r1", "r2"].into_iter().enumerate() {
        let body = format!("body of {id}").into_bytes();
        let said = answer("v2", &body);
        let own = [("ce_id", id), ("traceparent", "00-1")];
        let headers = |more: &[(&str, &str)]| {
            let ours =
                [("serinus-request-id", id), ("serinus-version", "v2"), ("serinus-revision", "1")];
            own.iter()
                .chain(&ours)
                .chain(more)
                .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
                .collect::<Vec<_>>()
        };
        let late = u8::from(is_late(&body));
        let score = if late == 1 { 0.8 } else { 0.2 };
        let value: serde_json::Value = serde_json::from_slice(&said).expect("the answer is JSON");
        let mut case = json!({"request_id": id, "revision": 1, "unit": "k", "arm": "v2", "propensity": 1.0,
            "served": {"version": "v2", "outcome": "ok"}, "source": {"partition": 0, "offset": offset},
            "answers": [{"version": "v2", "role": "serve", "status": "ok", "value": value}]});
        ledger.served.push(record(0, Some("k"), &said, &headers(&[("serinus-outcome", "ok")])));
        ledger.forwarded.entry("v2".to_owned()).or_default().push(record(
            0,
            Some("k"),
            &body,
            &headers(&[("serinus-role", "serve")]),
        ));
        ledger.predictions.push(record(0, Some(id), case.to_string().as_bytes(), &[]));
        case["label_status"] = json!("labelled");
        case["label"] = json!({"late": late});
        case["scores"] = json!({"v2": {"brier": (score - f64::from(late)).powi(2)}});
        ledger.analysis.push(record(0, Some(id), case.to_string().as_bytes(), &[]));
        let headers = own.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).to_vec();
        let offset = i64::try_from(offset).expect("there are two");
        ledger.asked.push(record(0, Some("k"), &body, &headers));
        ledger.sent.push(Sent {
            id: id.to_owned(),
            partition: 0,
            offset,
            key: Some(b"k".to_vec()),
            value: body,
            headers,
            has_label: true,
        });
    }
    ledger
}

fn record(
    partition: i32,
    key: Option<&str>,
    value: &[u8],
    headers: &[(String, Vec<u8>)],
) -> Record {
    Record {
        partition,
        key: key.map(|k| k.as_bytes().to_vec()),
        value: value.to_vec(),
        headers: headers.to_vec(),
        ..Record::default()
    }
}

fn set_header(record: &mut Record, name: &str, value: &str) {
    for header in record.headers.iter_mut().filter(|h| h.0 == name) {
        header.1 = value.into();
    }
}

fn set_json(record: &mut Record, pointer: &str, value: serde_json::Value) {
    let mut json = record.json();
    *json.pointer_mut(pointer).expect("the field is there") = value;
    record.value = json.to_string().into_bytes();
}
