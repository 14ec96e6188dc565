//! Admission of lanes: a lane opens only if its partner topics have its partition and the group's offsets belong to its topics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::transaction::TransactionalProducer;
use crate::kafka::lanes::lane::LaneKey;
use crate::kafka::process::clock;
use crate::kafka::process::liveness::Activity;
use crate::kafka::process::metrics::ValuesByModel;
use crate::wire::journal::ReplayStart;
use serinus_core::domain::ids::ModelName;

/// Interval between two attempts to open a blocked lane.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// Interval between two log lines about the same blocked lane.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Lanes that the group assigned to us and that cannot be opened. Nothing of them is read, so nothing is lost.
#[derive(Debug, Default)]
pub struct BlockedLanes {
    /// By topic and partition.
    lanes: BTreeMap<(String, i32), Blocked>,
}

#[derive(Debug)]
struct Blocked {
    model: ModelName,
    logged_at: Instant,
    tried_at: Instant,
    /// Whether the lane will open without an operator, once the brokers show what they withhold.
    is_hidden: bool,
}

impl BlockedLanes {
    /// Blocks a lane until an operator acts, and logs the reason.
    pub fn block(&mut self, key: &LaneKey, topic: &str, why: &str) {
        self.put(key, topic, why, false);
    }

    /// Blocks a lane like `block`, but retries it only once per log line, because finding the reason took much reading.
    pub fn block_and_retry_slowly(&mut self, key: &LaneKey, topic: &str, why: &str) {
        self.put(key, topic, why, false);
        if let Some(lane) = self.lanes.get_mut(&(topic.to_owned(), key.1)) {
            lane.tried_at += LOG_EVERY.saturating_sub(RETRY_EVERY);
        }
    }

    /// Blocks a lane whose state cannot be read yet, and logs the reason.
    ///
    /// # Errors
    ///
    /// `why` itself if waiting does not help.
    pub fn block_hidden(
        &mut self,
        key: &LaneKey,
        topic: &str,
        why: ShellError,
    ) -> Result<(), ShellError> {
        if !why.awaits_transaction() {
            return Err(why);
        }
        self.put(key, topic, &why.to_string(), true);
        Ok(())
    }

    fn put(&mut self, (model, partition): &LaneKey, topic: &str, why: &str, is_hidden: bool) {
        let now = clock::moment();
        let key = (topic.to_owned(), *partition);
        let logged_at = self.lanes.get(&key).map(|lane| lane.logged_at);
        let is_logged = logged_at.is_some_and(|at| now.duration_since(at) < LOG_EVERY);
        if !is_logged {
            warn!(%model, topic, partition, reason = why, "partition blocked");
        }
        let logged_at = logged_at.filter(|_| is_logged).unwrap_or(now);
        let model = model.clone();
        self.lanes.insert(key, Blocked { model, logged_at, tried_at: now, is_hidden });
    }

    /// Returns whether a lane is blocked.
    pub fn contains(&self, topic: &str, partition: i32) -> bool {
        self.lanes.contains_key(&(topic.to_owned(), partition))
    }

    /// Returns the activity to report while a lane is blocked that will open without an operator.
    pub fn restoring(&self) -> Option<Activity> {
        let mut hidden = self.lanes.iter().filter(|(_, l)| l.is_hidden);
        hidden.next().map(|((topic, partition), _)| Activity::begin(topic, *partition))
    }

    /// Adds the number of blocked lanes of each model to a gauge.
    pub fn count(&self, name: &'static str, held: &mut ValuesByModel) {
        for lane in self.lanes.values() {
            *held.entry((lane.model.clone(), name)).or_default() += 1;
        }
    }

    /// Removes a lane that was opened or is not ours any more.
    pub fn remove(&mut self, topic: &str, partition: i32) {
        self.lanes.remove(&(topic.to_owned(), partition));
    }

    /// Returns the lanes to try again now, by topic and partition.
    pub fn due(&mut self) -> Vec<(String, i32)> {
        let now = clock::moment();
        let is_due = |lane: &Blocked| now.duration_since(lane.tried_at) >= RETRY_EVERY;
        self.lanes
            .iter_mut()
            .filter(|(_, l)| is_due(l))
            .map(|(key, lane)| {
                lane.tried_at = now;
                key.clone()
            })
            .collect()
    }
}

