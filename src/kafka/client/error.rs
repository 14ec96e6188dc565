//! What can go wrong between us and Kafka.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use crate::kafka::client::topic_reader::ReadError;

/// A broken world: what was being done, and what the client says.
#[derive(Debug, Error)]
pub enum ShellError {
    /// A call of the client failed.
    #[error("failed to {doing}")]
    Kafka {
        /// What was being done.
        doing: &'static str,
        /// What the client says.
        #[source]
        source: KafkaError,
    },
    /// A transaction did not end well; whether it was committed is unknown.
    #[error("failed to commit a transaction: {0}")]
    Commit(RDKafkaErrorCode),
    /// A topic could not be read.
    #[error("failed to {doing}")]
    Read {
        /// What was being done.
        doing: &'static str,
        /// What was wrong.
        #[source]
        source: Box<ReadError>,
    },
    /// The outgoing queue stayed full.
    #[error("failed to hand a record for `{topic}` to the client: its queue stayed full")]
    QueueFull {
        /// The topic.
        topic: String,
    },
    /// A record of ours does not fit into one message, and nothing can be left out of it.
    #[error(
        "failed to send a record to `{topic}`: it is larger than message.max.bytes, or than the topic's max.message.bytes"
    )]
    TooLarge {
        /// The topic.
        topic: String,
    },
    /// Someone else took our slot.
    #[error(
        "another process runs as instance `{instance}` of this application; give each its own --instance name"
    )]
    Fenced {
        /// The slot.
        instance: String,
    },
    /// The group has given our partitions to others.
    #[error("failed to keep partitions: the group heard nothing of us for too long")]
    Lost,
    /// What was committed cannot be read yet.
    #[error(
        "a transaction that another process has left open holds back what is committed in {topic}[{partition}]; the brokers end it when \
         its time is over, and one that they have forgotten is found by `kafka-transactions find-hanging`"
    )]
    Unsettled {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The brokers do not give out what a group has committed.
    #[error(
        "the group's offsets are held back by a transaction that has not ended, for {for_s} s now; the brokers end it when its time is over"
    )]
    OffsetsHeld {
        /// For how long, in seconds.
        for_s: u64,
    },
    /// Something that must be there is not.
    #[error("{0}")]
    Missing(String),
}

impl ShellError {
    /// Returns whether what was committed cannot be read yet: whoever waits finds it.
    pub fn is_hidden(&self) -> bool {
        matches!(self, Self::Unsettled { .. } | Self::OffsetsHeld { .. })
    }

    /// Wraps what the client says.
    pub fn kafka(doing: &'static str) -> impl FnOnce(KafkaError) -> Self {
        move |source| Self::Kafka { doing, source }
    }

    /// Wraps what a reader says.
    pub fn read(doing: &'static str) -> impl FnOnce(ReadError) -> Self {
        move |source| Self::Read { doing, source: Box::new(source) }
    }
}

/// Returns whether the client gets over an error by itself: brokers that are away, that start, or whose partitions move.
pub fn mends_by_itself(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnstableOffsetCommit
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}
