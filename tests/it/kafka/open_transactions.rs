//! A transaction that another process has left open, on a real Kafka: it hides what is committed after it, which nobody may take for gone.

use std::time::Duration;

use crate::kafka::ledger;
use crate::kit::kafka::{Kafka, Reader};
use crate::kit::ledger::Books;
use crate::kit::process::{Process, figure, get};
use crate::kit::worker::{Habits, Worker};
use crate::kit::world::{Sent, WAIT, World};

pub(crate) const ROLLOUT: &str = "
  candidates: [v2]
  strategy: canary
  stages: [{share: 50%, hold: 1h}]
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold, tick: 1s}
";

/// So many requests in each part.
pub(crate) const PART: usize = 200;

pub(crate) fn start(world: &World) -> [Worker; 2] {
    ["v1", "v2"].map(|w| Worker::start(&world.kafka, &world.name, w, Habits::default()))
}

fn internal(world: &World, what: &str) -> String {
    format!("{}.internal.{}.{what}", world.app, world.name)
}

/// Waits until so many requests have been handed on to their versions, of which nobody needs to be there.
fn await_copies(world: &World, run: &Process, wanted: usize) {
    let mut copies =
        ["v1", "v2"].map(|c| Reader::open(&world.kafka, &world.topic(&format!("{c}.requests"))));
    run.await_true("a copy of every request", WAIT, || {
        let count = |r: &mut Reader| {
            r.read_for(Duration::from_millis(100));
            r.records.len()
        };
        copies.iter_mut().map(count).sum::<usize>() >= wanted
    });
}

/// Waits until every case is joined, stops all, balances the books and has the decisions recomputed.
pub(crate) fn finish(world: &World, run: Process, workers: [Worker; 2], sent: Vec<Sent>) {
    let mut analysis = Reader::open(&world.kafka, &world.topic("analysis"));
    analysis.until("a row of every case", WAIT, |u| u.len() >= sent.len());
    run.stop();
    drop(workers);
    let (faults, _) = Books::read(world, sent, &["v1", "v2"]).balance();
    assert!(faults.is_empty(), "{} faults, the first:\n{}", faults.len(), faults[0]);
    let audit = world.audit(&[]);
    assert_eq!(audit.code, Some(0), "{:#}", audit.said);
}

#[test]
fn what_is_hidden_is_waited_for_and_not_taken_for_gone() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "left-open", &ledger::spec(ROLLOUT));
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    // A lane that opens now would have to read the journals first, since nothing is committed yet.
    run.await_true("all lanes", WAIT, || {
        let log = run.log_text();
        log.matches("serving: lane ready").count() >= 4
            && log.matches(": analyst lane ready").count() >= 8
    });
    let journals = [
        internal(&world, "journal"),
        internal(&world, "analyst-journal"),
        internal(&world, "partials"),
    ];
    let lanes = kafka.leave_open(&journals);
    let states = kafka.leave_open(&[world.app_topic("rollouts")]);
    // Cases that the analysts hold, then cases that are open: all of that is committed, and its journals are hidden.
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
        let all = log.lines().filter(|l| l.contains("a partition has to wait"));
        let of_topic = all.filter(|o| o.contains(&format!("is committed in {topic}[")));
        of_topic.count()
    };
    let [of_serving, of_analysts, sums] = &journals;
    run.await_true("lanes that wait", WAIT, || {
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
    let begun = run.log_text().matches("judging").count();
    assert_eq!(begun, 1, "a judge begins before it can know where its model stands");
    states.abort();
    assert_eq!(world.command("resume")["verdict"], "resume");
    rows.until("a record of every case", WAIT, |u| u.len() >= sent.len());
    finish(&world, run, workers, sent);
}

/// Labels behind somebody's open transaction are there, and cannot be read yet: cases wait for them that are mature by now.
#[test]
fn labels_that_are_hidden_are_waited_for_beyond_maturity() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "hidden-labels", &ledger::spec(ROLLOUT));
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let workers = start(&world);
    let strangers = kafka.leave_open(&[world.topic("labels")]);
    let sent = world.send_requests(0, PART);
    world.send_labels(&sent);
    let mut cases = Reader::open(&kafka, &world.topic("predictions"));
    cases.until("a record of every case", WAIT, |u| u.len() >= PART);
    run.await_true("words about labels that cannot be read", WAIT, || {
        run.log_text().contains("whether all labels were read is not known")
    });
    let rows = kafka.read_all(&world.topic("analysis"));
    assert!(rows.is_empty(), "rows of cases whose labels nobody has read: {}", rows.len());
    strangers.abort();
    finish(&world, run, workers, sent);
}

/// A broker that died in the middle of ending a transaction may hold the group's offsets back for ever; they also stand in the journals.
#[test]
fn offsets_that_are_held_back_for_ever_are_found_in_the_journals() {
    let Some(kafka) = Kafka::find() else { return };
    // Nothing may be late because of the half minute that passes.
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
    // Open cases, of which the offsets that were committed last speak.
    sent.extend(world.send_requests(PART, 2 * PART));
    world.send_labels(&sent[PART..]);
    await_copies(&world, &run, 2 * PART);
    run.kill();
    let of = |topic: String| {
        let partitions = kafka.partitions(&topic);
        (0..partitions).map(move |m| (topic.clone(), m)).collect::<Vec<_>>()
    };
    let held = kafka.leave_open(&[world.topic("dead-letters")]);
    let both = |one: String, other: String| [of(one), of(other)].concat();
    let group = |role: &str| format!("{}.{role}", world.app);
    held.hold_offsets(&group("serving"), &both(world.topic("requests"), world.topic("responses")));
    let of_analysis = both(world.topic("predictions"), internal(&world, "labels"));
    held.hold_offsets(&group("analysis"), &[of_analysis, of(world.topic("labels"))].concat());
    let of_judge = both(world.app_topic("commands"), internal(&world, "partials"));
    held.hold_offsets(&group("control"), &of_judge);
    run = world.run();
    run.await_true("words about what is held back", WAIT, || {
        run.log_text().contains("the group's offsets are held back by a transaction")
    });
    assert_eq!(get(&run.http_address(), "/readyz").0, 503);
    run.await_true("lanes that were restored from their journals", WAIT, || {
        run.log_text().matches("the journals tell what was committed").count() >= 3
    });
    held.abort();
    let workers = start(&world);
    served.until("an answer to every request", WAIT, |u| u.len() >= 2 * PART);
    assert_eq!(world.command("resume")["verdict"], "resume");
    finish(&world, run, workers, sent);
}
