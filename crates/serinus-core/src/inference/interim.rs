//! Computes the interim analysis from evidence: arms, findings and the health of the measurement.

use crate::domain::ids::StageIndex;
use crate::domain::time::Timestamp;
use crate::evidence::design::Stratum;
use crate::inference::claims;
use crate::inference::finding;
use crate::inference::health;
use crate::inference::input::{AnalysisInput, Detail};
use crate::inference::verdict::{ArmReport, Finding, InterimAnalysis, Proof, Timing};
use crate::plan::rollout::RolloutPlan;
use serinus_stats::multiple;

/// Runs one interim analysis.
pub fn analyze<'a>(input: &AnalysisInput<'a>) -> InterimAnalysis<'a> {
    let span = input.evidence.span_of(input.stage);
    let first = input
        .plan
        .stages
        .iter()
        .zip(0..)
        .filter_map(|(_, index)| input.evidence.span_of(StageIndex(index)))
        .map(|(first, _)| first)
        .min();
    let timing = Timing {
        rollout_first_at: first.or(input.entered_at),
        // A case that is older than its stage, because of a wrong clock, does not make the stage older.
        stage_first_at: span.map(|(first, _)| match input.entered_at {
            Some(entered_at) if input.stage > StageIndex(0) => first.max(entered_at),
            Some(_) | None => first,
        }),
        stage_last_at: span.map(|(_, last)| last),
        entered_at: input.entered_at,
    };
    let read = |is_segment: bool| -> Vec<Finding> {
        let metrics = input.plan.metrics.iter().filter(|m| m.segment.is_some() == is_segment);
        metrics
            .flat_map(|metric| input.live.iter().map(move |m| finding::finding(input, metric, m)))
            .collect()
    };
    let findings = read(false);
    let segments =
        if input.detail == Detail::Full { alerted(input.plan, read(true)) } else { Vec::new() };
    InterimAnalysis {
        plan: input.plan,
        stage: input.stage,
        stable: input.stable,
        live: input.live,
        tick: input.tick,
        timing,
        arms: arms(input),
        findings,
        segments,
        health: health::health(input, !is_fresh(input, span)),
    }
}

/// The false discovery rate of segment alerts.
const FALSE_ALARMS: f64 = 0.1;

/// Marks the segments with proved harm, over all watched segments together (e-BH), and makes their intervals consistent with it.
fn alerted(plan: &RolloutPlan, mut findings: Vec<Finding>) -> Vec<Finding> {
    let log_e: Vec<f64> = findings
        .iter()
        .map(|finding| match finding.log_e {
            Some(log_e) if looks_worse(plan, finding) => log_e.harm,
            Some(_) | None => f64::NEG_INFINITY,
        })
        .collect();
    for index in multiple::e_bh(&log_e, FALSE_ALARMS) {
        findings[index].proof = Proof::Alerting;
    }
    for finding in &mut findings {
        let is_alerting = finding.proof == Proof::Alerting;
        if let Some(metric) = plan.metrics.iter().find(|metric| metric.name == finding.metric) {
            finding.difference = finding
                .difference
                .map(|difference| claims::agreed_on_harm(metric, is_alerting, difference));
        }
    }
    findings
}

fn looks_worse(plan: &RolloutPlan, finding: &Finding) -> bool {
    let metric = plan.metrics.iter().find(|metric| metric.name == finding.metric);
    match (metric, finding.difference) {
        (Some(metric), Some(difference)) => claims::looks_worse(metric, difference.value),
        (_, _) => false,
    }
}

/// Traffic is fresh when the newest case is not older than two ticks, the stage's hold, or a tenth of the stage so far.
fn is_fresh(input: &AnalysisInput<'_>, span: Option<(Timestamp, Timestamp)>) -> bool {
    let Some((first, last)) = span else { return false };
    let hold = input.plan.stage(input.stage).map_or(input.plan.tick, |t| t.hold);
    let tenth = crate::domain::time::Span((input.tick - first).0 / 10);
    let patience = input.plan.tick.times(2).max(hold).max(tenth);
    input.tick <= last + patience
}

fn arms(input: &AnalysisInput<'_>) -> Vec<ArmReport> {
    let now = Stratum {
        stage: input.stage,
        drops: u32::try_from(input.design.drops.len()).unwrap_or(u32::MAX),
    };
    std::iter::once(input.stable)
        .chain(&input.plan.candidates)
        .map(|version| {
            let sum = input.evidence.sum(version, |_| true);
            let stage = input.evidence.sum(version, |v| v.stage == input.stage);
            let is_full = input.detail == Detail::Full;
            let quantile = |q| sum.latency.quantile(q).filter(|_| is_full);
            let latency_ms = match (quantile(0.5), quantile(0.95), quantile(0.99)) {
                (Some(p50), Some(p95), Some(p99)) => Some([p50, p95, p99]),
                (_, _, _) => None,
            };
            ArmReport {
                version: version.clone(),
                is_stable: version == input.stable,
                share: input.design.share(input.plan, now, version),
                exposures: sum.exposures,
                stage_exposures: stage.exposures,
                answered: sum.answered,
                errors: sum.errors,
                timeouts: sum.timeouts,
                late: sum.late,
                fallbacks: sum.fallbacks,
                labelled: sum.labelled,
                mature: sum.mature,
                missing: sum.missing,
                labelled_by: sum.labelled_by,
                latency_ms,
            }
        })
        .collect()
}
