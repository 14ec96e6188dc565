//! Random faults on a dedicated Kafka: instances, workers and brokers are killed, suspended, stopped and restarted while requests run; afterwards the ledger must balance.
//!
//! The faults follow from a seed: `SERINUS_CHAOS_SEED` repeats the faults of a run. `SERINUS_CHAOS_SECONDS` and `SERINUS_CHAOS_RATE` (requests
//! per second over all models) set its length and load; `make soak` runs an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::kit::clock::{Deadline, Stopwatch};
use crate::kit::evidence::Evidence;
use crate::kit::fault_groups::by_kind;
use crate::kit::kafka::{OwnKafka, Reader};
use crate::kit::ledger::{Ledger, Promise, Summary};
use crate::kit::process::Process;
use crate::kit::specs;
use crate::kit::traffic::Traffic;
use crate::kit::worker::Worker;
use crate::kit::world::{Sent, WAIT, World};

/// Outlasts every fault, so faults cost time only. A request must be served by its arm, which has half of the timeout.
const LONG_DEADLINES: &str = "
  timeout: 1200s
  shadowTimeout: 1500s
";

/// Faults make requests late. Fallbacks are then served, and the prediction must explain them.
const SHORT_DEADLINES: &str = "
  timeout: 2s
  shadowTimeout: 5s
  default: {score: 0.5}
";

/// Served by `SHORT_DEADLINES` if no version answers.
const DEFAULT: &[u8] = b"{\"score\":0.5}";

/// As in the spec. Longer than the longest outage of broker and lane, so every label arrives before its case matures.
const MATURITY_MS: i64 = 30_000;

/// A model, its deadlines, its rollout and its versions.
struct Trial {
    name: &'static str,
    deadlines: &'static str,
    rollout: &'static str,
    versions: &'static [&'static str],
}

fn spec_of(trial: &Trial) -> String {
    // Few partitions for the created topics, so that a killed broker recovers its logs quickly.
    let model = format!("  partitions: 3\n  onFailure: stable{}", trial.deadlines);
    let rollout = format!("  labels: {{maturity: 30s, missing: exclude}}{}", trial.rollout);
    specs::scored(&model, &rollout)
}

/// One model per strategy, and one with short deadlines.
const TRIALS: &[Trial] = &[
    Trial {
        name: "shadow",
        deadlines: LONG_DEADLINES,
        rollout: "
  candidates: [v2]
  strategy: shadow
  stages: [{shadow: 100%, until: {exposures: 100000000}}]
  decide: {alpha: 0.05, by: 14d, no_data: hold, tick: 2s}
",
        versions: &["v1", "v2"],
    },
    Trial {
        name: "ab",
        deadlines: LONG_DEADLINES,
        rollout: "
  candidates: [v2, v3]
  strategy: ab
  stages: [{share: {v2: 30%, v3: 20%}, hold: 1h}]
  decide: {promote: superior, alpha: 0.05, by: 14d, no_data: hold, tick: 2s}
",
        versions: &["v1", "v2", "v3"],
    },
    Trial {
        name: CANARY,
        deadlines: LONG_DEADLINES,
        rollout: "
  candidates: [v2]
  strategy: canary
  stages: [{share: 10%, hold: 1h}, {share: 30%, hold: 1h}, {share: 50%, hold: 1h}]
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold, tick: 2s}
",
        versions: &["v1", "v2"],
    },
    Trial {
        name: "short",
        deadlines: SHORT_DEADLINES,
        rollout: "
  candidates: [v2]
  strategy: ab
  stages: [{share: 50%, hold: 1h}]
  decide: {promote: superior, alpha: 0.05, by: 14d, no_data: hold, tick: 2s}
",
        versions: &["v1", "v2"],
    },
];

/// The model whose rollout is advanced twice.
const CANARY: &str = "canary";

/// The permanent instances, and the one that comes and goes.
const INSTANCES: [&str; 3] = ["a", "b", "c"];
const TEMPORARY: &str = "d";

/// Three replicas per partition, of which two must have a record. A single broker that dies while it ends a transaction may not complete it on
/// partitions without a leader (docs/reliability.md); records behind it then stay invisible to `read_committed` readers.
const BROKERS: usize = 3;

/// How long a topic may stay silent at the end before its missing records count as lost. Covers serving of queued requests and maturity.
const SETTLE_WAIT: Duration = Duration::from_mins(3);

/// How long a replaced process may take to notice that another process has its lease.
const LEAVE_WAIT: Duration = Duration::from_mins(1);

