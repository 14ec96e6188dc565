//! `serinus validate`: reads specs without any Kafka.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::apply::SpecArgs;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::say;
use serinus_core::domain::time::Span;
use serinus_core::plan::metric::{Direction, Margin, Metric};
use serinus_core::plan::rollout::{
    ModelPlan, PromoteWhen, RolloutPlan, Source, Stage, WhenInconclusive, WhenNoData,
};
use serinus_core::spec::plan::Document;

/// What `validate` takes.
#[derive(Clone, Debug, Args)]
pub struct ValidateArgs {
    #[command(flatten)]
    specs: SpecArgs,
}

/// Prints what was understood; wrong specs are an error with exit code 2.
pub(crate) fn run(args: &ValidateArgs, context: &Context) -> Result<Exit, CliError> {
    let documents = args.specs.read(&context.app)?;
    let written: Vec<Value> = documents
        .iter()
        .map(|d| match d {
            Document::Model(_, written) | Document::Rollout(_, written) => written.clone(),
        })
        .collect();
    context.output.document(&json!({ "valid": true, "documents": written }), || {
        let said: Vec<String> = documents
            .iter()
            .map(|d| match d {
                Document::Model(plan, _) => model(plan),
                Document::Rollout(plan, _) => rollout(plan),
            })
            .collect();
        said.join("\n\n")
    })?;
    Ok(Exit::Reached)
}

fn model(plan: &ModelPlan) -> String {
    let unit = source(&plan.unit);
    let id = plan
        .request_id
        .as_ref()
        .map_or_else(|| "header ce_id, else topic, partition and offset".to_owned(), source);
    let labels = &plan.labels;
    let lines = [
        format!("model {}, served by {}", plan.name, plan.stable),
        format!("  unit        {unit}"),
        format!("  request id  {id}"),
        format!("  deadlines   {} to serve, {} for shadows", plan.timeout, plan.shadow_timeout),
        format!(
            "  labels      id {}, value {}",
            source(&labels.request_id),
            if labels.value.is_empty() { "the whole record" } else { &labels.value }
        ),
        format!("  topics      {} -> {}", plan.topics.requests, plan.topics.served),
    ];
    lines.join("\n")
}

fn rollout(plan: &RolloutPlan) -> String {
    let candidates: Vec<String> = plan.candidates.iter().map(ToString::to_string).collect();
    let mut lines = vec![format!(
        "rollout {} of {}: {} of {}",
        plan.name,
        plan.model,
        plan.strategy.word(),
        candidates.join(", ")
    )];
    lines.extend(
        plan.stages
            .iter()
            .enumerate()
            .map(|(index, s)| format!("  stage {}  {}", index + 1, stage(s))),
    );
    lines.extend(plan.metrics.iter().map(|m| format!("  metric   {}", metric(m))));
    lines.push(format!("  labels   read at age {}", plan.maturity));
    let decide = &plan.decide;
    let promote = match decide.promote {
        PromoteWhen::NonInferior => "not worse than the margins",
        PromoteWhen::Superior => "better",
    };
    let otherwise = match decide.inconclusive {
        WhenInconclusive::Abort => "goes back",
        WhenInconclusive::Pause => "pauses",
    };
    let no_data = match decide.no_data {
        WhenNoData::Hold => "waits",
        WhenNoData::Abort => "goes back",
    };
    let by = decide
        .by
        .map_or_else(|| "no deadline".to_owned(), |b| format!("within {b}, else {otherwise}"));
    lines.push(format!(
        "  decide   promoted when {promote} (alpha {}), {by}; without data it {no_data}",
        decide.alpha
    ));
    lines.join("\n")
}

fn stage(stage: &Stage) -> String {
    let list =
        |shares: &[(serinus_core::domain::ids::Version, serinus_core::domain::share::Share)]| {
            let said: Vec<String> =
                shares.iter().map(|(version, share)| format!("{version} {share}")).collect();
            said.join(", ")
        };
    let mut said = Vec::new();
    if !stage.shares.is_empty() {
        said.push(format!("serves {}", list(&stage.shares)));
    }
    if !stage.shadows.is_empty() {
        said.push(format!("copies to {}", list(&stage.shadows)));
    }
    if stage.hold > Span::ZERO {
        said.push(format!("for {} or longer", stage.hold));
    }
    if stage.exposures_min > 0 {
        said.push(format!("until {} exposures", say::count(stage.exposures_min)));
    }
    if stage.approve {
        said.push("then a person approves".to_owned());
    }
    said.join(", ")
}

fn metric(metric: &Metric) -> String {
    let margin = match metric.margin {
        Margin::Absolute(value) => say::number(value),
        Margin::Relative(value) => say::percent(value),
    };
    let direction = match metric.direction {
        Direction::Lower => "lower is better",
        Direction::Higher => "higher is better",
    };
    format!(
        "{}: {} as {}, {direction}, margin {margin}",
        metric.name,
        metric.kind.word(),
        metric.role.word()
    )
}

fn source(source: &Source) -> String {
    match source {
        Source::Key => "the record's key".to_owned(),
        Source::Header(name) => format!("header {name}"),
        Source::Json(pointer) => format!("{pointer} of the value"),
    }
}
