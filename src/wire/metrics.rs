//! The `rollout-metrics` record: the evidence at one tick, and the judge's verdict.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::avro::Codec;
use crate::wire::avro_schema;
use crate::wire::codec::{Record, encode, read, write};
use crate::wire::json::finite;
use crate::wire::json_schema::written_by_us;
use crate::wire::malformed::Malformed;
use serinus_core::domain::ids::Version;
use serinus_core::engine::judge::report::RolloutMetrics;
use serinus_core::inference::verdict::Gap;
use serinus_core::inference::verdict::{ArmReport, Check, Estimate, Finding, Health, Trail};
use serinus_core::plan::rollout::Format;

/// The evidence at one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RolloutMetrics")]
pub struct MetricsRecord {
    /// The rollout.
    pub rollout: String,
    /// The model.
    pub model: String,
    /// `shadow`, `ab` or `canary`.
    pub strategy: String,
    /// The routing revision.
    pub revision: u64,
    /// The stage, counted from 0.
    pub stage: u32,
    /// The tick, in event time.
    pub tick: i64,
    /// The arms, the stable one first.
    pub arms: Vec<ArmRecord>,
    /// Every metric of every candidate.
    pub metrics: Vec<FindingRecord>,
    /// The deciding metrics in each watched segment, named `metric[by=segment]`.
    #[serde(default)]
    pub segments: Vec<FindingRecord>,
    /// Whether the measurement can be trusted.
    pub health: HealthRecord,
    /// The judge's verdict.
    pub verdict: String,
    /// The reason for the verdict.
    pub reason: String,
    /// The earliest time of the next analysis, if known.
    pub eta: Option<i64>,
}

/// One arm, over all stages so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Arm")]
pub struct ArmRecord {
    /// The version.
    pub version: String,
    /// `stable` or `candidate`.
    pub role: String,
    /// The share that it serves now.
    pub share: f64,
    /// Cases assigned or copied to it.
    pub exposures: u64,
    /// Answers in time.
    pub answered: u64,
    /// Errors returned by the worker.
    pub errors: u64,
    /// Requests without an answer.
    pub timeouts: u64,
    /// Answers after the deadline.
    pub late: u64,
    /// Cases of this arm that another version answered.
    pub fallbacks: u64,
    /// Cases with a label, late ones included.
    pub labelled: u64,
    /// Mature cases.
    pub mature: u64,
    /// The share of mature cases that had a label in time.
    pub coverage: Option<f64>,
    /// The share of mature cases that had a label by each age.
    #[serde(default)]
    pub coverage_by_age: Option<CoverageRecord>,
    /// Quantiles of the answers' latency.
    pub latency_ms: Option<LatencyRecord>,
}

/// Label coverage by age: the share of mature cases that had a label by then.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CoverageByAge")]
pub struct CoverageRecord {
    /// By a quarter of the maturity.
    pub quarter: f64,
    /// By half of the maturity.
    pub half: f64,
    /// At maturity.
    pub maturity: f64,
}

/// Quantiles of latency in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Latency")]
pub struct LatencyRecord {
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
}

/// One metric of one candidate against the stable version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Finding")]
pub struct FindingRecord {
    /// The metric's name.
    pub name: String,
    /// The metric's kind.
    pub kind: String,
    /// `goal`, `guardrail`, `signal` or `watch`.
    pub role: String,
    /// The candidate.
    pub candidate: String,
    /// The number of observations in the comparison.
    pub n: u64,
    /// Each version's value.
    pub arms: BTreeMap<String, ValueRecord>,
    /// Candidate minus stable; for latency relative to the stable version.
    pub difference: Option<DifferenceRecord>,
    /// The margin: how much worse is acceptable.
    pub margin: f64,
    /// Logs of e-values against three hypotheses.
    pub log_e: Option<TriadRecord>,
    /// Anytime-valid p-values of the same hypotheses.
    pub p: Option<TriadRecord>,
    /// A fixed-sample test, valid only for a single look.
    pub classic: Option<ClassicRecord>,
    /// The design effect: how many cases of one unit carry the information of one independent case. Absent with too few units.
    #[serde(default)]
    pub design_effect: Option<f64>,
    /// `no_data`, `open`, `proved`, `superior`, `harmful` or `watched`; `alert` for a segment with proved harm.
    pub verdict: String,
}

/// A version's value with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Value")]
pub struct ValueRecord {
    /// The value.
    pub estimate: f64,
    /// The lower end of the interval.
    pub low: Option<f64>,
    /// The upper end of the interval.
    pub high: Option<f64>,
    /// The number of observations.
    pub n: u64,
    /// The share of values that were clipped to the metric's range; absent without a range.
    #[serde(default)]
    pub clipped: Option<f64>,
}

