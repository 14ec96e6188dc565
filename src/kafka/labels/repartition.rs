//! Repartitions labels: from the topics in which others write them to the partition of the prediction of the same request id.
//!
//! Every analyst lane reads labels by request id from an internal topic with as many partitions as the predictions. The owner of a
//! partition of a label topic copies its labels there, followed by watermarks that say how far the source partition was read. If
//! several models name the same label topic, each of them gets its own copy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rdkafka::TopicPartitionList;
use rdkafka::message::{BorrowedMessage, Message};
use tracing::info;

use crate::kafka::client::committed_offsets;
use crate::kafka::client::consumer_group::read_from;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::partition_counts::PartitionCounts;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::transaction::Sent;
use crate::kafka::labels::end_probe::LabelEnds;
use crate::kafka::labels::readers::{self, ForModel, LabelReaders};
use crate::kafka::labels::source::LabelLane;
use crate::kafka::lanes::dead_letters::DeadLetter;
use crate::kafka::lanes::event_follower::Follower;
use crate::kafka::lanes::internal_topics;
use crate::kafka::lanes::lane::LaneKey;
use crate::kafka::lanes::partition_role::RoleContext;
use crate::kafka::process::clock;
use crate::wire::label;
use crate::wire::placement;
use crate::wire::watermark;
use crate::wire::watermark::WatermarkRecord;
use serinus_core::domain::ids::ModelName;
use serinus_core::domain::label::Label;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::counter::Counter;
use serinus_core::plan::rollout::{Format, ModelPlan};

/// Reason of a dead letter.
const LABEL_TOO_LARGE: &str = "the label does not fit into one message of its own";

/// A record of a label topic: its offset, its partition, and what it is for each model that reads the topic.
#[derive(Debug)]
pub struct SourceRecord {
    offset: i64,
    partition: i32,
    labels: Vec<(ModelName, ForModel)>,
}

/// The partitions of label topics that this instance owns.
pub struct LabelRepartition {
    readers: LabelReaders,
    /// By model and partition of its label topic.
    lanes: BTreeMap<LaneKey, LabelLane>,
    ends: LabelEnds,
    partitions: PartitionCounts,
    /// Models with labels that existed when the role started and are still unread.
    behind: BTreeSet<ModelName>,
}

impl LabelRepartition {
    /// Starts with no partitions, and with a thread that probes the ends of partitions.
    pub fn start(settings: &Settings) -> Result<Self, ShellError> {
        Ok(Self {
            readers: LabelReaders::default(),
            lanes: BTreeMap::new(),
            ends: LabelEnds::start(settings)?,
            partitions: PartitionCounts::default(),
            behind: BTreeSet::new(),
        })
    }

    /// Follows which models read which label topics.
    pub fn follow(&mut self, follower: &Follower) {
        self.readers.follow(follower);
    }

    /// Returns whether several models read this label topic.
    pub fn is_shared(&self, topic: &str) -> bool {
        self.readers.is_shared(topic)
    }

    /// Returns whether the model has labels that existed when the role started and are still unread.
    pub fn is_behind(&self, model: &ModelName) -> bool {
        self.behind.contains(model)
    }

    /// Restarts partitions that we already read for models that came to name their topic: for those models from the beginning.
    pub fn join_readers(&mut self, cx: &RoleContext<'_>) -> Result<(), ShellError> {
        let mut joining = Vec::new();
        for (topic, models) in self.readers.topics() {
            let partitions: BTreeSet<i32> = self
                .lanes
                .keys()
                .filter(|(model, _)| models.contains(model))
                .map(|(_, partition)| *partition)
                .collect();
            for partition in partitions {
                let keys = models.iter().map(|model| (model.clone(), partition));
                let new: Vec<LaneKey> = keys.filter(|key| !self.lanes.contains_key(key)).collect();
                if !new.is_empty() {
                    joining.push((topic.to_owned(), partition, new));
                }
            }
        }
        for (topic, partition, keys) in joining {
            info!(topic, partition, "label partition restarted for a model that shares it");
            let unread = cx.replay.end(&topic, partition, 0)?;
            for key in keys {
                self.lanes.insert(key, LabelLane::new(partition, 0, unread, clock::now()));
            }
            cx.member.rewind(&topic, partition)?;
        }
        Ok(())
    }

    /// Decodes a record of a label topic.
    pub fn decode(&self, follower: &Follower, message: &BorrowedMessage<'_>) -> SourceRecord {
        let labels = self.readers.read(message, follower);
        SourceRecord { offset: message.offset(), partition: message.partition(), labels }
    }

    /// Adds a record to the backlogs of the models that read its topic.
    pub fn take(&mut self, record: SourceRecord) {
        let now = clock::now();
        for (model, label) in record.labels {
            let Some(lane) = self.lanes.get_mut(&(model, record.partition)) else { continue };
            match label {
                ForModel::Read(label) => lane.take(now, record.offset, label),
                ForModel::Passed => {
                    lane.pass(now, record.offset);
                }
            }
        }
    }

