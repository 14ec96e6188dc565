//! What brokers may answer, class by class, on the client library's mock cluster.
//!
//! It shows which errors are waited out, which start a role anew, and which end the program. It proves nothing of transactions: a mock
//! cluster forgets the offsets that are committed in them. The count of a role's begins tells a new start from a retry.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serinus::kafka::client::admin::{ModelNeeds, topics_of_app, topics_of_model};
use serinus::kafka::client::error::ShellError;
use serinus::kafka::client::mock_broker::MockBroker;
use serinus::kafka::client::settings::{LogContext, Settings};
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
    /// Starts it, with one model that no worker answers for.
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
            // A mock cluster takes a static member for gone only after its session.
            is_static: false,
            serving: true,
            analysis: false,
            control: true,
            data_dir: None,
        };
        let (theirs, shown) = (stop.clone(), board.clone());
        let thread = thread::spawn(move || {
            // A role that hangs ends the tests, and not as if all were well.
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
            // The instance joins its groups first, which takes its time where other tests run.
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

    /// How often the serving role began.
    fn begins(&self) -> u64 {
        self.board.liveness.read()["serving"].begins
    }

    /// Waits until the serving role has begun again.
    ///
    /// Whether the request is served then shows nothing here: a mock cluster shows the records of aborted transactions, the journal's among
    /// them, and the journal says that the request was read.
    fn await_new_start(&self, before: u64) {
        let deadline = Deadline::after(WAIT);
        while self.begins() <= before {
            assert!(!deadline.is_over(), "the role did not begin again after {before}");
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// How often each request was forwarded.
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

    /// Waits until the instance has ended by itself.
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
fn what_passes_by_itself_is_waited_out() {
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
    assert_eq!(instance.forwarded(), [1; 6], "no role was started anew");
    assert_eq!(instance.begins(), begins);
    instance.stop();
}

#[test]
fn a_transaction_that_must_be_aborted_starts_the_role_anew() {
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
        instance.await_new_start(before);
    }
    instance.stop();
}

#[test]
fn a_producer_that_may_not_go_on_starts_the_role_anew() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH as EPOCH,
        RD_KAFKA_RESP_ERR_PRODUCER_FENCED as FENCED,
    };
    // As after a transaction that took too long. Only the group can say that another process has the slot: see slots.rs.
    let mut instance = Instance::start();
    for (request, error) in [
        (RDKafkaApiKey::EndTxn, FENCED),
        (RDKafkaApiKey::EndTxn, EPOCH),
        (RDKafkaApiKey::AddPartitionsToTxn, FENCED),
    ] {
        let before = instance.begins();
        instance.fail(request, &[error]);
        instance.send();
        instance.await_new_start(before);
    }
    instance.stop();
}

#[test]
fn a_broker_that_goes_away_is_waited_for() {
    let mut instance = Instance::start();
    instance.cluster().broker_down(1).expect("it goes down");
    thread::park_timeout(Duration::from_secs(3));
    instance.cluster().broker_up(1).expect("it comes up");
    instance.ask();
    instance.stop();
}
