//! Broker errors, class by class, on the client library's mock cluster.
//!
//! The tests show which errors are retried, which restart a role, and which end the program. They prove nothing about transactions: a mock
//! cluster forgets offsets committed in them. The number of role starts distinguishes a restart from a retry.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serinus::kafka::client::admin::{ModelNeeds, topics_of_app, topics_of_model};
use serinus::kafka::client::client_log::LogContext;
use serinus::kafka::client::error::ShellError;
use serinus::kafka::client::mock_broker::MockBroker;
use serinus::kafka::client::settings::Settings;
use serinus::kafka::instance::run;
use serinus::kafka::lanes::run_options::RunOptions;
use serinus::kafka::process::metrics::MetricsRegistry;
use serinus::kafka::process::shutdown::Shutdown;
use serinus_core::spec::plan::{Document, load};

use crate::kit::clock::Deadline;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::process::serinus;

const WAIT: Duration = Duration::from_mins(1);
const APP: &str = "a";
const MODEL: &str = r#"{"apiVersion": "serinus/v1", "kind": "Model", "metadata": {"name": "m"},
    "spec": {"stable": "v1", "timeout": "200ms", "partitions": 1, "onFailure": "default", "default": {"score": 0.2}}}"#;

/// An instance in this process on a mock cluster.
struct Instance {
    broker: MockBroker,
    kafka: Kafka,
    board: MetricsRegistry,
    stop: Shutdown,
    thread: Option<JoinHandle<Result<(), ShellError>>>,
    sent: usize,
}

impl Instance {
    /// Starts it with one model, which no worker answers.
    fn start() -> Self {
        let broker = MockBroker::start().expect("the mock cluster starts");
        let kafka = Kafka { bootstrap: broker.bootstrap().to_owned() };
        let documents = load("model.json", MODEL).expect("the spec is right");
        let [Document::Model(plan, _)] = &documents[..] else { panic!("it is one model") };
        let versions = [plan.stable.clone()];
        let needs = ModelNeeds { versions: &versions, ..ModelNeeds::default() };
        let mut wanted = topics_of_app(APP);
        wanted.extend(topics_of_model(APP, plan, &needs));
        broker.create(&wanted).expect("topics are made");
        let (stop, board) = (Shutdown::default(), MetricsRegistry::default());
        let options = RunOptions {
            settings: Settings::new(&kafka.bootstrap, APP),
            instance: "one".to_owned(),
            // A mock cluster removes a static member only after its session timeout.
            is_static: false,
            serving: true,
            analysis: false,
            control: true,
            data_dir: None,
        };
        let (theirs, shown) = (stop.clone(), board.clone());
        let thread = thread::spawn(move || {
            // A role that hangs must fail the tests rather than pass unnoticed.
            run::run(&options, &theirs, &shown, |_| std::process::abort())
        });
        let mut this = Self { broker, kafka, board, stop, thread: Some(thread), sent: 0 };
        this.apply();
        this.ask();
        this
    }

