//! Reads topics and writes single records on behalf of commands. Roles use other clients.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::client::client_log::{LogContext, forward_client_log};
use crate::kafka::client::error::{ReadError, is_retriable};
use crate::kafka::client::message::pairs;
use crate::kafka::client::partition_scan::{OnError, PartitionScan};
use crate::kafka::client::settings::Settings;
use crate::kafka::process::wait::Deadline;
use crate::wire::placement::partition;

/// A record of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// In Unix milliseconds.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In the producer's order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// Returns the value of a header if the record has it and it is valid UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(h, _)| h == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// Returns the key if the record has one and it is valid UTF-8.
    pub fn key_text(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok()
    }
}

/// Pause before the offsets of a partition without a leader are requested again.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest retained record.
    Beginning,
    /// This many offsets before the end of each partition; 0 is the end.
    BeforeEnd(i64),
}

/// Which partitions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    One(i32),
}

/// A consumer that reads one topic after another.
pub struct TopicReader {
    consumer: BaseConsumer<LogContext>,
    bootstrap: String,
    wait: Duration,
}

impl TopicReader {
    /// Creates a reader whose calls fail if no record or response arrives for `wait`.
    pub fn new(settings: &Settings, wait: Duration) -> Result<Self, ReadError> {
        let consumer =
            settings.reader().create_with_context(LogContext).map_err(ReadError::Setup)?;
        Ok(Self { consumer, bootstrap: settings.bootstrap.clone(), wait })
    }

    /// Returns the partition count of every topic in the cluster.
    pub fn topics(&self) -> Result<BTreeMap<String, i32>, ReadError> {
        // A request for a topic by name makes brokers with `auto.create.topics.enable` create it.
        let metadata = self.consumer.fetch_metadata(None, self.wait).map_err(|source| {
            ReadError::Unreachable { bootstrap: self.bootstrap.clone(), source }
        })?;
        let count = |u: usize| i32::try_from(u).unwrap_or(i32::MAX);
        Ok(metadata
            .topics()
            .iter()
            .map(|t| (t.name().to_owned(), count(t.partitions().len())))
            .collect())
    }

    /// Returns the partition count of a topic.
    pub fn partitions(&self, topic: &str) -> Result<i32, ReadError> {
        match self.topics()?.get(topic) {
            Some(count) if *count > 0 => Ok(*count),
            Some(_) | None => Err(ReadError::NoTopic(topic.to_owned())),
        }
    }

