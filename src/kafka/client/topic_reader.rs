//! Looking into topics and putting single records there: for people and their commands, not for the way of the data.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use thiserror::Error;

use crate::kafka::client::ffi::header_pairs;
use crate::kafka::client::settings::{LogContext, Settings, log_client_line};
use crate::kafka::process::wait::Deadline;
use crate::wire::placement::partition;

/// A record as it stands in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's time in Unix ms, where it has one.
    pub timestamp: Option<i64>,
    /// The key, where it has one.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in the producer's order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// Returns the text of a header, where it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(h, _)| h == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// Returns the key, where it is there and is text.
    pub fn key_text(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok()
    }
}

/// Why a topic could not be read or written.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The client cannot be made of these properties.
    #[error("set up the Kafka client")]
    Setup(#[source] KafkaError),
    /// Nobody answers.
    #[error("reach Kafka at `{bootstrap}`")]
    Unreachable {
        /// The address.
        bootstrap: String,
        /// What the client says.
        source: KafkaError,
    },
    /// There is no such topic.
    #[error("find topic `{0}` in this cluster")]
    NoTopic(String),
    /// Reading failed.
    #[error("read topic `{topic}`")]
    Read {
        /// The topic.
        topic: String,
        /// What the client says.
        source: KafkaError,
    },
    /// Nothing came for longer than the wait.
    #[error("read topic `{topic}` to its end: nothing came for {} ms", wait.as_millis())]
    Stalled {
        /// The topic.
        topic: String,
        /// The wait.
        wait: Duration,
    },
    /// A record was not taken.
    #[error("write to topic `{topic}`")]
    Write {
        /// The topic.
        topic: String,
        /// What the client says.
        source: KafkaError,
    },
}

impl ReadError {
    /// Returns whether the brokers may do tomorrow what they did not do today, though nobody changes anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } => true,
            Self::Setup(_) | Self::NoTopic(_) => false,
            Self::Read { source, .. } | Self::Write { source, .. } => mends(source),
        }
    }
}

/// How long a partition without a leader is left alone before it is asked for again.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is kept.
    Beginning,
    /// So many offsets before the end, in each partition; 0 is the end.
    BeforeEnd(i64),
}

/// Which partitions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of the topic's.
    All,
    /// The one of this number.
    One(i32),
}

/// A consumer that looks at one set of topics after the other.
pub struct TopicReader {
    consumer: BaseConsumer<LogContext>,
    bootstrap: String,
    wait: Duration,
}

impl TopicReader {
    /// Makes a reader that gives up when nothing comes for `wait`.
    pub fn new(settings: &Settings, wait: Duration) -> Result<Self, ReadError> {
        let consumer =
            settings.reader().create_with_context(LogContext).map_err(ReadError::Setup)?;
        Ok(Self { consumer, bootstrap: settings.bootstrap.clone(), wait })
    }

    /// Returns every topic of the cluster with its number of partitions.
    pub fn topics(&self) -> Result<BTreeMap<String, i32>, ReadError> {
        // Asked for by name, a missing topic would be made by brokers that make topics on demand.
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

    /// Returns a topic's number of partitions.
    pub fn partitions(&self, topic: &str) -> Result<i32, ReadError> {
        match self.topics()?.get(topic) {
            Some(count) if *count > 0 => Ok(*count),
            Some(_) | None => Err(ReadError::NoTopic(topic.to_owned())),
        }
    }

    /// Reads all that is committed, up to the end as it was when a partition's end was reached.
    pub fn read_to_end(&self, topic: &str) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        self.scan(topic, Which::All, Start::Beginning, |t| {
            records.push(t);
            ControlFlow::Continue(())
        })?;
        Ok(records)
    }

