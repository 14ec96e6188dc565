//! Converts the spec of a metric to its plan: the fields that its kind needs, and the defaults.

use crate::domain::ids::{MetricName, Version};
use crate::plan::metric::{Direction, Margin, Metric, MetricKind, MetricRole, Shape};
use crate::plan::metric_kind::{Base, Effect, Group, LabelForm, Labelled};
use crate::plan::rollout::PromoteWhen;
use crate::spec::path::{Faults, Path};
use crate::spec::raw::MetricSpec;
use crate::spec::scalar::Limit;

/// Returns the plan of a metric. It adds what is wrong to `faults`, and the caller then discards the plan.
pub(crate) fn plan(
    faults: &mut Faults,
    at: &Path,
    spec: &MetricSpec,
    promote: PromoteWhen,
) -> Metric {
    let kind = spec.kind;
    let role = spec.role;
    check_fields(faults, at, spec, kind);
    check_positive(faults, at, spec);
    check_role(faults, at, spec, role);
    let range = range(faults, at, spec, kind);
    let base = base(faults, at, spec, kind, range);
    let margin = margin(faults, at, spec, kind, role, promote);
    let mde = spec.mde.map_or_else(
        || {
            if margin.value() > 0.0 {
                margin.value()
            } else {
                effect_worth_detecting(kind, spec.base, base, range)
            }
        },
        |r| limit(faults, at.field("mde"), r, kind).value(),
    );
    let decides = matches!(role, MetricRole::Goal | MetricRole::Guardrail);
    if mde <= 0.0 {
        let help = "write the smallest effect worth detecting, such as `0.01`";
        faults.add(at.field("mde"), "an effect of nothing cannot be detected", help);
    }
    let tolerance = spec.tolerance.unwrap_or(0.0);
    if tolerance < 0.0 {
        faults.add(at.field("tolerance"), format!("`{tolerance}` is negative"), "write 0 or more");
    }
    Metric {
        name: MetricName::new(spec.name.as_deref().unwrap_or(kind.word())),
        kind,
        role,
        direction: direction(faults, at, spec, kind),
        margin,
        mde,
        prediction: spec.prediction.as_ref().map(|p| p.0.clone()),
        label: spec.label.as_ref().map(|l| l.0.clone()),
        threshold: spec.threshold,
        positive: spec.positive.clone(),
        range,
        base,
        centre: match kind.group() {
            Group::Response(_) => spec.base.unwrap_or(0.0),
            Group::Labelled(_)
            | Group::Table(_)
            | Group::Ranking
            | Group::Latency
            | Group::Agreement => base,
        },
        tolerance,
        ignore: spec.ignore.iter().flatten().map(|i| i.0.clone()).collect(),
        segment: None,
        twin: spec.twin.as_deref().map(Version::new),
        aborts: spec
            .abort
            .unwrap_or(decides && !matches!(kind.shape(), Shape::Ranking | Shape::Confusion)),
        unusable: spec.unusable.unwrap_or_default(),
    }
}

/// Adds faults for fields that the kind needs but the spec lacks, and for fields that the kind does not use.
fn check_fields(faults: &mut Faults, at: &Path, spec: &MetricSpec, kind: MetricKind) {
    let word = kind.word();
    let compares_with_label = kind.needs_label() && kind != MetricKind::Value;
    for (field, is_there, example) in [
        ("prediction", spec.prediction.is_some(), "json:/score"),
        ("label", spec.label.is_some(), "json:/late"),
    ] {
        if compares_with_label && !is_there {
            let problem = format!("`{word}` needs the field `{field}`");
            faults.add(
                at.field(field),
                problem,
                format!("say where it stands, such as `{field}: {example}`"),
            );
        }
    }
    if kind == MetricKind::Value && spec.prediction.is_some() == spec.label.is_some() {
        let help = "write `prediction: json:/...` for a number of the answer, or `label: json:/...` for one of the label";
        faults.add(at.clone(), "`value` is one number: of the answer or of the label", help);
    }
    let has_classes = kind.traits().label == LabelForm::Class;
    let has_outcomes = has_classes || kind.traits().label == LabelForm::Outcome;
    let is_disagreement = kind.group() == Group::Agreement;
    for (field, is_there, fits) in [
        ("prediction", spec.prediction.is_some(), kind.needs_label() || is_disagreement),
        ("label", spec.label.is_some(), kind.needs_label()),
        ("threshold", spec.threshold.is_some(), has_classes),
        ("positive", spec.positive.is_some(), has_outcomes),
        ("range", spec.range.is_some(), kind.shape() == Shape::Bounded),
        ("tolerance", spec.tolerance.is_some(), is_disagreement),
        ("ignore", spec.ignore.is_some(), is_disagreement),
        ("twin", spec.twin.is_some(), is_disagreement),
        ("unusable", spec.unusable.is_some(), scores_answers(kind, spec)),
    ] {
        if is_there && !fits {
            faults.add_name(
                at.field(field),
                format!("`{word}` does not use this field"),
                "take it out",
            );
        }
    }
}

