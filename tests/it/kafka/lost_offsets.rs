//! State that is gone, on a real Kafka: group offsets that expired, journals that were cut, requests of a partition that nobody remembers.
//!
//! Nothing is served twice and no open request is forgotten; where neither can be ruled out, the partition waits with a sentence.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::kit::admin;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::process::{Process, folder, serinus};
use crate::kit::worker::{Habits, Worker};
use crate::kit::world::{PARTITIONS, Sent, WAIT, World, unique};

const SPEC: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: MODEL}
spec: {stable: v1, requestId: 'header:ce_id', timeout: 60s, shadowTimeout: 60s}
";

/// Requests of each part of a test: the same number in every partition.
const PART: usize = 40;

/// Starts an instance without a name of its own, so that its groups are empty as soon as it has stopped.
pub(crate) fn start(world: &World) -> Process {
    let mut command = serinus();
    command.args(["run", "--bootstrap", &world.kafka.bootstrap, "--app", &world.app]);
    command.args(["--create-topics", "--http", "127.0.0.1:0", "--apply"]).arg(&world.spec);
    Process::start(&mut command, &folder(&world.app).join(format!("{}.log", unique("run"))))
}

pub(crate) fn worker(world: &World, version: &str) -> Worker {
    Worker::start(&world.kafka, &world.name, version, Habits::default())
}

pub(crate) fn internal(world: &World, what: &str) -> String {
    format!("{}.internal.{}.{what}", world.app, world.name)
}

pub(crate) fn group(world: &World, role: &str) -> String {
    format!("{}.{role}", world.app)
}

/// Waits until a topic of the program has this many records, and returns them.
pub(crate) fn records(world: &World, topic: &str, count: usize, run: &mut Process) -> Vec<Record> {
    world.await_topic(topic, run);
    let mut reader = Reader::open(&world.kafka, topic);
    reader.until("records", WAIT, |u| u.len() >= count);
    reader.records
}

fn await_line(run: &Process, line: &str) {
    run.await_true(&format!("`{line}` in the log"), WAIT, || run.log_text().contains(line));
}

/// Holds a topic to one record of each request, and returns their outcomes by request id.
fn assert_served_once(world: &World, sent: &[Sent], run: &mut Process) -> BTreeMap<String, String> {
    records(world, &world.topic("served"), sent.len(), run);
    // Only an end of the topic that stays where it is shows that nothing came twice.
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
    assert_eq!(found.len(), sent.len(), "answers to nobody");
    found.into_iter().map(|(id, mut f)| (id, f.remove(0))).collect()
}

/// Serves the first part, leaves the second open where it is forwarded, and kills the program.
fn serve_and_leave_open(world: &World) -> Vec<Sent> {
    let mut run = start(world);
    world.await_topic(&world.topic("v1.requests"), &mut run);
    let v1 = worker(world, "v1");
    let mut sent = world.send_requests(0, PART);
    records(world, &world.topic("served"), PART, &mut run);
    drop(v1);
    sent.extend(world.send_requests(PART, 2 * PART));
    records(world, &world.topic("v1.requests"), 2 * PART, &mut run);
    run.kill();
    sent
}

/// Keeps only the newest record of each partition, as retention may do with a quiet topic.
fn cut_to_the_last(world: &World, topic: &str) {
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for it in world.kafka.read_all(topic) {
        last.insert(it.partition, it.offset);
    }
    admin::delete_records(&world.kafka, topic, &last);
}

#[test]
fn offsets_of_serving_that_are_gone_are_found_in_the_journal() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "expired", SPEC);
    let sent = serve_and_leave_open(&world);
    admin::delete_group(&kafka, &group(&world, "serving"));
    let mut run = start(&world);
    let _v1 = worker(&world, "v1");
    let outcomes = assert_served_once(&world, &sent, &mut run);
    assert!(outcomes.values().all(|o| o == "ok"), "{outcomes:?}");
    let copies = kafka.read_all(&world.topic("v1.requests"));
    assert_eq!(copies.len(), sent.len(), "nobody is asked twice");
    run.stop();
}

