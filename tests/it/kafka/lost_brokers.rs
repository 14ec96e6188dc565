//! A broker of three that dies and does not come back: whoever it coordinated for finds the next one by itself.

use std::time::Duration;

use crate::kafka::ledger;
use crate::kafka::open_transactions::{PART, ROLLOUT, finish, start};
use crate::kit::clock::Stopwatch;
use crate::kit::kafka::{OwnKafka, Reader};
use crate::kit::world::{WAIT, World};

/// The brokers take 4 s to miss it, the client looks again 12 s later at most, and by then the open transaction may have to be made anew; a process
/// that hangs would be ended after 90 s.
const GO_ON_WITHIN: Duration = Duration::from_mins(1);

#[test]
fn a_groups_coordinator_that_does_not_come_back_is_done_without() {
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
    // It did so by itself: a process that had hung would have been ended and left.
    finish(&world, run, workers, sent);
}