    /// Writes the backlogs and the watermarks behind them into the open transaction.
    pub fn write(&mut self, cx: &mut RoleContext<'_>, now: Timestamp) -> Result<(), ShellError> {
        self.ends.update(now, &mut self.lanes, &cx.follower)?;
        for ((model, source), lane) in &mut self.lanes {
            let Some(view) = cx.follower.model(model) else { continue };
            let plan = Arc::clone(&view.plan);
            let topic = internal_topics::labels(&cx.options.settings.app, model);
            let count = self.partitions.of(&topic, &cx.producer)?.max(1);
            let header = source.to_string();
            for (offset, read) in std::mem::take(&mut lane.backlog) {
                match read {
                    Ok(label) => {
                        let place = (*source, offset);
                        write_label(cx, &plan, (&topic, count), (place, &header), &label)?;
                    }
                    Err(dead) => cx.send_to_dead_letters(&plan, &dead)?,
                }
            }
            let Some(mark) = lane.watermark(now) else { continue };
            let value = WatermarkRecord::from(mark).write();
            for partition in 0..count {
                cx.producer.send(Outgoing {
                    topic: &topic,
                    partition,
                    key: None,
                    value: Some(&value),
                    passthrough: &[],
                    headers: &[],
                    at: None,
                })?;
            }
        }
        let behind = self.lanes.iter().filter(|(_, lane)| lane.is_behind());
        self.behind = behind.map(|((model, _), _)| model.clone()).collect();
        Ok(())
    }

    /// Adds the offsets of the label topics to a commit.
    pub fn add_offsets(&self, offsets: &mut TopicPartitionList) -> Result<(), ShellError> {
        for (topic, models) in self.readers.topics() {
            let mut partitions: BTreeMap<i32, Vec<(&ModelName, &LabelLane)>> = BTreeMap::new();
            for ((model, partition), lane) in &self.lanes {
                if models.contains(model) {
                    partitions.entry(*partition).or_default().push((model, lane));
                }
            }
            for (partition, lanes) in partitions {
                if !lanes.iter().any(|(_, lane)| lane.is_touched) {
                    continue;
                }
                // The next owner resumes at the slowest model; a label that is copied twice counts once.
                let next = lanes.iter().map(|(_, lane)| lane.next).min().unwrap_or(0);
                let read_by = readers::read_by(lanes.iter().map(|(model, _)| *model));
                committed_offsets::add(offsets, topic, partition, next, Some(read_by))?;
            }
        }
        Ok(())
    }

    /// Runs after a commit: its offsets need not be committed again.
    pub fn after_commit(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.is_touched = false);
    }

    /// Begins to read a partition of a label topic at the group's offset, for all models that name the topic.
    pub fn open(
        &mut self,
        cx: &mut RoleContext<'_>,
        (topic, model, partition): (&str, ModelName, i32),
    ) -> Result<(), ShellError> {
        let committed = match cx.member.committed(&[(topic, partition)]) {
            // Uncertain offsets are good enough: a label that is copied twice counts once.
            Ok(found) => found.pair().0,
            Err(why) => return cx.blocked.block_hidden(&(model, partition), topic, why),
        };
        cx.blocked.remove(topic, partition);
        let (read, metadata) = committed.clone().unwrap_or_default();
        let models = self.readers.of(topic);
        let next = |model| if readers::has_read(&metadata, model) { read } else { 0 };
        let first = models.iter().map(next).min().unwrap_or(0);
        let unread = cx.replay.end(topic, partition, first)?;
        let from = if first < read { None } else { committed.as_ref() };
        cx.member.accept(&[(topic, partition, read_from(from, first))])?;
        for model in models {
            let lane = LabelLane::new(partition, next(model), unread, clock::now());
            self.lanes.insert((model.clone(), partition), lane);
        }
        Ok(())
    }

    /// Stops reading a partition of a label topic.
    pub fn release(&mut self, topic: &str, partition: i32) -> Result<(), ShellError> {
        for model in self.readers.of(topic) {
            let key = (model.clone(), partition);
            self.lanes.remove(&key);
            self.ends.cancel(key)?;
        }
        Ok(())
    }
}

/// Writes a label to the partition of its request id, or to the dead letters if it is too large.
fn write_label(
    cx: &mut RoleContext<'_>,
    plan: &ModelPlan,
    (topic, count): (&str, i32),
    (place, source): ((i32, i64), &str),
    label: &Label,
) -> Result<(), ShellError> {
    let id = label.request_id.as_str().as_bytes();
    let sent = cx.producer.offer(Outgoing {
        topic,
        partition: placement::partition(id, count),
        key: Some(id),
        value: Some(&label::encode(Format::Json, label)),
        passthrough: &[],
        headers: &[(watermark::SOURCE, source)],
        at: None,
    })?;
    match sent {
        Sent::Sent => Ok(()),
        Sent::TooLarge => {
            cx.counts.add(&plan.name, Counter::TooLarge, 1);
            let dead = DeadLetter::left(&plan.topics.labels, place, LABEL_TOO_LARGE);
            cx.send_to_dead_letters(plan, &dead)
        }
    }
}
