//! The gates between a stage and the next, shared by all strategies; the first that blocks is the reason shown.
//!
//! In order: held long enough; evidence postdates the stage's start; traffic present; harm; health (split, label parity,
//! what cannot be scored, mixed units); minimum sample and coverage; signal metrics; goal and guardrails proved; approval. Harm is acted upon
//! regardless of the other gates: it aborts from every stage at any tick.

use crate::domain::ids::Version;
use crate::domain::time::{Span, Timestamp};
use crate::inference::format;
use crate::inference::scoring_gaps;
use crate::inference::verdict::{
    ArmReport, Finding, InterimAnalysis, LabelAge, Proof, Question, SplitPoint, Verdict, Wait,
};
use crate::plan::metric::MetricRole;
use crate::plan::rollout::{PromoteWhen, RolloutPlan, StrategyKind, WhenNoData};

/// The ending after the last stage's gates, which is the only difference between the strategies.
///
/// A canary promotes: its last stage serves all traffic already. A shadow and an A/B answer a question, so they conclude and a person
/// promotes, or the spec does by `decide.auto`. Of several proved candidates the one with the best goal wins. Which stages a strategy may
/// have is checked when its spec is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The winner becomes the stable version.
    Promote,
    /// The rollout concludes with a verdict, and a person promotes.
    Conclude,
}

impl Ending {
    fn of(plan: &RolloutPlan) -> Self {
        match plan.strategy {
            StrategyKind::Canary => Self::Promote,
            StrategyKind::Shadow | StrategyKind::Ab if plan.decide.auto => Self::Promote,
            StrategyKind::Shadow | StrategyKind::Ab => Self::Conclude,
        }
    }
}

/// Number of ticks without traffic before a rollout with `no_data: abort` aborts.
const SILENT_TICKS_MAX: i64 = 10;

/// Judges a stage.
pub fn judge(analysis: &InterimAnalysis<'_>) -> Verdict {
    if let Some(verdict) = harm(analysis) {
        return verdict;
    }
    if analysis.health.no_data && analysis.plan.decide.no_data == WhenNoData::Abort {
        let silent_since = analysis.timing.stage_last_at.or(analysis.timing.entered_at);
        let patience = analysis.plan.tick.times(SILENT_TICKS_MAX);
        if silent_since.is_some_and(|since| analysis.tick >= since + patience) {
            let reason = format!("no traffic for {patience}, and this rollout aborts without data");
            return Verdict::Abort { reason };
        }
    }
    let is_last = analysis.stage.0 as usize + 1 >= analysis.plan.stages.len();
    match blocked(analysis, is_last) {
        Some((wait, block)) => hold_or_give_up(analysis, wait, &block),
        None if !is_last => {
            let reason = with_finding(analysis, "every gate of the stage is passed");
            Verdict::Advance { reason }
        }
        None => match (winner(analysis), Ending::of(analysis.plan)) {
            (Some((winner, reason)), Ending::Promote) => Verdict::Promote { winner, reason },
            (Some((winner, reason)), Ending::Conclude) => Verdict::Conclude { winner, reason },
            (None, _) => hold_or_give_up(analysis, Wait::Proof(None), "no candidate is left"),
        },
    }
}

/// Returns the proved candidate with the best goal, and why.
pub fn winner(analysis: &InterimAnalysis<'_>) -> Option<(Version, String)> {
    let proved: Vec<&Version> =
        analysis.live.iter().filter(|l| unproved(analysis, l, true).is_none()).collect();
    let best = proved.iter().copied().reduce(|best, p| {
        if goodness(analysis, p) > goodness(analysis, best) { p } else { best }
    })?;
    let reason = if analysis.live.len() == 1 {
        with_finding(analysis, "every gate is passed")
    } else {
        let goal = first_goal(analysis, best).map_or_else(String::new, format::finding);
        format!("{best} has the best goal of {} proved candidates; {goal}", proved.len())
    };
    Some((best.clone(), reason))
}

