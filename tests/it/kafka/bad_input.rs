//! Bad input of every kind on a real Kafka: nothing stops, nothing is lost, and good requests in between are answered exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Message};
use serde_json::{Value, json};

use serinus::wire::placement::partition as home;

use crate::kit::clock::unix_ms;
use crate::kit::kafka::{Kafka, Reader, Record, skip};
use crate::kit::log;
use crate::kit::process::{Process, serinus};
use crate::kit::specs;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{Sent, WAIT, World};

fn spec() -> String {
    specs::shadow("  timeout: 10s\n  shadowTimeout: 12s", "6s")
}

/// Larger than the program's message limit, smaller than the broker's.
const HUGE: usize = 1_010_000;
const YEAR_MS: i64 = 365 * 86_400_000;
/// The partition of the bad requests, which good requests share.
const PARTITION: i32 = 1;

/// A record in which anything may be missing.
#[derive(Clone, Default)]
struct Bad {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    at: Option<i64>,
}

fn bad(key: &str, value: impl Into<Vec<u8>>) -> Bad {
    Bad { key: Some(key.into()), value: Some(value.into()), ..Bad::default() }
}

fn with(mut record: Bad, headers: &[(&str, &[u8])]) -> Bad {
    record.headers.extend(headers.iter().map(|(name, h)| ((*name).to_owned(), Some(h.to_vec()))));
    record
}

