//! Label topics that several models share: which models read each topic, and what a record of it is for each of them.

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

/// Prefix of the metadata of an offset that names the models that have read up to it.
const PREFIX: &str = "labels:";

/// What a record of a label topic is for one of the models that read the topic.
#[derive(Debug)]
pub enum ForModel {
    /// A label, or a dead letter.
    Read(Result<Label, DeadLetter>),
    /// A label of another model, which this model cannot decode and need not.
    Passed,
}

/// The models that read each label topic, ordered by name.
#[derive(Debug, Default)]
pub struct LabelReaders {
    current: BTreeMap<String, Vec<ModelName>>,
    /// Topics that no model names any more; their partitions are still to be released.
    former: BTreeMap<String, Vec<ModelName>>,
}

impl LabelReaders {
    /// Updates the topics that the models name.
    pub fn follow(&mut self, follower: &Follower) {
        let mut current: BTreeMap<String, Vec<ModelName>> = BTreeMap::new();
        for (model, view) in follower.models() {
            current.entry(view.plan.topics.labels.clone()).or_default().push(model.clone());
        }
        self.former.extend(std::mem::replace(&mut self.current, current));
    }

    /// Returns the models that read a topic.
    pub fn of(&self, topic: &str) -> &[ModelName] {
        self.current.get(topic).or_else(|| self.former.get(topic)).map_or(&[], Vec::as_slice)
    }

    /// Returns every label topic that a model names, with the models that read it.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &[ModelName])> {
        self.current.iter().map(|(topic, models)| (topic.as_str(), models.as_slice()))
    }

    /// Returns whether several models read a topic.
    pub fn is_shared(&self, topic: &str) -> bool {
        self.of(topic).len() > 1
    }

    /// Decodes a record for every model that reads its topic.
    ///
    /// Each model has its own label format. A record that no model can decode is a dead letter of the first model; a record that any model
    /// can decode is not a dead letter at all.
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
                let is_dead_letter_here = std::mem::replace(&mut is_first, false) && !is_readable;
                let is_its_own = label.is_ok() || is_dead_letter_here;
                (model, if is_its_own { ForModel::Read(label) } else { ForModel::Passed })
            })
            .collect()
    }
}

/// Decodes a label in the model's own format; `now` caps its time.
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

/// Returns the metadata of an offset up to which these models have read the topic.
pub fn read_by<'a>(models: impl IntoIterator<Item = &'a ModelName>) -> String {
    let names: Vec<String> = models.into_iter().map(short_name).collect();
    format!("{PREFIX}{}", names.join(","))
}

/// Returns whether the model has read up to an offset with this metadata. Earlier builds read each topic for one model and wrote no names.
pub fn has_read(metadata: &str, model: &ModelName) -> bool {
    metadata
        .strip_prefix(PREFIX)
        .is_none_or(|names| names.split(',').any(|n| n == short_name(model)))
}

/// Shortens a model's name: brokers keep 4,096 bytes of metadata with an offset, and many models must fit.
fn short_name(model: &ModelName) -> String {
    format!("{:08x}", xxh3_64(model.as_str().as_bytes()) >> 32)
}

#[cfg(test)]
mod tests {
    use super::{has_read, read_by};
    use serinus_core::domain::ids::ModelName;

    #[test]
    fn metadata_names_the_models_that_have_read_up_to_an_offset() {
        let [a, b, c] = ["a", "b", "c"].map(ModelName::new);
        let metadata = read_by([&a, &b]);
        assert!(has_read(&metadata, &a) && has_read(&metadata, &b) && !has_read(&metadata, &c));
        assert!(!has_read(&read_by([]), &a));
        // Earlier builds read a topic for one model only.
        assert!(has_read("", &a));
        let many: Vec<ModelName> = (0..400).map(|m| ModelName::new(format!("m{m}"))).collect();
        assert!(read_by(&many).len() < 4_096, "brokers keep 4,096 bytes");
    }
}
