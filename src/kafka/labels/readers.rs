//! Which models read each topic of labels, and what a label of such a topic is for each of them.

use std::collections::BTreeMap;

use rdkafka::message::{BorrowedMessage, Message};
use xxhash_rust::xxh3::xxh3_64;

use crate::kafka::client::message;
use crate::kafka::lanes::dead_letters::DeadLetter;
use crate::kafka::lanes::decode;
use crate::kafka::lanes::event_follower::Follower;
use crate::kafka::process::clock;
use crate::wire::json::Parts;
use crate::wire::label;
use serinus_core::domain::ids::ModelName;
use serinus_core::domain::label::Label;
use serinus_core::domain::time::Timestamp;
use serinus_core::plan::rollout::ModelPlan;

/// What stands before the names of models in the metadata of an offset.
const PREFIX: &str = "labels:";

/// What a label is for one of the models that read its topic.
#[derive(Debug)]
pub enum ForModel {
    /// A label, or a dead letter.
    Read(Result<Label, DeadLetter>),
    /// Another model's: this one cannot read it, and need not.
    Passed,
}

/// The models that read each topic of labels, in the order of their names.
#[derive(Debug, Default)]
pub struct LabelReaders {
    now: BTreeMap<String, Vec<ModelName>>,
    /// Topics that nobody names any more: their partitions are still to be given up.
    before: BTreeMap<String, Vec<ModelName>>,
}

impl LabelReaders {
    /// Notes the topics that models name now.
    pub fn follow(&mut self, follower: &Follower) {
        let mut now: BTreeMap<String, Vec<ModelName>> = BTreeMap::new();
        for (model, view) in follower.models() {
            now.entry(view.plan.topics.labels.clone()).or_default().push(model.clone());
        }
        self.before.extend(std::mem::replace(&mut self.now, now));
    }

    /// Returns the models that read a topic.
    pub fn of(&self, topic: &str) -> &[ModelName] {
        self.now.get(topic).or_else(|| self.before.get(topic)).map_or(&[], Vec::as_slice)
    }

    /// Returns every topic that is named now, with the models that read it.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &[ModelName])> {
        self.now.iter().map(|(topic, models)| (topic.as_str(), models.as_slice()))
    }

    /// Returns whether more than one model reads a topic.
    pub fn share(&self, topic: &str) -> bool {
        self.of(topic).len() > 1
    }

    /// Reads a record for every model that reads its topic.
    ///
    /// Each model has its own form of labels. One that any of them can read is no dead letter; one that nobody can read is a dead letter of
    /// the first.
    pub fn read(
        &self,
        message: &BorrowedMessage<'_>,
        follower: &Follower,
    ) -> Vec<(ModelName, ForModel)> {
        let now = clock::now();
        let models = self.of(message.topic()).iter();
        let views = models.filter_map(|model| Some((model, follower.model(model)?)));
        let mut read: Vec<(ModelName, Result<Label, DeadLetter>)> = views
            .map(|(model, view)| (model.clone(), read_foreign_label(message, &view.plan, now)))
            .collect();
        let is_readable = read.iter().any(|(_, label)| label.is_ok());
        let mut is_first = true;
        read.drain(..)
            .map(|(model, label)| {
                let is_buried_here = std::mem::replace(&mut is_first, false) && !is_readable;
                let is_its_own = label.is_ok() || is_buried_here;
                (model, if is_its_own { ForModel::Read(label) } else { ForModel::Passed })
            })
            .collect()
    }
}

/// Reads a label as others write it; `now` is the time of reading.
fn read_foreign_label(
    message: &BorrowedMessage<'_>,
    plan: &ModelPlan,
    now: Timestamp,
) -> Result<Label, DeadLetter> {
    let pairs = message::pairs(message);
    let parts = Parts { key: message.key(), headers: &pairs, value: message.payload() };
    label::decode_foreign(&plan.labels, parts, (message::time(message), now))
        .map_err(|why| decode::dead(message, why.reason()))
}

/// Returns the metadata of an offset up to which these models have read.
pub fn read_by<'a>(models: impl IntoIterator<Item = &'a ModelName>) -> String {
    let names: Vec<String> = models.into_iter().map(mark).collect();
    format!("{PREFIX}{}", names.join(","))
}

/// Returns whether a model has read up to an offset with this metadata; earlier builds did not say who had.
pub fn has_read(metadata: &str, model: &ModelName) -> bool {
    metadata.strip_prefix(PREFIX).is_none_or(|names| names.split(',').any(|n| n == mark(model)))
}

/// Many models must fit into the few bytes that a broker keeps beside an offset.
fn mark(model: &ModelName) -> String {
    format!("{:08x}", xxh3_64(model.as_str().as_bytes()) >> 32)
}

#[cfg(test)]
mod tests {
    use super::{has_read, read_by};
    use serinus_core::domain::ids::ModelName;

    #[test]
    fn an_offset_says_which_models_have_read_up_to_it() {
        let [a, b, c] = ["a", "b", "c"].map(ModelName::new);
        let metadata = read_by([&a, &b]);
        assert!(has_read(&metadata, &a) && has_read(&metadata, &b) && !has_read(&metadata, &c));
        assert!(!has_read(&read_by([]), &a));
        // Earlier builds read a topic for the only model that named it.
        assert!(has_read("", &a));
        let many: Vec<ModelName> = (0..400).map(|m| ModelName::new(format!("m{m}"))).collect();
        assert!(read_by(&many).len() < 4_096, "the most that a broker keeps");
    }
}
