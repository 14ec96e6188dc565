//! Instance leases and partitions on a real Kafka: takeover, suspended processes, added partitions, recreated topics.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use serinus::kafka::client::consumer_group::{GroupMember, RebalanceEvent};
use serinus::kafka::client::settings::Settings;

use crate::kit::admin;
use crate::kit::clock::Deadline;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::process::{Process, folder, serinus};
use crate::kit::worker::{Behavior, Worker, answer};
use crate::kit::world::{PARTITIONS, WAIT, World, unique};

const SPEC: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: MODEL}
spec: {stable: v1, requestId: 'header:ce_id', timeout: 60s, shadowTimeout: 60s}
";

/// Longer than the session timeout and the transaction timeout.
const TOO_LONG: Duration = Duration::from_secs(13);

/// An application with one model, its worker, and a reader of the served topic.
struct Place {
    world: World,
    served: Reader,
    sent: usize,
    _worker: Worker,
}

impl Place {
    fn new(kafka: &Kafka, what: &str, start: impl Fn(&World) -> Process) -> (Self, Process) {
        let world = World::new(kafka, what, SPEC);
        let mut run = start(&world);
        world.await_topic(&world.topic("served"), &mut run);
        world.await_topic(&world.topic("v1.requests"), &mut run);
        let worker = Worker::start(kafka, &world.name, "v1", Behavior::default());
        let served = Reader::open(kafka, &world.topic("served"));
        let mut place = Self { world, served, sent: 0, _worker: worker };
        place.ask(100);
        (place, run)
    }

    /// Sends requests and waits until each is served once and correctly.
    fn ask(&mut self, count: usize) {
        self.send(count);
        self.await_served();
    }

    fn send(&mut self, count: usize) {
        self.world.send_requests(self.sent, self.sent + count);
        self.sent += count;
    }

    fn await_served(&mut self) {
        let wanted = self.sent;
        self.served.until("an answer to each request", WAIT, |u| u.len() >= wanted);
        assert_eq!(self.served.records.len(), wanted, "each is served once");
    }
}

