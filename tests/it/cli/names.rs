//! Rollout names on the command line: two models with one name, and rollouts that are over, waiting or refused.

use serde_json::{Value, json};

use crate::cli::commands::{Ran, World, serinus};
use crate::cli::records::{self, metrics, state};

fn of_model(model: &str, rollout: &str, phase: &str) -> Value {
    let mut state = state(phase, 1, 0.05);
    state["model"] = model.into();
    state["rollout"] = rollout.into();
    state["spec"]["metadata"]["name"] = rollout.into();
    state
}

fn event(sequence: u64, rollout: &str, verdict: &str, phase: &str, reason: &str) -> Value {
    records::event(json!({
        "rollout": rollout, "sequence": sequence, "command_id": format!("command of {rollout}"), "verdict": verdict, "reason": reason,
        "to": state(phase, 1, 0.05),
    }))
}

#[test]
fn a_rollout_that_two_models_have_is_named_with_its_model() {
    let world = World::new();
    for model in ["flights", "trips"] {
        world.put("serinus.rollouts", 0, model, &of_model(model, "canary", "Progressing"), &[]);
        let metrics = metrics(
            json!({"rollout": "canary", "model": model, "reason": format!("the numbers of {model}")}),
        );
        world.put("serinus.rollout-metrics", 0, "canary", &metrics, &[]);
    }
    for command in ["abort", "pause", "resume", "promote", "status", "get", "report", "watch"] {
        let ran = world.run(&[command, "canary"]).check(2);
        let both = "`flights/canary` and `trips/canary`";
        assert!(ran.stderr.contains(both), "{command}: {}", ran.stderr);
    }
    for model in ["flights", "trips"] {
        let (full, own) = (format!("{model}/canary"), format!("the numbers of {model}"));
        for named in [&[full.as_str()][..], &["canary", "--model", model], &[model]] {
            let said = world.run(&[&["status"][..], named].concat()).check(0).stdout;
            assert!(said.contains(&own), "{named:?}: {said}");
            let said = world.run(&[&["report"][..], named].concat()).check(0).stdout;
            assert!(said.contains(&own), "{named:?}: {said}");
            let state = world.run(&[&["get", "-o", "json"][..], named].concat()).check(0).json();
            assert_eq!(state["model"], model, "{named:?}");
        }
    }
    world.run(&["status", "flights/canary", "--model", "trips"]).check(2);
    world.run(&["status", "buses/canary"]).check(1);
    let answers = world.answers("abort");
    world.run(&["abort", "trips/canary", "--reason", "x"]).check(0);
    world.run(&["abort", "canary", "--model", "flights", "--reason", "x"]).check(0);
    let seen: Vec<_> =
        answers.end().iter().map(|e| (e["model"].clone(), e["rollout"].clone())).collect();
    assert_eq!(
        seen,
        [(json!("trips"), json!("canary")), (json!("flights"), json!("canary"))],
        "nothing was sent while it was not clear what is meant"
    );
}

#[test]
fn a_rollout_that_is_over_is_known_by_its_events() {
    let world = World::new();
    world.put("serinus.rollouts", 0, "flights", &of_model("flights", "r4", "Progressing"), &[]);
    let ends = [
        ("r1", "promote", "Promoted", 0),
        ("r2", "abort", "Aborted", 3),
        ("r3", "inconclusive", "Inconclusive", 6),
    ];
    for (sequence, (rollout, verdict, phase, _)) in (1_u64..).step_by(2).zip(ends) {
        let begin = event(sequence, rollout, "apply", "Progressing", "begins");
        world.put("serinus.rollout-events", 0, rollout, &begin, &[]);
        let end = event(sequence + 1, rollout, verdict, phase, &format!("how {rollout} ended"));
        world.put("serinus.rollout-events", 0, rollout, &end, &[]);
        let metrics = metrics(json!({"rollout": rollout, "reason": "its evidence"}));
        world.put("serinus.rollout-metrics", 0, rollout, &metrics, &[]);
    }
    // Refused commands after the end of a rollout do not change how it ended.
    let late = event(9, "r2", "conflict", "Progressing", "the rollout of this model is `r4`");
    world.put("serinus.rollout-events", 0, "r2", &late, &[]);
    for (rollout, _, phase, code) in ends {
        let wait = ["status", rollout, "--wait", "--timeout", "20s"];
        let said = world.run(&wait).check(code).stdout;
        let reason = format!("how {rollout} ended");
        assert!(said.contains(phase) && said.contains(&reason), "{said}");
        let state = world.run(&["get", rollout, "-o", "json"]).check(0).json();
        assert_eq!((&state["rollout"], &state["phase"]), (&json!(rollout), &json!(phase)));
        let said = world.run(&["report", rollout]).check(0).stdout;
        assert!(said.contains("its evidence") && said.contains("it is over"), "{said}");
        world.run(&["watch", rollout]).check(code);
    }
    world.run(&["status", "r4", "--wait", "--timeout", "200ms"]).check(4);
}

#[test]
fn a_rollout_whose_events_are_gone_is_known_by_its_models_state() {
    let world = World::new();
    let mut state = of_model("flights", "r2", "Progressing");
    state["memory"]["past"] = json!([{"rollout": "r1", "phase": "Aborted", "fingerprint": "0"}]);
    world.put("serinus.rollouts", 0, "flights", &state, &[]);
    world.run(&["status", "r1", "--wait", "--timeout", "20s"]).check(3);
    let ran = world.run(&["abort", "r1"]).check(1);
    assert!(ran.stderr.contains("`flights/r1` is over (Aborted)"), "{}", ran.stderr);
}

#[test]
fn a_wait_for_a_rollout_that_waited_and_was_refused_ends_with_the_refusal() {
    let world = World::new();
    let mut state = of_model("flights", "r2", "Progressing");
    let spec = json!({"kind": "Rollout", "metadata": {"name": "r3"}});
    state["memory"]["queue"] = json!([{"spec": spec, "command_id": "command of r3", "by": "ann"}]);
    world.put("serinus.rollouts", 0, "flights", &state, &[]);
    let put_event = |v: Value| world.put("serinus.rollout-events", 0, "r3", &v, &[]);
    put_event(event(5, "r3", "apply", "Pending", "waits for the end of `r2`"));
    let wait = ["status", "r3", "--wait", "--timeout", "60s"];
    let said = world.run(&["status", "r3"]).check(0).stdout;
    assert!(said.contains("Pending") && said.contains("waits for the end of `r2`"), "{said}");
    let bootstrap = world.cluster.bootstrap_servers();
    let waiting =
        std::thread::spawn(move || serinus(&[&wait[..], &["--bootstrap", &bootstrap]].concat()));
    // A refused command on the rollout is not a refusal of the rollout.
    let mut paused = event(6, "r3", "conflict", "Progressing", "the rollout of this model is `r2`");
    paused["command_id"] = "another".into();
    put_event(paused);
    world.put("serinus.rollouts", 0, "flights", &of_model("flights", "r2", "Promoted"), &[]);
    put_event(event(8, "r3", "conflict", "Promoted", "v2 is the stable version already"));
    let check = |ran: Ran| {
        let ran = ran.check(1);
        assert!(ran.stderr.contains("refused: v2 is the stable version already"), "{}", ran.stderr);
    };
    check(waiting.join().expect("it did not panic"));
    check(world.run(&wait));
    check(world.run(&["status", "r3"]));
}
