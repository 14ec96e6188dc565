//! Parses the head of a scenario: models and rollouts, one line each.

use serde_json::json;

use serinus_core::domain::ids::Version;
use serinus_core::domain::routing::OnFailure;
use serinus_core::domain::share::Share;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::judge::command::Written;
use serinus_core::plan::metric::{Direction, Margin, Metric, MetricKind, MetricRole, Unusable};
use serinus_core::plan::rollout::{
    Decide, Format, LabelMap, MissingLabels, ModelPlan, ModelTopics, OnConflict, PromoteWhen,
    RolloutPlan, Source, Stage, StrategyKind, WhenInconclusive, WhenNoData,
};

/// The midnight at which scenarios and histories start.
pub(crate) const MIDNIGHT: Timestamp = Timestamp(1_700_006_400_000);

/// A model whose unit is the key of the request.
pub(crate) fn model(name: &str, stable: &str) -> Written<ModelPlan> {
    let plan = ModelPlan {
        name: name.into(),
        stable: stable.into(),
        unit: Source::Key,
        request_id: None,
        segments: Vec::new(),
        timeout: Span(500),
        shadow_timeout: Span(5000),
        on_failure: OnFailure::Stable,
        default: None,
        labels: LabelMap {
            request_id: Source::Json("/request_id".to_owned()),
            value: "/label".to_owned(),
            observed_at: Some("/observed_at".to_owned()),
        },
        format: Format::Json,
        topics: ModelTopics::of(&name.into()),
        open_cases_max: 1000,
        partitions: 2,
    };
    Written { plan, document: json!({"model": name, "stable": stable}) }
}

/// Changes a model: `timeout=2s unit=json:/tail`; gives it another document, as a changed spec has.
pub(crate) fn changed(model: Written<ModelPlan>, words: &[&str]) -> Written<ModelPlan> {
    let Written { mut plan, mut document } = model;
    for word in words {
        let (field, is) = word.split_once('=').expect("field=value");
        let pointer = || is.strip_prefix("json:").expect("json:/POINTER").to_owned();
        match field {
            "stable" => plan.stable = is.into(),
            "unit" => plan.unit = Source::Json(pointer()),
            "requestId" => plan.request_id = Some(Source::Json(pointer())),
            "timeout" => plan.timeout = span(is),
            "onFailure" => plan.on_failure = OnFailure::Error,
            "default" => plan.default = Some(is.as_bytes().into()),
            "format" => plan.format = Format::Avro,
            "labels.requestId" => plan.labels.request_id = Source::Json(pointer()),
            "labels.value" => plan.labels.value = pointer(),
            "labels.observedAt" => plan.labels.observed_at = Some(pointer()),
            "topics.predictions" => is.clone_into(&mut plan.topics.predictions),
            "topics.labels" => is.clone_into(&mut plan.topics.labels),
            "topics.deadLetters" => is.clone_into(&mut plan.topics.dead_letters),
            segment => {
                let name = segment.strip_prefix("segments.").expect("a field of a model");
                plan.segments.retain(|(s, _)| &**s != name);
                plan.segments.push((name.into(), Source::Json(pointer())));
            }
        }
        document[field] = is.into();
    }
    Written { plan, document }
}

/// An empty rollout, as `rollout NAME STRATEGY CANDIDATE...` starts it in a scenario.
pub(crate) fn rollout(model: &str, name: &str, strategy: &str, candidates: &[&str]) -> RolloutPlan {
    let strategy = match strategy {
        "shadow" => StrategyKind::Shadow,
        "ab" => StrategyKind::Ab,
        "canary" => StrategyKind::Canary,
        other => panic!("no strategy is called {other}"),
    };
    RolloutPlan {
        name: name.into(),
        model: model.into(),
        strategy,
        candidates: candidates.iter().map(|c| (*c).into()).collect(),
        stages: Vec::new(),
        metrics: Vec::new(),
        maturity: Span::seconds(30),
        keep: Span::seconds(600),
        missing: MissingLabels::Exclude,
        decide: Decide {
            promote: if strategy == StrategyKind::Ab {
                PromoteWhen::Superior
            } else {
                PromoteWhen::NonInferior
            },
            alpha: 0.05,
            inconclusive: WhenInconclusive::Abort,
            by: None,
            no_data: WhenNoData::Hold,
            auto: false,
            min_labelled: 1,
            min_coverage: 0.5,
        },
        on_conflict: OnConflict::Refuse,
        tick: Span::seconds(10),
    }
}

/// Returns the plan with its text as the document, so that two plans are the same when their texts are.
pub(crate) fn written(plan: RolloutPlan, text: &str) -> Written<RolloutPlan> {
    // With the members that a judge changes: the run and the time to decide.
    let document =
        json!({"metadata": {"name": plan.name.as_str()}, "spec": {"decide": {}}, "text": text});
    Written { plan, document }
}

