//! Everything at once on a Kafka of its own: instances, workers and brokers fail, sleep, come and go, and all books must balance.
//!
//! What fails when is drawn from a seed: `SERINUS_CHAOS_SEED` repeats a run's faults. `SERINUS_CHAOS_SECONDS` and `SERINUS_CHAOS_RATE` (requests
//! a second over all models) make it longer and harder.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus as Random;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::kit::clock::{Deadline, Stopwatch};
use crate::kit::evidence::Evidence;
use crate::kit::kafka::{OwnKafka, Reader};
use crate::kit::ledger::{Books, Promise, Summary};
use crate::kit::process::Process;
use crate::kit::specs;
use crate::kit::traffic::Traffic;
use crate::kit::worker::Worker;
use crate::kit::world::{Sent, WAIT, World};

/// Outlasts every fault: what it costs is time, and no request may be served by another than its arm, which is given half of the time.
const PATIENT: &str = "
  timeout: 1200s
  shadowTimeout: 1500s
";

/// Whatever happens makes requests late: then others are served, and the prediction must explain it.
const HASTY: &str = "
  timeout: 1s
  shadowTimeout: 3s
  default: {score: 0.5}
";

/// What `HASTY` serves where no version answers.
const DEFAULT: &[u8] = b"{\"score\":0.5}";

/// As in the spec: longer than the broker and a lane are away together, so that a label is there when its case is mature.
const MATURITY_MS: i64 = 30_000;

/// A model, its deadlines, its rollout, and the versions that are there.
struct Trial {
    name: &'static str,
    deadlines: &'static str,
    rollout: &'static str,
    versions: &'static [&'static str],
}

fn spec_of(trial: &Trial) -> String {
    // Of the topics that are made for them, so few that a broker which was killed soon has read what it holds of each.
    let model = format!("  partitions: 3\n  onFailure: stable{}", trial.deadlines);
    let rollout = format!("  labels: {{maturity: 30s, missing: exclude}}{}", trial.rollout);
    specs::scored(&model, &rollout)
}

/// One model for each strategy, and one in a hurry.
const TRIALS: &[Trial] = &[
    Trial {
        name: "shadow",
        deadlines: PATIENT,
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
        deadlines: PATIENT,
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
        deadlines: PATIENT,
        rollout: "
  candidates: [v2]
  strategy: canary
  stages: [{share: 10%, hold: 1h}, {share: 30%, hold: 1h}, {share: 50%, hold: 1h}]
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold, tick: 2s}
",
        versions: &["v1", "v2"],
    },
    Trial {
        name: "hasty",
        deadlines: HASTY,
        rollout: "
  candidates: [v2]
  strategy: ab
  stages: [{share: 50%, hold: 1h}]
  decide: {promote: superior, alpha: 0.05, by: 14d, no_data: hold, tick: 2s}
",
        versions: &["v1", "v2"],
    },
];

/// The model whose rollout is moved on, twice.
const CANARY: &str = "canary";

/// The instances that are there all the time, and the one that comes and goes.
const INSTANCES: [&str; 3] = ["a", "b", "c"];
const EXTRA: &str = "d";

/// As many as every partition has replicas, of which two must have a record. A lone broker that dies while it ends a transaction may forget
/// to tell a partition without a leader how it ended (docs/reliability.md), and nothing is read committed from there any more.
const BROKERS: usize = 3;

/// How long nothing may come any more in the end, before what waited is served and the last case is mature.
const SETTLE_WAIT: Duration = Duration::from_mins(3);

/// A zombie notices soon that somebody else has its slot.
const LEAVE_WAIT: Duration = Duration::from_mins(1);

/// What an instance says that gave up before its roles began; once they have begun, they wait for the broker.
const GAVE_UP: [&str; 5] = [
    "error: failed to reach Kafka at",
    "error: failed to read topic",
    "error: failed to write to topic",
    "error: failed to describe topics",
    "error: failed to create topics",
];