/// The expected handling of a record.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// Served once, with this outcome.
    Served(&'static str),
    /// Served as an error, with a dead letter that gives the reason.
    ServedAndDead(&'static str),
    /// Written to the dead letters with this reason.
    Dead(&'static str),
    /// Counted under this name.
    Counted(&'static str),
    /// Processed like any other record.
    Taken,
}

/// The offset of the last delivered record.
#[derive(Default)]
struct Receipt(Mutex<i64>);

impl ClientContext for Receipt {}

impl ProducerContext for Receipt {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let message = result.as_ref().unwrap_or_else(|(error, _)| panic!("not taken: {error}"));
        *self.0.lock().expect("no delivery panicked") = message.offset();
    }
}

/// A client that sends invalid records and keeps what is expected of each.
struct BadClient {
    producer: BaseProducer<Receipt>,
    dead: Vec<(String, i32, i64, &'static str)>,
    served: Vec<(String, &'static str)>,
    counted: Vec<&'static str>,
}

impl BadClient {
    fn new(kafka: &Kafka) -> Self {
        let mut config = kafka.config();
        config.set("message.max.bytes", "1045000");
        let producer =
            config.create_with_context(Receipt::default()).expect("a producer can be made");
        Self { producer, dead: Vec::new(), served: Vec::new(), counted: Vec::new() }
    }

    /// Sends one record and returns its offset.
    fn send(&self, topic: &str, partition: i32, record: &Bad) -> i64 {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: value.as_deref() });
        }
        let mut out: BaseRecord<'_, [u8], [u8], ()> =
            BaseRecord::to(topic).partition(partition).headers(headers);
        out.key = record.key.as_deref();
        out.payload = record.value.as_deref();
        out.timestamp = record.at;
        self.producer.send(out).unwrap_or_else(|(error, _)| panic!("not even sent: {error}"));
        self.producer.flush(Duration::from_secs(30)).expect("it is delivered");
        *self.producer.context().0.lock().expect("no delivery panicked")
    }

    /// Sends a record and notes its expected handling.
    fn check(&mut self, (topic, partition): (&str, i32), record: &Bad, expected: Expected) {
        let offset = self.send(topic, partition, record);
        // A record without a readable id is identified by its position.
        let id = || {
            let written = record.headers.iter().rev().find(|(name, _)| name == "ce_id");
            let text = written.and_then(|(_, w)| String::from_utf8(w.clone()?).ok());
            text.filter(|t| !t.is_empty())
                .unwrap_or_else(|| format!("{topic}-{partition}-{offset}"))
        };
        match expected {
            Expected::Served(outcome) => self.served.push((id(), outcome)),
            Expected::ServedAndDead(reason) => {
                self.served.push((id(), "error"));
                self.dead.push((topic.to_owned(), partition, offset, reason));
            }
            Expected::Dead(reason) => {
                self.dead.push((topic.to_owned(), partition, offset, reason));
            }
            Expected::Counted(name) => self.counted.push(name),
            Expected::Taken => {}
        }
    }
}

fn bad_requests() -> Vec<(Bad, Expected)> {
    let ok = Expected::Served("ok");
    let many: Vec<(String, Option<Vec<u8>>)> =
        (0..500).map(|u| (format!("h{u}"), Some(b"x".to_vec()))).collect();
    let ours: &[(&str, &[u8])] = &[
        ("serinus-outcome", b"spoofed"),
        ("serinus-case", b"0.0.0.0"),
        ("serinus-dead-reason", b"spoofed"),
    ];
    vec![
        (Bad { key: Some(b"k".to_vec()), ..Bad::default() }, ok),
        (Bad::default(), ok),
        (bad("k", ""), ok),
        (Bad { key: None, ..bad("", "x") }, ok),
        (Bad { key: Some(vec![0xff, 0xfe]), ..bad("", "x") }, ok),
        (with(bad("k", "x"), &[("ce_id", &[0xff, 0xfe]), ("other", &[0xff])]), ok),
        (with(bad("k", "x"), &[("ce_id", b"")]), ok),
        (
            Bad {
                headers: vec![("ce_id".to_owned(), None), ("h".to_owned(), None)],
                ..bad("k", "x")
            },
            ok,
        ),
        (Bad { headers: many, ..bad("k", "x") }, ok),
        (with(bad("k", "x"), &[("big", &vec![b'x'; 900_000])]), ok),
        (bad("k", vec![b'x'; 990_000]), ok),
        (with(bad("k", "x"), &[("ce_id", b"twice")]), ok),
        (with(bad("k", "y"), &[("ce_id", b"twice")]), ok),
        // One wrong clock must not make the rollout fifty years old and overdue.
        (Bad { at: Some(1), ..bad("k", "x") }, ok),
        (with(bad("k", "x"), ours), ok),
        (bad("k", vec![b'x'; HUGE]), Expected::ServedAndDead("does not fit into one message")),
        // The id and its envelope together exceed the limit on every topic.
        (
            with(bad("k", "x"), &[("ce_id", &vec![b'i'; 600_000])]),
            Expected::Dead("does not fit into one message"),
        ),
    ]
}

fn bad_answers(open: &Record) -> Vec<(Bad, Expected)> {
    let token = open.header("serinus-case").expect("a copy has a token").as_bytes();
    let says = |case: &[u8], version: &[u8]| {
        with(bad("k", "x"), &[("serinus-case", case), ("serinus-version", version)])
    };
    vec![
        (bad("k", "x"), Expected::Dead("serinus-case is missing")),
        (says(b"nonsense", b"v1"), Expected::Dead("is not a token")),
        (says(b"99.5.0.9000000000000", b"v1"), Expected::Dead("names partition 99")),
        (says(b"1.999999.0.1", b"v1"), Expected::Counted("answer_late")),
        (says(b"1.999999.0.9000000000000", b"v1"), Expected::Counted("answer_duplicate")),
        (says(b"2.999999.0.1", b"v1"), Expected::Counted("answer_misdirected")),
        (says(token, b"v9"), Expected::Counted("answer_unknown")),
        (says(token, &[0xff]), Expected::Dead("serinus-version is missing or not text")),
        // Not JSON: base64 in the prediction log makes it a third longer.
        (
            Bad { value: Some(vec![0xff; 990_000]), ..says(token, b"v2") },
            Expected::Counted("too_large"),
        ),
        (Bad { value: None, ..says(token, b"v2") }, Expected::Counted("answer_duplicate")),
    ]
}

fn bad_labels() -> Vec<(Bad, Expected)> {
    let label = |value: Value| bad("k", value.to_string());
    let now = unix_ms();
    vec![
        (Bad { key: Some(b"k".to_vec()), ..Bad::default() }, Expected::Dead("has no value")),
        (bad("k", "{nonsense"), Expected::Dead("neither JSON nor an Avro label")),
        (bad("k", vec![0xff; 10]), Expected::Dead("neither JSON nor an Avro label")),
        (label(json!({"request_id": true, "label": 1})), Expected::Dead("names no request")),
        (label(json!({"label": 1})), Expected::Dead("names no request")),
        (label(json!(7)), Expected::Dead("names no request")),
        (label(json!({"request_id": "a"})), Expected::Dead("has no value where the spec")),
        (
            label(json!({"request_id": "a", "label": 1, "observed_at": "noon"})),
            Expected::Dead("time is not"),
        ),
        (
            label(json!({"request_id": "a", "label": 1, "label_version": -1})),
            Expected::Dead("version is not"),
        ),
        (
            label(json!({"request_id": "a", "label": 1, "retract": "yes"})),
            Expected::Dead("field retract"),
        ),
        (label(json!({"request_id": "unknown", "label": 1, "observed_at": now})), Expected::Taken),
        (
            label(json!({"request_id": "unknown", "retract": true, "observed_at": now})),
            Expected::Taken,
        ),
        (
            label(json!({"request_id": "future", "label": 1, "observed_at": now + YEAR_MS})),
            Expected::Dead("more than a day ahead"),
        ),
        (
            label(json!({"request_id": "end", "label": 1, "observed_at": i64::MAX})),
            Expected::Dead("more than a day ahead"),
        ),
        (
            label(json!({"request_id": "begin", "label": 1, "observed_at": i64::MIN})),
            Expected::Dead("before the year 2000"),
        ),
        (
            label(json!({"request_id": "unit", "label": 1, "observed_at": now / 1000})),
            Expected::Dead("looks like seconds (s)"),
        ),
        (
            label(json!({"request_id": "a", "label": "x".repeat(HUGE)})),
            Expected::Dead("the label does not fit"),
        ),
    ]
}

fn bad_commands(model: &str) -> Vec<(Bad, Expected)> {
    vec![
        (bad(model, "{nonsense"), Expected::Dead("")),
        (Bad { value: None, ..bad(model, "") }, Expected::Dead("the command has no value")),
        (
            bad(model, json!({"id": "c", "model": model, "verb": "explode"}).to_string()),
            Expected::Dead("explode"),
        ),
        (bad(model, vec![b'x'; HUGE]), Expected::Dead("")),
        (Bad { key: None, ..bad("", "nonsense") }, Expected::Counted("command_unreadable")),
    ]
}

fn bad_predictions() -> Vec<(Bad, Expected)> {
    vec![
        (bad("k", "nonsense"), Expected::Dead("it is not a prediction")),
        (bad("k", "{}"), Expected::Dead("it is not a prediction")),
        (Bad { value: None, ..bad("k", "") }, Expected::Dead("a prediction without a value")),
        (bad("k", vec![b'x'; HUGE]), Expected::Dead("it is not a prediction")),
    ]
}

/// Waits for the copy of a request that a version received.
fn copy_of(world: &World, version: &str, id: &str) -> Record {
    let mut copies = Reader::open(&world.kafka, &world.topic(&format!("{version}.requests")));
    let is_it = |r: &&Record| r.header("serinus-request-id") == Some(id);
    copies.until("the copy of a request", WAIT, |records| records.iter().any(|r| is_it(&r)));
    copies.records.iter().find(is_it).expect("it came").clone()
}

/// Writes a header whose name is not text, which the client library of this test cannot do.
fn send_a_nameless_header(world: &World) {
    let topic = world.topic("requests");
    let mut kcat = Command::new("kcat");
    kcat.args([
        "-P",
        "-b",
        &world.kafka.bootstrap,
        "-t",
        &topic,
        "-p",
        "1",
        "-H",
        "ce_id=nameless",
        "-H",
    ]);
    kcat.arg(OsStr::from_bytes(b"\xff\xfe=x")).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE"));
    assert!(kcat.status().expect("kcat runs").success());
}

/// Before any worker runs, sends a request and an answer that does not fit into a served record.
fn send_oversized_answer(world: &World, client: &mut BadClient) {
    let asks = with(bad("k", "x"), &[("ce_id", b"big-answer"), ("h", &vec![b'h'; 50_000])]);
    client.check((&world.topic("requests"), PARTITION), &asks, Expected::Served("error"));
    let asked = copy_of(world, "v1", "big-answer");
    let token = asked.header("serinus-case").expect("a copy has a token").as_bytes();
    let answer = bad("k", vec![b'a'; 990_000]);
    let answer = with(answer, &[("serinus-case", token), ("serinus-version", b"v1")]);
    client.send(&world.topic("responses"), PARTITION, &answer);
}

#[test]
fn bad_input_stops_nothing_and_is_never_lost() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "bad", &spec());
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let mut client = BadClient::new(&kafka);
    let requests = world.topic("requests");

    send_oversized_answer(&world, &mut client);
    let worker = Worker::start(&kafka, &world.name, "v1", Behavior::default());

    let mut good = world.send_requests(0, 20);
    for (record, expected) in bad_requests() {
        client.check((&requests, PARTITION), &record, expected);
    }
    if Command::new("kcat").arg("-V").output().is_ok_and(|i| i.status.success()) {
        send_a_nameless_header(&world);
        client.served.push(("nameless".to_owned(), "ok"));
    } else {
        skip("kcat is not installed, so no header has a name that is not text");
    }
    good.extend(world.send_requests(20, 40));
    let open = copy_of(&world, "v2", &good.last().expect("some").id);
    let open_partition = good.last().expect("some").partition;
    for (record, expected) in bad_answers(&open) {
        let is_of_open = matches!(expected, Expected::Counted("answer_unknown" | "too_large"));
        let partition = if is_of_open { open_partition } else { PARTITION };
        client.check((&world.topic("responses"), partition), &record, expected);
    }
    let commands = world.app_topic("commands");
    let bench = home(world.name.as_bytes(), kafka.partitions(&commands));
    let places = [
        (world.topic("labels"), 0, bad_labels()),
        (commands, bench, bad_commands(&world.name)),
        (world.topic("predictions"), 0, bad_predictions()),
    ];
    for (topic, partition, records) in places {
        for (record, expected) in records {
            client.check((&topic, partition), &record, expected);
        }
    }
    good.extend(world.send_requests(40, 60));
    world.send_labels(&good);
    client.served.extend(good.iter().map(|g| (g.id.clone(), "ok")));

    check_served(&world, &client);
    check_dead(&world, &client);
    check_rows(&world, &good);
    assert_eq!(world.command("pause")["verdict"], "pause", "commands are still carried out");

    let log = run.log_text();
    assert!(!log.contains(log::ROLE_RESTARTED), "a role began again:\n{log}");
    drop(worker);
    let log = run.stop_and_read();
    for name in client.counted.iter().chain(&["too_large", "request_id_duplicate", "refused"]) {
        assert!(log.lines().any(|l| l.contains("counted") && l.contains(name)), "{name}:\n{log}");
    }
}

