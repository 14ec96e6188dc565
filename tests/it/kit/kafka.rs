//! Topics, producers and readers on a real Kafka, by the client library directly.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use serde_json::Value;

use crate::kit::clock::Deadline;

/// How long a single call to the broker may take.
const CALL_WAIT: Duration = Duration::from_secs(30);

/// How long one poll waits; short, so that a deadline is kept.
const POLL_WAIT: Duration = Duration::from_millis(50);

/// A record as it stands on a topic, or as it is to be sent (then the offset says nothing).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The first header of this name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The value as JSON; a test that asks for it fails where it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap_or_else(|error| {
            panic!("not JSON: {error}: {}", String::from_utf8_lossy(&self.value))
        })
    }

    /// The record as the client sends it; its receipt comes under this number.
    pub fn outgoing<'a>(
        &'a self,
        topic: &'a str,
        number: usize,
    ) -> BaseRecord<'a, [u8], [u8], Box<usize>> {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &self.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut out = BaseRecord::with_opaque_to(topic, Box::new(number))
            .partition(self.partition)
            .payload(&self.value[..])
            .headers(headers);
        if self.timestamp != 0 {
            out = out.timestamp(self.timestamp);
        }
        if let Some(key) = &self.key {
            out = out.key(&key[..]);
        }
        out
    }

    fn of(message: &rdkafka::message::BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                .collect::<Vec<_>>()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or_default(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: headers.unwrap_or_default(),
        }
    }
}

/// The cluster that the tests use.
#[derive(Clone)]
pub struct Kafka {
    pub bootstrap: String,
}

impl Kafka {
    /// Finds the Kafka that `tests/kafka/kafka.sh` started. `None` only where skipping was asked for, and then it is said.
    pub fn find() -> Option<Self> {
        if std::env::var("SERINUS_SKIP_KAFKA").is_ok_and(|i| i == "1") {
            skip("SERINUS_SKIP_KAFKA=1");
            return None;
        }
        let bootstrap = std::env::var("KAFKA_BOOTSTRAP")
            .ok()
            .filter(|v| !v.is_empty())
            .or_else(started_by_script);
        let bootstrap = bootstrap.expect(
            "no Kafka is up: run `make test`, or `tests/kafka/kafka.sh start` before `cargo test`",
        );
        Some(Self { bootstrap })
    }

