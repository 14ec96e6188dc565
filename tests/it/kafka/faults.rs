//! Exactly once on a real Kafka, through a proxy that loses, delays and makes up what the broker says, request by request.

use std::time::Duration;

use serinus::wire::placement;

use crate::kafka::ledger;
use crate::kit::clock::Deadline;
use crate::kit::frames::Kind;
use crate::kit::kafka::{Kafka, Reader};
use crate::kit::ledger::Books;
use crate::kit::process::{Process, folder, serinus};
use crate::kit::proxy::{Effect, Fault, Proxy};
use crate::kit::worker::{Habits, Worker};
use crate::kit::world::{Sent, WAIT, World};

const ROLLOUT: &str = "
  candidates: [v2]
  strategy: canary
  stages: [{share: 50%, hold: 1h}]
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold}
";

/// What stands in the transactional ids of the roles.
const SERVING: &str = ".serving.";
const ANALYSIS: &str = ".analysis.";
const JUDGE: &str = ".judge.";

/// Requests before a fault has happened, and as many after.
const PART: usize = 100;

/// Longer than a transaction and a member's session may take.
const TOO_LONG: Duration = Duration::from_secs(12);

/// Nobody waits so long for the number of partitions.
const LONGER_THAN_A_LOOKUP: Duration = Duration::from_secs(6);

/// Slow, and within the time that a transaction has.
const SLOW: Duration = Duration::from_secs(5);

/// So many readers of the program stand at the ends of their topics, and ask for more: of requests, answers, predictions, labels, events.
const READERS: usize = 8;

// What a broker may answer instead of doing it, as the protocol numbers it.
const UNKNOWN_SERVER_ERROR: i16 = -1;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const ILLEGAL_GENERATION: i16 = 22;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const UNKNOWN_PRODUCER_ID: i16 = 59;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const PRODUCER_FENCED: i16 = 90;

/// What the program does about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cure {
    /// The client asks again, and nobody notices.
    AskAgain,
    /// The role begins anew, from the committed offsets.
    BeginAnew,
    /// One or the other: it depends on how soon the broker ends a transaction whose time is over.
    Either,
}

/// A canary on a real Kafka, whose program reaches the broker by way of the proxy, and all others directly.
struct Trial {
    world: World,
    proxy: Proxy,
    run: Process,
    workers: [Worker; 2],
    served: Reader,
    sent: Vec<Sent>,
}

impl Trial {
    fn start(kafka: &Kafka, what: &str) -> Self {
        let world = World::new(kafka, what, &ledger::spec(ROLLOUT));
        let proxy = Proxy::start(&kafka.bootstrap);
        let mut run = run(&world, &proxy);
        world.await_phase("Progressing", &mut run);
        let worker = |version| Worker::start(kafka, &world.name, version, Habits::default());
        let workers = [worker("v1"), worker("v2")];
        let served = Reader::open(kafka, &world.topic("served"));
        let mut trial = Self { world, proxy, run, workers, served, sent: Vec::new() };
        trial.ask();
        trial.await_served();
        trial
    }

    /// Sends requests and their labels.
    fn ask(&mut self) {
        let before = self.sent.len();
        self.sent.extend(self.world.send_requests(before, before + PART));
        self.world.send_labels(&self.sent[before..]);
    }

    fn await_served(&mut self) {
        let wanted = self.sent.len();
        self.served.until("an answer to every request", WAIT, |u| u.len() >= wanted);
    }

    /// Sends requests until the faults have happened, and more after; holds the program to how it gets over them.
    fn through(&mut self, faults: &[Fault], cure: Cure) {
        let before = self.begun_anew();
        let planned: Vec<_> = faults.iter().map(|f| self.proxy.plan(*f)).collect();
        self.ask();
        for it in planned {
            self.proxy.await_done(it, WAIT);
        }
        self.ask();
        self.await_served();
        self.run.assert_running();
        let begun_anew = match cure {
            Cure::AskAgain | Cure::Either => 0,
            Cure::BeginAnew => faults.iter().filter(|f| f.kind == Kind::Commit).count(),
        };
        let deadline = Deadline::after(WAIT);
        while self.begun_anew() - before < begun_anew && !deadline.is_over() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let begun = self.begun_anew() - before;
        assert!(
            begun >= begun_anew && (begun == 0 || cure != Cure::AskAgain),
            "roles that began anew, {begun_anew} expected, after {faults:?}:\n{}",
            self.run.log_text()
        );
    }