/// Every request is served once, and no forged Serinus header is passed on.
fn check_served(world: &World, client: &BadClient) {
    let mut served = Reader::open(&world.kafka, &world.topic("served"));
    // Plus the request whose id was truncated.
    let count = client.served.len() + 1;
    served.until("an answer to each", WAIT, |records| records.len() >= count);
    let records = world.kafka.read_all(&world.topic("served"));
    assert_eq!(records.len(), count, "each is served once");
    let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
    client.served.iter().for_each(|(id, _)| *expected.entry(id).or_default() += 1);
    for (id, outcome) in &client.served {
        let found: Vec<&Record> =
            records.iter().filter(|r| r.header("serinus-request-id") == Some(id)).collect();
        assert_eq!(found.len(), expected[id.as_str()], "{id}");
        for it in found {
            let said = it.header("serinus-outcome");
            // A slow machine may miss a deadline; then the miss must be reported once.
            assert!(
                said == Some(outcome) || *outcome != "error" && said == Some("error"),
                "{id}: {said:?}"
            );
            let spoofed = |(_, value): &(String, Vec<u8>)| value == b"spoofed";
            assert!(!it.headers.iter().any(spoofed), "{id}");
        }
    }
    let big = records.iter().find(|r| r.header("serinus-request-id") == Some("big-answer"));
    let error = big.and_then(|b| b.header("serinus-error")).unwrap_or_default();
    assert!(error.contains("990000 bytes"), "{error}");
    let predictions = world.kafka.read_all(&world.topic("predictions"));
    // The topic also holds foreign predictions, which are not JSON.
    let big = predictions.iter().find(|record| record.key.as_deref() == Some(b"big-answer"));
    let big = big.expect("its case is closed").json();
    assert_eq!(
        (&big["served"]["outcome"], &big["answers"][0]["status"]),
        (&json!("error"), &json!("error")),
        "{big}"
    );
}

