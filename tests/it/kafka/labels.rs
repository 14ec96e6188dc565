//! Labels on a real Kafka: request ids, observation times, and that every label that arrives in time counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::kit::clock::{Deadline, unix_ms};
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::log;
use crate::kit::process::{Process, figure, serinus};
use crate::kit::specs;
use crate::kit::traffic::Traffic;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{Sent, WAIT, World};

/// A model whose requests carry id and unit in their bodies.
fn written_ids() -> String {
    specs::shadow("  timeout: 20s\n  shadowTimeout: 20s", "8s")
        .replace("unit: key", "unit: json:/tail")
        .replace("requestId: header:ce_id", "requestId: json:/id")
        .replace("json:/request_id", "json:/id")
}

/// The id in a request, the id in its label, and their common text if they match.
const IDS: [(&str, &str, Option<&str>); 10] = [
    ("12345678901234567890123", "12345678901234567890123", Some("12345678901234567890123")),
    ("1.50", "1.50", Some("1.50")),
    ("1e3", "1e3", Some("1e3")),
    ("-0", "-0", Some("-0")),
    ("77", "\"77\"", Some("77")),
    ("\"54321\"", "54321", Some("54321")),
    ("\"\\u0041b\"", "\"Ab\"", Some("Ab")),
    ("12345", "12345.0", None),
    ("\"Case\"", "\"case\"", None),
    ("2e3", "2000", None),
];