/// A difference with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Difference")]
pub struct DifferenceRecord {
    /// The difference.
    pub estimate: f64,
    /// The lower end of the interval.
    pub low: Option<f64>,
    /// The upper end of the interval.
    pub high: Option<f64>,
}

/// One number for each of the three questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Triad")]
pub struct TriadRecord {
    /// Is it worse?
    pub harm: f64,
    /// Is it not worse than the margin?
    pub non_inferior: f64,
    /// Is it better?
    pub superior: f64,
}

/// A fixed-sample test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Classic")]
pub struct ClassicRecord {
    /// The name of the test.
    pub test: String,
    /// The test statistic.
    pub statistic: f64,
    /// The two-sided p-value.
    pub p: f64,
}

/// Whether the measurement can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Health")]
pub struct HealthRecord {
    /// The SRM check: whether the arms got their shares. Bad if it is bad at any point.
    pub split: CheckRecord,
    /// The SRM check at each point, which shows where units are lost.
    #[serde(default)]
    pub split_points: Option<SplitPointsRecord>,
    /// Whether labels are missing equally often in all arms. Bad if it is bad at any age.
    pub label_parity: CheckRecord,
    /// The same check at each age. If only an early age is bad, labels arrive later in one arm.
    #[serde(default)]
    pub label_parity_ages: Option<ParityAgesRecord>,
    /// Sampled units that were seen in more than one arm of one stage.
    pub mixed_units: u64,
    /// Cases whose unit is their request id: requests without a unit, and all cases if the spec uses the id as the unit.
    #[serde(default)]
    pub without_unit: u64,
    /// Records not yet read.
    pub lag: u64,
    /// Cases that are not in the evidence yet because the lane that joins labels does not have their plan.
    #[serde(default)]
    pub unplanned: u64,
    /// Whether there is no fresh traffic to judge.
    pub no_data: bool,
    /// Cases that a metric could not score; a share of 0.01 or more holds the rollout.
    #[serde(default)]
    pub scoring: Vec<ScoringRecord>,
}

/// Cases of one version that one metric could not score for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Scoring")]
pub struct ScoringRecord {
    /// The metric.
    pub metric: String,
    /// The version.
    pub version: String,
    /// The reason, from a fixed set of phrases. `label:` marks reasons of the label.
    pub reason: String,
    /// The share of the version's labelled cases with an answer.
    pub share: f64,
    /// Up to three of their request ids.
    pub sample: Vec<String>,
}

/// The SRM check at three points.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SplitPoints")]
pub struct SplitPointsRecord {
    /// Units assigned to each version.
    pub assigned: CheckRecord,
    /// Units with an answer of the assigned version.
    pub answered: CheckRecord,
    /// Units with an answered case that had a label at maturity.
    pub labelled: CheckRecord,
}

/// The label parity check at three ages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ParityAges")]
pub struct ParityAgesRecord {
    /// At a quarter of the maturity.
    pub quarter: CheckRecord,
    /// At half of the maturity.
    pub half: CheckRecord,
    /// At maturity.
    pub maturity: CheckRecord,
}

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Check")]
pub struct CheckRecord {
    /// The anytime-valid p-value.
    pub p: f64,
    /// `ok` or `bad`.
    pub verdict: CheckVerdict,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    /// No evidence of a violation.
    Ok,
    /// A violation is proved.
    Bad,
}

impl Record for MetricsRecord {
    const NAME: &'static str = "rollout-metrics";

    fn codec() -> Option<&'static Codec> {
        static CODEC: LazyLock<Codec> =
            LazyLock::new(|| Codec::new(avro_schema::of(&written_by_us::<MetricsRecord>())));
        Some(&CODEC)
    }
}

impl MetricsRecord {
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    pub fn encode(&self, format: Format) -> Vec<u8> {
        encode(format, self)
    }

    pub fn key(&self) -> &str {
        &self.rollout
    }
}

impl From<&RolloutMetrics> for MetricsRecord {
    fn from(metrics: &RolloutMetrics) -> Self {
        let stable = metrics.arms.iter().find(|a| a.is_stable).map(|i| &i.version);
        Self {
            rollout: metrics.rollout.to_string(),
            model: metrics.model.to_string(),
            strategy: metrics.strategy.word().to_owned(),
            revision: metrics.revision.0,
            stage: metrics.stage.0,
            tick: metrics.tick.0,
            arms: metrics.arms.iter().map(Into::into).collect(),
            metrics: metrics.findings.iter().map(|f| finding(f, stable)).collect(),
            segments: metrics.segments.iter().map(|s| finding(s, stable)).collect(),
            health: (&metrics.health).into(),
            verdict: metrics.verdict.to_owned(),
            reason: metrics.reason.clone(),
            eta: metrics.eta.map(|e| e.0),
        }
    }
}

