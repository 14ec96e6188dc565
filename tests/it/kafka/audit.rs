//! Recomputes every decision from the topics of a real Kafka after crashes, and detects records that the judge did not write.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::kafka::{Kafka, Reader, Record};
use crate::kit::process::serinus;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{Audit, Sent, WAIT, World};

/// Decides quickly: v2 is much better than v1, and labels arrive after a second.
const SPEC: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: MODEL}
spec: {stable: v1, unit: key, requestId: 'header:ce_id', timeout: 60s, shadowTimeout: 60s, onFailure: stable}
---
apiVersion: serinus/v1
kind: Rollout
metadata: {name: MODEL-v2}
spec:
  model: MODEL
  candidates: [v2]
  strategy: canary
  stages: [{share: 20%, hold: 2s}, {share: 50%, hold: 2s}]
  metrics:
    - {name: brier, kind: brier, prediction: json:/score, label: json:/late, role: goal, direction: lower, margin: 0.1, mde: 0.1}
  labels: {maturity: 2s, missing: negative}
  decide: {promote: non_inferior, alpha: 0.05, inconclusive: abort, by: 14d, no_data: hold}
";

#[test]
fn decisions_through_crashes_are_recomputed_byte_for_byte() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "audit", SPEC);
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let _workers = ["v1", "v2"].map(|r| Worker::start(&kafka, &world.name, r, Behavior::default()));
    let mut events = Reader::open(&kafka, &world.app_topic("rollout-events"));
    let mut served = Reader::open(&kafka, &world.topic("served"));
    let mut sent: Vec<Sent> = Vec::new();
    let has =
        |records: &[Record], verdict: &str| records.iter().any(|r| r.json()["verdict"] == verdict);
    // Traffic until the evidence promotes v2, with a kill after each part and one manual pause.
    for part in 0.. {
        assert!(part < 40, "no promotion: {}", run.log_text());
        let before = sent.len();
        sent.extend(world.send_requests(before, before + 400));
        world.send_labels(&sent[before..]);
        served.until("an answer to each", WAIT, |u| u.len() >= sent.len());
        if [1, 3, 5].contains(&part) {
            run.kill();
            run = world.run();
        }
        if part == 4 {
            assert_eq!(world.command("pause")["verdict"], "pause");
            assert_eq!(world.command("resume")["verdict"], "resume");
        }
        events.read_for(Duration::from_millis(700));
        if has(&events.records, "promote") {
            break;
        }
    }
    run.stop();
    let Audit { said: audit, code } = world.audit(&[]);
    assert_eq!(code, Some(0), "{audit:#}");
    assert_eq!(audit["clean"], true, "{audit:#}");
    let checks = audit["models"][0]["checks"].as_array().expect("there are checks").clone();
    for what in ["sums", "events", "evidence", "states"] {
        let check = checks.iter().find(|c| c["what"] == what).expect(what);
        assert!(check["equal"].as_u64() > Some(0), "{check}");
        assert_eq!((&check["different"], &check["newer"]), (&json!(0), &json!(0)), "{check}");
    }
    explained(&world);
    // A forged decision: the inputs of the judge do not lead to it.
    let mut forged = events.records.last().expect("there are events").clone();
    let mut value = forged.json();
    value["reason"] = json!("because I say so");
    forged.value = value.to_string().into_bytes();
    kafka.send(&world.app_topic("rollout-events"), &[forged]);
    let Audit { said: audit, code } = world.audit(&["--model", &world.name]);
    assert_eq!(code, Some(1), "{audit:#}");
    let difference = &audit["models"][0]["differences"][0];
    assert!(
        difference["published"].as_str().is_some_and(|d| d.contains("because I say so")),
        "{audit:#}"
    );
    assert_eq!(difference["recomputed"], Value::Null);
}

/// `explain` shows the promotion, from its evidence to the input positions.
fn explained(world: &World) {
    let output = serinus()
        .args(["explain", &world.rollout(), "--bootstrap", &world.kafka.bootstrap])
        .args(["--app", &world.name])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "promote by judge: brier: better proved",
        "brier of v2 (goal)",
        &format!("{}[0] up to", world.topic("predictions")),
        "What led there",
        &format!("Recompute it: serinus replay --from-topics --model {}", world.name),
    ] {
        assert!(said.contains(part), "no `{part}` in:\n{said}");
    }
}
