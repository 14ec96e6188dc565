//! Complete records of the application; each test gives the fields that it is about.

use serde_json::{Value, json};

/// The state of `flights` with its rollout `flights-v2`.
pub(crate) fn state(phase: &str, stage: u32, share: f64) -> Value {
    json!({
        "rollout": "flights-v2", "model": "flights", "phase": phase, "stage": stage, "revision": 7, "stable": "v1",
        "salt": "s", "shares": {"v2": share}, "shadows": {}, "slices": [["v2", 0.5]], "since": 1_377_993_600_000_i64,
        "by": "judge", "reason": "all gates passed", "conditions": [], "sequence": 1, "routed": "flights-v2",
        "spec": {"kind": "Rollout", "metadata": {"name": "flights-v2"}, "spec": {"stages": [{}, {}, {}]}},
        "memory": {"model_spec": null, "applied_at": 0, "entered_at": null, "judged": null, "design": {"assumptions": []},
                   "winner": null, "queue": [], "past": [], "commands": []},
    })
}

/// An event of `flights-v2` with these fields.
pub(crate) fn event(fields: Value) -> Value {
    let event = json!({
        "rollout": "flights-v2", "model": "flights", "sequence": 1, "at": 0, "actor": "ann", "command_id": null,
        "verdict": "hold", "reason": "", "from": null, "to": state("Progressing", 1, 0.05), "evidence": null, "positions": [],
    });
    merged(event, fields)
}

/// Evidence of `flights-v2` with these fields.
pub(crate) fn metrics(fields: Value) -> Value {
    let ok = json!({"p": 1.0, "verdict": "ok"});
    let metrics = json!({
        "rollout": "flights-v2", "model": "flights", "strategy": "canary", "revision": 7, "stage": 1, "tick": 1, "arms": [],
        "metrics": [], "health": {"split": ok, "label_parity": ok, "mixed_units": 0, "lag": 0, "no_data": false},
        "verdict": "hold", "reason": "", "eta": null,
    });
    merged(metrics, fields)
}

fn merged(mut record: Value, fields: Value) -> Value {
    let (Value::Object(members), Value::Object(fields)) = (&mut record, fields) else {
        panic!("a record and its fields are objects");
    };
    members.extend(fields);
    record
}
