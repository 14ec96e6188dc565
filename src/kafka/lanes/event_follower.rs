//! Follows `rollout-events`: who serves what, at every revision, as every instance knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use crate::kafka::client::error::{ShellError, mends_by_itself};
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::client::settings::{LogContext, Settings};
use crate::kafka::client::topic_scan::{self, Scanned};
use crate::kafka::lanes::catalog::{ModelCatalog, ModelView};
use crate::kafka::process::wait::Deadline;
use crate::wire::event::EventRecord;
use crate::wire::state::StateRecord;
use serinus_core::domain::ids::ModelName;

/// How long it is waited until the brokers end what others have left open among the events.
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
        // The judge, who writes it, says so where that is wrong.
        Scanned::ToItsEnd | Scanned::Missing => Ok(states),
    }
}

/// Reads the events and keeps what they say.
pub struct Follower {
    consumer: BaseConsumer<LogContext>,
    topic: String,
    /// Of each partition, what to read next.
    next: BTreeMap<i32, Offset>,
    ended: BTreeSet<i32>,
    has_news: bool,
    known: ModelCatalog,
}

impl Follower {
    /// Reads all that was said until now.
    pub fn start(settings: &Settings) -> Result<Self, ShellError> {
        let topic = settings.topic("rollout-events");
        let consumer: BaseConsumer<LogContext> = settings
            .follower()
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("set up the follower of events"))?;
        let metadata = consumer
            .fetch_metadata(Some(&topic), Duration::from_secs(15))
            .map_err(ShellError::kafka("look up the topic of events"))?;
        let next: BTreeMap<i32, Offset> = metadata
            .topics()
            .iter()
            .flat_map(|t| t.partitions().iter().map(|p| (p.id(), Offset::Beginning)))
            .collect();
        if next.is_empty() {
            return Err(ShellError::Missing(format!(
                "topic `{topic}` does not exist; `serinus run --create-topics` makes what is missing"
            )));
        }
        let mut follower = Self {
            consumer,
            topic,
            next,
            ended: BTreeSet::new(),
            has_news: false,
            known: ModelCatalog::default(),
        };
        // Before the events: a state that is read first speaks of no event that comes later.
        let states = states(settings)?;
        follower.catch_up()?;
        follower.begin_where_states_say(settings, &states)?;
        follower.known.begin_where_it_begins();
        if follower.known.models().is_empty() {
            info!(
                topic = follower.topic,
                "no model is known: neither events nor states have a record of one; `serinus apply` makes it known"
            );
        }
        Ok(follower)
    }

    /// Takes what a state says of a model whose events are gone.
    fn begin_where_states_say(
        &mut self,
        settings: &Settings,
        states: &BTreeMap<ModelName, StateRecord>,
    ) -> Result<(), ShellError> {
        if self.known.are_behind(states).is_empty() {
            return Ok(());
        }
        // An event that is hidden is not gone.
        PartitionReader::new(settings)?.settle(&self.topic, SETTLE_MAX)?;
        self.catch_up()?;
        for model in self.known.are_behind(states) {
            if let Some(state) = states.get(&model) {
                self.known.go_on_from(&model, state);
            }
        }
        Ok(())
    }

    /// Reads to the end of the topic as it is now; `poll` then says whether anything changed.
    pub fn catch_up(&mut self) -> Result<(), ShellError> {
        let mut list = TopicPartitionList::new();
        for (partition, next) in &self.next {
            list.add_partition_offset(&self.topic, *partition, *next)
                .map_err(ShellError::kafka("assign the topic of events"))?;
        }
        // Assigned anew, each partition says anew where its end is.
        self.consumer.assign(&list).map_err(ShellError::kafka("assign the topic of events"))?;
        self.ended.clear();
        let deadline = Deadline::after(Duration::from_mins(1));
        while !self.has_ended() {
            if deadline.is_over() {
                return Err(ShellError::Missing(format!(
                    "the end of `{}` was not reached",
                    self.topic
                )));
            }
            self.has_news |= self.poll(Duration::from_millis(100));
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.ended.len() == self.next.len()
    }

    /// Reads what has come, waiting so long for the first of it; returns whether anything changed.
    pub fn poll(&mut self, wait: Duration) -> bool {
        let mut changed = std::mem::take(&mut self.has_news);
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
                        Some(Ok(event)) => changed |= self.known.take(event),
                        Some(Err(error)) => {
                            warn!(partition, offset, %error, "an event cannot be read");
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
                Err(error) if mends_by_itself(&error) => {
                    debug!(%error, "the topic of events cannot be read just now");
                    break;
                }
                Err(error) => {
                    warn!(%error, "the topic of events cannot be read");
                    break;
                }
            }
        }
        changed
    }

    /// Returns what is known of all models.
    pub fn models(&self) -> &BTreeMap<ModelName, ModelView> {
        self.known.models()
    }

    /// Returns what is known of one.
    pub fn model(&self, name: &ModelName) -> Option<&ModelView> {
        self.known.model(name)
    }
}
