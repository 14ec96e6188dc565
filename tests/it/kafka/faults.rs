//! Exactly-once on a real Kafka behind a proxy that drops, delays and forges broker responses, request by request.

use std::time::Duration;

use serinus::wire::placement;

use crate::kafka::ledger;
use crate::kit::clock::Deadline;
use crate::kit::frames::Kind;
use crate::kit::kafka::{Kafka, Reader};
use crate::kit::ledger::Ledger;
use crate::kit::log;
use crate::kit::process::{Process, folder, serinus};
use crate::kit::proxy::{Effect, Fault, Proxy};
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{Sent, WAIT, World};

const ROLLOUT: &str = "
  candidates: [v2]
  strategy: canary
  stages: [{share: 50%, hold: 1h}]
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold}
";

/// Parts of the transactional ids of the roles.
const SERVING: &str = ".serving.";
const ANALYSIS: &str = ".analysis.";
const JUDGE: &str = ".judge.";

/// Requests before each fault, and after it.
const PART: usize = 100;

/// Longer than the transaction timeout and the session timeout.
const TOO_LONG: Duration = Duration::from_secs(12);

/// Longer than the timeout for reading the number of partitions.
const LONGER_THAN_A_LOOKUP: Duration = Duration::from_secs(6);

/// Slow, but shorter than the transaction timeout.
const SLOW: Duration = Duration::from_secs(5);

/// Fetch requests of an idle program in flight: of requests, answers, predictions, labels, events.
const READERS: usize = 8;

// Error codes of the Kafka protocol.
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

/// How the program recovers from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cure {
    /// The client retries; no role restarts.
    AskAgain,
    /// The role restarts from its committed offsets.
    BeginAnew,
    /// Either: it depends on how soon the broker aborts the timed-out transaction.
    Either,
}

/// A canary on a real Kafka. The program connects through the proxy, everything else directly.
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
        let world = World::new(kafka, what, &slow_spec());
        let proxy = Proxy::start(&kafka.bootstrap);
        let mut run = run(&world, &proxy);
        world.await_phase("Progressing", &mut run);
        let worker = |version| Worker::start(kafka, &world.name, version, Behavior::default());
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

    /// Sends requests until the faults have happened, and more afterwards; asserts how the program recovered.
    fn through(&mut self, faults: &[Fault], cure: Cure) {
        let before = self.restarts();
        let planned: Vec<_> = faults.iter().map(|f| self.proxy.plan(*f)).collect();
        self.ask();
        for it in planned {
            self.proxy.await_done(it, WAIT);
        }
        self.ask();
        self.await_served();
        self.run.assert_running();
        let restarts = match cure {
            Cure::AskAgain | Cure::Either => 0,
            Cure::BeginAnew => faults.iter().filter(|f| f.kind == Kind::Commit).count(),
        };
        let deadline = Deadline::after(WAIT);
        while self.restarts() - before < restarts && !deadline.is_over() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let begun = self.restarts() - before;
        assert!(
            begun >= restarts && (begun == 0 || cure != Cure::AskAgain),
            "role restarts, {restarts} expected, after {faults:?}:\n{}",
            self.run.log_text()
        );
    }

    /// The same fault for the serving role and the analysis role.
    fn through_both(&mut self, fault: Fault, cure: Cure) {
        let of = |role| Fault { of: role, ..fault };
        self.through(&[of(SERVING), of(ANALYSIS)], cure);
    }

    /// Number of role restarts so far.
    fn restarts(&self) -> usize {
        self.run.log_text().matches(log::ROLE_RESTARTED).count()
    }

    /// Waits until every case is closed and joined, stops the program, and balances the ledger.
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
                assert_eq!(it.partition, home, "the partition of `{id}` on `{kind}`");
            }
        }
        self.run.stop();
        drop(self.workers);
        let (faults, summary) = Ledger::read(&self.world, self.sent, &["v1", "v2"]).balance();
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

/// Starts the program behind the proxy; after a kill, the same call restarts it.
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

/// The broker rejects the request with this error code, this many times in a row.
fn refused(kind: Kind, of: &'static str, code: i16, times: usize) -> Fault {
    Fault { times, ..Fault::once(kind, of, Effect::Error(code)) }
}

/// Half of the timeout must outlast the longest outage: then the stable version is asked as well. The labels of a part, which are
/// sent after its requests, must reach Kafka before their cases mature, also on a busy machine.
fn slow_spec() -> String {
    ledger::spec(ROLLOUT)
        .replace("shadowTimeout: 90s", "shadowTimeout: 400s")
        .replace("timeout: 60s", "timeout: 300s")
        .replace("maturity: 3s", "maturity: 15s")
}

