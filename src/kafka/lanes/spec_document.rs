//! The spec documents that commands, events and states carry: parsed the same way wherever they are read.

use serde_json::Value;

use serinus_core::engine::judge::command::{Parsed, Written};
use serinus_core::spec::plan::{model_from_json, rollout_from_json};

/// Parses a document of either kind.
pub fn parse(document: &Value) -> Parsed {
    let invalid = |error: serinus_core::spec::error::SpecErrors| Parsed::Invalid(error.to_string());
    match document.get("kind").and_then(Value::as_str) {
        Some("Model") => model_from_json(document).map_or_else(invalid, |plan| {
            Parsed::Model(Box::new(Written { plan, document: document.clone() }))
        }),
        Some("Rollout") => rollout_from_json(document).map_or_else(invalid, |plan| {
            Parsed::Rollout(Box::new(Written { plan, document: document.clone() }))
        }),
        Some(other) => Parsed::Invalid(format!("`{other}` is neither a Model nor a Rollout")),
        None => Parsed::Invalid("the document has no kind".to_owned()),
    }
}

/// Parses a document that an earlier build accepted, even if it would be refused today, so that a running rollout continues unchanged.
///
/// Earlier builds accepted a share of `1` and read it as all traffic.
pub fn parse_accepted(document: &Value) -> Parsed {
    let parsed = parse(document);
    let Parsed::Invalid(reason) = parsed else { return parsed };
    let mut rewritten = document.clone();
    if let Some(Value::Array(stages)) = rewritten.pointer_mut("/spec/stages") {
        for stage in stages {
            for field in ["share", "shadow"] {
                if let Some(share) = stage.get_mut(field) {
                    spell_out_all(share);
                }
            }
        }
    }
    if let Some(coverage) = rewritten.pointer_mut("/spec/decide/min_coverage") {
        spell_out_all(coverage);
    }
    if let Some(Value::Array(metrics)) = rewritten.pointer_mut("/spec/metrics") {
        for metric in metrics.iter_mut().filter(|metric| metric["kind"] == "latency") {
            for field in ["margin", "mde"] {
                if let Some(limit) = metric.get_mut(field) {
                    spell_out_all(limit);
                }
            }
        }
    }
    match parse(&rewritten) {
        Parsed::Model(model) => {
            Parsed::Model(Box::new(Written { document: document.clone(), ..*model }))
        }
        Parsed::Rollout(rollout) => {
            Parsed::Rollout(Box::new(Written { document: document.clone(), ..*rollout }))
        }
        Parsed::Invalid(_) => Parsed::Invalid(reason),
    }
}

/// Rewrites a share of `1`, or every such share in an object, as `100%`.
fn spell_out_all(share: &mut Value) {
    match share {
        Value::Number(number) if number.as_f64() == Some(1.0) => *share = Value::from("100%"),
        Value::Object(shares) => shares.iter_mut().for_each(|(_, share)| spell_out_all(share)),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{parse, parse_accepted};
    use serinus_core::domain::share::Share;
    use serinus_core::engine::judge::command::Parsed;

    #[test]
    fn a_rollout_accepted_with_a_share_of_one_continues() {
        let document = json!({
            "apiVersion": "serinus/v1", "kind": "Rollout", "metadata": {"name": "r"},
            "spec": {
                "model": "m", "candidates": ["v2"], "strategy": "canary",
                "stages": [{"shadow": {"v1": 1.0}, "share": 0.25}, {"share": 1, "hold": "1h"}],
                "metrics": [
                    {"kind": "response_error", "role": "guardrail", "margin": "1%"},
                    {"kind": "latency", "role": "guardrail", "margin": 1},
                ],
                "decide": {"min_coverage": 1},
            },
        });
        assert!(matches!(parse(&document), Parsed::Invalid(_)), "it is refused today");
        let Parsed::Rollout(accepted) = parse_accepted(&document) else { panic!("it is accepted") };
        assert_eq!(accepted.document, document);
        let shares: Vec<Share> =
            accepted.plan.stages.iter().map(|s| s.share_of(&"v2".into())).collect();
        assert_eq!(shares, [Share::from_fraction(0.25).expect("a share"), Share::ALL]);
    }
}