/// Every request is joined with its label, and records dated in the future do not make earlier requests mature early.
fn check_rows(world: &World, good: &[Sent]) {
    let labelled = |from: usize| good[from..].iter().filter(|f| f.has_label).map(|h| &h.id);
    let mut rows = Reader::open(&world.kafka, &world.topic("analysis"));
    rows.until("a row with each label", WAIT, |records| {
        let joined: BTreeSet<String> = records
            .iter()
            .map(Record::json)
            .filter(|j| !j["label"].is_null())
            .map(|i| i["request_id"].as_str().expect("a row has its request's id").to_owned())
            .collect();
        labelled(0).all(|id| joined.contains(id))
    });
    let rows: Vec<Value> = rows.records.iter().map(Record::json).collect();
    for id in labelled(40) {
        let first = rows.iter().find(|r| r["request_id"] == id.as_str() && r["row_version"] == 1);
        assert_eq!(first.expect("it has a row")["label_status"], "labelled", "{id}");
    }
}

/// Every unusable record is a dead letter with reason and origin.
fn check_dead(world: &World, client: &BadClient) {
    let mut letters = Reader::open(&world.kafka, &world.topic("dead-letters"));
    for (topic, partition, offset, reason) in &client.dead {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let is_it = |r: &Record| {
            r.header("serinus-dead-topic") == Some(topic)
                && r.header("serinus-dead-partition") == Some(&partition)
                && r.header("serinus-dead-offset") == Some(&offset)
                && r.header("serinus-dead-reason").is_some_and(|h| h.contains(reason))
        };
        let what = format!("the dead letter of {topic}[{partition}]@{offset}: {reason}");
        letters.until(&what, WAIT, |records| records.iter().any(is_it));
    }
}

