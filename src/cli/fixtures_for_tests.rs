//! Complete records for the tests of the command line; each test gives the fields that it is about.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cli::decoded::{Decoded, decode};
use crate::cli::state::State;
use crate::wire::event::EventRecord;
use crate::wire::metrics::MetricsRecord;
use crate::wire::state::StateRecord;

/// Returns the state of `flights` with these fields.
pub(crate) fn state(fields: Value) -> State {
    let mut record = position();
    let rest = json!({
        "rollout": "flights-v2", "model": "flights", "spec": null, "since": 1_377_993_600_000_i64, "by": "judge",
        "reason": "advanced", "conditions": [], "sequence": 3, "routed": "flights-v2",
        "memory": {"model_spec": null, "applied_at": 0, "entered_at": null, "judged": null, "design": {"assumptions": []},
                   "winner": null, "queue": [], "past": [], "commands": []},
    });
    merge(&mut record, rest);
    let decoded: Decoded<StateRecord> = decoded(record, fields);
    State::published(decoded.record.model.clone(), decoded)
}

/// Returns an event of `flights-v2` with these fields.
pub(crate) fn event(fields: Value) -> Decoded<EventRecord> {
    let record = json!({
        "rollout": "flights-v2", "model": "flights", "sequence": 1, "at": 0, "actor": "judge", "command_id": null,
        "verdict": "hold", "reason": "", "from": null, "to": position(), "evidence": null, "positions": [],
    });
    decoded(record, fields)
}

/// Returns evidence of `flights-v2` with these fields.
pub(crate) fn metrics(fields: Value) -> Decoded<MetricsRecord> {
    let ok = json!({"p": 1.0, "verdict": "ok"});
    let record = json!({
        "rollout": "flights-v2", "model": "flights", "strategy": "canary", "revision": 7, "stage": 2,
        "tick": 1_377_990_000_000_i64, "arms": [], "metrics": [],
        "health": {"split": ok, "label_parity": ok, "mixed_units": 0, "lag": 0, "no_data": false},
        "verdict": "hold", "reason": "holding until 14:30", "eta": null,
    });
    decoded(record, fields)
}

/// Returns the JSON of an arm with these fields.
pub(crate) fn arm(fields: Value) -> Value {
    let mut arm = json!({
        "version": "v1", "role": "stable", "share": 1.0, "exposures": 0, "answered": 0, "errors": 0, "timeouts": 0, "late": 0,
        "fallbacks": 0, "labelled": 0, "mature": 0, "coverage": null, "latency_ms": null,
    });
    merge(&mut arm, fields);
    arm
}

/// Returns the JSON of a metric of `v2` with these fields.
pub(crate) fn finding(fields: Value) -> Value {
    let mut finding = json!({
        "name": "brier", "kind": "brier", "role": "goal", "candidate": "v2", "n": 0, "arms": {}, "difference": null,
        "margin": 0.01, "log_e": null, "p": null, "classic": null, "verdict": "open",
    });
    merge(&mut finding, fields);
    finding
}

/// Returns the JSON of a position of `flights-v2` at stage 0.
pub(crate) fn position() -> Value {
    json!({
        "phase": "Progressing", "rollout": "flights-v2", "stage": 0, "revision": 7, "stable": "v1", "salt": "s",
        "shares": {}, "shadows": {}, "slices": [],
    })
}

/// Replaces the fields of a JSON object.
pub(crate) fn merge(record: &mut Value, fields: Value) {
    match (record, fields) {
        (Value::Object(record), Value::Object(fields)) => record.extend(fields),
        (record, fields) => panic!("{record} and {fields} are objects"),
    }
}

fn decoded<T: DeserializeOwned>(mut value: Value, fields: Value) -> Decoded<T> {
    merge(&mut value, fields);
    Decoded { record: decode(&value).expect("the record is complete"), value }
}
