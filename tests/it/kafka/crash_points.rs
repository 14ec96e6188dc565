//! Every crash point of every role, one after the other on a running canary: the process dies there, starts again, and dies at the next.
//!
//! In the end the independent ledger must balance, and every decision must be what the topics give: as if nothing had crashed.

use std::time::Duration;

use serinus::kafka::process::failpoints::Failpoint;

use crate::kit::clock::Deadline;
use crate::kit::kafka::{Kafka, Reader};
use crate::kit::ledger::Books;
use crate::kit::process::{Process, folder, serinus};
use crate::kit::specs;
use crate::kit::worker::{Habits, Worker};
use crate::kit::world::{Sent, WAIT, World};

/// More of the model, and of its rollout.
const MODEL: &str = "
  timeout: 60s
  shadowTimeout: 90s
  onFailure: stable
";
const ROLLOUT: &str = "
  candidates: [v2]
  strategy: canary
  stages: [{share: 20%, hold: 5s}, {share: 50%, hold: 1h}]
  labels: {maturity: 30s, missing: exclude}
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold}
";

/// How many requests are under way at each crash.
const REQUESTS: usize = 120;

/// How long a hand-over may take.
const HAND_OVER: Duration = Duration::from_secs(15);

#[test]
fn serving_may_crash_at_every_point() {
    every_point_of("serving");
}

#[test]
fn analysis_may_crash_at_every_point() {
    every_point_of("analysis");
}

#[test]
fn control_may_crash_at_every_point() {
    every_point_of("control");
}

fn every_point_of(role: &str) {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, &format!("crash-{role}"), &specs::scored(MODEL, ROLLOUT));
    // More than one partition, so that a judge's place can go away.
    kafka.create_topics(&[(&world.app_topic("commands"), 8)]);
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let workers = ["v1", "v2"].map(|w| Worker::start(&kafka, &world.name, w, Habits::default()));
    let mut served = Reader::open(&kafka, &world.topic("served"));
    let mut sent: Vec<Sent> = Vec::new();
    run.stop();
    let comes_to = |f: &Failpoint| role == "analysis" || !f.is_of_files();
    for point in Failpoint::ALL.into_iter().filter(comes_to) {
        let mut run = start(&world, &format!("{role}/{}:{}", point.name(), occasion(point)));
        let before = sent.len();
        sent.extend(world.send_requests(before, before + REQUESTS));
        world.send_labels(&sent[before..]);
        if matches!(point, Failpoint::BeforeRelease | Failpoint::AfterRelease) {
            hand_over(&world, &mut run, role);
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
    let (faults, _) = Books::read(&world, sent, &["v1", "v2"]).balance();
    assert!(
        faults.is_empty(),
        "{} faults, the first: {:#?}",
        faults.len(),
        &faults[..faults.len().min(10)]
    );
    let audit = world.audit(&[]);
    assert_eq!(audit.code, Some(0), "{:#}", audit.said);
}

/// The how many-th time at a point finds work half done: what comes once at a start is met at once.
fn occasion(point: Failpoint) -> u64 {
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
    // A log of its own for each: a process that dies on request writes no error, one that goes wrong does.
    let name = crash_at.replace(['/', ':'], "-");
    Process::start(&mut command, &folder(&world.name).join(format!("run-{name}.log")))
}

/// Lets partitions go away until the role has died of it: they do when another instance comes, once all of them are here.
///
/// A hand-over that falls into a commit makes the role begin anew, and then nothing is given up in order: the next one has to do.
fn hand_over(world: &World, run: &mut Process, role: &str) {
    let (line, mut count) = match role {
        "serving" => ("serving: lane ready", 4),
        "analysis" => (": analyst lane ready", 8),
        _ => ("control: judging partition", 8),
    };
    let all = Deadline::after(WAIT);
    while run.ended().is_none() {
        let here = run.log_text().matches(line).count();
        if here >= count {
            let other = beside(world);
            let one = Deadline::after(HAND_OVER);
            while run.ended().is_none() && !one.is_over() {
                std::thread::park_timeout(Duration::from_millis(50));
            }
            other.stop();
            // What the other had comes back.
            count = run.log_text().matches(line).count() + 1;
        }
        assert!(!all.is_over(), "it did not die of a hand-over:\n{}", run.log_text());
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Another instance, which has no name of its own and leaves its groups when it ends.
fn beside(world: &World) -> Process {
    let mut command = serinus();
    command.args(["run", "--bootstrap", &world.kafka.bootstrap, "--app", &world.name]);
    Process::start(&mut command, &folder(&world.name).join("beside.log"))
}

/// The count of points, for who asks how many there are: each of them in each role.
#[test]
fn every_point_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = Failpoint::ALL.iter().map(|s| s.name()).collect();
    assert_eq!(names.len(), Failpoint::ALL.len());
}
