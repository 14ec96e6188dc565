//! Converts the spec of a rollout to its plan.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use crate::domain::ids::{ModelName, RolloutName, Version};
use crate::domain::share::Share;
use crate::domain::time::Span;
use crate::plan::metric::{Metric, MetricRole, Shape};
use crate::plan::metric_kind::Group;
use crate::plan::rollout::{
    Decide, MissingLabels, OnConflict, PromoteWhen, RolloutPlan, Stage, StrategyKind,
    WhenInconclusive, WhenNoData,
};
use crate::spec::metric;
use crate::spec::model::check_name;
use crate::spec::path::{Fault, Faults, Path};
use crate::spec::raw::{DecideSpec, InconclusiveWord, RolloutDocument, RolloutSpec, StageSpec};
use crate::spec::scalar::Shares;
use crate::spec::suggest::did_you_mean;

const SECOND: Span = Span::seconds(1);
const MINUTE: Span = Span::seconds(60);

/// Returns the plan of a rollout, or all of its faults.
pub(crate) fn plan(document: &RolloutDocument) -> Result<RolloutPlan, Vec<Fault>> {
    let mut faults = Faults::default();
    let spec = &document.spec;
    let at = Path::default().field("spec");
    let name = RolloutName::of_run(
        &document.metadata.name,
        document.metadata.run.map_or(1, NonZeroU32::get),
    );
    check_name(
        &mut faults,
        Path::default().field("metadata").field("name"),
        "rollout",
        &document.metadata.name,
    );
    check_name(&mut faults, at.field("model"), "model", &spec.model);
    let strategy = spec.strategy;
    let candidates = candidates(&mut faults, &at.field("candidates"), &spec.candidates);
    let stages = stages(&mut faults, &at.field("stages"), spec, strategy, &candidates);
    let default_promote = match strategy {
        StrategyKind::Ab => PromoteWhen::Superior,
        StrategyKind::Shadow | StrategyKind::Canary => PromoteWhen::NonInferior,
    };
    let promote = spec.decide.as_ref().and_then(|d| d.promote).unwrap_or(default_promote);
    let mut metrics = metrics(&mut faults, &at.field("metrics"), spec, strategy, promote, &stages);
    let watched = segments(&mut faults, &at.field("segments"), spec, &metrics);
    metrics.extend(watched);

    let missing = spec.labels.as_ref().and_then(|l| l.missing).unwrap_or(MissingLabels::Exclude);
    let maturity = maturity(&mut faults, &at, spec, &metrics);
    let keep = spec.labels.as_ref().and_then(|l| l.keep).map_or(maturity.max(MINUTE), |m| m.0);
    let no_decide = DecideSpec::default();
    let decide_spec = spec.decide.as_ref().unwrap_or(&no_decide);
    let decide = decide(&mut faults, &at.field("decide"), decide_spec, promote, missing, &stages);
    let tick = decide_spec.tick.map_or_else(|| default_tick(&stages, maturity), |m| m.0);
    if tick <= Span::ZERO {
        faults.add(
            at.field("decide").field("tick"),
            "a tick must take some time",
            "write a longer one, such as `1m`",
        );
    }
    let plan = RolloutPlan {
        name,
        model: ModelName::new(&spec.model),
        strategy,
        candidates,
        stages,
        metrics,
        maturity,
        keep,
        missing,
        decide,
        on_conflict: spec.on_conflict.unwrap_or(OnConflict::Refuse),
        tick,
    };
    if faults.0.is_empty() { Ok(plan) } else { Err(faults.0) }
}

fn candidates(faults: &mut Faults, at: &Path, written: &[String]) -> Vec<Version> {
    if written.is_empty() {
        faults.add(
            at.clone(),
            "a rollout needs a candidate",
            "name the versions under test, such as `candidates: [v2]`",
        );
    }
    let mut seen = BTreeSet::new();
    for (index, name) in written.iter().enumerate() {
        check_name(faults, at.item(index), "version", name);
        if !seen.insert(name) {
            faults.add(
                at.item(index),
                format!("`{name}` is named twice"),
                "name each candidate once",
            );
        }
    }
    written.iter().map(Version::new).collect()
}

