//! The loop that the serving and the analysis role share: read a batch, take a turn of every lane, commit all of it in one transaction.
//!
//! One pass of the loop does, always in this order: follow new routings, open blocked lanes that are due, read a batch and act on
//! rebalances between two records, read the clock once, take the turns, commit. A turn writes its records and its journal record
//! into the open transaction, and the commit adds the offsets. Whatever fails, the outcome of the open transaction counts as unknown:
//! the role ends, and its caller starts it again with a new producer, from the committed offsets.
//!
//! Two traits hold the differences between the roles: `Lane` is one partition, `PartitionRole` is the code around the lanes.

mod opening;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use rdkafka::TopicPartitionList;
use rdkafka::message::{BorrowedMessage, Message};
use tracing::{debug_span, field, info_span};

use crate::kafka::client::committed_offsets;
use crate::kafka::client::consumer_group::GroupMember;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::record_limits;
use crate::kafka::client::transaction::TransactionalProducer;
use crate::kafka::lanes::admission::BlockedLanes;
use crate::kafka::lanes::dead_letters::{DeadLetter, DeadLetterWriter};
use crate::kafka::lanes::event_follower::Follower;
use crate::kafka::lanes::lane::{Lane, LaneKey, LaneOffsets, Recall};
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::process::clock;
use crate::kafka::process::failpoints::{self, Failpoint, Role};
use crate::kafka::process::liveness::Heartbeat;
use crate::kafka::process::metrics::{MetricsRegistry, PendingCounts, ValuesByModel};
use crate::kafka::process::shutdown::Shutdown;
use serinus_core::domain::ids::ModelName;
use serinus_core::domain::time::Timestamp;
use serinus_core::plan::rollout::ModelPlan;

/// Longest sleep of the loop while nothing arrives and no deadline is due.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// The use of a topic in the role that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The first input of a lane: requests, or predictions.
    First,
    /// The second input of a lane: answers, or labels by request id.
    Second,
    /// A topic that the role repartitions to the second inputs: labels as others write them.
    Source,
}

/// The topics that a role reads, each with a model that names it and its use.
pub type Topics = HashMap<String, (ModelName, Input)>;

/// The topics of one lane, for the checks before it is opened.
#[derive(Clone, Debug)]
pub struct LaneTopics {
    /// The first and the second input.
    pub inputs: [String; 2],
    /// Topics that must have the lane's partition, too.
    pub partners: Vec<String>,
}

/// The names of the gauges of a role.
#[derive(Clone, Copy, Debug)]
pub struct Gauges {
    /// Open lanes.
    pub lanes: &'static str,
    /// Blocked lanes.
    pub blocked: &'static str,
    /// Gauges specific to the lanes, by the names that `Lane::levels` returns.
    pub of_lanes: &'static [&'static str],
}

/// The parts of a role other than its lanes: clients, the catalog of models, and counters.
pub struct RoleContext<'a> {
    /// The options of the instance.
    pub options: &'a RunOptions,
    /// Where counters and gauges are exported.
    pub metrics: &'a MetricsRegistry,
    /// The models and their routing.
    pub follower: Follower,
    /// The member of the role's consumer group.
    pub member: GroupMember,
    /// The producer, with the open transaction.
    pub producer: TransactionalProducer,
    /// The role's liveness.
    pub heartbeat: Heartbeat,
    /// Reads partitions again, for lanes that are restored.
    pub replay: PartitionReader,
    /// Writes dead letters.
    pub dead_letters: DeadLetterWriter,
    /// The counts since the last commit.
    pub counts: PendingCounts,
    /// Assigned lanes that cannot be opened yet.
    pub blocked: BlockedLanes,
}

impl RoleContext<'_> {
    /// Sends a record that cannot be used to the model's dead letters.
    pub fn send_to_dead_letters(
        &mut self,
        plan: &ModelPlan,
        dead: &DeadLetter,
    ) -> Result<(), ShellError> {
        self.dead_letters.send_to_dead_letters(plan, dead, &mut self.producer, &mut self.counts)
    }
}

/// The code around the lanes of a role.
pub trait PartitionRole: Sized {
    /// A partition of the role.
    type Lane: Lane;
    /// A consumed record, decoded.
    type Record;
    /// State shared by lanes that are opened together, for example a topic that is read once for all of them.
    type Opening: Default;

