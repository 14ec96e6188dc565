//! Follows `rollout-events`: who serves what, at every revision, as every instance knows it.
//!
//! Each event's `to` holds the whole routing, and the events that apply a spec carry it, so the topic alone is enough. Events of one
//! model may stand in different partitions; their `sequence` puts them in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use tracing::{info, warn};

use crate::domain::ids::{ModelName, Revision, RolloutName};
use crate::domain::routing::Routing;
use crate::engine::analyst_io::Planned;
use crate::engine::change::Phase;
use crate::kafka::deadline::Deadline;
use crate::kafka::error::ShellError;
use crate::kafka::settings::{LogContext, Settings};
use crate::spec::plan::{model_from_json, rollout_from_json};
use crate::strategy::design::Design;
use crate::strategy::stage::ModelPlan;
use crate::wire::event::{EventRecord, VerdictRecord};

/// How many revisions of a model's routing are kept for replays.
const HISTORY_MAX: usize = 10_000;

/// What is known of one model.
#[derive(Clone, Debug)]
pub struct ModelView {
    /// Its plan.
    pub plan: Arc<ModelPlan>,
    /// Its routing now.
    pub routing: Arc<Routing>,
    /// Its routing at every revision.
    pub history: BTreeMap<Revision, Arc<Routing>>,
    /// Its rollouts, with what their tests are planned with.
    pub rollouts: BTreeMap<RolloutName, Planned>,
    /// Counts what changed, so that others see that they are behind.
    pub version: u64,
}

/// Reads the events and keeps what they say.
pub struct Follower {
    consumer: BaseConsumer<LogContext>,
    topic: String,
    partitions: BTreeSet<i32>,
    ended: BTreeSet<i32>,
    models: BTreeMap<ModelName, ModelView>,
    expected: BTreeMap<ModelName, u64>,
    early: BTreeMap<(ModelName, u64), EventRecord>,
}

