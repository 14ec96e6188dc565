//! The Kafka side of a model's worker: reads requests, sends each answer to the request's reply topic, commits delivered offsets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header as KafkaHeader, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use crate::kafka::client::client_log::forward_client_log;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::message;
use crate::kafka::client::settings::Settings;
use crate::kafka::process::clock;
use crate::kafka::process::shutdown::Shutdown;
use crate::kafka::process::wait::Deadline;
use crate::wire::headers;

/// Maximum number of undelivered answers.
const IN_FLIGHT_MAX: usize = 2000;
/// Maximum time for which one iteration of the loop waits.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Interval between offset commits.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// Timeout of a metadata request.
const METADATA_WAIT: Duration = Duration::from_secs(5);
/// Time for the last answers to be delivered at shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// The requests to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Requests {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// Only these partitions; if empty, those that the group assigns.
    pub partitions: Vec<i32>,
}

/// Counts of the requests, by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered by the model.
    pub answered: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Not answered because they have no reply topic.
    pub unaddressed: u64,
    /// Answers that were not delivered.
    pub undelivered: u64,
}

/// Returns the bytes of the answer to a request, or the reason why there are none.
pub type AnswerOf<'a> = dyn FnMut(&[u8]) -> Result<Vec<u8>, String> + 'a;

/// The position of a request: partition and offset.
type Place = (i32, i64);

/// Forwards delivery reports from the client's thread.
struct Receipts(Sender<(Place, bool)>);

forward_client_log!(Receipts);

impl ProducerContext for Receipts {
    type DeliveryOpaque = Box<Place>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Box<Place>) {
        // The receiver is dropped only after the worker has stopped waiting.
        self.0.send((*place, result.is_ok())).ok();
    }
}

/// Records revoked partitions.
#[derive(Clone, Debug, Default)]
struct Revoked(Arc<Mutex<Vec<i32>>>);

forward_client_log!(Revoked);

impl ConsumerContext for Revoked {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            let gone = partitions
                .elements()
                .iter()
                .map(TopicPartitionListElem::partition)
                .collect::<Vec<_>>();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(gone);
        }
    }
}

/// The requests of one partition with answers in flight, in order. An offset is committed once all answers before it are delivered.
#[derive(Debug, Default)]
struct Window {
    open: VecDeque<(i64, bool)>,
    next: Option<i64>,
}

impl Window {
    fn settle(&mut self, offset: i64) {
        if let Ok(index) = self.open.binary_search_by_key(&offset, |o| o.0) {
            self.open[index].1 = true;
        }
        while let Some((offset, true)) = self.open.front().copied() {
            self.open.pop_front();
            self.next = Some(offset + 1);
        }
    }
}

struct Session<'a> {
    requests: &'a Requests,
    consumer: BaseConsumer<Revoked>,
    revoked: Revoked,
    producer: ThreadedProducer<Receipts>,
    receipts: Receiver<(Place, bool)>,
    windows: BTreeMap<i32, Window>,
    tally: Tally,
    committed_at: Instant,
}

/// Answers requests until a stop is requested.
///
/// # Errors
/// The clients cannot be set up, or the consumer reports a fatal error.
pub fn answer_all(
    settings: &Settings,
    requests: &Requests,
    stop: &Shutdown,
    answer: &mut AnswerOf<'_>,
) -> Result<Tally, ShellError> {
    let mut session = Session::open(settings, requests)?;
    info!(topic = requests.topic, group = requests.group, "worker started");
    while !stop.is_requested() {
        session.step(answer)?;
    }
    session.close();
    let Tally { answered, failed, unaddressed, undelivered } = session.tally;
    info!(answered, failed, unaddressed, undelivered, "worker stopped");
    Ok(session.tally)
}

