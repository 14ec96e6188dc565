//! The command line as users meet it: the built program, its stdout, stderr and exit codes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use serde_json::{Value, json};
use serinus::kafka::client::settings::Settings;
use serinus::kafka::client::topic_reader::{Start, TopicReader};
use serinus::wire::placement::partition;

use crate::cli::records::{event, metrics, state};
use crate::kit::clock::Deadline;
use crate::kit::process;

const WAIT: Duration = Duration::from_secs(20);

/// Output and exit code of a run.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|s| panic!("{s}: {}", self.stdout))
    }

    pub(crate) fn check(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

pub(crate) fn serinus(args: &[&str]) -> Ran {
    fed(args, "")
}

fn fed(args: &[&str], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serinus"));
    for variable in ["SERINUS_BOOTSTRAP", "SERINUS_APP", "SERINUS_LOG"] {
        command.env_remove(variable);
    }
    let mut child = command
        .args(args)
        .env("NO_COLOR", "1")
        .env("USER", "ann")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A program that does not read its stdin may have exited already.
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    Ran {
        code: output.status.code().expect("it ends by itself"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[test]
fn a_valid_spec_is_printed_as_understood() {
    let ran = serinus(&["validate", "examples/canary.yaml"]).check(0);
    assert!(ran.stdout.contains("rollout flights-v2 of flights: canary of v2"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("stage 3  serves v2 25%, for 2h or longer, then a person approves")
    );
    let ran = serinus(&["validate", "-o", "json", "-f", "examples/model.yaml"]).check(0);
    assert_eq!(ran.json()["documents"][0]["spec"]["stable"], "v1");
}

#[test]
fn a_wrong_spec_is_exit_2_with_place_line_and_suggestion() {
    let spec = "apiVersion: serinus/v1\nkind: Model\nmetadata: {name: m}\nspec: {stable: v1, timout: 5s}\n";
    let ran = fed(&["validate", "-"], spec).check(2);
    insta::assert_snapshot!(ran.stderr, @r"
    stdin:4:20: spec.timout: there is no such field
      |
    4 | spec: {stable: v1, timout: 5s}
      |                    ^^^^^^
      = did you mean `timeout`?
    ");
    assert_eq!(ran.stdout, "");
    // The same check happens before the program connects to Kafka.
    fed(&["apply", "-f", "-", "--bootstrap", "127.0.0.1:1"], spec).check(2);
    fed(&["run", "--apply", "-", "--bootstrap", "127.0.0.1:1"], spec).check(2);
}

/// Errors within one file or across several files are refused without Kafka.
#[test]
fn a_topic_of_two_uses_is_exit_2_and_names_both() {
    let model = |name: &str, topics: &str| {
        format!(
            "apiVersion: serinus/v1\nkind: Model\nmetadata: {{name: {name}}}\nspec:\n  stable: v1\n  timeout: 5s\n  topics: {topics}\n"
        )
    };
    let both = [model("a", "{responses: x}"), model("b", "{responses: x}")].join("---\n");
    let ran = fed(&["validate", "-"], &both).check(2);
    insta::assert_snapshot!(ran.stderr, @r"
    stdin:15:23: spec.topics.responses: topic `x` would be `responses` of model `a` and `responses` of model `b`
       |
    15 |   topics: {responses: x}
       |                       ^
       = give each its own; only `labels` may be shared
    ");
    let rollout = "apiVersion: serinus/v1\nkind: Rollout\nmetadata: {name: r}\nspec:\n  model: flights\n  candidates: [v2]\n  strategy: ab\n  stages: [{share: 10%}]\n  metrics: [{name: e, kind: response_error, role: goal, direction: lower, margin: 1%, mde: 1%}]\n  labels: {maturity: 1h, missing: exclude}\n";
    let looping =
        [model("flights", "{requests: flights.v2.requests}").as_str(), rollout].join("---\n");
    let ran = fed(&["validate", "-"], &looping).check(2);
    let words = "topic `flights.v2.requests` would be `requests` of model `flights` and `versionRequests` of version `v2` of model `flights`";
    assert!(ran.stderr.contains(words), "{}", ran.stderr);
    let labels = [model("a", "{labels: x}"), model("b", "{labels: x}")].join("---\n");
    fed(&["validate", "-"], &labels).check(0);
    for command in [&["apply", "-f", "-"][..], &["run", "--apply", "-"], &["topics", "create", "-"]]
    {
        let args = [command, &["--bootstrap", "127.0.0.1:1"]].concat();
        assert!(fed(&args, &both).check(2).stderr.contains("responses"), "{command:?}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    let check = |args: &[&str], expected: &str| {
        let ran = serinus(args).check(2);
        assert!(ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
    };
    check(&["statu"], "status");
    check(&["apply"], "--file");
    check(&["list"], "SERINUS_BOOTSTRAP");
    check(&["list", "-X", "linger.ms"], "KEY=VALUE");
    check(&["list", "--bootstrap", "127.0.0.1:1", "-X", "no.such.property=1"], "no.such.property");
    check(&["status", "flights", "--wait", "--timeout", "soon"], "90s");
    check(&["status", "flights", "--timeout", "90s"], "--wait");
    check(&["demo", "--act", "4"], "1..=3");
    check(&["schema", "no-such-record"], "prediction");
    check(&["schema", "spec", "--avro"], "never written in Avro");
}

/// Every command accepts `-X`, and refuses values that would break a guarantee before it connects.
#[test]
fn a_property_that_a_guarantee_rests_on_is_exit_2_and_named() {
    let check = |args: &[&str], property: &str| {
        let ran =
            serinus(&[args, &["--bootstrap", "127.0.0.1:1", "-X", property]].concat()).check(2);
        let key = property.split('=').next().expect("it has a name");
        assert!(ran.stderr.contains(key), "{args:?} {property}: {}", ran.stderr);
    };
    let commands: [&[&str]; 7] = [
        &["run"],
        &["list"],
        &["status", "m"],
        &["topics", "check", "examples/model.yaml"],
        &["apply", "examples/model.yaml"],
        &["tail", "t"],
        &["validate", "examples/model.yaml"],
    ];
    for command in commands {
        check(command, "isolation.level=read_uncommitted");
    }
    for property in [
        "group.id=x",
        "group.instance.id=x",
        "transactional.id=x",
        "enable.idempotence=false",
        "enable.auto.commit=true",
        "enable.auto.offset.store=true",
        "acks=1",
        "request.required.acks=0",
        "auto.offset.reset=latest",
        "partition.assignment.strategy=range",
        "max.in.flight=1000",
        "max.in.flight.requests.per.connection=10",
        "retries=0",
        "message.send.max.retries=0",
        "message.timeout.ms=3600000",
        "delivery.timeout.ms=0",
        "transaction.timeout.ms=1",
        "enable.partition.eof=true",
        "plugin.library.paths=x",
        "allow.auto.create.topics=true",
    ] {
        check(&["run"], property);
    }
    // Each value alone is valid; the combination is not.
    let both = ["-X", "transaction.timeout.ms=5000"];
    let ran = serinus(
        &[&["list", "--bootstrap", "127.0.0.1:1", "-X", "message.timeout.ms=6000"], &both[..]]
            .concat(),
    );
    assert!(ran.check(2).stderr.contains("message.timeout.ms"));
}

#[test]
fn an_unreachable_cluster_is_an_error_that_names_it() {
    let ran = serinus(&["list", "--bootstrap", "127.0.0.1:1"]).check(1);
    assert!(ran.stderr.contains("failed to reach Kafka at `127.0.0.1:1`"), "{}", ran.stderr);
    let ran = serinus(&["validate", "no-such-file.yaml"]).check(1);
    assert!(ran.stderr.contains("no-such-file.yaml"), "{}", ran.stderr);
}

#[test]
fn schemas_are_the_published_files() {
    let read = |name: &str| {
        let path = format!("{}/schemas/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|p| panic!("{path}: {p}"))
    };
    assert_eq!(serinus(&["schema", "prediction"]).check(0).stdout, read("prediction.schema.json"));
    assert_eq!(serinus(&["schema", "label", "--avro"]).check(0).stdout, read("label.avsc"));
    assert!(serinus(&["schema"]).check(0).stdout.lines().any(|s| s == "spec"));
}

#[test]
fn every_shell_gets_its_completion() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = serinus(&["completion", shell]).check(0);
        assert!(ran.stdout.contains("promote"), "{shell}");
    }
}

#[test]
fn a_closed_stdout_is_not_an_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_serinus"))
        .args(["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (Some(0), "")
    );
}

/// A broker inside this process. It tests wiring only; it proves nothing about transactions.
pub(crate) struct World {
    pub(crate) cluster: MockCluster<'static, DefaultProducerContext>,
    producer: Arc<BaseProducer>,
}

impl World {
    pub(crate) fn new() -> Self {
        let cluster = MockCluster::new(1).expect("an embedded broker starts");
        let own = ["commands", "rollouts", "rollout-events", "rollout-metrics"];
        for topic in own {
            cluster.create_topic(&format!("serinus.{topic}"), 1, 1).expect("a topic is made");
        }
        for topic in ["served", "predictions", "labels", "analysis"] {
            cluster.create_topic(&format!("flights.{topic}"), 4, 1).expect("a topic is made");
        }
        let producer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .create()
            .expect("a producer is made");
        Self { cluster, producer: Arc::new(producer) }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        serinus(&[args, &["--bootstrap", &self.cluster.bootstrap_servers()]].concat())
    }

    pub(crate) fn put(
        &self,
        topic: &str,
        partition: i32,
        key: &str,
        value: &Value,
        headers: &[(&str, &str)],
    ) {
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let value = value.to_string();
        let record = BaseRecord::to(topic).partition(partition).key(key).payload(&value);
        self.producer.send(record.headers(headers)).expect("the queue has room");
        self.producer.flush(WAIT).expect("the broker takes it");
    }

    fn put_state(&self, phase: &str, stage: u32, share: f64) {
        self.put("serinus.rollouts", 0, "flights", &state(phase, stage, share), &[]);
    }

    /// Answers every command like an instance: an event that names the command, and a state if something changes.
    pub(crate) fn answers(&self, verdict: &'static str) -> Answers {
        let stop = Arc::new(AtomicBool::new(false));
        let settings = Settings::new(self.cluster.bootstrap_servers(), "serinus");
        let commands = TopicReader::new(&settings, WAIT)
            .and_then(|s| s.follow(&["serinus.commands"], Start::Beginning))
            .expect("the commands can be followed");
        let (flag, producer) = (Arc::clone(&stop), Arc::clone(&self.producer));
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !flag.load(Ordering::Relaxed) {
                let record = commands.next(Duration::from_millis(50)).expect("commands are read");
                let Some(bytes) = record.and_then(|r| r.value) else { continue };
                let command: Value = serde_json::from_slice(&bytes).expect("a command is JSON");
                let event = event(json!({
                    "rollout": command["rollout"], "model": command["model"], "command_id": command["id"],
                    "verdict": verdict, "reason": format!("{}: {}", command["by"], command["reason"]),
                    "to": state("Paused", 1, 0.05),
                }));
                seen.push(command);
                let event = event.to_string();
                let record = BaseRecord::<str, str>::to("serinus.rollout-events").partition(0);
                producer.send(record.payload(&event)).expect("the queue has room");
                producer.flush(WAIT).expect("the broker takes it");
            }
            seen
        });
        Answers { stop, thread: Some(thread) }
    }
}

/// A thread that answers commands.
pub(crate) struct Answers {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Value>>>,
}

impl Answers {
    /// Ends it and returns the received commands.
    pub(crate) fn end(mut self) -> Vec<Value> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is ended once").join().expect("it did not panic")
    }
}

#[test]
fn states_are_listed_printed_and_named() {
    let world = World::new();
    assert!(world.run(&["list"]).check(0).stdout.contains("no model yet"));
    world.put_state("Pending", 0, 0.0);
    world.put_state("Progressing", 1, 0.05);
    let listed = world.run(&["list"]).check(0).stdout;
    assert!(
        listed.contains("flights-v2  Progressing  stage 2 of 3  v1 95% (stable), v2 5%"),
        "{listed}"
    );
    for name in ["flights", "flights-v2"] {
        let printed = world.run(&["get", name, "-o", "json"]).check(0).json();
        assert_eq!(printed, state("Progressing", 1, 0.05), "{name}");
    }
    assert!(
        world.run(&["get", "flights", "-o", "yaml"]).check(0).stdout.contains("phase: Progressing")
    );
    let ran = world.run(&["get", "fligths"]).check(1);
    assert!(ran.stderr.contains("there are flights, flights-v2"), "{}", ran.stderr);
    let ran = world.run(&["get", "flights", "--app", "other"]).check(1);
    assert!(
        ran.stderr.contains("other.rollouts") && ran.stderr.contains("--create-topics"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_status_shows_the_newest_evidence() {
    let world = World::new();
    world.put_state("Progressing", 1, 0.05);
    for (tick, reason) in [(1, "too early"), (2, "brier: non-inferior proved")] {
        let metrics = metrics(json!({"tick": tick, "reason": reason}));
        world.put("serinus.rollout-metrics", 0, "flights-v2", &metrics, &[]);
    }
    let other =
        metrics(json!({"rollout": "trips-v3", "model": "trips", "tick": 3, "reason": "not ours"}));
    world.put("serinus.rollout-metrics", 0, "trips-v3", &other, &[]);
    let ran = world.run(&["status", "flights-v2"]).check(0);
    assert!(ran.stdout.contains("reason    brier: non-inferior proved"), "{}", ran.stdout);
    let printed = world.run(&["status", "flights", "-o", "json"]).check(0).json();
    assert_eq!((&printed["state"]["stage"], &printed["metrics"]["tick"]), (&json!(1), &json!(2)));
}

#[test]
fn waiting_ends_with_the_exit_code_of_the_phase() {
    let world = World::new();
    let wait = ["status", "flights-v2", "--wait", "--timeout", "200ms"];
    let ran = world.run(&wait).check(4);
    assert!(ran.stderr.contains("still no rollout"), "{}", ran.stderr);
    let check = |phase: &str, code: i32| {
        world.put_state(phase, 1, 0.05);
        world.run(&wait).check(code);
    };
    check("Progressing", 4);
    check("Promoted", 0);
    check("Concluded", 0);
    check("Aborted", 3);
    check("Paused", 5);
    check("Inconclusive", 6);
}

#[test]
fn a_wait_sees_what_comes_after_it_began() {
    let world = World::new();
    world.put_state("Progressing", 1, 0.05);
    let bootstrap = world.cluster.bootstrap_servers();
    let waiting = std::thread::spawn(move || {
        serinus(&["status", "flights", "--wait", "--timeout", "60s", "--bootstrap", &bootstrap])
    });
    // Whether or not the program has read the first state by now, the second one ends it.
    world.put_state("Aborted", 1, 0.0);
    waiting.join().expect("it did not panic").check(3);
}

#[test]
fn a_verb_returns_when_its_event_is_there() {
    let world = World::new();
    world.put_state("Progressing", 1, 0.05);
    let answers = world.answers("pause");
    let args = ["pause", "flights-v2", "--reason", "lunch", "--expect-revision", "7"];
    let ran = world.run(&args).check(0);
    assert!(ran.stdout.contains("flights-v2: pause, now Paused at revision 7"), "{}", ran.stdout);
    world.run(&["promote", "flights", "--full", "-o", "json"]).check(0);
    world.run(&["apply", "examples/model.yaml"]).check(0);
    let seen = answers.end();
    let [pause, promote, apply] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(
        (&pause["verb"], &pause["by"], &pause["reason"], &pause["expect_revision"]),
        (&json!("pause"), &json!("ann"), &json!("lunch"), &json!(7))
    );
    assert_eq!(
        (&promote["verb"], &promote["rollout"]),
        (&json!("promote-full"), &json!("flights-v2"))
    );
    assert_eq!(
        (&apply["verb"], &apply["rollout"], &apply["spec"]["kind"]),
        (&json!("apply"), &Value::Null, &json!("Model"))
    );
}

#[test]
fn a_refusal_is_an_error_and_its_event_is_data() {
    let world = World::new();
    world.put_state("Progressing", 1, 0.05);
    let answers = world.answers("conflict");
    let ran = world.run(&["abort", "flights-v2", "--expect-revision", "6", "-o", "json"]).check(1);
    assert_eq!(ran.json()["verdict"], "conflict");
    assert!(ran.stderr.contains("refused"), "{}", ran.stderr);
    answers.end();
}

#[test]
fn a_command_without_an_answer_is_exit_4() {
    let world = World::new();
    world.put_state("Progressing", 1, 0.05);
    let ran = world.run(&["resume", "flights-v2", "--timeout", "200ms"]).check(4);
    assert!(ran.stderr.contains("no instance of `serinus` answered"), "{}", ran.stderr);
}

#[test]
fn a_request_is_inspected_from_end_to_end() {
    let world = World::new();
    world.put_state("Progressing", 1, 0.05);
    let home = partition(b"r1", 4);
    let prediction = json!({
        "request_id": "r1", "model": "flights", "rollout": "flights-v2", "revision": 7, "stage": 1, "arm": "v2",
        "propensity": 0.05, "served": {"version": "v2", "outcome": "ok"}, "requested_at": 1, "routed_at": 2, "served_at": 9,
        "answers": [{"version": "v2", "role": "serve", "status": "ok", "latency_ms": 6.1, "value": {"score": 0.12}}],
        "source": {"partition": 3, "offset": 1042},
    });
    world.put("flights.predictions", home, "r1", &prediction, &[]);
    world.put("flights.predictions", home, "r2", &prediction, &[]);
    for (id, partition) in [("r1", 3), ("r2", 3)] {
        let headers =
            [("serinus-request-id", id), ("serinus-version", "v2"), ("serinus-outcome", "ok")];
        world.put("flights.served", partition, "N14228", &json!({"score": 0.12}), &headers);
    }
    world.put("flights.labels", 1, "any", &json!({"request_id": "r1", "label": {"late": 1}}), &[]);
    let mut row = prediction.clone();
    for (field, value) in [
        ("label", json!({"late": 1})),
        ("label_status", json!("labelled")),
        ("row_version", json!(1)),
        ("scores", json!({"v2": {"brier": 0.77}})),
    ] {
        row[field] = value;
    }
    world.put("flights.analysis", home, "r1", &row, &[]);
    let found = world.run(&["inspect", "r1", "-o", "json"]).check(0).json();
    for part in ["predictions", "served", "labels", "analysis"] {
        assert_eq!(found[part].as_array().map(Vec::len), Some(1), "{part}: {found}");
    }
    let said = world.run(&["inspect", "r1", "--model", "flights"]).check(0).stdout;
    assert!(said.contains("routed to v2") && said.contains("analysis row 1: labelled"), "{said}");
    world.run(&["inspect", "r9"]).check(1);
}

#[test]
fn a_tail_prints_the_newest_or_the_oldest() {
    let world = World::new();
    world.put_state("Progressing", 1, 0.05);
    for index in 0..5 {
        world.put("flights.served", 2, "k", &json!({"index": index}), &[("serinus-version", "v1")]);
    }
    let indices = |args: &[&str]| -> Vec<Value> {
        let ran = world.run(args).check(0);
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("a line is JSON");
        ran.stdout.lines().map(|line| read(line)["value"]["index"].clone()).collect()
    };
    assert_eq!(indices(&["tail", "served", "-n", "2", "--raw"]), [json!(3), json!(4)]);
    assert_eq!(
        indices(&["tail", "flights.served", "-n", "2", "--from-beginning", "-o", "json"]),
        [json!(0), json!(1)]
    );
    assert_eq!(
        indices(&["tail", "served", "--model", "flights", "--from-beginning", "--raw"]).len(),
        5
    );
    let said = world.run(&["tail", "served", "-n", "1"]).check(0).stdout;
    assert!(said.contains("flights.served[2]@4") && said.contains("serinus-version: v1"), "{said}");
    world.run(&["tail", "no-such-topic"]).check(1);
}

#[test]
fn a_watch_ends_with_the_rollout() {
    let world = World::new();
    world.put_state("Progressing", 1, 0.05);
    let bootstrap = world.cluster.bootstrap_servers();
    let mut child = Command::new(env!("CARGO_BIN_EXE_serinus"))
        .args(["watch", "flights-v2", "--bootstrap", &bootstrap])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // It prints where the rollout stands once it follows new records.
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut headline = String::new();
    stderr.read_line(&mut headline).expect("it says something");
    assert_eq!(headline, "flights-v2: Progressing, stage 2 of 3, v1 95% (stable), v2 5%\n");
    let metrics = metrics(json!({"tick": 0, "verdict": "advance", "reason": "all gates passed"}));
    world.put("serinus.rollout-metrics", 0, "flights-v2", &metrics, &[]);
    let other = json!({"rollout": "trips-v3", "model": "trips", "verdict": "abort", "to": state("Aborted", 0, 0.0)});
    let other = event(other);
    world.put("serinus.rollout-events", 0, "trips-v3", &other, &[]);
    let event = event(json!({"actor": "judge", "verdict": "abort", "reason": "harm",
                             "from": state("Progressing", 1, 0.05), "to": state("Aborted", 1, 0.0)}));
    world.put("serinus.rollout-events", 0, "flights-v2", &event, &[]);
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!(output.status.code(), Some(3), "aborted");
    let said = String::from_utf8(output.stdout).expect("it prints text");
    let abort = "1970-01-01 00:00:00  ABORT by judge: Progressing -> Aborted, v1 100% (stable)";
    assert!(said.lines().any(|s| s == abort), "{said}");
    assert!(!said.contains("trips"), "{said}");
    // A command that comes too late fails immediately.
    world.put_state("Aborted", 1, 0.0);
    world.run(&["watch", "flights-v2"]).check(3);
}

/// The broker accepts the connection and never responds.
#[test]
fn an_instance_that_is_stopped_while_it_starts_leaves_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    silent.set_nonblocking(true).expect("it can be asked without waiting");
    let address = silent.local_addr().expect("it is bound").to_string();
    let mut command = process::serinus();
    command.args(["run", "--bootstrap", &address, "--app", "a", "--create-topics"]);
    let log = process::folder("stopped-while-it-starts").join("run.log");
    let mut run = process::Process::start(&mut command, &log);
    let deadline = Deadline::after(WAIT);
    while silent.accept().is_err() {
        run.assert_running();
        assert!(!deadline.is_over(), "it did not connect");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    run.stop();
}