/// The same partition of two topics that are read together, with the group's committed offset of each.
pub struct LaneCheck<'a> {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: i32,
    /// The topics, each with the group's committed offset.
    pub inputs: [(&'a str, Option<&'a (i64, String)>); 2],
    /// Topics that must have this partition, too.
    pub partners: Vec<&'a str>,
}

impl LaneCheck<'_> {
    /// Returns why the lane cannot be opened; nothing if it can.
    pub fn blocking_reason(
        &self,
        producer: &TransactionalProducer,
        replay: &PartitionReader,
    ) -> Result<Option<String>, ShellError> {
        if let Some(why) = missing_partner(self.partition, &self.partners, producer)? {
            return Ok(Some(why));
        }
        for (topic, committed) in self.inputs {
            let why = foreign_offset(&self.group, topic, self.partition, committed, replay)?;
            if why.is_some() {
                return Ok(why);
            }
        }
        Ok(None)
    }
}

/// Returns the reason if one of these topics lacks the partition.
fn missing_partner(
    partition: i32,
    partners: &[&str],
    producer: &TransactionalProducer,
) -> Result<Option<String>, ShellError> {
    for topic in partners {
        let count = producer.partitions(topic)?;
        if count <= partition {
            return Ok(Some(format!(
                "topic `{topic}` has {count} partitions and lacks partition {partition}, which the model's inputs have; \
                 `serinus topics create` with the model's spec adds it"
            )));
        }
    }
    Ok(None)
}

/// Returns the reason if the group's committed offset cannot belong to this topic. Logs records that were deleted before they were read.
fn foreign_offset(
    group: &str,
    topic: &str,
    partition: i32,
    committed: Option<&(i64, String)>,
    replay: &PartitionReader,
) -> Result<Option<String>, ShellError> {
    let Some((offset, metadata)) = committed else { return Ok(None) };
    if !metadata.is_empty() && ReplayStart::from_metadata(metadata).is_none() {
        return Ok(Some(format!(
            "group `{group}` has an offset of `{topic}` that another program committed (its metadata is `{metadata}`); \
             start this application with another --app, or delete the group"
        )));
    }
    let (low, high) = replay.bounds(topic, partition)?;
    if *offset > high {
        return Ok(Some(format!(
            "group `{group}` has read `{topic}` up to offset {offset}, but the topic ends at {high}: it was deleted and created again, \
             or another application uses this application id; start with another --app, or reset the group's offsets with \
             kafka-consumer-groups --reset-offsets --to-earliest"
        )));
    }
    if *offset < low {
        let lost = low - offset;
        warn!(
            topic,
            partition,
            lost,
            "records were deleted before they were read: the topic's retention is too short"
        );
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::BlockedLanes;
    use crate::kafka::client::error::ShellError;
    use crate::kafka::process::liveness::Activity;
    use crate::kafka::process::metrics::ValuesByModel;

    #[test]
    fn a_blocked_lane_is_retried_until_it_is_removed() {
        let mut blocked = BlockedLanes::default();
        let key = ("m".into(), 3);
        blocked.block(&key, "m.requests", "because");
        assert_eq!(blocked.due(), [], "it was tried just now");
        for lane in blocked.lanes.values_mut() {
            lane.tried_at -= super::RETRY_EVERY;
        }
        assert_eq!(blocked.due(), [("m.requests".to_owned(), 3)]);
        assert_eq!(blocked.due(), [], "it was returned once");
        assert_eq!(blocked.restoring(), None, "only an operator can unblock it");
        let hidden = ShellError::OpenTransaction { topic: "journal".to_owned(), partition: 3 };
        blocked.block_hidden(&key, "m.requests", hidden).expect("the lane is blocked");
        let broken = blocked.block_hidden(&key, "m.requests", ShellError::Lost);
        assert!(matches!(broken, Err(ShellError::Lost)));
        assert_eq!(blocked.restoring(), Some(Activity::begin("m.requests", 3)));
        let mut held = ValuesByModel::new();
        blocked.count("waiting", &mut held);
        assert_eq!(held, ValuesByModel::from([(("m".into(), "waiting"), 1)]));
        blocked.remove("m.requests", 3);
        assert!(blocked.lanes.is_empty());
    }
}