    /// The same fault to the role that serves and to the one that joins labels.
    fn through_both(&mut self, fault: Fault, cure: Cure) {
        let of = |role| Fault { of: role, ..fault };
        self.through(&[of(SERVING), of(ANALYSIS)], cure);
    }

    /// How often a role of the program began anew until now.
    fn begun_anew(&self) -> usize {
        self.run.log_text().matches("beginning anew").count()
    }

    /// Waits until every case is closed and joined, stops the program, and balances the books.
    fn finish(mut self) {
        self.await_served();
        let total = self.sent.len();
        for kind in ["predictions", "analysis"] {
            let mut records = Reader::open(&self.world.kafka, &self.world.topic(kind));
            records.until("a record of every case", WAIT, |records| records.len() >= total);
            let partitions = self.world.kafka.partitions(&self.world.topic(kind));
            for it in &records.records {
                let id = it.json()["request_id"].as_str().expect("it has an id").to_owned();
                let home = placement::partition(id.as_bytes(), partitions);
                assert_eq!(it.partition, home, "where `{id}` stands on `{kind}`");
            }
        }
        self.run.stop();
        drop(self.workers);
        let (faults, summary) = Books::read(&self.world, self.sent, &["v1", "v2"]).balance();
        assert!(
            faults.is_empty(),
            "{} faults in {total} requests of `{}`, the first:\n{}",
            faults.len(),
            self.world.name,
            faults[..faults.len().min(20)].join("\n")
        );
        assert_eq!(summary.served_by.keys().collect::<Vec<_>>(), ["v1", "v2"]);
        let audit = self.world.audit(&[]);
        assert_eq!(audit.code, Some(0), "{:#}", audit.said);
    }
}

/// Starts the program behind the proxy; the same call after a kill is the same command again.
fn run(world: &World, proxy: &Proxy) -> Process {
    run_with(world, proxy, &[])
}

fn run_with(world: &World, proxy: &Proxy, more: &[&str]) -> Process {
    let mut command = serinus();
    command.args(["run", "--bootstrap", &proxy.bootstrap(), "--app", &world.name]);
    command.args(["--instance", "one", "--create-topics", "--apply"]).arg(&world.spec).args(more);
    Process::start(&mut command, &folder(&world.name).join("run.log"))
}

fn once(kind: Kind, effect: Effect) -> Fault {
    Fault::once(kind, "", effect)
}

/// The broker does not do it, so many times in a row, and says why.
fn refused(kind: Kind, of: &'static str, code: i16, times: usize) -> Fault {
    Fault { times, ..Fault::once(kind, of, Effect::Error(code)) }
}

#[test]
fn what_was_done_and_nobody_heard_of_is_not_done_twice() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "unheard");
    for kind in [
        Kind::Produce,
        Kind::AddPartitionsToTxn,
        Kind::AddOffsetsToTxn,
        Kind::TxnOffsetCommit,
        Kind::Commit,
    ] {
        trial.through_both(once(kind, Effect::SwallowAndCut), Cure::AskAgain);
    }
    let of_judge = Fault::once(Kind::Commit, JUDGE, Effect::SwallowAndCut);
    trial.through(&[of_judge], Cure::AskAgain);
    trial.finish();
}

#[test]
fn a_commit_that_is_cut_off_or_slow_or_not_possible_yet_is_asked_for_again() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "refused");
    trial.through_both(once(Kind::Commit, Effect::Cut), Cure::AskAgain);
    trial.through_both(once(Kind::Commit, Effect::Delay(SLOW)), Cure::AskAgain);
    for (code, times) in
        [(CONCURRENT_TRANSACTIONS, 3), (COORDINATOR_NOT_AVAILABLE, 3), (NOT_COORDINATOR, 1)]
    {
        for kind in [Kind::AddOffsetsToTxn, Kind::Commit] {
            trial.through_both(refused(kind, "", code, times), Cure::AskAgain);
        }
    }
    trial.finish();
}