/// Returns the candidate with the best estimate of the first goal, proved or not; for a person who promotes by hand.
pub fn favourite(analysis: &InterimAnalysis<'_>) -> Option<Version> {
    let measured = analysis.live.iter().filter(|l| {
        analysis.live.len() == 1
            || first_goal(analysis, l).is_some_and(|goal| goal.difference.is_some())
    });
    measured
        .reduce(|best, m| if goodness(analysis, m) > goodness(analysis, best) { m } else { best })
        .cloned()
}

fn harm(analysis: &InterimAnalysis<'_>) -> Option<Verdict> {
    let harmful: Vec<&Finding> =
        analysis.findings.iter().filter(|f| f.aborts && is_harmful(analysis, f)).collect();
    let first = harmful.first()?;
    let is_harmed = |candidate: &Version| harmful.iter().any(|h| h.candidate == *candidate);
    let reason = format!("{} is worse: {}", first.candidate, format::finding(first));
    if analysis.live.iter().all(is_harmed) {
        return Some(Verdict::Abort { reason });
    }
    Some(Verdict::Drop { candidate: first.candidate.clone(), reason })
}

/// Proved harm; not if too many cases of a version could not be scored, because the scored ones may be the bad ones.
fn is_harmful(analysis: &InterimAnalysis<'_>, finding: &Finding) -> bool {
    let is_open = analysis.health.scoring.iter().any(|gap| gap.opens(analysis, finding));
    finding.proof == Proof::Harmful && !is_open
}

fn blocked(analysis: &InterimAnalysis<'_>, is_last: bool) -> Option<(Wait, String)> {
    not_held(analysis)
        .or_else(|| unhealthy(analysis))
        .or_else(|| too_small(analysis))
        .or_else(|| signalled(analysis))
        .or_else(|| not_proved(analysis, is_last))
        .or_else(|| unapproved(analysis))
}

/// The state of one gate of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateState {
    /// Its name.
    pub gate: &'static str,
    /// Why it is blocked; `None` if it is passed.
    pub block: Option<String>,
}

/// Returns every gate of the stage, in the order in which they are asked.
pub fn states(analysis: &InterimAnalysis<'_>) -> Vec<GateState> {
    let is_last = analysis.stage.0 as usize + 1 >= analysis.plan.stages.len();
    let harm = harm(analysis).map(|verdict| verdict.reason().to_owned());
    let of = |block: Option<(Wait, String)>| block.map(|(_, block)| block);
    [
        ("harm", harm),
        ("hold", of(not_held(analysis))),
        ("health", of(unhealthy(analysis))),
        ("sample", of(too_small(analysis))),
        ("signal", of(signalled(analysis))),
        ("proof", of(not_proved(analysis, is_last))),
        ("approval", of(unapproved(analysis))),
    ]
    .map(|(gate, block)| GateState { gate, block })
    .to_vec()
}

fn not_held(analysis: &InterimAnalysis<'_>) -> Option<(Wait, String)> {
    let stage = analysis.plan.stage(analysis.stage)?;
    let Some(first_at) = analysis.timing.stage_first_at else {
        if analysis.health.unplanned > 0 {
            return Some((Wait::Data, unplanned(analysis.health.unplanned)));
        }
        return Some((Wait::Data, "no traffic at this stage yet".to_owned()));
    };
    let until = first_at + stage.hold;
    if analysis.tick < until {
        return Some((
            Wait::Until(until),
            format!("holding until {}", format::clock(until, analysis.tick)),
        ));
    }
    if analysis.health.no_data && analysis.health.unplanned > 0 {
        return Some((Wait::Data, unplanned(analysis.health.unplanned)));
    }
    if analysis.health.no_data {
        let since = analysis.timing.stage_last_at.unwrap_or(first_at);
        let since = format::clock(since, analysis.tick);
        let silence = format!("no traffic since {since}, and no data is never a pass");
        // The reason names unscored cases even after traffic has stopped.
        return Some(match not_scored(analysis) {
            Some(unscored) => (Wait::Health, format!("{unscored}; {silence}")),
            None => (Wait::Data, silence),
        });
    }
    let fewest = analysis
        .arms
        .iter()
        .filter(|a| !a.is_stable && analysis.live.contains(&a.version))
        .min_by_key(|v| v.stage_exposures)?;
    (fewest.stage_exposures < stage.exposures_min.max(1)).then(|| {
        let block = format!(
            "{} has {} of {} exposures at this stage",
            fewest.version,
            format::count(fewest.stage_exposures),
            format::count(stage.exposures_min.max(1))
        );
        (Wait::Data, block)
    })
}

