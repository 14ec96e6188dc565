//! Converts a command record to the command that a judge receives. The audit uses the same conversion.

use serde_json::Value;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_counts::PartitionCounts;
use crate::kafka::control::shard::CommandShard;
use crate::kafka::lanes::size_limit;
use crate::wire::command::CommandRecord;
use serinus_core::domain::ids::{ModelName, Version};
use serinus_core::domain::routing::OnFailure;
use serinus_core::domain::time::Span;
use serinus_core::engine::judge::command::{Command, Parsed};
use serinus_core::plan::rollout::{Format, LabelMap, ModelPlan, ModelTopics, Source};

/// Maximum size of a command with a spec. A state record holds the specs of a model and of its rollouts.
const COMMAND_BYTES_MAX: usize = 200_000;

/// Converts a command, and truncates texts that would not fit into the records that answer it.
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

/// Returns the plan of a new judge: that of the command, or that of an unknown model.
pub fn first_plan(command: &Command) -> ModelPlan {
    match &command.spec {
        Some(Parsed::Model(written)) => written.plan.clone(),
        Some(Parsed::Rollout(_) | Parsed::Invalid(_)) | None => unknown_model(&command.model),
    }
}

/// A plan for a model that was never applied, with default topic names.
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

/// Refusal of a spec whose topics do not exist: no version could receive requests, and nothing could be joined.
pub(crate) fn missing_topics(
    command: &Command,
    shard: &CommandShard,
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
            if let Some(model_judge) = shard.judges.get(&written.plan.model) {
                let topics = &model_judge.plan.topics;
                wanted.extend(written.plan.versions().into_iter().map(|v| topics.of_version(v)));
            }
        }
        Some(Parsed::Invalid(_)) | None => {}
    }
    let mut missing = Vec::new();
    for topic in wanted {
        if partitions.of(&topic, &shard.producer)? == 0 {
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
