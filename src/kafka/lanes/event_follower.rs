//! Follows the topic `rollout-events`, from which every instance builds the same catalog of models.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::{ShellError, is_retriable_by_role};
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_scan::{self, Scanned};
use crate::kafka::lanes::catalog::{ModelCatalog, ModelView};
use crate::kafka::process::wait::Deadline;
use crate::wire::event::EventRecord;
use crate::wire::state::StateRecord;
use serinus_core::domain::ids::ModelName;

/// Longest wait for open transactions on the events topic: longer than the brokers take to abort one.
const SETTLE_MAX: Duration = Duration::from_secs(45);

/// Reads the newest state of every model.
fn states(settings: &Settings) -> Result<BTreeMap<ModelName, StateRecord>, ShellError> {
    let mut states = BTreeMap::new();
    let scanned = topic_scan::scan(settings, &settings.topic("rollouts"), None, |message| {
        let read = message.payload().map(StateRecord::read);
        if let Some(Ok(state)) = read {
            states.insert(ModelName::new(&state.model), state);
        }
    })?;
    match scanned {
        // The judge writes this topic, and reports it if it should exist.
        Scanned::ToItsEnd | Scanned::Missing => Ok(states),
    }
}

/// Reads the events into a catalog.
pub struct Follower {
    consumer: BaseConsumer<LogContext>,
    topic: String,
    /// The next offset of each partition.
    next: BTreeMap<i32, Offset>,
    ended: BTreeSet<i32>,
    /// Whether the catalog changed since the last `poll`.
    has_changed: bool,
    catalog: ModelCatalog,
}

impl Follower {
    /// Starts, and reads all events up to the current end.
    pub fn start(settings: &Settings) -> Result<Self, ShellError> {
        let topic = settings.topic("rollout-events");
        let consumer: BaseConsumer<LogContext> = settings
            .follower()
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("create the consumer of rollout events"))?;
        let metadata = consumer
            .fetch_metadata(Some(&topic), Duration::from_secs(15))
            .map_err(ShellError::kafka("look up the topic of rollout events"))?;
        let next: BTreeMap<i32, Offset> = metadata
            .topics()
            .iter()
            .flat_map(|t| t.partitions().iter().map(|p| (p.id(), Offset::Beginning)))
            .collect();
        if next.is_empty() {
            return Err(ShellError::Missing(format!(
                "topic `{topic}` does not exist; `serinus run --create-topics` creates missing topics"
            )));
        }
        let mut follower = Self {
            consumer,
            topic,
            next,
            ended: BTreeSet::new(),
            has_changed: false,
            catalog: ModelCatalog::default(),
        };
        // Read the states before the events: then no state is newer than the events read after it.
        let states = states(settings)?;
        follower.catch_up()?;
        follower.continue_from_states(settings, &states)?;
        follower.catalog.start_at_oldest_events();
        if follower.catalog.models().is_empty() {
            info!(
                topic = follower.topic,
                "no model found in events or states; apply one with `serinus apply`"
            );
        }
        Ok(follower)
    }

    /// Continues from the state records of models whose events are gone.
    fn continue_from_states(
        &mut self,
        settings: &Settings,
        states: &BTreeMap<ModelName, StateRecord>,
    ) -> Result<(), ShellError> {
        if self.catalog.are_behind(states).is_empty() {
            return Ok(());
        }
        // An event behind an open transaction is hidden, not gone.
        PartitionReader::new(settings)?.await_stable(&self.topic, SETTLE_MAX)?;
        self.catch_up()?;
        for model in self.catalog.are_behind(states) {
            if let Some(state) = states.get(&model) {
                self.catalog.continue_from(&model, state);
            }
        }
        Ok(())
    }

    /// Reads up to the current end of the topic; the next `poll` returns whether anything changed.
    pub fn catch_up(&mut self) -> Result<(), ShellError> {
        let mut list = TopicPartitionList::new();
        for (partition, next) in &self.next {
            list.add_partition_offset(&self.topic, *partition, *next)
                .map_err(ShellError::kafka("assign the topic of rollout events"))?;
        }
        // After a new assignment each partition reports its end again.
        self.consumer
            .assign(&list)
            .map_err(ShellError::kafka("assign the topic of rollout events"))?;
        self.ended.clear();
        let deadline = Deadline::after(Duration::from_mins(1));
        while !self.has_ended() {
            if deadline.is_over() {
                return Err(ShellError::Missing(format!(
                    "the end of `{}` was not reached within 60 s",
                    self.topic
                )));
            }
            self.has_changed |= self.poll(Duration::from_millis(100));
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.ended.len() == self.next.len()
    }

    /// Applies new events, waiting up to `wait` for the first one; returns whether anything changed.
    pub fn poll(&mut self, wait: Duration) -> bool {
        let mut changed = std::mem::take(&mut self.has_changed);
        let mut wait = wait;
        while let Some(result) = self.consumer.poll(wait) {
            wait = Duration::ZERO;
            match result {
                Ok(message) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let read = message.payload().map(EventRecord::read);
                    self.ended.remove(&partition);
                    self.next.insert(partition, Offset::Offset(offset + 1));
                    match read {
                        Some(Ok(event)) => changed |= self.catalog.take(event),
                        Some(Err(error)) => {
                            warn!(partition, offset, %error, "event ignored: it cannot be parsed");
                        }
                        None => {}
                    }
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    self.ended.insert(partition);
                    if self.has_ended() {
                        break;
                    }
                }
                Err(error) if is_retriable_by_role(&error) => {
                    debug!(%error, "rollout events unavailable, the client retries");
                    break;
                }
                Err(error) => {
                    warn!(%error, "rollout events unavailable");
                    break;
                }
            }
        }
        changed
    }

    /// Returns all models.
    pub fn models(&self) -> &BTreeMap<ModelName, ModelView> {
        self.catalog.models()
    }

    /// Returns one model.
    pub fn model(&self, name: &ModelName) -> Option<&ModelView> {
        self.catalog.model(name)
    }
}