fn await_line(process: &Process, what: &str) {
    let deadline = Deadline::after(WAIT);
    while !process.log_text().contains(what) {
        assert!(!deadline.is_over(), "no `{what}` in the log:\n{}", process.log_text());
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Suspends a process, as a stalled machine does.
fn pause(process: &Process) {
    process.signal("STOP");
    std::thread::park_timeout(TOO_LONG);
}

/// Starts a second process with its own log.
fn run_second(world: &World, log: &str) -> Process {
    let mut command = serinus();
    command.args(["run", "--bootstrap", &world.kafka.bootstrap, "--app", &world.name]);
    command.args(["--instance", "one"]);
    Process::start(&mut command, &folder(&world.name).join(log))
}

const LEASE_TAKEN: &str =
    "another process runs as instance `one` of this application; give each its own --instance name";

#[test]
fn of_two_processes_with_one_lease_the_older_exits() {
    let Some(kafka) = Kafka::find() else { return };
    let (mut place, mut older) = Place::new(&kafka, "twice", World::run);
    let younger = run_second(&place.world, "younger.log");
    place.send(100);
    assert_eq!(older.wait(WAIT).code(), Some(1));
    assert!(older.log_text().contains(LEASE_TAKEN), "{}", older.log_text());
    place.await_served();
    place.ask(100);
    younger.stop();
}

#[test]
fn a_suspended_process_that_was_replaced_exits_when_resumed() {
    let Some(kafka) = Kafka::find() else { return };
    let (mut place, mut sleeper) = Place::new(&kafka, "replaced", World::run);
    place.send(100);
    sleeper.signal("STOP");
    let younger = run_second(&place.world, "younger.log");
    place.await_served();
    pause(&sleeper);
    place.send(100);
    sleeper.signal("CONT");
    assert_eq!(sleeper.wait(WAIT).code(), Some(1));
    assert!(sleeper.log_text().contains(LEASE_TAKEN), "{}", sleeper.log_text());
    place.await_served();
    place.ask(100);
    younger.stop();
}

#[test]
fn a_suspended_process_that_was_not_replaced_continues_when_resumed() {
    let Some(kafka) = Kafka::find() else { return };
    let (mut place, sleeper) = Place::new(&kafka, "slept", World::run);
    place.send(100);
    pause(&sleeper);
    place.send(100);
    sleeper.signal("CONT");
    place.await_served();
    place.ask(100);
    sleeper.stop();
}

#[test]
fn added_request_partitions_are_served_once_their_counterparts_exist() {
    let Some(kafka) = Kafka::find() else { return };
    let (mut place, run) = Place::new(&kafka, "grown", World::run);
    let requests = place.world.topic("requests");
    add_partitions(&kafka, &requests, usize::try_from(PARTITIONS + 2).expect("it is small"));
    let record = Record {
        partition: PARTITIONS + 1,
        value: b"from a new partition".to_vec(),
        headers: vec![("ce_id".to_owned(), b"new".to_vec())],
        ..Record::default()
    };
    kafka.send(&requests, &[record]);
    await_line(&run, "`serinus topics create` with the model's spec adds it");
    // The other partitions are served throughout.
    place.ask(100);
    let output = serinus()
        .args(["topics", "create", "--bootstrap", &kafka.bootstrap, "--app", &place.world.name])
        .arg(&place.world.spec)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.contains(&format!("added partitions to {}", place.world.topic("served"))),
        "{said}"
    );
    let mut served = Reader::open(&kafka, &place.world.topic("served"));
    served.until("the answer on the new partition", WAIT, |records| {
        let is_it = |r: &&Record| r.header("serinus-request-id") == Some("new");
        records.iter().find(is_it).is_some_and(|i| {
            i.partition == PARTITIONS + 1 && i.value == answer("v1", b"from a new partition")
        })
    });
    run.stop();
}

#[test]
fn a_recreated_topic_is_read_from_its_beginning() {
    let Some(kafka) = Kafka::find() else { return };
    let (mut place, run) = Place::new(&kafka, "again", World::run);
    run.stop();
    let requests = place.world.topic("requests");
    admin::delete_topic(&kafka, &requests);
    kafka.create_topics(&[(&requests, PARTITIONS)]);
    let run = place.world.run();
    place.ask(100);
    run.stop();
}

/// Offsets of the group committed by another client: a reused application id, or an operator's mistake.
#[test]
fn foreign_offsets_are_refused_and_nothing_is_skipped() {
    let Some(kafka) = Kafka::find() else { return };
    let (mut place, run) = Place::new(&kafka, "foreign", World::run);
    run.stop();
    let (group, requests) =
        (format!("{}.serving", place.world.name), place.world.topic("requests"));
    let commit = |offset: i64, metadata: &str| {
        admin::set_offset_with(&kafka, &group, (&requests, 0), (offset, metadata));
    };
    let right = admin::offset(&kafka, &group, (&requests, 0)).expect("it was committed");
    commit(1_000_000, "");
    let run = place.world.run();
    await_line(&run, "it was deleted and created again");
    run.kill();
    commit(right.0, "mine");
    let run = place.world.run();
    await_line(&run, "that another program committed (its metadata is `mine`)");
    run.kill();
    commit(right.0, &right.1);
    place.send(100);
    let run = place.world.run();
    place.await_served();
    run.stop();
}

/// A group member and its partitions.
struct Holder {
    member: GroupMember,
    held: BTreeSet<i32>,
}

impl Holder {
    fn join(settings: &Settings, topic: &str, slot: &str) -> Self {
        let group = format!("{}.group", settings.app);
        let mut member = GroupMember::new(settings, &group, Some(slot)).expect("it can be made");
        member.subscribe(vec![topic.to_owned()]).expect("the topic is there");
        Self { member, held: BTreeSet::new() }
    }

    /// Returns the next rebalance event of the group, accepting assignments.
    fn poll(&mut self) -> Vec<RebalanceEvent> {
        drop(self.member.poll(Duration::from_millis(20)));
        let events = self.member.rebalanced();
        for note in &events {
            if let RebalanceEvent::Assigned(given) = note {
                let read: Vec<_> = given
                    .iter()
                    .map(|(topic, partition)| (topic.as_str(), *partition, Offset::Beginning))
                    .collect();
                self.member.accept(&read).expect("it can be taken");
                self.held.extend(given.iter().map(|g| g.1));
            }
        }
        events
    }

    /// The same, and gives up revoked partitions.
    fn poll_and_release(&mut self) {
        for note in self.poll() {
            if let RebalanceEvent::Revoked(gone) | RebalanceEvent::Lost(gone) = note {
                let gone: Vec<_> = gone.iter().map(|g| (g.0.as_str(), g.1)).collect();
                self.member.release(&gone).expect("it can be given up");
                self.held.retain(|held| gone.iter().all(|g| g.1 != *held));
            }
        }
    }
}

/// A role that restarts during a rebalance returns as the same static member and receives its previous assignment.
#[test]
fn partitions_revoked_during_a_restart_find_an_owner() {
    let Some(kafka) = Kafka::find() else { return };
    let app = unique("handover");
    let topic = format!("{app}.requests");
    kafka.create_topics(&[(&topic, PARTITIONS), (&format!("{app}.internal.slots"), 1)]);
    let settings = Settings::new(&kafka.bootstrap, &app);
    let all: BTreeSet<i32> = (0..PARTITIONS).collect();
    let deadline = Deadline::after(WAIT);
    let mut first = Holder::join(&settings, &topic, "a");
    while first.held != all {
        assert!(!deadline.is_over(), "the only member holds {:?}", first.held);
        first.poll_and_release();
    }
    let mut second = Holder::join(&settings, &topic, "b");
    let is_asked =
        |r: &RebalanceEvent| matches!(r, RebalanceEvent::Revoked(gone) if !gone.is_empty());
    while !first.poll().iter().any(is_asked) {
        assert!(!deadline.is_over(), "no partition of the first was revoked");
        second.poll_and_release();
    }
    // It ends without leaving the group, as after kill -9.
    std::mem::forget(first);
    let mut first = Holder::join(&settings, &topic, "a");
    while first.held.union(&second.held).copied().ne(all.iter().copied()) {
        assert!(
            !deadline.is_over(),
            "of {all:?} the first holds {:?}, the second {:?}",
            first.held,
            second.held
        );
        first.poll_and_release();
        second.poll_and_release();
    }
    assert!(first.held.is_disjoint(&second.held));
}

fn admin(kafka: &Kafka) -> (AdminClient<DefaultClientContext>, tokio::runtime::Runtime) {
    let admin = kafka.config().create().expect("an admin client can be made");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    (admin, runtime)
}

fn add_partitions(kafka: &Kafka, topic: &str, count: usize) {
    let (admin, runtime) = admin(kafka);
    let new = [NewPartitions::new(topic, count)];
    let results = runtime.block_on(admin.create_partitions(&new, &AdminOptions::new()));
    assert!(results.expect("the broker answers").iter().all(Result::is_ok));
    let wanted = i32::try_from(count).expect("it is small");
    let deadline = Deadline::after(WAIT);
    while kafka.partitions(topic) < wanted {
        assert!(!deadline.is_over(), "the new partitions are not shown");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}