/// Returns a sentence if cases arrive but none can be counted.
pub fn unplanned(cases: u64) -> String {
    format!(
        "{} cases wait for the plan that they were routed by, and are in no evidence yet",
        format::count(cases)
    )
}

fn unhealthy(analysis: &InterimAnalysis<'_>) -> Option<(Wait, String)> {
    // Missing labels are a more specific reason than missing labelled units.
    let lost = units_lost(analysis);
    let before_labels = lost.clone().filter(|(point, _)| *point < SplitPoint::LABELLED);
    let block = before_labels
        .map(|(_, block)| block)
        .or_else(|| labels_differ(analysis))
        .or_else(|| lost.map(|(_, block)| block))
        .or_else(|| not_scored(analysis))
        .or_else(|| {
            (analysis.health.mixed_units > 0).then(|| {
                format!(
                    "units that met two arms at one stage: {}; another system assigns units, too",
                    format::count(analysis.health.mixed_units)
                )
            })
        })?;
    Some((Wait::Health, block))
}

/// Returns a sentence if too many cases cannot be scored.
fn not_scored(analysis: &InterimAnalysis<'_>) -> Option<String> {
    let gap = analysis.health.scoring.iter().find(|gap| gap.holds)?;
    Some(format!(
        "{}: a case that cannot be scored never helps a version",
        scoring_gaps::words(gap)
    ))
}

/// Returns the first point at which units are lost, and a sentence.
fn units_lost(analysis: &InterimAnalysis<'_>) -> Option<(usize, String)> {
    let split = &analysis.health.split;
    let (point, version) = split.bad.as_ref()?;
    let what = match *point {
        SplitPoint::ASSIGNED => {
            format!(
                "the split of traffic is not as planned: units of {version} are too few from the start"
            )
        }
        SplitPoint::ANSWERED => {
            format!("units of {version} go missing between assignment and answer")
        }
        _ => format!("units of {version} go missing between answer and label"),
    };
    let p = split.points[*point].p;
    let block = format!("{what} (p {p:.1e}): no result counts until that is understood");
    let decides = |finding: &&Finding| {
        matches!(finding.role, MetricRole::Goal | MetricRole::Guardrail)
            && *point == SplitPoint::ANSWERED
    };
    let left_out = analysis
        .findings
        .iter()
        .filter(decides)
        .find_map(|finding| format::left_out(finding, Question::NonInferior));
    Some((*point, left_out.map_or(block.clone(), |left_out| format!("{block}; {left_out}"))))
}

/// Returns a sentence if labels arrive later, or less often, in one arm.
fn labels_differ(analysis: &InterimAnalysis<'_>) -> Option<String> {
    let parity = &analysis.health.label_parity;
    let (point, version) = parity.bad.as_ref()?;
    let p = parity.points[*point].p;
    let age = match *point {
        LabelAge::QUARTER => "a quarter of the maturity",
        LabelAge::HALF => "half of the maturity",
        _ => {
            return Some(format!(
                "labels are missing more often for {version} (p {p:.1e}): no result counts until that is understood"
            ));
        }
    };
    let maturity = analysis.plan.maturity;
    Some(format!(
        "delay shift: labels of {version} come later (p {p:.1e} at {age}): a longer maturity than {maturity} is proposed"
    ))
}

