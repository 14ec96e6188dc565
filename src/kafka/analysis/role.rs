//! The analysis role: puts labels where their predictions are, joins the two, and sends the sums to the judge.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashbrown::HashMap;
use rdkafka::TopicPartitionList;
use rdkafka::message::{BorrowedMessage, Message};
use tracing::info;

use crate::kafka::analysis::inputs::{self, Arrival};
use crate::kafka::analysis::lane::AnalystLane;
use crate::kafka::analysis::missing_plans::PlanWait;
use crate::kafka::analysis::rows::{plain, write_row};
use crate::kafka::analysis::snapshots::LaneStore;
use crate::kafka::client::committed_offsets;
use crate::kafka::client::consumer_group::GroupMember;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::record_limits::{self, Limits};
use crate::kafka::client::transaction::{Outgoing, PartitionCounts, Sent, TransactionalProducer};
use crate::kafka::labels::end_probe::LabelEnds;
use crate::kafka::labels::readers::{self, ForModel, LabelReaders};
use crate::kafka::labels::source::LabelLane;
use crate::kafka::lanes::admission::{BlockedLanes, LaneKey};
use crate::kafka::lanes::dead_letters::{DeadLetter, DeadLetterWriter};
use crate::kafka::lanes::event_follower::Follower;
use crate::kafka::lanes::internal_topics::InternalTopics;
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::process::clock;
use crate::kafka::process::failpoints::{self, Failpoint, Role};
use crate::kafka::process::liveness::Heartbeat;
use crate::kafka::process::metrics::{MetricsRegistry, PendingCounts, ValuesByModel};
use crate::kafka::process::shutdown::Shutdown;
use crate::wire::label;
use crate::wire::partial::PartialRecord;
use crate::wire::placement;
use crate::wire::watermark;
use crate::wire::watermark::WatermarkRecord;
use serinus_core::domain::ids::ModelName;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::io::{Effect, Input};
use serinus_core::engine::counter::Counter;
use serinus_core::plan::rollout::Format;

mod opening;

/// The role's name, where it is told from the others.
const ROLE: Role = "analysis";
/// What is shown of how much is held.
const PENDING_CASES: &str = "pending_cases";
const LANES: &str = "analyst_lanes";
const WAITING: &str = "analyst_lanes_waiting";
const UNPLANNED: &str = "cases_without_plan";
/// How many records a turn takes at the most.
const BATCH_MAX: usize = 5000;
/// How long a turn collects records: analysis is not in a hurry, and a turn costs a journal record a partition.
const COLLECT: Duration = Duration::from_millis(100);
/// How long it rests between two commits, each of which costs the brokers as much again.
const REST: Duration = Duration::from_millis(100);
/// How long the loop sleeps at the most when nothing happens.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Why a label cannot be put where its prediction is.
const LABEL_TOO_LARGE: &str = "the label does not fit into one message of its own";
/// Why a case has no row.
const ROW_TOO_LARGE: &str = "the analysis row of its case does not fit into one message";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Predictions,
    Labels,
    ForeignLabels,
}

/// What a record turned out to be.
enum Received {
    Arrival(LaneKey, Arrival),
    Label(i64, i32, Vec<(ModelName, ForModel)>),
}

struct Session<'a> {
    options: &'a RunOptions,
    follower: Follower,
    member: GroupMember,
    outbox: TransactionalProducer,
    beat: Heartbeat,
    replay: PartitionReader,
    dead_letters: DeadLetterWriter,
    partitions: PartitionCounts,
    counts: PendingCounts,
    machine_counts: BTreeMap<(ModelName, &'static str), u64>,
    board: &'a MetricsRegistry,
    topics: HashMap<String, (ModelName, Kind)>,
    readers: LabelReaders,
    limits: Limits,
    lanes: BTreeMap<LaneKey, AnalystLane>,
    labels: BTreeMap<LaneKey, LabelLane>,
    label_ends: LabelEnds,
    waiting: BlockedLanes,
    plan_wait: PlanWait,
    store: LaneStore<'a>,
}