    /// The role's name: in logs, failpoints, the group id and the transactional id.
    const ROLE: Role;
    /// The kind of its lanes, in log lines.
    const LANE: &'static str;
    /// Most records that one turn takes.
    const BATCH_MAX: usize;
    /// How long a turn collects records after the first one.
    const COLLECT: Duration;
    /// Shortest interval between two commits while the inputs are drained; nothing for the producer's own minimum.
    const COMMIT_INTERVAL_MIN: Option<Duration>;
    /// The names of its gauges.
    const GAUGES: Gauges;

    /// Returns the topics to subscribe to, and the use of every topic that the role reads.
    fn topics(&mut self, cx: &RoleContext<'_>) -> (Vec<String>, Topics);

    /// Reads the record-size limits of the topics that the role writes, and returns those of `written`.
    fn limits(&mut self, cx: &RoleContext<'_>, written: &[String]) -> BTreeMap<String, usize>;

    /// Runs before the group's subscription changes.
    fn before_subscribe(&mut self, _: &RoleContext<'_>) -> Result<(), ShellError> {
        Ok(())
    }

    /// Runs after the group's subscription changed.
    fn after_subscribe(&mut self, _: &RoleContext<'_>) -> Result<(), ShellError> {
        Ok(())
    }

    /// Decodes a record of a topic of the model; nothing if no lane can use it.
    fn decode(
        &self,
        follower: &Follower,
        message: &BorrowedMessage<'_>,
        topic: (&ModelName, Input),
    ) -> Option<Self::Record>;

    /// Adds a record to the backlog of its lane, unless the lane is not ours or has taken the record before.
    fn take(
        &mut self,
        counts: &mut PendingCounts,
        lanes: &mut BTreeMap<LaneKey, Self::Lane>,
        record: Self::Record,
    );

    /// Runs before the lanes take their turns.
    fn before_turns(&mut self, _: &mut RoleContext<'_>, _: Timestamp) -> Result<(), ShellError> {
        Ok(())
    }

    /// Returns whether records of the model that existed when the role started are still unread.
    fn is_behind(&self, _: &ModelName) -> bool {
        false
    }

    /// Writes the effects of one lane's turn.
    fn emit(
        &mut self,
        cx: &mut RoleContext<'_>,
        plan: &ModelPlan,
        effects: &mut Vec<<Self::Lane as Lane>::Effect>,
    ) -> Result<(), ShellError>;

    /// Runs after the lanes took their turns.
    fn after_turns(
        &mut self,
        cx: &mut RoleContext<'_>,
        lanes: &mut BTreeMap<LaneKey, Self::Lane>,
        now: Timestamp,
    ) -> Result<(), ShellError>;

    /// Runs before the offsets of a commit are collected.
    fn before_commit(&mut self, _: &mut RoleContext<'_>) -> Result<(), ShellError> {
        Ok(())
    }

    /// Adds the offsets of source topics to a commit.
    fn add_offsets(&self, _: &mut TopicPartitionList) -> Result<(), ShellError> {
        Ok(())
    }

    /// Runs after a commit.
    fn after_commit(&mut self) {}

    /// Runs after each pass of the loop that leaves no transaction open.
    fn between_transactions(&mut self, _: &BTreeMap<LaneKey, Self::Lane>) {}

    /// Runs when the role stops on request; everything is committed.
    fn stop(&mut self, _: &BTreeMap<LaneKey, Self::Lane>) {}

    /// Runs when the role ends because something failed; the transaction is aborted.
    fn fail(&mut self) {}

    /// Returns the topics of a model's lanes.
    fn lane_topics(app: &str, plan: &ModelPlan) -> LaneTopics;

    /// Restores a lane to the committed offsets; returns it with the offsets that it used.
    fn restore(
        &mut self,
        cx: &RoleContext<'_>,
        key: &LaneKey,
        committed: LaneOffsets,
        opening: &mut Self::Opening,
    ) -> Result<Recall<(Self::Lane, LaneOffsets)>, ShellError>;

    /// Opens a partition of a source topic.
    fn open_source(
        &mut self,
        _: &mut RoleContext<'_>,
        _: (&str, ModelName, i32),
    ) -> Result<(), ShellError> {
        Ok(())
    }

    /// Releases a partition of a source topic.
    fn release_source(&mut self, _: &str, _: i32) -> Result<(), ShellError> {
        Ok(())
    }
}

/// One life of a role: from fencing its transactional id to a stop or the first failure.
struct Session<'a, R: PartitionRole> {
    cx: RoleContext<'a>,
    role: R,
    lanes: BTreeMap<LaneKey, R::Lane>,
    topics: Topics,
}

/// Runs a role until `stop` is requested. After an error the caller starts it again, from the committed offsets.
pub fn run<R: PartitionRole>(
    options: &RunOptions,
    stop: &Shutdown,
    metrics: &MetricsRegistry,
    start: impl FnOnce() -> Result<R, ShellError>,
) -> Result<(), ShellError> {
    let _span = info_span!("role", name = R::ROLE).entered();
    let settings = &options.settings;
    let transactional_id = format!("{}.{}.{}", settings.app, R::ROLE, options.instance);
    // Fence first, then read: otherwise a predecessor could commit after we read.
    let heartbeat = metrics.liveness.role(R::ROLE);
    let mut producer =
        TransactionalProducer::fence(settings, &transactional_id, heartbeat.clone())?;
    if let Some(interval) = R::COMMIT_INTERVAL_MIN {
        producer = producer.with_min_commit_interval(interval);
    }
    let group = format!("{}.{}", settings.app, R::ROLE);
    let static_id = options.is_static.then_some(transactional_id.as_str());
    let mut session = Session {
        cx: RoleContext {
            options,
            metrics,
            follower: Follower::start(settings)?,
            member: GroupMember::new(settings, &group, static_id)?,
            replay: PartitionReader::new(settings)?.with_heartbeat(heartbeat.clone()),
            producer,
            heartbeat,
            dead_letters: DeadLetterWriter::default(),
            counts: PendingCounts::default(),
            blocked: BlockedLanes::default(),
        },
        role: start()?,
        lanes: BTreeMap::new(),
        topics: Topics::new(),
    };
    session.subscribe()?;
    session.show_levels();
    let Err(error) = session.run(stop) else { return Ok(()) };
    let Session { cx, mut role, .. } = session;
    cx.producer.abandon();
    role.fail();
    Err(error)
}

impl<R: PartitionRole> Session<'_, R> {
    fn run(&mut self, stop: &Shutdown) -> Result<(), ShellError> {
        while !stop.is_requested() {
            let restoring = self.cx.blocked.restoring();
            self.cx.heartbeat.report(restoring.unwrap_or_else(|| self.cx.member.activity()));
            if self.cx.follower.poll(Duration::ZERO) {
                self.subscribe()?;
            }
            let due = self.cx.blocked.due();
            self.open_all(due)?;
            let read = self.read_batch()?;
            let is_behind = read >= R::BATCH_MAX;
            let now = clock::now();
            self.turn(now, is_behind)?;
            if self.cx.producer.is_due(!is_behind) {
                self.commit()?;
            }
            if !self.cx.producer.is_open() {
                self.role.between_transactions(&self.lanes);
            }
        }
        if self.cx.producer.is_open() {
            self.commit()?;
        }
        self.role.stop(&self.lanes);
        Ok(())
    }

