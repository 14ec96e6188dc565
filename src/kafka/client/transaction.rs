//! One transaction at a time: records out, offsets in, committed together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::util::IntoOpaque;
use tracing::debug;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::ffi::{commit, flush};
use crate::kafka::client::settings::{BATCH_BYTES, Settings, log_client_line};
use crate::kafka::process::clock;
use crate::kafka::process::failpoints::{self, Failpoint};
use crate::kafka::process::liveness::{Activity, Heartbeat};
use crate::kafka::process::wait::Deadline;
use serinus_core::domain::record::Header;
use serinus_core::domain::time::Timestamp;

/// A transaction begun within a few ms of the last commit makes the client back off for 100 ms.
const GAP_MIN: Duration = Duration::from_millis(10);
/// Under load a transaction may grow to this, and as long may be waited before the next one is committed.
const INTERVAL_MAX: Duration = Duration::from_millis(100);
/// No call of the client may take longer than this; see `patience`.
const CALL_MAX: Duration = Duration::from_secs(15);
/// What a batch adds to its only record: its own header, and the lengths of the record's parts.
const RECORD_BYTES: usize = 110;
/// How long the client's queue may stay full.
const QUEUE_MAX: Duration = Duration::from_secs(10);
/// So much of the open transaction is kept to be sent again; a larger one is not made again, and its role begins anew.
const COPIES_BYTES_MAX: usize = 16 << 20;
/// How long it is waited before a transaction is made again: the client hears of the group's next generation in between.
const REDO_AFTER: [Duration; 6] = [
    Duration::from_millis(0),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];
/// By so much the client closes idle connections earlier than it is told, so that not all go at once.
const IDLE_JITTER_MS: u64 = 2_000;
const SEND_OFFSETS: &str = "send offsets to the transaction";
const LOOK_UP: &str = "look up how many partitions a topic has";

/// Passes the client's log on; a failed delivery fails the commit, so that reports are not needed.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutboxContext;

impl ClientContext for OutboxContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        log_client_line(level, fac, log_message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "librdkafka", %error, reason, "client error");
    }
}

impl ProducerContext for OutboxContext {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// A record to send, with its place.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// Headers that travel on.
    pub carried: &'a [Header],
    /// Headers of ours.
    pub ours: &'a [(&'a str, &'a str)],
    /// The record's time; without one, now.
    pub at: Option<Timestamp>,
}

impl Outgoing<'_> {
    /// Returns how large a batch of this record alone is at most, before it is compressed.
    pub fn bytes(&self) -> usize {
        let of = |o: Option<&[u8]>| o.map_or(0, <[u8]>::len);
        let carried: usize =
            self.carried.iter().map(|c| c.name.len() + of(c.value.as_deref()) + 10).sum();
        let ours: usize = self.ours.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
        of(self.key) + of(self.value) + carried + ours + RECORD_BYTES
    }
}

/// Whether a record fitted into one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was not sent must not vanish"]
pub enum Sent {
    /// It was sent.
    Sent,
    /// It is larger than the client's `message.max.bytes` or the topic's `max.message.bytes`, and was not sent; the transaction goes on.
    TooLarge,
}

/// A record that was sent, to be sent again.
struct Kept {
    topic: String,
    partition: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Option<OwnedHeaders>,
    at: Option<Timestamp>,
}

/// What stands in the open transaction, as long as that is not too much: then it cannot be done again.
#[derive(Default)]
struct Copies {
    records: Vec<Kept>,
    bytes: usize,
    is_partial: bool,
}

/// A transactional producer and the state of its transaction.
pub struct TransactionalProducer {
    settings: Settings,
    transactional_id: String,
    /// How large a batch may be; and the topics that take only smaller records than the client does.
    batch_bytes: usize,
    narrow: BTreeMap<String, usize>,
    producer: ThreadedProducer<OutboxContext>,
    opened_at: Option<Instant>,
    committed_at: Instant,
    interval: Duration,
    gap_min: Duration,
    gap: Duration,
    patience: Duration,
    copies: Copies,
    beat: Heartbeat,
}

