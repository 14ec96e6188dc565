//! Topics, producers and readers on a real Kafka, directly through the client library.

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

/// Timeout of a single call to the broker.
const CALL_WAIT: Duration = Duration::from_secs(30);

/// Timeout of one poll; short, so that deadlines are kept.
const POLL_WAIT: Duration = Duration::from_millis(50);

/// A record read from a topic, or to be sent (then `offset` is ignored).
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

    /// The value as JSON; panics if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap_or_else(|error| {
            panic!("not JSON: {error}: {}", String::from_utf8_lossy(&self.value))
        })
    }

    /// The record for the client library; `number` identifies its delivery report.
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

/// The Kafka that the tests use.
#[derive(Clone)]
pub struct Kafka {
    pub bootstrap: String,
}

impl Kafka {
    /// Finds the Kafka that `tests/kafka/kafka.sh` started. Returns `None`, and reports the skip, only if skipping was requested.
    pub fn find() -> Option<Self> {
        if std::env::var("SERINUS_SKIP_KAFKA").is_ok_and(|i| i == "1") {
            skip("SERINUS_SKIP_KAFKA=1");
            return None;
        }
        let bootstrap =
            std::env::var("KAFKA_BOOTSTRAP").ok().filter(|v| !v.is_empty()).or_else(script_address);
        let bootstrap = bootstrap.expect(
            "no Kafka is up: run `make test`, or `tests/kafka/kafka.sh start` before `cargo test`",
        );
        Some(Self { bootstrap })
    }

