//! What the tests of a rollout were planned with, as it travels in events and state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{Revision, StageIndex};
use crate::domain::time::Timestamp;
use crate::strategy::design::{Assumption, Design, Exceedances, Part, Stratum, Thresholds};

/// Everything frozen so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Design")]
pub struct DesignRecord {
    /// By stage and metric.
    pub assumptions: Vec<AssumptionRecord>,
    /// By metric, for latency.
    #[serde(default)]
    pub thresholds: Vec<ThresholdsRecord>,
    /// The candidates taken out so far, each with the first revision without it.
    #[serde(default)]
    pub drops: Vec<(u64, String)>,
}

/// What the bets of one metric assume at one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Assumption")]
pub struct AssumptionRecord {
    /// The stage, counted from 0.
    pub stage: u32,
    /// The metric.
    pub metric: String,
    /// The stable version's mean.
    pub centre: f64,
    /// The variance around it.
    pub variance: f64,
    /// The variance of the difference of two answers to one case.
    pub paired_variance: f64,
    /// The share of cases in which two answers differ.
    pub discordance: f64,
}

/// Latency thresholds of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Thresholds")]
pub struct ThresholdsRecord {
    /// The metric.
    pub metric: String,
    /// The stable version's p50, p90, p99 and p99.9.
    pub latency_ms: [f64; 4],
    /// The tick at which they were frozen.
    pub since: i64,
    /// What had been counted until then.
    pub counted: Vec<CountedRecord>,
}

/// What had been counted of one version in one stratum when thresholds were frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Counted")]
pub struct CountedRecord {
    /// Stage and number of candidates taken out.
    pub stratum: (u32, u32),
    /// The version.
    pub version: String,
    /// Whether of copies, else of cases that it was chosen for.
    pub copied: bool,
    /// How many answers.
    pub n: u64,
    /// Longer than each threshold.
    pub above: [u64; 4],
    /// Longer than each threshold with the margin added.
    pub above_limit: [u64; 4],
}

impl From<&Design> for DesignRecord {
    fn from(design: &Design) -> Self {
        let assumptions = design
            .assumptions
            .iter()
            .map(|((stage, metric), it)| AssumptionRecord {
                stage: stage.0,
                metric: metric.to_string(),
                centre: it.centre,
                variance: it.variance,
                paired_variance: it.paired_variance,
                discordance: it.discordance,
            })
            .collect();
        let thresholds = design
            .thresholds
            .iter()
            .map(|(metric, it)| ThresholdsRecord {
                metric: metric.to_string(),
                latency_ms: it.latency_ms,
                since: it.since.0,
                counted: it
                    .counted
                    .iter()
                    .map(|((stratum, version, part), it)| CountedRecord {
                        stratum: (stratum.stage.0, stratum.drops),
                        version: version.to_string(),
                        copied: *part == Part::Copied,
                        n: it.n,
                        above: it.above,
                        above_limit: it.above_limit,
                    })
                    .collect(),
            })
            .collect();
        let drops =
            design.drops.iter().map(|(since, version)| (since.0, version.to_string())).collect();
        Self { assumptions, thresholds, drops }
    }
}

impl From<&DesignRecord> for Design {
    fn from(record: &DesignRecord) -> Self {
        let assumptions = record
            .assumptions
            .iter()
            .map(|it| {
                let key = (StageIndex(it.stage), it.metric.as_str().into());
                let assumption = Assumption {
                    centre: it.centre,
                    variance: it.variance,
                    paired_variance: it.paired_variance,
                    discordance: it.discordance,
                };
                (key, assumption)
            })
            .collect();
        let thresholds = record
            .thresholds
            .iter()
            .map(|it| {
                let thresholds = Thresholds {
                    latency_ms: it.latency_ms,
                    since: Timestamp(it.since),
                    counted: it.counted.iter().map(counted).collect(),
                };
                (it.metric.as_str().into(), thresholds)
            })
            .collect();
        let drops = record
            .drops
            .iter()
            .map(|(since, version)| (Revision(*since), version.as_str().into()))
            .collect();
        Self { assumptions, thresholds, drops }
    }
}

fn counted(record: &CountedRecord) -> ((Stratum, crate::domain::ids::Version, Part), Exceedances) {
    let (stage, drops) = record.stratum;
    let part = if record.copied { Part::Copied } else { Part::Chosen };
    let key = (Stratum { stage: StageIndex(stage), drops }, record.version.as_str().into(), part);
    (key, Exceedances { n: record.n, above: record.above, above_limit: record.above_limit })
}