fn too_small(analysis: &InterimAnalysis<'_>) -> Option<(Wait, String)> {
    let wanted = analysis.plan.decide.min_labelled;
    let decides =
        |f: &&Finding| matches!(f.role, MetricRole::Goal | MetricRole::Guardrail) && f.needs_label;
    let small = analysis.findings.iter().filter(decides).find(|d| d.n_min < wanted.max(1));
    if let Some(small) = small {
        let block = format!(
            "{}: {} of {} labelled cases in the smaller arm",
            small.metric,
            format::count(small.n_min),
            format::count(wanted.max(1))
        );
        return Some((Wait::Data, block));
    }
    analysis.findings.iter().find(decides)?;
    let is_in = |arm: &&ArmReport| arm.is_stable || analysis.live.contains(&arm.version);
    analysis.arms.iter().filter(is_in).find_map(|arm| {
        let coverage = arm.coverage()?;
        (coverage < analysis.plan.decide.min_coverage).then(|| {
            let (found, wanted) = format::short_of(coverage, analysis.plan.decide.min_coverage);
            let block = format!(
                "only {found} of {}'s mature cases have a label, {wanted} are wanted",
                arm.version,
            );
            (Wait::Data, block)
        })
    })
}

/// A signal holds the rollout while its estimate is past its margin.
fn signalled(analysis: &InterimAnalysis<'_>) -> Option<(Wait, String)> {
    let is_bad = |f: &&Finding| {
        let worse = f.difference.map(|by| by.value * f.direction.harm_sign());
        f.role == MetricRole::Signal && worse.is_some_and(|it_is| it_is > f.margin.value())
    };
    let bad = analysis.findings.iter().find(is_bad)?;
    Some((Wait::Signal, format!("signal {}", format::finding(bad))))
}

/// Between stages every candidate must be proved, since every one gets more traffic; at the end one is enough.
fn not_proved(analysis: &InterimAnalysis<'_>, is_last: bool) -> Option<(Wait, String)> {
    let open: Vec<&Finding> =
        analysis.live.iter().filter_map(|l| unproved(analysis, l, is_last)).collect();
    if open.is_empty() || (is_last && open.len() < analysis.live.len()) {
        return None;
    }
    let open = open.first()?;
    let needs_better = open.role == MetricRole::Goal
        && analysis.plan.decide.promote == PromoteWhen::Superior
        && is_last;
    let wanted = if needs_better { "better" } else { "non-inferior" };
    let eta = proved_at(analysis, open, needs_better);
    let by = deadline(analysis);
    let pace = match eta {
        Some(eta) if eta <= by => String::new(),
        Some(_) => {
            format!(
                ", and at the pace so far it will not be by {}",
                format::clock(by, analysis.tick)
            )
        }
        None => String::new(),
    };
    let question = if needs_better { Question::Superior } else { Question::NonInferior };
    let block = format::left_out(open, question)
        .unwrap_or_else(|| format!("{} is not proved {wanted} yet{pace}", open.metric));
    Some((Wait::Proof(eta), block))
}

/// Returns when the evidence will be enough if it keeps growing at its pace: a nonbinding futility estimate, which costs no alpha.
///
/// Early estimates of the pace are noise: it is computed only once the evidence has covered a fifth of the distance.
fn proved_at(
    analysis: &InterimAnalysis<'_>,
    finding: &Finding,
    needs_better: bool,
) -> Option<Timestamp> {
    const SHARE_MIN: f64 = 0.2;
    let log_e = finding.log_e?;
    let reached = if needs_better { log_e.superior } else { log_e.non_inferior };
    let bar = (1.0 / analysis.plan.decide.alpha).ln();
    let first_at = analysis.timing.rollout_first_at?;
    let so_far = (analysis.tick - first_at).0 as f64;
    #[expect(clippy::cast_possible_truncation, reason = "at most five times a span of time")]
    let whole = (so_far * (bar / reached)) as i64;
    (reached >= SHARE_MIN * bar && so_far > 0.0)
        .then(|| (first_at + Span(whole)).max(analysis.tick + analysis.plan.tick))
}

