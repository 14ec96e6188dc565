//! `serinus simulate`: a spec decides over thousands of synthetic worlds, and the acceptance protocol.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::output;
use crate::cli::specs;
use serinus_core::domain::time::Span;
use serinus_core::plan::metric::{Margin, Metric, MetricRole};
use serinus_core::plan::rollout::{ModelPlan, RolloutPlan};
use serinus_core::simulate::acceptance::{self, Checked};
use serinus_core::simulate::nature::{Delay, Drift, Nature, Sticky};
use serinus_core::simulate::survey::{Course, Ending, Survey, survey};
use serinus_core::spec::plan::{Document, load};
use serinus_core::spec::scalar::parse_duration;

/// What `simulate` takes.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// Spec files with one rollout, and its model where it matters; `-` is stdin
    #[arg(value_name = "FILE", required_unless_present = "acceptance")]
    files: Vec<PathBuf>,
    /// Runs the acceptance protocol of the statistics instead, on specs of its own
    #[arg(long, conflicts_with = "files")]
    acceptance: bool,
    /// With --acceptance: a tenth of the worlds, for a CI job
    #[arg(long, requires = "acceptance")]
    quick: bool,
    /// With --acceptance: only scenarios whose name begins so; may be repeated
    #[arg(long, requires = "acceptance", value_name = "NAME")]
    only: Vec<String>,
    /// How many worlds of each kind
    #[arg(long, value_name = "N", default_value_t = 1000)]
    worlds: u64,
    /// Requests per second
    #[arg(long, value_name = "RATE", default_value_t = 10.0)]
    traffic: f64,
    /// How long a world lasts. Default: until the spec's `decide.by`
    #[arg(long = "for", value_name = "DURATION", value_parser = span)]
    length: Option<Span>,
    /// Maximum number of looks at a world; the spec's tick is stretched to it. Fewer looks change no error rate
    #[arg(long, value_name = "N", default_value_t = 200)]
    looks: u64,
    /// Worlds of the same seed are the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Number of units that send all requests, each of them repeatedly
    #[arg(long, value_name = "N")]
    units: Option<u32>,
    /// With --units: how alike the cases of one unit are, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, requires = "units")]
    likeness: f64,
    /// How long labels take on average
    #[arg(long, value_name = "DURATION", value_parser = span)]
    label_delay: Option<Span>,
    /// Simulates one world only: the candidate differs in this metric by this value, in the metric's unit; may be repeated
    #[arg(long, value_name = "METRIC=VALUE", value_parser = effect)]
    effect: Vec<(String, f64)>,
}

fn span(text: &str) -> Result<Span, String> {
    parse_duration(text)
        .ok_or_else(|| format!("`{text}` is not a duration such as 90s, 30m or 1d12h"))
}

fn effect(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("write METRIC=VALUE, such as `brier=0.01`")?;
    let value = value.parse().map_err(|_| format!("`{value}` is not a number"))?;
    Ok((name.to_owned(), value))
}

/// Simulates the worlds and prints their outcomes.
pub(crate) fn run(args: &SimulateArgs, context: &Context) -> Result<Exit, CliError> {
    if args.acceptance {
        return accept(args, context);
    }
    let (model, mut plan) = read(&args.files)?;
    // Segments decide nothing, and a simulated world has none.
    plan.metrics.retain(|m| m.segment.is_none());
    if !args.traffic.is_finite() || args.traffic <= 0.0 {
        return Err(CliError::Usage("--traffic must be above 0".to_owned()));
    }
    let course = course(args, model, plan)?;
    let natures = natures(args, &course)?;
    let surveys: Vec<Survey> = natures
        .iter()
        .map(|n| {
            output::talk(&format!("{}: {} worlds", n.name, args.worlds));
            survey(&course, n, args.worlds, args.seed)
        })
        .collect();
    let said: Vec<Value> = surveys.iter().map(as_json).collect();
    let value = json!({
        "rollout": course.plan.name.to_string(),
        "worlds": args.worlds,
        "seed": args.seed,
        "looks": course.ticks,
        "tick_ms": course.plan.tick.0,
        "requests": course.ticks * course.batch,
        "scenarios": said,
    });
    context.output.document(&value, || {
        let head = format!(
            "{} worlds of each kind, {} requests each at most, one look every {}\n",
            args.worlds,
            course.ticks * course.batch,
            course.plan.tick
        );
        format!("{head}{}", table(&surveys))
    })?;
    Ok(Exit::Reached)
}