impl From<&ArmReport> for ArmRecord {
    fn from(arm: &ArmReport) -> Self {
        Self {
            version: arm.version.to_string(),
            role: if arm.is_stable { "stable" } else { "candidate" }.to_owned(),
            share: arm.share.fraction(),
            exposures: arm.exposures,
            answered: arm.answered,
            errors: arm.errors,
            timeouts: arm.timeouts,
            late: arm.late,
            fallbacks: arm.fallbacks,
            labelled: arm.labelled,
            mature: arm.mature,
            coverage: arm.coverage(),
            coverage_by_age: arm.delay_curve().map(|[quarter, half, maturity]| CoverageRecord {
                quarter,
                half,
                maturity,
            }),
            latency_ms: arm.latency_ms.map(|[p50, p95, p99]| LatencyRecord {
                p50: finite(p50),
                p95: finite(p95),
                p99: finite(p99),
            }),
        }
    }
}

impl From<&Health> for HealthRecord {
    fn from(health: &Health) -> Self {
        Self {
            split: health.split.all.into(),
            split_points: Some(split_points(&health.split)),
            label_parity: health.label_parity.all.into(),
            label_parity_ages: Some(parity_ages(&health.label_parity)),
            mixed_units: health.mixed_units,
            without_unit: health.without_unit,
            lag: health.lag,
            unplanned: health.unplanned,
            no_data: health.no_data,
            scoring: health.scoring.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Gap> for ScoringRecord {
    fn from(gap: &Gap) -> Self {
        Self {
            metric: gap.metric.to_string(),
            version: gap.version.to_string(),
            reason: gap.reason.word().to_owned(),
            share: finite(gap.share),
            sample: gap.sample.iter().map(ToString::to_string).collect(),
        }
    }
}

fn split_points(split: &Trail) -> SplitPointsRecord {
    let [assigned, answered, labelled] = split.points.map(Into::into);
    SplitPointsRecord { assigned, answered, labelled }
}

fn parity_ages(parity: &Trail) -> ParityAgesRecord {
    let [quarter, half, maturity] = parity.points.map(Into::into);
    ParityAgesRecord { quarter, half, maturity }
}

impl From<Check> for CheckRecord {
    fn from(check: Check) -> Self {
        let verdict = if check.is_ok { CheckVerdict::Ok } else { CheckVerdict::Bad };
        Self { p: finite(check.p), verdict }
    }
}

fn finding(finding: &Finding, stable: Option<&Version>) -> FindingRecord {
    let arms = [
        (stable, finding.stable, finding.clipped.map(|c| c.stable)),
        (Some(&finding.candidate), finding.value, finding.clipped.map(|c| c.candidate)),
    ];
    let log_e = finding.log_e.map(|l| TriadRecord {
        harm: finite(l.harm),
        non_inferior: finite(l.non_inferior),
        superior: finite(l.superior),
    });
    FindingRecord {
        name: finding.metric.to_string(),
        kind: finding.kind.word().to_owned(),
        role: finding.role.word().to_owned(),
        candidate: finding.candidate.to_string(),
        n: finding.n,
        arms: arms
            .into_iter()
            .filter_map(|(version, a, clipped)| Some((version?.to_string(), value(a?, clipped))))
            .collect(),
        difference: finding.difference.map(|d| DifferenceRecord {
            estimate: finite(d.value),
            low: d.low.filter(|l| l.is_finite()),
            high: d.high.filter(|h| h.is_finite()),
        }),
        margin: finite(finding.margin.value()),
        log_e,
        p: log_e.map(|l| TriadRecord {
            harm: anytime_p(l.harm),
            non_inferior: anytime_p(l.non_inferior),
            superior: anytime_p(l.superior),
        }),
        classic: finding.classic.map(|c| ClassicRecord {
            test: c.test.to_owned(),
            statistic: finite(c.statistic),
            p: finite(c.p),
        }),
        design_effect: Some(finding.design_effect).filter(|d| d.is_finite()),
        verdict: finding.proof.word(finding.wants_better).to_owned(),
    }
}

fn value(estimate: Estimate, clipped: Option<f64>) -> ValueRecord {
    ValueRecord {
        estimate: finite(estimate.value),
        low: estimate.low.filter(|l| l.is_finite()),
        high: estimate.high.filter(|h| h.is_finite()),
        n: estimate.n,
        clipped,
    }
}

/// An e-value of E gives a p-value of 1/E that is valid at any time.
fn anytime_p(log_e: f64) -> f64 {
    (-log_e).exp().min(1.0)
}