fn stages(
    faults: &mut Faults,
    at: &Path,
    spec: &RolloutSpec,
    strategy: StrategyKind,
    candidates: &[Version],
) -> Vec<Stage> {
    let Some(written) = spec.stages.as_deref().filter(|s| !s.is_empty()) else {
        if strategy != StrategyKind::Shadow {
            let help = "write them, such as `stages: [{share: 5%, hold: 30m}]`";
            faults.add(
                at.clone(),
                format!("the strategy `{}` needs stages", strategy.word()),
                help,
            );
        }
        let twins = twins(spec, candidates);
        let shadows = candidates.iter().chain(&twins).map(|t| (t.clone(), Share::ALL)).collect();
        return vec![Stage { shadows, ..Stage::default() }];
    };
    let stages: Vec<Stage> = written
        .iter()
        .enumerate()
        .map(|(index, w)| stage(faults, &at.item(index), w, candidates, &twins(spec, candidates)))
        .collect();
    if faults.0.iter().any(|f| f.path.0.starts_with(&at.0)) {
        // Further checks of an invalid stage would only report consequences of its faults.
        return stages;
    }
    match strategy {
        StrategyKind::Shadow => {
            for (index, _) in stages.iter().enumerate().filter(|(_, s)| serves(s)) {
                let help = "take it out, or write `strategy: canary` or `strategy: ab`";
                faults.add_name(
                    at.item(index).field("share"),
                    "a `shadow` rollout serves nothing",
                    help,
                );
            }
        }
        StrategyKind::Ab => check_ab(faults, at, &stages),
        StrategyKind::Canary => check_ramp(faults, at, &stages, candidates),
    }
    if strategy != StrategyKind::Shadow && !stages.iter().any(serves) {
        let help = "give the last stage one, such as `share: 50%`";
        faults.add(at.clone(), "no stage gives a candidate a share", help);
    } else if strategy != StrategyKind::Shadow {
        for (index, version) in candidates.iter().enumerate() {
            if stages.iter().all(|s| s.share_of(version) == Share::NONE) {
                let help = "give it one in the last stage, or take it out of the candidates";
                let path = Path::default().field("spec").field("candidates").item(index);
                faults.add(path, format!("`{version}` gets no share in any stage"), help);
            }
        }
    }
    check_widths(faults, at, &stages, candidates);
    stages
}

/// The most metrics in segments: every lane keeps sums of each of them for every stage.
const WATCHED_MAX: usize = 200;

/// Returns a copy of each deciding metric for every watched segment.
fn segments(faults: &mut Faults, at: &Path, spec: &RolloutSpec, metrics: &[Metric]) -> Vec<Metric> {
    let decides = |m: &&Metric| {
        matches!(m.role, MetricRole::Goal | MetricRole::Guardrail)
            && matches!(m.kind.shape(), Shape::Binary | Shape::Bounded)
    };
    let mut watched = Vec::new();
    let mut names = BTreeSet::new();
    for (index, segment) in spec.segments.iter().flatten().enumerate() {
        if segment.values.is_empty() {
            let help = "write which ones to watch, such as `values: [AA, DL]`";
            faults.add(at.item(index).field("values"), "no segment is named", help);
        }
        for value in &segment.values {
            if !names.insert((&segment.by, value)) {
                let problem = format!("`{value}` is there twice");
                faults.add(at.item(index).field("values"), problem, "take one out");
            }
            watched.extend(metrics.iter().filter(decides).map(|d| d.within(&segment.by, value)));
        }
    }
    if watched.len() > WATCHED_MAX {
        let problem = format!("{} metrics would be watched in segments", watched.len());
        let help =
            format!("name fewer segments: {WATCHED_MAX} metrics times segments are the most");
        faults.add(at.clone(), problem, help);
    }
    watched
}

fn check_twin(
    faults: &mut Faults,
    at: &Path,
    metric: &Metric,
    spec: &RolloutSpec,
    stages: &[Stage],
) {
    let Some(twin) = &metric.twin else { return };
    check_name(faults, at.clone(), "version", twin.as_str());
    if spec.candidates.iter().any(|c| c == twin.as_str()) {
        let help = "name a second instance of the stable version, deployed under a name of its own";
        faults.add(at.clone(), format!("`{twin}` is a candidate"), help);
    } else if !stages.iter().any(|i| i.shadows.iter().any(|(s, _)| s == twin)) {
        let help = format!("add it to a stage: `shadow: {{{twin}: 100%}}`");
        faults.add(at.clone(), format!("no stage copies requests to `{twin}`"), help);
    }
}

/// Returns the versions that metrics name as twins of the stable version, sorted by name.
fn twins(spec: &RolloutSpec, candidates: &[Version]) -> Vec<Version> {
    let named = spec.metrics.iter().filter_map(|m| m.twin.as_deref().map(Version::new));
    named.filter(|n| !candidates.contains(n)).collect::<BTreeSet<_>>().into_iter().collect()
}

fn serves(stage: &Stage) -> bool {
    stage.shares.iter().any(|(_, share)| *share > Share::NONE)
}