impl Follower {
    /// Reads all that was said until now.
    pub fn start(settings: &Settings) -> Result<Self, ShellError> {
        let topic = settings.topic("rollout-events");
        let consumer: BaseConsumer<LogContext> = settings
            .reader()
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("set up the follower of events"))?;
        let metadata = consumer
            .fetch_metadata(Some(&topic), Duration::from_secs(15))
            .map_err(ShellError::kafka("look up the topic of events"))?;
        let partitions: BTreeSet<i32> = metadata
            .topics()
            .iter()
            .flat_map(|it| it.partitions().iter().map(MetadataPartition::id))
            .collect();
        if partitions.is_empty() {
            return Err(ShellError::Missing(format!(
                "topic `{topic}` does not exist; `serinus run --create-topics` makes what is missing"
            )));
        }
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition_offset(&topic, *partition, Offset::Beginning)
                .map_err(ShellError::kafka("assign the topic of events"))?;
        }
        consumer.assign(&list).map_err(ShellError::kafka("assign the topic of events"))?;
        let mut follower = Self {
            consumer,
            topic,
            partitions,
            ended: BTreeSet::new(),
            models: BTreeMap::new(),
            expected: BTreeMap::new(),
            early: BTreeMap::new(),
        };
        follower.catch_up()?;
        Ok(follower)
    }

    /// Reads to the end of the topic as it is now.
    pub fn catch_up(&mut self) -> Result<(), ShellError> {
        let deadline = Deadline::after(Duration::from_mins(1));
        while self.ended != self.partitions {
            if deadline.is_over() {
                return Err(ShellError::Missing(format!(
                    "the end of `{}` was not reached",
                    self.topic
                )));
            }
            self.poll(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Reads what has come, waiting so long for the first of it; returns whether anything changed.
    pub fn poll(&mut self, wait: Duration) -> bool {
        let mut changed = false;
        let mut wait = wait;
        while let Some(result) = self.consumer.poll(wait) {
            wait = Duration::ZERO;
            match result {
                Ok(message) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let read = message.payload().map(EventRecord::read);
                    self.ended.remove(&partition);
                    match read {
                        Some(Ok(event)) => changed |= self.take(event),
                        Some(Err(error)) => {
                            warn!(partition, offset, %error, "an event cannot be read");
                        }
                        None => {}
                    }
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    self.ended.insert(partition);
                    if self.ended == self.partitions {
                        break;
                    }
                }
                Err(error) => {
                    warn!(%error, "the topic of events cannot be read just now");
                    break;
                }
            }
        }
        changed
    }

    /// Returns what is known of all models.
    pub fn models(&self) -> &BTreeMap<ModelName, ModelView> {
        &self.models
    }

    /// Returns what is known of one.
    pub fn model(&self, name: &ModelName) -> Option<&ModelView> {
        self.models.get(name)
    }

    fn take(&mut self, event: EventRecord) -> bool {
        let model = ModelName::new(&event.model);
        // A topic whose beginning is gone starts with the first event that is there.
        let expected = *self.expected.entry(model.clone()).or_insert(event.sequence);
        if event.sequence < expected {
            return false;
        }
        self.early.insert((model.clone(), event.sequence), event);
        let mut changed = false;
        let mut next = expected;
        while let Some(event) = self.early.remove(&(model.clone(), next)) {
            changed |= self.follow(&model, &event);
            next += 1;
        }
        self.expected.insert(model, next);
        changed
    }

    fn follow(&mut self, model: &ModelName, event: &EventRecord) -> bool {
        if event.verdict == VerdictRecord::Conflict {
            return false;
        }
        let plan = match &event.spec {
            Some(spec) if is_kind(spec, "Model") => match model_from_json(spec) {
                Ok(plan) => Some(Arc::new(plan)),
                Err(error) => {
                    warn!(%model, %error, "the spec of a model in an event cannot be read");
                    None
                }
            },
            Some(_) | None => None,
        };
        let Some(plan) = plan.or_else(|| self.models.get(model).map(|it| Arc::clone(&it.plan)))
        else {
            warn!(%model, sequence = event.sequence, "an event of a model that was never applied");
            return false;
        };
        let routing = match event.to.routing(&plan) {
            Ok(routing) => Arc::new(routing),
            Err(error) => {
                warn!(%model, sequence = event.sequence, %error, "the routing in an event cannot be read");
                return false;
            }
        };
        let view = self.models.entry(model.clone()).or_insert_with(|| ModelView {
            plan: Arc::clone(&plan),
            routing: Arc::clone(&routing),
            history: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            version: 0,
        });
        view.plan = plan;
        view.version += 1;
        if routing.revision >= view.routing.revision {
            view.routing = Arc::clone(&routing);
        }
        view.history.insert(routing.revision, Arc::clone(&routing));
        while view.history.len() > HISTORY_MAX {
            view.history.pop_first();
        }
        follow_rollout(view, event, &routing);
        info!(%model, revision = routing.revision.0, reason = event.reason, "routing known");
        true
    }
}

/// Keeps what the lanes must know of the event's rollout.
fn follow_rollout(view: &mut ModelView, event: &EventRecord, routing: &Routing) {
    let Some(name) = event.rollout.as_deref().map(RolloutName::new) else { return };
    let phase = Phase::from(event.to.phase);
    let design: Option<Design> = event.design.as_ref().map(Into::into);
    if let Some(planned) = view.rollouts.get_mut(&name) {
        planned.revision = planned.revision.max(routing.revision);
        planned.is_live = phase.is_open();
        if let Some(design) = design {
            planned.design = design;
        }
        return;
    }
    let Some(spec) = event.spec.as_ref().filter(|it| is_kind(it, "Rollout")) else { return };
    match rollout_from_json(spec) {
        Ok(plan) => {
            let planned = Planned {
                plan: Arc::new(plan),
                design: design.unwrap_or_default(),
                stable: routing.stable.clone(),
                revision: routing.revision,
                is_live: phase.is_open(),
            };
            view.rollouts.insert(name, planned);
        }
        Err(error) => {
            warn!(rollout = %name, %error, "the spec of a rollout in an event cannot be read");
        }
    }
}

fn is_kind(spec: &Value, kind: &str) -> bool {
    spec.get("kind").and_then(Value::as_str) == Some(kind)
}
