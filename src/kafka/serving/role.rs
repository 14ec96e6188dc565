//! The serving role: read a batch, one reading of the clock, turn the lanes, write everything in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use rdkafka::TopicPartitionList;
use rdkafka::message::{BorrowedMessage, Message};
use tracing::{info, warn};

use crate::kafka::client::committed_offsets;
use crate::kafka::client::consumer_group::{GroupMember, RebalanceEvent, read_from};
use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::record_limits;
use crate::kafka::client::transaction::{Outgoing, TransactionalProducer};
use crate::kafka::lanes::admission::{BlockedLanes, LaneCheck, LaneKey};
use crate::kafka::lanes::dead_letters::DeadLetter;
use crate::kafka::lanes::decode;
use crate::kafka::lanes::event_follower::Follower;
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::process::clock;
use crate::kafka::process::failpoints::{self, Failpoint, Role};
use crate::kafka::process::liveness::{Activity, Heartbeat};
use crate::kafka::process::metrics::{MetricsRegistry, PendingCounts, ValuesByModel};
use crate::kafka::process::shutdown::Shutdown;
use crate::kafka::serving::copies::Forwards;
use crate::kafka::serving::encode::Emitter;
use crate::kafka::serving::lane::Lane;
use crate::kafka::serving::offset_recovery::{Committed, Past, Recall};
use serinus_core::domain::ids::ModelName;
use serinus_core::domain::record::{Answer, Request};
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::counter::Counter;
use serinus_core::plan::rollout::Source;

/// The role's name, where it is told from the others.
const ROLE: Role = "serving";
/// What is shown of how much is held.
const OPEN_CASES: &str = "open_cases";
const LANES: &str = "serving_lanes";
const WAITING: &str = "serving_lanes_waiting";
/// How many records a turn takes at the most.
const BATCH_MAX: usize = 2000;
/// How long the loop sleeps at the most when nothing happens.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Companions' positions are committed this often also when nothing happens: a group's offsets of topics that it does not subscribe
/// to expire.
const KEEP_ALIVE: Span = Span(3_600_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Requests,
    Responses,
}

/// What a record turned out to be.
enum Received {
    Request(Arc<Request>),
    Answer(i64, Result<Answer, DeadLetter>),
}

/// One life of the serving role: from fencing its slot to the first thing that goes wrong.
struct Session<'a> {
    options: &'a RunOptions,
    follower: Follower,
    member: GroupMember,
    outbox: TransactionalProducer,
    beat: Heartbeat,
    replay: PartitionReader,
    emitter: Emitter,
    forwards: Forwards<'a>,
    counts: PendingCounts,
    board: &'a MetricsRegistry,
    topics: HashMap<String, (ModelName, Kind)>,
    lanes: BTreeMap<LaneKey, Lane>,
    waiting: BlockedLanes,
    kept_alive: Timestamp,
}

/// Serves until it is asked to stop.
///
/// Whatever goes wrong in a transaction, its outcome counts as unknown: this returns, and the caller starts anew with a new producer,
/// from the committed offsets.
pub fn serve(
    options: &RunOptions,
    stop: &Shutdown,
    board: &MetricsRegistry,
) -> Result<(), ShellError> {
    let settings = &options.settings;
    let slot = format!("{}.serving.{}", settings.app, options.instance);
    // Fence, then read.
    let beat = board.liveness.role(ROLE);
    let outbox = TransactionalProducer::fence(settings, &slot, beat.clone())?;
    let group = format!("{}.serving", settings.app);
    let mut session = Session {
        follower: Follower::start(settings)?,
        member: GroupMember::new(settings, &group, options.is_static.then_some(slot.as_str()))?,
        replay: PartitionReader::new(settings)?.shown_by(beat.clone()),
        outbox,
        beat,
        options,
        emitter: Emitter::default(),
        forwards: Forwards::new(options, board),
        counts: PendingCounts::default(),
        board,
        topics: HashMap::new(),
        lanes: BTreeMap::new(),
        waiting: BlockedLanes::default(),
        kept_alive: clock::now(),
    };
    session.subscribe()?;
    session.show_levels();
    let Err(error) = session.run(stop) else { return Ok(()) };
    session.counts.discard();
    session.outbox.abandon();
    // What was committed counts on them.
    session.forwards.finish();
    Err(error)
}

