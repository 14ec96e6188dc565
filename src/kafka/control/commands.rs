//! What a judge is told of a command: read, bounded, and its document understood; the same wherever the command is read.

use serde_json::Value;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::transaction::PartitionCounts;
use crate::kafka::control::shard::CommandShard;
use crate::kafka::lanes::size_limit;
use crate::wire::command::CommandRecord;
use serinus_core::domain::ids::{ModelName, Version};
use serinus_core::domain::routing::OnFailure;
use serinus_core::domain::time::Span;
use serinus_core::engine::judge::command::{Command, Parsed, Written};
use serinus_core::plan::rollout::{Format, LabelMap, ModelPlan, ModelTopics, Source};
use serinus_core::spec::plan::{model_from_json, rollout_from_json};

/// The largest command whose spec is taken in: a state holds those of the model and of its rollouts.
const COMMAND_BYTES_MAX: usize = 200_000;

/// Reads a command, and cuts what would not fit into the records that answer it: they carry its words and its spec.
pub fn bounded(mut record: CommandRecord, parse: impl FnOnce(Value) -> Parsed) -> Command {
    for text in [&mut record.by, &mut record.reason] {
        text.truncate(size_limit::cut(text).len());
    }
    let bytes = record.write().len();
    record.command(|document| {
        if bytes > COMMAND_BYTES_MAX {
            return Parsed::Invalid(format!(
                "the command has {bytes} bytes, and {COMMAND_BYTES_MAX} are the most that fit into the records of a rollout"
            ));
        }
        parse(document)
    })
}

/// Returns what a judge begins with: the first spec of a model makes it; anything else is answered by one that knows nothing.
pub fn first_plan(command: &Command) -> ModelPlan {
    match &command.spec {
        Some(Parsed::Model(written)) => written.plan.clone(),
        Some(Parsed::Rollout(_) | Parsed::Invalid(_)) | None => unknown_model(&command.model),
    }
}

/// Reads a document of either kind.
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

/// Reads a document that was taken in once, also where it would be refused today: what runs goes on as it was meant.
///
/// A share of `1` meant all traffic until such a share was refused.
pub fn parse_kept(document: &Value) -> Parsed {
    let parsed = parse(document);
    let Parsed::Invalid(reason) = parsed else { return parsed };
    let mut clear = document.clone();
    if let Some(Value::Array(stages)) = clear.pointer_mut("/spec/stages") {
        for stage in stages {
            for field in ["share", "shadow"] {
                if let Some(share) = stage.get_mut(field) {
                    all_of_one(share);
                }
            }
        }
    }
    if let Some(coverage) = clear.pointer_mut("/spec/decide/min_coverage") {
        all_of_one(coverage);
    }
    if let Some(Value::Array(metrics)) = clear.pointer_mut("/spec/metrics") {
        for metric in metrics.iter_mut().filter(|metric| metric["kind"] == "latency") {
            for field in ["margin", "mde"] {
                if let Some(limit) = metric.get_mut(field) {
                    all_of_one(limit);
                }
            }
        }
    }
    match parse(&clear) {
        Parsed::Model(it) => Parsed::Model(Box::new(Written { document: document.clone(), ..*it })),
        Parsed::Rollout(it) => {
            Parsed::Rollout(Box::new(Written { document: document.clone(), ..*it }))
        }
        Parsed::Invalid(_) => Parsed::Invalid(reason),
    }
}

/// Writes a share of `1`, or each of several, as the percentage that it was read as.
fn all_of_one(share: &mut Value) {
    match share {
        Value::Number(number) if number.as_f64() == Some(1.0) => *share = Value::from("100%"),
        Value::Object(shares) => shares.iter_mut().for_each(|(_, share)| all_of_one(share)),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {}
    }
}

/// A plan for a model that was never applied: its names are the contract's.
fn unknown_model(model: &ModelName) -> ModelPlan {
    ModelPlan {
        name: model.clone(),
        stable: Version::new(""),
        unit: Source::Key,
        request_id: None,
        segments: Vec::new(),
        timeout: Span::ZERO,
        shadow_timeout: Span::ZERO,
        on_failure: OnFailure::Error,
        default: None,
        labels: LabelMap { request_id: Source::Key, value: String::new(), observed_at: None },
        format: Format::Json,
        topics: ModelTopics::of(model),
        open_cases_max: 0,
        partitions: 1,
    }
}

/// A spec whose topics are not there is refused with these words: nobody could be asked, and nothing could be joined.
pub(crate) fn missing_topics(
    command: &Command,
    bench: &CommandShard,
    partitions: &mut PartitionCounts,
) -> Result<Option<String>, ShellError> {
    let mut wanted = Vec::new();
    match &command.spec {
        Some(Parsed::Model(written)) => {
            let topics = &written.plan.topics;
            wanted.extend([
                topics.requests.clone(),
                topics.responses.clone(),
                topics.served.clone(),
                topics.predictions.clone(),
                topics.of_version(&written.plan.stable),
            ]);
        }
        Some(Parsed::Rollout(written)) => {
            if let Some(seat) = bench.seats.get(&written.plan.model) {
                let topics = &seat.plan.topics;
                wanted.extend(written.plan.versions().into_iter().map(|v| topics.of_version(v)));
            }
        }
        Some(Parsed::Invalid(_)) | None => {}
    }
    let mut missing = Vec::new();
    for topic in wanted {
        if partitions.of(&topic, &bench.outbox)? == 0 {
            missing.push(topic);
        }
    }
    Ok((!missing.is_empty()).then(|| {
        format!(
            "topics are missing: {}; `serinus topics create` with this spec makes them",
            missing.join(", ")
        )
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{parse, parse_kept};
    use serinus_core::domain::share::Share;
    use serinus_core::engine::judge::command::Parsed;

    #[test]
    fn a_rollout_that_was_taken_in_with_a_share_of_one_goes_on() {
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
        let Parsed::Rollout(kept) = parse_kept(&document) else { panic!("it was taken in") };
        assert_eq!(kept.document, document);
        let shares: Vec<Share> =
            kept.plan.stages.iter().map(|s| s.share_of(&"v2".into())).collect();
        assert_eq!(shares, [Share::from_fraction(0.25).expect("a share"), Share::ALL]);
    }
}
