//! The environment of one test on a Kafka: an application with a model, the running program, requests and labels.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::clock::unix_ms;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::process::{Process, folder, serinus};
use crate::kit::worker::is_late;

/// Partitions of a test model's requests: more than one, so that mixed-up partitions are detected.
pub const PARTITIONS: i32 = 4;

/// Timeout for events that must happen.
pub const WAIT: Duration = Duration::from_mins(2);

/// The application id, the model and the files of one test.
#[derive(Clone)]
pub struct World {
    pub kafka: Kafka,
    /// The application id; also the name of the model if there is only one.
    pub app: String,
    /// The name of the model.
    pub name: String,
    pub spec: PathBuf,
}

/// Output and exit code of an audit.
pub struct Audit {
    pub said: Value,
    pub code: Option<i32>,
}

/// A sent request with its offset.
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
    /// The unit of assignment: the key, or the request id if there is none.
    pub fn unit(&self) -> &[u8] {
        self.key.as_deref().unwrap_or(self.id.as_bytes())
    }

    /// The request as a record to send.
    pub fn record(&self) -> Record {
        Record {
            partition: self.partition,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            ..Record::default()
        }
    }

    /// The label of the request as a record to send.
    pub fn label(&self, observed_at: i64) -> Record {
        let late = u8::from(is_late(&self.value));
        let label =
            json!({"request_id": self.id, "label": {"late": late}, "observed_at": observed_at});
        Record { value: label.to_string().into(), ..Record::default() }
    }
}

impl World {
    /// Creates the request topic and writes the spec, in which `MODEL` stands for the name of the model.
    ///
    /// Only the request topic is created here: its owner chooses the number of partitions, and everything else follows from it.
    pub fn new(kafka: &Kafka, what: &str, spec: &str) -> Self {
        let app = unique(what);
        let spec = write_spec(&app, &spec.replace("MODEL", &app));
        Self::open(kafka, &app, app.clone(), spec)
    }

    /// The same for several models of one application, each with its name suffix and its spec.
    pub fn several(kafka: &Kafka, what: &str, models: &[(&str, String)]) -> Vec<Self> {
        let app = unique(what);
        let name = |what: &str| format!("{app}-{what}");
        let specs: Vec<String> =
            models.iter().map(|(what, spec)| spec.replace("MODEL", &name(what))).collect();
        let spec = write_spec(&app, &specs.join("---"));
        models.iter().map(|(what, _)| Self::open(kafka, &app, name(what), spec.clone())).collect()
    }

    fn open(kafka: &Kafka, app: &str, name: String, spec: PathBuf) -> Self {
        kafka.create_topics(&[(&format!("{name}.requests"), PARTITIONS)]);
        Self { kafka: kafka.clone(), app: app.to_owned(), name, spec }
    }

    /// Writes another spec next to the first one, and returns its path.
    pub fn write_spec(&self, spec: &str) -> String {
        let path = folder(&self.name).join("other.yaml");
        std::fs::write(&path, spec.replace("MODEL", &self.name)).expect("a spec can be written");
        path.display().to_string()
    }

    /// Starts `serinus run`; after a kill, the same call restarts it.
    pub fn run(&self) -> Process {
        self.run_as("one")
    }

