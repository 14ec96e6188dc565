//! A run that an earlier build recorded: this build recomputes its decisions byte for byte.
//!
//! A build that decides in another way cannot recompute it. The commit that changes decisions records the run again:
//! `tests/kafka/kafka.sh with cargo test --test it -- --ignored recorded_run::record`.
//!
//! The fixture holds the committed records of the topics that the audit reads: a canary of 480 requests with a kill, a pause, two stages,
//! a promotion and late labels. Journals name offsets, so each record must stand at its old offset again. Between them were markers of
//! transactions and aborted records; they are made again by transactions that commit or abort.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kit::kafka::{Kafka, Reader, Receipts, Record};
use crate::kit::process::serinus;
use crate::kit::specs;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{Sent, World};

const FIXTURE: &[u8] = include_bytes!("recorded_run.jsonl.gz");

const WAIT: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Run { app: String, model: String },
    Topic { topic: String, ends: Vec<i64> },
    Record(i32, i64, i64, Option<String>, Option<String>, Vec<(String, Option<String>)>),
}

/// A record at its offset, and how many offsets after it hold no committed record.
struct Old {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Default)]
struct OldTopic {
    ends: Vec<i64>,
    partitions: BTreeMap<i32, Vec<Old>>,
}

/// Consecutive records of one partition and the gap that follows them.
struct Run<'a> {
    records: &'a [Old],
    gap: i64,
}

#[test]
fn a_run_of_an_earlier_build_is_recomputed_byte_for_byte() {
    let Some(kafka) = Kafka::find() else { return };
    let (app, model, topics) = fixture();
    for (topic, old) in &topics {
        restore(&kafka, topic, old);
    }
    let output = serinus()
        .args(["replay", "--from-topics", "--bootstrap", &kafka.bootstrap])
        .args(["--app", &app, "--model", &model, "-o", "json"])
        .output()
        .expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let audit: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("not JSON: {error}: {stderr}"));
    assert_eq!(audit["clean"], true, "{audit:#}");
    let checks = audit["models"][0]["checks"].as_array().expect("a list of checks");
    let equal: BTreeMap<&str, u64> = checks
        .iter()
        .map(|c| (c["what"].as_str().expect("a name"), c["equal"].as_u64().expect("a count")))
        .collect();
    let recorded = [("events", 9), ("evidence", 23), ("states", 1), ("sums", 236)];
    assert_eq!(equal, BTreeMap::from(recorded), "{audit:#}");
}

/// The rollout of the recorded run: two stages, metrics of five kinds, and an audit of everything.
const ROLLOUT: &str = "
  stages: [{share: 30%, hold: 2s}, {share: 50%, hold: 2s, approve: true}]
  metrics:
    - {name: brier, kind: brier, prediction: json:/score, label: json:/late, role: goal, direction: lower, margin: 0.2, mde: 0.2}
    - {name: errors, kind: response_error, role: guardrail, margin: 20%}
    - {name: p95, kind: latency, role: guardrail, margin: 400%}
    - {name: auc, kind: auc, prediction: json:/score, label: json:/late, role: watch}
    - {name: accuracy, kind: accuracy, prediction: json:/score, label: json:/late, role: watch}
  labels: {maturity: 2s, missing: negative}
  decide: {promote: non_inferior, alpha: 0.1, inconclusive: abort, by: 14d, no_data: hold, tick: 2s}
";

/// The topics that an audit reads: of the application, then of the model.
const OF_APP: [&str; 5] =
    ["commands", "internal.judge-journal", "rollout-events", "rollout-metrics", "rollouts"];
const OF_MODEL: [&str; 4] = ["analysis", "dead-letters", "labels", "predictions"];