impl TransactionalProducer {
    /// Makes a producer and fences off whoever had its transactional id before.
    pub fn fence(
        settings: &Settings,
        transactional_id: &str,
        beat: Heartbeat,
    ) -> Result<Self, ShellError> {
        Self::fence_within(settings, transactional_id, beat, None)
    }

    fn fence_within(
        settings: &Settings,
        transactional_id: &str,
        beat: Heartbeat,
        limit: Option<usize>,
    ) -> Result<Self, ShellError> {
        failpoints::at(beat.role, Failpoint::BeforeFence);
        beat.is(Activity::Calling("fence the slot"));
        let config = settings.transactional_within(transactional_id, limit);
        let producer: ThreadedProducer<OutboxContext> =
            config
                .create_with_context(OutboxContext)
                .map_err(ShellError::kafka("set up the transactional producer"))?;
        producer
            .init_transactions(Duration::from_secs(30))
            .map_err(ShellError::kafka("fence the slot"))?;
        failpoints::at(beat.role, Failpoint::AfterFence);
        let (committed_at, patience) = (clock::moment(), patience(&config));
        Ok(Self {
            settings: settings.clone(),
            transactional_id: transactional_id.to_owned(),
            batch_bytes: limit.unwrap_or(BATCH_BYTES),
            narrow: BTreeMap::new(),
            producer,
            opened_at: None,
            committed_at,
            interval: GAP_MIN,
            gap_min: GAP_MIN,
            gap: GAP_MIN,
            patience,
            copies: Copies::default(),
            beat,
        })
    }

    /// Where nothing more is there to read, commits no sooner than this after the last commit: each one costs the brokers a record in
    /// every partition that it touches.
    #[must_use = "it is another outbox then"]
    pub fn with_min_commit_interval(self, gap: Duration) -> Self {
        Self { gap_min: gap, gap, ..self }
    }

    /// Returns whether `keep_within` would have to make a new producer, for which no transaction may be open.
    pub fn is_too_wide(&self, limits: &BTreeMap<String, usize>) -> bool {
        limits.values().any(|limit| *limit < self.batch_bytes)
    }

    /// Keeps records, and batches of them, within the limits of their topics; where batches have been larger, by a new producer of the
    /// same slot.
    pub fn keep_within(&mut self, limits: BTreeMap<String, usize>) -> Result<(), ShellError> {
        let least = limits.values().copied().min();
        if let Some(least) = least.filter(|least| *least < self.batch_bytes) {
            debug_assert!(!self.is_open(), "its transaction is committed first");
            let beat = self.beat.clone();
            let new =
                Self::fence_within(&self.settings, &self.transactional_id, beat, Some(least))?;
            let (gap_min, gap) = (self.gap_min, self.gap);
            *self = Self { gap_min, gap, ..new };
        }
        let client = self.settings.record_bytes_max().saturating_add(RECORD_BYTES);
        self.narrow = limits;
        self.narrow.retain(|_, limit| *limit < client);
        Ok(())
    }

    /// Returns how large a record of a topic may be.
    pub fn record_bytes_max(&self, topic: &str) -> usize {
        let client = self.settings.record_bytes_max();
        self.narrow
            .get(topic)
            .map_or(client, |limit| client.min(limit.saturating_sub(RECORD_BYTES)))
    }

