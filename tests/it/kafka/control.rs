//! Operations on running rollouts on a real Kafka: models applied again, one rollout name at two models, rollouts that wait.

use crate::kit::kafka::{Kafka, Reader};
use crate::kit::process::serinus;
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{WAIT, World};

/// A model with `MORE` in its spec, and a rollout that only an operator ends.
const SPEC: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: MODEL}
spec: {stable: v1, unit: key, requestId: 'header:ce_id', MORE}
---
apiVersion: serinus/v1
kind: Rollout
metadata: {name: NAME}
spec:
  model: MODEL
  candidates: [v2]
  strategy: canary
  onConflict: queue
  stages: [{share: 50%, hold: 1d}]
  metrics:
    - {name: brier, kind: brier, prediction: json:/score, label: json:/late, role: goal, margin: 0.5, mde: 0.01}
  labels: {maturity: 1s, missing: exclude}
  decide: {by: 14d, tick: 1s}
";

fn spec(more: &str, name: &str) -> String {
    SPEC.replace("MORE", more).replace("NAME", name)
}

/// Runs the program; returns its exit code and its whole output.
fn ran(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let output = serinus()
        .args(args)
        .args(["--bootstrap", &world.kafka.bootstrap, "--app", &world.app])
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].map(|s| String::from_utf8_lossy(&s).into_owned());
    (output.status.code(), said.concat())
}

fn check(world: &World, args: &[&str], code: i32, part: &str) {
    let (found, said) = ran(world, args);
    assert_eq!(found, Some(code), "{args:?}: {said}");
    assert!(said.contains(part), "no `{part}` in {args:?}: {said}");
}

fn apply(world: &World, spec: &str, code: i32, part: &str) {
    let path = world.write_spec(spec);
    check(world, &["apply", &path], code, part);
}

#[test]
fn rows_continue_after_a_model_is_applied_during_its_rollout() {
    let Some(kafka) = Kafka::find() else { return };
    let world = World::new(&kafka, "applied", &spec("timeout: 60s", "MODEL-v2"));
    let mut run = world.run();
    world.await_phase("Progressing", &mut run);
    let _workers = ["v1", "v2"].map(|r| Worker::start(&kafka, &world.name, r, Behavior::default()));
    let mut rows = Reader::open(&kafka, &world.topic("analysis"));
    let mut go_on = |from: usize, to: usize| {
        let sent = world.send_requests(from, to);
        world.send_labels(&sent);
        rows.until("a row of each case", WAIT, |u| u.len() >= to);
    };
    go_on(0, 40);
    let rollout = world.rollout();
    apply(&world, &spec("timeout: 50s", &rollout), 0, "the model changed");
    go_on(40, 160);
    let unit = spec("timeout: 50s", &rollout).replace("unit: key", "unit: json:/number");
    let refusal = format!("`unit` cannot change while `{rollout}` is in progress");
    apply(&world, &unit, 1, &refusal);
    go_on(160, 200);
    run.await_condition("all cases in the evidence", WAIT, || {
        let (_, said) = ran(&world, &["status", &rollout, "-o", "json"]);
        let said: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
        let arms = said["metrics"]["arms"].as_array().expect("there are arms");
        arms.iter().filter_map(|a| a["exposures"].as_u64()).sum::<u64>() == 200
            && said["metrics"]["health"]["unplanned"] == 0
    });
    run.stop();
    let audit = world.audit(&[]);
    assert_eq!(audit.code, Some(0), "{:#}", audit.said);
}

#[test]
fn rollouts_of_one_name_at_two_models_never_mix() {
    let Some(kafka) = Kafka::find() else { return };
    let of = |name: &str| spec("timeout: 60s", name);
    let worlds = World::several(&kafka, "mixed", &[("a", of("canary")), ("b", of("canary"))]);
    let [a, b] = &worlds[..] else { panic!("two were made") };
    let mut run = a.run();
    a.await_phase("Progressing", &mut run);
    b.await_phase("Progressing", &mut run);
    let _workers = [("v1", a), ("v2", a), ("v1", b), ("v2", b)]
        .map(|(r, world)| Worker::start(&kafka, &world.name, r, Behavior::default()));
    for (world, n) in [(a, 40), (b, 24)] {
        let sent = world.send_requests(0, n);
        world.send_labels(&sent);
    }
    let full = |world: &World| format!("{}/canary", world.name);
    for (world, n) in [(a, 40), (b, 24)] {
        run.await_condition("its own cases in the evidence", WAIT, || {
            let (_, said) = ran(world, &["status", &full(world), "-o", "json"]);
            let said: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
            let arms = said["metrics"]["arms"].as_array().into_iter().flatten();
            arms.filter_map(|a| a["exposures"].as_u64()).sum::<u64>() == n
        });
    }
    check(a, &["abort", "canary", "--reason", "x"], 2, &full(b));
    check(a, &["abort", "canary", "--model", &b.name, "--reason", "x"], 0, "Aborted");
    check(a, &["status", &full(b), "--wait"], 3, "Aborted");
    check(a, &["status", &full(a)], 0, "Progressing");
    // Both wait: for the end of the running rollout, and then for their stable version.
    apply(a, &of("next"), 0, "waits for the end of `canary`");
    check(a, &["status", "next"], 0, "Pending");
    check(a, &["promote", &full(a), "--full", "--reason", "x"], 0, "Promoted");
    check(
        a,
        &["status", "next", "--wait", "--timeout", "60s"],
        1,
        "v2 is the stable version already",
    );
    // A finished rollout is still found after another rollout has started.
    apply(b, &of("second"), 0, "canary v2 against v1");
    check(b, &["status", &full(b), "--wait", "--timeout", "60s"], 3, "Aborted");
    run.stop();
    let audit = a.audit(&[]);
    assert_eq!(audit.code, Some(0), "{:#}", audit.said);
}