    /// Starts an instance with this name. A later instance with the same name takes over its lease.
    pub fn run_as(&self, instance: &str) -> Process {
        let mut command = serinus();
        command.args([
            "run",
            "--bootstrap",
            &self.kafka.bootstrap,
            "--app",
            &self.app,
            "--instance",
            instance,
        ]);
        command.arg("--apply").arg(&self.spec).args(["--create-topics", "--http", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(self.data_dir(instance));
        Process::start(&mut command, &folder(&self.app).join(format!("run-{instance}.log")))
    }

    /// The data folder of an instance.
    pub fn data_dir(&self, instance: &str) -> PathBuf {
        folder(&self.app).join(format!("data-{instance}"))
    }

    /// Starts an instance with this name only, with its own log and without a data folder.
    pub fn run_bare(&self, instance: &str) -> Process {
        self.run_only(instance, &[])
    }

    /// The same, with its data folder.
    pub fn run_with_files(&self, instance: &str) -> Process {
        let data_dir = self.data_dir(instance).display().to_string();
        self.run_only(instance, &["--data-dir", &data_dir])
    }

    fn run_only(&self, instance: &str, more: &[&str]) -> Process {
        let mut command = serinus();
        command.args(["run", "--bootstrap", &self.kafka.bootstrap, "--app", &self.app]);
        command.args(["--instance", instance, "--http", "127.0.0.1:0"]).args(more);
        Process::start(&mut command, &folder(&self.app).join(format!("{}.log", unique(instance))))
    }

    /// Waits until a topic exists that the program creates at startup.
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

    /// Waits until the events show the rollout in this phase, and returns all events.
    pub fn await_phase(&self, phase: &str, process: &mut Process) -> Vec<Value> {
        let topic = self.app_topic("rollout-events");
        self.await_topic(&topic, process);
        let mut events = Reader::open(&self.kafka, &topic);
        events.until(&format!("phase {phase}"), WAIT, |records| {
            let is_ours = |v: &Value| v["model"] == self.name && v["to"]["phase"] == phase;
            records.iter().any(|r| is_ours(&r.json()))
        });
        events.records.iter().map(Record::json).collect()
    }

    /// Sends a command as any client may, and waits for the event that answers it.
    pub fn command(&self, verb: &str) -> Value {
        let id = self.ask(verb);
        self.await_answer(&id)
    }

    /// Sends a command and returns its id.
    pub fn ask(&self, verb: &str) -> String {
        let id = unique("command");
        let command = json!({"id": id, "rollout": self.rollout(), "model": self.name, "verb": verb, "by": "a test", "reason": "to see"});
        let record = Record {
            key: Some(self.name.clone().into()),
            value: command.to_string().into(),
            ..Record::default()
        };
        self.kafka.send(&self.app_topic("commands"), &[record]);
        id
    }

    /// Waits for the event that answers a command.
    pub fn await_answer(&self, id: &str) -> Value {
        self.answer_in(id, WAIT).unwrap_or_else(|| panic!("no answer to `{id}` in {WAIT:?}"))
    }

    /// The same, but returns `None` after the timeout.
    pub fn answer_in(&self, id: &str, wait: Duration) -> Option<Value> {
        let mut events = Reader::open(&self.kafka, &self.app_topic("rollout-events"));
        let is_answer = |record: &Record| record.json()["command_id"] == id;
        events.wait(wait, |records| records.iter().any(is_answer));
        events.records.iter().find(|record| is_answer(record)).map(Record::json)
    }

    /// Sends the requests with numbers `from..to`: some without a key, some that are not JSON, all with a header of the caller.
    pub fn send_requests(&self, from: usize, to: usize) -> Vec<Sent> {
        let mut sent: Vec<Sent> = (from..to).map(|number| self.request(number)).collect();
        let records: Vec<Record> = sent.iter().map(Sent::record).collect();
        let offsets = self.kafka.send(&self.topic("requests"), &records);
        for (request, offset) in sent.iter_mut().zip(offsets) {
            request.offset = offset;
        }
        sent
    }

    /// Sends the labels of the requests that have one.
    pub fn send_labels(&self, sent: &[Sent]) {
        let now = unix_ms();
        let partitions = self.kafka.partitions(&self.topic("labels"));
        let labels: Vec<Record> = sent
            .iter()
            .filter(|request| request.has_label)
            .zip(0..)
            .map(|(request, index)| Record { partition: index % partitions, ..request.label(now) })
            .collect();
        self.kafka.send(&self.topic("labels"), &labels);
    }

    /// Recomputes all decisions from the topics alone and compares them.
    pub fn audit(&self, more: &[&str]) -> Audit {
        let output = serinus()
            .args(["replay", "--from-topics", "--bootstrap", &self.kafka.bootstrap])
            .args(["--app", &self.app, "-o", "json"])
            .args(more)
            .output()
            .expect("it runs");
        let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("no JSON: {error}: {}", String::from_utf8_lossy(&output.stderr))
        });
        Audit { said, code: output.status.code() }
    }

    /// A topic of the model.
    pub fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    /// A topic of the application: `rollout-events`, `commands`.
    pub fn app_topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.app)
    }

    pub fn rollout(&self) -> String {
        format!("{}-v2", self.name)
    }

    /// The request with this number, not sent yet.
    pub fn request(&self, number: usize) -> Sent {
        let id = format!("{}-{number}", self.name);
        let key = (number % 10 != 9).then(|| format!("unit-{}", number % 997).into_bytes());
        // Every hundredth body is not text: Serinus passes on bytes.
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

/// A name that no other test and no earlier run on the same cluster has used.
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

fn write_spec(app: &str, text: &str) -> PathBuf {
    let path = folder(app).join("spec.yaml");
    std::fs::write(&path, text).expect("the spec can be written");
    path
}
