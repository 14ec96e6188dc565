//! The commands of operators on a real Kafka: approve, roll back, try again, extend, and the exit codes of `status`.

use std::process::Output;

use serde_json::Value;

use crate::kit::kafka::{Kafka, Reader};
use crate::kit::process::serinus;
use crate::kit::specs;
use crate::kit::traffic::Traffic;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{WAIT, World};

const ROLLOUT: &str = "
  stages: [{share: 50%, hold: 1s, approve: true}]
  metrics:
    - {name: errors, kind: response_error, role: guardrail, margin: 40%}
  decide: {promote: non_inferior, alpha: 0.1, by: 14d, no_data: hold, tick: 1s}
";

/// A candidate without a worker: it can only be aborted.
const NEXT: &str = "
apiVersion: serinus/v1
kind: Rollout
metadata: {name: MODEL-v3}
spec:
  model: MODEL
  candidates: [v3]
  strategy: shadow
  stages: [{shadow: 100%, until: {exposures: 100000000}}]
  metrics:
    - {name: errors, kind: response_error, role: guardrail, margin: 40%, abort: false}
  decide: {alpha: 0.1, by: 1d, no_data: hold, tick: 1s}
";

struct Operator<'a> {
    world: &'a World,
}

impl Operator<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        let world = self.world;
        serinus()
            .args(arguments)
            .args(["--bootstrap", &world.kafka.bootstrap, "--app", &world.app, "-o", "json"])
            .output()
            .expect("the program can be started")
    }

    /// Runs a command that must end with this code; returns what it printed.
    fn expect(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }
}

#[test]
fn an_operator_approves_rolls_back_tries_again_and_extends() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "operators", &specs::canary(ROLLOUT));
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let _workers = ["v1", "v2"].map(|v| Worker::start(&kafka, &world.name, v, Behavior::default()));
    let operator = Operator { world: &world };
    let (v2, v3) = (format!("{}-v2", world.name), format!("{}-v3", world.name));
    let (model, v2, v3) = (world.name.as_str(), v2.as_str(), v3.as_str());

    // All gates but the approval pass; the wait then ends with the code for "needs a person".
    let traffic = Traffic::start(&world, 60.0);
    let mut events = Reader::open(&kafka, &world.app_topic("rollout-events"));
    operator.expect(5, &["status", v2, "--wait", "--timeout", "90s"]);
    operator.expect(5, &["status", v2]);
    operator.expect(2, &["promote", v2]);
    let approved = operator.expect(0, &["approve", v2, "--reason", "looks good"]);
    assert_eq!((&approved["verdict"], &approved["run"]), (&"approve".into(), &1.into()));
    let gates = approved["gates"].as_array().expect("the gates are listed");
    let blocked: Vec<&Value> = gates.iter().filter(|g| g["state"] == "blocked").collect();
    assert!(blocked.iter().all(|g| g["gate"] == "approval" || g["gate"] == "hold"), "{gates:?}");
    events.until("the promotion", WAIT, |records| {
        records.iter().any(|r| r.json()["verdict"] == "promote")
    });
    traffic.stop();
    operator.expect(0, &["status", v2]);

    // The next rollout runs; a rollback aborts it and goes to the version before in one event.
    let next = world.write_spec(NEXT);
    kafka.create_topics(&[(&format!("{model}.v3.requests"), 4)]);
    operator.expect(0, &["apply", &next]);
    operator.expect(2, &["rollback", model]);
    operator.expect(1, &["rollback", model, "--to", "v9", "--reason", "pager"]);
    let back = operator.expect(0, &["rollback", model, "--reason", "pager"]);
    assert_eq!(back["verdict"], "rollback");
    assert_eq!((&back["to"]["phase"], &back["to"]["stable"]), (&"Aborted".into(), &"v1".into()));
    operator.expect(3, &["status", v3]);

    // The aborted rollout begins again as its second run.
    let again = operator.expect(0, &["retry", v3, "--reason", "the worker is deployed"]);
    assert_eq!((&again["verdict"], &again["run"]), (&"retry".into(), &2.into()));
    assert_eq!(again["rollout"], format!("{v3}#2"));
    assert_ne!(again["to"]["salt"], back["from"]["salt"], "a run has a salt of its own");
    let extended = operator.expect(0, &["extend", v3, "--by", "2d", "--reason", "a holiday"]);
    assert_eq!(extended["verdict"], "extend");
    let state = operator.expect(0, &["get", v3]);
    assert_eq!(state["rollout"], format!("{v3}#2"));
    assert_eq!(state["spec"]["spec"]["decide"]["by"], "3d");

    // A restart restores all of it.
    run.kill();
    let mut run = world.run();
    let second = format!("{v3}#2");
    operator.expect(0, &["pause", &second, "--reason", "lunch"]);
    operator.expect(5, &["status", v3]);
    operator.expect(0, &["resume", v3]);
    operator.expect(0, &["abort", v3, "--reason", "enough"]);
    operator.expect(3, &["status", &second]);
    operator.expect(3, &["status", &format!("{v3}#1")]);
    run.assert_running();
    run.stop();
}
