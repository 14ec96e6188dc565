//! Segments: from the spec through the prediction log to an alert, which decides nothing.

use std::sync::Arc;

use serde_json::{Value, json};

use serinus::wire::metrics::MetricsRecord;
use serinus_core::domain::label::Label;
use serinus_core::domain::time::Span;
use serinus_core::engine::judge::command::{Parsed, Verb, Written};
use serinus_core::engine::judge::event::Phase;
use serinus_core::inference::verdict::Proof;
use serinus_core::spec::plan::{Document, load};

use crate::scenarios::plans::MIDNIGHT;
use crate::statistics::world::{Answer, World};

const MODEL: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: m}
spec: {stable: v1, timeout: 1s, segments: {carrier: json:/carrier}}
---
";
const ROLLOUT: &str = "
apiVersion: serinus/v1
kind: Rollout
metadata: {name: r}
spec:
  model: m
  candidates: [v2]
  strategy: canary
  stages: [{share: 50%, hold: 10m}]
  segments: [{by: carrier, values: [AA, DL, UA, WN]}]
  metrics: [{kind: accuracy, prediction: json:/score, label: json:/late, role: goal, margin: 10%}]
  labels: {maturity: 10s}
  decide: {promote: non_inferior, tick: 5s}
";
const CARRIERS: [&str; 4] = ["AA", "DL", "UA", "WN"];

/// Applies the documents of a file.
fn apply(world: &mut World, text: &str) {
    for document in load("segments.yaml", text).unwrap_or_else(|t| panic!("{t}")) {
        let (name, parsed) = match document {
            Document::Model(plan, _) => {
                let document = Value::from("the model");
                (None, Parsed::Model(Box::new(Written { plan, document })))
            }
            Document::Rollout(plan, _) => {
                let document = Value::from("the rollout");
                (Some("r"), Parsed::Rollout(Box::new(Written { plan, document })))
            }
        };
        world.command(Verb::Apply, name, Some(parsed), None);
    }
}

fn luck(request: u64, of: u64) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&request.to_le_bytes(), of);
    (hash >> 11) as f64 * f64::exp2(-53.0)
}

#[test]
fn harm_in_one_segment_is_an_alert_and_decides_nothing() {
    let mut world = World::new("m", 2);
    apply(&mut world, &format!("{MODEL}{ROLLOUT}"));
    for request in 0..4_000 {
        world.wait_until(MIDNIGHT + Span(i64::try_from(request).expect("few") * 100));
        let carrier = CARRIERS[usize::try_from(request % 4).expect("few")];
        world.segments = Arc::from([(Arc::from("carrier"), Arc::from(carrier))]);
        let is_late = luck(request, 1) < 0.5;
        let unit = request.to_string();
        world.case(&unit, &unit, |version| {
            // v2 guesses for one carrier and is better for all others.
            let right = match (version.as_str(), carrier) {
                ("v2", "UA") => 0.5,
                ("v2", _) => 0.9,
                _ => 0.8,
            };
            let is_right = luck(request, 2) < right;
            Answer::Score(if is_right == is_late { 0.9 } else { 0.1 })
        });
        world.label_later(Label {
            request_id: unit.as_str().into(),
            value: json!({"late": u8::from(is_late)}),
            observed_at: world.now + Span::seconds(1),
            version: 1,
            retract: false,
        });
    }
    assert_eq!(world.state().position.phase, Phase::Progressing, "it is neither aborted nor over");
    let report = world.report.as_ref().expect("it was looked at");
    let alerting: Vec<&str> = report
        .segments
        .iter()
        .filter(|s| s.proof == Proof::Alerting)
        .map(|p| p.metric.as_str())
        .collect();
    assert_eq!(alerting, ["accuracy[carrier=UA]"]);
    assert_eq!(report.segments.len(), CARRIERS.len());
    let sum: u64 = report.segments.iter().map(|s| s.n).sum();
    assert_eq!(
        (report.findings.len(), report.findings[0].n),
        (1, sum),
        "every case is in one of them"
    );
    let sent = MetricsRecord::from(report);
    let verdicts: Vec<&str> = sent.segments.iter().map(|s| s.verdict.as_str()).collect();
    assert_eq!(verdicts, ["watched", "watched", "alert", "watched"]);
    assert_eq!(world.rows[0].scores[0].1.len(), 1, "a row has each score once");
}

#[test]
fn segments_that_the_model_does_not_know_are_refused() {
    let mut world = World::new("m", 2);
    apply(&mut world, &format!("{MODEL}{}", ROLLOUT.replace("by: carrier", "by: airline")));
    let said = &world.changes.last().expect("the command is answered").reason;
    assert!(
        said.contains("`m` knows no segments by `airline`; add them to its `segments`"),
        "{said}"
    );
}