impl<'a> Session<'a> {
    fn open(settings: &Settings, requests: &'a Requests) -> Result<Self, ShellError> {
        let revoked = Revoked::default();
        let consumer: BaseConsumer<Revoked> = settings
            .worker(&requests.group)
            .create_with_context(revoked.clone())
            .map_err(ShellError::kafka("set up the consumer of requests"))?;
        if requests.partitions.is_empty() {
            consumer
                .subscribe(&[&requests.topic])
                .map_err(ShellError::kafka("subscribe to requests"))?;
        } else {
            let mut list = TopicPartitionList::new();
            for partition in &requests.partitions {
                list.add_partition_offset(&requests.topic, *partition, Offset::Stored)
                    .map_err(ShellError::kafka("assign requests"))?;
            }
            consumer.assign(&list).map_err(ShellError::kafka("assign requests"))?;
        }
        let (sender, receipts) = channel();
        let producer = settings
            .producer()
            .create_with_context(Receipts(sender))
            .map_err(ShellError::kafka("set up the producer of answers"))?;
        Ok(Self {
            requests,
            consumer,
            revoked,
            producer,
            receipts,
            windows: BTreeMap::new(),
            tally: Tally::default(),
            committed_at: clock::moment(),
        })
    }

    /// Answers the available requests; waits briefly if there are none, or if too many answers are in flight.
    fn step(&mut self, answer: &mut AnswerOf<'_>) -> Result<(), ShellError> {
        let mut wait = WAIT_MAX;
        while self.in_flight() < IN_FLIGHT_MAX {
            // The client's record is dropped before the session changes.
            let polled = self.consumer.poll(wait).map(|w| {
                w.map(|message| {
                    let place = (message.partition(), message.offset());
                    (place, send(&self.producer, &message, answer))
                })
            });
            wait = Duration::ZERO;
            self.drop_revoked();
            match polled {
                None => break,
                Some(Ok((place, sent))) => self.add(place, sent),
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                    return Err(ShellError::Kafka { doing: "read requests", source: error });
                }
                // The client reconnects by itself; a missing topic may still be created.
                Some(Err(error)) => {
                    debug!(%error, "failed to read requests: client retries");
                    break;
                }
            }
            self.take_receipts(Duration::ZERO);
        }
        if self.in_flight() >= IN_FLIGHT_MAX {
            self.take_receipts(WAIT_MAX);
        }
        self.take_receipts(Duration::ZERO);
        if self.committed_at.elapsed() >= COMMIT_EVERY {
            self.commit(CommitMode::Async);
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.windows.values().map(|u| u.open.len()).sum()
    }

    fn add(&mut self, (partition, offset): Place, sent: Sent) {
        let window = self.windows.entry(partition).or_default();
        // A partition that was assigned again starts at its committed offset.
        while window.open.back().is_some_and(|b| b.0 >= offset) {
            window.open.pop_back();
        }
        window.open.push_back((offset, false));
        match sent {
            Sent::Answer => self.tally.answered += 1,
            Sent::Error => self.tally.failed += 1,
            Sent::Nowhere => {
                self.tally.unaddressed += 1;
                if self.tally.unaddressed == 1 {
                    warn!(
                        partition,
                        offset, "request without a reply topic; further ones are only counted"
                    );
                }
                window.settle(offset);
            }
            Sent::Refused(error) => {
                self.tally.undelivered += 1;
                debug!(partition, offset, %error, "answer rejected");
                window.settle(offset);
            }
        }
    }

