//! Every failpoint of every role, in sequence on a running canary: the process dies at one, restarts, and dies at the next.
//!
//! Afterwards the ledger must balance and the audit must match, as if nothing had crashed.

use std::time::Duration;

use serinus::kafka::process::failpoints::Failpoint;

use crate::kit::clock::Deadline;
use crate::kit::kafka::{Kafka, Reader};
use crate::kit::ledger::Ledger;
use crate::kit::log;
use crate::kit::process::{Process, folder, serinus};
use crate::kit::specs;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{Sent, WAIT, World};

/// Additional lines of the model and of the rollout.
const MODEL: &str = "
  timeout: 300s
  shadowTimeout: 400s
  onFailure: stable
";
const ROLLOUT: &str = "
  candidates: [v2]
  strategy: canary
  stages: [{share: 20%, hold: 5s}, {share: 50%, hold: 1h}]
  labels: {maturity: 30s, missing: exclude}
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold}
";

/// Requests in flight at each crash.
const REQUESTS: usize = 120;

/// Timeout of one handover.
const HAND_OVER: Duration = Duration::from_secs(15);

#[test]
fn serving_survives_a_crash_at_every_failpoint() {
    crash_at_every_failpoint_of("serving");
}

#[test]
fn analysis_survives_a_crash_at_every_failpoint() {
    crash_at_every_failpoint_of("analysis");
}

#[test]
fn control_survives_a_crash_at_every_failpoint() {
    crash_at_every_failpoint_of("control");
}

fn crash_at_every_failpoint_of(role: &str) {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, &format!("crash-{role}"), &specs::scored(MODEL, ROLLOUT));
    // More than one partition, so that the judge of a model can be revoked.
    kafka.create_topics(&[(&world.app_topic("commands"), 8)]);
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let workers = ["v1", "v2"].map(|w| Worker::start(&kafka, &world.name, w, Behavior::default()));
    let mut served = Reader::open(&kafka, &world.topic("served"));
    let mut sent: Vec<Sent> = Vec::new();
    run.stop();
    let comes_to = |f: &Failpoint| role == "analysis" || !f.is_of_files();
    for point in Failpoint::ALL.into_iter().filter(comes_to) {
        let mut run = start(&world, &format!("{role}/{}:{}", point.name(), hit_count(point)));
        let before = sent.len();
        sent.extend(world.send_requests(before, before + REQUESTS));
        world.send_labels(&sent[before..]);
        if matches!(point, Failpoint::BeforeRelease | Failpoint::AfterRelease) {
            rebalance(&world, &mut run, role);
        }
        let status = run.wait(WAIT);
        assert_eq!(status.code(), None, "{role} was to die at {}", point.name());
    }
    let run = start(&world, "");
    served.until("an answer to each request", WAIT, |u| u.len() >= sent.len());
    for kind in ["predictions", "analysis"] {
        let mut records = Reader::open(&kafka, &world.topic(kind));
        records.until("a record of each case", WAIT, |u| u.len() >= sent.len());
    }
    run.stop();
    drop(workers);
    let (faults, _) = Ledger::read(&world, sent, &["v1", "v2"]).balance();
    assert!(
        faults.is_empty(),
        "{} faults, the first: {:#?}",
        faults.len(),
        &faults[..faults.len().min(10)]
    );
    let audit = world.audit(&[]);
    assert_eq!(audit.code, Some(0), "{:#}", audit.said);
}

/// The hit count at which the process dies. A later hit finds unfinished work; points of the startup are reached once.
fn hit_count(point: Failpoint) -> u64 {
    match point {
        Failpoint::BeforeFence
        | Failpoint::AfterFence
        | Failpoint::AfterRestore
        | Failpoint::BeforeRelease
        | Failpoint::AfterRelease => 1,
        Failpoint::AfterBegin
        | Failpoint::BeforeJournal
        | Failpoint::AfterJournal
        | Failpoint::BeforeOffsets
        | Failpoint::AfterOffsets
        | Failpoint::BeforeCommit
        | Failpoint::AfterCommit
        | Failpoint::BeforeSave
        | Failpoint::BeforeRename
        | Failpoint::AfterSave => 2,
        Failpoint::AfterSend => 5,
    }
}

fn start(world: &World, crash_at: &str) -> Process {
    let mut command = serinus();
    command.args(["run", "--bootstrap", &world.kafka.bootstrap, "--app", &world.name]);
    command.args(["--instance", "one"]).env("SERINUS_CRASH_AT", crash_at);
    command.arg("--data-dir").arg(folder(&world.name).join("data"));
    // One log per start: a process that dies at a failpoint logs no error, a broken one does.
    let name = crash_at.replace(['/', ':'], "-");
    Process::start(&mut command, &folder(&world.name).join(format!("run-{name}.log")))
}

/// Revokes partitions until the role has died: another instance joins once this one has all partitions.
///
/// A rebalance during a commit restarts the role without a release of partitions; the next rebalance must do it.
fn rebalance(world: &World, run: &mut Process, role: &str) {
    let (ready, mut count): (fn(&str) -> usize, usize) = match role {
        "serving" => (log::serving_lanes, 4),
        "analysis" => (log::analyst_lanes, 8),
        _ => (log::judged_partitions, 8),
    };
    let all = Deadline::after(WAIT);
    while run.ended().is_none() {
        let here = ready(&run.log_text());
        if here >= count {
            let other = second_instance(world);
            let one = Deadline::after(HAND_OVER);
            while run.ended().is_none() && !one.is_over() {
                std::thread::park_timeout(Duration::from_millis(50));
            }
            other.stop();
            // The partitions of the other instance return.
            count = ready(&run.log_text()) + 1;
        }
        assert!(!all.is_over(), "it did not die of a hand-over:\n{}", run.log_text());
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Another instance without a name, which leaves its groups when it ends.
fn second_instance(world: &World) -> Process {
    let mut command = serinus();
    command.args(["run", "--bootstrap", &world.kafka.bootstrap, "--app", &world.name]);
    Process::start(&mut command, &folder(&world.name).join("second_instance.log"))
}

/// Every failpoint has a unique name.
#[test]
fn every_failpoint_has_a_unique_name() {
    let names: std::collections::BTreeSet<&str> = Failpoint::ALL.iter().map(|s| s.name()).collect();
    assert_eq!(names.len(), Failpoint::ALL.len());
}
