//! The design of a rollout's tests, as part of events and state.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use serinus_core::domain::ids::{MetricName, Revision, StageIndex, Version};
use serinus_core::domain::time::Timestamp;
use serinus_core::evidence::design::{
    Assumption, Block, Counted, Design, Exceedances, Part, Stratum, Thresholds,
};
use serinus_stats::sketch::Sketch;

/// The assumptions and thresholds frozen so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Design")]
pub struct DesignRecord {
    /// By stage and metric.
    pub assumptions: Vec<AssumptionRecord>,
    /// Latency thresholds by metric, in the order in which they were frozen.
    #[serde(default)]
    pub thresholds: Vec<ThresholdsRecord>,
    /// The candidates dropped so far, each with the first revision without it.
    #[serde(default)]
    pub drops: Vec<(u64, String)>,
}

/// The assumptions of one metric's bets at one stage.
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
    /// The variance of the difference of two answers in one case.
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
    /// The counts until then; empty once the thresholds have been replaced.
    pub counted: Vec<CountedRecord>,
    /// The stage in which they were frozen.
    #[serde(default)]
    pub stage: u32,
    /// The number of the stable version's answers until then with a latency of zero.
    #[serde(default)]
    pub seen_zeros: u64,
    /// The stable version's answers until then, by logarithmic bucket.
    #[serde(default)]
    pub seen: Vec<(i32, u64)>,
    /// The counts from then until the next thresholds were frozen; absent for the newest thresholds.
    #[serde(default)]
    pub ended: Option<Vec<CountedRecord>>,
}

/// The counts of one version in one stratum when thresholds were frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Counted")]
pub struct CountedRecord {
    /// The stage and the number of dropped candidates.
    pub stratum: (u32, u32),
    /// The version.
    pub version: String,
    /// Whether the cases are copies (shadow traffic).
    pub copied: bool,
    /// The number of answers.
    pub n: u64,
    /// Answers slower than each threshold.
    pub above: [u64; 4],
    /// Answers slower than each threshold with the margin added.
    pub above_limit: [u64; 4],
    /// The number of further requests whose answer was late, missing or failed.
    #[serde(default)]
    pub unanswered: u64,
}

impl From<&Design> for DesignRecord {
    fn from(design: &Design) -> Self {
        let assumptions = design
            .assumptions
            .iter()
            .map(|((stage, metric), a)| AssumptionRecord {
                stage: stage.0,
                metric: metric.to_string(),
                centre: a.centre,
                variance: a.variance,
                paired_variance: a.paired_variance,
                discordance: a.discordance,
            })
            .collect();
        let thresholds = design
            .thresholds
            .iter()
            .flat_map(|(metric, t)| t.iter().map(|i| thresholds_record(metric.as_str(), i)))
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
            .map(|a| {
                let key = (StageIndex(a.stage), a.metric.as_str().into());
                let assumption = Assumption {
                    centre: a.centre,
                    variance: a.variance,
                    paired_variance: a.paired_variance,
                    discordance: a.discordance,
                };
                (key, assumption)
            })
            .collect();
        let mut thresholds: BTreeMap<MetricName, Vec<Thresholds>> = BTreeMap::new();
        for frozen in &record.thresholds {
            thresholds
                .entry(frozen.metric.as_str().into())
                .or_default()
                .push(thresholds_of(frozen));
        }
        let drops = record
            .drops
            .iter()
            .map(|(since, version)| (Revision(*since), version.as_str().into()))
            .collect();
        Self { assumptions, thresholds, drops }
    }
}

fn thresholds_record(metric: &str, thresholds: &Thresholds) -> ThresholdsRecord {
    let (counted, seen, ended) = match &thresholds.block {
        Block::Open { counted, seen } => (counted_records(counted), seen.clone(), None),
        Block::Closed(counted) => (Vec::new(), Sketch::default(), Some(counted_records(counted))),
    };
    ThresholdsRecord {
        metric: metric.to_owned(),
        latency_ms: thresholds.latency_ms,
        since: thresholds.since.0,
        counted,
        stage: thresholds.stage.0,
        seen_zeros: seen.zeros(),
        seen: seen.buckets().collect(),
        ended,
    }
}

fn thresholds_of(record: &ThresholdsRecord) -> Thresholds {
    let block = match &record.ended {
        Some(ended) => Block::Closed(ended.iter().map(counted).collect()),
        None => Block::Open {
            counted: record.counted.iter().map(counted).collect(),
            seen: Sketch::from_buckets(record.seen_zeros, record.seen.iter().copied()),
        },
    };
    Thresholds {
        latency_ms: record.latency_ms,
        since: Timestamp(record.since),
        stage: StageIndex(record.stage),
        block,
    }
}

fn counted_records(counted: &Counted) -> Vec<CountedRecord> {
    counted
        .iter()
        .map(|((stratum, version, part), c)| CountedRecord {
            stratum: (stratum.stage.0, stratum.drops),
            version: version.to_string(),
            copied: *part == Part::Copied,
            n: c.n,
            above: c.above,
            above_limit: c.above_limit,
            unanswered: c.unanswered,
        })
        .collect()
}

fn counted(record: &CountedRecord) -> ((Stratum, Version, Part), Exceedances) {
    let (stage, drops) = record.stratum;
    let part = if record.copied { Part::Copied } else { Part::Chosen };
    let key = (Stratum { stage: StageIndex(stage), drops }, record.version.as_str().into(), part);
    let CountedRecord { n, above, above_limit, unanswered, .. } = *record;
    (key, Exceedances { n, above, above_limit, unanswered })
}