    /// Reads all committed records up to the current end of each partition.
    pub fn read_to_end(&self, topic: &str) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        self.scan(topic, Which::All, Start::Beginning, |t| {
            records.push(t);
            ControlFlow::Continue(())
        })?;
        Ok(records)
    }

    /// Visits the committed records in the order of each partition, up to its end or until `visit` breaks.
    pub fn scan(
        &self,
        topic: &str,
        which: Which,
        start: Start,
        mut visit: impl FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let offsets = self.offsets(topic, which, start)?;
        for message in self.scan_from(topic, &offsets)? {
            if visit(record(&message?)).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_from<'a>(
        &'a self,
        topic: &'a str,
        offsets: &[(i32, Offset)],
    ) -> Result<PartitionScan<'a>, ReadError> {
        PartitionScan::start(&self.consumer, topic, offsets, self.wait, OnError::Fail)
            .map_err(|source| read_error(topic, source))
    }

    /// Finds the committed records of a key in the partition that Kafka's default partitioner chooses.
    pub fn find(&self, topic: &str, key: &str) -> Result<Vec<Record>, ReadError> {
        let home = partition(key.as_bytes(), self.partitions(topic)?);
        let mut found = Vec::new();
        self.scan(topic, Which::One(home), Start::Beginning, |h| {
            if h.key.as_deref() == Some(key.as_bytes()) {
                found.push(h);
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Returns the committed record at an offset, unless it is no longer retained.
    pub fn at(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Option<Record>, ReadError> {
        let mut scan = self.scan_from(topic, &[(partition, Offset::Offset(offset))])?;
        let Some(message) = scan.next() else { return Ok(None) };
        // If the record is gone, the client continues with the oldest retained one.
        Ok(Some(record(&message?)).filter(|m| m.offset == offset))
    }

    /// Starts to follow these topics.
    pub fn follow(self, topics: &[&str], start: Start) -> Result<TopicFollower, ReadError> {
        let mut list = TopicPartitionList::new();
        let failed = |source| read_error(&topics.join(", "), source);
        for topic in topics {
            for (partition, from) in self.offsets(topic, Which::All, start)? {
                list.add_partition_offset(topic, partition, from).map_err(failed)?;
            }
        }
        self.consumer.assign(&list).map_err(failed)?;
        Ok(TopicFollower { reader: self, topics: topics.join(", ") })
    }

    /// Returns the first offset of a partition and the one after its last. Waits until the partition has a leader.
    fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), ReadError> {
        let deadline = Deadline::after(self.wait);
        loop {
            match self.consumer.fetch_watermarks(topic, partition, deadline.left()) {
                Ok(ends) => return Ok(ends),
                Err(error) if deadline.is_over() => return Err(read_error(topic, error)),
                Err(error) => fail_unless_retriable(topic, error)?,
            }
            thread::park_timeout(deadline.left().min(LEADER_PAUSE));
        }
    }

    /// Returns explicit start offsets, so that records written after this call are read.
    fn offsets(
        &self,
        topic: &str,
        which: Which,
        start: Start,
    ) -> Result<Vec<(i32, Offset)>, ReadError> {
        let partitions = match which {
            Which::All => 0..self.partitions(topic)?,
            Which::One(partition) => partition..partition + 1,
        };
        partitions
            .map(|partition| {
                let (low, high) = self.ends(topic, partition)?;
                let from = match start {
                    Start::Beginning => low,
                    Start::BeforeEnd(count) => high.saturating_sub(count).max(low),
                };
                Ok((partition, Offset::Offset(from)))
            })
            .collect()
    }
}

/// The new records of some topics.
pub struct TopicFollower {
    reader: TopicReader,
    topics: String,
}

impl TopicFollower {
    /// Returns the next committed record, or `None` if none arrives within `wait`.
    pub fn next(&self, wait: Duration) -> Result<Option<Record>, ReadError> {
        let deadline = Deadline::after(wait);
        loop {
            match self.reader.consumer.poll(deadline.left()) {
                Some(Ok(message)) => return Ok(Some(record(&message))),
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => fail_unless_retriable(&self.topics, error)?,
                None => return Ok(None),
            }
            if deadline.is_over() {
                return Ok(None);
            }
        }
    }
}

/// Writes records, each to the partition that it names.
pub struct TopicWriter {
    producer: BaseProducer<DeliveryReports>,
    deliveries: std::sync::mpsc::Receiver<Result<(), KafkaError>>,
    wait: Duration,
}

impl TopicWriter {
    /// Creates a writer that fails if a record is not delivered within `wait`.
    pub fn new(settings: &Settings, wait: Duration) -> Result<Self, ReadError> {
        let (sender, deliveries) = std::sync::mpsc::channel();
        let producer = settings
            .producer()
            .create_with_context(DeliveryReports(sender))
            .map_err(ReadError::Setup)?;
        Ok(Self { producer, deliveries, wait })
    }

    /// Writes a record and waits for its delivery. The record's `offset` is ignored.
    pub fn write(&self, new: &Record) -> Result<(), ReadError> {
        let write_error = |source| ReadError::Write { topic: new.topic.clone(), source };
        let mut headers = OwnedHeaders::new_with_capacity(new.headers.len());
        for (key, value) in &new.headers {
            headers = headers.insert(Header { key, value: value.as_deref() });
        }
        let mut out: BaseRecord<'_, [u8], [u8], ()> =
            BaseRecord::to(&new.topic).partition(new.partition).headers(headers);
        out.key = new.key.as_deref();
        out.payload = new.value.as_deref();
        out.timestamp = new.timestamp;
        self.producer.send(out).map_err(|(error, _)| write_error(error))?;
        self.producer.flush(self.wait).map_err(write_error)?;
        self.deliveries
            .try_recv()
            .unwrap_or(Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)))
            .map_err(write_error)
    }
}

/// Writes records to one topic, each to the partition that Kafka's default partitioner chooses for its key.
pub struct KeyedWriter {
    writer: TopicWriter,
    topic: String,
    partitions: i32,
}

impl KeyedWriter {
    /// Creates a writer that fails if a request is not answered, or a record not delivered, within `wait`.
    pub fn new(settings: &Settings, topic: String, wait: Duration) -> Result<Self, ReadError> {
        let partitions = TopicReader::new(settings, wait)?.partitions(&topic)?;
        Ok(Self { writer: TopicWriter::new(settings, wait)?, topic, partitions })
    }

    /// Writes a record and waits for its delivery. After an error the record may still have been delivered, and the
    /// writer must be dropped.
    pub fn write(&self, key: &str, value: &[u8]) -> Result<(), ReadError> {
        self.writer.write(&Record {
            topic: self.topic.clone(),
            partition: partition(key.as_bytes(), self.partitions),
            key: Some(key.as_bytes().to_vec()),
            value: Some(value.to_vec()),
            ..Record::default()
        })
    }
}

/// Forwards the outcome of each delivery to the writer.
struct DeliveryReports(std::sync::mpsc::Sender<Result<(), KafkaError>>);

forward_client_log!(DeliveryReports);

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let outcome = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        // The receiver is gone if the caller has stopped waiting.
        self.0.send(outcome).ok();
    }
}

fn fail_unless_retriable(topic: &str, error: KafkaError) -> Result<(), ReadError> {
    if is_retriable(&error) { Ok(()) } else { Err(read_error(topic, error)) }
}

fn read_error(topic: &str, source: KafkaError) -> ReadError {
    ReadError::Read { topic: topic.to_owned(), source }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = pairs(message)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
        .collect();
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}