    /// Returns how many partitions a topic has now, 0 where it is not there.
    ///
    /// # Errors
    ///
    /// When the brokers do not say: a guess would put records where nobody looks for them.
    pub fn partitions(&self, topic: &str) -> Result<i32, ShellError> {
        let found = self
            .producer
            .client()
            .fetch_metadata(Some(topic), Duration::from_secs(5))
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

    /// Returns whether a transaction is open.
    pub fn is_open(&self) -> bool {
        self.opened_at.is_some()
    }

    /// Opens a transaction unless one is open: also a turn that only moves offsets needs one.
    pub fn open(&mut self) -> Result<(), ShellError> {
        if self.opened_at.is_none() {
            self.producer.begin_transaction().map_err(ShellError::kafka("begin a transaction"))?;
            self.opened_at = Some(clock::moment());
            failpoints::at(self.beat.role, Failpoint::AfterBegin);
        }
        Ok(())
    }

    /// Puts a record of a bounded size into the transaction.
    pub fn send(&mut self, outgoing: Outgoing<'_>) -> Result<(), ShellError> {
        match self.offer(outgoing)? {
            Sent::Sent => Ok(()),
            Sent::TooLarge => Err(ShellError::TooLarge { topic: outgoing.topic.to_owned() }),
        }
    }

    /// Puts a record into the transaction if it fits into one message.
    ///
    /// Whatever carries bytes of others may not fit, although the broker took those bytes: headers and encodings come on top. Failing
    /// for that would fail again after every restart.
    pub fn offer(&mut self, outgoing: Outgoing<'_>) -> Result<Sent, ShellError> {
        self.open()?;
        if self.narrow.get(outgoing.topic).is_some_and(|limit| outgoing.bytes() > *limit) {
            return Ok(Sent::TooLarge);
        }
        let headers = headers(&outgoing);
        let fit = self.put(&outgoing, headers.as_ref())?;
        if fit == Sent::Sent {
            self.copies.keep(&outgoing, headers);
        }
        Ok(fit)
    }

    fn put(
        &self,
        outgoing: &Outgoing<'_>,
        headers: Option<&OwnedHeaders>,
    ) -> Result<Sent, ShellError> {
        let mut deadline = None;
        loop {
            match self.producer.send(with_headers(outgoing, headers.cloned(), ())) {
                Ok(()) => {
                    failpoints::at(self.beat.role, Failpoint::AfterSend);
                    return Ok(Sent::Sent);
                }
                // The client looks at the size before it queues anything.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                    return Ok(Sent::TooLarge);
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    let deadline = *deadline.get_or_insert_with(|| Deadline::after(QUEUE_MAX));
                    if deadline.is_over() {
                        return Err(ShellError::QueueFull { topic: outgoing.topic.to_owned() });
                    }
                    // The producer's own thread drains the queue; flushing waits for it without spinning.
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

    /// Returns whether it is time to commit: at once when nothing more is there to read, else when the transaction is old enough.
    pub fn is_due(&self, is_drained: bool) -> bool {
        let Some(opened_at) = self.opened_at else { return false };
        if is_drained {
            self.committed_at.elapsed() >= self.gap
        } else {
            opened_at.elapsed() >= self.interval
        }
    }

    /// Returns how long until a drained transaction may be committed; nothing without one.
    pub fn due_in(&self) -> Option<Duration> {
        self.opened_at.map(|_| self.gap.saturating_sub(self.committed_at.elapsed()))
    }

    /// Commits records and offsets together; `group` tells what the group is now.
    ///
    /// A group that has moved on to its next generation in between refuses the offsets, and what is ours stays ours until we give it up:
    /// so the transaction is aborted, and the same one is made again. A member that lost its partitions cannot come by a new generation
    /// before it has heard so, which it does not within this call.
    ///
    /// Whatever goes wrong, the outcome counts as unknown: the caller drops this outbox, makes a new one, and goes back to the
    /// committed offsets.
    pub fn commit(
        &mut self,
        offsets: &TopicPartitionList,
        group: impl Fn() -> Result<ConsumerGroupMetadata, ShellError>,
    ) -> Result<(), ShellError> {
        let began = clock::moment();
        let mut pauses = REDO_AFTER.into_iter();
        while offsets.count() > 0 {
            // A transaction cannot be made again whose records are still under way: throwing those away leaves gaps in their numbers.
            self.beat.is(Activity::Calling("deliver records"));
            flush(&self.producer, self.patience);
            failpoints::at(self.beat.role, Failpoint::BeforeOffsets);
            self.beat.is(Activity::Calling(SEND_OFFSETS));
            let sent = self.producer.send_offsets_to_transaction(offsets, &group()?, self.patience);
            let Err(error) = sent else {
                failpoints::at(self.beat.role, Failpoint::AfterOffsets);
                break;
            };
            match pauses.next() {
                Some(pause) if is_of_another_generation(&error) && !self.copies.is_partial => {
                    debug!(%error, "the transaction is made again");
                    self.retry_in_new_transaction(pause)?;
                }
                Some(_) | None => return Err(ShellError::kafka(SEND_OFFSETS)(error)),
            }
        }
        failpoints::at(self.beat.role, Failpoint::BeforeCommit);
        self.beat.is(Activity::Calling("commit"));
        commit(&self.producer, self.patience).map_err(ShellError::Commit)?;
        failpoints::at(self.beat.role, Failpoint::AfterCommit);
        self.opened_at = None;
        self.copies.clear();
        self.committed_at = clock::moment();
        // Committing may take a fifth of the time, and where nothing more is there to read two thirds of it: slow brokers get fewer transactions.
        self.interval = (began.elapsed() * 4).clamp(GAP_MIN, INTERVAL_MAX);
        self.gap = (began.elapsed() / 2).clamp(self.gap_min, INTERVAL_MAX.max(self.gap_min));
        Ok(())
    }

    /// Aborts the open transaction and puts the same records into a new one.
    fn retry_in_new_transaction(&mut self, pause: Duration) -> Result<(), ShellError> {
        self.beat.is(Activity::Calling("abort"));
        self.producer
            .abort_transaction(self.patience)
            .map_err(ShellError::kafka("abort a transaction"))?;
        self.opened_at = None;
        thread::park_timeout(pause);
        self.open()?;
        for it in &self.copies.records {
            let fit = self.put(&it.outgoing(), it.headers.as_ref())?;
            debug_assert_eq!(fit, Sent::Sent, "it fitted before");
        }
        Ok(())
    }

    /// Throws the open transaction away, so that its records do not hold readers up until it times out.
    pub fn abandon(self) {
        self.beat.is(Activity::Calling("abort"));
        if self.is_open()
            && let Err(error) = self.producer.abort_transaction(Duration::from_secs(2))
        {
            debug!(%error, "the transaction is left to time out");
        }
    }
}

impl Copies {
    fn keep(&mut self, outgoing: &Outgoing<'_>, headers: Option<OwnedHeaders>) {
        let length = |o: Option<&[u8]>| o.map_or(0, <[u8]>::len);
        self.bytes += length(outgoing.key) + length(outgoing.value);
        self.is_partial |= self.bytes > COPIES_BYTES_MAX;
        if self.is_partial {
            self.records = Vec::new();
            return;
        }
        self.records.push(Kept {
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
        (self.bytes, self.is_partial) = (0, false);
    }
}

impl Kept {
    /// The record without its headers, which are there already made.
    fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            carried: &[],
            ours: &[],
            at: self.at,
        }
    }
}

/// Returns whether offsets were refused because the group has moved on, which ends no transaction but this one.
fn is_of_another_generation(error: &KafkaError) -> bool {
    let KafkaError::Transaction(error) = error else { return false };
    let codes = [RDKafkaErrorCode::IllegalGeneration, RDKafkaErrorCode::RebalanceInProgress];
    error.txn_requires_abort() && codes.contains(&error.code())
}

/// Returns how long the end of a transaction is waited for: not as long as the client waits before it asks for it a second time.
///
/// A broker tells the requests of one transaction from those of the next by the producer's epoch alone. Were the client to ask again,
/// hear that the transaction was committed, and begin the next, then the first request, still under way, would commit a part of that.
/// So who waits in vain begins anew, with a new epoch.
fn patience(config: &ClientConfig) -> Duration {
    let ms = |key: &str| config.get(key).and_then(|k| k.parse::<u64>().ok());
    // What the client takes where it is not told.
    let by_default = || ms("transaction.timeout.ms").map(|m| m.saturating_sub(100));
    let times_out = ms("socket.timeout.ms").or_else(by_default);
    // Who waits for an answer counts as idle; 0 is never.
    let is_cut =
        ms("connections.max.idle.ms").filter(|m| *m > 0).map(|i| i.saturating_sub(IDLE_JITTER_MS));
    let asks_again = times_out.into_iter().chain(is_cut).min();
    asks_again.map_or(CALL_MAX, |a| CALL_MAX.min(Duration::from_millis(a / 10 * 9)))
}

/// Makes the client's record of it.
pub(crate) fn record<'a, D: IntoOpaque>(
    outgoing: &Outgoing<'a>,
    opaque: D,
) -> BaseRecord<'a, [u8], [u8], D> {
    with_headers(outgoing, headers(outgoing), opaque)
}

fn with_headers<'a, D: IntoOpaque>(
    outgoing: &Outgoing<'a>,
    headers: Option<OwnedHeaders>,
    opaque: D,
) -> BaseRecord<'a, [u8], [u8], D> {
    let mut record: BaseRecord<'a, [u8], [u8], D> =
        BaseRecord::with_opaque_to(outgoing.topic, opaque).partition(outgoing.partition);
    if let Some(key) = outgoing.key {
        record = record.key(key);
    }
    if let Some(value) = outgoing.value {
        record = record.payload(value);
    }
    if let Some(at) = outgoing.at {
        record = record.timestamp(at.0);
    }
    match headers {
        Some(headers) => record.headers(headers),
        None => record,
    }
}

