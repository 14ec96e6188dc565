//! `serinus worker` as a process on the client library's mock cluster: what the contract requires of a worker.

use std::time::Duration;

use rdkafka::mocking::MockCluster;

use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::process::{Process, folder, serinus};

const FEATURES: &str =
    "month,dow,mins,distance,carrier_c,origin_c,dest_c,temp,dewp,humid,wind_speed,precip,visib";
const FLIGHT: &str = r#"{"flight":"UA1545","features":{"month":9,"dow":6,"mins":316,"distance":1400,"carrier_c":11,"origin_c":0,"dest_c":43,"temp":73.94,"dewp":71.6,"humid":94.1,"wind_speed":9.20624,"precip":0,"visib":10}}"#;

fn start(bootstrap: &str, more: &[&str], log: &str) -> Process {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/data/flights_v2.onnx");
    let mut command = serinus();
    command
        .args(["worker", "--bootstrap", bootstrap, "--model", "m", "--version", "v2"])
        .args(["--onnx", file, "--features", FEATURES, "--decision", "late"])
        .args(more);
    Process::start(&mut command, &folder("worker").join(log))
}

fn request(id: &str, value: &str, headers: &[(&str, &str)]) -> Record {
    let ours = [
        ("serinus-request-id", id),
        ("serinus-case", "2.7.0.9"),
        ("serinus-version", "v2"),
        ("traceparent", "00-1"),
    ];
    let headers = ours
        .iter()
        .chain(headers)
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
    Record {
        key: Some(b"N57869".to_vec()),
        value: value.as_bytes().to_vec(),
        headers,
        ..Record::default()
    }
}

#[test]
fn a_worker_answers_to_the_given_topic_and_survives_bad_requests() {
    let cluster = MockCluster::new(1).expect("the mock cluster starts");
    cluster.create_topic("m.v2.requests", 1, 1).expect("a topic is made");
    cluster.create_topic("m.responses", 3, 1).expect("a topic is made");
    let kafka = Kafka { bootstrap: cluster.bootstrap_servers() };
    let place = [("serinus-reply-topic", "m.responses"), ("serinus-reply-partition", "2")];
    let without_features = FLIGHT.replace("mins", "minutes");
    kafka.send(
        "m.v2.requests",
        &[
            request("nowhere", FLIGHT, &[]),
            request("no-partition-there", FLIGHT, &[place[0], ("serinus-reply-partition", "9")]),
            request("r1", FLIGHT, &place),
            request("not-json", "nine", &place),
            request("no-feature", &without_features, &place),
            request("no-partition", FLIGHT, &place[..1]),
            request("r2", FLIGHT, &place),
        ],
    );
    let mut answers = Reader::open(&kafka, "m.responses");
    let process = start(&kafka.bootstrap, &["--partitions", "0"], "assigned.log");
    answers.until("five answers", Duration::from_mins(1), |records| records.len() >= 5);
    process.stop();

    let await_answer = |id: &str| {
        let mut found =
            answers.records.iter().filter(|r| r.header("serinus-request-id") == Some(id));
        let first = found.next().unwrap_or_else(|| panic!("{id} has no answer"));
        assert!(found.next().is_none(), "{id} has one answer");
        first
    };
    let good = await_answer("r1");
    assert_eq!((good.partition, good.key.as_deref()), (2, Some(&b"N57869"[..])));
    assert_eq!(good.header("serinus-case"), Some("2.7.0.9"));
    assert_eq!(good.header("serinus-version"), Some("v2"));
    assert_eq!(good.header("serinus-reply-partition"), Some("2"));
    assert_eq!((good.header("serinus-error"), good.header("traceparent")), (None, None));
    let body = good.json();
    let score = body["score"].as_f64().expect("a score");
    assert!((0.0..1.0).contains(&score) && body["late"].is_boolean(), "{body}");
    assert_eq!(await_answer("r2").json(), body);
    for (id, why) in [
        ("not-json", "request is not JSON"),
        ("no-feature", "request has no `/features/mins` (feature `mins`)"),
    ] {
        let error = await_answer(id);
        assert!(error.header("serinus-error").is_some_and(|h| h.starts_with(why)), "{error:?}");
        assert_eq!((error.partition, error.value.len()), (2, 0));
    }
    // Forwarded by the application.
    assert_eq!(await_answer("no-partition").json(), body);

    // Answered requests are committed: another worker of the group continues after them.
    kafka.send("m.v2.requests", &[request("r3", FLIGHT, &place)]);
    let process = start(&kafka.bootstrap, &[], "grouped.log");
    answers.until("the sixth answer", Duration::from_mins(1), |records| records.len() >= 6);
    process.stop();
    let again = kafka.read_all("m.responses");
    assert_eq!(again.len(), 6, "nothing is answered twice");
    assert!(again.iter().any(|a| a.header("serinus-request-id") == Some("r3")));
}

#[test]
fn a_worker_that_cannot_work_reports_why_and_exits() {
    let check = |features: &str, said: &str| {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/data/flights_v1.onnx");
        let output = serinus()
            .args(["worker", "--bootstrap", "localhost:1", "--model", "m", "--version", "v1"])
            .args(["--onnx", file, "--features", features])
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(said), "{stderr}");
    };
    check("mins,distance", "the model takes 13 features, but the feature list names 2");
    check("mins,mins", "`mins` is named twice");
}
