//! A rollout judged without Kafka: a canary spec decides on simulated traffic, for a good and for a bad candidate.
//!
//! Run it by `cargo run -p serinus-core --example rollout`.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use serinus_core::simulate::nature::Nature;
use serinus_core::simulate::survey::{Course, Ending, survey};
use serinus_core::spec::plan::{Document, load};

const SPEC: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: flights}
spec: {stable: v1, timeout: 1s}
---
apiVersion: serinus/v1
kind: Rollout
metadata: {name: flights-v2}
spec:
  model: flights
  candidates: [v2]
  strategy: canary
  stages: [{share: 10%}, {share: 50%}]
  metrics: [{name: errors, kind: response_error, role: guardrail, base: 0.01, margin: 0.02}]
  labels: {maturity: 0s}
  decide: {promote: non_inferior, alpha: 0.05, tick: 1s}
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let documents = load("spec.yaml", SPEC).map_err(|errors| errors.to_string())?;
    let [Document::Model(model, _), Document::Rollout(plan, _)] = &documents[..] else {
        return Err("the spec has one model and one rollout".into());
    };
    let plan = Arc::new(plan.clone());
    let course = Course { model: model.clone(), plan: Arc::clone(&plan), batch: 100, ticks: 200 };
    for (candidate, rise) in [("as good as v1", 0.0), ("5 points more errors", 0.05)] {
        let nature = Nature::alike(candidate, &plan).with_effects(&plan, |_| Some(rise));
        let worlds = survey(&course, &nature, 200, 7);
        println!(
            "{candidate}: promoted in {:.1} % of 200 worlds, aborted in {:.1} %, half of them decided within {} requests",
            100.0 * worlds.part(&[Ending::Promoted]).rate,
            100.0 * worlds.part(&[Ending::Aborted]).rate,
            worlds.requests(&[Ending::Promoted, Ending::Aborted], 0.5).unwrap_or_default(),
        );
    }
    Ok(())
}
