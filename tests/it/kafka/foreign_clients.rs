//! Other clients on the same topics: kcat, Kafka's console consumer, a worker in Python.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::kafka::{Kafka, Reader, skip};
use crate::kit::process::{Process, folder};
use crate::kit::specs;
use crate::kit::worker::{Behavior, Worker, answer};
use crate::kit::world::{WAIT, World};

fn spec() -> String {
    specs::shadow("  timeout: 30s", "2s")
}

#[test]
fn kcat_asks_and_reads_the_answer() {
    let Some(kafka) = Kafka::find() else { return };
    if !runs("kcat", &["-V"]) {
        return skip("kcat is not installed (Debian: kcat)");
    }
    let world = World::new(&kafka, "kcat", &spec());
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let workers = ["v1", "v2"]
        .map(|version| Worker::start(&kafka, &world.name, version, Behavior::default()));

    let body = r#"{"distance": 733}"#;
    let produce = [
        "-P",
        "-b",
        &kafka.bootstrap,
        "-t",
        &world.topic("requests"),
        "-p",
        "2",
        "-k",
        "N14228",
        "-H",
        "ce_id=r1",
        "-H",
        "tenant=blue",
    ];
    let asked = piped(Command::new("kcat").args(produce), body);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    Reader::open(&kafka, &world.topic("served"))
        .until("the answer", WAIT, |records| !records.is_empty());

    // To the end of the topic, with headers next to the value: key, partition, headers, value.
    let consume = [
        "-C",
        "-e",
        "-q",
        "-b",
        &kafka.bootstrap,
        "-t",
        &world.topic("served"),
        "-X",
        "isolation.level=read_committed",
        "-f",
        "%k|%p|%h|%s\n",
    ];
    let output = Command::new("kcat").args(consume).output().expect("kcat runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let [line] = lines[..] else { panic!("one answer, not {lines:?}") };
    let [key, partition, headers, value] = line.splitn(4, '|').collect::<Vec<_>>()[..] else {
        panic!("four fields: {line}")
    };
    assert_eq!((key, partition), ("N14228", "2"));
    // kcat sends the line without its newline.
    assert_eq!(value.as_bytes(), answer("v1", body.as_bytes()));
    for header in [
        "ce_id=r1",
        "tenant=blue",
        "serinus-request-id=r1",
        "serinus-version=v1",
        "serinus-outcome=ok",
    ] {
        assert!(headers.split(',').any(|h| h == header), "{header} is missing in {headers}");
    }
    drop(workers);
    run.stop();
}

#[test]
fn kafkas_console_consumer_reads_the_evidence() {
    let Some(kafka) = Kafka::find() else { return };
    if !runs("java", &["-version"]) {
        return skip("Kafka's console consumer needs a JVM");
    }
    let world = World::new(&kafka, "console", &spec());
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let workers = ["v1", "v2"]
        .map(|version| Worker::start(&kafka, &world.name, version, Behavior::default()));
    let sent = world.send_requests(0, 200);
    world.send_labels(&sent);
    let metrics = world.app_topic("rollout-metrics");
    let has_evidence = |json: &Value| {
        json["metrics"]
            .as_array()
            .is_some_and(|a| a.iter().any(|metric| metric["n"].as_u64().unwrap_or_default() > 0))
    };
    let mut seen = 0;
    Reader::open(&kafka, &metrics).until("evidence", WAIT, |records| {
        seen = records.len();
        records.iter().any(|r| has_evidence(&r.json()))
    });

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/kafka.sh");
    // Metrics are written at every tick: this many records are enough.
    let enough = seen.to_string();
    let arguments = [
        "console-consumer",
        "--max-messages",
        &enough,
        "--bootstrap-server",
        &kafka.bootstrap,
        "--topic",
        &metrics,
        "--from-beginning",
        "--timeout-ms",
        "30000",
    ];
    let output = Command::new(script)
        .args(arguments)
        .args(["--isolation-level", "read_committed"])
        .output()
        .expect("the script runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let record = records
        .iter()
        .find(|r| has_evidence(r))
        .unwrap_or_else(|| panic!("no evidence among {} records", records.len()));
    assert_eq!(
        (&record["rollout"], &record["model"], &record["strategy"]),
        (&json!(world.rollout()), &json!(world.name), &json!("shadow"))
    );
    let metric = &record["metrics"][0];
    assert_eq!((&metric["name"], &metric["candidate"]), (&json!("brier"), &json!("v2")));
    for version in ["v1", "v2"] {
        assert!(
            metric["arms"][version]["estimate"].is_number(),
            "{version} has no estimate in {metric}"
        );
    }
    assert!(
        record["reason"].as_str().is_some_and(|r| !r.is_empty()),
        "a verdict says why: {record}"
    );
    drop(workers);
    run.stop();
}

#[test]
fn a_worker_in_python_serves_a_model() {
    let Some(kafka) = Kafka::find() else { return };
    let python = std::env::var("SERINUS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !runs(&python, &["-c", "import confluent_kafka"]) {
        return skip(
            "no python3 with confluent_kafka (pip install confluent-kafka; SERINUS_PYTHON names another python)",
        );
    }
    let world =
        World::new(&kafka, "python", spec().split("---").next().expect("the model comes first"));
    let mut run = world.run();
    world.await_topic(&world.topic("v1.requests"), &mut run);
    world.await_topic(&world.topic("served"), &mut run);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/python_worker.py");
    let log = folder(&world.name).join("python.log");
    let mut worker = Process::start(
        Command::new(&python).args([script, &kafka.bootstrap, &world.name, "v1"]),
        &log,
    );
    let sent = world.send_requests(0, 100);
    let mut served = Reader::open(&kafka, &world.topic("served"));
    served.until("an answer to every request", Duration::from_mins(1), |records| {
        worker.assert_running();
        records.len() >= sent.len()
    });
    for request in &sent {
        let answers: Vec<_> = served
            .records
            .iter()
            .filter(|r| r.header("serinus-request-id") == Some(request.id.as_str()))
            .collect();
        let [answer] = answers[..] else { panic!("{}: {} answers", request.id, answers.len()) };
        assert_eq!(
            (answer.partition, &answer.key),
            (request.partition, &request.key),
            "{}",
            request.id
        );
        // The model cannot read the body that is not text: the worker reports it at once and continues.
        let expected = match std::str::from_utf8(&request.value) {
            Ok(_) => (Some("v1"), Some("ok")),
            Err(_) => (None, Some("error")),
        };
        assert_eq!(
            (answer.header("serinus-version"), answer.header("serinus-outcome")),
            expected,
            "{}",
            request.id
        );
    }
    drop(worker);
    run.stop();
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

fn piped(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child
        .stdin
        .take()
        .expect("stdin is piped")
        .write_all(input.as_bytes())
        .expect("it reads its input");
    child.wait_with_output().expect("it ends")
}
