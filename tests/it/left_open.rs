//! A transaction that another process has left open, on a real Kafka: it hides what is committed after it, which nobody may take for gone.

use std::time::Duration;

use crate::kit::kafka::{Kafka, Reader};
use crate::kit::ledger::Books;
use crate::kit::process::Process;
use crate::kit::worker::{Habits, Worker};
use crate::kit::world::{WAIT, World};
use crate::ledger;

const ROLLOUT: &str = "
  candidates: [v2]
  strategy: canary
  stages: [{share: 50%, hold: 1h}]
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold, tick: 1s}
";

/// So many requests in each part.
const PART: usize = 200;

#[test]
fn what_is_hidden_is_waited_for_and_not_taken_for_gone() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "left-open", &ledger::spec(ROLLOUT));
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let start = || ["v1", "v2"].map(|it| Worker::start(&kafka, &world.name, it, Habits::default()));
    let internal = |what: &str| format!("{}.internal.{}.{what}", world.app, world.name);
    let journals = [internal("journal"), internal("analyst-journal"), internal("partials")];
    let lanes = kafka.leave_open(&journals);
    let states = kafka.leave_open(&[world.app_topic("rollouts")]);
    // Cases that the analysts hold, then cases that are open: all of that is committed, and its journals are hidden.
    let workers = start();
    let mut sent = world.send_requests(0, PART);
    let mut rows = Reader::open(&kafka, &world.topic("predictions"));
    rows.until("a record of every case", WAIT, |it| it.len() >= PART);
    drop(workers);
    sent.extend(world.send_requests(PART, 2 * PART));
    world.send_labels(&sent);
    let mut copies =
        ["v1", "v2"].map(|it| Reader::open(&kafka, &world.topic(&format!("{it}.requests"))));
    run.await_true("a copy of every request", WAIT, || {
        let count = |it: &mut Reader| {
            it.read_for(Duration::from_millis(100));
            it.records.len()
        };
        copies.iter_mut().map(count).sum::<usize>() >= 2 * PART
    });
    assert_eq!(world.command("pause")["verdict"], "pause");
    run.kill();
    run = world.run();
    let waits = |run: &Process, topic: &str| {
        let log = run.log_text();
        let all = log.lines().filter(|it| it.contains("a partition has to wait"));
        let of_topic = all.filter(|it| it.contains(&format!("is committed in {topic}[")));
        of_topic.count()
    };
    let [of_serving, of_analysts, sums] = &journals;
    run.await_true("lanes that wait", WAIT, || {
        waits(&run, of_serving) > 0 && waits(&run, of_analysts) + waits(&run, sums) > 0
    });
    lanes.abort();
    let workers = start();
    let mut served = Reader::open(&kafka, &world.topic("served"));
    served.until("an answer to every request", WAIT, |it| it.len() >= sent.len());
    // The log is that of both processes.
    let begun = run.log_text().matches("judging").count();
    assert_eq!(begun, 1, "a judge begins before it can know where its model stands");
    states.abort();
    assert_eq!(world.command("resume")["verdict"], "resume");
    rows.until("a record of every case", WAIT, |it| it.len() >= sent.len());
    let mut analysis = Reader::open(&kafka, &world.topic("analysis"));
    analysis.until("a row of every case", WAIT, |it| it.len() >= sent.len());
    run.stop();
    drop(workers);
    let (faults, _) = Books::read(&world, sent, &["v1", "v2"]).balance();
    assert!(faults.is_empty(), "{} faults, the first:\n{}", faults.len(), faults[0]);
    let audit = world.audit(&[]);
    assert_eq!(audit.code, Some(0), "{:#}", audit.said);
}