    pub fn create_topics(&self, topics: &[(&str, i32)]) {
        let topics: Vec<NewTopic<'_>> = topics
            .iter()
            // The broker's default replication factor.
            .map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(-1)))
            .collect();
        self.create(&topics);
    }

    /// Creates a topic with its own settings.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        self.create(&[settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))]);
    }

    /// Changes one setting of an existing topic.
    pub fn set_topic(&self, name: &str, key: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
        let (admin, options) = self.admin();
        let results = block_on(admin.alter_configs([&change], &options)).expect("it answers");
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    /// Deletes a topic and waits until no broker lists it.
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

    /// Sends records to their partitions and returns the offset of each, in the same order.
    pub fn send(&self, topic: &str, records: &[Record]) -> Vec<i64> {
        let producer: BaseProducer<Receipts> = self
            .config()
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "500000")
            // The topic sets the limit.
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

    /// Reads a topic from its beginning to its current end, committed records only.
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

    /// Writes a record to every partition of these topics in a transaction that stays open, as if its process were suspended or dead.
    pub fn open_transaction(&self, topics: &[String]) -> OpenTransaction {
        let producer: BaseProducer<Receipts> = self
            .config()
            .set("transactional.id", format!("left-open-on-{}", topics[0]))
            .set("transaction.timeout.ms", "180000")
            .create_with_context(Receipts::default())
            .expect("a producer can be made");
        producer.init_transactions(CALL_WAIT).expect("the broker knows it");
        producer.begin_transaction().expect("it begins");
        // Compacted topics reject records without a key.
        let record = Record { key: Some(b"any".to_vec()), ..Record::default() };
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
        OpenTransaction(producer, self.bootstrap.clone())
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

    /// Returns the broker that coordinates a group: the leader of the group's partition of `__consumer_offsets`.
    pub fn coordinator(&self, group: &str) -> usize {
        let consumer: BaseConsumer = self.config().create().expect("a client can be made");
        let metadata =
            consumer.fetch_metadata(Some("__consumer_offsets"), CALL_WAIT).expect("it is there");
        let partitions = metadata.topics()[0].partitions();
        // Kafka's own formula: Java's hash of the group id without its sign, modulo the number of partitions.
        let hash = group
            .encode_utf16()
            .fold(0_i32, |e, unit| e.wrapping_mul(31).wrapping_add(unit.into()));
        let place = (hash & i32::MAX) % i32::try_from(partitions.len()).expect("there are few");
        let led = partitions.iter().find(|p| p.id() == place).expect("it is one of them");
        usize::try_from(led.leader()).expect("it has a leader")
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

/// A transaction that stays open.
pub struct OpenTransaction(BaseProducer<Receipts>, String);

impl OpenTransaction {
    /// Adds the group's offsets of these partitions to the transaction, so that brokers withhold them.
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

    /// Aborts it, as brokers do after the transaction timeout.
    pub fn abort(self) {
        self.0.abort_transaction(CALL_WAIT).expect("the broker ends it");
    }
}

/// Reads one topic from its beginning, committed records only, and waits for conditions on its records.
pub struct Reader {
    topic: String,
    consumer: BaseConsumer,
    partitions: usize,
    ended: BTreeSet<i32>,
    pub records: Vec<Record>,
}

impl Reader {
    pub fn open(kafka: &Kafka, topic: &str) -> Self {
        // Brokers learn of a new topic at different times.
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

    /// Reads until the condition holds for all records read so far; panics after the timeout.
    pub fn until(&mut self, what: &str, wait: Duration, holds: impl FnMut(&[Record]) -> bool) {
        assert!(
            self.wait(wait, holds),
            "waited {wait:?} on `{}` for {what}; {} records came",
            self.topic,
            self.records.len()
        );
    }

    /// The same, but returns whether the condition held.
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

    /// Reads to the end of every partition, and then for this time.
    pub fn read_for(&mut self, wait: Duration) {
        let to_end = Deadline::after(CALL_WAIT);
        while !self.is_at_end() && !to_end.is_over() {
            self.poll();
        }
        let deadline = Deadline::after(wait);
        while !deadline.is_over() {
            self.poll();
        }
    }

    fn is_at_end(&self) -> bool {
        self.ended.len() == self.partitions
    }

    /// Polls for one record.
    fn poll(&mut self) {
        match self.consumer.poll(POLL_WAIT) {
            Some(Ok(message)) => {
                self.ended.remove(&message.partition());
                self.records.push(Record::of(&message));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.ended.insert(partition);
            }
            // The client reconnects by itself, and every caller has a deadline.
            Some(Err(_)) | None => {}
        }
    }
}

/// Collects the offsets of delivered records by their number.
#[derive(Default)]
pub struct Receipts(Mutex<BTreeMap<usize, i64>>);

impl Receipts {
    /// The offset of every delivered record, by number.
    pub fn offsets(&self) -> BTreeMap<usize, i64> {
        self.0.lock().expect("no delivery panicked").clone()
    }

    /// The same, for the records delivered since the last call.
    pub fn take(&self) -> BTreeMap<usize, i64> {
        std::mem::take(&mut *self.0.lock().expect("no delivery panicked"))
    }
}

impl ClientContext for Receipts {}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        // A failed delivery leaves no receipt; senders compare the counts.
        if let Ok(message) = result {
            self.0.lock().expect("no delivery panicked").insert(*index, message.offset());
        }
    }
}

/// Reports a skipped test to the real stderr, with the reason and the number of skips so far.
pub fn skip(why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr(), "skipped {count}: {test}: {why}").expect("stderr is open");
}

/// A Kafka for one test, which may kill its brokers; it is stopped with the test.
pub struct OwnKafka {
    pub kafka: Kafka,
    name: &'static str,
    nodes: usize,
}

impl OwnKafka {
    /// Starts a cluster of `nodes` brokers. Returns `None`, and reports the skip, if skipping was requested or none can be started.
    pub fn start(name: &'static str, nodes: usize) -> Option<Self> {
        if std::env::var("SERINUS_SKIP_KAFKA").is_ok_and(|i| i == "1") {
            skip("SERINUS_SKIP_KAFKA=1");
            return None;
        }
        // A cluster left behind by a test that was killed.
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

    /// Kills a broker with kill -9; brokers are numbered from 1.
    pub fn kill(&self, node: usize) {
        self.order("kill", node);
    }

    /// Restarts a killed broker on the same data and ports, and waits until it listens.
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

/// Exit code of the script if no dedicated broker can be started.
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

/// The address of the Kafka that the script started for this checkout.
fn script_address() -> Option<String> {
    let output = Command::new(SCRIPT).arg("address").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