    /// Hands every committed record to `visit`, in each partition's order, until the end or until it breaks off.
    pub fn scan(
        &self,
        topic: &str,
        which: Which,
        start: Start,
        mut visit: impl FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut open = self.assign(&[topic], which, start)?;
        let mut deadline = Deadline::after(self.wait);
        while open > 0 {
            match self.consumer.poll(deadline.left().min(Duration::from_millis(200))) {
                // A control record at the end of a partition is no record: only the client knows that the end is reached.
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Ok(message)) => {
                    deadline = Deadline::after(self.wait);
                    if visit(record(&message)).is_break() {
                        break;
                    }
                }
                Some(Err(error)) => give_up(topic, error)?,
                None if deadline.is_over() => {
                    return Err(ReadError::Stalled { topic: topic.to_owned(), wait: self.wait });
                }
                None => {}
            }
        }
        self.consumer.unassign().map_err(|source| read_error(topic, source))
    }

    /// Finds the committed records of a key, where Kafka's default partitioner puts them.
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

    /// Returns the committed record at an offset, unless it is no longer kept.
    pub fn at(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Option<Record>, ReadError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|source| read_error(topic, source))?;
        let deadline = Deadline::after(self.wait);
        let found = loop {
            match self.consumer.poll(deadline.left().min(Duration::from_millis(200))) {
                Some(Err(KafkaError::PartitionEOF(_))) => break None,
                // Where it is gone, the client goes on with the oldest record that is kept.
                Some(Ok(message)) => break Some(record(&message)).filter(|m| m.offset == offset),
                Some(Err(error)) => give_up(topic, error)?,
                None if deadline.is_over() => {
                    return Err(ReadError::Stalled { topic: topic.to_owned(), wait: self.wait });
                }
                None => {}
            }
        };
        self.consumer.unassign().map_err(|source| read_error(topic, source))?;
        Ok(found)
    }

    /// Turns the reader to these topics, and goes on with what comes.
    pub fn follow(self, topics: &[&str], start: Start) -> Result<TopicFollower, ReadError> {
        self.assign(topics, Which::All, start)?;
        Ok(TopicFollower { reader: self, topics: topics.join(", ") })
    }

    /// Returns the first and the next offset of a partition, once the partition has a leader that says so.
    fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), ReadError> {
        let deadline = Deadline::after(self.wait);
        loop {
            match self.consumer.fetch_watermarks(topic, partition, deadline.left()) {
                Ok(ends) => return Ok(ends),
                Err(error) if deadline.is_over() => return Err(read_error(topic, error)),
                Err(error) => give_up(topic, error)?,
            }
            thread::park_timeout(deadline.left().min(LEADER_PAUSE));
        }
    }

    /// Assigns from explicit offsets, so that what is written after this call is seen; returns how many partitions.
    fn assign(&self, topics: &[&str], which: Which, start: Start) -> Result<usize, ReadError> {
        let mut list = TopicPartitionList::new();
        for topic in topics {
            let partitions = match which {
                Which::All => 0..self.partitions(topic)?,
                Which::One(partition) => partition..partition + 1,
            };
            for partition in partitions {
                let (low, high) = self.ends(topic, partition)?;
                let from = match start {
                    Start::Beginning => low,
                    Start::BeforeEnd(count) => high.saturating_sub(count).max(low),
                };
                list.add_partition_offset(topic, partition, Offset::Offset(from))
                    .map_err(|source| read_error(topic, source))?;
            }
        }
        self.consumer.assign(&list).map_err(|source| read_error(&topics.join(", "), source))?;
        Ok(list.count())
    }
}

/// What comes on some topics.
pub struct TopicFollower {
    reader: TopicReader,
    topics: String,
}

impl TopicFollower {
    /// Returns the next committed record, or nothing when none comes in time.
    pub fn next(&self, wait: Duration) -> Result<Option<Record>, ReadError> {
        let deadline = Deadline::after(wait);
        loop {
            match self.reader.consumer.poll(deadline.left()) {
                Some(Ok(message)) => return Ok(Some(record(&message))),
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => give_up(&self.topics, error)?,
                None => return Ok(None),
            }
            if deadline.is_over() {
                return Ok(None);
            }
        }
    }
}

/// Writes whole records, each to the partition that it names.
pub struct TopicWriter {
    producer: BaseProducer<Report>,
    delivery: std::sync::mpsc::Receiver<Result<(), KafkaError>>,
    wait: Duration,
}

impl TopicWriter {
    /// Makes a writer that gives up on a record that no broker has taken after `wait`.
    pub fn new(settings: &Settings, wait: Duration) -> Result<Self, ReadError> {
        let (report, delivery) = std::sync::mpsc::channel();
        let producer =
            settings.producer().create_with_context(Report(report)).map_err(ReadError::Setup)?;
        Ok(Self { producer, delivery, wait })
    }

    /// Writes a record, and returns when the brokers have it; its offset says nothing.
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
        self.delivery
            .try_recv()
            .unwrap_or(Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)))
            .map_err(write_error)
    }
}

/// Writes records to one topic, each where Kafka's default partitioner puts its key.
pub struct KeyedWriter {
    writer: TopicWriter,
    topic: String,
    partitions: i32,
}

impl KeyedWriter {
    /// Makes a writer that gives up on what no broker answers or takes within `wait`.
    pub fn new(settings: &Settings, topic: String, wait: Duration) -> Result<Self, ReadError> {
        let partitions = TopicReader::new(settings, wait)?.partitions(&topic)?;
        Ok(Self { writer: TopicWriter::new(settings, wait)?, topic, partitions })
    }

    /// Writes a record, and returns when the brokers have it. After an error they may have it all the same, and the writer is of no more use.
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

/// Hands each delivery's outcome on.
struct Report(std::sync::mpsc::Sender<Result<(), KafkaError>>);

impl ClientContext for Report {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        log_client_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        LogContext.error(error, reason);
    }
}

impl ProducerContext for Report {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let outcome = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        // The receiver is gone only when the caller has given up.
        self.0.send(outcome).ok();
    }
}

/// Fails for what will not mend; the client connects again by itself after the rest.
fn give_up(topic: &str, error: KafkaError) -> Result<(), ReadError> {
    if mends(&error) { Ok(()) } else { Err(read_error(topic, error)) }
}

/// Returns whether it passes without anybody doing anything.
fn mends(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::MessageTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::NotEnoughReplicas
                | RDKafkaErrorCode::NotEnoughReplicasAfterAppend
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
        )
    )
}

fn read_error(topic: &str, source: KafkaError) -> ReadError {
    ReadError::Read { topic: topic.to_owned(), source }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message
        .headers()
        .map(header_pairs)
        .unwrap_or_default()
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