/// Adds a fault for a positive label that no label can equal.
fn check_positive(faults: &mut Faults, at: &Path, spec: &MetricSpec) {
    use serde_json::Value;
    match &spec.positive {
        None | Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => {}
        Some(other @ (Value::Null | Value::Array(_) | Value::Object(_))) => {
            let problem = format!("`{other}` is not a text, a number or a boolean");
            let help = "write the label's value that means that it happened, such as `positive: 1`";
            faults.add(at.field("positive"), problem, help);
        }
    }
}

/// Returns whether the metric needs an answer that can be scored.
fn scores_answers(kind: MetricKind, spec: &MetricSpec) -> bool {
    match kind.group() {
        Group::Response(_) => false,
        // A value of the label needs no answer.
        Group::Labelled(Labelled::Value) => spec.label.is_none(),
        Group::Labelled(_)
        | Group::Table(_)
        | Group::Ranking
        | Group::Latency
        | Group::Agreement => true,
    }
}

fn check_role(faults: &mut Faults, at: &Path, spec: &MetricSpec, role: MetricRole) {
    if spec.abort == Some(true) && matches!(role, MetricRole::Signal | MetricRole::Watch) {
        let problem = format!("a `{}` metric never ends a rollout", role.word());
        faults.add(at.field("abort"), problem, "take it out, or write `role: guardrail`");
    }
}

fn direction(faults: &mut Faults, at: &Path, spec: &MetricSpec, kind: MetricKind) -> Direction {
    let written = spec.direction;
    let word = |d: Direction| match d {
        Direction::Lower => "lower",
        Direction::Higher => "higher",
    };
    match (kind.traits().direction, written) {
        (Some(natural), Some(written)) if natural != written => {
            let problem = format!("`{}` is not better for `{}`", word(written), kind.word());
            faults.add(
                at.field("direction"),
                problem,
                format!("write `direction: {}`, or nothing", word(natural)),
            );
            natural
        }
        (Some(natural), _) => natural,
        (None, Some(written)) => written,
        (None, None) => {
            let help = "write `direction: higher` or `direction: lower`";
            faults.add(
                at.field("direction"),
                format!("`{}` must say which way is better", kind.word()),
                help,
            );
            Direction::Higher
        }
    }
}

/// Returns whether a metric is a share of cases, so that a percentage means percentage points.
fn is_rate(kind: MetricKind) -> bool {
    match kind.shape() {
        Shape::Binary | Shape::Ranking | Shape::Confusion => true,
        Shape::Bounded | Shape::Duration => false,
    }
}