    fn apply(&self) {
        let file = crate::kit::process::folder("broker_errors").join("model.json");
        std::fs::write(&file, MODEL).expect("the spec can be written");
        let output = serinus()
            .args(["apply", "--bootstrap", &self.kafka.bootstrap, "--app", APP])
            // The instance joins its groups first, which takes longer while other tests run.
            .args(["--timeout", "120s", "-f"])
            .arg(&file)
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sends a request and waits until it is served.
    fn ask(&mut self) {
        self.send();
        self.await_served();
    }

    fn send(&mut self) {
        self.sent += 1;
        let value = format!("request {}", self.sent).into_bytes();
        self.kafka.send("m.requests", &[Record { value, ..Record::default() }]);
    }

    fn last_id(&self) -> String {
        format!("m.requests-0-{}", self.sent - 1)
    }

    fn await_served(&self) {
        let last = self.last_id();
        let mut served = Reader::open(&self.kafka, "m.served");
        served.until(&last, WAIT, |records| {
            records.iter().any(|r| r.header("serinus-request-id") == Some(&last))
        });
    }

    /// Number of starts of the serving role.
    fn begins(&self) -> u64 {
        self.board.liveness.read()["serving"].begins
    }

    /// Waits until the serving role has started again.
    ///
    /// Whether the request is then served proves nothing: a mock cluster returns records of aborted transactions, including those of the
    /// journal, and the journal says that the request was read.
    fn await_restart(&self, before: u64) {
        let deadline = Deadline::after(WAIT);
        while self.begins() <= before {
            assert!(!deadline.is_over(), "the role did not begin again after {before}");
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Number of copies of each request.
    fn forwarded(&self) -> Vec<usize> {
        let records = self.kafka.read_all("m.v1.requests");
        (1..=self.sent)
            .map(|number| format!("request {number}").into_bytes())
            .map(|value| records.iter().filter(|r| r.value == value).count())
            .collect()
    }

    fn fail(&self, request: RDKafkaApiKey, errors: &[RDKafkaRespErr]) {
        self.cluster().request_errors(request, errors);
    }

    fn cluster(&self) -> MockCluster<'_, LogContext> {
        self.broker.controls().expect("the client has a mock cluster")
    }

    /// Waits until the instance has ended on its own.
    fn end(mut self) -> Result<(), ShellError> {
        let thread = self.thread.take().expect("it runs");
        let deadline = Deadline::after(WAIT);
        while !thread.is_finished() {
            assert!(!deadline.is_over(), "it did not end");
            thread::park_timeout(Duration::from_millis(20));
        }
        thread.join().expect("it did not panic")
    }

    fn stop(self) {
        self.stop.request();
        self.end().expect("it ends well");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop.request();
    }
}

#[test]
fn transient_errors_are_retried() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS as CONCURRENT,
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS as LOADING,
        RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE as UNAVAILABLE,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as MOVED,
    };
    let mut instance = Instance::start();
    let begins = instance.begins();
    for (request, error) in [
        (RDKafkaApiKey::AddPartitionsToTxn, CONCURRENT),
        (RDKafkaApiKey::AddOffsetsToTxn, LOADING),
        (RDKafkaApiKey::TxnOffsetCommit, LOADING),
        (RDKafkaApiKey::EndTxn, UNAVAILABLE),
        (RDKafkaApiKey::Produce, MOVED),
    ] {
        instance.fail(request, &[error, error]);
        instance.ask();
    }
    assert_eq!(instance.forwarded(), [1; 6], "no role restarted");
    assert_eq!(instance.begins(), begins);
    instance.stop();
}

#[test]
fn an_abortable_error_restarts_the_role() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as FORBIDDEN,
        RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID as UNKNOWN_MEMBER,
    };
    let mut instance = Instance::start();
    for (request, error) in [
        (RDKafkaApiKey::AddPartitionsToTxn, FORBIDDEN),
        (RDKafkaApiKey::TxnOffsetCommit, UNKNOWN_MEMBER),
    ] {
        let before = instance.begins();
        instance.fail(request, &[error]);
        instance.send();
        instance.await_restart(before);
    }
    instance.stop();
}

#[test]
fn a_fatal_producer_error_restarts_the_role() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH as EPOCH,
        RD_KAFKA_RESP_ERR_PRODUCER_FENCED as FENCED,
    };
    // As after a transaction timeout. Only the group can tell whether another process has the lease: see instances.rs.
    let mut instance = Instance::start();
    for (request, error) in [
        (RDKafkaApiKey::EndTxn, FENCED),
        (RDKafkaApiKey::EndTxn, EPOCH),
        (RDKafkaApiKey::AddPartitionsToTxn, FENCED),
    ] {
        let before = instance.begins();
        instance.fail(request, &[error]);
        instance.send();
        instance.await_restart(before);
    }
    instance.stop();
}

#[test]
fn a_broker_outage_is_waited_out() {
    let mut instance = Instance::start();
    instance.cluster().broker_down(1).expect("it goes down");
    thread::park_timeout(Duration::from_secs(3));
    instance.cluster().broker_up(1).expect("it comes up");
    instance.ask();
    instance.stop();
}
