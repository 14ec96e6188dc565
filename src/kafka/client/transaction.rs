//! One transaction at a time: produces records and commits consumed offsets atomically.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{Producer, ThreadedProducer};
use tracing::debug;

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::ffi;
use crate::kafka::client::outgoing::{Outgoing, RECORD_OVERHEAD_BYTES};
use crate::kafka::client::settings::{BATCH_BYTES, Settings};
use crate::kafka::process::clock;
use crate::kafka::process::failpoints::{self, Failpoint};
use crate::kafka::process::liveness::{Activity, Heartbeat};
use crate::kafka::process::wait::Deadline;
use serinus_core::domain::time::Timestamp;

/// Minimum time between two commits. The client backs off for 100 ms if a transaction begins within a
/// few milliseconds of the last commit.
const COMMIT_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Maximum age of a transaction under load, and maximum delay of the next commit after a slow one.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_millis(100);
/// Upper bound of the timeout of each call of the client; see `commit_timeout`.
const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(15);
/// Timeout of fencing the previous owner of the transactional id.
const FENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of aborting a transaction when a role ends.
const ABORT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of a metadata request.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which the producer's queue may stay full.
const QUEUE_FULL_MAX: Duration = Duration::from_secs(10);
/// Memory for copies of the records of the open transaction. A larger transaction is not retried; its
/// role restarts.
const COPIES_BYTES_MAX: usize = 16 << 20;
/// Pauses before each retry of a transaction, so that the client can learn the group's next generation.
const RETRY_PAUSES: [Duration; 6] = [
    Duration::from_millis(0),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];
/// The client closes an idle connection up to this much earlier than configured.
const IDLE_JITTER_MS: u64 = 2_000;
const SEND_OFFSETS: &str = "send offsets to the transaction";
const LOOK_UP: &str = "look up the partition count of a topic";

/// Whether a record fitted into one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a record that was not sent must be handled"]
pub enum Sent {
    Sent,
    /// The record exceeds the client's `message.max.bytes` or the topic's `max.message.bytes` and was not sent. The
    /// transaction stays open.
    TooLarge,
}

/// A copy of a sent record, for a retry of its transaction.
struct RecordCopy {
    topic: String,
    partition: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Option<OwnedHeaders>,
    at: Option<Timestamp>,
}

/// Copies of the records of the open transaction. Once they exceed their bound they are dropped, and the transaction
/// cannot be retried.
#[derive(Default)]
struct Copies {
    records: Vec<RecordCopy>,
    bytes: usize,
    is_over_bound: bool,
}

/// A transactional producer and its open transaction, if any.
pub struct TransactionalProducer {
    settings: Settings,
    transactional_id: String,
    /// Maximum size of a batch.
    batch_bytes: usize,
    /// Topics whose size limit is below the client's.
    topic_limits: BTreeMap<String, usize>,
    producer: ThreadedProducer<LogContext>,
    opened_at: Option<Instant>,
    committed_at: Instant,
    /// Age at which a transaction is committed while more input is waiting.
    interval: Duration,
    /// Minimum and current time between commits while no input is waiting.
    idle_interval_min: Duration,
    idle_interval: Duration,
    call_timeout: Duration,
    copies: Copies,
    heartbeat: Heartbeat,
}

impl TransactionalProducer {
    /// Creates a producer and fences the previous owner of its transactional id.
    pub fn fence(
        settings: &Settings,
        transactional_id: &str,
        heartbeat: Heartbeat,
    ) -> Result<Self, ShellError> {
        Self::fence_within(settings, transactional_id, heartbeat, None)
    }