    /// Subscribes to the topics that the models name now.
    fn subscribe(&mut self) -> Result<(), ShellError> {
        let (names, topics) = self.role.topics(&self.cx);
        // Topics that no model names any more stay known: their partitions are still to be released.
        self.topics.extend(topics);
        let app = &self.cx.options.settings.app;
        let plans = self.cx.follower.models().values().map(|view| &view.plan);
        let written: Vec<String> =
            plans.flat_map(|plan| record_limits::written_for(app, plan)).collect();
        let limits = self.role.limits(&self.cx, &written);
        if self.cx.producer.exceeds_any(&limits) && self.cx.producer.is_open() {
            self.commit()?;
        }
        self.cx.producer.set_topic_limits(limits)?;
        self.role.before_subscribe(&self.cx)?;
        self.cx.member.subscribe(names)?;
        self.role.after_subscribe(&self.cx)
    }

    /// Reads the records that are there into the lanes' backlogs; waits for the first one until a deadline or a commit is due.
    fn read_batch(&mut self) -> Result<usize, ShellError> {
        let mut wait = self.wait();
        let mut read = 0;
        let mut first_read_at = None;
        while read < R::BATCH_MAX {
            let polled = self.cx.member.poll(wait).map(|w| w.map(|message| self.decode(&message)));
            let is_drained = !matches!(polled, Some(Ok(_)));
            match polled {
                None => {}
                Some(Ok(record)) => {
                    read += 1;
                    if let Some(record) = record {
                        self.role.take(&mut self.cx.counts, &mut self.lanes, record);
                    }
                }
                Some(Err(error)) => {
                    if let Some(failure) = self.cx.member.failure("read records", error) {
                        return Err(failure);
                    }
                }
            }
            let changes = self.cx.member.rebalanced();
            if !changes.is_empty() {
                self.rebalance(changes)?;
                break;
            }
            if is_drained {
                break;
            }
            wait = if R::COLLECT.is_zero() {
                Duration::ZERO
            } else {
                let since = *first_read_at.get_or_insert_with(clock::moment);
                R::COLLECT.saturating_sub(since.elapsed())
            };
        }
        Ok(read)
    }

