//! The spec that most tests roll out by: a model whose answers are scored, and a rollout of its version `v2`.

/// Returns it with further lines of the model and of the rollout, each two spaces in.
///
/// `MODEL` stands for the model's name, as everywhere in the specs of tests.
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

/// A shadow that is never over, whose labels are read at this age.
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