/// Adds one line to a rollout: `stage`, `metric`, `labels`, `decide`, `tick` or `conflict`.
pub(crate) fn line(plan: &mut RolloutPlan, words: &[&str]) {
    match words {
        ["stage", rest @ ..] => {
            let stage = stage(&plan.candidates, rest);
            plan.stages.push(stage);
        }
        ["metric", name, kind, role, rest @ ..] => {
            plan.metrics.push(metric(name, kind, role, rest));
        }
        ["labels", rest @ ..] => {
            for word in rest {
                match word.split_once('=') {
                    Some(("maturity", it)) => plan.maturity = span(it),
                    Some(("keep", it)) => plan.keep = span(it),
                    Some(("missing", "negative")) => plan.missing = MissingLabels::Negative,
                    _ => panic!("labels: {word}?"),
                }
            }
        }
        ["decide", rest @ ..] => rest.iter().for_each(|f| decide(&mut plan.decide, f)),
        ["tick", it] => plan.tick = span(it),
        ["conflict", "replace"] => plan.on_conflict = OnConflict::Replace,
        ["conflict", "queue"] => plan.on_conflict = OnConflict::Queue,
        other => panic!("what is {other:?}?"),
    }
}

fn stage(candidates: &[Version], words: &[&str]) -> Stage {
    let mut stage = Stage::default();
    for word in words {
        match word.split_once('=') {
            Some(("share", it)) => stage.shares = shares(candidates, it),
            Some(("shadow", it)) => stage.shadows = shares(candidates, it),
            Some(("hold", it)) => stage.hold = span(it),
            Some(("exposures", it)) => stage.exposures_min = it.parse().expect("a number"),
            None if *word == "approve" => stage.approve = true,
            _ => panic!("stage: {word}?"),
        }
    }
    stage
}

fn shares(candidates: &[Version], text: &str) -> Vec<(Version, Share)> {
    let share = |s: &str| Share::from_fraction(fraction(s)).expect("a share");
    if !text.contains(':') {
        return candidates.iter().map(|c| (c.clone(), share(text))).collect();
    }
    text.split(',')
        .map(|t| {
            let (version, of) = t.split_once(':').expect("version:share");
            (version.into(), share(of))
        })
        .collect()
}

fn metric(name: &str, kind: &str, role: &str, words: &[&str]) -> Metric {
    let kind = [
        MetricKind::Accuracy,
        MetricKind::ErrorRate,
        MetricKind::Brier,
        MetricKind::Auc,
        MetricKind::Recall,
        MetricKind::F1,
        MetricKind::ResponseError,
        MetricKind::Latency,
        MetricKind::Disagreement,
    ]
    .into_iter()
    .find(|x| x.word() == kind)
    .expect("a kind of metric that scenarios use");
    let role = [MetricRole::Goal, MetricRole::Guardrail, MetricRole::Signal, MetricRole::Watch]
        .into_iter()
        .find(|r| r.word() == role)
        .expect("a role");
    let is_higher = matches!(
        kind,
        MetricKind::Accuracy | MetricKind::Auc | MetricKind::F1 | MetricKind::Recall
    );
    let mut metric = Metric {
        name: name.into(),
        kind,
        role,
        direction: if is_higher { Direction::Higher } else { Direction::Lower },
        margin: Margin::Absolute(0.05),
        mde: 0.05,
        prediction: Some("/score".to_owned()),
        label: Some("/late".to_owned()),
        threshold: None,
        positive: None,
        range: (0.0, 1.0),
        base: if is_higher { 0.9 } else { 0.1 },
        centre: if is_higher { 0.9 } else { 0.1 },
        tolerance: 1e-9,
        twin: None,
        segment: None,
        ignore: Vec::new(),
        aborts: kind != MetricKind::Auc,
        unusable: Unusable::Bounds,
    };
    for word in words {
        match word.split_once('=') {
            Some(("margin", it)) => {
                let margin = fraction(it);
                metric.margin = if kind == MetricKind::Latency {
                    Margin::Relative(margin)
                } else {
                    Margin::Absolute(margin)
                };
                metric.mde = margin;
            }
            Some(("mde", it)) => metric.mde = fraction(it),
            Some(("base", it)) => {
                metric.base = fraction(it);
                metric.centre = metric.base;
            }
            Some(("unusable", "exclude")) => metric.unusable = Unusable::Exclude,
            _ => panic!("metric: {word}?"),
        }
    }
    metric
}

fn decide(decide: &mut Decide, word: &str) {
    match word.split_once('=') {
        Some(("promote", "superior")) => decide.promote = PromoteWhen::Superior,
        Some(("promote", "non_inferior")) => decide.promote = PromoteWhen::NonInferior,
        Some(("by", it)) => decide.by = Some(span(it)),
        Some(("inconclusive", "pause")) => decide.inconclusive = WhenInconclusive::Pause,
        Some(("no_data", "abort")) => decide.no_data = WhenNoData::Abort,
        Some(("min_labelled", it)) => decide.min_labelled = it.parse().expect("a number"),
        Some(("coverage", it)) => decide.min_coverage = fraction(it),
        None if word == "auto" => decide.auto = true,
        _ => panic!("decide: {word}?"),
    }
}

/// Parses `5%` or `0.05`.
pub(crate) fn fraction(text: &str) -> f64 {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().expect("a percentage") / 100.0,
        None => text.parse().expect("a number"),
    }
}

/// Parses `90s`, `5m`, `2h` or `1d`.
pub(crate) fn span(text: &str) -> Span {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: i64 = number.parse().expect("a whole number");
    match unit {
        "s" => Span::seconds(number),
        "m" => Span::seconds(60 * number),
        "h" => Span::seconds(3600 * number),
        "d" => Span::seconds(86_400 * number),
        other => panic!("no unit of time is called {other}"),
    }
}