/// What is done to the world; what has a name says to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Starts an instance, also under a name that a sleeping process has.
    Start(&'static str),
    /// Ends it by kill -9.
    Kill(&'static str),
    /// Ends it by SIGTERM, which it obeys in 25 s with exit code 0.
    Stop(&'static str),
    /// Puts it to sleep by SIGSTOP.
    Freeze(&'static str),
    /// Wakes it up: nobody took its name, so it goes on.
    Thaw(&'static str),
    /// Wakes it up where another process runs under its name: one of them must leave and say why.
    Bury(&'static str),
    /// Ends a worker by kill -9: of the model, of the version.
    KillWorker(usize, usize),
    StartWorker(usize, usize),
    /// Ends a broker by kill -9, and starts it again after so many milliseconds.
    BreakBroker(usize, u64),
    /// Moves the canary on to its next stage.
    Advance,
}

/// What is done, by when.
type Agenda = Vec<(Duration, Step)>;

#[test]
fn every_book_balances_through_chaos() {
    let number = |name: &str, usual: u64| {
        std::env::var(name)
            .map_or(usual, |u| u.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
    };
    let seed = number("SERINUS_CHAOS_SEED", RandomState::new().hash_one(0) % 1_000_000);
    let length = Duration::from_secs(number("SERINUS_CHAOS_SECONDS", 60));
    let rate = number("SERINUS_CHAOS_RATE", 150);
    let Some(own) = OwnKafka::start("chaos", BROKERS) else { return };
    let agenda = agenda(seed, length);
    say(&format!("SERINUS_CHAOS_SEED={seed}, {rate} requests/s for {length:?}"));
    let watch = Stopwatch::start();
    let mut arena = Arena::open(own);
    let traffic: Vec<Traffic> = arena
        .worlds
        .iter()
        .map(|world| Traffic::start(world, rate as f64 / TRIALS.len() as f64))
        .collect();
    arena.live_through(&agenda, length);
    for it in &traffic {
        it.end();
    }
    let sent: Vec<Vec<Sent>> = traffic.into_iter().map(Traffic::stop).collect();
    let (faults, summaries) = arena.close(&sent);
    let report = report(seed, &agenda, &summaries, arena.restarts, &watch);
    say(&report);
    assert!(
        faults.is_empty(),
        "{report}\n{} faults, by kind:\n{}",
        faults.len(),
        by_kind(&faults).join("\n")
    );
    audit(&arena, &report);
}

/// Every decision is what the same machines come to that never crashed: sums, events and evidence, byte for byte.
fn audit(arena: &Arena, report: &str) {
    let said = arena.worlds[0].audit(&[]).said;
    let models = said["models"].as_array().expect("models were audited");
    assert_eq!(models.len(), arena.worlds.len());
    for model in models {
        let checks = model["checks"].as_array().expect("there are checks");
        say(&format!("audit of {}: {}", model["model"], model["checks"]));
        for what in ["sums", "events", "evidence"] {
            let check = checks.iter().find(|c| c["what"] == what).expect(what);
            assert!(check["equal"].as_u64() > Some(0), "{report}\n{model:#}");
            assert_eq!(check["different"], 0, "{report}\n{model:#}");
        }
        assert_eq!(model["unchecked"], json!([]), "{report}");
    }
}

/// The same seed gives the same faults at the same times, and a long run has all kinds of them.
#[test]
fn the_agenda_follows_from_its_seed() {
    let (short, long) =
        (agenda(7, Duration::from_secs(100)), agenda(7, Duration::from_secs(1_000)));
    assert_eq!(short, agenda(7, Duration::from_secs(100)));
    assert_ne!(short, agenda(8, Duration::from_secs(100)));
    let kinds: BTreeSet<&str> = long.iter().map(|(_, step)| step.kind()).collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        [
            "advance",
            "broker kill -9",
            "kill -9",
            "sleep",
            "sleep, its slot taken",
            "start",
            "stop",
            "wake",
            "worker kill -9",
            "worker start"
        ]
    );
    assert!(long.is_sorted_by_key(|(at, _)| *at));
}

/// Draws a fault every three to five seconds, with all that it takes to mend it.
fn agenda(seed: u64, length: Duration) -> Agenda {
    let mut random = Random::seed_from_u64(seed);
    let mut agenda = vec![(length / 4, Step::Advance), (length / 2, Step::Advance)];
    // Until when each instance and each worker has its share already.
    let mut busy: BTreeMap<String, Duration> = BTreeMap::new();
    let mut at = Duration::from_secs(3);
    while at < length {
        let fault = random.random_range(0..100);
        let soon = Duration::from_millis(
            [0, random.random_range(1_000..8_000)][random.random_range(0..2)],
        );
        let sleep = Duration::from_millis(random.random_range(3_000..20_000));
        let instance = INSTANCES[random.random_range(0..INSTANCES.len())];
        let model = random.random_range(0..TRIALS.len());
        let version = random.random_range(0..TRIALS[model].versions.len());
        let steps: Vec<(Duration, Step)> = match fault {
            0..25 => vec![(at, Step::Kill(instance)), (at + soon, Step::Start(instance))],
            25..40 => vec![(at, Step::Stop(instance)), (at + soon, Step::Start(instance))],
            40..60 => vec![(at, Step::Freeze(instance)), (at + sleep, Step::Thaw(instance))],
            60..70 => vec![
                (at, Step::Freeze(instance)),
                (at + sleep / 2, Step::Start(instance)),
                (at + sleep, Step::Bury(instance)),
            ],
            70..85 => vec![
                (at, Step::KillWorker(model, version)),
                (at + soon, Step::StartWorker(model, version)),
            ],
            85..93 => vec![(
                at,
                Step::BreakBroker(random.random_range(1..=BROKERS), random.random_range(0..6_000)),
            )],
            _ => vec![(at, Step::Start(EXTRA)), (at + sleep, Step::Stop(EXTRA))],
        };
        let whom = steps[0].1.whom();
        let is_free = |whom: &str| busy.get(whom).is_none_or(|until| *until < at);
        let others_up = INSTANCES.iter().filter(|o| **o != whom && is_free(o)).count();
        if is_free(&whom) && others_up > 0 {
            let until = steps.last().map_or(at, |(at, _)| *at);
            busy.insert(whom, until + Duration::from_secs(2));
            agenda.extend(steps);
        }
        at += Duration::from_millis(random.random_range(3_000..5_000));
    }
    agenda.sort_by_key(|(at, _)| *at);
    agenda
}

impl Step {
    fn kind(self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Kill(_) => "kill -9",
            Self::Stop(_) => "stop",
            Self::Freeze(_) => "sleep",
            Self::Thaw(_) => "wake",
            Self::Bury(_) => "sleep, its slot taken",
            Self::KillWorker(..) => "worker kill -9",
            Self::StartWorker(..) => "worker start",
            Self::BreakBroker(..) => "broker kill -9",
            Self::Advance => "advance",
        }
    }

    fn whom(self) -> String {
        match self {
            Self::Start(name)
            | Self::Kill(name)
            | Self::Stop(name)
            | Self::Freeze(name)
            | Self::Thaw(name)
            | Self::Bury(name) => name.to_owned(),
            Self::KillWorker(model, version) | Self::StartWorker(model, version) => {
                format!("{} {}", TRIALS[model].name, TRIALS[model].versions[version])
            }
            Self::BreakBroker(node, _) => format!("broker {node}"),
            Self::Advance => "the canary".to_owned(),
        }
    }
}

/// The world that is broken, and all that runs in it.
struct Arena {
    worlds: Vec<World>,
    instances: BTreeMap<&'static str, Process>,
    asleep: BTreeMap<&'static str, Process>,
    workers: BTreeMap<(usize, usize), Process>,
    commands: Vec<String>,
    restarts: usize,
    /// What ended that should not have.
    faults: Vec<String>,
    // Last: the broker goes when nothing needs it any more.
    own: OwnKafka,
}

impl Arena {
    /// Starts everything and waits until every rollout is on its way.
    fn open(own: OwnKafka) -> Self {
        let specs: Vec<(&str, String)> = TRIALS.iter().map(|s| (s.name, spec_of(s))).collect();
        let mut this = Self {
            worlds: World::several(&own.kafka, "chaos", &specs),
            instances: BTreeMap::new(),
            asleep: BTreeMap::new(),
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

    /// Does what stands on the agenda when its time has come, and looks after what ends by itself.
    fn live_through(&mut self, agenda: &Agenda, length: Duration) {
        let watch = Stopwatch::start();
        let mut due = agenda.iter();
        let mut next = due.next();
        // What a step takes is no part of the agenda: two steps are as far apart as they were drawn.
        let mut held_up = Duration::ZERO;
        while let Some((at, step)) = next {
            let left = (*at + held_up).saturating_sub(watch.elapsed());
            if left.is_zero() {
                let began = watch.elapsed();
                let (kind, whom) = (step.kind(), step.whom());
                say(&format!("{:6.1} s: {kind} {whom}", began.as_secs_f64()));
                self.take(*step);
                held_up += watch.elapsed().saturating_sub(began);
                next = due.next();
            } else {
                Deadline::after(left.min(Duration::from_millis(200))).pass();
            }
            self.look_after();
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
            Step::Freeze(name) => {
                let process = self.instance(name);
                process.signal("STOP");
                self.asleep.insert(name, process);
            }
            Step::Thaw(name) => {
                let process = self.asleep.remove(name).expect("it sleeps");
                process.signal("CONT");
                self.instances.insert(name, process);
            }
            Step::Bury(name) => self.send_to_dead_letters(name),
            Step::KillWorker(model, version) => {
                self.workers.remove(&(model, version)).expect("it works").kill();
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

    /// Wakes up who sleeps while another process has its name: one of them leaves and says why, and the other has the name.
    ///
    /// It is the one that slept, unless it fell asleep before it had begun: then it is the newer one when it wakes.
    fn send_to_dead_letters(&mut self, name: &'static str) {
        let mut woken = self.asleep.remove(name).expect("it sleeps");
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

    /// Starts again what ended by itself, as any supervisor does, and notes it: nothing of it should have, but for an instance that
    /// could not start because the broker, or itself, was away.
    fn look_after(&mut self) {
        let mut ended: Vec<&'static str> = Vec::new();
        for (name, process) in &mut self.instances {
            if let Some(status) = process.ended() {
                let log = process.log_end();
                let last = log.lines().last().unwrap_or_default();
                let fault = format!("instance {name} ended by itself, {status}: {last}");
                say(&fault);
                if !GAVE_UP.iter().any(|i| last.starts_with(i)) {
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

    /// Waits until everything is served and mature, stops all, and balances the books.
    fn close(&mut self, sent: &[Vec<Sent>]) -> (Vec<String>, Vec<Summary>) {
        for id in &self.commands {
            // Without an answer the books are still to be balanced.
            let event = self.canary().answer_in(id, WAIT);
            if !event.as_ref().is_some_and(|e| e["verdict"] == "advance") {
                self.faults.push(format!("a promotion was answered by {event:?}"));
            }
        }
        for (world, sent) in self.worlds.iter().zip(sent) {
            for kind in ["served", "predictions", "analysis"] {
                let mut reader = Reader::open(&world.kafka, &world.topic(kind));
                // As long as it takes, while any come; what is missing then, the ledger names.
                let mut has_come = true;
                while has_come && reader.records.len() < sent.len() {
                    let before = reader.records.len();
                    has_come = reader.wait(SETTLE_WAIT, |records| records.len() > before);
                }
                let came = reader.records.len();
                say(&format!("{}: {came} of {} on `{kind}`", world.name, sent.len()));
            }
        }
        let counted: Vec<Evidence> = self.worlds.iter().map(count).collect();
        for (world, evidence) in self.worlds.iter().zip(&counted) {
            // What differs in the end, is said of the last record below.
            let differences = evidence.wait(world, SETTLE_WAIT);
            say(&format!("{}: evidence differs in {differences:?}", world.name));
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
            let books = Books::read(world, sent.clone(), trial.versions);
            let promise = if trial.deadlines == HASTY {
                Promise::Explained { default: Some(DEFAULT.to_vec()) }
            } else {
                Promise::Answered
            };
            let (faults, summary) = Books { promise, ..books }.balance();
            self.faults.extend(faults);
            self.faults.extend(evidence.balance(&metrics));
            // A promotion that is answered after the last request moves nothing any more.
            if trial.name == CANARY && summary.revisions.len() < 2 {
                self.faults.push(format!("the canary served at revisions {:?}", summary.revisions));
            }
            summaries.push(summary);
        }
        (std::mem::take(&mut self.faults), summaries)
    }
}

/// Counts the evidence of a model's rollout.
fn count(world: &World) -> Evidence {
    let all = |kind: &str| world.kafka.read_all(&world.topic(kind));
    Evidence::count(&world.rollout(), "v1", MATURITY_MS, &all("predictions"), &all("labels"))
}

/// One line: what was asked, what failed, what was served.
fn report(
    seed: u64,
    agenda: &Agenda,
    summaries: &[Summary],
    restarts: usize,
    watch: &Stopwatch,
) -> String {
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, step) in agenda {
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

/// Faults that say the same but for what they count or name, as one line: how many, and the first few of them.
fn by_kind(faults: &[String]) -> Vec<String> {
    let mut kinds: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for fault in faults {
        let kind = fault.split(|c: char| !c.is_alphabetic()).filter(|i| i.len() > 2);
        kinds.entry(kind.collect::<Vec<_>>().join(" ")).or_default().push(fault);
    }
    let mut kinds: Vec<Vec<&str>> = kinds.into_values().collect();
    kinds.sort_by_key(|k| std::cmp::Reverse(k.len()));
    kinds
        .iter()
        .take(20)
        .map(|k| format!("{} times:\n  {}", k.len(), k[..k.len().min(3)].join("\n  ")))
        .collect()
}

#[test]
fn faults_that_differ_in_numbers_only_are_of_one_kind() {
    let faults = ["a-1: served 2 times", "b: lost", "a-22: served 3 times"].map(str::to_owned);
    assert_eq!(
        by_kind(&faults),
        ["2 times:\n  a-1: served 2 times\n  a-22: served 3 times", "1 times:\n  b: lost"]
    );
}

/// Says it past the test harness's capture: a run takes its time, and its seed must be known whatever becomes of it.
fn say(what: &str) {
    writeln!(std::io::stderr(), "chaos: {what}").expect("stderr is open");
}
