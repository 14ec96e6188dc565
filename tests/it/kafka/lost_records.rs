//! Lost records on a real Kafka: events, states, answered commands, analyst journals, sums, and rows that already exist.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::kafka::lost_offsets::{group, internal, records, start, worker};
use crate::kit::admin;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::log;
use crate::kit::process::{Process, folder, serinus};
use crate::kit::specs;
use crate::kit::worker::answer;
use crate::kit::world::{Sent, WAIT, World, unique};

/// Requests per part of a test.
const PART: usize = 40;

fn canary() -> String {
    let rollout = "
  candidates: [v2]
  strategy: canary
  stages: [{share: 50%, hold: 1h}]
  labels: {maturity: MATURITY, missing: exclude}
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold, tick: 1s}
";
    specs::scored("  timeout: 60s\n  shadowTimeout: 60s", rollout)
}

fn world(kafka: &Kafka, what: &str, maturity: &str) -> World {
    World::new(kafka, what, &canary().replace("MATURITY", maturity))
}

/// Starts an instance without specs and without a name.
fn start_without_specs(world: &World) -> Process {
    let mut command = serinus();
    command.args(["run", "--bootstrap", &world.kafka.bootstrap, "--app", &world.app]);
    command.args(["--http", "127.0.0.1:0"]);
    Process::start(&mut command, &folder(&world.app).join(format!("{}.log", unique("bare"))))
}

fn served_by(world: &World, sent: &[Sent], version: &str) {
    let mut served = Reader::open(&world.kafka, &world.topic("served"));
    served.until("an answer to each", WAIT, |all| {
        let is_of =
            |r: &&Record| sent.iter().any(|sent| r.header("serinus-request-id") == Some(&sent.id));
        all.iter().filter(is_of).count() >= sent.len()
    });
    for request in sent {
        let mut of = served.records.iter();
        let it = of.find(|o| o.header("serinus-request-id") == Some(&request.id));
        assert_eq!(it.expect("it is there").value, answer(version, &request.value));
    }
}

/// Recreates a topic; records of a compacted topic cannot be deleted by offset.
fn recreate_topic(world: &World, topic: &str) {
    let topic = world.app_topic(topic);
    admin::delete_topic(&world.kafka, &topic);
    admin::create_topic(&world.kafka, &topic, 1, &[("cleanup.policy", "compact")]);
}

#[test]
fn a_promoted_model_is_served_by_its_state_if_its_events_are_lost() {
    let Some(kafka) = Kafka::find() else { return };
    let world = world(&kafka, "no-events", "1h");
    let mut run = start(&world);
    world.await_phase("Progressing", &mut run);
    assert_eq!(world.command("promote")["to"]["phase"], "Promoted");
    let _workers = ["v1", "v2"].map(|c| worker(&world, c));
    served_by(&world, &world.send_requests(0, 10), "v2");
    run.stop();
    admin::empty(&kafka, &world.app_topic("rollout-events"));
    let run = start_without_specs(&world);
    served_by(&world, &world.send_requests(10, 20), "v2");
    // Revisions continue from there, so that all followers accept them.
    let model = serinus_apply(&world);
    assert!(model.contains("\"sequence\""), "{model}");
    served_by(&world, &world.send_requests(20, 30), "v2");
    run.stop();
}

