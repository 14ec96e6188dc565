//! Lost progress on a real Kafka: expired group offsets, truncated journals, deleted requests.
//!
//! No request is served twice and no open request is lost. If neither can be ruled out, the partition is blocked and the log says why.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::kit::admin;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::log;
use crate::kit::process::{Process, folder, serinus};
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{PARTITIONS, Sent, WAIT, World, unique};

const SPEC: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: MODEL}
spec: {stable: v1, requestId: 'header:ce_id', timeout: 60s, shadowTimeout: 60s}
";

/// Requests per part of a test, evenly over the partitions.
const PART: usize = 40;

/// Starts an instance without a name, so that its groups are empty as soon as it stops.
pub(crate) fn start(world: &World) -> Process {
    let mut command = serinus();
    command.args(["run", "--bootstrap", &world.kafka.bootstrap, "--app", &world.app]);
    command.args(["--create-topics", "--http", "127.0.0.1:0", "--apply"]).arg(&world.spec);
    Process::start(&mut command, &folder(&world.app).join(format!("{}.log", unique("run"))))
}

pub(crate) fn worker(world: &World, version: &str) -> Worker {
    Worker::start(&world.kafka, &world.name, version, Behavior::default())
}

pub(crate) fn internal(world: &World, what: &str) -> String {
    format!("{}.internal.{}.{what}", world.app, world.name)
}

pub(crate) fn group(world: &World, role: &str) -> String {
    format!("{}.{role}", world.app)
}

/// Waits until a topic has this many records, and returns them.
pub(crate) fn records(world: &World, topic: &str, count: usize, run: &mut Process) -> Vec<Record> {
    world.await_topic(topic, run);
    let mut reader = Reader::open(&world.kafka, topic);
    reader.until("records", WAIT, |u| u.len() >= count);
    reader.records
}

fn await_line(run: &Process, line: &str) {
    run.await_condition(&format!("`{line}` in the log"), WAIT, || run.log_text().contains(line));
}

/// Asserts one served record per request; returns the outcomes by request id.
fn assert_served_once(world: &World, sent: &[Sent], run: &mut Process) -> BTreeMap<String, String> {
    records(world, &world.topic("served"), sent.len(), run);
    // Only an end offset that stays unchanged proves that there are no duplicates.
    let mut served = Reader::open(&world.kafka, &world.topic("served"));
    served.read_for(Duration::from_millis(700));
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for it in &served.records {
        let id = it.header("serinus-request-id").expect("it says whose it is").to_owned();
        let outcome = it.header("serinus-outcome").expect("it says how").to_owned();
        found.entry(id).or_default().push(outcome);
    }
    for request in sent {
        let of = found.get(&request.id).map_or(0, Vec::len);
        assert_eq!(of, 1, "answers to {}; the log:\n{}", request.id, run.log_end());
    }
    assert_eq!(found.len(), sent.len(), "answers to unknown requests");
    found.into_iter().map(|(id, mut f)| (id, f.remove(0))).collect()
}

/// Waits until the turns of this many requests are committed: a copy that was sent before its turn is committed is sent again after a kill.
fn await_committed(world: &World, requests: usize, run: &Process) {
    let (topic, group) = (world.topic("requests"), group(world, "serving"));
    let committed = || -> usize {
        let partitions = 0..world.kafka.partitions(&topic);
        let offsets = partitions.filter_map(|p| admin::offset(&world.kafka, &group, (&topic, p)));
        offsets.filter_map(|(offset, _)| usize::try_from(offset).ok()).sum()
    };
    run.await_condition("the commit of all requests", WAIT, || committed() >= requests);
}

/// Serves the first part, leaves the second part open after forwarding, and kills the program.
fn serve_and_keep_open(world: &World) -> Vec<Sent> {
    let mut run = start(world);
    world.await_topic(&world.topic("v1.requests"), &mut run);
    let v1 = worker(world, "v1");
    let mut sent = world.send_requests(0, PART);
    records(world, &world.topic("served"), PART, &mut run);
    drop(v1);
    sent.extend(world.send_requests(PART, 2 * PART));
    records(world, &world.topic("v1.requests"), 2 * PART, &mut run);
    await_committed(world, 2 * PART, &run);
    run.kill();
    sent
}

