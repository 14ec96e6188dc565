//! A member of a consumer group whose partitions come with companions.
//!
//! The group subscribes to one topic of a pair only; the callback assigns the same partition of the other topic along with it. So a
//! pair can never be split over two members, and no key has to agree with anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use crate::kafka::error::ShellError;
use crate::kafka::settings::{Settings, log_client_line};

/// What the group has given or taken since it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalanced {
    /// These partitions of subscribed topics are ours now.
    Assigned(Vec<(String, i32)>),
    /// These are not any more.
    Revoked(Vec<(String, i32)>),
}

#[derive(Debug, Default)]
struct Notes {
    companions: BTreeMap<String, String>,
    rebalanced: Vec<Rebalanced>,
}

/// Assigns companions along, and takes notes for the loop to act on.
#[derive(Clone, Debug, Default)]
pub struct Companions(Arc<Mutex<Notes>>);

impl Companions {
    fn with<T>(&self, f: impl FnOnce(&mut Notes) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Companions {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        log_client_line(level, fac, log_message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "librdkafka", %error, reason, "client error");
    }
}

impl ConsumerContext for Companions {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let is_assigning = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let ours: Vec<_> = partitions
            .elements()
            .iter()
            .map(|it| (it.topic().to_owned(), it.partition()))
            .collect();
        let mut all = TopicPartitionList::new();
        for (topic, partition) in &ours {
            all.add_partition(topic, *partition);
            if let Some(companion) = self.with(|it| it.companions.get(topic).cloned()) {
                all.add_partition(&companion, *partition);
            }
        }
        let is_incremental =
            matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = match (is_assigning, is_incremental) {
            (true, true) => consumer.incremental_assign(&all),
            (true, false) => consumer.assign(&all),
            (false, true) => consumer.incremental_unassign(&all),
            (false, false) => consumer.unassign(),
        };
        if let Err(error) = done {
            warn!(%error, is_assigning, "the group's change of partitions failed");
        }
        let note =
            if is_assigning { Rebalanced::Assigned(ours) } else { Rebalanced::Revoked(ours) };
        self.with(|it| it.rebalanced.push(note));
    }
}

/// A member of a consumer group.
pub struct Member {
    consumer: BaseConsumer<Companions>,
    companions: Companions,
    subscribed: Vec<String>,
}

impl Member {
    /// Joins nothing yet.
    pub fn new(settings: &Settings, group: &str, slot: Option<&str>) -> Result<Self, ShellError> {
        let companions = Companions::default();
        let mut config = settings.consumer(group);
        config.set("partition.assignment.strategy", "cooperative-sticky");
        if let Some(slot) = slot {
            config.set("group.instance.id", slot);
        }
        let consumer = config
            .create_with_context(companions.clone())
            .map_err(ShellError::kafka("set up the consumer"))?;
        Ok(Self { consumer, companions, subscribed: Vec::new() })
    }

    /// Subscribes to these topics, each with its companion if it has one.
    pub fn subscribe(
        &mut self,
        topics: &BTreeMap<String, Option<String>>,
    ) -> Result<(), ShellError> {
        let names: Vec<String> = topics.keys().cloned().collect();
        let pairs =
            topics.iter().filter_map(|(topic, it)| Some((topic.clone(), it.clone()?))).collect();
        self.companions.with(|it| it.companions = pairs);
        if names == self.subscribed || names.is_empty() {
            return Ok(());
        }
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        self.consumer.subscribe(&refs).map_err(ShellError::kafka("subscribe"))?;
        info!(topics = names.join(", "), "subscribed");
        self.subscribed = names;
        Ok(())
    }

    /// Waits for a record.
    pub fn poll(&self, wait: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.consumer.poll(wait)
    }

    /// Returns what the group has given and taken, in order.
    pub fn rebalanced(&self) -> Vec<Rebalanced> {
        self.companions.with(|it| std::mem::take(&mut it.rebalanced))
    }

    /// Returns the group's metadata, with which offsets are fenced.
    pub fn metadata(&self) -> Result<ConsumerGroupMetadata, ShellError> {
        self.consumer
            .group_metadata()
            .ok_or_else(|| ShellError::Missing("the consumer has no group metadata".to_owned()))
    }

    /// Returns the committed offset and its metadata of each of these partitions; nothing where none was committed.
    pub fn committed(
        &self,
        partitions: &[(&str, i32)],
    ) -> Result<Vec<Option<(i64, String)>>, ShellError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition(topic, *partition);
        }
        let found = self
            .consumer
            .committed_offsets(list, Duration::from_secs(20))
            .map_err(ShellError::kafka("read the committed offsets"))?;
        Ok(partitions
            .iter()
            .map(|(topic, partition)| {
                let it = found.find_partition(topic, *partition)?;
                match it.offset() {
                    Offset::Offset(offset) => Some((offset, it.metadata().to_owned())),
                    Offset::Beginning
                    | Offset::End
                    | Offset::Stored
                    | Offset::Invalid
                    | Offset::OffsetTail(_) => None,
                }
            })
            .collect())
    }

    /// Stops or resumes reading of one partition.
    pub fn pause(&self, topic: &str, partition: i32, is_paused: bool) -> Result<(), ShellError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        if is_paused {
            self.consumer.pause(&list).map_err(ShellError::kafka("pause a partition"))
        } else {
            self.consumer.resume(&list).map_err(ShellError::kafka("resume a partition"))
        }
    }
}