#[test]
fn a_lost_response_causes_no_duplicate() {
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
fn a_commit_that_is_cut_off_slow_or_rejected_is_retried() {
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
fn a_commit_that_fails_or_times_out_restarts_the_role() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "never");
    // The connection stays open, so the client has no reason to retry.
    trial.through_both(once(Kind::Commit, Effect::SwallowInSilence), Cure::BeginAnew);
    for (serving, analysis) in [
        (INVALID_TXN_STATE, UNKNOWN_PRODUCER_ID),
        (INVALID_PRODUCER_ID_MAPPING, UNKNOWN_SERVER_ERROR),
        // Brokers also return this code after a transaction timeout; no other process has the transactional id.
        (INVALID_PRODUCER_EPOCH, PRODUCER_FENCED),
        (PRODUCER_FENCED, INVALID_PRODUCER_EPOCH),
    ] {
        let faults = [
            refused(Kind::Commit, SERVING, serving, 1),
            refused(Kind::Commit, ANALYSIS, analysis, 1),
        ];
        trial.through(&faults, Cure::BeginAnew);
    }
    // A restarting role fences its predecessor. If the response is lost, it must not fence itself.
    let faults = [SERVING, ANALYSIS].map(|role| {
        [
            refused(Kind::Commit, role, INVALID_TXN_STATE, 1),
            Fault::once(Kind::InitProducerId, role, Effect::SwallowAndCut),
        ]
    });
    trial.through(faults.as_flattened(), Cure::BeginAnew);
    trial.finish();
}

/// A member that keeps its partitions repeats the transaction in the next generation of the group.
#[test]
fn a_rebalance_during_a_commit_repeats_only_the_transaction() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "generation");
    let stale = |of, times| refused(Kind::TxnOffsetCommit, of, ILLEGAL_GENERATION, times);
    trial.through_both(stale("", 1), Cure::AskAgain);
    trial.through_both(stale("", 4), Cure::AskAgain);
    trial.through(&[stale(JUDGE, 2)], Cure::AskAgain);
    trial.finish();
}

/// A restarting role sends many requests before it works: coordinators, producer epoch, group membership, offsets.
#[test]
fn a_startup_that_is_rejected_for_a_while_is_retried() {
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
    // Requests that the client does not retry on its own.
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

/// Within a transaction the client retries three times in a second, and again after a connection change.
#[test]
fn an_unavailable_group_coordinator_is_looked_up_again() {
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

/// Broker failures between reading the topics and sending the first command do not end the startup.
#[test]
fn a_spec_that_brokers_reject_is_sent_again() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "spec", &slow_spec());
    let proxy = Proxy::start(&kafka.bootstrap);
    let slow = Fault { times: 2, ..Fault::once(Kind::Produce, ".commands", Effect::Delay(SLOW)) };
    let slow = proxy.plan(slow);
    let mut run = run_with(&world, &proxy, &["-X", "message.timeout.ms=1500"]);
    proxy.await_done(slow, WAIT);
    world.await_phase("Progressing", &mut run);
    let log = run.stop_and_read();
    assert!(log.contains(log::SPEC_RETRIED), "{log}");
}

/// The broker cannot distinguish a delayed commit from the commit of the next transaction, unless the producer has a new epoch by then.
#[test]
fn a_delayed_commit_does_not_commit_the_next_transaction() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "late");
    let plan = |trial: &Trial, kind, role| {
        trial.proxy.plan(Fault::once(kind, role, Effect::Delay(TOO_LONG)))
    };
    let late = [SERVING, ANALYSIS].map(|role| plan(&trial, Kind::Commit, role));
    trial.ask();
    for it in late {
        trial.proxy.await_first(it, WAIT);
    }
    // When the delayed commit arrives, the next transaction has records but no offsets yet; then its process dies.
    let next = [SERVING, ANALYSIS].map(|role| plan(&trial, Kind::TxnOffsetCommit, role));
    trial.ask();
    for it in next {
        trial.proxy.await_first(it, WAIT);
    }
    for it in late {
        trial.proxy.await_done(it, WAIT);
    }
    // The broker may delay the commit.
    trial.proxy.hold(Duration::from_secs(1));
    trial.run.kill();
    trial.run = run(&trial.world, &trial.proxy);
    trial.ask();
    trial.finish();
}

/// The number of partitions decides where records go and who judges a model, so it must not be guessed.
#[test]
fn a_missing_partition_count_is_requested_again() {
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

/// Silence does not prove that there are no labels: while nothing can be fetched, mature cases wait.
#[test]
fn cases_wait_for_labels_that_cannot_be_fetched() {
    let Some(kafka) = Kafka::find() else { return };
    let mut trial = Trial::start(&kafka, "unfetched");
    for _ in 0..3 {
        let before = trial.sent.len();
        trial.sent.extend(trial.world.send_requests(before, before + PART));
        trial.await_served();
        let fault = Fault::once(Kind::Fetch, "", Effect::Delay(SLOW));
        let planned = trial.proxy.plan(Fault { times: READERS, ..fault });
        trial.proxy.await_first(planned, WAIT);
        trial.world.send_labels(&trial.sent[before..]);
        trial.proxy.await_done(planned, WAIT);
    }
    trial.finish();
}

#[test]
fn a_broker_outage_longer_than_a_session_is_waited_out() {
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
