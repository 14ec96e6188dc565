//! The record size limits of topics, as far as the brokers report them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataBroker;
use tracing::debug;

use crate::kafka::client::admin::{ModelNeeds, RequiredTopic, topics_of_model};
use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_reader::TopicReader;
use crate::kafka::process::clock;
use serinus_core::plan::rollout::ModelPlan;

/// Timeout of asking the brokers for the settings of topics.
const WAIT: Duration = Duration::from_secs(3);
/// Time after which brokers that did not answer are queried again; other models do not wait for it.
const ASK_AGAIN: Duration = Duration::from_mins(1);
/// The setting of a topic.
pub const SETTING: &str = "max.message.bytes";

/// The known limits of topics. A topic has none if the brokers do not return its settings.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    known: BTreeMap<String, usize>,
    asked: BTreeSet<String>,
    asked_in_vain: Option<Instant>,
}

impl Limits {
    /// Asks for the limits of those topics that were not asked for before.
    pub fn read(&mut self, settings: &Settings, topics: impl IntoIterator<Item = String>) {
        let new: BTreeSet<String> =
            topics.into_iter().filter(|topic| !self.asked.contains(topic)).collect();
        let is_resting = self.asked_in_vain.is_some_and(|at| at.elapsed() < ASK_AGAIN);
        let Some(first) = new.first().filter(|_| !is_resting) else { return };
        match ask(settings, first, &new) {
            Ok(found) => {
                // A topic that does not exist yet is queried again.
                self.asked.extend(found.keys().cloned());
                self.known.extend(found);
            }
            Err(error) => {
                debug!(%error, "the limits of topics are not known");
                self.asked_in_vain = Some(clock::moment());
            }
        }
    }

    /// Asks for the limit of one topic again, which may have been changed.
    pub fn renew(&mut self, settings: &Settings, topic: &str) -> Option<usize> {
        self.asked.remove(topic);
        self.read(settings, [topic.to_owned()]);
        self.of(topic)
    }

    /// Returns how many bytes a batch of a topic may have, where that is known.
    pub fn of(&self, topic: &str) -> Option<usize> {
        self.known.get(topic).copied()
    }

    /// Returns the limits of these topics that are known.
    pub fn among(&self, topics: &[String]) -> BTreeMap<String, usize> {
        topics.iter().filter_map(|topic| Some((topic.clone(), self.of(topic)?))).collect()
    }
}

/// Returns the topics that the roles write for a model, besides those of its versions.
pub fn written_for(app: &str, plan: &ModelPlan) -> Vec<String> {
    let wanted = topics_of_model(app, plan, &ModelNeeds::default());
    wanted.into_iter().map(|topic| topic.name).collect()
}

/// Asks any broker for the limits of topics; one of them is named first.
fn ask(
    settings: &Settings,
    first: &str,
    topics: &BTreeSet<String>,
) -> KafkaResult<BTreeMap<String, usize>> {
    let admin: AdminClient<LogContext> = settings.admin().create_with_context(LogContext)?;
    // Without a named broker, the request waits for a controller, which not every cluster names.
    let metadata = admin.inner().fetch_metadata(Some(first), WAIT)?;
    let answering = Some(metadata.orig_broker_id()).filter(|id| *id >= 0);
    let broker = answering.or_else(|| metadata.brokers().first().map(MetadataBroker::id));
    let resources: Vec<ResourceSpecifier<'_>> =
        topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(WAIT)).broker_id(broker);
    let results = pollster::block_on(admin.describe_configs(&resources, &options))?;
    let mut limits = BTreeMap::new();
    for result in results {
        let Ok(resource) = result else { continue };
        let OwnedResourceSpecifier::Topic(topic) = resource.specifier else { continue };
        let entry = resource.entries.into_iter().find(|entry| entry.name == SETTING);
        let limit = entry.and_then(|entry| entry.value?.parse().ok());
        limits.extend(limit.map(|limit| (topic, limit)));
    }
    Ok(limits)
}

/// Describes the topics with a smaller limit than the records that go into them. Nothing is lost: a record that is too large is
/// answered with an error, shortened, or becomes a dead letter.
pub fn narrow(settings: &Settings, wanted: &[RequiredTopic], models: &[&ModelPlan]) -> Vec<String> {
    let mut limits = Limits::default();
    let there =
        TopicReader::new(settings, WAIT).and_then(|reader| reader.topics()).unwrap_or_default();
    let names = wanted.iter().map(|topic| topic.name.clone());
    limits.read(settings, names.filter(|topic| there.contains_key(topic)));
    let mut said = Vec::new();
    for plan in models {
        let topics = &plan.topics;
        let Some(requests) = limits.of(&topics.requests) else { continue };
        let (before, after) = topics.version_requests.split_once("{version}").unwrap_or_default();
        let is_of_version = |name: &str| {
            name != topics.requests
                && name.len() > before.len() + after.len()
                && name.starts_with(before)
                && name.ends_with(after)
        };
        for topic in wanted.iter().map(|topic| topic.name.as_str()) {
            let takes =
                [&topics.served, &topics.predictions, &topics.analysis, &topics.dead_letters]
                    .iter()
                    .any(|d| *d == topic);
            let is_wanted = takes || is_of_version(topic);
            if let Some(limit) = limits.of(topic).filter(|limit| is_wanted && *limit < requests) {
                said.push(format!(
                    "topic `{topic}`: {SETTING} is {limit}, and `{}` takes records of {requests}; larger ones of it get no further",
                    topics.requests
                ));
            }
        }
    }
    said
}