    fn fence_within(
        settings: &Settings,
        transactional_id: &str,
        heartbeat: Heartbeat,
        limit: Option<usize>,
    ) -> Result<Self, ShellError> {
        failpoints::at(heartbeat.role, Failpoint::BeforeFence);
        heartbeat.report(Activity::Calling("fence the previous owner"));
        let config = settings.transactional_within(transactional_id, limit);
        let producer: ThreadedProducer<LogContext> = config
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("set up the transactional producer"))?;
        producer
            .init_transactions(FENCE_TIMEOUT)
            .map_err(ShellError::kafka("fence the previous owner of a transactional id"))?;
        failpoints::at(heartbeat.role, Failpoint::AfterFence);
        let (committed_at, call_timeout) = (clock::moment(), commit_timeout(&config));
        Ok(Self {
            settings: settings.clone(),
            transactional_id: transactional_id.to_owned(),
            batch_bytes: limit.unwrap_or(BATCH_BYTES),
            topic_limits: BTreeMap::new(),
            producer,
            opened_at: None,
            committed_at,
            interval: COMMIT_INTERVAL_MIN,
            idle_interval_min: COMMIT_INTERVAL_MIN,
            idle_interval: COMMIT_INTERVAL_MIN,
            call_timeout,
            copies: Copies::default(),
            heartbeat,
        })
    }

    /// Sets the minimum time between commits while no input is waiting. Each commit costs the brokers a control
    /// record in every partition that the transaction touches.
    #[must_use = "returns the changed producer"]
    pub fn with_min_commit_interval(self, interval: Duration) -> Self {
        Self { idle_interval_min: interval, idle_interval: interval, ..self }
    }

    /// Returns whether `set_topic_limits` would replace the producer, for which no transaction may be open.
    pub fn exceeds_any(&self, limits: &BTreeMap<String, usize>) -> bool {
        limits.values().any(|limit| *limit < self.batch_bytes)
    }

    /// Limits records and batches to what their topics accept. If batches were allowed to be larger so far, a new
    /// producer with the same transactional id replaces the current one.
    pub fn set_topic_limits(&mut self, limits: BTreeMap<String, usize>) -> Result<(), ShellError> {
        let least = limits.values().copied().min();
        if let Some(least) = least.filter(|least| *least < self.batch_bytes) {
            debug_assert!(!self.is_open(), "the transaction must be committed first");
            let heartbeat = self.heartbeat.clone();
            let new =
                Self::fence_within(&self.settings, &self.transactional_id, heartbeat, Some(least))?;
            let (idle_interval_min, idle_interval) = (self.idle_interval_min, self.idle_interval);
            *self = Self { idle_interval_min, idle_interval, ..new };
        }
        let client = self.settings.record_bytes_max().saturating_add(RECORD_OVERHEAD_BYTES);
        self.topic_limits = limits;
        self.topic_limits.retain(|_, limit| *limit < client);
        Ok(())
    }

    /// Returns the maximum size of a record in a topic, in bytes.
    pub fn record_bytes_max(&self, topic: &str) -> usize {
        let client = self.settings.record_bytes_max();
        self.topic_limits
            .get(topic)
            .map_or(client, |limit| client.min(limit.saturating_sub(RECORD_OVERHEAD_BYTES)))
    }

    /// Returns the current partition count of a topic, or 0 if it does not exist.
    ///
    /// # Errors
    ///
    /// The brokers do not answer. A guess would place records where no consumer looks for them.
    pub fn partitions(&self, topic: &str) -> Result<i32, ShellError> {
        let found = self
            .producer
            .client()
            .fetch_metadata(Some(topic), METADATA_TIMEOUT)
            .map_err(ShellError::kafka(LOOK_UP))?;
        let Some(topic) = found.topics().first() else { return Ok(0) };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => Ok(i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)),
            Some(code @ RDKafkaErrorCode::LeaderNotAvailable) => {
                Err(ShellError::kafka(LOOK_UP)(KafkaError::MetadataFetch(code)))
            }
            Some(_) => Ok(0),
        }
    }

    pub fn is_open(&self) -> bool {
        self.opened_at.is_some()
    }

    /// Opens a transaction unless one is open. A turn that only moves offsets needs one too.
    pub fn open(&mut self) -> Result<(), ShellError> {
        if self.opened_at.is_none() {
            self.producer.begin_transaction().map_err(ShellError::kafka("begin a transaction"))?;
            self.opened_at = Some(clock::moment());
            failpoints::at(self.heartbeat.role, Failpoint::AfterBegin);
        }
        Ok(())
    }

    /// Sends a record whose size is bounded.
    pub fn send(&mut self, outgoing: Outgoing<'_>) -> Result<(), ShellError> {
        match self.offer(outgoing)? {
            Sent::Sent => Ok(()),
            Sent::TooLarge => Err(ShellError::TooLarge { topic: outgoing.topic.to_owned() }),
        }
    }

    /// Sends a record if it fits into one message.
    ///
    /// A record that carries bytes of another record may not fit although a broker accepted those bytes: headers and
    /// encoding add to them. An error would recur after every restart, so this is not one.
    pub fn offer(&mut self, outgoing: Outgoing<'_>) -> Result<Sent, ShellError> {
        self.open()?;
        if self.topic_limits.get(outgoing.topic).is_some_and(|limit| outgoing.bytes() > *limit) {
            return Ok(Sent::TooLarge);
        }
        let headers = outgoing.owned_headers();
        let sent = self.put(&outgoing, headers.as_ref())?;
        if sent == Sent::Sent {
            self.copies.add(&outgoing, headers);
        }
        Ok(sent)
    }

    fn put(
        &self,
        outgoing: &Outgoing<'_>,
        headers: Option<&OwnedHeaders>,
    ) -> Result<Sent, ShellError> {
        let mut deadline = None;
        loop {
            match self.producer.send(outgoing.record_with(headers.cloned(), ())) {
                Ok(()) => {
                    failpoints::at(self.heartbeat.role, Failpoint::AfterSend);
                    return Ok(Sent::Sent);
                }
                // The client checks the size before it queues the record.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                    return Ok(Sent::TooLarge);
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    let deadline = *deadline.get_or_insert_with(|| Deadline::after(QUEUE_FULL_MAX));
                    if deadline.is_over() {
                        return Err(ShellError::QueueFull { topic: outgoing.topic.to_owned() });
                    }
                    // The producer's own thread drains the queue; `flush` waits for it without spinning.
                    match self.producer.flush(Duration::from_millis(50)) {
                        Ok(()) | Err(_) => {}
                    }
                }
                Err((source, _)) => {
                    return Err(ShellError::Kafka { doing: "send a record", source });
                }
            }
        }
    }

    /// Returns whether to commit now. If `is_drained`, no input is waiting, and only the minimum time between commits
    /// counts; otherwise the age of the transaction does.
    pub fn is_due(&self, is_drained: bool) -> bool {
        let Some(opened_at) = self.opened_at else { return false };
        if is_drained {
            self.committed_at.elapsed() >= self.idle_interval
        } else {
            opened_at.elapsed() >= self.interval
        }
    }

    /// Returns the time until the open transaction may be committed while no input is waiting.
    pub fn due_in(&self) -> Option<Duration> {
        self.opened_at.map(|_| self.idle_interval.saturating_sub(self.committed_at.elapsed()))
    }

    /// Commits records and offsets atomically. `group` returns the group's current metadata.
    ///
    /// A group that has moved to its next generation rejects the offsets. Our partitions stay ours until we release
    /// them, so the transaction is aborted and retried with the new generation. A member that lost its partitions
    /// cannot obtain a new generation within this call: it must first process the loss.
    ///
    /// # Errors
    ///
    /// The outcome is unknown after any error: the caller must drop this producer, create a new one, and resume from
    /// the committed offsets.
    pub fn commit(
        &mut self,
        offsets: &TopicPartitionList,
        group: impl Fn() -> Result<ConsumerGroupMetadata, ShellError>,
    ) -> Result<(), ShellError> {
        let began = clock::moment();
        let mut pauses = RETRY_PAUSES.into_iter();
        while offsets.count() > 0 {
            // Flush before a retry: aborting with records in flight leaves gaps in the producer's
            // sequence numbers.
            self.heartbeat.report(Activity::Calling("deliver records"));
            ffi::flush(&self.producer, self.call_timeout);
            failpoints::at(self.heartbeat.role, Failpoint::BeforeOffsets);
            self.heartbeat.report(Activity::Calling(SEND_OFFSETS));
            let sent =
                self.producer.send_offsets_to_transaction(offsets, &group()?, self.call_timeout);
            let Err(error) = sent else {
                failpoints::at(self.heartbeat.role, Failpoint::AfterOffsets);
                break;
            };
            match pauses.next() {
                Some(pause) if is_generation_changed(&error) && !self.copies.is_over_bound => {
                    debug!(%error, "retrying the transaction with the new group generation");
                    self.retry_in_new_transaction(pause)?;
                }
                Some(_) | None => return Err(ShellError::kafka(SEND_OFFSETS)(error)),
            }
        }
        failpoints::at(self.heartbeat.role, Failpoint::BeforeCommit);
        self.heartbeat.report(Activity::Calling("commit"));
        ffi::commit(&self.producer, self.call_timeout).map_err(ShellError::Commit)?;
        failpoints::at(self.heartbeat.role, Failpoint::AfterCommit);
        self.opened_at = None;
        self.copies.clear();
        self.committed_at = clock::moment();
        // Slow brokers get fewer transactions: commits take at most a fifth of the time under load and
        // two thirds of it while no input is waiting.
        self.interval = (began.elapsed() * 4).clamp(COMMIT_INTERVAL_MIN, COMMIT_INTERVAL_MAX);
        self.idle_interval = (began.elapsed() / 2)
            .clamp(self.idle_interval_min, COMMIT_INTERVAL_MAX.max(self.idle_interval_min));
        Ok(())
    }

    /// Aborts the open transaction and sends its records again in a new one.
    fn retry_in_new_transaction(&mut self, pause: Duration) -> Result<(), ShellError> {
        self.heartbeat.report(Activity::Calling("abort"));
        self.producer
            .abort_transaction(self.call_timeout)
            .map_err(ShellError::kafka("abort a transaction"))?;
        self.opened_at = None;
        thread::park_timeout(pause);
        self.open()?;
        for copy in &self.copies.records {
            let sent = self.put(&copy.outgoing(), copy.headers.as_ref())?;
            debug_assert_eq!(sent, Sent::Sent, "the record fitted in the first attempt");
        }
        Ok(())
    }

    /// Aborts the open transaction, which would otherwise block readers until its timeout.
    pub fn abandon(self) {
        self.heartbeat.report(Activity::Calling("abort"));
        if self.is_open()
            && let Err(error) = self.producer.abort_transaction(ABORT_TIMEOUT)
        {
            debug!(%error, "transaction not aborted: the broker aborts it at its timeout");
        }
    }
}