fn stage(
    faults: &mut Faults,
    at: &Path,
    written: &StageSpec,
    candidates: &[Version],
    twins: &[Version],
) -> Stage {
    if written.share.is_none() && written.shadow.is_none() {
        let help = "write `share: 5%` to serve some traffic, or `shadow: 100%` to copy it";
        faults.add(at.clone(), "a stage needs the field `share` or `shadow`", help);
    }
    let known: Vec<&str> = candidates.iter().map(Version::as_str).collect();
    if let Some(Shares::Of(shares)) = &written.share {
        for (name, _) in shares.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let path = at.field("share").field(name);
            faults.add_name(
                path,
                format!("`{name}` is not a candidate"),
                did_you_mean(name, &known),
            );
        }
    }
    if let Some(Shares::Of(shadows)) = &written.shadow {
        for (name, _) in shadows {
            check_name(faults, at.field("shadow").field(name), "version", name);
        }
    }
    let mut shadows = in_order(written.shadow.as_ref(), candidates, |_| true);
    if let Some(Shares::Each(share)) = &written.shadow {
        shadows.extend(twins.iter().map(|t| (t.clone(), share.0)));
    }
    Stage {
        shares: in_order(written.share.as_ref(), candidates, |_| false),
        shadows,
        hold: written.hold.map_or(Span::ZERO, |h| h.0),
        exposures_min: written.until.as_ref().map_or(0, |u| u.exposures),
        approve: written.approve.unwrap_or(false),
    }
}

/// Returns the shares of the candidates in their order, then those of other versions that `is_allowed` accepts, sorted by name.
///
/// JSON does not keep the order of fields, and a plan must be the same whether its spec came as YAML or as JSON.
fn in_order(
    shares: Option<&Shares>,
    candidates: &[Version],
    is_allowed: impl Fn(&Version) -> bool,
) -> Vec<(Version, Share)> {
    match shares {
        None => Vec::new(),
        Some(Shares::Each(share)) => candidates.iter().map(|c| (c.clone(), share.0)).collect(),
        Some(Shares::Of(shares)) => {
            let rank = |version: &Version| candidates.iter().position(|c| c == version);
            let mut shares: Vec<_> =
                shares.iter().map(|(name, share)| (Version::new(name), share.0)).collect();
            shares.retain(|(version, _)| rank(version).is_some() || is_allowed(version));
            shares
                .sort_by_key(|(version, _)| (rank(version).unwrap_or(usize::MAX), version.clone()));
            shares
        }
    }
}

fn check_ab(faults: &mut Faults, at: &Path, stages: &[Stage]) {
    let serving: Vec<usize> = (0..stages.len()).filter(|l| serves(&stages[*l])).collect();
    if let [_, second, ..] = serving[..] {
        let help = "keep one stage of shares, or write `strategy: canary`";
        faults.add_name(
            at.item(second).field("share"),
            "an `ab` rollout has one stage of shares",
            help,
        );
    } else if let [first] = serving[..]
        && first + 1 < stages.len()
    {
        let help = "put the stages of copies before it";
        faults.add(at.item(first + 1), "an `ab` rollout ends with its stage of shares", help);
    }
}

fn check_ramp(faults: &mut Faults, at: &Path, stages: &[Stage], candidates: &[Version]) {
    for (index, pair) in stages.windows(2).enumerate() {
        for version in candidates {
            let (before, after) = (pair[0].share_of(version), pair[1].share_of(version));
            if after < before {
                let problem = format!("the share of `{version}` falls from {before} to {after}");
                let help = "a canary's shares never fall: who has once been moved to a candidate stays there";
                faults.add(at.item(index + 1).field("share"), problem, help);
            }
        }
    }
}

fn check_widths(faults: &mut Faults, at: &Path, stages: &[Stage], candidates: &[Version]) {
    let width =
        |version: &Version| stages.iter().map(|s| s.share_of(version)).max().unwrap_or(Share::NONE);
    let millionths: u64 = candidates.iter().map(|c| u64::from(width(c).millionths())).sum();
    if millionths <= u64::from(Share::ALL.millionths()) {
        return;
    }
    let widths: Vec<String> = candidates.iter().map(|c| format!("{c} {}", width(c))).collect();
    let widest = (0..stages.len()).max_by_key(|l| {
        stages[*l].shares.iter().map(|(_, share)| u64::from(share.millionths())).sum::<u64>()
    });
    let problem = format!(
        "the candidates' largest shares are {}% together ({})",
        millionths as f64 / 1e4,
        widths.join(", ")
    );
    let help = "each candidate keeps a slice of the traffic as wide as its largest share in any stage: 100% is all there is";
    faults.add(at.item(widest.unwrap_or(0)).field("share"), problem, help);
}