    fn decode(&self, message: &BorrowedMessage<'_>) -> Option<R::Record> {
        let (model, input) = self.topics.get(message.topic())?;
        self.role.decode(&self.cx.follower, message, (model, *input))
    }

    /// Returns how long to wait for a record: until the earliest deadline of a lane, or until the open transaction is due.
    fn wait(&self) -> Duration {
        let now = clock::now();
        let next = self.lanes.values().filter_map(Lane::next_wake).min();
        let until_deadline = next
            .map_or(WAIT_MAX, |at| Duration::from_millis(u64::try_from((at - now).0).unwrap_or(0)));
        let until_commit = self.cx.producer.due_in().unwrap_or(WAIT_MAX);
        until_deadline.min(until_commit).min(WAIT_MAX)
    }

    /// Takes one turn of every lane, and writes effects and journal records into the transaction.
    fn turn(&mut self, now: Timestamp, is_behind: bool) -> Result<(), ShellError> {
        let Self { cx, role, lanes, .. } = self;
        role.before_turns(cx, now)?;
        let (mut effects, mut dead) = (Vec::new(), Vec::new());
        for ((model, partition), lane) in &mut *lanes {
            let Some(view) = cx.follower.model(model) else { continue };
            let _span = debug_span!("turn", %model, partition).entered();
            let plan = Arc::clone(&view.plan);
            let is_behind = is_behind || role.is_behind(model);
            if !lane.turn(now, view, is_behind, &mut effects, &mut dead) {
                continue;
            }
            for letter in dead.drain(..) {
                cx.send_to_dead_letters(&plan, &letter)?;
            }
            role.emit(cx, &plan, &mut effects)?;
            let record = lane.end_turn();
            failpoints::at(R::ROLE, Failpoint::BeforeJournal);
            cx.producer.send(Outgoing {
                topic: &R::Lane::journal(&cx.options.settings.app, model),
                partition: *partition,
                key: None,
                value: Some(&record.value),
                passthrough: &[],
                headers: &[],
                at: Some(record.now),
            })?;
            failpoints::at(R::ROLE, Failpoint::AfterJournal);
        }
        role.after_turns(cx, lanes, now)
    }

    /// Commits the open transaction with the offsets of all lanes that took a turn since the last commit.
    fn commit(&mut self) -> Result<(), ShellError> {
        let span = debug_span!("commit", lanes = field::Empty);
        let _entered = span.enter();
        let Self { cx, role, lanes, .. } = self;
        role.before_commit(cx)?;
        let app = &cx.options.settings.app;
        let mut offsets = TopicPartitionList::new();
        let mut names = Vec::new();
        for ((model, partition), lane) in &mut *lanes {
            if !*lane.is_touched() {
                continue;
            }
            if !span.is_disabled() {
                names.push(format!("{model}/{partition}"));
            }
            let [first, second] = lane.inputs(app);
            let (next_first, next_second) = lane.offsets();
            let start = lane.replay_start().to_metadata();
            committed_offsets::add(&mut offsets, &first, *partition, next_first, Some(start))?;
            committed_offsets::add(&mut offsets, &second, *partition, next_second, None)?;
        }
        span.record("lanes", names.join(", "));
        role.add_offsets(&mut offsets)?;
        cx.producer.commit(&offsets, || cx.member.metadata())?;
        for lane in lanes.values_mut() {
            *lane.is_touched() = false;
        }
        role.after_commit();
        cx.counts.flush_to(cx.metrics);
        self.show_levels();
        Ok(())
    }

    /// Updates the gauges of lanes and cases.
    fn show_levels(&self) {
        let gauges = R::GAUGES;
        let mut levels = ValuesByModel::new();
        for ((model, _), lane) in &self.lanes {
            *levels.entry((model.clone(), gauges.lanes)).or_default() += 1;
            for (name, n) in lane.levels() {
                *levels.entry((model.clone(), name)).or_default() += n;
            }
        }
        self.cx.blocked.count(gauges.blocked, &mut levels);
        let names: Vec<&'static str> =
            [gauges.lanes, gauges.blocked].iter().chain(gauges.of_lanes).copied().collect();
        self.cx.metrics.set_gauges(&names, levels);
    }
}