#[test]
fn a_dead_label_joins_after_the_spec_is_fixed_and_it_is_requeued() {
    let Some(kafka) = Kafka::find() else { return };
    let wrong = spec().replace("value: json:/label,", "value: json:/truth,");
    let world = World::new(&kafka, "requeue", &wrong);
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let worker = Worker::start(&kafka, &world.name, "v1", Behavior::default());
    let sent = world.send_requests(0, 4);
    world.send_labels(&sent[..1]);
    let mut letters = Reader::open(&kafka, &world.topic("dead-letters"));
    letters.until("the dead label", WAIT, |records| !records.is_empty());

    let command = |args: &[&str], code: i32| -> Value {
        let output = serinus()
            .args(args)
            .args(["--bootstrap", &kafka.bootstrap, "--app", &world.name, "-o", "json"])
            .output()
            .expect("the program runs");
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    let shown = command(&["tail", "--dead", "--reason", "no value where"], 0);
    assert_eq!(shown["dead"]["topic"], world.topic("labels"));
    let requeue = |args: &[&str], code: i32| {
        command(&[&["requeue", "--model", &world.name], args].concat(), code)
    };
    requeue(&[], 2);
    requeue(&["--reason", "no such reason"], 1);
    let tried = requeue(&["--all", "--dry-run"], 0);
    assert_eq!(tried["requeued"][0]["to"]["topic"], world.topic("labels"));
    assert_eq!(kafka.read_all(&world.topic("labels")).len(), 1, "nothing was sent");

    // Serving and analysis each follow model changes on their own.
    let known = |run: &Process| run.log_text().matches(log::ROUTING_KNOWN).count();
    let await_known = |run: &Process, count: usize| {
        run.await_condition("a change that both roles know", WAIT, || known(run) >= count);
    };
    // The label location cannot change during a rollout that uses it.
    let before = known(&run);
    assert_eq!(world.command("abort")["verdict"], "abort");
    await_known(&run, before + 2);
    let mended = spec();
    let model = mended.split("---").next().expect("the model comes first");
    command(&["apply", &world.write_spec(model)], 0);
    await_known(&run, before + 4);
    let topic = world.topic("labels");
    requeue(&["--topic", &topic, "--offset", "0:0"], 0);
    let is_joined =
        |r: &Record| r.json()["request_id"] == sent[0].id && !r.json()["label"].is_null();
    Reader::open(&kafka, &world.topic("analysis")).until(
        "the row with the label",
        WAIT,
        |records| records.iter().any(is_joined),
    );
    let labels = kafka.read_all(&topic);
    let from = format!("{}-0-0", world.topic("dead-letters"));
    assert_eq!(labels[1].header("serinus-requeued-from"), Some(from.as_str()));
    assert_eq!((&labels[1].value, labels[1].timestamp), (&labels[0].value, labels[0].timestamp));
    drop(worker);
    run.stop();
}
