//! Model workers that follow the contract, on threads and as processes that can be killed.

use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::kit::clock::{Stopwatch, unix_ms};
use crate::kit::kafka::{Kafka, Record};
use crate::kit::process::{Process, folder};
use crate::kit::world::unique;

/// Timeout of a single call to the broker.
const CALL_WAIT: Duration = Duration::from_secs(30);

/// Commit interval for answered requests.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// A child process of this test binary finds its task in this variable.
const CHILD: &str = "SERINUS_TEST_WORKER";

/// How a worker answers; `every: Some(n)` means each n-th request that it sees.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behavior {
    /// Delay before each batch of answers.
    pub delay: Duration,
    /// Each n-th request is answered with an error.
    pub error_every: Option<usize>,
    /// Each n-th request is never answered.
    pub drop_every: Option<usize>,
    /// Each n-th request is answered twice.
    pub duplicate_every: Option<usize>,
    /// Each n-th answer contains NaN as Python's JSON module writes it.
    pub nan_every: Option<usize>,
    /// Each n-th answer is sent to the wrong partition.
    pub misdirect_every: Option<usize>,
}

/// A worker on a thread; it ends when dropped.
pub struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub fn start(kafka: &Kafka, model: &str, version: &str, behavior: Behavior) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (kafka, model, version, flag) =
            (kafka.clone(), model.to_owned(), version.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || serve(&kafka, &model, &version, behavior, &flag));
        Self { stop, thread: Some(thread) }
    }

    /// Starts a worker as a separate process, which can be killed and restarted.
    pub fn process(kafka: &Kafka, model: &str, version: &str) -> Process {
        let this = std::env::current_exe().expect("the test binary knows its path");
        let mut command = Command::new(this);
        command
            .args([
                "--exact",
                "kit::worker::a_worker_process_answers_and_continues_after_a_kill",
                "--nocapture",
            ])
            .env(CHILD, format!("{} {model} {version}", kafka.bootstrap));
        Process::start(&mut command, &folder(model).join(format!("worker-{version}.log")))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("it is joined once").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the worker panicked");
    }
}

/// The answer of a version to a request. It depends on the bytes alone, so tests can compute it.
///
/// Version `v1` always answers 0.5; other versions see the number in the request and are nearly right. Version `odd` returns
/// malformed values like an untested model, and `sane` is its counterpart.
pub fn answer(version: &str, request: &[u8]) -> Vec<u8> {
    let sum: u64 = request.iter().map(|byte| u64::from(*byte)).sum();
    let of = |answers: &[&str]| {
        let index = usize::try_from(sum).expect("a small number") % answers.len();
        answers[index].as_bytes().to_vec()
    };
    match version {
        "odd" => return of(&ODD),
        "sane" => return of(&SANE),
        _ => {}
    }
    let score = match (version, is_late(request)) {
        ("v1", _) => 0.5,
        (_, true) => 0.8,
        (_, false) => 0.2,
    };
    format!("{{\"score\": {score:.1},\"by\":\"{version}\",\"sum\":{sum}}}").into_bytes()
}

const SANE: [&str; 4] = [
    r#"{"score":0.2,"class":0}"#,
    r#"{"score":0.8,"class":1}"#,
    r#"{"score":0,"class":"yes"}"#,
    r#"{"score":1.0,"class":1.0}"#,
];

const ODD: [&str; 13] = [
    r#"{"score":0.5,"class":1}"#,
    r#"{"score":NaN,"class":1}"#,
    r#"{"score":"0.5","class":"1"}"#,
    r#"{"score":1.5,"class":2}"#,
    r#"{"score":null,"class":null}"#,
    r#"{"class":"yes"}"#,
    r#"{"score":true,"class":true}"#,
    "0.5",
    "no answer at all",
    r#"{"score":-0.25,"class":0}"#,
    r#"{"score":0.25,"class":[1]}"#,
    r#"{"score":1e3,"class":"late"}"#,
    r#"{"score":-Infinity}"#,
];

/// The true outcome of a request, which its label reports later.
pub fn is_late(request: &[u8]) -> bool {
    request.iter().map(|byte| u64::from(*byte)).sum::<u64>() % 3 == 0
}

fn serve(kafka: &Kafka, model: &str, version: &str, behavior: Behavior, stop: &AtomicBool) {
    let topic = format!("{model}.{version}.requests");
    let partitions = kafka.partitions(&topic);
    assert!(partitions > 0, "topic `{topic}` does not exist");
    let consumer: BaseConsumer = kafka
        .config()
        .set("group.id", format!("{model}.{version}.workers"))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_uncommitted")
        // Other processes need these cores.
        .set("fetch.wait.max.ms", "100")
        .create()
        .expect("a consumer can be made");
    // Assigned, not subscribed: a worker restarted after a kill resumes immediately from its committed offset.
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment
            .add_partition_offset(&topic, partition, Offset::Stored)
            .expect("a partition can be listed");
    }
    consumer.assign(&assignment).expect("partitions can be assigned");
    let producer: BaseProducer = kafka
        .config()
        .set("linger.ms", "1")
        // Answers are kept during a broker outage of any length.
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.messages", "500000")
        .create()
        .expect("a producer can be made");
    let mut seen: usize = 0;
    let mut committed: Option<Stopwatch> = None;
    while !stop.load(Ordering::Relaxed) {
        let mut batch = Vec::new();
        while let Some(message) =
            consumer.poll(Duration::from_millis(if batch.is_empty() { 20 } else { 0 }))
        {
            match message {
                Ok(message) => batch.push(message),
                // The client reconnects by itself.
                Err(error) => say("read", &error),
            }
            if batch.len() == 500 {
                break;
            }
        }
        if batch.is_empty() {
            continue;
        }
        std::thread::park_timeout(behavior.delay);
        for message in &batch {
            seen += 1;
            reply(&producer, kafka, version, behavior, seen, message);
        }
        // Retried until the broker is back; duplicate answers are harmless.
        until_done(stop, "deliver answers", || producer.flush(Duration::from_secs(1)));
        if committed.as_ref().is_some_and(|c| c.elapsed() < COMMIT_EVERY) {
            continue;
        }
        // Committed only now: a worker killed before this line answers its last batches again.
        until_done(stop, "commit", || consumer.commit_consumer_state(CommitMode::Sync));
        committed = Some(Stopwatch::start());
    }
}

