//! A model that uses Avro, on a real Kafka: the published schemas decode its records, and the ledger balances as with JSON.

use std::path::Path;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::{Map, Value, json};

use crate::kit::clock::unix_ms;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::ledger::Ledger;
use crate::kit::process::serinus;
use crate::kit::specs;
use crate::kit::worker::{Behavior, Worker, is_late};
use crate::kit::world::{Sent, WAIT, World};
use crate::wire::schemas::FINGERPRINTS;

const REQUESTS: usize = 300;

/// Additional lines of the model and of the rollout.
const MODEL: &str = "
  timeout: 60s
  shadowTimeout: 90s
  onFailure: stable
  format: avro
  segments: {note: json:/note, nowhere: json:/nowhere}
";
const ROLLOUT: &str = "
  candidates: [v2]
  strategy: canary
  stages: [{share: 50%, shadow: {v1: 100%}, hold: 1h}]
  segments: [{by: note, values: [é]}]
  labels: {maturity: 12s, missing: exclude}
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold}
";

#[test]
fn the_ledger_of_a_model_in_avro_balances() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "avro", &specs::scored(MODEL, ROLLOUT));
    let mut run = world.run();
    let events = Published::of("rollout-event");
    world.await_topic(&world.app_topic("rollout-events"), &mut run);
    Reader::open(&kafka, &world.app_topic("rollout-events")).until("progress", WAIT, |records| {
        records.iter().any(|r| events.json(r)["to"]["phase"] == "Progressing")
    });
    let workers = ["v1", "v2"].map(|w| Worker::start(&kafka, &world.name, w, Behavior::default()));
    let sent = world.send_requests(0, REQUESTS);
    send_labels(&world, &sent);
    for kind in ["served", "predictions", "analysis"] {
        Reader::open(&kafka, &world.topic(kind))
            .until("a record of every case", WAIT, |records| records.len() >= REQUESTS);
    }
    let states = Published::of("rollout-state");
    let metrics = Published::of("rollout-metrics");
    Reader::open(&kafka, &world.app_topic("rollout-metrics")).until("metrics", WAIT, |records| {
        records.iter().any(|r| metrics.json(r)["arms"][0]["labelled"].as_i64() > Some(0))
    });
    let newest = kafka.read_all(&world.app_topic("rollouts")).pop().expect("there is a state");
    assert_eq!(states.json(&newest)["phase"], "Progressing");
    // The command line reads the same records.
    let mut get = serinus();
    get.args(["get", &world.rollout(), "-o", "json"]);
    get.args(["--bootstrap", &kafka.bootstrap, "--app", &world.name]);
    let output = get.output().expect("the program runs");
    let state: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    assert_eq!(
        (&state["phase"], &state["slices"]),
        (&json!("Progressing"), &json!([["v2", 0.5]])),
        "{state}"
    );
    run.stop();
    drop(workers);
    let mut ledger = Ledger::read(&world, sent, &["v1", "v2"]);
    events.open(&mut ledger.events);
    Published::of("prediction").open(&mut ledger.predictions);
    Published::of("analysis").open(&mut ledger.analysis);
    // Every hundredth request is not text and has no segment.
    let noted = |records: &[Record]| {
        records.iter().filter(|r| r.json()["segments"] == json!({"note": "é"})).count()
    };
    let texts = REQUESTS - REQUESTS / 100;
    assert_eq!((noted(&ledger.predictions), noted(&ledger.analysis)), (texts, texts));
    let newest = kafka.read_all(&world.app_topic("rollout-metrics")).pop().expect("there are some");
    assert_eq!(metrics.json(&newest)["segments"][0]["name"], "brier[note=é]");
    let (faults, summary) = ledger.balance();
    assert!(faults.is_empty(), "{} faults, the first:\n{}", faults.len(), faults[0]);
    assert_eq!(summary.served_by.keys().collect::<Vec<_>>(), ["v1", "v2"]);
    assert_eq!(summary.served_by.values().sum::<usize>(), REQUESTS);
}

/// Everything that a reader of an Avro topic has: the published schema and the fingerprint at the start of each record.
struct Published {
    schema: Schema,
    header: Vec<u8>,
}

impl Published {
    fn of(name: &str) -> Self {
        let (_, header) =
            FINGERPRINTS.iter().find(|(h, _)| *h == name).expect("its fingerprint is known");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.avsc"));
        let text = std::fs::read_to_string(path).expect("the schema is published");
        let digits: Vec<char> = header.chars().collect();
        let byte = |c: &[char]| u8::from_str_radix(&c.iter().collect::<String>(), 16);
        Self {
            schema: Schema::parse_str(&text).expect("it is a schema"),
            header: digits.chunks(2).map(|d| byte(d).expect("hexadecimal")).collect(),
        }
    }

    fn json(&self, record: &Record) -> Value {
        let mut datum = record.value.strip_prefix(&*self.header).unwrap_or_else(|| {
            panic!("not of this schema: {:?}", String::from_utf8_lossy(&record.value))
        });
        let reader = GenericDatumReader::builder(&self.schema).build().expect("a schema");
        let read = reader.read_value(&mut datum).expect("it is of the schema");
        assert_eq!(datum, b"", "nothing follows after a record");
        opened(read.try_into().expect("our records are JSON too"))
    }

    fn open(&self, records: &mut [Record]) {
        for record in records {
            record.value = self.json(record).to_string().into_bytes();
        }
    }

    fn write(&self, record: Vec<(String, Avro)>) -> Vec<u8> {
        let mut bytes = self.header.clone();
        let writer = GenericDatumWriter::builder(&self.schema).build().expect("a schema");
        writer.write_value_ref(&mut bytes, &Avro::Record(record)).expect("it is of the schema");
        bytes
    }
}

/// Parses the fields that carry JSON text, and restores lists of slices to their JSON form.
fn opened(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(opened).collect(),
        Value::Object(fields) => fields.into_iter().map(field).collect::<Map<_, _>>().into(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn field((name, value): (String, Value)) -> (String, Value) {
    let value = match (name.as_str(), value) {
        ("label" | "value" | "spec", Value::String(text)) => {
            serde_json::from_str(&text).expect("it is JSON text")
        }
        ("slices", Value::Array(slices)) => {
            slices.iter().map(|s| json!([s["version"], s["width"]])).collect()
        }
        (_, value) => opened(value),
    };
    (name, value)
}

/// Sends the labels in Avro, on any partition.
fn send_labels(world: &World, sent: &[Sent]) {
    let labels = Published::of("label");
    let partitions = world.kafka.partitions(&world.topic("labels"));
    let some = |a: Avro| Avro::Union(1, Box::new(a));
    let none = || Avro::Union(0, Box::new(Avro::Null));
    let records: Vec<Record> = (0..)
        .zip(sent.iter().filter(|s| s.has_label))
        .map(|(index, request)| {
            let late = u8::from(is_late(&request.value));
            let label = vec![
                ("request_id".to_owned(), Avro::String(request.id.clone())),
                ("label".to_owned(), Avro::String(json!({"late": late}).to_string())),
                ("observed_at".to_owned(), some(Avro::TimestampMillis(unix_ms()))),
                ("label_version".to_owned(), none()),
                ("retract".to_owned(), none()),
            ];
            let value = labels.write(label);
            Record { partition: index % partitions, value, ..Record::default() }
        })
        .collect();
    world.kafka.send(&world.topic("labels"), &records);
}