/// Keeps only the newest record of each partition, as retention may on a quiet topic.
fn truncate_to_newest(world: &World, topic: &str) {
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for it in world.kafka.read_all(topic) {
        last.insert(it.partition, it.offset);
    }
    admin::delete_records(&world.kafka, topic, &last);
}

#[test]
fn lost_serving_offsets_are_found_in_the_journal() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "expired", SPEC);
    let sent = serve_and_keep_open(&world);
    admin::delete_group(&kafka, &group(&world, "serving"));
    let mut run = start(&world);
    let _v1 = worker(&world, "v1");
    let outcomes = assert_served_once(&world, &sent, &mut run);
    assert!(outcomes.values().all(|o| o == "ok"), "{outcomes:?}");
    let copies = kafka.read_all(&world.topic("v1.requests"));
    assert_eq!(copies.len(), sent.len(), "no version gets two copies");
    run.stop();
}

#[test]
fn lost_offsets_with_a_truncated_journal_lose_no_answer() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "both-cut", SPEC);
    let sent = serve_and_keep_open(&world);
    truncate_to_newest(&world, &internal(&world, "journal"));
    admin::delete_group(&kafka, &group(&world, "serving"));
    let mut run = start(&world);
    let _v1 = worker(&world, "v1");
    let outcomes = assert_served_once(&world, &sent, &mut run);
    assert!(outcomes.values().all(|o| o == "ok"), "{outcomes:?}");
    run.stop();
}

#[test]
fn without_offsets_and_journal_a_partition_is_blocked_with_advice() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "nothing-left", SPEC);
    let mut run = start(&world);
    world.await_topic(&world.topic("v1.requests"), &mut run);
    let _v1 = worker(&world, "v1");
    let mut sent = world.send_requests(0, PART);
    records(&world, &world.topic("served"), PART, &mut run);
    run.stop();
    admin::delete_group(&kafka, &group(&world, "serving"));
    admin::empty(&kafka, &internal(&world, "journal"));
    let mut run = start(&world);
    await_line(&run, "so nothing shows where to resume");
    sent.extend(world.send_requests(PART, 2 * PART));
    let mut served = Reader::open(&kafka, &world.topic("served"));
    served.read_for(Duration::from_secs(3));
    assert_eq!(served.records.len(), PART, "it waits");
    run.stop();
    // Resetting to the beginning would serve everything twice.
    let requests = world.topic("requests");
    for partition in 0..PARTITIONS {
        admin::set_offset(&kafka, &group(&world, "serving"), (&requests, partition), 0);
    }
    run = start(&world);
    await_line(&run, "would be answered twice");
    run.stop();
    let place = |partition: i32| {
        let served = sent[..PART].iter().filter(|s| s.partition == partition);
        served.map(|s| s.offset + 1).max().expect("each partition has some")
    };
    for partition in 0..PARTITIONS {
        let next = place(partition);
        admin::set_offset(&kafka, &group(&world, "serving"), (&requests, partition), next);
    }
    run = start(&world);
    assert_served_once(&world, &sent, &mut run);
    run.stop();
}

#[test]
fn offsets_reset_by_an_operator_serve_nothing_twice() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "set-back", SPEC);
    let sent = serve_and_keep_open(&world);
    let requests = world.topic("requests");
    for partition in 0..PARTITIONS {
        // To the earliest offset, to the latest, and in between.
        let offset = i64::from(partition % 3) * 10;
        admin::set_offset(&kafka, &group(&world, "serving"), (&requests, partition), offset);
    }
    let mut run = start(&world);
    let _v1 = worker(&world, "v1");
    let outcomes = assert_served_once(&world, &sent, &mut run);
    assert!(outcomes.values().all(|o| o == "ok"), "{outcomes:?}");
    let log = run.stop_and_read();
    assert!(log.contains(log::JOURNAL_WINS), "{log}");
}

/// A shadow that never answers keeps cases open long after they were served.
const SILENT_SHADOW: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: MODEL}
spec: {stable: v1, requestId: 'header:ce_id', timeout: TIMEOUT, shadowTimeout: 15s, onFailure: default, default: {none: true}}
---
apiVersion: serinus/v1
kind: Rollout
metadata: {name: MODEL-v2}
spec:
  model: MODEL
  candidates: [v2]
  strategy: shadow
  stages: [{shadow: 100%, until: {exposures: 100000000}}]
  metrics: [{name: errors, kind: response_error, role: goal, margin: 50%}]
  decide: {alpha: 0.05, by: 14d, no_data: hold}