#[test]
fn a_commit_that_fails_or_stays_unanswered_makes_the_role_begin_anew() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "never");
    // The connection stands, and nothing tells the client to ask again.
    trial.through_both(once(Kind::Commit, Effect::SwallowInSilence), Cure::BeginAnew);
    for (serving, analysis) in [
        (INVALID_TXN_STATE, UNKNOWN_PRODUCER_ID),
        (INVALID_PRODUCER_ID_MAPPING, UNKNOWN_SERVER_ERROR),
        // What a broker also says whose transaction took too long: nobody else has the name.
        (INVALID_PRODUCER_EPOCH, PRODUCER_FENCED),
        (PRODUCER_FENCED, INVALID_PRODUCER_EPOCH),
    ] {
        let faults = [
            refused(Kind::Commit, SERVING, serving, 1),
            refused(Kind::Commit, ANALYSIS, analysis, 1),
        ];
        trial.through(&faults, Cure::BeginAnew);
    }
    // Who begins anew fences its slot; that nobody heard of it must not fence itself.
    let faults = [SERVING, ANALYSIS].map(|role| {
        [
            refused(Kind::Commit, role, INVALID_TXN_STATE, 1),
            Fault::once(Kind::InitProducerId, role, Effect::SwallowAndCut),
        ]
    });
    trial.through(faults.as_flattened(), Cure::BeginAnew);
    trial.finish();
}

/// Whose partitions stay his own makes the same transaction again in the group's next generation.
#[test]
fn a_rebalance_that_falls_into_a_commit_costs_nothing_but_the_transaction() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "generation");
    let stale = |of, times| refused(Kind::TxnOffsetCommit, of, ILLEGAL_GENERATION, times);
    trial.through_both(stale("", 1), Cure::AskAgain);
    trial.through_both(stale("", 4), Cure::AskAgain);
    trial.through(&[stale(JUDGE, 2)], Cure::AskAgain);
    trial.finish();
}

/// Who begins anew asks for much before it works: who coordinates, a producer's epoch, a place in the group, offsets.
#[test]
fn a_beginning_that_is_refused_for_a_while_is_made_again() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "beginning");
    trial.through(
        &[
            refused(Kind::Commit, SERVING, INVALID_TXN_STATE, 1),
            refused(Kind::InitProducerId, SERVING, COORDINATOR_LOAD_IN_PROGRESS, 3),
            refused(Kind::JoinGroup, SERVING, COORDINATOR_NOT_AVAILABLE, 2),
            refused(Kind::OffsetFetch, ".serving", UNSTABLE_OFFSET_COMMIT, 3),
            refused(Kind::Commit, ANALYSIS, INVALID_TXN_STATE, 1),
            refused(Kind::FindCoordinator, ".analysis", COORDINATOR_NOT_AVAILABLE, 2),
            refused(Kind::InitProducerId, ANALYSIS, CONCURRENT_TRANSACTIONS, 3),
            refused(Kind::OffsetFetch, ".analysis", COORDINATOR_LOAD_IN_PROGRESS, 3),
            refused(Kind::Commit, JUDGE, INVALID_TXN_STATE, 1),
            refused(Kind::InitProducerId, JUDGE, NOT_COORDINATOR, 1),
            refused(Kind::OffsetFetch, ".control", NOT_COORDINATOR, 1),
        ],
        Cure::BeginAnew,
    );
    // What the client does not ask for again by itself.
    trial.through(
        &[
            refused(Kind::Commit, SERVING, INVALID_TXN_STATE, 1),
            refused(Kind::InitProducerId, SERVING, UNKNOWN_SERVER_ERROR, 1),
            refused(Kind::Commit, ANALYSIS, INVALID_TXN_STATE, 1),
            refused(Kind::OffsetFetch, ".analysis", UNKNOWN_SERVER_ERROR, 1),
        ],
        Cure::BeginAnew,
    );
    trial.finish();
}