fn read(files: &[PathBuf]) -> Result<(ModelPlan, RolloutPlan), CliError> {
    let mut model = None;
    let mut rollouts = Vec::new();
    for document in specs::read(files)? {
        match document {
            Document::Model(plan, _) => model = Some(plan),
            Document::Rollout(plan, _) => rollouts.push(plan),
        }
    }
    let [rollout] = <[RolloutPlan; 1]>::try_from(rollouts).map_err(|r| {
        CliError::Usage(format!("one rollout is simulated at a time, and here are {}", r.len()))
    })?;
    let model = match model {
        Some(model) if model.name == rollout.model => model,
        Some(_) | None => usual_model(&rollout)?,
    };
    Ok((model, rollout))
}

/// Returns a model with default settings: a simulation only needs to know the stable version.
fn usual_model(rollout: &RolloutPlan) -> Result<ModelPlan, CliError> {
    let text = format!(
        "{{apiVersion: serinus/v1, kind: Model, metadata: {{name: {}}}, spec: {{stable: stable, timeout: 1s}}}}",
        rollout.model
    );
    match load("model", &text).as_deref() {
        Ok([Document::Model(plan, _)]) => Ok(plan.clone()),
        Ok(_) | Err(_) => {
            Err(CliError::Usage(format!("give the spec of the model `{}` too", rollout.model)))
        }
    }
}

/// Returns the course of a world: no stage needs an approval, and the tick is long enough for the maximum number of looks.
fn course(
    args: &SimulateArgs,
    model: ModelPlan,
    mut plan: RolloutPlan,
) -> Result<Course, CliError> {
    for stage in &mut plan.stages {
        stage.approve = false;
    }
    let Some(length) = args.length.or(plan.decide.by) else {
        let problem = "say how long a world lasts: `decide.by` in the spec, or --for";
        return Err(CliError::Usage(problem.to_owned()));
    };
    let looks = i64::try_from(args.looks.max(1)).unwrap_or(i64::MAX);
    plan.tick = Span(plan.tick.0.max(length.0 / looks).max(1));
    // Two ticks longer than the spec's own end, so that worlds reach it.
    let ticks = u64::try_from(length.0 / plan.tick.0).unwrap_or(1).max(1) + 2;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive rate times a positive time"
    )]
    let batch = (args.traffic * plan.tick.0 as f64 / 1000.0).round().max(1.0) as u64;
    Ok(Course { model, plan: Arc::new(plan), batch, ticks })
}

fn natures(args: &SimulateArgs, course: &Course) -> Result<Vec<Nature>, CliError> {
    let plan = &course.plan;
    let needs_labels = plan.metrics.iter().any(Metric::needs_label);
    let base = |name: &str| {
        let mut nature = Nature::alike(name, plan);
        if let Some(mean) = args.label_delay {
            nature.delay = Delay { event: mean, rest: mean, never: 0.0 };
        }
        nature.sticky =
            args.units.map(|units| Sticky { units: units.max(1), likeness: args.likeness });
        nature
    };
    if !args.effect.is_empty() {
        for (name, _) in &args.effect {
            if !plan.metrics.iter().any(|m| m.name.as_str() == name) {
                return Err(CliError::Usage(format!("the spec has no metric `{name}`")));
            }
        }
        let nature = base("as told").with_effects(plan, |metric| {
            args.effect.iter().find(|(e, _)| e == metric.name.as_str()).map(|(_, value)| *value)
        });
        return Ok(vec![nature]);
    }
    let is_goal = |metric: &Metric| metric.role == MetricRole::Goal;
    let harm = |metric: &Metric, by: f64| Some(metric.direction.harm_sign() * by);
    let first = plan
        .metrics
        .iter()
        .find(|m| is_goal(m))
        .or_else(|| plan.metrics.iter().find(|m| m.role == MetricRole::Guardrail));
    let first = first.map(|r| r.name.clone());
    let is_first = |metric: &Metric| Some(&metric.name) == first.as_ref();
    let mut natures = vec![
        base("A/A"),
        base("better by the mde").with_effects(plan, |p| harm(p, -p.mde).filter(|_| is_first(p))),
        base("at the limit").with_effects(plan, |p| harm(p, limit(p)).filter(|_| is_first(p))),
        base("worse by twice that")
            .with_effects(plan, |p| harm(p, 2.0 * limit(p)).filter(|_| is_first(p))),
        Nature { drift: Drift::To(0.5), ..base("A/A, rates halve") },
    ];
    if needs_labels && args.label_delay.is_none() {
        let slow = Span(plan.maturity.0 / 2);
        let quick = Span(plan.maturity.0 / 20);
        natures.push(Nature {
            delay: Delay { event: slow, rest: quick, never: 0.0 },
            ..base("A/A, positives late")
        });
    }
    Ok(natures)
}

fn limit(metric: &Metric) -> f64 {
    match metric.margin {
        Margin::Absolute(it) | Margin::Relative(it) if it > 0.0 => it,
        Margin::Absolute(_) | Margin::Relative(_) => metric.mde,
    }
}