    pub fn create_topics(&self, topics: &[(&str, i32)]) {
        let topics: Vec<NewTopic<'_>> = topics
            .iter()
            // As many replicas as the brokers give by default.
            .map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(-1)))
            .collect();
        self.create(&topics);
    }

    /// Makes a topic with settings of its own.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        self.create(&[settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))]);
    }

    /// Changes one setting of a topic that is there.
    pub fn set_topic(&self, name: &str, key: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
        let (admin, options) = self.admin();
        let results = block_on(admin.alter_configs([&change], &options)).expect("it answers");
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    /// Deletes a topic, and waits until no broker shows it.
    pub fn delete_topic(&self, name: &str) {
        let (admin, options) = self.admin();
        let results = block_on(admin.delete_topics(&[name], &options)).expect("it answers");
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let deadline = Deadline::after(CALL_WAIT);
        while self.partitions(name) > 0 {
            assert!(!deadline.is_over(), "`{name}` is still there");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn admin(&self) -> (AdminClient<DefaultClientContext>, AdminOptions) {
        let admin = self.config().create().expect("an admin client can be made");
        (admin, AdminOptions::new().operation_timeout(Some(CALL_WAIT)))
    }

    fn create(&self, topics: &[NewTopic<'_>]) {
        let (admin, options) = self.admin();
        let results = block_on(admin.create_topics(topics, &options)).expect("the broker answers");
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => panic!("topic `{topic}` was not made: {code}"),
            }
        }
    }

    /// Sends records to the partitions that they name and returns the offset of each, in the order given.
    pub fn send(&self, topic: &str, records: &[Record]) -> Vec<i64> {
        let producer: BaseProducer<Receipts> = self
            .config()
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "500000")
            // What a topic takes is the broker's to say.
            .set("message.max.bytes", "10000000")
            .create_with_context(Receipts::default())
            .expect("a producer can be made");
        for (index, record) in records.iter().enumerate() {
            producer.send(record.outgoing(topic, index)).unwrap_or_else(|(error, _)| {
                panic!("record {index} for `{topic}` was refused: {error}")
            });
        }
        producer.flush(CALL_WAIT).expect("all is delivered in time");
        let receipts = producer.context().offsets();
        assert_eq!(receipts.len(), records.len(), "deliveries to `{topic}`");
        receipts.into_values().collect()
    }

    /// Reads a topic from its beginning to its present end, committed records only.
    pub fn read_all(&self, topic: &str) -> Vec<Record> {
        let mut reader = Reader::open(self, topic);
        let deadline = Deadline::after(Duration::from_mins(1));
        while !reader.is_at_end() {
            assert!(
                !deadline.is_over(),
                "`{topic}` was not read to its end: an open transaction may stand in the way"
            );
            reader.poll();
        }
        reader.records
    }

    /// Writes a record to every partition of these topics in a transaction that is left open, as by a process that sleeps or died.
    pub fn leave_open(&self, topics: &[String]) -> LeftOpen {
        let producer: BaseProducer<Receipts> = self
            .config()
            .set("transactional.id", format!("left-open-on-{}", topics[0]))
            .set("transaction.timeout.ms", "180000")
            .create_with_context(Receipts::default())
            .expect("a producer can be made");
        producer.init_transactions(CALL_WAIT).expect("the broker knows it");
        producer.begin_transaction().expect("it begins");
        // Topics that keep the newest of each key take nothing without one.
        let record = Record { key: Some(b"stranger".to_vec()), ..Record::default() };
        let mut sent = 0;
        for topic in topics {
            for partition in 0..self.partitions(topic) {
                let record = Record { partition, ..record.clone() };
                let refused = producer.send(record.outgoing(topic, sent));
                refused.unwrap_or_else(|(error, _)| panic!("`{topic}`: {error}"));
                sent += 1;
            }
        }
        producer.flush(CALL_WAIT).expect("all is delivered in time");
        assert_eq!(producer.context().offsets().len(), sent, "deliveries to {topics:?}");
        LeftOpen(producer, self.bootstrap.clone())
    }

    pub fn partitions(&self, topic: &str) -> i32 {
        let consumer: BaseConsumer = self.config().create().expect("a client can be made");
        let metadata = consumer.fetch_metadata(Some(topic), CALL_WAIT).expect("the broker answers");
        let partitions = metadata
            .topics()
            .iter()
            .find(|t| t.name() == topic)
            .map_or(0, |t| t.partitions().len());
        i32::try_from(partitions).expect("a topic has few partitions")
    }

    /// Which broker coordinates a group: the one that leads the partition of the group's offsets.
    pub fn coordinator(&self, group: &str) -> usize {
        let consumer: BaseConsumer = self.config().create().expect("a client can be made");
        let metadata =
            consumer.fetch_metadata(Some("__consumer_offsets"), CALL_WAIT).expect("it is there");
        let partitions = metadata.topics()[0].partitions();
        // As Kafka finds it: Java's hash of a text, its sign left out, by the number of partitions.
        let hash = group
            .encode_utf16()
            .fold(0_i32, |e, unit| e.wrapping_mul(31).wrapping_add(unit.into()));
        let place = (hash & i32::MAX) % i32::try_from(partitions.len()).expect("there are few");
        let led = partitions.iter().find(|p| p.id() == place).expect("it is one of them");
        usize::try_from(led.leader()).expect("somebody leads it")
    }

    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "serinus-tests");
        config
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().expect("a runtime can be made").block_on(future)
}

/// A transaction that nobody ends.
pub struct LeftOpen(BaseProducer<Receipts>, String);

impl LeftOpen {
    /// Makes the group's offsets of these partitions a part of it, so that no broker gives them out.
    pub fn hold_offsets(&self, group: &str, partitions: &[(String, i32)]) {
        let consumer: BaseConsumer = Kafka { bootstrap: self.1.clone() }
            .config()
            .set("group.id", group)
            .create()
            .expect("a consumer can be made");
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition_offset(topic, *partition, Offset::Offset(0)).expect("it is one");
        }
        let group = consumer.group_metadata().expect("it has a group");
        self.0.send_offsets_to_transaction(&list, &group, CALL_WAIT).expect("the group takes them");
    }

    /// Ends it, as brokers do when its time is over.
    pub fn abort(self) {
        self.0.abort_transaction(CALL_WAIT).expect("the broker ends it");
    }
}

/// A reader of one topic from its beginning, committed records only, that can wait for something to be true of them.
pub struct Reader {
    topic: String,
    consumer: BaseConsumer,
    partitions: usize,
    ended: BTreeSet<i32>,
    pub records: Vec<Record>,
}

impl Reader {
    pub fn open(kafka: &Kafka, topic: &str) -> Self {
        // Of several brokers one may know of a new topic a moment before another.
        let deadline = Deadline::after(CALL_WAIT);
        let partitions = loop {
            let partitions = kafka.partitions(topic);
            if partitions > 0 {
                break partitions;
            }
            assert!(!deadline.is_over(), "topic `{topic}` does not exist");
            std::thread::park_timeout(Duration::from_millis(50));
        };
        let consumer: BaseConsumer = kafka
            .config()
            .set("group.id", "serinus-tests-never-committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .create()
            .expect("a consumer can be made");
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment
                .add_partition_offset(topic, partition, Offset::Beginning)
                .expect("a partition can be listed");
        }
        consumer.assign(&assignment).expect("partitions can be assigned");
        let partitions = usize::try_from(partitions).expect("it is positive");
        Self {
            topic: topic.to_owned(),
            consumer,
            partitions,
            ended: BTreeSet::new(),
            records: Vec::new(),
        }
    }