/// Joins until it is asked to stop; after anything goes wrong the caller starts anew, from the committed offsets.
pub fn analyse(
    options: &RunOptions,
    stop: &Shutdown,
    board: &MetricsRegistry,
) -> Result<(), ShellError> {
    let settings = &options.settings;
    let slot = format!("{}.analysis.{}", settings.app, options.instance);
    // Fence, then read.
    let beat = board.liveness.role(ROLE);
    let outbox =
        TransactionalProducer::fence(settings, &slot, beat.clone())?.with_min_commit_interval(REST);
    let group = format!("{}.analysis", settings.app);
    let mut session = Session {
        follower: Follower::start(settings)?,
        member: GroupMember::new(settings, &group, options.is_static.then_some(slot.as_str()))?,
        replay: PartitionReader::new(settings)?.shown_by(beat.clone()),
        outbox,
        beat,
        options,
        dead_letters: DeadLetterWriter::default(),
        partitions: PartitionCounts::default(),
        counts: PendingCounts::default(),
        machine_counts: BTreeMap::new(),
        board,
        topics: HashMap::new(),
        readers: LabelReaders::default(),
        limits: Limits::default(),
        lanes: BTreeMap::new(),
        labels: BTreeMap::new(),
        label_ends: LabelEnds::start(settings)?,
        waiting: BlockedLanes::default(),
        plan_wait: PlanWait::default(),
        store: LaneStore::new(options.data_dir.as_deref(), &settings.app, board),
    };
    session.subscribe()?;
    session.show_levels();
    let Err(error) = session.run(stop) else { return Ok(()) };
    session.outbox.abandon();
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
            let is_behind = read >= BATCH_MAX;
            let now = clock::now();
            self.label_ends.look_after(now, &mut self.labels, &self.follower)?;
            self.place_labels(now)?;
            self.turn(now, is_behind)?;
            self.plan_wait.say(now, &self.lanes);
            if self.outbox.is_due(!is_behind) {
                self.commit()?;
            }
            if !self.outbox.is_open() {
                self.store.save_next(&self.lanes);
            }
        }
        if self.outbox.is_open() {
            self.commit()?;
        }
        self.store.save_all(&self.lanes);
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), ShellError> {
        let mut subscribed = Vec::new();
        let mut topics: HashMap<String, (ModelName, Kind)> = HashMap::new();
        for (name, view) in self.follower.models() {
            let names = &view.plan.topics;
            let own = InternalTopics::of(&self.options.settings.app, &view.plan.name);
            subscribed.extend([names.predictions.clone(), names.labels.clone()]);
            let kinds = [
                (names.predictions.clone(), Kind::Predictions),
                (own.labels, Kind::Labels),
                (names.labels.clone(), Kind::ForeignLabels),
            ];
            for (topic, kind) in kinds {
                // Labels may be shared; whatever else is named twice is the first model's.
                topics.entry(topic).or_insert((name.clone(), kind));
            }
        }
        // Partitions of topics that are not read any more are still to be given up.
        self.topics.extend(topics);
        self.readers.follow(&self.follower);
        let settings = &self.options.settings;
        let plans = self.follower.models().values().map(|view| &view.plan);
        let written: Vec<String> =
            plans.flat_map(|plan| record_limits::written_for(&settings.app, plan)).collect();
        self.limits.read(settings, written.iter().cloned());
        let limits = self.limits.among(&written);
        if self.outbox.is_too_wide(&limits) && self.outbox.is_open() {
            self.commit()?;
        }
        self.outbox.keep_within(limits)?;
        self.member.subscribe(subscribed)?;
        self.join_readers()
    }

    /// Begins to read for models that came to name a topic of labels that is read here already: for them from its beginning.
    fn join_readers(&mut self) -> Result<(), ShellError> {
        let mut joining = Vec::new();
        for (topic, models) in self.readers.topics() {
            let partitions: BTreeSet<i32> = self
                .labels
                .keys()
                .filter(|(model, _)| models.contains(model))
                .map(|(_, partition)| *partition)
                .collect();
            for partition in partitions {
                let keys = models.iter().map(|model| (model.clone(), partition));
                let new: Vec<LaneKey> = keys.filter(|key| !self.labels.contains_key(key)).collect();
                if !new.is_empty() {
                    joining.push((topic.to_owned(), partition, new));
                }
            }
        }
        for (topic, partition, keys) in joining {
            info!(topic, partition, "labels are read again for a model that shares them");
            let unread = self.replay.end(&topic, partition, 0)?;
            for key in keys {
                self.labels.insert(key, LabelLane::new(partition, 0, unread, clock::now()));
            }
            self.member.rewind(&topic, partition)?;
        }
        Ok(())
    }

    fn read_batch(&mut self) -> Result<usize, ShellError> {
        let mut wait = self.patience();
        let mut read = 0;
        let mut collected = None;
        while read < BATCH_MAX {
            let polled = self.member.poll(wait).map(|w| w.map(|message| self.receive(&message)));
            let is_drained = !matches!(polled, Some(Ok(_)));
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
            let began = *collected.get_or_insert_with(clock::moment);
            wait = COLLECT.saturating_sub(began.elapsed());
        }
        Ok(read)
    }

    /// Reads a record of a topic that we know.
    fn receive(&self, message: &BorrowedMessage<'_>) -> Option<Received> {
        let (model, kind) = self.topics.get(message.topic())?;
        let partition = message.partition();
        let arrival = |arrival| Some(Received::Arrival((model.clone(), partition), arrival));
        match kind {
            Kind::Predictions => arrival(inputs::read_prediction(message)),
            Kind::Labels => arrival(inputs::read_label(message)),
            Kind::ForeignLabels => {
                let labels = self.readers.read(message, &self.follower);
                Some(Received::Label(message.offset(), partition, labels))
            }
        }
    }

    fn patience(&self) -> Duration {
        let now = clock::now();
        let next = self.lanes.values().filter_map(AnalystLane::next_wake).min();
        let until_due = next
            .map_or(WAIT_MAX, |u| Duration::from_millis(u64::try_from((u - now).0).unwrap_or(0)));
        until_due.min(self.outbox.due_in().unwrap_or(WAIT_MAX)).min(WAIT_MAX)
    }

    fn take(&mut self, received: Option<Received>) {
        match received {
            Some(Received::Arrival(key, arrival)) => {
                let Some(lane) = self.lanes.get_mut(&key) else { return };
                let (predictions, labels) = lane.offsets();
                let next = match arrival.input {
                    Input::Predictions => predictions,
                    Input::Labels => labels,
                };
                if arrival.offset >= next {
                    lane.backlog.push(arrival);
                }
            }
            Some(Received::Label(offset, partition, labels)) => {
                let now = clock::now();
                for (model, label) in labels {
                    let Some(lane) = self.labels.get_mut(&(model, partition)) else { continue };
                    match label {
                        ForModel::Read(label) => lane.take(now, offset, label),
                        ForModel::Passed => {
                            lane.pass(now, offset);
                        }
                    }
                }
            }
            None => {}
        }
    }

    /// Puts the labels of others where the predictions of their request ids are, and says how far it has come.
    fn place_labels(&mut self, now: Timestamp) -> Result<(), ShellError> {
        for ((model, source), lane) in &mut self.labels {
            let Some(view) = self.follower.model(model) else { continue };
            let own = InternalTopics::of(&self.options.settings.app, &view.plan.name);
            let count = self.partitions.of(&own.labels, &self.outbox)?.max(1);
            let header = [(watermark::SOURCE, source.to_string())];
            let header = header.each_ref().map(|(name, value)| (*name, value.as_str()));
            for (offset, read) in std::mem::take(&mut lane.backlog) {
                let label = match read {
                    Ok(label) => label,
                    Err(dead) => {
                        self.dead_letters.send_to_dead_letters(
                            &view.plan,
                            &dead,
                            &mut self.outbox,
                            &mut self.counts,
                        )?;
                        continue;
                    }
                };
                let id = label.request_id.as_str().as_bytes();
                let to = placement::partition(id, count);
                let fit = self.outbox.offer(Outgoing {
                    topic: &own.labels,
                    partition: to,
                    key: Some(id),
                    value: Some(&label::encode(Format::Json, &label)),
                    carried: &[],
                    ours: &header,
                    at: None,
                })?;
                if fit == Sent::TooLarge {
                    self.counts.add(model, Counter::TooLarge, 1);
                    let topic = &view.plan.topics.labels;
                    let dead = DeadLetter::left(topic, (*source, offset), LABEL_TOO_LARGE);
                    self.dead_letters.send_to_dead_letters(
                        &view.plan,
                        &dead,
                        &mut self.outbox,
                        &mut self.counts,
                    )?;
                }
            }
            let Some(mark) = lane.mark(now) else { continue };
            let value = WatermarkRecord::from(mark).write();
            for partition in 0..count {
                self.outbox.send(Outgoing {
                    topic: &own.labels,
                    partition,
                    key: None,
                    value: Some(&value),
                    carried: &[],
                    ours: &[],
                    at: None,
                })?;
            }
        }
        Ok(())
    }

    fn turn(&mut self, now: Timestamp, is_behind: bool) -> Result<(), ShellError> {
        let labels_behind: BTreeSet<ModelName> = self
            .labels
            .iter()
            .filter(|(_, l)| l.is_behind())
            .map(|((model, _), _)| model.clone())
            .collect();
        let (mut effects, mut dead) = (Vec::new(), Vec::new());
        for ((model, partition), lane) in &mut self.lanes {
            let Some(view) = self.follower.model(model) else { continue };
            let is_lagging = is_behind || lane.is_behind() || labels_behind.contains(model);
            let lag = if is_lagging { (1, 1) } else { (0, 0) };
            if !lane.turn(now, view, lag, &mut effects, &mut dead) {
                continue;
            }
            let own = InternalTopics::of(&self.options.settings.app, &view.plan.name);
            for it in dead.drain(..) {
                self.dead_letters.send_to_dead_letters(
                    &view.plan,
                    &it,
                    &mut self.outbox,
                    &mut self.counts,
                )?;
            }
            for effect in effects.drain(..) {
                match effect {
                    Effect::Row(row) => {
                        let count =
                            self.partitions.of(&view.plan.topics.analysis, &self.outbox)?.max(1);
                        if write_row(&view.plan, &row, count, &mut self.outbox)? == Sent::Sent {
                            continue;
                        }
                        self.counts.add(model, Counter::TooLarge, 1);
                        let case = row.joined.prediction.case;
                        let topic = &view.plan.topics.requests;
                        let dead =
                            DeadLetter::left(topic, (case.partition, case.offset), ROW_TOO_LARGE);
                        self.dead_letters.send_to_dead_letters(
                            &view.plan,
                            &dead,
                            &mut self.outbox,
                            &mut self.counts,
                        )?;
                    }
                    Effect::Partial(partial) => {
                        let record = PartialRecord::from(&*partial);
                        self.outbox.send(plain(
                            &own.partials,
                            0,
                            record.key().as_bytes(),
                            &record.write(),
                        ))?;
                    }
                    // The record itself was buried with its bytes, and counted then.
                    Effect::Refuse { .. } | Effect::Count(Counter::Refused, _) => {}
                    Effect::Count(counter, n) => {
                        let is_shared = self.readers.share(&view.plan.topics.labels);
                        // Another model's labels are no orphans, and cannot be told from those that nobody asked for.
                        let is_unclaimed = is_shared && counter == Counter::LabelOrphaned;
                        let counter = if is_unclaimed { Counter::LabelUnclaimed } else { counter };
                        *self
                            .machine_counts
                            .entry((model.clone(), counter.describe().0))
                            .or_default() += n;
                    }
                }
            }
            let record = lane.end_turn();
            failpoints::at(ROLE, Failpoint::BeforeJournal);
            self.outbox.send(Outgoing {
                topic: &own.analyst_journal,
                partition: *partition,
                key: None,
                value: Some(&record.write()),
                carried: &[],
                ours: &[],
                at: Some(Timestamp(record.now)),
            })?;
            failpoints::at(ROLE, Failpoint::AfterJournal);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), ShellError> {
        let mut offsets = TopicPartitionList::new();
        let mut add = |topic: &str, partition: i32, next: i64, metadata: Option<String>| {
            committed_offsets::add(&mut offsets, topic, partition, next, metadata)
        };
        for lane in self.lanes.values().filter(|l| l.is_touched) {
            let (predictions, labels) = lane.offsets();
            let own = InternalTopics::of(&self.options.settings.app, &lane.plan.name);
            let start = lane.replay_start().to_metadata();
            add(&lane.plan.topics.predictions, lane.partition, predictions, Some(start))?;
            add(&own.labels, lane.partition, labels, None)?;
        }
        for (topic, models) in self.readers.topics() {
            let mut partitions: BTreeMap<i32, Vec<(&ModelName, &LabelLane)>> = BTreeMap::new();
            for ((model, partition), lane) in &self.labels {
                if models.contains(model) {
                    partitions.entry(*partition).or_default().push((model, lane));
                }
            }
            for (partition, lanes) in partitions {
                // Whoever begins here again begins where the last of them is; a label that is placed twice counts once.
                let next = lanes.iter().map(|(_, lane)| lane.next).min().unwrap_or(0);
                if lanes.iter().any(|(_, lane)| lane.is_touched) {
                    let read_by = readers::read_by(lanes.iter().map(|(model, _)| *model));
                    add(topic, partition, next, Some(read_by))?;
                }
            }
        }
        self.outbox.commit(&offsets, || self.member.metadata())?;
        self.lanes.values_mut().for_each(|f| f.is_touched = false);
        self.labels.values_mut().for_each(|f| f.is_touched = false);
        self.counts.flush_to(self.board);
        for ((model, name), n) in std::mem::take(&mut self.machine_counts) {
            self.board.add(&model, name, n);
        }
        self.show_levels();
        Ok(())
    }

    fn show_levels(&self) {
        let mut held = ValuesByModel::new();
        for ((model, _), lane) in &self.lanes {
            *held.entry((model.clone(), PENDING_CASES)).or_default() += lane.cases() as u64;
            *held.entry((model.clone(), LANES)).or_default() += 1;
            let unplanned = lane.unplanned().map_or(0, |(cases, _)| cases as u64);
            *held.entry((model.clone(), UNPLANNED)).or_default() += unplanned;
        }
        self.waiting.count(WAITING, &mut held);
        self.board.set_gauges(&[PENDING_CASES, LANES, WAITING, UNPLANNED], held);
    }
}
