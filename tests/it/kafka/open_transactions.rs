//! Open transactions of another process on a real Kafka: committed records behind them are hidden, and must not be treated as missing.

use std::time::Duration;

use crate::kafka::ledger;
use crate::kit::kafka::{Kafka, Reader};
use crate::kit::ledger::Ledger;
use crate::kit::log;
use crate::kit::process::{Process, figure, get};
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{Sent, WAIT, World};

pub(crate) const ROLLOUT: &str = "
  candidates: [v2]
  strategy: canary
  stages: [{share: 50%, hold: 1h}]
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold, tick: 1s}
";

/// Requests of each part.
pub(crate) const PART: usize = 200;

pub(crate) fn start(world: &World) -> [Worker; 2] {
    ["v1", "v2"].map(|w| Worker::start(&world.kafka, &world.name, w, Behavior::default()))
}

fn internal(world: &World, what: &str) -> String {
    format!("{}.internal.{}.{what}", world.app, world.name)
}

/// Waits until this many requests have been forwarded; no worker needs to run.
fn await_copies(world: &World, run: &Process, wanted: usize) {
    let mut copies =
        ["v1", "v2"].map(|c| Reader::open(&world.kafka, &world.topic(&format!("{c}.requests"))));
    run.await_condition("a copy of every request", WAIT, || {
        let count = |r: &mut Reader| {
            r.read_for(Duration::from_millis(100));
            r.records.len()
        };
        copies.iter_mut().map(count).sum::<usize>() >= wanted
    });
}

/// Waits until every case is joined, stops everything, balances the ledger and audits the decisions.
pub(crate) fn finish(world: &World, run: Process, workers: [Worker; 2], sent: Vec<Sent>) {
    let mut analysis = Reader::open(&world.kafka, &world.topic("analysis"));
    analysis.until("a row of every case", WAIT, |u| u.len() >= sent.len());
    run.stop();
    drop(workers);
    let (faults, _) = Ledger::read(world, sent, &["v1", "v2"]).balance();
    assert!(faults.is_empty(), "{} faults, the first:\n{}", faults.len(), faults[0]);
    let audit = world.audit(&[]);
    assert_eq!(audit.code, Some(0), "{:#}", audit.said);
}

#[test]
fn hidden_records_are_waited_for_and_not_treated_as_lost() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "left-open", &ledger::spec(ROLLOUT));
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    // A lane that opens now must read the journals first, since nothing is committed yet.
    run.await_condition("all lanes", WAIT, || {
        let text = run.log_text();
        log::serving_lanes(&text) >= 4 && log::analyst_lanes(&text) >= 8
    });
    let journals = [
        internal(&world, "journal"),
        internal(&world, "analyst-journal"),
        internal(&world, "partials"),
    ];
    let lanes = kafka.open_transaction(&journals);
    let states = kafka.open_transaction(&[world.app_topic("rollouts")]);
    // Cases held by analysts, then open cases: all of them are committed, and their journals are hidden.
    let workers = start(&world);
    let mut sent = world.send_requests(0, PART);
    world.send_labels(&sent);
    let mut rows = Reader::open(&kafka, &world.topic("predictions"));
    rows.until("a record of every case", WAIT, |u| u.len() >= PART);
    drop(workers);
    let open = world.send_requests(PART, 2 * PART);
    world.send_labels(&open);
    sent.extend(open);
    await_copies(&world, &run, 2 * PART);
    assert_eq!(world.command("pause")["verdict"], "pause");
    run.kill();
    run = world.run();
    let waits = |run: &Process, topic: &str| {
        let log = run.log_text();
        let all = log.lines().filter(|l| l.contains("partition blocked"));
        let of_topic =
            all.filter(|o| o.contains(&format!("hides the committed records of {topic}[")));
        of_topic.count()
    };
    let [of_serving, of_analysts, sums] = &journals;
    run.await_condition("lanes that wait", WAIT, || {
        waits(&run, of_serving) > 0 && waits(&run, of_analysts) + waits(&run, sums) > 0
    });
    let address = run.http_address();
    let (answer, said) = get(&address, "/readyz");
    assert_eq!(answer, 503, "{said}");
    assert!(figure(&address, "serinus_serving_lanes_waiting") > 0, "{said}");
    lanes.abort();
    let workers = start(&world);
    let mut served = Reader::open(&kafka, &world.topic("served"));
    served.until("an answer to every request", WAIT, |u| u.len() >= sent.len());
    // The log is that of both processes.
    let begun = log::judged_partitions(&run.log_text());
    assert_eq!(begun, 1, "a judge begins before it can read the state of its model");
    states.abort();
    assert_eq!(world.command("resume")["verdict"], "resume");
    rows.until("a record of every case", WAIT, |u| u.len() >= sent.len());
    finish(&world, run, workers, sent);
}