    /// Processes delivery reports, waiting up to `wait` for the first.
    fn take_receipts(&mut self, wait: Duration) {
        let mut wait = wait;
        loop {
            match self.receipts.recv_timeout(wait) {
                Ok(((partition, offset), is_delivered)) => {
                    // An undelivered answer is late already: the request is not answered again.
                    if !is_delivered {
                        self.tally.undelivered += 1;
                    }
                    if let Some(window) = self.windows.get_mut(&partition) {
                        window.settle(offset);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
            wait = Duration::ZERO;
        }
    }

    /// Drops revoked partitions: their new owner commits the offsets.
    fn drop_revoked(&mut self) {
        let gone =
            std::mem::take(&mut *self.revoked.0.lock().unwrap_or_else(PoisonError::into_inner));
        for partition in gone {
            self.windows.remove(&partition);
        }
    }

    fn commit(&mut self, mode: CommitMode) {
        self.committed_at = clock::moment();
        let mut offsets = TopicPartitionList::new();
        for (partition, window) in &mut self.windows {
            let Some(next) = window.next.take() else { continue };
            let topic = &self.requests.topic;
            if let Err(error) =
                offsets.add_partition_offset(topic, *partition, Offset::Offset(next))
            {
                debug!(%error, "failed to list an offset");
            }
        }
        // Requests after the committed offset are answered again after a restart, which is harmless.
        if offsets.count() > 0
            && let Err(error) = self.consumer.commit(&offsets, mode)
        {
            debug!(%error, "failed to commit offsets");
        }
    }

    fn close(&mut self) {
        let deadline = Deadline::after(DRAIN_MAX);
        while self.in_flight() > 0 && !deadline.is_over() {
            self.take_receipts(deadline.left().min(WAIT_MAX));
        }
        self.commit(CommitMode::Sync);
        self.consumer.unsubscribe();
    }
}

/// The result of one request.
enum Sent {
    Answer,
    Error,
    Nowhere,
    Refused(KafkaError),
}

/// Computes the answer and passes it to the client.
fn send(
    producer: &ThreadedProducer<Receipts>,
    message: &BorrowedMessage<'_>,
    answer: &mut AnswerOf<'_>,
) -> Sent {
    let asked = message::pairs(message);
    let find = |name: &str| {
        let (_, value) = asked.iter().rev().find(|(a, _)| *a == name)?;
        std::str::from_utf8((*value)?).ok()
    };
    let Some(topic) = find(headers::REPLY_TOPIC).filter(|h| !h.is_empty()) else {
        return Sent::Nowhere;
    };
    let (value, error) = match answer(message.payload().unwrap_or_default()) {
        Ok(value) => (value, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let echoed = asked.iter().filter(|(name, _)| headers::is_ours(name) && *name != headers::ERROR);
    let mut ours = OwnedHeaders::new();
    for (key, value) in echoed {
        ours = ours.insert(KafkaHeader { key, value: *value });
    }
    if let Some(error) = &error {
        ours = ours.insert(KafkaHeader { key: headers::ERROR, value: Some(error) });
    }
    let place = Box::new((message.partition(), message.offset()));
    let mut record: BaseRecord<'_, [u8], [u8], Box<Place>> =
        BaseRecord::with_opaque_to(topic, place).payload(value.as_slice()).headers(ours);
    if let Some(key) = message.key() {
        record = record.key(key);
    }
    // Without a partition the client chooses one, and the serving lane forwards the answer.
    if let Some(partition) = find(headers::REPLY_PARTITION).and_then(|h| h.parse().ok()) {
        record = record.partition(partition);
    }
    let mut is_asked = false;
    loop {
        match producer.send(record) {
            // The client's metadata may not include new partitions of the topic yet.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition), back))
                if !is_asked =>
            {
                is_asked = true;
                record = back;
                producer.client().fetch_metadata(Some(topic), METADATA_WAIT).ok();
            }
            Ok(()) if error.is_none() => return Sent::Answer,
            Ok(()) => return Sent::Error,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.flush(Duration::from_millis(50)).ok();
            }
            Err((error, _)) => return Sent::Refused(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    #[test]
    fn an_offset_is_committed_when_all_before_it_are_delivered() {
        let mut window = Window::default();
        // Offset 7 is a transaction marker, which consumers do not see.
        window.open.extend([(5, false), (6, false), (8, false)]);
        window.settle(8);
        assert_eq!(window.next, None);
        window.settle(5);
        assert_eq!(window.next, Some(6));
        window.settle(4);
        assert_eq!(window.next, Some(6));
        window.settle(6);
        assert_eq!((window.next, window.open.len()), (Some(9), 0));
    }
}
