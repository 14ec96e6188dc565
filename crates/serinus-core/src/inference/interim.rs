//! Turns evidence into what a strategy looks at: arms, findings and the health of the measurement.

use crate::domain::ids::{StageIndex, Version};
use crate::domain::time::Timestamp;
use crate::evidence::design::{Design, Pairing, Stratum};
use crate::evidence::sums::Evidence;
use crate::inference::bet_cache::BetCache;
use crate::inference::claims;
use crate::inference::finding;
use crate::inference::health;
use crate::inference::verdict::{ArmReport, Finding, InterimAnalysis, Proof, Timing};
use crate::plan::rollout::RolloutPlan;
use serinus_stats::multiple;

/// All that a look is made of.
#[derive(Clone, Copy, Debug)]
pub struct AnalysisInput<'a> {
    /// The rollout.
    pub plan: &'a RolloutPlan,
    /// What its tests are planned with.
    pub design: &'a Design,
    /// The merged evidence.
    pub evidence: &'a Evidence,
    /// The stage.
    pub stage: StageIndex,
    /// The version to compare with.
    pub stable: &'a Version,
    /// The candidates that are still in.
    pub live: &'a [Version],
    /// The tick.
    pub tick: Timestamp,
    /// The tick at which the stage was entered, if any was judged since.
    pub entered_at: Option<Timestamp>,
    /// Records not yet read.
    pub lag: u64,
    /// Cases that wait for the plan that they were routed by.
    pub unplanned: u64,
    /// Bets that were planned before.
    pub bets: &'a BetCache,
    /// How much is computed.
    pub detail: Detail,
}

/// How much of a look is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything that is published.
    Full,
    /// What a verdict rests on, without ranges, quantiles and tests of fixed size.
    Verdict,
}

impl AnalysisInput<'_> {
    /// Returns the strata with cases in which a candidate is compared with the stable version.
    pub fn compared(&self, candidate: &Version) -> Vec<(Stratum, Pairing)> {
        self.evidence
            .strata()
            .into_iter()
            .map(|s| (s, self.design.pairing(self.plan, s, candidate, self.stable)))
            .filter(|(_, pairing)| *pairing != Pairing::Apart)
            .collect()
    }
}

/// Looks at the evidence.
pub fn look<'a>(sight: &AnalysisInput<'a>) -> InterimAnalysis<'a> {
    let span = sight.evidence.span_of(sight.stage);
    let first = sight
        .plan
        .stages
        .iter()
        .zip(0..)
        .filter_map(|(_, index)| sight.evidence.span_of(StageIndex(index)))
        .map(|(first, _)| first)
        .min();
    let timing = Timing {
        rollout_first_at: first.or(sight.entered_at),
        // A case that is older than its stage, as a wrong clock makes it, does not make the stage older.
        stage_first_at: span.map(|(first, _)| match sight.entered_at {
            Some(entered_at) if sight.stage > StageIndex(0) => first.max(entered_at),
            Some(_) | None => first,
        }),
        stage_last_at: span.map(|(_, last)| last),
        entered_at: sight.entered_at,
    };
    let read = |is_segment: bool| -> Vec<Finding> {
        let metrics = sight.plan.metrics.iter().filter(|m| m.segment.is_some() == is_segment);
        metrics
            .flat_map(|metric| sight.live.iter().map(move |m| finding::finding(sight, metric, m)))
            .collect()
    };
    let findings = read(false);
    let segments =
        if sight.detail == Detail::Full { alerted(sight.plan, read(true)) } else { Vec::new() };
    InterimAnalysis {
        plan: sight.plan,
        stage: sight.stage,
        stable: sight.stable,
        live: sight.live,
        tick: sight.tick,
        timing,
        arms: arms(sight),
        findings,
        segments,
        health: health::health(sight, !is_fresh(sight, span)),
    }
}

/// The share of segments alerted on that may be false alarms.
const FALSE_ALARMS: f64 = 0.1;

/// Marks the segments in which harm is proved, all that are watched taken together (e-BH), and lets their intervals say the same.
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
fn is_fresh(sight: &AnalysisInput<'_>, span: Option<(Timestamp, Timestamp)>) -> bool {
    let Some((first, last)) = span else { return false };
    let hold = sight.plan.stage(sight.stage).map_or(sight.plan.tick, |t| t.hold);
    let tenth = crate::domain::time::Span((sight.tick - first).0 / 10);
    let patience = sight.plan.tick.times(2).max(hold).max(tenth);
    sight.tick <= last + patience
}

fn arms(sight: &AnalysisInput<'_>) -> Vec<ArmReport> {
    let now = Stratum {
        stage: sight.stage,
        drops: u32::try_from(sight.design.drops.len()).unwrap_or(u32::MAX),
    };
    std::iter::once(sight.stable)
        .chain(&sight.plan.candidates)
        .map(|version| {
            let sum = sight.evidence.sum(version, |_| true);
            let stage = sight.evidence.sum(version, |v| v.stage == sight.stage);
            let is_full = sight.detail == Detail::Full;
            let quantile = |q| sum.latency.quantile(q).filter(|_| is_full);
            let latency_ms = match (quantile(0.5), quantile(0.95), quantile(0.99)) {
                (Some(p50), Some(p95), Some(p99)) => Some([p50, p95, p99]),
                (_, _, _) => None,
            };
            ArmReport {
                version: version.clone(),
                is_stable: version == sight.stable,
                share: sight.design.share(sight.plan, now, version),
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
