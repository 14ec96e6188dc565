//! The spec of most tests: a model with scored answers, and a rollout of its version `v2`.

/// Returns the spec with additional lines for the model and the rollout, indented by two spaces.
///
/// `MODEL` stands for the name of the model, as in all specs of the tests.
pub fn scored(model: &str, rollout: &str) -> String {
    format!(
        "
apiVersion: serinus/v1
kind: Model
metadata: {{name: MODEL}}
spec:
  stable: v1
  unit: key
  requestId: header:ce_id
  labels: {{requestId: json:/request_id, value: json:/label, observedAt: json:/observed_at}}
{}
---
apiVersion: serinus/v1
kind: Rollout
metadata: {{name: MODEL-v2}}
spec:
  model: MODEL
  metrics:
    - {{name: brier, kind: brier, prediction: json:/score, label: json:/late, role: goal, direction: lower, margin: 0.5, mde: 0.01}}
{}
",
        model.trim_matches('\n'),
        rollout.trim_matches('\n')
    )
}

/// A shadow rollout that never ends, with this label maturity.
pub fn shadow(deadlines: &str, maturity: &str) -> String {
    scored(
        deadlines,
        &format!(
            "
  candidates: [v2]
  strategy: shadow
  stages: [{{shadow: 100%, until: {{exposures: 100000000}}}}]
  labels: {{maturity: {maturity}, missing: exclude}}
  decide: {{alpha: 0.05, by: 14d, no_data: hold}}
"
        ),
    )
}

/// A canary of `v2` at a model with a timeout of ten seconds; the lines of its stages, metrics and decision follow.
pub fn canary(rollout: &str) -> String {
    format!(
        "
apiVersion: serinus/v1
kind: Model
metadata: {{name: MODEL}}
spec: {{stable: v1, unit: key, requestId: header:ce_id, timeout: 10s}}
---
apiVersion: serinus/v1
kind: Rollout
metadata: {{name: MODEL-v2}}
spec:
  model: MODEL
  candidates: [v2]
  strategy: canary
{}
",
        rollout.trim_matches('\n')
    )
}
