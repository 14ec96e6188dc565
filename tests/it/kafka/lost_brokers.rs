//! One of three brokers dies and stays down: clients of its coordinators find the new ones.

use std::time::Duration;

use crate::kafka::ledger;
use crate::kafka::open_transactions::{PART, ROLLOUT, finish, start};
use crate::kit::clock::Stopwatch;
use crate::kit::kafka::{OwnKafka, Reader};
use crate::kit::world::{WAIT, World};

/// Brokers detect the failure after 4 s, the client refreshes within 12 s, and the open transaction may have to be repeated; the watchdog
/// ends a hanging process after 90 s.
const GO_ON_WITHIN: Duration = Duration::from_mins(1);

#[test]
fn a_group_coordinator_that_stays_down_is_replaced() {
    let Some(own) = OwnKafka::start("lost", 3) else { return };
    let kafka = &own.kafka;
    // No label may be late because its lane waits.
    let spec = ledger::spec(ROLLOUT).replace("maturity: 3s", "maturity: 30s");
    let world = World::new(kafka, "lost", &spec);
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let workers = start(&world);
    let mut served = Reader::open(kafka, &world.topic("served"));
    let mut sent = world.send_requests(0, PART);
    world.send_labels(&sent);
    served.until("an answer to every request", WAIT, |u| u.len() >= PART);
    own.kill(kafka.coordinator(&format!("{}.serving", world.app)));
    let watch = Stopwatch::start();
    sent.extend(world.send_requests(PART, 2 * PART));
    world.send_labels(&sent[PART..]);
    served.until("an answer to every request", GO_ON_WITHIN, |u| u.len() >= 2 * PART);
    println!("all was served {:?} after a broker died for good", watch.elapsed());
    assert_eq!(world.command("pause")["verdict"], "pause");
    let mut analysis = Reader::open(kafka, &world.topic("analysis"));
    analysis.until("a row of every case", GO_ON_WITHIN, |u| u.len() >= sent.len());
    // It recovered in place: the watchdog would have ended a hanging process.
    finish(&world, run, workers, sent);
}