/// Labels behind an open transaction exist but cannot be read yet: mature cases wait for them.
#[test]
fn hidden_labels_are_waited_for_beyond_maturity() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "hidden-labels", &ledger::spec(ROLLOUT));
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let workers = start(&world);
    let open = kafka.open_transaction(&[world.topic("labels")]);
    let sent = world.send_requests(0, PART);
    world.send_labels(&sent);
    let mut cases = Reader::open(&kafka, &world.topic("predictions"));
    cases.until("a record of every case", WAIT, |u| u.len() >= PART);
    run.await_condition("words about labels that cannot be read", WAIT, || {
        run.log_text().contains(log::LABELS_UNCONFIRMED)
    });
    let rows = kafka.read_all(&world.topic("analysis"));
    assert!(rows.is_empty(), "rows of cases whose labels were not read: {}", rows.len());
    open.abort();
    finish(&world, run, workers, sent);
}

/// A broker that died while it ended a transaction may withhold the group's offsets forever; the journals hold them too.
#[test]
fn offsets_withheld_forever_are_found_in_the_journals() {
    let Some(kafka) = Kafka::find() else { return };
    // The pause of half a minute must not make anything late.
    let patient =
        ledger::spec(ROLLOUT).replace("timeout: 60s", "timeout: 300s").replace("90s", "400s");
    let world = World::new(&kafka, "held-back", &patient);
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let mut served = Reader::open(&kafka, &world.topic("served"));
    let workers = start(&world);
    let mut sent = world.send_requests(0, PART);
    world.send_labels(&sent);
    served.until("an answer to every request", WAIT, |u| u.len() >= PART);
    assert_eq!(world.command("pause")["verdict"], "pause");
    drop(workers);
    // Open cases before the last committed offsets.
    sent.extend(world.send_requests(PART, 2 * PART));
    world.send_labels(&sent[PART..]);
    await_copies(&world, &run, 2 * PART);
    run.kill();
    let of = |topic: String| {
        let partitions = kafka.partitions(&topic);
        (0..partitions).map(move |m| (topic.clone(), m)).collect::<Vec<_>>()
    };
    let held = kafka.open_transaction(&[world.topic("dead-letters")]);
    let both = |one: String, other: String| [of(one), of(other)].concat();
    let group = |role: &str| format!("{}.{role}", world.app);
    held.hold_offsets(&group("serving"), &both(world.topic("requests"), world.topic("responses")));
    let of_analysis = both(world.topic("predictions"), internal(&world, "labels"));
    held.hold_offsets(&group("analysis"), &[of_analysis, of(world.topic("labels"))].concat());
    let of_judge = both(world.app_topic("commands"), internal(&world, "partials"));
    held.hold_offsets(&group("control"), &of_judge);
    run = world.run();
    run.await_condition("words about what is held back", WAIT, || {
        run.log_text().contains(log::OFFSETS_WITHHELD)
    });
    assert_eq!(get(&run.http_address(), "/readyz").0, 503);
    run.await_condition("lanes that were restored from their journals", WAIT, || {
        run.log_text().matches(log::OFFSETS_FROM_JOURNALS).count() >= 3
    });
    held.abort();
    let workers = start(&world);
    served.until("an answer to every request", WAIT, |u| u.len() >= 2 * PART);
    assert_eq!(world.command("resume")["verdict"], "resume");
    finish(&world, run, workers, sent);
}