fn headers(outgoing: &Outgoing<'_>) -> Option<OwnedHeaders> {
    let count = outgoing.carried.len() + outgoing.ours.len();
    if count == 0 {
        return None;
    }
    let mut headers = OwnedHeaders::new_with_capacity(count);
    for header in outgoing.carried {
        headers = headers.insert(KafkaHeader { key: &header.name, value: header.value.as_deref() });
    }
    for (key, value) in outgoing.ours {
        headers = headers.insert(KafkaHeader { key, value: Some(*value) });
    }
    Some(headers)
}

/// How many partitions topics have, remembered.
#[derive(Debug, Default)]
pub struct PartitionCounts(hashbrown::HashMap<Arc<str>, (i32, Option<Instant>)>);

impl PartitionCounts {
    /// A topic that was not there is asked for again after so long.
    const RETRY: Duration = Duration::from_secs(2);

    /// Returns how many partitions a topic has; 0 while it is not there.
    ///
    /// # Errors
    ///
    /// When the brokers do not say.
    pub fn of(&mut self, topic: &str, outbox: &TransactionalProducer) -> Result<i32, ShellError> {
        match self.0.get(topic) {
            Some((count, None)) => return Ok(*count),
            Some((_, Some(asked))) if asked.elapsed() < Self::RETRY => return Ok(0),
            Some(_) | None => {}
        }
        let count = outbox.partitions(topic)?;
        let asked_again = (count == 0).then(clock::moment);
        self.0.insert(Arc::from(topic), (count, asked_again));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::patience;
    use crate::kafka::client::settings::Settings;

    #[test]
    fn an_outbox_gives_up_before_the_client_asks_again() {
        let check = |overrides: &[(&str, &str)], expected_ms: u64| {
            let mut settings = Settings::new("localhost:9092", "serinus");
            settings.overrides =
                overrides.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            let found = patience(&settings.transactional("t"));
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
