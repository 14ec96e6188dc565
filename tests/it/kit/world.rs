//! One rollout's world on the shared Kafka: an application and a model of its own, the program running, requests and labels.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::clock::unix_ms;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::process::{Process, folder, serinus};
use crate::kit::worker::is_late;

/// Partitions of a test model's requests: more than one, so that a mix-up of partitions shows.
pub const PARTITIONS: i32 = 4;

/// How long a test waits for what must come.
pub const WAIT: Duration = Duration::from_mins(2);

/// An application id, a model of the same name, and the files of one test.
pub struct World {
    pub kafka: Kafka,
    /// Both the application id and the model's name.
    pub name: String,
    spec: PathBuf,
}

/// A request as it was sent, and where it came to stand.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub has_label: bool,
}

impl Sent {
    /// What is kept in one arm: the key, and the request id where there is none.
    pub fn unit(&self) -> &[u8] {
        self.key.as_deref().unwrap_or(self.id.as_bytes())
    }
}

impl World {
    /// Makes the request topic and writes the spec, in which `MODEL` stands for the model's name.
    ///
    /// Only the request topic is made here: how many partitions it has is its owner's choice, and all else follows from it.
    pub fn new(kafka: &Kafka, what: &str, spec: &str) -> Self {
        let name = unique(what);
        kafka.create_topics(&[(&format!("{name}.requests"), PARTITIONS)]);
        let path = folder(&name).join("spec.yaml");
        std::fs::write(&path, spec.replace("MODEL", &name)).expect("the spec can be written");
        Self { kafka: kafka.clone(), name, spec: path }
    }

    /// Writes another spec beside the one that the program starts with, and returns where.
    pub fn write_spec(&self, spec: &str) -> String {
        let path = folder(&self.name).join("other.yaml");
        std::fs::write(&path, spec.replace("MODEL", &self.name)).expect("a spec can be written");
        path.display().to_string()
    }

    /// Starts `serinus run`; the same call after a kill is the same command again.
    pub fn run(&self) -> Process {
        self.run_as("one")
    }

    pub fn run_as(&self, instance: &str) -> Process {
        let mut command = serinus();
        command.args([
            "run",
            "--bootstrap",
            &self.kafka.bootstrap,
            "--app",
            &self.name,
            "--instance",
            instance,
        ]);
        command.arg("--apply").arg(&self.spec).arg("--create-topics");
        Process::start(&mut command, &folder(&self.name).join(format!("run-{instance}.log")))
    }

    /// Waits until a topic is there, which the program makes at its start.
    pub fn await_topic(&self, topic: &str, process: &mut Process) {
        let deadline = crate::kit::clock::Deadline::after(WAIT);
        while self.kafka.partitions(topic) == 0 {
            process.assert_running();
            assert!(
                !deadline.is_over(),
                "`{topic}` was not made; the log:\n{}",
                process.log_text()
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Waits until the events say that the rollout is in this phase, and returns them all.
    pub fn await_phase(&self, phase: &str, process: &mut Process) -> Vec<Value> {
        let topic = self.app_topic("rollout-events");
        self.await_topic(&topic, process);
        let mut events = Reader::open(&self.kafka, &topic);
        events.until(&format!("phase {phase}"), WAIT, |records| {
            records.iter().any(|it| it.json()["to"]["phase"] == phase)
        });
        events.records.iter().map(Record::json).collect()
    }

    /// Sends a command as any program may, and waits for the event that answers it.
    pub fn command(&self, verb: &str) -> Value {
        let id = unique("command");
        let command = json!({"id": id, "rollout": self.rollout(), "model": self.name, "verb": verb, "by": "a test", "reason": "to see"});
        let record = Record {
            key: Some(self.name.clone().into()),
            value: command.to_string().into(),
            ..Record::default()
        };
        self.kafka.send(&self.app_topic("commands"), &[record]);
        let mut events = Reader::open(&self.kafka, &self.app_topic("rollout-events"));
        let is_answer = |record: &Record| record.json()["command_id"] == id.as_str();
        events.until(&format!("the answer to `{verb}`"), WAIT, |records| {
            records.iter().any(is_answer)
        });
        events.records.iter().find(|record| is_answer(record)).expect("it came").json()
    }

    /// Sends requests number `from` to `to`: some without a key, some that are not JSON, all with a stranger's header.
    pub fn send_requests(&self, from: usize, to: usize) -> Vec<Sent> {
        let mut sent: Vec<Sent> = (from..to).map(|number| self.request(number)).collect();
        let records: Vec<Record> = sent.iter().map(as_record).collect();
        let offsets = self.kafka.send(&self.topic("requests"), &records);
        for (request, offset) in sent.iter_mut().zip(offsets) {
            request.offset = offset;
        }
        sent
    }

    /// Tells the truth about those requests that ever get a label.
    pub fn send_labels(&self, sent: &[Sent]) {
        let now = unix_ms();
        let partitions = self.kafka.partitions(&self.topic("labels"));
        let labels: Vec<Record> = sent
            .iter()
            .filter(|request| request.has_label)
            .enumerate()
            .map(|(index, request)| {
                let late = u8::from(is_late(&request.value));
                let label =
                    json!({"request_id": request.id, "label": {"late": late}, "observed_at": now});
                let partition = i32::try_from(index).expect("tests are small") % partitions;
                Record { partition, value: label.to_string().into(), ..Record::default() }
            })
            .collect();
        self.kafka.send(&self.topic("labels"), &labels);
    }

    /// A topic of the model.
    pub fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    /// A topic of the application, which here has the model's name: `rollout-events`, `commands`.
    pub fn app_topic(&self, kind: &str) -> String {
        self.topic(kind)
    }

    pub fn rollout(&self) -> String {
        format!("{}-v2", self.name)
    }

    fn request(&self, number: usize) -> Sent {
        let id = format!("{}-{number}", self.name);
        let key = (number % 10 != 9).then(|| format!("unit-{}", number % 997).into_bytes());
        // Every hundredth body is no text at all: bytes are bytes.
        let value = match number % 100 {
            99 => vec![0xff, 0x00, u8::try_from(number % 251).expect("it is below 251"), 0xfe],
            _ => format!(
                "{{\"number\":{number},  \"features\":{{\"mins\":{}}}, \"note\":\"é\"}}",
                number % 1_440
            )
            .into_bytes(),
        };
        let headers = vec![
            ("ce_id".to_owned(), id.clone().into_bytes()),
            ("traceparent".to_owned(), format!("00-{number:032x}-{number:016x}-01").into_bytes()),
        ];
        let partition = i32::try_from(number).expect("tests are small") % PARTITIONS;
        Sent { id, partition, offset: -1, key, value, headers, has_label: number % 8 != 3 }
    }
}

/// A name that no other test, and no earlier run on the same cluster, has used.
pub fn unique(what: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{what}-{:x}-{}-{}",
        unix_ms(),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

fn as_record(request: &Sent) -> Record {
    Record {
        partition: request.partition,
        key: request.key.clone(),
        value: request.value.clone(),
        headers: request.headers.clone(),
        ..Record::default()
    }
}
