//! What a judge is told of a command: read, bounded, and its document understood; the same wherever the command is read.

use serde_json::Value;

use crate::domain::ids::{ModelName, Version};
use crate::domain::routing::OnFailure;
use crate::domain::time::Span;
use crate::engine::command::{Command, Parsed, Written};
use crate::kafka::shrink;
use crate::spec::plan::{model_from_json, rollout_from_json};
use crate::strategy::stage::{Format, LabelMap, ModelPlan, ModelTopics, Source};
use crate::wire::command::CommandRecord;

/// The largest command whose spec is taken in: a state holds those of the model and of its rollouts.
const COMMAND_BYTES_MAX: usize = 200_000;

/// Reads a command, and cuts what would not fit into the records that answer it: they carry its words and its spec.
pub fn bounded(mut record: CommandRecord, parse: impl FnOnce(Value) -> Parsed) -> Command {
    for text in [&mut record.by, &mut record.reason] {
        text.truncate(shrink::cut(text).len());
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
    let invalid = |error: crate::spec::error::SpecErrors| Parsed::Invalid(error.to_string());
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
