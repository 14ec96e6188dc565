//! `serinus plan`: how long a rollout will take with this traffic, and what it can find.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::output;
use crate::cli::specs;
use serinus_core::decision::forecast::{Forecast, StageForecast, Traffic, forecast, is_forecast};
use serinus_core::domain::time::Span;
use serinus_core::plan::metric::MetricRole;
use serinus_core::plan::rollout::RolloutPlan;
use serinus_core::spec::plan::Document;

/// What `plan` takes.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// Spec files with rollouts; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Requests per second
    #[arg(long, value_name = "RATE", default_value_t = 10.0)]
    traffic: f64,
    /// The share of cases whose label comes in time
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    coverage: f64,
}

/// Prints a forecast of each rollout.
pub(crate) fn run(args: &PlanArgs, context: &Context) -> Result<Exit, CliError> {
    let is_share = args.coverage > 0.0 && args.coverage <= 1.0;
    if args.traffic.is_nan() || args.traffic <= 0.0 || !is_share {
        let problem = "--traffic must be above 0, and --coverage above 0 and at most 1";
        return Err(CliError::Usage(problem.to_owned()));
    }
    let traffic = Traffic { rate: args.traffic, coverage: args.coverage };
    let mut said = Vec::new();
    let mut texts = Vec::new();
    for document in specs::read(&args.files)? {
        if let Document::Rollout(plan, _) = document {
            let forecast = forecast(&plan, traffic);
            said.push(as_json(&plan, &forecast));
            texts.push(as_text(&plan, &forecast, args));
        }
    }
    if said.is_empty() {
        return Err(CliError::Usage("there is no rollout in these files".to_owned()));
    }
    let value = json!({"traffic": args.traffic, "coverage": args.coverage, "rollouts": said});
    context.output.document(&value, || texts.join("\n\n"))?;
    Ok(Exit::Reached)
}

fn as_json(plan: &RolloutPlan, forecast: &Forecast) -> Value {
    let ms = |s: Option<Span>| s.map(|i| i.0);
    let stages: Vec<Value> = forecast
        .stages
        .iter()
        .map(|s| {
            json!({
                "stage": s.stage.0 + 1,
                "left_after_ms": {"p50": ms(s.median), "p80": ms(s.likely)},
                "slowest": s.slowest,
                "harm_found_after_ms": ms(s.harm),
            })
        })
        .collect();
    let reach: Vec<Value> = forecast
        .reach
        .iter()
        .map(|r| json!({"metric": r.metric, "harm": r.harm, "margin": r.margin}))
        .collect();
    json!({
        "rollout": plan.name.to_string(),
        "stages": stages,
        "reach": reach,
        "by_ms": ms(plan.decide.by),
        "fits": fits(plan, forecast),
    })
}

/// Returns whether four fifths of all candidates that are as planned come to the end in time.
fn fits(plan: &RolloutPlan, forecast: &Forecast) -> bool {
    let end = forecast.stages.last().and_then(|s| s.likely);
    end.is_some_and(|end| plan.decide.by.is_none_or(|by| end <= by))
}

fn as_text(plan: &RolloutPlan, forecast: &Forecast, args: &PlanArgs) -> String {
    let mut lines = vec![format!(
        "{}: {} of {} at {} requests/s, labels for {:.0} %\n",
        plan.name,
        plan.strategy.word(),
        plan.model,
        args.traffic,
        args.coverage * 100.0
    )];
    let heading =
        ["STAGE", "HOLDS", "HALF HAVE LEFT IT BY", "FOUR FIFTHS BY", "SLOWEST", "HARM FOUND AFTER"];
    let rows = forecast.stages.iter().map(|s| row(plan, s)).collect();
    lines.push(output::columns(&heading, rows));
    lines.push(String::new());
    lines.push(summary(plan, forecast));
    for it in &forecast.reach {
        lines.push(match it.harm {
            Some(harm) => format!(
                "  {}: harm of {harm:.2e} or more is found in time by four of five (the margin is {})",
                it.metric, it.margin
            ),
            None => format!("  {}: no harm is found in time with this traffic", it.metric),
        });
    }
    let unplanned = plan
        .metrics
        .iter()
        .filter(|m| matches!(m.role, MetricRole::Goal | MetricRole::Guardrail) && !is_forecast(m));
    for it in unplanned {
        lines.push(format!(
            "  {}: `{}` is not forecast here; `serinus simulate` shows it",
            it.name,
            it.kind.word()
        ));
    }
    lines.join("\n")
}

fn row(plan: &RolloutPlan, it: &StageForecast) -> Vec<String> {
    let said = |s: Option<Span>| s.map_or("never".to_owned(), |i| rough(i).to_string());
    let hold = plan.stage(it.stage).map_or(Span::ZERO, |s| s.hold);
    vec![
        (it.stage.0 + 1).to_string(),
        hold.to_string(),
        said(it.median),
        said(it.likely),
        it.slowest.clone().unwrap_or_else(|| "its hold".to_owned()),
        said(it.harm),
    ]
}

fn summary(plan: &RolloutPlan, forecast: &Forecast) -> String {
    let Some(end) = forecast.stages.last() else { return String::new() };
    let allowed =
        plan.decide.by.map_or(String::new(), |by| format!(", of the {by} that it may take"));
    let (Some(median), Some(likely)) = (end.median, end.likely) else {
        let slowest = end.slowest.as_deref().unwrap_or("a metric");
        return format!(
            "It never ends: {slowest} cannot be proved with this margin and these shares."
        );
    };
    let verdict = if fits(plan, forecast) { "It fits" } else { "It does not fit" };
    format!(
        "{verdict}: a candidate as planned is through after {} (half) to {} (four fifths){allowed}.",
        rough(median),
        rough(likely)
    )
}

/// Plans need no precision of seconds.
fn rough(it: Span) -> Span {
    const MINUTE: i64 = 60_000;
    let unit = if it.0 < 60 * MINUTE { 1000 } else { MINUTE };
    Span((it.0 + unit - 1) / unit * unit)
}