#[test]
fn offsets_and_most_of_the_journal_that_are_gone_cost_nobody_an_answer() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "both-cut", SPEC);
    let sent = serve_and_leave_open(&world);
    cut_to_the_last(&world, &internal(&world, "journal"));
    admin::delete_group(&kafka, &group(&world, "serving"));
    let mut run = start(&world);
    let _v1 = worker(&world, "v1");
    let outcomes = assert_served_once(&world, &sent, &mut run);
    assert!(outcomes.values().all(|o| o == "ok"), "{outcomes:?}");
    run.stop();
}

#[test]
fn without_offsets_and_journal_a_partition_waits_and_names_where_it_can_go_on() {
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
    await_line(&run, "where it went on cannot be known");
    sent.extend(world.send_requests(PART, 2 * PART));
    let mut served = Reader::open(&kafka, &world.topic("served"));
    served.read_for(Duration::from_secs(3));
    assert_eq!(served.records.len(), PART, "it waits");
    run.stop();
    // Set back to the beginning, everything would be served twice.
    let requests = world.topic("requests");
    for partition in 0..PARTITIONS {
        admin::set_offset(&kafka, &group(&world, "serving"), (&requests, partition), 0);
    }
    run = start(&world);
    await_line(&run, "would be answered a second time");
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
fn offsets_that_an_operator_set_back_serve_nothing_twice() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "set-back", SPEC);
    let sent = serve_and_leave_open(&world);
    let requests = world.topic("requests");
    for partition in 0..PARTITIONS {
        // To the earliest, to the latest, and to somewhere in between.
        let offset = i64::from(partition % 3) * 10;
        admin::set_offset(&kafka, &group(&world, "serving"), (&requests, partition), offset);
    }
    let mut run = start(&world);
    let _v1 = worker(&world, "v1");
    let outcomes = assert_served_once(&world, &sent, &mut run);
    assert!(outcomes.values().all(|o| o == "ok"), "{outcomes:?}");
    let log = run.stop_and_read();
    assert!(log.contains("the journal counts"), "{log}");
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

/// Serves a part, leaves a part open, cuts the journal to its newest record, and starts again.
fn with_a_cut_journal(world: &World) -> (Process, Vec<Sent>) {
    let mut run = start(world);
    world.await_phase("Progressing", &mut run);
    let v1 = worker(world, "v1");
    let mut sent = world.send_requests(0, PART);
    records(world, &world.topic("served"), PART, &mut run);
    drop(v1);
    sent.extend(world.send_requests(PART, PART + 8));
    records(world, &world.topic("v2.requests"), PART + 8, &mut run);
    run.kill();
    cut_to_the_last(world, &internal(world, "journal"));
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
fn a_cut_journal_leaves_no_open_request_unanswered() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "cut", &SILENT_SHADOW.replace("TIMEOUT", "60s"));
    let (mut run, sent) = with_a_cut_journal(&world);
    let _v1 = worker(&world, "v1");
    let outcomes = assert_served_once(&world, &sent, &mut run);
    assert!(outcomes.values().all(|o| o == "ok"), "{outcomes:?}");
    for version in ["v1", "v2"] {
        let copies = kafka.read_all(&world.topic(&format!("{version}.requests")));
        assert_eq!(copies.len(), sent.len(), "nobody is asked twice");
    }
    assert_one_prediction_each(&world, &sent, &mut run);
    run.stop();
}

#[test]
fn a_cut_journal_leaves_no_open_request_beyond_its_deadline() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "cut-late", &SILENT_SHADOW.replace("TIMEOUT", "4s"));
    let (mut run, sent) = with_a_cut_journal(&world);
    let outcomes = assert_served_once(&world, &sent, &mut run);
    let by_default = outcomes.values().filter(|o| *o == "default").count();
    assert_eq!(by_default, 8, "{outcomes:?}");
    // Killed once more while what was made again is open: the journal does not reach back to it either.
    run.kill();
    run = start(&world);
    assert_served_once(&world, &sent, &mut run);
    assert_one_prediction_each(&world, &sent, &mut run);
    run.stop();
}

/// Retention that deletes requests while nobody serves loses them: that is said with their number, and the rest is served.
#[test]
fn requests_that_were_deleted_unread_are_counted_and_the_rest_is_served() {
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
    let lost = log.matches("records were deleted before they were read").count();
    assert_eq!(lost, 4, "{log}");
}
