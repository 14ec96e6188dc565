//! The newest partial evidence that lanes have published, read back when the lanes are restored.

use std::collections::BTreeMap;

use rdkafka::message::Message;

use crate::kafka::analysis::lane::Published;
use crate::kafka::analysis::recovery::ResumePoint;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_scan;
use crate::kafka::lanes::lane::LaneKey;
use crate::kafka::process::liveness::Heartbeat;
use crate::wire::journal::ReplayStart;
use crate::wire::partial::PartialRecord;
use serinus_core::domain::ids::{ModelName, RolloutName};
use serinus_core::engine::partial::Partial;

/// The topic's only partition.
const PARTITION: i32 = 0;

/// The newest partials of one lane, by rollout.
pub type OfLane = BTreeMap<RolloutName, Partial>;

/// The newest partials of lanes that are restored together. The topic of each model is read once for all its lanes.
#[derive(Debug, Default)]
pub struct Sums(BTreeMap<ModelName, BTreeMap<i32, OfLane>>);

impl Sums {
    /// Takes a lane's sums out, once the topic shows those that were committed with its offsets; see `PartitionReader::shown`.
    pub fn take(
        &mut self,
        settings: &Settings,
        (heartbeat, replay): (&Heartbeat, &PartitionReader),
        topic: &str,
        (model, partition): &LaneKey,
        resume: &ResumePoint,
    ) -> Result<Published, ShellError> {
        let metadata = match &resume.committed.first {
            Some((_, metadata)) => metadata.as_str(),
            None if resume.has_only_rows => "",
            None => return Ok(Published::default()),
        };
        // One more than the turn of the newest partial.
        let published = ReplayStart::from_metadata(metadata).map_or(0, |m| m.published);
        if !resume.committed.is_certain {
            // Partials newer than `published` may exist and still be hidden.
            replay.require_stable(topic, PARTITION)?;
        }
        let (sums, shown) = replay.read_when_visible(topic, PARTITION, || {
            if !self.0.contains_key(model) {
                self.0.insert(model.clone(), read(settings, heartbeat, topic)?);
            }
            let of_model = self.0.get_mut(model);
            let found = of_model.and_then(|o| o.remove(partition)).unwrap_or_default();
            let shown = found.values().map(|f| f.turn + 1).max().unwrap_or(0);
            let is_all = shown >= published;
            if !is_all {
                self.0.remove(model);
            }
            Ok(((found, shown), is_all))
        })?;
        Ok(Published { sums, has_lost_some: shown < published })
    }
}

fn read(
    settings: &Settings,
    heartbeat: &Heartbeat,
    topic: &str,
) -> Result<BTreeMap<i32, OfLane>, ShellError> {
    let mut newest: BTreeMap<i32, OfLane> = BTreeMap::new();
    topic_scan::scan(settings, topic, Some(heartbeat), |message| {
        let read = message.payload().and_then(|p| PartialRecord::read(p).ok());
        if let Some(partial) = read.and_then(|p| p.partial().ok()) {
            let of_partition = newest.entry(partial.partition).or_default();
            of_partition.insert(partial.rollout.clone(), partial);
        }
    })?
    .or_missing(topic)?;
    Ok(newest)
}