fn serinus_apply(world: &World) -> String {
    let output = serinus()
        .args(["apply", "--bootstrap", &world.kafka.bootstrap, "--app", &world.app, "-o", "json"])
        .arg(&world.spec)
        .output()
        .expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_rollout_continues_by_its_events_if_its_states_are_lost() {
    let Some(kafka) = Kafka::find() else { return };
    let world = world(&kafka, "no-states", "1h");
    let mut run = start(&world);
    world.await_phase("Progressing", &mut run);
    let paused = world.command("pause");
    assert_eq!(paused["to"]["phase"], "Paused");
    let before = paused["sequence"].as_u64().expect("it is numbered");
    run.stop();
    recreate_topic(&world, "rollouts");
    let run = start_without_specs(&world);
    let resumed = world.command("resume");
    assert_eq!(resumed["to"]["phase"], "Progressing", "{resumed}");
    assert_eq!(resumed["sequence"].as_u64(), Some(before + 1));
    assert_eq!(resumed["to"]["shares"]["v2"], 0.5);
    let log = run.stop_and_read();
    assert!(log.contains(log::STATE_LOST), "{log}");
}

#[test]
fn a_model_without_states_and_events_waits_until_it_is_applied_again() {
    let Some(kafka) = Kafka::find() else { return };
    let world = world(&kafka, "neither", "1h");
    let mut run = start(&world);
    world.await_phase("Progressing", &mut run);
    let _workers = ["v1", "v2"].map(|r| worker(&world, r));
    let mut sent = world.send_requests(0, PART);
    records(&world, &world.topic("served"), PART, &mut run);
    run.stop();
    recreate_topic(&world, "rollouts");
    admin::empty(&kafka, &world.app_topic("rollout-events"));
    let run = start_without_specs(&world);
    sent.extend(world.send_requests(PART, 2 * PART));
    run.await_condition("words", WAIT, || run.log_text().contains(log::NO_MODEL));
    run.stop();
    let mut run = start(&world);
    let served = records(&world, &world.topic("served"), sent.len(), &mut run);
    assert_eq!(served.len(), sent.len(), "each is served once");
    run.stop();
}

#[test]
fn answered_commands_are_not_executed_again_without_offsets() {
    let Some(kafka) = Kafka::find() else { return };
    let world = world(&kafka, "commands", "1h");
    let mut run = start(&world);
    world.await_phase("Progressing", &mut run);
    // More than a state remembers by id.
    let all: Vec<String> = (0..100)
        .map(|number| world.ask(if number % 2 == 0 { "pause" } else { "resume" }))
        .collect();
    let last = world.await_answer(&all[99]);
    run.stop();
    let events = kafka.read_all(&world.app_topic("rollout-events")).len();
    let again = |what: &str| {
        let run = start_without_specs(&world);
        let answer = world.command("pause");
        let expected = last["sequence"].as_u64().expect("it is numbered") + 1;
        assert!(answer["sequence"].as_u64() >= Some(expected), "{what}: {answer}");
        run.stop();
        kafka.read_all(&world.app_topic("rollout-events")).len()
    };
    admin::delete_group(&kafka, &group(&world, "control"));
    assert_eq!(again("without offsets"), events + 1);
    admin::delete_group(&kafka, &group(&world, "control"));
    admin::empty(&kafka, &world.app_topic("internal.judge-journal"));
    assert_eq!(again("without offsets and journal"), events + 2);
    let commands = world.app_topic("commands");
    admin::set_offset(&kafka, &group(&world, "control"), (&commands, 0), 0);
    recreate_topic(&world, "internal.slots");
    assert_eq!(again("set back to the earliest"), events + 3);
}

/// The row versions of each case.
fn rows(analysis: &[Record]) -> BTreeMap<String, Vec<u64>> {
    let mut rows: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for it in analysis.iter().map(Record::json) {
        let id = it["request_id"].as_str().expect("it is text").to_owned();
        rows.entry(id).or_default().push(it["row_version"].as_u64().expect("it is a number"));
    }
    rows
}

/// Waits for a row of each case, and asserts that there is exactly one.
fn assert_one_row_each(world: &World, sent: &[Sent], run: &mut Process) {
    let topic = world.topic("analysis");
    world.await_topic(&topic, run);
    let mut analysis = Reader::open(&world.kafka, &topic);
    run.await_condition("a row of each case", WAIT, || {
        analysis.read_for(Duration::from_millis(200));
        rows(&analysis.records).len() >= sent.len()
    });
    analysis.read_for(Duration::from_millis(1_500));
    let rows = rows(&analysis.records);
    assert_eq!(rows.len(), sent.len());
    let wrong: Vec<_> = rows.iter().filter(|r| *r.1 != [1]).collect();
    assert!(wrong.is_empty(), "{wrong:?}; the log:\n{}", run.log_end());
}

/// Leaves cases with a row and, when the program stops, this many cases without one.
fn join_a_part(world: &World, held: usize) -> Vec<Sent> {
    let mut run = start(world);
    world.await_phase("Progressing", &mut run);
    let _workers = ["v1", "v2"].map(|r| worker(world, r));
    let mut sent = world.send_requests(0, PART);
    world.send_labels(&sent);
    assert_one_row_each(world, &sent, &mut run);
    sent.extend(world.send_requests(PART, 2 * PART));
    world.send_labels(&sent[PART..]);
    records(world, &world.topic("predictions"), 2 * PART, &mut run);
    let address = run.http_address();
    run.await_condition("the cases", WAIT, || {
        crate::kit::process::figure(&address, "serinus_pending_cases") >= held
    });
    run.stop();
    sent
}

/// The exposures of each arm in the newest metrics record.
fn exposures(world: &World) -> u64 {
    let metrics = world.kafka.read_all(&world.app_topic("rollout-metrics"));
    let Some(last) = metrics.iter().map(Record::json).max_by_key(|j| j["tick"].as_i64()) else {
        return 0;
    };
    let arms = last["arms"].as_array().cloned().unwrap_or_default();
    arms.iter().filter_map(|v: &Value| v["exposures"].as_u64()).sum()
}

fn assert_joined_again(what: &str, lose: impl Fn(&World)) {
    assert_joined(what, ("5s", 2 * PART), lose);
}

fn assert_joined(what: &str, (maturity, held): (&str, usize), lose: impl Fn(&World)) {
    let Some(kafka) = Kafka::find() else { return };
    let world = world(&kafka, what, maturity);
    let sent = join_a_part(&world, held);
    lose(&world);
    let mut run = start_without_specs(&world);
    assert_one_row_each(&world, &sent, &mut run);
    run.await_condition("evidence of all cases", WAIT, || exposures(&world) >= 2 * PART as u64);
    assert_eq!(exposures(&world), 2 * PART as u64);
    // Again while the rejoined cases are kept for late labels.
    run.stop();
    let mut run = start_without_specs(&world);
    assert_one_row_each(&world, &sent, &mut run);
    run.stop();
}

#[test]
fn waiting_cases_are_rejoined_if_the_analysis_journal_is_lost() {
    assert_joined_again("no-analyst-journal", |world| {
        admin::empty(&world.kafka, &internal(world, "analyst-journal"));
    });
}

#[test]
fn rows_are_not_written_again_if_the_analysis_offsets_are_lost() {
    assert_joined_again("no-analysis-group", |world| {
        admin::delete_group(&world.kafka, &group(world, "analysis"));
    });
}

#[test]
fn rows_are_not_written_again_if_analysis_offsets_and_journal_are_lost() {
    assert_joined_again("no-analysis-past", |world| {
        admin::delete_group(&world.kafka, &group(world, "analysis"));
        admin::empty(&world.kafka, &internal(world, "analyst-journal"));
    });
}

#[test]
fn evidence_is_counted_again_if_the_sums_are_lost() {
    // The first part is no longer held when the sums are lost: only the first turns contain it.
    assert_joined("no-sums", ("5s, keep: 1s", PART), |world| {
        admin::empty(&world.kafka, &internal(world, "partials"));
    });
}

/// Topics created with the broker's defaults, or for a shorter maturity.
#[test]
fn topics_that_would_lose_records_are_refused() {
    let Some(kafka) = Kafka::find() else { return };
    let world = world(&kafka, "defaults", "1h");
    let (events, states) = (world.app_topic("rollout-events"), world.app_topic("rollouts"));
    kafka.create_topics(&[(&events, 1), (&states, 1)]);
    let hour = [("retention.ms", "3600000")];
    admin::create_topic(&kafka, &world.topic("labels"), 4, &hour);
    admin::create_topic(&kafka, &world.topic("predictions"), 4, &hour);
    let journal = internal(&world, "journal");
    admin::create_topic(&kafka, &journal, 4, &[("retention.ms", "30000")]);
    let output = serinus()
        .args(["topics", "create", "--bootstrap", &kafka.bootstrap, "--app", &world.app])
        .arg(&world.spec)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let refused = [
        (events.clone(), "retention.ms is 604800000, wanted -1"),
        (states, "cleanup.policy is delete, wanted compact"),
        (world.topic("labels"), "retention.ms is 3600000, wanted -1, or 7200000 (2h) or more"),
        (world.topic("predictions"), "retention.ms is 3600000, wanted -1, or 7200000 (2h) or more"),
        (journal, "retention.ms is 30000, wanted -1, or 120000 (2m) or more"),
    ];
    for (topic, words) in &refused {
        assert!(said.contains(&format!("topic `{topic}`: {words}")), "{said}");
    }
    assert_eq!(said.lines().filter(|s| s.starts_with("topic ")).count(), 5, "{said}");
    // Startup refuses them with the same message.
    let mut run = start_without_specs(&world);
    assert_eq!(run.wait(WAIT).code(), Some(1));
    let log = run.log_text();
    assert!(log.contains(&format!("topic `{events}`: retention.ms")), "{log}");
}
