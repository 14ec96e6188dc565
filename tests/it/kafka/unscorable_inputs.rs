//! Unscorable answers and labels on a real Kafka: the rollout holds, and status, report and records give the reason.

use std::process::Command;

use serde_json::{Value, json};

use crate::kit::clock::unix_ms;
use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::process::serinus;
use crate::kit::specs;
use crate::kit::worker::{Behavior, Worker, is_late};
use crate::kit::world::{Sent, WAIT, World};

fn spec() -> String {
    specs::scored(
        "  timeout: 10s\n  shadowTimeout: 12s",
        "
  candidates: [v2]
  strategy: shadow
  stages: [{shadow: 100%}]
  labels: {maturity: 4s, missing: exclude}
  decide: {alpha: 0.05, by: 14d, no_data: hold, auto: true, tick: 6s}
",
    )
}

/// A label in the common coding of +1 for true and -1 for false.
fn coded(request: &Sent) -> Record {
    let late = if is_late(&request.value) { 1 } else { -1 };
    let label =
        json!({"request_id": request.id, "label": {"late": late}, "observed_at": unix_ms()});
    Record { value: label.to_string().into(), ..Record::default() }
}

fn gap<'a>(record: &'a Value, version: &str, reason: &str) -> Option<&'a Value> {
    let gaps = record["health"]["scoring"].as_array()?;
    gaps.iter().find(|gap| gap["version"] == version && gap["reason"] == reason)
}

fn said(world: &World, kafka: &Kafka, verb: &str) -> String {
    let mut command: Command = serinus();
    command.args([verb, &world.rollout(), "--bootstrap", &kafka.bootstrap, "--app", &world.app]);
    let output = command.output().expect("it runs");
    // `status` ends with 6 once the traffic of the test has stopped.
    let is_expected = matches!(output.status.code(), Some(0 | 6));
    assert!(is_expected, "{verb}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn unscorable_labels_and_answers_hold_and_name_three_requests() {
    let Some(kafka) = Kafka::find() else { return };
    // On a slow machine traffic has stopped by the time all labels are mature: the reason still names the labels.
    let world = World::new(&kafka, "unreadable", &spec());
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let _stable = Worker::start(&kafka, &world.name, "v1", Behavior::default());
    let odd = Behavior { nan_every: Some(4), ..Behavior::default() };
    let _candidate = Worker::start(&kafka, &world.name, "v2", odd);
    let sent = world.send_requests(0, 240);
    let labels: Vec<Record> = sent.iter().map(coded).collect();
    world.kafka.send(&world.topic("labels"), &labels);
    let mut metrics = Reader::open(&kafka, &world.app_topic("rollout-metrics"));
    let is_whole = |record: &Value| {
        record["reason"].as_str().is_some_and(|reason| reason.contains("are no outcomes"))
            && record["arms"][0]["mature"] == 240
            && gap(record, "v2", "not finite").is_some()
    };
    metrics.until("a hold that names the labels", WAIT, |records| {
        records.iter().any(|record| is_whole(&record.json()))
    });
    let record = metrics.records.iter().map(Record::json).rfind(is_whole).expect("it came");
    assert_eq!(&record["verdict"], &json!("hold"));
    let negatives = sent.iter().filter(|s| !is_late(&s.value)).count();
    for version in ["v1", "v2"] {
        let gap = gap(&record, version, "label: no outcome").expect("it is named");
        let share = gap["share"].as_f64().expect("a share");
        assert!((share - negatives as f64 / 240.0).abs() < 1e-9, "{gap}");
        let ids: Vec<&str> =
            gap["sample"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let is_negative = |id: &&str| sent.iter().any(|s| s.id == **id && !is_late(&s.value));
        assert!(ids.len() == 3 && ids.iter().all(is_negative), "{gap}");
        // Both versions answered all cases, so the example requests are the same.
        let status = said(&world, &kafka, "status");
        let line = format!("brier of {version}: ");
        let line = status.lines().find(|s| s.contains(&line) && s.contains("label: no outcome"));
        let line = line.unwrap_or_else(|| panic!("{version} is not in:\n{status}"));
        assert!(ids.iter().all(|id| line.contains(id)), "{line}");
    }
    assert!(gap(&record, "v1", "not finite").is_none(), "v1 answers numbers");
    let report = said(&world, &kafka, "report");
    assert!(report.contains("brier of v2:") && report.contains("not finite"), "{report}");
    run.stop();
}
