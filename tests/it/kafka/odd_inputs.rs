//! Unusual answers and labels on a real Kafka: the published figures equal those of an independent scorer.

use serde_json::{Value, json};

use crate::kit::clock::unix_ms;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::scorer::{Kind, Measure, Scorer};
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{Sent, WAIT, World};

/// As in the spec.
const MATURITY_MS: i64 = 12_000;
const REQUESTS: usize = 720;

const SPEC: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: MODEL}
spec:
  stable: sane
  unit: key
  requestId: header:ce_id
  timeout: 3s
  labels: {requestId: json:/request_id, value: json:/label, observedAt: json:/observed_at}
---
apiVersion: serinus/v1
kind: Rollout
metadata: {name: MODEL-v2}
spec:
  model: MODEL
  candidates: [odd]
  strategy: canary
  stages: [{share: 50%, hold: 10h}]
  labels: {maturity: 12s, missing: exclude}
  decide: {alpha: 0.05, by: 14d, no_data: hold}
  metrics:
    - {name: brier, kind: brier, prediction: json:/score, label: json:/late, role: goal, margin: 0.5, mde: 0.01}
    - {name: loss, kind: log_loss, prediction: json:/score, label: json:/late, role: watch, range: [0, 4]}
    - {name: right, kind: accuracy, prediction: json:/class, label: json:/class, role: watch}
    - {name: wrong, kind: error_rate, prediction: json:/class, label: json:/class, role: watch}
    - {name: square, kind: squared_error, prediction: json:/score, label: json:/late, role: watch, range: [0, 9]}
    - {name: off, kind: absolute_error, prediction: json:/score, label: json:/late, role: watch, range: [0, 3]}
    - {name: money, kind: value, label: json:/money, direction: higher, role: watch, margin: 1, range: [-10, 10]}
";

const fn measure(
    name: &'static str,
    kind: Kind,
    (prediction, label): (&'static str, &'static str),
    range: (f64, f64),
) -> Measure {
    Measure { name, kind, prediction, label, range }
}

const MEASURES: [Measure; 7] = [
    measure("brier", Kind::Brier, ("score", "late"), (0.0, 1.0)),
    measure("loss", Kind::LogLoss, ("score", "late"), (0.0, 4.0)),
    measure("right", Kind::Accuracy, ("class", "class"), (0.0, 1.0)),
    measure("wrong", Kind::ErrorRate, ("class", "class"), (0.0, 1.0)),
    measure("square", Kind::SquaredError, ("score", "late"), (0.0, 9.0)),
    measure("off", Kind::AbsoluteError, ("score", "late"), (0.0, 3.0)),
    measure("money", Kind::Value, ("", "money"), (-10.0, 10.0)),
];

/// A request; every fifth id has more digits than any number type holds.
fn request(world: &World, number: usize) -> Sent {
    let mut sent = world.request(number);
    if number.is_multiple_of(5) {
        sent.id = format!("12345678901234567{number:06}");
        for (name, value) in &mut sent.headers {
            if name == "ce_id" {
                *value = sent.id.clone().into_bytes();
            }
        }
    }
    sent
}

/// The label of a request, if it has one; an id of digits only is written as a number.
fn label(sent: &Sent, number: usize) -> Option<Record> {
    let late = [
        json!(0),
        json!(1),
        json!(true),
        json!(false),
        json!(-1),
        json!(2),
        json!("1"),
        Value::Null,
        json!({"late": 1}),
        json!(1),
        json!(0.25),
    ];
    let class =
        [json!(1), json!("1"), json!(true), json!("yes"), Value::Null, json!([1]), json!(0)];
    let money = [json!(-20), json!(5), json!(500), json!("7"), json!(0.5), json!(true)];
    let label = json!({
        "late": late[number % late.len()],
        "class": class[number % class.len()],
        "money": money[number % money.len()],
    });
    let is_number = sent.id.bytes().all(|byte| byte.is_ascii_digit());
    let id = if is_number { sent.id.clone() } else { format!("\"{}\"", sent.id) };
    let value = format!("{{\"request_id\":{id},\"label\":{label},\"observed_at\":{}}}", unix_ms());
    let record = Record { value: value.into_bytes(), ..Record::default() };
    (!number.is_multiple_of(13)).then_some(record)
}

#[test]
fn odd_answers_and_labels_are_scored_like_an_independent_scorer() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "odd", SPEC);
    let mut run = world.run();
    for version in ["sane", "odd"] {
        world.await_topic(&world.topic(&format!("{version}.requests")), &mut run);
    }
    let drops = Behavior { drop_every: Some(9), ..Behavior::default() };
    let _sane = Worker::start(&kafka, &world.name, "sane", Behavior::default());
    let _odd = Worker::start(&kafka, &world.name, "odd", drops);
    world.await_phase("Progressing", &mut run);
    let sent: Vec<Sent> = (0..REQUESTS).map(|number| request(&world, number)).collect();
    let records: Vec<Record> = sent.iter().map(Sent::record).collect();
    kafka.send(&world.topic("requests"), &records);
    let labels: Vec<Record> =
        sent.iter().enumerate().filter_map(|(number, sent)| label(sent, number)).collect();
    kafka.send(&world.topic("labels"), &labels);
    let mut predictions = Reader::open(&kafka, &world.topic("predictions"));
    predictions.until("a prediction of each request", WAIT, |u| u.len() >= REQUESTS);
    let labels = kafka.read_all(&world.topic("labels"));
    let scorer =
        Scorer::score(&world.rollout(), &MEASURES, MATURITY_MS, &predictions.records, &labels);
    let differences = scorer.wait(&world, WAIT);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let account = &scorer.accounts[&("brier", "odd".to_owned())];
    let kinds = [
        account.scored,
        account.bad_answers,
        account.bad_labels,
        account.unanswered,
        account.unlabelled,
    ];
    assert!(kinds.iter().all(|k| *k > 5), "every kind of case came: {account:?}");
    run.stop();
}