#[test]
#[ignore = "rewrites the fixture: run it in the commit that changes decisions or their records"]
fn record() {
    let kafka = Kafka::find().expect("a Kafka is needed");
    let world = World::new(&kafka, "recorded", &specs::canary(ROLLOUT));
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let _workers = ["v1", "v2"].map(|r| Worker::start(&kafka, &world.name, r, Behavior::default()));
    let mut served = Reader::open(&kafka, &world.topic("served"));
    let mut events = Reader::open(&kafka, &world.app_topic("rollout-events"));
    let mut sent: Vec<Sent> = Vec::new();
    for part in 0..60 {
        let before = sent.len();
        sent.extend(world.send_requests(before, before + 40));
        // The labels of the first part come after maturity.
        world.send_labels(&sent[before.max(40)..]);
        served.until("an answer to each", WAIT, |records| records.len() >= sent.len());
        match part {
            2 => {
                run.kill();
                run = world.run();
            }
            4 => {
                assert_eq!(world.command("pause")["verdict"], "pause");
                assert_eq!(world.command("resume")["verdict"], "resume");
            }
            8 => world.send_labels(&sent[..40]),
            _ => {}
        }
        events.read_for(Duration::from_millis(300));
        let has = |verdict: &str| events.records.iter().any(|r| r.json()["verdict"] == verdict);
        if has("promote") {
            break;
        }
        if has("advance") && !has("approve") {
            assert_eq!(world.command("approve")["verdict"], "approve");
        }
    }
    world.await_phase("Promoted", &mut run);
    run.stop();
    let app = OF_APP.map(|topic| world.app_topic(topic));
    let of_lanes = ["analyst-journal", "labels", "partials"]
        .map(|topic| world.app_topic(&format!("internal.{}.{topic}", world.name)));
    let model = OF_MODEL.map(|topic| world.topic(topic));
    let mut lines = vec![json!({"app": world.app, "model": world.name})];
    for topic in app.iter().chain(&of_lanes).chain(&model) {
        lines.extend(lines_of(&kafka, topic));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/kafka/recorded_run.jsonl.gz");
    let mut file = GzEncoder::new(File::create(path).expect("it is writable"), Compression::best());
    for line in lines {
        writeln!(file, "{line}").expect("it is written");
    }
    file.finish().expect("it is written");
    println!("{:#}", world.audit(&[]).said);
}

/// Returns the lines of one topic: its end offsets, then its committed records.
fn lines_of(kafka: &Kafka, topic: &str) -> Vec<Value> {
    let consumer: BaseConsumer = kafka.config().create().expect("a consumer can be made");
    let ends: Vec<i64> = (0..kafka.partitions(topic))
        .map(|p| consumer.fetch_watermarks(topic, p, WAIT).expect("the broker answers").1)
        .collect();
    let latin = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    let record = |r: &Record| {
        let headers: Vec<_> = r.headers.iter().map(|(k, v)| json!([k, latin(v)])).collect();
        let key = r.key.as_deref().map(latin);
        json!([r.partition, r.offset, r.timestamp, key, latin(&r.value), headers])
    };
    let mut records = kafka.read_all(topic);
    records.sort_by_key(|r| (r.partition, r.offset));
    let head = json!({"topic": topic, "ends": ends});
    [head].into_iter().chain(records.iter().map(record)).collect()
}

/// Reads the fixture: bytes are written as Latin-1 text in JSON.
fn fixture() -> (String, String, BTreeMap<String, OldTopic>) {
    let mut text = String::new();
    GzDecoder::new(FIXTURE).read_to_string(&mut text).expect("the fixture is JSON lines in gzip");
    let (mut run, mut topics, mut current) = (None, BTreeMap::new(), String::new());
    for line in text.lines() {
        match serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")) {
            Line::Run { app, model } => run = Some((app, model)),
            Line::Topic { topic, ends } => {
                topics.insert(topic.clone(), OldTopic { ends, ..OldTopic::default() });
                current = topic;
            }
            Line::Record(partition, offset, timestamp, key, value, headers) => {
                let headers =
                    headers.into_iter().map(|(name, value)| (name, value.as_deref().map(bytes)));
                let record = Old {
                    offset,
                    timestamp,
                    key: key.as_deref().map(bytes),
                    value: value.as_deref().map(bytes),
                    headers: headers.collect(),
                };
                let topic = topics.get_mut(&current).expect("its topic comes first");
                topic.partitions.entry(partition).or_default().push(record);
            }
        }
    }
    let (app, model) = run.expect("the first line names the run");
    (app, model, topics)
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect()
}