impl Copies {
    fn add(&mut self, outgoing: &Outgoing<'_>, headers: Option<OwnedHeaders>) {
        let length = |o: Option<&[u8]>| o.map_or(0, <[u8]>::len);
        self.bytes += length(outgoing.key) + length(outgoing.value);
        self.is_over_bound |= self.bytes > COPIES_BYTES_MAX;
        if self.is_over_bound {
            self.records = Vec::new();
            return;
        }
        self.records.push(RecordCopy {
            topic: outgoing.topic.to_owned(),
            partition: outgoing.partition,
            key: outgoing.key.map(<[u8]>::to_vec),
            value: outgoing.value.map(<[u8]>::to_vec),
            headers,
            at: outgoing.at,
        });
    }

    fn clear(&mut self) {
        self.records.clear();
        (self.bytes, self.is_over_bound) = (0, false);
    }
}

impl RecordCopy {
    /// Returns the record without its headers, which are kept in the client's type.
    fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            passthrough: &[],
            headers: &[],
            at: self.at,
        }
    }
}

/// Returns whether the group rejected offsets because its generation has changed. Only this transaction must be aborted.
fn is_generation_changed(error: &KafkaError) -> bool {
    let KafkaError::Transaction(error) = error else { return false };
    let codes = [RDKafkaErrorCode::IllegalGeneration, RDKafkaErrorCode::RebalanceInProgress];
    error.txn_requires_abort() && codes.contains(&error.code())
}