const KINDS: [(&str, Ending); 4] = [
    ("promoted", Ending::Promoted),
    ("aborted", Ending::Aborted),
    ("inconclusive", Ending::Inconclusive),
    ("undecided", Ending::Undecided),
];
const DECIDED: &[Ending] = &[Ending::Promoted, Ending::Aborted];

fn as_json(survey: &Survey) -> Value {
    let mut said = json!({
        "name": survey.name,
        "worlds": survey.worlds,
        "requests": {"p50": survey.requests(DECIDED, 0.5), "p90": survey.requests(DECIDED, 0.9)},
        "after_ms": {
            "p50": survey.after(DECIDED, 0.5).map(|a| a.0),
            "p90": survey.after(DECIDED, 0.9).map(|a| a.0),
        },
        "candidate_requests": survey.exposed(),
    });
    for (name, ending) in KINDS {
        let part = survey.part(&[ending]);
        said[name] = json!({"rate": part.rate, "error": part.error});
    }
    said
}

fn table(surveys: &[Survey]) -> String {
    let mut heading = vec!["WORLD"];
    heading.extend(["PROMOTED", "ABORTED", "INCONCLUSIVE", "UNDECIDED"]);
    heading.extend(["HALF DECIDED AFTER", "REQUESTS", "90 % AFTER", "ON CANDIDATES"]);
    let rows = surveys
        .iter()
        .map(|s| {
            let mut row = vec![s.name.clone()];
            row.extend(KINDS.map(|(_, ending)| percent(s.part(&[ending]).rate)));
            let after = |share| s.after(DECIDED, share).map_or("-".to_owned(), |s| s.to_string());
            let requests = s.requests(DECIDED, 0.5).map_or("-".to_owned(), |r| r.to_string());
            row.extend([after(0.5), requests, after(0.9), format!("{:.0}", s.exposed())]);
            row
        })
        .collect();
    output::columns(&heading, rows)
}

fn percent(rate: f64) -> String {
    format!("{:.1}%", rate * 100.0)
}

fn accept(args: &SimulateArgs, context: &Context) -> Result<Exit, CliError> {
    let mut checked = Vec::new();
    let is_wanted =
        |name: &str| args.only.is_empty() || args.only.iter().any(|o| name.starts_with(o.as_str()));
    let scenarios = acceptance::scenarios().map_err(CliError::Usage)?;
    let names: Vec<String> = scenarios.iter().map(|s| s.name.clone()).collect();
    for scenario in scenarios.into_iter().filter(|s| is_wanted(&s.name)) {
        output::talk(&scenario.name);
        checked.push(acceptance::check(scenario, args.quick, args.seed).map_err(CliError::Usage)?);
    }
    if checked.is_empty() {
        let message = format!("no scenario has such a name; there are: {}", names.join(", "));
        return Err(CliError::Usage(message));
    }
    let is_good = checked.iter().all(|c| c.within);
    let said: Vec<Value> = checked.iter().map(checked_json).collect();
    let value =
        json!({"quick": args.quick, "seed": args.seed, "within": is_good, "scenarios": said});
    context.output.document(&value, || accepted(&checked))?;
    Ok(if is_good { Exit::Reached } else { Exit::Aborted })
}

fn checked_json(it: &Checked) -> Value {
    let rates: Vec<Value> = it
        .rates
        .iter()
        .map(|(what, rate, bound)| json!({"what": what, "rate": rate, "bound": bound}))
        .collect();
    let mut said = as_json(&it.survey);
    said["within"] = json!(it.within);
    said["about"] = json!(it.scenario.about);
    said["rates"] = json!(rates);
    said["median"] =
        it.median.map_or(Value::Null, |(found, bound)| json!({"requests": found, "bound": bound}));
    said
}

fn accepted(checked: &[Checked]) -> String {
    let rows = checked
        .iter()
        .map(|c| {
            let rates: Vec<String> = c
                .rates
                .iter()
                .map(|(what, rate, bound)| format!("{what} {rate:.4} (bound {bound:.3})"))
                .collect();
            let median = c.median.map_or("-".to_owned(), |(found, bound)| {
                let found = found.map_or("never".to_owned(), |f| f.to_string());
                format!("{found} (bound {bound})")
            });
            let within = if c.within { "yes" } else { "NO" };
            vec![
                c.scenario.name.clone(),
                within.to_owned(),
                rates.join(", "),
                median,
                c.survey.worlds.to_string(),
                c.scenario.about.clone(),
            ]
        })
        .collect();
    output::columns(
        &["SCENARIO", "WITHIN", "SHARES", "MEDIAN REQUESTS", "WORLDS", "WHAT IT IS"],
        rows,
    )
}