impl Session<'_> {
    fn run(&mut self, stop: &Shutdown) -> Result<(), ShellError> {
        while !stop.is_requested() {
            let restoring = self.waiting.restoring();
            self.beat.is(restoring.unwrap_or_else(|| self.member.activity()));
            if self.follower.poll(Duration::ZERO) {
                self.subscribe()?;
            }
            let due = self.waiting.due();
            self.open_all(due)?;
            let read = self.read_batch()?;
            let now = clock::now();
            self.turn(now)?;
            self.keep_alive(now)?;
            self.forwards.tend();
            self.bury_copies()?;
            if self.outbox.is_due(read < BATCH_MAX) {
                self.commit()?;
            }
        }
        if self.outbox.is_open() {
            self.commit()?;
        }
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), ShellError> {
        let mut names = Vec::new();
        let mut topics: HashMap<String, (ModelName, Kind)> = HashMap::new();
        for (name, view) in self.follower.models() {
            let of = &view.plan.topics;
            let is_taken = [&of.requests, &of.responses].iter().any(|r| topics.contains_key(*r));
            if is_taken {
                // No judge takes such a spec; applied before they looked at it, its first model alone is served.
                warn!(model = %name, requests = of.requests, responses = of.responses, "not served: another model has these topics");
                continue;
            }
            names.push(of.requests.clone());
            topics.insert(of.requests.clone(), (name.clone(), Kind::Requests));
            topics.insert(of.responses.clone(), (name.clone(), Kind::Responses));
        }
        // Partitions of topics that are not read any more are still to be given up.
        self.topics.extend(topics);
        let app = &self.options.settings.app;
        let plans = self.follower.models().values().map(|view| &view.plan);
        let written: Vec<String> =
            plans.flat_map(|plan| record_limits::written_for(app, plan)).collect();
        let limits = self.forwards.limits(self.follower.models().values(), &written);
        if self.outbox.is_too_wide(&limits) && self.outbox.is_open() {
            self.commit()?;
        }
        self.outbox.keep_within(limits)?;
        self.forwards.follow(self.follower.models().values(), &self.outbox)?;
        self.member.subscribe(names)
    }

    /// Reads what is there into the lanes' backlogs; waits for the first record until something falls due.
    fn read_batch(&mut self) -> Result<usize, ShellError> {
        let mut wait = self.patience();
        let mut read = 0;
        while read < BATCH_MAX {
            let polled = self
                .member
                .poll(wait)
                .map(|w| w.map(|message| receive(&message, &self.topics, &self.follower)));
            let is_drained = !matches!(polled, Some(Ok(_)));
            wait = Duration::ZERO;
            match polled {
                None => {}
                Some(Ok(received)) => {
                    read += 1;
                    self.take(received);
                }
                Some(Err(error)) => {
                    if let Some(failure) = self.member.failure("read records", error) {
                        return Err(failure);
                    }
                }
            }
            let changes = self.member.rebalanced();
            if !changes.is_empty() {
                self.rebalance(changes)?;
                break;
            }
            if is_drained {
                break;
            }
        }
        Ok(read)
    }

    fn patience(&self) -> Duration {
        let now = clock::now();
        let next = self.lanes.values().filter_map(Lane::next_wake).min();
        let until_due = next
            .map_or(WAIT_MAX, |u| Duration::from_millis(u64::try_from((u - now).0).unwrap_or(0)));
        let until_commit = self.outbox.due_in().unwrap_or(WAIT_MAX);
        until_due.min(until_commit).min(WAIT_MAX)
    }

    fn turn(&mut self, now: Timestamp) -> Result<(), ShellError> {
        let (mut effects, mut dead) = (Vec::new(), Vec::new());
        for ((model, partition), lane) in &mut self.lanes {
            let Some(view) = self.follower.model(model) else { continue };
            lane.plan = Arc::clone(&view.plan);
            if lane.turn(now, &view.routing, &mut effects, &mut dead) {
                let plan = Arc::clone(&lane.plan);
                for it in dead.drain(..) {
                    self.emitter.dead_letters.send_to_dead_letters(
                        &plan,
                        &it,
                        &mut self.outbox,
                        &mut self.counts,
                    )?;
                }
                self.emitter.emit(
                    &plan,
                    &mut effects,
                    &mut self.outbox,
                    &mut self.forwards,
                    &mut self.counts,
                )?;
                let record = lane.end_turn();
                failpoints::at(ROLE, Failpoint::BeforeJournal);
                self.outbox.send(Outgoing {
                    topic: &journal_topic(self.options, model),
                    partition: *partition,
                    key: None,
                    value: Some(&record.write()),
                    carried: &[],
                    ours: &[],
                    at: Some(Timestamp(record.now)),
                })?;
                failpoints::at(ROLE, Failpoint::AfterJournal);
            }
            let is_full = !lane.backlog.requests.is_empty();
            if is_full != lane.is_paused {
                self.member.pause(&lane.plan.topics.requests, *partition, is_full)?;
                lane.is_paused = is_full;
            }
        }
        Ok(())
    }

    fn keep_alive(&mut self, now: Timestamp) -> Result<(), ShellError> {
        if now - self.kept_alive < KEEP_ALIVE {
            return Ok(());
        }
        self.kept_alive = now;
        for lane in self.lanes.values_mut() {
            lane.is_touched = true;
        }
        if self.lanes.is_empty() { Ok(()) } else { self.outbox.open() }
    }

    /// Sends copies that were too large for their topics to the dead letters.
    fn bury_copies(&mut self) -> Result<(), ShellError> {
        for copy in self.forwards.take_too_large() {
            let Some(view) = self.follower.model(&copy.model) else { continue };
            let plan = Arc::clone(&view.plan);
            self.emitter.bury_copies(&plan, &copy, &mut self.outbox, &mut self.counts)?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), ShellError> {
        // What is committed counts on the copies that belong to it, where their topics take them.
        self.forwards.settle();
        self.bury_copies()?;
        let mut offsets = TopicPartitionList::new();
        for lane in self.lanes.values().filter(|l| l.is_touched) {
            let (requests, responses) = lane.offsets();
            let topics = &lane.plan.topics;
            let start = lane.replay_start().to_metadata();
            let partition = lane.partition;
            committed_offsets::add(
                &mut offsets,
                &topics.requests,
                partition,
                requests,
                Some(start),
            )?;
            committed_offsets::add(&mut offsets, &topics.responses, partition, responses, None)?;
        }
        self.outbox.commit(&offsets, || self.member.metadata())?;
        for lane in self.lanes.values_mut() {
            lane.is_touched = false;
        }
        self.counts.flush_to(self.board);
        self.show_levels();
        Ok(())
    }

    fn show_levels(&self) {
        let mut held = ValuesByModel::new();
        for ((model, _), lane) in &self.lanes {
            *held.entry((model.clone(), OPEN_CASES)).or_default() += lane.open_cases() as u64;
            *held.entry((model.clone(), LANES)).or_default() += 1;
        }
        self.waiting.count(WAITING, &mut held);
        self.board.set_gauges(&[OPEN_CASES, LANES, WAITING], held);
    }

    /// Puts a record into its lane's backlog, unless the lane is not ours or has had it.
    fn take(&mut self, received: Option<(LaneKey, Received)>) {
        let Some((key, received)) = received else { return };
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let (requests, responses) = lane.offsets();
        match received {
            Received::Request(it) if it.case.offset >= requests => {
                // A key is what units are made of where a spec says nothing, and may be null.
                if it.unit.is_none() && lane.plan.unit != Source::Key {
                    self.counts.add(&key.0, Counter::UnitAbsent, 1);
                }
                lane.backlog.requests.push_back(it);
            }
            Received::Answer(offset, it) if offset >= responses => {
                lane.backlog.answers.push((offset, it));
            }
            Received::Request(_) | Received::Answer(..) => {}
        }
    }

    /// Acts on what the group has given and taken: between two turns, with all that was read taken in or still in a backlog.
    fn rebalance(&mut self, changes: Vec<RebalanceEvent>) -> Result<(), ShellError> {
        for change in changes {
            match change {
                RebalanceEvent::Revoked(partitions) => {
                    // What was done for partitions that go away is committed while they are still ours.
                    if self.outbox.is_open() {
                        self.commit()?;
                    }
                    failpoints::at(ROLE, Failpoint::BeforeRelease);
                    self.give_up(&partitions)?;
                    self.show_levels();
                    failpoints::at(ROLE, Failpoint::AfterRelease);
                }
                RebalanceEvent::Lost(_) => return Err(ShellError::Lost),
                RebalanceEvent::Assigned(partitions) => {
                    // The group waits for an answer also where there is nothing to take.
                    self.member.accept(&[])?;
                    if !partitions.is_empty() {
                        // Whoever had a partition before may have gone by routings that we have not heard of.
                        self.follower.catch_up()?;
                    }
                    self.open_all(partitions)?;
                    failpoints::at(ROLE, Failpoint::AfterRestore);
                }
            }
        }
        Ok(())
    }

    fn give_up(&mut self, partitions: &[(String, i32)]) -> Result<(), ShellError> {
        let mut all = Vec::new();
        for (topic, partition) in partitions {
            let Some((model, _)) = self.topics.get(topic) else { continue };
            let key = (model.clone(), *partition);
            self.waiting.forget(topic, *partition);
            if let Some(lane) = self.lanes.remove(&key) {
                all.push((topic.clone(), *partition));
                all.push((lane.plan.topics.responses.clone(), *partition));
            }
        }
        let all: Vec<(&str, i32)> = all.iter().map(|(topic, i)| (topic.as_str(), *i)).collect();
        self.member.release(&all)
    }

    fn open_all(&mut self, partitions: Vec<(String, i32)>) -> Result<(), ShellError> {
        if !partitions.is_empty() && self.outbox.is_open() {
            // Our own open transaction would hide from us what others have committed.
            self.commit()?;
        }
        for (topic, partition) in partitions {
            self.open(&topic, partition)?;
            // The next may take its time.
            self.show_levels();
        }
        Ok(())
    }

    /// Restores the lane of a partition and begins to read it; one that cannot be opened has to wait.
    fn open(&mut self, topic: &str, partition: i32) -> Result<(), ShellError> {
        let Some((model, _)) = self.topics.get(topic) else { return Ok(()) };
        let Some(view) = self.follower.model(model) else { return Ok(()) };
        let key = (model.clone(), partition);
        self.beat.is(Activity::begin(topic, partition));
        let names = &view.plan.topics;
        let journal = journal_topic(self.options, model);
        let pair = [(names.requests.as_str(), partition), (names.responses.as_str(), partition)];
        let (requests, responses, is_certain) = match self.member.committed(&pair) {
            Ok(found) => found.pair(),
            Err(why) => return self.waiting.hold_hidden(&key, topic, why),
        };
        let committed = Committed { requests, responses, is_certain, recalled: None };
        let candidate = LaneCheck {
            group: format!("{}.serving", self.options.settings.app),
            partition,
            inputs: [
                (&names.requests, committed.requests.as_ref()),
                (&names.responses, committed.responses.as_ref()),
            ],
            partners: vec![&names.responses, &names.served, &journal],
        };
        if let Some(why) = candidate.blocking_reason(&self.outbox, &self.replay)? {
            self.waiting.hold(&key, topic, &why);
            return Ok(());
        }
        let bound = self.outbox.record_bytes_max(&names.served);
        self.replay.be_patient(!self.waiting.holds(topic, partition));
        let past = Past {
            view,
            partition,
            group: &candidate.group,
            journal: &journal,
            replay: &self.replay,
        };
        let committed = match past.recall(committed.clone()) {
            Ok(Recall::Known(committed)) => committed,
            Ok(Recall::Unknown(why)) => {
                self.waiting.hold_for_a_person(&key, topic, &why);
                return Ok(());
            }
            Err(why) => return self.waiting.hold_hidden(&key, topic, why),
        };
        let restored = Lane::restore(view, (partition, bound), &committed, &journal, &self.replay);
        let lane = match restored {
            Err(why) => return self.waiting.hold_hidden(&key, topic, why),
            Ok(lane) => lane,
        };
        self.waiting.forget(topic, partition);
        info!(%model, partition, open = lane.open_cases(), "lane ready");
        let (requests, responses) = lane.offsets();
        self.member.accept(&[
            (&names.requests, partition, read_from(committed.requests.as_ref(), requests)),
            (&names.responses, partition, read_from(committed.responses.as_ref(), responses)),
        ])?;
        if lane.is_touched {
            // Offsets that are held back, gone or not ours are replaced.
            self.outbox.open()?;
        }
        self.lanes.insert(key, lane);
        Ok(())
    }
}

/// Reads a record of a topic that we know.
fn receive(
    message: &BorrowedMessage<'_>,
    topics: &HashMap<String, (ModelName, Kind)>,
    follower: &Follower,
) -> Option<(LaneKey, Received)> {
    let (model, kind) = topics.get(message.topic())?;
    let plan = &follower.model(model)?.plan;
    let received = match kind {
        Kind::Requests => Received::Request(Arc::new(decode::request(message, plan))),
        Kind::Responses => Received::Answer(message.offset(), decode::answer(message)),
    };
    Some(((model.clone(), message.partition()), received))
}

fn journal_topic(options: &RunOptions, model: &ModelName) -> String {
    format!("{}.internal.{model}.journal", options.settings.app)
}