/// Returns the commit timeout, which must be shorter than the client's own retry interval.
///
/// A broker tells the requests of successive transactions apart only by the producer's epoch. Suppose the client
/// retried its request to commit, got an answer, and began the next transaction: the first request, still in flight,
/// would then commit part of that transaction. After this timeout the role therefore restarts with a new epoch.
fn commit_timeout(config: &ClientConfig) -> Duration {
    let ms = |key: &str| config.get(key).and_then(|k| k.parse::<u64>().ok());
    // The client's default.
    let default = || ms("transaction.timeout.ms").map(|m| m.saturating_sub(100));
    let request_timeout = ms("socket.timeout.ms").or_else(default);
    // A connection that waits for a response counts as idle. 0 disables the limit.
    let idle_close =
        ms("connections.max.idle.ms").filter(|m| *m > 0).map(|i| i.saturating_sub(IDLE_JITTER_MS));
    let retry_after = request_timeout.into_iter().chain(idle_close).min();
    retry_after
        .map_or(CALL_TIMEOUT_MAX, |ms| CALL_TIMEOUT_MAX.min(Duration::from_millis(ms / 10 * 9)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::commit_timeout;
    use crate::kafka::client::settings::Settings;

    #[test]
    fn a_commit_times_out_before_the_client_retries_it() {
        let check = |overrides: &[(&str, &str)], expected_ms: u64| {
            let mut settings = Settings::new("localhost:9092", "serinus");
            settings.overrides =
                overrides.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            let found = commit_timeout(&settings.transactional("t"));
            assert_eq!(found, Duration::from_millis(expected_ms), "{overrides:?}");
        };
        check(&[], 8_910);
        check(&[("transaction.timeout.ms", "5000")], 4_410);
        check(&[("transaction.timeout.ms", "60000")], 9_000);
        check(&[("transaction.timeout.ms", "60000"), ("connections.max.idle.ms", "0")], 15_000);
        check(&[("connections.max.idle.ms", "5000")], 2_700);
        check(&[("transaction.timeout.ms", "60000"), ("socket.timeout.ms", "1000")], 900);
    }
}