/// Writes a topic so that each record stands at its old offset; a topic that a test on the same broker restored before is left alone.
fn restore(kafka: &Kafka, topic: &str, old: &OldTopic) {
    if kafka.partitions(topic) > 0 {
        return;
    }
    let partitions = i32::try_from(old.ends.len()).expect("few partitions");
    kafka.create_topic(
        topic,
        partitions,
        &[("message.timestamp.type", "CreateTime"), ("retention.ms", "-1")],
    );
    let plain = producer(kafka, None);
    let transactional = producer(kafka, Some(&format!("restore-{topic}")));
    transactional.init_transactions(WAIT).expect("the broker knows it");
    let none = Vec::new();
    let mut runs: Vec<std::vec::IntoIter<Run<'_>>> = (0_i32..)
        .zip(&old.ends)
        .map(|(partition, end)| {
            runs(old.partitions.get(&partition).unwrap_or(&none), *end).into_iter()
        })
        .collect();
    loop {
        let round: Vec<(i32, Run<'_>)> =
            (0_i32..).zip(&mut runs).filter_map(|(p, runs)| Some((p, runs.next()?))).collect();
        if round.is_empty() {
            break;
        }
        // A gap of one is the marker of a commit; a longer one is aborted records and the marker of their abort.
        for (partition, run) in round.iter().filter(|(_, run)| run.gap != 1) {
            run.records.iter().for_each(|record| send(&plain, topic, *partition, record));
        }
        plain.flush(WAIT).expect("all is delivered");
        if round.iter().any(|(_, run)| run.gap == 1) {
            transactional.begin_transaction().expect("it begins");
            for (partition, run) in round.iter().filter(|(_, run)| run.gap == 1) {
                run.records
                    .iter()
                    .for_each(|record| send(&transactional, topic, *partition, record));
            }
            transactional.commit_transaction(WAIT).expect("it commits");
        }
        if round.iter().any(|(_, run)| run.gap > 1) {
            transactional.begin_transaction().expect("it begins");
            for (partition, run) in round.iter().filter(|(_, run)| run.gap > 1) {
                (1..run.gap).for_each(|_| send(&transactional, topic, *partition, &aborted()));
            }
            transactional.flush(WAIT).expect("all is delivered");
            transactional.abort_transaction(WAIT).expect("it aborts");
        }
    }
}

fn runs(records: &[Old], end: i64) -> Vec<Run<'_>> {
    let mut runs = Vec::new();
    let first = records.first().map_or(end, |record| record.offset);
    if first > 0 {
        runs.push(Run { records: &[], gap: first });
    }
    let mut from = 0;
    for index in 0..records.len() {
        let next = records.get(index + 1).map_or(end, |record| record.offset);
        let gap = next - records[index].offset - 1;
        if gap > 0 || index + 1 == records.len() {
            runs.push(Run { records: &records[from..=index], gap });
            from = index + 1;
        }
    }
    runs
}

fn aborted() -> Old {
    Old {
        offset: 0,
        timestamp: 1,
        key: Some(b"aborted".to_vec()),
        value: None,
        headers: Vec::new(),
    }
}

fn producer(kafka: &Kafka, transactional_id: Option<&str>) -> BaseProducer<Receipts> {
    let mut config = kafka.config();
    config.set("enable.idempotence", "true").set("message.max.bytes", "10000000");
    if let Some(id) = transactional_id {
        config.set("transactional.id", id);
    }
    config.create_with_context(Receipts::default()).expect("a producer can be made")
}

fn send(producer: &BaseProducer<Receipts>, topic: &str, partition: i32, record: &Old) {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: value.as_ref() })
    });
    let mut out =
        BaseRecord::<'_, Vec<u8>, Vec<u8>, Box<usize>>::with_opaque_to(topic, Box::new(0))
            .partition(partition)
            .timestamp(record.timestamp)
            .headers(headers);
    out.key = record.key.as_ref();
    out.payload = record.value.as_ref();
    producer.send(out).unwrap_or_else(|(error, _)| panic!("`{topic}`: {error}"));
}