/// Last log lines of an instance that failed to start. A started instance waits for the broker instead.
const START_FAILURES: [&str; 5] = [
    "error: failed to reach Kafka at",
    "error: failed to read topic",
    "error: failed to write to topic",
    "error: failed to describe topics",
    "error: failed to create topics",
];

/// A fault or its repair, with its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Starts an instance, also under the name of a suspended process.
    Start(&'static str),
    /// Kills an instance with kill -9.
    Kill(&'static str),
    /// Stops an instance with SIGTERM; it must exit with code 0 within 25 s.
    Stop(&'static str),
    /// Suspends an instance with SIGSTOP.
    Suspend(&'static str),
    /// Resumes an instance that was not replaced.
    Resume(&'static str),
    /// Resumes an instance that was replaced: one of the two processes must exit and log why.
    ResumeReplaced(&'static str),
    /// Kills a worker with kill -9: model, version.
    KillWorker(usize, usize),
    StartWorker(usize, usize),
    /// Kills a broker with kill -9 and restarts it after this many milliseconds.
    BreakBroker(usize, u64),
    /// Advances the canary to its next stage.
    Advance,
}

/// Steps with their times.
type Schedule = Vec<(Duration, Step)>;

#[test]
fn the_ledger_balances_through_chaos() {
    let number = |name: &str, usual: u64| {
        std::env::var(name)
            .map_or(usual, |u| u.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
    };
    let seed = number("SERINUS_CHAOS_SEED", RandomState::new().hash_one(0) % 1_000_000);
    let length = Duration::from_secs(number("SERINUS_CHAOS_SECONDS", 60));
    let rate = number("SERINUS_CHAOS_RATE", 150);
    let Some(own) = OwnKafka::start("chaos", BROKERS) else { return };
    let schedule = schedule(seed, length);
    print(&format!("SERINUS_CHAOS_SEED={seed}, {rate} requests/s for {length:?}"));
    let watch = Stopwatch::start();
    let mut cluster = TestCluster::open(own);
    let traffic: Vec<Traffic> = cluster
        .worlds
        .iter()
        .map(|world| Traffic::start(world, rate as f64 / TRIALS.len() as f64))
        .collect();
    cluster.run_schedule(&schedule, length);
    cluster.await_promotions();
    for it in &traffic {
        it.end();
    }
    let sent: Vec<Vec<Sent>> = traffic.into_iter().map(Traffic::stop).collect();
    let (faults, summaries) = cluster.close(&sent);
    let report = report(seed, &schedule, &summaries, cluster.restarts, &watch);
    print(&report);
    let kinds = by_kind(&faults).join("\n");
    // Printed at once: the message of a panic follows only after the other tests.
    if !faults.is_empty() {
        print(&format!("{} faults, by kind:\n{kinds}", faults.len()));
    }
    assert!(faults.is_empty(), "{report}\n{} faults, by kind:\n{kinds}", faults.len());
    audit(&cluster, &report);
}

/// Recomputing sums, events and evidence from the topics without crashes gives the same bytes.
fn audit(cluster: &TestCluster, report: &str) {
    let said = cluster.worlds[0].audit(&[]).said;
    let models = said["models"].as_array().expect("models were audited");
    assert_eq!(models.len(), cluster.worlds.len());
    for model in models {
        let checks = model["checks"].as_array().expect("there are checks");
        print(&format!("audit of {}: {}", model["model"], model["checks"]));
        for what in ["sums", "events", "evidence"] {
            let check = checks.iter().find(|c| c["what"] == what).expect(what);
            assert!(check["equal"].as_u64() > Some(0), "{report}\n{model:#}");
            assert_eq!(check["different"], 0, "{report}\n{model:#}");
        }
        assert_eq!(model["unchecked"], json!([]), "{report}");
    }
}

/// The same seed gives the same schedule, and even a short schedule has every kind of fault.
#[test]
fn the_schedule_follows_from_its_seed() {
    let length = Duration::from_secs(40);
    assert_eq!(schedule(7, length), schedule(7, length));
    assert_ne!(schedule(7, length), schedule(8, length));
    for seed in [7, 8, 9, 203_296] {
        let schedule = schedule(seed, length);
        let kinds: BTreeSet<&str> = schedule.iter().map(|(_, step)| step.kind()).collect();
        assert_eq!(
            kinds.into_iter().collect::<Vec<_>>().join("; "),
            "advance; broker kill -9; kill -9; resume; resume, replaced; start; stop; suspend; worker kill -9; worker start",
            "seed {seed}"
        );
        assert!(schedule.is_sorted_by_key(|(at, _)| *at), "seed {seed}");
    }
}

/// Draws a fault every three to five seconds, together with its repair.
fn schedule(seed: u64, length: Duration) -> Schedule {
    let mut random = Random::seed_from_u64(seed);
    let mut schedule = vec![(length / 4, Step::Advance), (length / 2, Step::Advance)];
    // The time until which each target is in use.
    let mut busy: BTreeMap<String, Duration> = BTreeMap::new();
    let mut at = Duration::from_secs(3);
    // Every kind of fault once in random order, then kinds by weight. A fault whose target is in use is drawn again later.
    let mut first: Vec<u32> = KINDS.to_vec();
    first.shuffle(&mut random);
    while at < length || !first.is_empty() {
        let fault = first.last().copied().unwrap_or_else(|| random.random_range(0..100));
        let steps = fault_steps(fault, at, &mut random);
        let target = steps[0].1.target();
        let is_free = |target: &str| busy.get(target).is_none_or(|until| *until < at);
        let others_up = INSTANCES.iter().filter(|o| **o != target && is_free(o)).count();
        if is_free(&target) && others_up > 0 {
            let until = steps.last().map_or(at, |(at, _)| *at);
            busy.insert(target, until + Duration::from_secs(2));
            schedule.extend(steps);
            first.pop();
        }
        at += Duration::from_millis(random.random_range(3_000..5_000));
    }
    schedule.sort_by_key(|(at, _)| *at);
    schedule
}

/// One value of each weight range in `fault_steps`.
const KINDS: [u32; 7] = [0, 25, 40, 60, 70, 85, 93];

/// Returns a fault with its repair; `fault` is a percentile of the kinds.
fn fault_steps(fault: u32, at: Duration, random: &mut Random) -> Vec<(Duration, Step)> {
    let soon =
        Duration::from_millis([0, random.random_range(1_000..8_000)][random.random_range(0..2)]);
    let sleep = Duration::from_millis(random.random_range(3_000..20_000));
    let instance = INSTANCES[random.random_range(0..INSTANCES.len())];
    let model = random.random_range(0..TRIALS.len());
    let version = random.random_range(0..TRIALS[model].versions.len());
    match fault {
        0..25 => vec![(at, Step::Kill(instance)), (at + soon, Step::Start(instance))],
        25..40 => vec![(at, Step::Stop(instance)), (at + soon, Step::Start(instance))],
        40..60 => vec![(at, Step::Suspend(instance)), (at + sleep, Step::Resume(instance))],
        60..70 => vec![
            (at, Step::Suspend(instance)),
            (at + sleep / 2, Step::Start(instance)),
            (at + sleep, Step::ResumeReplaced(instance)),
        ],
        70..85 => vec![
            (at, Step::KillWorker(model, version)),
            (at + soon, Step::StartWorker(model, version)),
        ],
        85..93 => vec![(
            at,
            Step::BreakBroker(random.random_range(1..=BROKERS), random.random_range(0..6_000)),
        )],
        _ => vec![(at, Step::Start(TEMPORARY)), (at + sleep, Step::Stop(TEMPORARY))],
    }
}

impl Step {
    fn kind(self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Kill(_) => "kill -9",
            Self::Stop(_) => "stop",
            Self::Suspend(_) => "suspend",
            Self::Resume(_) => "resume",
            Self::ResumeReplaced(_) => "resume, replaced",
            Self::KillWorker(..) => "worker kill -9",
            Self::StartWorker(..) => "worker start",
            Self::BreakBroker(..) => "broker kill -9",
            Self::Advance => "advance",
        }
    }

    fn target(self) -> String {
        match self {
            Self::Start(name)
            | Self::Kill(name)
            | Self::Stop(name)
            | Self::Suspend(name)
            | Self::Resume(name)
            | Self::ResumeReplaced(name) => name.to_owned(),
            Self::KillWorker(model, version) | Self::StartWorker(model, version) => {
                format!("{} {}", TRIALS[model].name, TRIALS[model].versions[version])
            }
            Self::BreakBroker(node, _) => format!("broker {node}"),
            Self::Advance => "canary".to_owned(),
        }
    }
}

/// The cluster under test and every process in it.
struct TestCluster {
    worlds: Vec<World>,
    instances: BTreeMap<&'static str, Process>,
    suspended: BTreeMap<&'static str, Process>,
    workers: BTreeMap<(usize, usize), Process>,
    commands: Vec<String>,
    restarts: usize,
    /// Processes that ended unexpectedly.
    faults: Vec<String>,
    // Last: the brokers must outlive every process.
    own: OwnKafka,
}

impl TestCluster {
    /// Starts everything and waits until every rollout is progressing.
    fn open(own: OwnKafka) -> Self {
        let specs: Vec<(&str, String)> = TRIALS.iter().map(|s| (s.name, spec_of(s))).collect();
        let mut this = Self {
            worlds: World::several(&own.kafka, "chaos", &specs),
            instances: BTreeMap::new(),
            suspended: BTreeMap::new(),
            workers: BTreeMap::new(),
            commands: Vec::new(),
            restarts: 0,
            faults: Vec::new(),
            own,
        };
        for name in INSTANCES {
            let mut process = this.worlds[0].run_as(name);
            for world in &this.worlds {
                world.await_phase("Progressing", &mut process);
            }
            this.instances.insert(name, process);
        }
        for (model, trial) in TRIALS.iter().enumerate() {
            for version in 0..trial.versions.len() {
                this.take(Step::StartWorker(model, version));
            }
        }
        this
    }

    /// Runs the schedule, and restarts processes that end on their own.
    fn run_schedule(&mut self, schedule: &Schedule, length: Duration) {
        let watch = Stopwatch::start();
        let mut due = schedule.iter();
        let mut next = due.next();
        // Time spent in steps is added, so that the drawn intervals between steps are kept.
        let mut spent = Duration::ZERO;
        while let Some((at, step)) = next {
            let left = (*at + spent).saturating_sub(watch.elapsed());
            if left.is_zero() {
                let began = watch.elapsed();
                let (kind, target) = (step.kind(), step.target());
                print(&format!("{:6.1} s: {kind} {target}", began.as_secs_f64()));
                self.take(*step);
                spent += watch.elapsed().saturating_sub(began);
                next = due.next();
            } else {
                Deadline::after(left.min(Duration::from_millis(200))).pass();
            }
            self.restart_ended();
        }
        Deadline::after(length.saturating_sub(watch.elapsed())).pass();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Start(name) => {
                let process = self.worlds[0].run_as(name);
                self.instances.insert(name, process);
                self.restarts += 1;
            }
            Step::Kill(name) => self.instance(name).kill(),
            Step::Stop(name) => self.instance(name).stop(),
            Step::Suspend(name) => {
                let process = self.instance(name);
                process.signal("STOP");
                self.suspended.insert(name, process);
            }
            Step::Resume(name) => {
                let process = self.suspended.remove(name).expect("it is suspended");
                process.signal("CONT");
                self.instances.insert(name, process);
            }
            Step::ResumeReplaced(name) => self.resume_replaced(name),
            Step::KillWorker(model, version) => {
                self.workers.remove(&(model, version)).expect("it runs").kill();
            }
            Step::StartWorker(model, version) => {
                let world = &self.worlds[model];
                let process =
                    Worker::process(&world.kafka, &world.name, TRIALS[model].versions[version]);
                self.workers.insert((model, version), process);
            }
            Step::BreakBroker(node, away_ms) => {
                self.own.kill(node);
                Deadline::after(Duration::from_millis(away_ms)).pass();
                self.own.revive(node);
            }
            Step::Advance => self.commands.push(self.canary().ask("promote")),
        }
    }

    /// Resumes a suspended process that was replaced: one of the two exits and logs why, the other keeps the lease.
    ///
    /// Usually the resumed one exits. If it was suspended before it had started, it is the newer one after resuming.
    fn resume_replaced(&mut self, name: &'static str) {
        let mut woken = self.suspended.remove(name).expect("it is suspended");
        let mut successor = self.instance(name);
        woken.signal("CONT");
        let deadline = Deadline::after(LEAVE_WAIT);
        while woken.ended().is_none() && successor.ended().is_none() && !deadline.is_over() {
            Deadline::after(Duration::from_millis(50)).pass();
        }
        let (leaves, stays) =
            if successor.ended().is_some() { (successor, woken) } else { (woken, successor) };
        leaves.leave(Duration::ZERO, &format!("another process runs as instance `{name}`"));
        self.instances.insert(name, stays);
    }

    fn instance(&mut self, name: &str) -> Process {
        self.instances.remove(name).expect("it runs")
    }

    fn canary(&self) -> &World {
        let index = TRIALS.iter().position(|i| i.name == CANARY).expect("it is there");
        &self.worlds[index]
    }

    /// Restarts processes that ended on their own, as a supervisor does, and notes each as a fault, except an instance that
    /// could not start during a broker outage.
    fn restart_ended(&mut self) {
        let mut ended: Vec<&'static str> = Vec::new();
        for (name, process) in &mut self.instances {
            if let Some(status) = process.ended() {
                let log = process.log_end();
                let last = log.lines().last().unwrap_or_default();
                let fault = format!("instance {name} ended by itself, {status}: {last}");
                print(&fault);
                if !START_FAILURES.iter().any(|i| last.starts_with(i)) {
                    self.faults.push(fault);
                }
                ended.push(name);
            }
        }
        for name in ended {
            self.take(Step::Start(name));
        }
        for process in self.workers.values_mut() {
            process.assert_running();
        }
    }

    /// Waits, while requests are still sent, until each promotion is answered and requests are routed at a new revision.
    fn await_promotions(&mut self) {
        for id in &self.commands {
            // A missing answer is a fault; the ledger is still balanced.
            let event = self.canary().answer_in(id, WAIT);
            if !event.as_ref().is_some_and(|e| e["verdict"] == "advance") {
                self.faults.push(format!("a promotion was answered by {event:?}"));
            }
        }
        let canary = self.canary();
        let mut predictions = Reader::open(&canary.kafka, &canary.topic("predictions"));
        let (mut seen, mut revisions) = (0, BTreeSet::new());
        predictions.wait(WAIT, |records| {
            revisions.extend(records[seen..].iter().map(|r| r.json()["revision"].as_i64()));
            seen = records.len();
            revisions.len() > 1
        });
    }

    /// Waits until everything is served and mature, stops all processes, and balances the ledger.
    fn close(&mut self, sent: &[Vec<Sent>]) -> (Vec<String>, Vec<Summary>) {
        for (world, sent) in self.worlds.iter().zip(sent) {
            for kind in ["served", "predictions", "analysis"] {
                let mut reader = Reader::open(&world.kafka, &world.topic(kind));
                // Waits as long as records keep arriving. The ledger names what is missing.
                let mut has_come = true;
                while has_come && reader.records.len() < sent.len() {
                    let before = reader.records.len();
                    has_come = reader.wait(SETTLE_WAIT, |records| records.len() > before);
                }
                let came = reader.records.len();
                print(&format!("{}: {came} of {} on `{kind}`", world.name, sent.len()));
            }
        }
        let counted: Vec<Evidence> = self.worlds.iter().map(count).collect();
        for (world, evidence) in self.worlds.iter().zip(&counted) {
            // Remaining differences are reported from the last record below.
            let differences = evidence.wait(world, SETTLE_WAIT);
            print(&format!("{}: evidence differs in {differences:?}", world.name));
        }
        for (_, process) in std::mem::take(&mut self.instances) {
            process.stop();
        }
        self.workers.clear();
        let mut summaries = Vec::new();
        let metrics = self.own.kafka.read_all(&self.worlds[0].app_topic("rollout-metrics"));
        for (((world, sent), trial), evidence) in
            self.worlds.iter().zip(sent).zip(TRIALS).zip(&counted)
        {
            let ledger = Ledger::read(world, sent.clone(), trial.versions);
            let promise = if trial.deadlines == SHORT_DEADLINES {
                Promise::Explained { default: Some(DEFAULT.to_vec()) }
            } else {
                Promise::Answered
            };
            let (faults, summary) = Ledger { promise, ..ledger }.balance();
            self.faults.extend(faults);
            self.faults.extend(evidence.balance(&metrics));
            if trial.name == CANARY && summary.revisions.len() < 2 {
                self.faults.push(format!("the canary served at revisions {:?}", summary.revisions));
            }
            summaries.push(summary);
        }
        (std::mem::take(&mut self.faults), summaries)
    }
}

/// Counts the evidence of a rollout.
fn count(world: &World) -> Evidence {
    let all = |kind: &str| world.kafka.read_all(&world.topic(kind));
    Evidence::count(&world.rollout(), "v1", MATURITY_MS, &all("predictions"), &all("labels"))
}

/// One line: steps, restarts, requests and outcomes.
fn report(
    seed: u64,
    schedule: &Schedule,
    summaries: &[Summary],
    restarts: usize,
    watch: &Stopwatch,
) -> String {
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, step) in schedule {
        *faults.entry(step.kind()).or_default() += 1;
    }
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for (outcome, count) in summaries.iter().flat_map(|s| &s.outcomes) {
        *outcomes.entry(outcome).or_default() += count;
    }
    let requests: usize = outcomes.values().sum();
    let asked_again: usize = summaries.iter().map(|s| s.asked_again).sum();
    json!({
        "chaos": {"seed": seed, "seconds": watch.elapsed().as_secs(), "requests": requests, "asked_again": asked_again, "served": outcomes, "steps": faults, "restarts": restarts}
    })
    .to_string()
}

/// Prints to the real stderr: a run takes minutes, and its seed must be visible even if it hangs.
fn print(what: &str) {
    writeln!(std::io::stderr(), "chaos: {what}").expect("stderr is open");
}