/// Returns when the time of the rollout is over.
pub fn deadline(analysis: &InterimAnalysis<'_>) -> Timestamp {
    match (analysis.timing.rollout_first_at, analysis.plan.decide.by) {
        (Some(first_at), Some(by)) => first_at + by,
        (_, _) => Timestamp::MAX,
    }
}

fn unapproved(analysis: &InterimAnalysis<'_>) -> Option<(Wait, String)> {
    let is_wanted = analysis.plan.stage(analysis.stage).is_some_and(|s| s.approve);
    (is_wanted && !analysis.is_approved).then(|| {
        let (stage, name) = (analysis.stage.0 + 1, &analysis.plan.name);
        let block = format!("stage {stage} waits for the approval of a person: approve {name}");
        (Wait::Approval, block)
    })
}

/// Returns the first goal or guardrail of a candidate that is not proved.
fn unproved<'a>(
    analysis: &'a InterimAnalysis<'_>,
    candidate: &Version,
    is_last: bool,
) -> Option<&'a Finding> {
    analysis.findings.iter().filter(|f| f.candidate == *candidate).find(|c| match c.role {
        MetricRole::Goal => {
            let needs_better = is_last && analysis.plan.decide.promote == PromoteWhen::Superior;
            !is_proved(c, needs_better)
        }
        MetricRole::Guardrail => !is_proved(c, false),
        MetricRole::Signal | MetricRole::Watch => false,
    })
}

fn is_proved(finding: &Finding, needs_better: bool) -> bool {
    match finding.proof {
        Proof::Superior => true,
        Proof::NonInferior => !needs_better,
        Proof::NoData | Proof::Open | Proof::Harmful | Proof::Watched | Proof::Alerting => false,
    }
}

fn hold_or_give_up(analysis: &InterimAnalysis<'_>, wait: Wait, block: &str) -> Verdict {
    let deadline = deadline(analysis);
    if analysis.tick >= deadline && wait != Wait::Approval {
        let by = format::clock(deadline, analysis.tick);
        let reason = with_finding(analysis, &format!("nothing decided by {by}: {block}"));
        return Verdict::Inconclusive { reason };
    }
    Verdict::Hold { wait, reason: with_finding(analysis, block) }
}

/// Prefixes a sentence with the result of the metric with the most evidence.
fn with_finding(analysis: &InterimAnalysis<'_>, sentence: &str) -> String {
    let goal = analysis
        .findings
        .iter()
        .filter(|f| f.proof != Proof::NoData)
        .min_by_key(|p| (p.role, p.proof != Proof::Open));
    match goal {
        Some(goal) if analysis.live.len() > 1 => {
            format!("{} {}; {sentence}", goal.candidate, format::finding(goal))
        }
        Some(goal) => format!("{}; {sentence}", format::finding(goal)),
        None => sentence.to_owned(),
    }
}

fn first_goal<'a>(analysis: &'a InterimAnalysis<'_>, candidate: &Version) -> Option<&'a Finding> {
    let mut ours = analysis.findings.iter().filter(|f| f.candidate == *candidate);
    ours.clone().find(|o| o.role == MetricRole::Goal).or_else(|| ours.next())
}

/// How much better than the stable version a candidate looks in its first goal.
fn goodness(analysis: &InterimAnalysis<'_>, candidate: &Version) -> f64 {
    first_goal(analysis, candidate)
        .and_then(|goal| Some(-goal.difference?.value * goal.direction.harm_sign()))
        .unwrap_or(f64::NEG_INFINITY)
}