fn metrics(
    faults: &mut Faults,
    at: &Path,
    spec: &RolloutSpec,
    strategy: StrategyKind,
    promote: PromoteWhen,
    stages: &[Stage],
) -> Vec<Metric> {
    let mut names = BTreeSet::new();
    let mut metrics = Vec::new();
    for (index, written) in spec.metrics.iter().enumerate() {
        let metric = metric::plan(faults, &at.item(index), written, promote);
        if metric.name.as_str().is_empty() {
            faults.add(
                at.item(index).field("name"),
                "a metric needs a name",
                "write one, or leave the field out",
            );
        }
        if !names.insert(metric.name.clone()) {
            let problem = format!("there are two metrics called `{}`", metric.name);
            faults.add(at.item(index).field("name"), problem, "give each a name of its own");
        }
        if metric.kind.group() == Group::Agreement && stages.iter().all(|s| s.shadows.is_empty()) {
            let help = "add `shadow: 100%` to a stage: answers to the same request are compared";
            faults.add(
                at.item(index).field("kind"),
                "no stage copies requests, so nothing can disagree",
                help,
            );
        }
        check_twin(faults, &at.item(index).field("twin"), &metric, spec, stages);
        metrics.push(metric);
    }
    let decides = |m: &Metric| matches!(m.role, MetricRole::Goal | MetricRole::Guardrail);
    if metrics.is_empty() {
        let help = "name what is measured, such as `{kind: response_error, role: guardrail, margin: 0.5%}`";
        faults.add(at.clone(), "a rollout needs a metric", help);
    } else if strategy != StrategyKind::Shadow && !metrics.iter().any(decides) {
        let help = "give one of them `role: goal` or `role: guardrail`";
        faults.add(at.clone(), "none of these metrics may decide anything", help);
    }
    metrics
}

fn maturity(faults: &mut Faults, at: &Path, spec: &RolloutSpec, metrics: &[Metric]) -> Span {
    if let Some(written) = spec.labels.as_ref().and_then(|l| l.maturity) {
        return written.0;
    }
    if let Some(metric) = metrics.iter().find(|m| m.needs_label()) {
        let path = match &spec.labels {
            Some(_) => at.field("labels").field("maturity"),
            None => at.field("labels"),
        };
        let problem =
            format!("the metric `{}` waits for labels, and nothing says how long", metric.name);
        faults.add(
            path,
            problem,
            "write `labels: {maturity: 6h}`: the age at which nearly all labels are there",
        );
    }
    Span::ZERO
}

fn decide(
    faults: &mut Faults,
    at: &Path,
    spec: &DecideSpec,
    promote: PromoteWhen,
    missing: MissingLabels,
    stages: &[Stage],
) -> Decide {
    let alpha = spec.alpha.map_or(0.05, |a| a.0);
    if alpha <= 0.0 || alpha >= 0.5 {
        faults.add(
            at.field("alpha"),
            format!("`{alpha}` is no error rate"),
            "write a number above 0 and below 0.5",
        );
    }
    let holds = stages.iter().fold(Span::ZERO, |sum, s| Span(sum.0.saturating_add(s.hold.0)));
    if let Some(by) = spec.by
        && by.0 <= holds
    {
        let problem =
            format!("the stages hold for {holds} together, which is not over by {}", by.0);
        faults.add(at.field("by"), problem, "write a longer time, or hold the stages for less");
    }
    Decide {
        promote,
        alpha,
        inconclusive: spec.inconclusive.map_or(WhenInconclusive::Abort, |i| match i {
            InconclusiveWord::Abort => WhenInconclusive::Abort,
            InconclusiveWord::Pause | InconclusiveWord::Hold => WhenInconclusive::Pause,
        }),
        by: spec.by.map(|b| b.0),
        no_data: spec.no_data.unwrap_or(WhenNoData::Hold),
        auto: spec.auto.unwrap_or(false),
        min_labelled: spec.min_labelled.unwrap_or(30),
        min_coverage: spec.min_coverage.map_or(
            match missing {
                MissingLabels::Exclude => 0.95,
                MissingLabels::Negative => 0.0,
            },
            |m| m.0.fraction(),
        ),
    }
}

/// Returns the default tick: a twentieth of the shortest hold or maturity, from a second to a minute, or a second without any.
fn default_tick(stages: &[Stage], maturity: Span) -> Span {
    let waits = stages.iter().map(|s| s.hold).chain([maturity]).filter(|m| *m > Span::ZERO);
    waits.min().map_or(SECOND, |w| Span(w.0 / 20).clamp(SECOND, MINUTE))
}