/// In the middle of a transaction the client asks three times within a second, and again once a connection has changed.
#[test]
fn a_groups_coordinator_that_nobody_names_for_a_while_is_looked_for_again() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "nameless");
    for (role, group) in [(SERVING, ".serving"), (ANALYSIS, ".analysis"), (JUDGE, ".control")] {
        trial.through(
            &[
                refused(Kind::TxnOffsetCommit, role, NOT_COORDINATOR, 1),
                refused(Kind::FindCoordinator, group, COORDINATOR_NOT_AVAILABLE, 3),
            ],
            Cure::Either,
        );
    }
    trial.finish();
}

/// Brokers that are in trouble between the look at the topics and the first command do not end the start.
#[test]
fn a_spec_that_no_broker_takes_is_sent_again() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "spec", &ledger::spec(ROLLOUT));
    let proxy = Proxy::start(&kafka.bootstrap);
    let slow = Fault { times: 2, ..Fault::once(Kind::Produce, ".commands", Effect::Delay(SLOW)) };
    let slow = proxy.plan(slow);
    let mut run = run_with(&world, &proxy, &["-X", "message.timeout.ms=1500"]);
    proxy.await_done(slow, WAIT);
    world.await_phase("Progressing", &mut run);
    let log = run.stop_and_read();
    assert!(log.contains("spec not sent yet, trying again"), "{log}");
}

/// The broker cannot tell a commit that comes late from that of the next transaction, unless the producer has a new epoch by then.
#[test]
fn a_commit_that_comes_late_does_not_commit_what_came_after_it() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "late");
    let plan = |trial: &Trial, kind, role| {
        trial.proxy.plan(Fault::once(kind, role, Effect::Delay(TOO_LONG)))
    };
    let late = [SERVING, ANALYSIS].map(|role| plan(&trial, Kind::Commit, role));
    trial.ask();
    for it in late {
        trial.proxy.await_begun(it, WAIT);
    }
    // The next transaction has its records and not yet its offsets when the late commit comes, and then ends with its process.
    let next = [SERVING, ANALYSIS].map(|role| plan(&trial, Kind::TxnOffsetCommit, role));
    trial.ask();
    for it in next {
        trial.proxy.await_begun(it, WAIT);
    }
    for it in late {
        trial.proxy.await_done(it, WAIT);
    }
    // The broker may take its time over the commit.
    trial.proxy.hold(Duration::from_secs(1));
    trial.run.kill();
    trial.run = run(&trial.world, &trial.proxy);
    trial.ask();
    trial.finish();
}

/// Records have their places, and models their judges, by how many partitions there are: nobody may guess that.
#[test]
fn brokers_that_do_not_say_how_many_partitions_there_are_are_asked_again() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "uncounted");
    let error = |role| refused(Kind::Commit, role, INVALID_TXN_STATE, 1);
    let unsaid = |of, times| {
        let effect = Effect::Delay(LONGER_THAN_A_LOOKUP);
        Fault { times, ..Fault::once(Kind::Metadata, of, effect) }
    };
    let faults = [error(SERVING), error(JUDGE), unsaid(".predictions", 2), unsaid(".commands", 4)];
    trial.through(&faults, Cure::BeginAnew);
    let verdict = trial.world.command("pause")["verdict"].clone();
    assert_eq!(verdict, "pause");
    trial.ask();
    trial.finish();
}

/// That no labels come does not mean that there are none: where nothing can be fetched, cases wait that are mature by now.
#[test]
fn labels_that_cannot_be_fetched_until_their_cases_are_mature_are_waited_for() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "unfetched");
    for _ in 0..3 {
        let before = trial.sent.len();
        trial.sent.extend(trial.world.send_requests(before, before + PART));
        trial.await_served();
        let fault = Fault::once(Kind::Fetch, "", Effect::Delay(SLOW));
        let planned = trial.proxy.plan(Fault { times: READERS, ..fault });
        trial.proxy.await_begun(planned, WAIT);
        trial.world.send_labels(&trial.sent[before..]);
        trial.proxy.await_done(planned, WAIT);
    }
    trial.finish();
}

#[test]
fn a_broker_out_of_reach_longer_than_a_session_is_waited_for() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "away");
    trial.ask();
    trial.proxy.pause();
    trial.ask();
    trial.proxy.hold(Duration::from_secs(15));
    trial.proxy.resume();
    trial.ask();
    trial.await_served();
    trial.finish();
}
