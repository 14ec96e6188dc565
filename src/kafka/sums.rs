//! The newest sums of lanes, as they stand on their topic, for lanes that are restored.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use rdkafka::message::Message;

use crate::domain::ids::{ModelName, RolloutName};
use crate::engine::partial::Partial;
use crate::kafka::admission::LaneKey;
use crate::kafka::deadline::Deadline;
use crate::kafka::error::ShellError;
use crate::kafka::pulse::Beat;
use crate::kafka::settings::Settings;
use crate::kafka::table;
use crate::wire::partial::PartialRecord;

/// How long the topic may take to show what was committed, and how often it is looked at.
const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// The newest sums of one lane, by rollout.
pub type OfLane = BTreeMap<RolloutName, Partial>;

/// The newest sums of the lanes of several models, each model's topic read once for all of them.
#[derive(Debug, Default)]
pub struct Sums(BTreeMap<ModelName, BTreeMap<i32, OfLane>>);

impl Sums {
    /// Takes a lane's sums out, once the topic shows those that were committed with its offsets: `published` is one more than their turn.
    ///
    /// A transaction becomes visible in one partition after the other.
    pub fn take(
        &mut self,
        settings: &Settings,
        beat: &Beat,
        topic: &str,
        (model, partition): &LaneKey,
        published: u64,
    ) -> Result<OfLane, ShellError> {
        let deadline = Deadline::after(WAIT);
        loop {
            if !self.0.contains_key(model) {
                self.0.insert(model.clone(), read(settings, beat, topic)?);
            }
            let of_model = self.0.get_mut(model);
            let found = of_model.and_then(|it| it.remove(partition)).unwrap_or_default();
            let shown = found.values().map(|it| it.turn + 1).max().unwrap_or(0);
            if shown >= published || deadline.is_over() {
                return Ok(found);
            }
            self.0.remove(model);
            thread::park_timeout(PAUSE);
        }
    }
}

fn read(
    settings: &Settings,
    beat: &Beat,
    topic: &str,
) -> Result<BTreeMap<i32, OfLane>, ShellError> {
    let mut newest: BTreeMap<i32, OfLane> = BTreeMap::new();
    table::scan(settings, topic, Some(beat), |message| {
        let read = message.payload().and_then(|it| PartialRecord::read(it).ok());
        if let Some(partial) = read.and_then(|it| it.partial().ok()) {
            let of_partition = newest.entry(partial.partition).or_default();
            of_partition.insert(partial.rollout.clone(), partial);
        }
    })?;
    Ok(newest)
}