";

/// Serves a part, leaves a part open, truncates the journal to its newest record, and restarts.
fn with_truncated_journal(world: &World) -> (Process, Vec<Sent>) {
    let mut run = start(world);
    world.await_phase("Progressing", &mut run);
    let v1 = worker(world, "v1");
    let mut sent = world.send_requests(0, PART);
    records(world, &world.topic("served"), PART, &mut run);
    drop(v1);
    sent.extend(world.send_requests(PART, PART + 8));
    records(world, &world.topic("v2.requests"), PART + 8, &mut run);
    await_committed(world, PART + 8, &run);
    run.kill();
    truncate_to_newest(world, &internal(world, "journal"));
    (start(world), sent)
}

fn assert_one_prediction_each(world: &World, sent: &[Sent], run: &mut Process) {
    let predictions = records(world, &world.topic("predictions"), sent.len(), run);
    let ids: BTreeSet<String> =
        predictions.iter().map(|p| p.json()["request_id"].to_string()).collect();
    assert_eq!((predictions.len(), ids.len()), (sent.len(), sent.len()));
    for it in predictions.iter().map(Record::json) {
        let answers = it["answers"].as_array().expect("it lists who was asked");
        let asked: Vec<&str> = answers.iter().filter_map(|a| a["version"].as_str()).collect();
        assert_eq!(asked, ["v1", "v2"], "{it}");
        assert_eq!(answers[1]["status"], "timeout", "{it}");
        let is_served = it["served"]["outcome"] == "ok";
        assert_eq!(answers[0]["status"] == "ok", is_served, "{it}");
    }
}

#[test]
fn a_truncated_journal_leaves_no_request_unanswered() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "cut", &SILENT_SHADOW.replace("TIMEOUT", "60s"));
    let (mut run, sent) = with_truncated_journal(&world);
    let _v1 = worker(&world, "v1");
    let outcomes = assert_served_once(&world, &sent, &mut run);
    assert!(outcomes.values().all(|o| o == "ok"), "{outcomes:?}");
    for version in ["v1", "v2"] {
        let copies = kafka.read_all(&world.topic(&format!("{version}.requests")));
        assert_eq!(copies.len(), sent.len(), "no version gets two copies");
    }
    assert_one_prediction_each(&world, &sent, &mut run);
    run.stop();
}

#[test]
fn a_truncated_journal_leaves_no_request_past_its_deadline() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "cut-late", &SILENT_SHADOW.replace("TIMEOUT", "4s"));
    let (mut run, sent) = with_truncated_journal(&world);
    let outcomes = assert_served_once(&world, &sent, &mut run);
    let by_default = outcomes.values().filter(|o| *o == "default").count();
    assert_eq!(by_default, 8, "{outcomes:?}");
    // Killed again while the repeated requests are open: the journal does not reach back to them either.
    run.kill();
    run = start(&world);
    assert_served_once(&world, &sent, &mut run);
    assert_one_prediction_each(&world, &sent, &mut run);
    run.stop();
}

/// Retention deletes requests while no instance runs: the log gives their number, and the others are served.
#[test]
fn requests_deleted_unread_are_counted_and_the_others_are_served() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "deleted", SPEC);
    let mut run = start(&world);
    world.await_topic(&world.topic("v1.requests"), &mut run);
    let _v1 = worker(&world, "v1");
    let mut sent = world.send_requests(0, PART);
    records(&world, &world.topic("served"), PART, &mut run);
    run.stop();
    let more = world.send_requests(PART, 2 * PART);
    let mut before: BTreeMap<i32, i64> = BTreeMap::new();
    for it in &more[..PART / 2] {
        before.insert(it.partition, it.offset + 1);
    }
    admin::delete_records(&kafka, &world.topic("requests"), &before);
    sent.extend(more.into_iter().filter(|m| m.offset >= before[&m.partition]));
    let mut run = start(&world);
    assert_served_once(&world, &sent, &mut run);
    let log = run.stop_and_read();
    let lost = log.matches(log::RECORDS_DELETED).count();
    assert_eq!(lost, 4, "{log}");
}