    /// Reads on until the condition holds of all that was read so far.
    pub fn until(&mut self, what: &str, wait: Duration, holds: impl FnMut(&[Record]) -> bool) {
        assert!(
            self.wait(wait, holds),
            "waited {wait:?} on `{}` for {what}; {} records came",
            self.topic,
            self.records.len()
        );
    }

    /// The same, but says whether it came to hold, for a test that goes on all the same.
    pub fn wait(&mut self, wait: Duration, mut holds: impl FnMut(&[Record]) -> bool) -> bool {
        let deadline = Deadline::after(wait);
        while !holds(&self.records) {
            if deadline.is_over() {
                return false;
            }
            self.poll();
        }
        true
    }

    /// Reads on for so long.
    pub fn read_for(&mut self, wait: Duration) {
        let deadline = Deadline::after(wait);
        while !deadline.is_over() {
            self.poll();
        }
    }

    fn is_at_end(&self) -> bool {
        self.ended.len() == self.partitions
    }

    /// Takes one record, if one comes.
    fn poll(&mut self) {
        match self.consumer.poll(POLL_WAIT) {
            Some(Ok(message)) => {
                self.ended.remove(&message.partition());
                self.records.push(Record::of(&message));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.ended.insert(partition);
            }
            // The client connects again by itself; whoever waits has a deadline.
            Some(Err(_)) | None => {}
        }
    }
}

/// Notes where each numbered record came to stand.
#[derive(Default)]
pub struct Receipts(Mutex<BTreeMap<usize, i64>>);

impl Receipts {
    /// By number: the offset of every record that was delivered.
    pub fn offsets(&self) -> BTreeMap<usize, i64> {
        self.0.lock().expect("no delivery panicked").clone()
    }

    /// The same, of those that were delivered since it was last asked.
    pub fn take(&self) -> BTreeMap<usize, i64> {
        std::mem::take(&mut *self.0.lock().expect("no delivery panicked"))
    }
}

impl ClientContext for Receipts {}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        // A failed delivery leaves no receipt, and whoever sends counts them.
        if let Ok(message) = result {
            self.0.lock().expect("no delivery panicked").insert(*index, message.offset());
        }
    }
}

/// Says, past the test harness's capture, that a test was skipped, why, and the how many-th it is.
pub fn skip(why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr(), "skipped {count}: {test}: {why}").expect("stderr is open");
}

/// A Kafka of one test's own, whose brokers it may kill; it ends with the test.
pub struct OwnKafka {
    pub kafka: Kafka,
    name: &'static str,
    nodes: usize,
}

impl OwnKafka {
    /// Starts one of this name with so many brokers. `None` where skipping was asked for or none can be started here, and then it is said.
    pub fn start(name: &'static str, nodes: usize) -> Option<Self> {
        if std::env::var("SERINUS_SKIP_KAFKA").is_ok_and(|i| i == "1") {
            skip("SERINUS_SKIP_KAFKA=1");
            return None;
        }
        // One that a test left behind which was killed itself.
        script(name, nodes, &["stop"]);
        let output = script(name, nodes, &["start"]);
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.code() == Some(CANNOT_START) {
            skip(&said);
            return None;
        }
        assert!(output.status.success(), "{said}");
        let bootstrap = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Some(Self { kafka: Kafka { bootstrap }, name, nodes })
    }

    /// Ends a broker by kill -9; the first is number 1.
    pub fn kill(&self, node: usize) {
        self.order("kill", node);
    }

    /// Starts it again on the same data and ports, and waits until it listens.
    pub fn revive(&self, node: usize) {
        self.order("revive", node);
    }

    fn order(&self, command: &str, node: usize) {
        let output = script(self.name, self.nodes, &[command, &node.to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        script(self.name, self.nodes, &["stop"]);
    }
}

/// The script's exit code where a broker of a test's own cannot be had.
const CANNOT_START: i32 = 77;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/kafka.sh");

fn script(name: &str, nodes: usize, order: &[&str]) -> Output {
    Command::new(SCRIPT)
        .args(order)
        .env("KAFKA_RUN", name)
        .env("KAFKA_NODES", nodes.to_string())
        .output()
        .expect("the script of the tests' Kafka runs")
}

/// Where the script started a Kafka for this checkout before plain `cargo test`.
fn started_by_script() -> Option<String> {
    let output = Command::new(SCRIPT).arg("address").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