/// Logs failures; a worker process has a log.
fn say(what: &str, error: &KafkaError) {
    writeln!(std::io::stderr(), "{}: failed to {what}: {error}", unix_ms()).ok();
}

/// Retries until it succeeds, and logs each failure.
fn until_done(stop: &AtomicBool, what: &str, attempt: impl Fn() -> Result<(), KafkaError>) {
    while let Err(error) = attempt() {
        say(what, &error);
        if stop.load(Ordering::Relaxed)
            || error.rdkafka_error_code() == Some(RDKafkaErrorCode::NoOffset)
        {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

fn reply(
    producer: &BaseProducer,
    kafka: &Kafka,
    version: &str,
    behavior: Behavior,
    seen: usize,
    message: &BorrowedMessage<'_>,
) {
    let is_nth = |every: Option<usize>| every.is_some_and(|n| seen.is_multiple_of(n));
    if is_nth(behavior.drop_every) {
        return;
    }
    let asked = message.headers().expect("a forwarded request has headers");
    let header = |name: &str| {
        asked
            .iter()
            .find(|a| a.key == name)
            .and_then(|n| n.value)
            .and_then(|v| std::str::from_utf8(v).ok())
    };
    let topic = header("serinus-reply-topic").expect("it says where the answer belongs").to_owned();
    let mut partition: i32 = header("serinus-reply-partition")
        .and_then(|h| h.parse().ok())
        .expect("it says which partition");
    if is_nth(behavior.misdirect_every) {
        partition = (partition + 1) % kafka.partitions(&topic);
    }
    for _ in 0..if is_nth(behavior.duplicate_every) { 2 } else { 1 } {
        let mut headers = OwnedHeaders::new();
        for it in asked.iter().filter(|a| a.key.starts_with("serinus-")) {
            headers = headers.insert(Header { key: it.key, value: it.value });
        }
        let mut value = answer(version, message.payload().unwrap_or_default());
        if is_nth(behavior.nan_every) {
            value = b"{\"score\": NaN}".to_vec();
        }
        if is_nth(behavior.error_every) {
            headers = headers
                .insert(Header { key: "serinus-error", value: Some("the model is out of sorts") });
            value = Vec::new();
        }
        let record = BaseRecord::<'_, [u8], [u8]>::to(&topic)
            .partition(partition)
            .payload(&value)
            .headers(headers);
        let record = match message.key() {
            Some(key) => record.key(key),
            None => record,
        };
        let Err((error, record)) = producer.send(record) else { continue };
        assert_eq!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::UnknownPartition),
            "an answer was refused"
        );
        // The client does not know of the added partitions yet.
        producer.client().fetch_metadata(Some(&topic), CALL_WAIT).expect("the broker answers");
        producer.send(record).unwrap_or_else(|(error, _)| panic!("an answer was refused: {error}"));
    }
}

/// Both a test of the worker process and, in the child, that process: a test binary cannot start itself in another way.
#[test]
fn a_worker_process_answers_and_continues_after_a_kill() {
    if let Ok(orders) = std::env::var(CHILD) {
        return be_the_child(&orders);
    }
    let Some(kafka) = Kafka::find() else { return };
    let model = unique("worker");
    let (asked, answers) = (format!("{model}.v7.requests"), format!("{model}.responses"));
    kafka.create_topics(&[(&asked, 1), (&answers, 3)]);
    let ask = |id: &str| {
        let headers = [
            ("serinus-request-id", id),
            ("serinus-reply-topic", &answers),
            ("serinus-reply-partition", "2"),
        ];
        let headers =
            headers.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).to_vec();
        kafka.send(
            &asked,
            &[Record { key: Some(b"k".to_vec()), value: id.into(), headers, ..Record::default() }],
        );
    };
    let mut came = crate::kit::kafka::Reader::open(&kafka, &answers);
    let process = Worker::process(&kafka, &model, "v7");
    ask("r1");
    came.until("the first answer", Duration::from_secs(30), |records| !records.is_empty());
    process.kill();
    ask("r2");
    let process = Worker::process(&kafka, &model, "v7");
    came.until("the answer to the second", Duration::from_secs(30), |records| {
        records.iter().any(|r| r.value == answer("v7", b"r2"))
    });
    drop(process);
    let first = &came.records[0];
    assert_eq!(
        (first.partition, first.key.as_deref(), first.header("serinus-request-id")),
        (2, Some(&b"k"[..]), Some("r1"))
    );
    assert_eq!(first.value, answer("v7", b"r1"));
}

fn be_the_child(orders: &str) {
    let words: Vec<&str> = orders.split(' ').collect();
    let [bootstrap, model, version] = words[..] else { panic!("{CHILD} is `{orders}`") };
    let kafka = Kafka { bootstrap: bootstrap.to_owned() };
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    // The parent holds the other end, which closes when the parent ends in any way.
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        flag.store(true, Ordering::Relaxed);
    });
    serve(&kafka, model, version, Behavior::default(), &stop);
}