fn limit(faults: &mut Faults, path: Path, limit: Limit, kind: MetricKind) -> Margin {
    match limit {
        // A number is a fraction, as for shares, so `1` is ambiguous: it could also mean 1%.
        Limit::Number(value) if (1.0..=1.0).contains(&value) && kind.shape() != Shape::Bounded => {
            let problem = "`1` can be read as 1% or as 100%";
            faults.add(path, problem, "write `1%` or `100%`");
            Margin::Absolute(value)
        }
        Limit::Number(value) if value > 1.0 && is_rate(kind) => {
            let help = format!("write percentage points: `{value}%`, or a number such as `0.005`");
            faults.add(path, format!("`{value}` is no fraction of a rate"), help);
            Margin::Absolute(value)
        }
        Limit::Percent(value) | Limit::Number(value) if is_rate(kind) => {
            if value >= 1.0 {
                let problem = format!("{}% of a rate is over all of it", value * 100.0);
                faults.add(
                    path,
                    problem,
                    "write percentage points such as `0.5%`, or a number such as `0.005`",
                );
            }
            Margin::Absolute(value)
        }
        Limit::Percent(value) if kind.group() == Group::Latency => Margin::Relative(value),
        Limit::Number(value) if kind.group() == Group::Latency => {
            if value > 1.0 {
                let help =
                    format!("write a percentage of the stable version's latency: `{value}%`");
                faults.add(path, format!("`{value}` is no fraction of a latency"), help);
            }
            Margin::Relative(value)
        }
        Limit::Percent(value) => {
            let problem = format!("a percentage says nothing of `{}`", kind.word());
            faults.add(
                path,
                problem,
                format!("write a number in the metric's own unit, such as `{value}`"),
            );
            Margin::Absolute(value)
        }
        Limit::Number(value) => Margin::Absolute(value),
    }
}

fn margin(
    faults: &mut Faults,
    at: &Path,
    spec: &MetricSpec,
    kind: MetricKind,
    role: MetricRole,
    promote: PromoteWhen,
) -> Margin {
    if let Some(written) = spec.margin {
        return limit(faults, at.field("margin"), written, kind);
    }
    let may_be_missing = match role {
        MetricRole::Watch => true,
        MetricRole::Goal => promote == PromoteWhen::Superior,
        MetricRole::Guardrail | MetricRole::Signal => false,
    };
    if !may_be_missing {
        let example = match kind.shape() {
            Shape::Duration => "20%",
            Shape::Binary | Shape::Ranking | Shape::Confusion => "0.5%",
            Shape::Bounded => "0.01",
        };
        let help = format!("say how much worse is still acceptable, such as `margin: {example}`");
        faults.add(
            at.field("margin"),
            format!("a `{}` needs the field `margin`", role.word()),
            help,
        );
    }
    let is_latency = kind.group() == Group::Latency;
    if is_latency { Margin::Relative(0.0) } else { Margin::Absolute(0.0) }
}

/// Returns the effect to plan for when the spec has neither `mde` nor a margin.
fn effect_worth_detecting(
    kind: MetricKind,
    written: Option<f64>,
    base: f64,
    range: (f64, f64),
) -> f64 {
    match kind.traits().effect {
        // The default base of rare events only centers bets. Half of it would be a far smaller effect than anyone plans for.
        Effect::HalfOfSpecBaseOr(effect) => written.map_or(effect, |base| base * 0.5),
        Effect::HalfOfBase => base * 0.5,
        Effect::Of(effect) => effect,
        Effect::TenthOfBase => {
            let tenth = base.abs() * 0.1;
            if tenth > 0.0 { tenth } else { (range.1 - range.0) * 0.01 }
        }
    }
}

fn range(faults: &mut Faults, at: &Path, spec: &MetricSpec, kind: MetricKind) -> (f64, f64) {
    let declared = kind.traits().range;
    let usual = declared.unwrap_or((0.0, 1.0));
    match spec.range.as_deref() {
        Some([low, high]) if low < high => (*low, *high),
        Some(_) => {
            faults.add(
                at.field("range"),
                "this is not a range",
                "write the lower and the upper end: `range: [0, 100]`",
            );
            usual
        }
        None if declared.is_none() => {
            let help = "say between which values it lies, such as `range: [0, 100]`; values outside are clipped";
            faults.add(
                at.field("range"),
                format!("`{}` needs the field `range`", kind.word()),
                help,
            );
            usual
        }
        None => usual,
    }
}

fn base(
    faults: &mut Faults,
    at: &Path,
    spec: &MetricSpec,
    kind: MetricKind,
    range: (f64, f64),
) -> f64 {
    let (low, high) = range;
    match spec.base {
        Some(base) if (low..=high).contains(&base) => base,
        Some(base) => {
            let help =
                format!("write what the stable version is expected to have, from {low} to {high}");
            faults.add(
                at.field("base"),
                format!("`{base}` is outside of the metric's range"),
                help,
            );
            base
        }
        None => match kind.traits().base {
            Base::Of(base) => base,
            Base::Middle => low.midpoint(high),
        }
        .clamp(low, high),
    }
}
