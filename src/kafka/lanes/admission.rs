//! What must hold before a lane is opened: its partner topics have its partition, and its group's offsets belong to these topics.

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

/// How often a lane that has to wait is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often it is said why it waits.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Lanes that the group gave to us and that cannot be opened: nothing of them is read, so that nothing of them is lost.
#[derive(Debug, Default)]
pub struct BlockedLanes {
    /// By topic and partition.
    lanes: BTreeMap<(String, i32), Waiting>,
}

#[derive(Debug)]
struct Waiting {
    model: ModelName,
    said_at: Instant,
    looked_at: Instant,
    /// Whether it will be opened by itself, once what is hidden is shown.
    is_hidden: bool,
}

impl BlockedLanes {
    /// Lets a lane wait that a person must see to, and says why.
    pub fn hold(&mut self, key: &LaneKey, topic: &str, why: &str) {
        self.put(key, topic, why, false);
    }

    /// The same where finding out why took much reading: it is looked at again only when it is said again.
    pub fn hold_for_a_person(&mut self, key: &LaneKey, topic: &str, why: &str) {
        self.put(key, topic, why, false);
        if let Some(it) = self.lanes.get_mut(&(topic.to_owned(), key.1)) {
            it.looked_at += SAY_EVERY.saturating_sub(LOOK_EVERY);
        }
    }

    /// Lets a lane wait whose state cannot be read yet, and says why.
    ///
    /// # Errors
    ///
    /// `why` itself, where waiting does not help.
    pub fn hold_hidden(
        &mut self,
        key: &LaneKey,
        topic: &str,
        why: ShellError,
    ) -> Result<(), ShellError> {
        if !why.is_hidden() {
            return Err(why);
        }
        self.put(key, topic, &why.to_string(), true);
        Ok(())
    }

    fn put(&mut self, (model, partition): &LaneKey, topic: &str, why: &str, is_hidden: bool) {
        let now = clock::moment();
        let key = (topic.to_owned(), *partition);
        let said_at = self.lanes.get(&key).map(|k| k.said_at);
        let is_said = said_at.is_some_and(|s| now.duration_since(s) < SAY_EVERY);
        if !is_said {
            warn!(%model, topic, partition, why, "a partition has to wait");
        }
        let said_at = said_at.filter(|_| is_said).unwrap_or(now);
        let model = model.clone();
        self.lanes.insert(key, Waiting { model, said_at, looked_at: now, is_hidden });
    }

    /// Returns whether a lane waits.
    pub fn holds(&self, topic: &str, partition: i32) -> bool {
        self.lanes.contains_key(&(topic.to_owned(), partition))
    }

    /// Returns what its role is doing as long as a lane waits that will be opened by itself.
    pub fn restoring(&self) -> Option<Activity> {
        let mut hidden = self.lanes.iter().filter(|(_, l)| l.is_hidden);
        hidden.next().map(|((topic, partition), _)| Activity::begin(topic, *partition))
    }

    /// Counts the lanes that wait, by model, under this name.
    pub fn count(&self, name: &'static str, held: &mut ValuesByModel) {
        for it in self.lanes.values() {
            *held.entry((it.model.clone(), name)).or_default() += 1;
        }
    }

    /// Forgets a lane: it was opened, or is not ours any more.
    pub fn forget(&mut self, topic: &str, partition: i32) {
        self.lanes.remove(&(topic.to_owned(), partition));
    }

    /// Returns the lanes that it is time to look at again, by topic and partition.
    pub fn due(&mut self) -> Vec<(String, i32)> {
        let now = clock::moment();
        let is_due = |w: &Waiting| now.duration_since(w.looked_at) >= LOOK_EVERY;
        self.lanes
            .iter_mut()
            .filter(|(_, l)| is_due(l))
            .map(|(key, i)| {
                i.looked_at = now;
                key.clone()
            })
            .collect()
    }
}

/// A partition of two topics that are read together, and what its group has committed of each.
pub struct LaneCheck<'a> {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: i32,
    /// The topics, each with the group's offset.
    pub inputs: [(&'a str, Option<&'a (i64, String)>); 2],
    /// Topics that must have the same partition.
    pub partners: Vec<&'a str>,
}

impl LaneCheck<'_> {
    /// Returns why the lane cannot be opened, if it cannot.
    pub fn blocking_reason(
        &self,
        outbox: &TransactionalProducer,
        replay: &PartitionReader,
    ) -> Result<Option<String>, ShellError> {
        if let Some(why) = missing_partner(self.partition, &self.partners, outbox)? {
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

/// Returns why a partition has no partner in one of these topics, if it has none.
fn missing_partner(
    partition: i32,
    partners: &[&str],
    outbox: &TransactionalProducer,
) -> Result<Option<String>, ShellError> {
    for topic in partners {
        let count = outbox.partitions(topic)?;
        if count <= partition {
            return Ok(Some(format!(
                "topic `{topic}` has {count} partitions, and partition {partition} of the requests needs its like there; \
                 `serinus topics create` with the model's spec adds what is missing"
            )));
        }
    }
    Ok(None)
}

/// Returns why the group's committed offset cannot be one of this topic, if it cannot; says what is gone before it was read.
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
             give this application another --app, or remove the group"
        )));
    }
    let (low, high) = replay.bounds(topic, partition)?;
    if *offset > high {
        return Ok(Some(format!(
            "group `{group}` has read `{topic}` up to {offset}, and the topic ends at {high}: it was deleted and made again, or the \
             application id is used for something else; give another --app, or set the group's offsets back with \
             kafka-consumer-groups --reset-offsets --to-earliest"
        )));
    }
    if *offset < low {
        let lost = low - offset;
        warn!(
            topic,
            partition, lost, "records were deleted before they were read: retention is too short"
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
    fn who_waits_is_looked_at_again_until_it_is_forgotten() {
        let mut room = BlockedLanes::default();
        let key = ("m".into(), 3);
        room.hold(&key, "m.requests", "because");
        assert_eq!(room.due(), [], "it was looked at just now");
        for it in room.lanes.values_mut() {
            it.looked_at -= super::LOOK_EVERY;
        }
        assert_eq!(room.due(), [("m.requests".to_owned(), 3)]);
        assert_eq!(room.due(), [], "once is enough");
        assert_eq!(room.restoring(), None, "a person must see to it");
        let hidden = ShellError::Unsettled { topic: "journal".to_owned(), partition: 3 };
        room.hold_hidden(&key, "m.requests", hidden).expect("it waits");
        let broken = room.hold_hidden(&key, "m.requests", ShellError::Lost);
        assert!(matches!(broken, Err(ShellError::Lost)));
        assert_eq!(room.restoring(), Some(Activity::begin("m.requests", 3)));
        let mut held = ValuesByModel::new();
        room.count("waiting", &mut held);
        assert_eq!(held, ValuesByModel::from([(("m".into(), "waiting"), 1)]));
        room.forget("m.requests", 3);
        assert!(room.lanes.is_empty());
    }
}
