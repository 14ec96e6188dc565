//! Errors of the Kafka client, and which of them a retry can cure.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

/// A failure of a role: what it was doing, and the client's error as the source.
#[derive(Debug, Error)]
pub enum ShellError {
    #[error("failed to {doing}")]
    Kafka {
        doing: &'static str,
        #[source]
        source: KafkaError,
    },
    /// The commit failed. Whether the transaction was committed is unknown.
    #[error("failed to commit a transaction: {0}")]
    Commit(RDKafkaErrorCode),
    #[error("failed to {doing}")]
    Read {
        doing: &'static str,
        #[source]
        source: Box<ReadError>,
    },
    /// The producer's queue stayed full.
    #[error("failed to send a record to `{topic}`: the producer's queue stayed full")]
    QueueFull { topic: String },
    /// A record of ours exceeds the size limit, and nothing in it can be left out.
    #[error(
        "failed to send a record to `{topic}`: it exceeds the client's message.max.bytes or the topic's max.message.bytes"
    )]
    TooLarge { topic: String },
    /// A newer process has taken over this instance's name.
    #[error(
        "another process runs as instance `{instance}` of this application; give each its own --instance name"
    )]
    Fenced { instance: String },
    /// The group has assigned our partitions to other members.
    #[error("failed to keep the assigned partitions: the group has removed this member")]
    Lost,
    /// An open transaction hides what others have committed behind it.
    #[error(
        "an open transaction of another process hides the committed records of {topic}[{partition}]; the broker aborts the transaction \
         at its timeout, and `kafka-transactions find-hanging` lists one that the broker has lost track of"
    )]
    OpenTransaction { topic: String, partition: i32 },
    /// The broker withholds a group's committed offsets.
    #[error(
        "the broker has withheld the group's committed offsets for {for_s} s: a transaction that commits offsets is still open; the \
         broker aborts it at its timeout"
    )]
    OffsetsWithheld { for_s: u64 },
    /// Something that must exist does not; the text names it.
    #[error("{0}")]
    Missing(String),
}

impl ShellError {
    /// Returns whether an open transaction hides committed data: retrying succeeds once that transaction ends.
    pub fn awaits_transaction(&self) -> bool {
        matches!(self, Self::OpenTransaction { .. } | Self::OffsetsWithheld { .. })
    }

    /// Wraps an error of the client.
    pub fn kafka(doing: &'static str) -> impl FnOnce(KafkaError) -> Self {
        move |source| Self::Kafka { doing, source }
    }

    /// Wraps an error of a topic reader.
    pub fn read(doing: &'static str) -> impl FnOnce(ReadError) -> Self {
        move |source| Self::Read { doing, source: Box::new(source) }
    }
}

/// A failure to read or write a topic on behalf of a command. Each text completes "failed to ...".
#[derive(Debug, Error)]
pub enum ReadError {
    /// The client rejects its properties.
    #[error("set up the Kafka client")]
    Setup(#[source] KafkaError),
    #[error("reach Kafka at `{bootstrap}`")]
    Unreachable { bootstrap: String, source: KafkaError },
    #[error("find topic `{0}` in this cluster")]
    NoTopic(String),
    #[error("read topic `{topic}`")]
    Read { topic: String, source: KafkaError },
    /// No record arrived within the timeout.
    #[error("read topic `{topic}` to its end: no record arrived for {} ms", wait.as_millis())]
    Stalled { topic: String, wait: Duration },
    #[error("write to topic `{topic}`")]
    Write { topic: String, source: KafkaError },
}

impl ReadError {
    /// Returns whether the same call may succeed later without any change.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } => true,
            Self::Setup(_) | Self::NoTopic(_) => false,
            Self::Read { source, .. } | Self::Write { source, .. } => is_retriable(source),
        }
    }
}

/// Returns whether the cluster recovers from an error by itself, so that a command should retry until its timeout.
///
/// - The broker cannot be reached, or all of them are down: brokers restart.
/// - A request or a message timed out: the broker was slow.
/// - A partition has no leader, or another one: an election ends within seconds.
/// - Too few replicas are in sync: they catch up.
///
/// A command fails at once on a broker name that does not resolve and on a missing topic: most likely the
/// operator mistyped it.
pub fn is_retriable(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::MessageTimedOut
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotEnoughReplicas
                | RDKafkaErrorCode::NotEnoughReplicasAfterAppend
        )
    )
}

/// Returns whether a role keeps running after an error and lets the client retry.
///
/// Beyond `is_retriable`, a role also waits for what a command reports at once, because a role has started before
/// and runs unattended:
///
/// - A broker name does not resolve: DNS fails for a while when a cluster restarts.
/// - The group's coordinator loads or moves, or an offset commit is unstable: both end with an election or a transaction.
/// - A topic or partition is unknown: the metadata is stale, or the topic is created later.
pub fn is_retriable_by_role(error: &KafkaError) -> bool {
    is_retriable(error)
        || matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::Resolve
                    | RDKafkaErrorCode::CoordinatorLoadInProgress
                    | RDKafkaErrorCode::CoordinatorNotAvailable
                    | RDKafkaErrorCode::NotCoordinator
                    | RDKafkaErrorCode::UnstableOffsetCommit
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownPartition
            )
        )
}

/// Returns whether a broker withholds committed offsets because a transaction may still change them.
///
/// The client retries `UnstableOffsetCommit` by itself and then reports a timeout. A broker that is down times out as
/// well: reading the offsets with `read_uncommitted` then fails in turn and tells the two apart.
pub fn is_offset_withheld(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::MessageTimedOut
                | RDKafkaErrorCode::UnstableOffsetCommit
        )
    )
}