fn body(id: &str, nth: usize) -> Vec<u8> {
    format!(r#"{{"wind":NaN,"id":{id},"gust":[-Infinity, {{"x":NaN}}],"tail":"N{nth}"}}"#).into()
}

fn label(id: &str, late: u8, observed_at: &str) -> Record {
    let value = format!(
        r#"{{"id":{id},"label":{{"late":{late}}},"wind":Infinity,"observed_at":{observed_at}}}"#
    );
    Record { value: value.into(), ..Record::default() }
}

fn inspect(world: &World, id: &str) -> (Option<i32>, String) {
    let output = serinus()
        .args(["inspect", "--bootstrap", &world.kafka.bootstrap, "--app", &world.app])
        .args(["--model", &world.name, id])
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// One request per id, and one without a unit.
fn requests_with_ids() -> Vec<Record> {
    let mut requests: Vec<Record> = (0_i32..)
        .zip(IDS)
        .map(|(nth, (id, _, _))| Record {
            partition: nth % 4,
            key: Some(b"k".to_vec()),
            value: body(id, usize::try_from(nth).expect("it is small")),
            ..Record::default()
        })
        .collect();
    let no_unit = br#"{"id":"no-unit","tail":null}"#.to_vec();
    requests.push(Record { key: Some(b"k".to_vec()), value: no_unit, ..Record::default() });
    requests
}

/// Timestamps in wrong units or ranges, each with a part of its dead letter's reason.
fn times_in_other_units(now: i64) -> [(String, &'static str); 7] {
    let seconds = now / 1000;
    [
        (seconds.to_string(), "seconds (s)"),
        (format!("{seconds}.5"), "seconds (s)"),
        (format!("{now}000"), "microseconds (us)"),
        (format!("{now}000000"), "nanoseconds (ns)"),
        (format!("\"{now}\""), "but text"),
        ("0".to_owned(), "before the year 2000"),
        ((now + 2 * 86_400_000).to_string(), "more than a day ahead"),
    ]
}

#[test]
fn ids_units_and_times_are_taken_as_written() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "written", &written_ids());
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let workers = ["v1", "v2"]
        .map(|version| Worker::start(&kafka, &world.name, version, Behavior::default()));
    let requests = requests_with_ids();
    kafka.send(&world.topic("requests"), &requests);
    let now = unix_ms();
    let units = times_in_other_units(now);
    // Labels with wrong times come first: if one counted, it would be the first of its version.
    let mut labels: Vec<Record> = units.iter().map(|(time, _)| label("\"77\"", 0, time)).collect();
    labels.extend(IDS.iter().map(|(_, id, _)| label(id, 1, &now.to_string())));
    labels.push(label("1.50", 0, &now.to_string()));
    labels.push(label("1.50", 1, &now.to_string()));
    kafka.send(&world.topic("labels"), &labels);

    let mut rows = Reader::open(&kafka, &world.topic("analysis"));
    rows.until("a row of every case", WAIT, |x| x.len() >= requests.len());
    let by_unit: BTreeMap<String, Value> = rows
        .records
        .iter()
        .map(Record::json)
        .map(|row| (row["unit"].as_str().unwrap_or("none").to_owned(), row))
        .collect();
    for (nth, (id, _, means)) in IDS.iter().enumerate() {
        let row = by_unit.get(&format!("N{nth}")).unwrap_or_else(|| panic!("{id}: {by_unit:?}"));
        let status = if means.is_some() { "labelled" } else { "missing" };
        assert_eq!(row["label_status"], status, "{id}: {row}");
        if let Some(means) = means {
            assert_eq!((&row["request_id"], &row["label"]["late"]), (&(*means).into(), &1.into()));
        }
    }
    let mut dead = Reader::open(&kafka, &world.topic("dead-letters"));
    dead.until("a dead letter for each wrong time", WAIT, |x| x.len() >= units.len());
    let reasons: Vec<&str> =
        dead.records.iter().filter_map(|x| x.header("serinus-dead-reason")).collect();
    for (reason, (time, expected)) in reasons.iter().zip(&units) {
        assert!(reason.contains(expected), "{time}: {reason}");
    }
    assert_eq!(reasons.len(), units.len());
    let address = run.http_address();
    let counted = |name: &str| figure(&address, &format!("serinus_{name}_total"));
    run.await_condition("the second of two equal labels", WAIT, || counted("label_duplicate") == 1);
    assert_eq!((counted("label_contradiction"), counted("unit_absent")), (1, 1));
    run.await_condition("words about the request without a unit", WAIT, || {
        let output = serinus()
            .args(["status", "--bootstrap", &kafka.bootstrap, "--app", &world.app])
            .arg(world.rollout())
            .output()
            .expect("it runs");
        String::from_utf8_lossy(&output.stdout).contains("without unit: 1")
    });

    let check = |id: &str, code: i32, expected: &[&str]| {
        let (ended, said) = inspect(&world, id);
        assert_eq!(ended, Some(code), "{id}: {said}");
        assert!(expected.iter().all(|x| said.contains(x)), "{id}: {said}");
    };
    check("1.50", 0, &["labelled", r#""id":1.50"#]);
    check("12345678901234567890123", 0, &["labelled", r#""id":12345678901234567890123"#]);
    check("12345", 0, &["missing", "no label has this id, but one has \"12345.0\""]);
    check("12345.0", 0, &["no prediction has this id, but one has \"12345\""]);
    check("CASE", 1, &["no label has this id, but one has \"case\"", "but one has \"Case\""]);
    drop(workers);
    run.stop();
}

/// A canary over two hours of event time with a label maturity of one minute.
fn backlog() -> String {
    specs::scored(
        "  timeout: 60s",
        "
  candidates: [v2]
  strategy: canary
  stages: [{share: 50%, hold: 2h}]
  labels: {maturity: 1m}
  decide: {by: 14d}
",
    )
}

/// Number of requests and the interval between them: three hours in all.
const BACKLOG: usize = 900;
const APART_MS: i64 = 12_000;

/// Requests of the last three hours, with their times.
fn old_requests(world: &World, now: i64) -> Vec<(Sent, i64)> {
    let request = |nth: usize| {
        let request = world.request(nth);
        let key = format!("u{nth}").into_bytes();
        let before = i64::try_from(BACKLOG - nth).expect("they are few") * APART_MS;
        (Sent { key: Some(key), has_label: true, ..request }, now - before)
    };
    (0..BACKLOG).map(request).collect()
}

fn send_old(world: &World, requests: &[(Sent, i64)]) {
    let records: Vec<Record> =
        requests.iter().map(|(r, at)| Record { timestamp: *at, ..r.record() }).collect();
    world.kafka.send(&world.topic("requests"), &records);
}

fn send_old_labels(world: &World, requests: &[(Sent, i64)]) {
    let records: Vec<Record> = requests.iter().map(|(r, at)| r.label(at + 1000)).collect();
    world.kafka.send(&world.topic("labels"), &records);
}

/// Starts one fast and one slow worker: half of the old requests are answered long after the newest one.
fn start_uneven(world: &World) -> [Worker; 2] {
    let slow = Behavior { delay: Duration::from_secs(2), ..Behavior::default() };
    [("v1", Behavior::default()), ("v2", slow)]
        .map(|(version, behavior)| Worker::start(&world.kafka, &world.name, version, behavior))
}

/// The label statuses of each case, in order.
fn statuses(records: &[Record]) -> BTreeMap<String, Vec<String>> {
    let mut statuses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in records.iter().map(Record::json) {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        statuses.entry(text("request_id")).or_default().push(text("label_status"));
    }
    statuses
}

/// Without the cases of the last minutes, which are not mature: event time follows the clock.
const MATURE: usize = BACKLOG - 10;

#[test]
fn a_backlog_with_labels_is_labelled() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "backlog", &backlog());
    kafka.create_topics(&[(&world.topic("labels"), 3)]);
    let requests = old_requests(&world, unix_ms());
    send_old(&world, &requests);
    send_old_labels(&world, &requests);
    let mut run = world.run();
    world.await_topic(&world.topic("v2.requests"), &mut run);
    let workers = start_uneven(&world);
    let mut rows = Reader::open(&kafka, &world.topic("analysis"));
    rows.until("a row of every mature case", WAIT, |x| x.len() >= MATURE);
    for (id, statuses) in statuses(&rows.records) {
        assert_eq!(statuses, ["labelled"], "{id}");
    }
    drop(workers);
    run.stop();
}

#[test]
fn labels_after_a_closed_backlog_are_counted_as_late_or_orphaned() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "unlabelled-backlog", &backlog());
    let requests = old_requests(&world, unix_ms());
    send_old(&world, &requests);
    let mut run = world.run();
    world.await_topic(&world.topic("v2.requests"), &mut run);
    let workers = start_uneven(&world);
    let mut rows = Reader::open(&kafka, &world.topic("analysis"));
    rows.until("a row of every mature case", WAIT, |x| x.len() >= MATURE);
    let closed = statuses(&rows.records);
    assert!(closed.values().all(|x| x == &["missing"]), "no label was there: {closed:?}");
    let requests: Vec<(Sent, i64)> =
        requests.into_iter().filter(|(x, _)| closed.contains_key(&x.id)).collect();
    send_old_labels(&world, &requests);
    let address = run.http_address();
    let counted = |name: &str| figure(&address, &format!("serinus_{name}_total"));
    run.await_condition("a counter for every label", WAIT, || {
        counted("label_late") + counted("label_orphaned") >= requests.len()
    });
    let (late, orphaned) = (counted("label_late"), counted("label_orphaned"));
    assert_eq!((late + orphaned, counted("label_joined")), (requests.len(), 0));
    rows.until("a row for every late label", WAIT, |x| x.len() >= closed.len() + late);
    drop(workers);
    run.stop();
}

/// Lifetime of one instance.
const LIFE: Duration = Duration::from_secs(5);

/// Number of instance lifetimes; `make soak` sets more.
fn lives() -> usize {
    std::env::var("SERINUS_LIVES").ok().and_then(|x| x.parse().ok()).unwrap_or(3)
}

/// Labels arrive half a second to four seconds after their requests, with a maturity of six seconds: every one must count, regardless of rebalances.
#[test]
fn every_label_counts_while_instances_come_and_go() {
    let Some(kafka) = Kafka::find() else { return };
    let spec = specs::shadow("  timeout: 20s\n  shadowTimeout: 20s", "6s");
    let world = World::new(&kafka, "scaling", &spec);
    let mut first = world.run();
    world.await_phase("Progressing", &mut first);
    let workers = ["v1", "v2"]
        .map(|version| Worker::start(&kafka, &world.name, version, Behavior::default()));
    let traffic = Traffic::start(&world, 250.0);
    let mut second: Option<Process> = None;
    for life in 0..lives() {
        // At least two instances, three at times: partitions of labels and predictions move between them.
        let next = world.run_with_files(if life % 2 == 0 { "two" } else { "three" });
        Deadline::after(LIFE).pass();
        if let Some(before) = second.replace(next) {
            before.stop();
        }
    }
    if let Some(last) = second {
        last.stop();
    }
    let sent = traffic.stop();
    let mut rows = Reader::open(&kafka, &world.topic("analysis"));
    rows.until("a row of every case", WAIT, |x| x.len() >= sent.len());
    let statuses = statuses(&rows.records);
    let labelled: BTreeSet<&str> =
        sent.iter().filter(|x| x.has_label).map(|x| x.id.as_str()).collect();
    assert_eq!(statuses.len(), sent.len());
    for (id, statuses) in &statuses {
        let expected = if labelled.contains(id.as_str()) { "labelled" } else { "missing" };
        assert_eq!(statuses, &[expected], "{id}");
    }
    assert!(!first.log_text().contains(log::CASES_WAIT), "labels were read all the time");
    drop(workers);
    first.stop();
}
