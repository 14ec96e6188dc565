//! The private record of a lane's sums: everything in it is a count or an exact sum, so it comes back the same to the bit.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{MetricName, StageIndex, Version};
use crate::domain::time::Timestamp;
use crate::engine::partial::{Inputs, Partial};
use crate::join::pending::Clocks;
use crate::stats::bounded_bet::Capital;
use crate::stats::cluster::{Clusters, Levels};
use crate::stats::paired_bet::PairedCounts;
use crate::stats::sketch::Sketch;
use crate::strategy::amended::{Amended, Values};
use crate::strategy::design::{ContrastKey, Part, Stratum};
use crate::strategy::evidence::{Contrast, Evidence, Ranks, Scores, Table, Tally};
use crate::wire::malformed::{Malformed, read, write};
use crate::wire::scores::{MomentsRecord, UnscoredRecord, number};
use crate::wire::units::{UnitsRecord, units_record};

/// One lane's sums of one rollout at one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartialRecord {
    /// The model.
    pub model: String,
    /// The rollout.
    pub rollout: String,
    /// The partition of the prediction log.
    pub partition: i32,
    /// The tick passed.
    pub tick: i64,
    /// The prediction clock and the label clock.
    pub clocks: (i64, i64),
    /// Whether every label had been read.
    pub labels_read: bool,
    /// Whether no predictions come.
    pub idle: bool,
    /// The turn in which it was made.
    pub turn: u64,
    /// The next offsets of predictions and labels.
    pub inputs: (i64, i64),
    /// Records not yet read.
    pub lag: u64,
    /// What happened to each version's cases.
    pub arms: Vec<TallyRecord>,
    /// What each version's answers scored.
    pub scores: Vec<ScoresRecord>,
    /// Comparisons.
    pub contrasts: Vec<ContrastRecord>,
    /// What the split of traffic is checked on.
    pub units: Vec<UnitsRecord>,
    /// What is bet on each case, by buckets of units.
    #[serde(default)]
    pub clusters: Vec<ClustersRecord>,
    /// The logarithms of latencies, by buckets of units.
    #[serde(default)]
    pub levels: Vec<LevelsRecord>,
    /// What labels that changed after maturity would change, where any did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amended: Option<AmendedRecord>,
}

/// What labels that changed after maturity would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AmendedRecord {
    /// How many times a label changed.
    pub labels: u64,
    /// What the newer labels show: scores.
    pub given_scores: Vec<ScoresRecord>,
    /// What the newer labels show: comparisons.
    pub given_contrasts: Vec<ContrastRecord>,
    /// What the labels before them had shown: scores.
    pub taken_scores: Vec<ScoresRecord>,
    /// What the labels before them had shown: comparisons.
    pub taken_contrasts: Vec<ContrastRecord>,
}

/// What happened to one version's cases in one stratum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TallyRecord {
    /// Stage and number of candidates taken out.
    pub stratum: (u32, u32),
    /// The version.
    pub version: String,
    /// Whether of copies.
    pub copied: bool,
    /// Exposures, answered, errors, timeouts, late, fallbacks, labelled, mature, missing, labelled by a quarter, by half.
    pub counts: [u64; 11],
    /// The first and the newest case's event time.
    pub span: (i64, i64),
    /// Latencies of zero.
    pub latency_zeros: u64,
    /// Latencies by bucket.
    pub latency: Vec<(i32, u64)>,
}

/// What one version's answers scored in one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScoresRecord {
    /// Stage and number of candidates taken out.
    pub stratum: (u32, u32),
    /// The version.
    pub version: String,
    /// Whether of copies.
    pub copied: bool,
    /// The metric.
    pub metric: String,
    /// Count and sums.
    pub moments: MomentsRecord,
    /// How many had to be clipped.
    pub clipped: u64,
    /// Hits, alarms, misses, rest.
    pub table: [u64; 4],
    /// Scores of positives and negatives by bin: only bins that are not empty.
    pub ranks: Option<(SparseBins, SparseBins)>,
    /// Labelled cases with an answer, and those of them that could not be scored.
    #[serde(default)]
    pub unscored: UnscoredRecord,
}

/// Bins that are not empty, with their counts.
pub type SparseBins = Vec<(u32, u64)>;

/// A candidate against the stable version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContrastRecord {
    /// Stage and number of candidates taken out.
    pub stratum: (u32, u32),
    /// The candidate.
    pub candidate: String,
    /// The metric.
    pub metric: String,
    /// Pairs: candidate alone, stable alone, alike.
    pub pairs: [u64; 3],
    /// Differences of pairs.
    pub difference: MomentsRecord,
    /// Log-capitals in 2^-40, as decimal text: harm, non-inferior, superior.
    pub capital: Option<Vec<Vec<String>>>,
}

/// What is bet on each case of a comparison, by buckets of units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClustersRecord {
    /// The candidate.
    pub candidate: String,
    /// The metric.
    pub metric: String,
    /// The sum of each bucket in 2^-40, as decimal text.
    pub sums: Vec<String>,
    /// The sum of all squares in 2^-40, as decimal text.
    pub squares: String,
}

/// The logarithms of latencies of a comparison, by buckets of units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LevelsRecord {
    /// Weighted values.
    pub values: ClustersRecord,
    /// The weights alone.
    pub weights: ClustersRecord,
    /// The sum of squared weights times values in 2^-40, as decimal text.
    pub cross: String,
}

impl PartialRecord {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read("partial", bytes)
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    /// Returns the record's key: one for each partition of each rollout, so that compaction keeps the newest.
    pub fn key(&self) -> String {
        format!("{}/{}", self.rollout, self.partition)
    }

    /// Returns the partial.
    pub fn partial(&self) -> Result<Partial, Malformed> {
        let mut sums = Evidence::default();
        for it in &self.arms {
            let key = (stratum(it.stratum), version(&it.version), part(it.copied));
            sums.arms.insert(key, it.tally());
        }
        sums.scores = scores(&self.scores)?;
        sums.contrasts = contrasts(&self.contrasts)?;
        if let Some(it) = &self.amended {
            let given = (scores(&it.given_scores)?, contrasts(&it.given_contrasts)?);
            let taken = (scores(&it.taken_scores)?, contrasts(&it.taken_contrasts)?);
            let values = |(scores, contrasts)| Values { scores, contrasts };
            sums.amended =
                Amended { labels: it.labels, given: values(given), taken: values(taken) };
        }
        for it in &self.units {
            sums.units.insert(stratum(it.stratum), it.units()?);
        }
        for it in &self.clusters {
            let key = (version(&it.candidate), it.metric.as_str().into());
            sums.clusters.insert(key, it.clusters()?);
        }
        for it in &self.levels {
            let key = (version(&it.values.candidate), it.values.metric.as_str().into());
            let (values, weights) = (it.values.clusters()?, it.weights.clusters()?);
            sums.levels.insert(key, Levels { values, weights, cross: number(&it.cross)? });
        }
        Ok(Partial {
            model: self.model.as_str().into(),
            rollout: self.rollout.as_str().into(),
            partition: self.partition,
            tick: Timestamp(self.tick),
            clocks: Clocks {
                predictions: Timestamp(self.clocks.0),
                labels: Timestamp(self.clocks.1),
                are_labels_read: self.labels_read,
            },
            is_idle: self.idle,
            turn: self.turn,
            inputs: Inputs { predictions: self.inputs.0, labels: self.inputs.1 },
            lag: self.lag,
            sums,
        })
    }
}

impl From<&Partial> for PartialRecord {
    fn from(partial: &Partial) -> Self {
        let sums = &partial.sums;
        Self {
            model: partial.model.to_string(),
            rollout: partial.rollout.to_string(),
            partition: partial.partition,
            tick: partial.tick.0,
            clocks: (partial.clocks.predictions.0, partial.clocks.labels.0),
            labels_read: partial.clocks.are_labels_read,
            idle: partial.is_idle,
            turn: partial.turn,
            inputs: (partial.inputs.predictions, partial.inputs.labels),
            lag: partial.lag,
            arms: sums.arms.iter().map(|(key, it)| tally_record(key, it)).collect(),
            scores: scores_records(&sums.scores),
            contrasts: contrast_records(&sums.contrasts),
            units: sums.units.iter().map(|(stratum, it)| units_record(*stratum, it)).collect(),
            amended: (sums.amended.labels > 0).then(|| AmendedRecord {
                labels: sums.amended.labels,
                given_scores: scores_records(&sums.amended.given.scores),
                given_contrasts: contrast_records(&sums.amended.given.contrasts),
                taken_scores: scores_records(&sums.amended.taken.scores),
                taken_contrasts: contrast_records(&sums.amended.taken.contrasts),
            }),
            clusters: sums.clusters.iter().map(|(key, it)| clusters(key, it)).collect(),
            levels: sums
                .levels
                .iter()
                .map(|(key, it)| LevelsRecord {
                    values: clusters(key, &it.values),
                    weights: clusters(key, &it.weights),
                    cross: it.cross.to_string(),
                })
                .collect(),
        }
    }
}

fn clusters((candidate, metric): &(Version, MetricName), it: &Clusters) -> ClustersRecord {
    ClustersRecord {
        candidate: candidate.to_string(),
        metric: metric.to_string(),
        sums: it.sums.iter().map(ToString::to_string).collect(),
        squares: it.squares.to_string(),
    }
}

type ScoresByKey = BTreeMap<(Stratum, Version, Part, MetricName), Scores>;

fn scores(records: &[ScoresRecord]) -> Result<ScoresByKey, Malformed> {
    let keyed = |it: &ScoresRecord| {
        let metric = it.metric.as_str().into();
        Ok(((stratum(it.stratum), version(&it.version), part(it.copied), metric), it.scores()?))
    };
    records.iter().map(keyed).collect()
}

fn contrasts(records: &[ContrastRecord]) -> Result<BTreeMap<ContrastKey, Contrast>, Malformed> {
    let keyed = |it: &ContrastRecord| {
        let key = ContrastKey {
            stratum: stratum(it.stratum),
            candidate: version(&it.candidate),
            metric: it.metric.as_str().into(),
        };
        Ok((key, it.contrast()?))
    };
    records.iter().map(keyed).collect()
}

fn scores_records(scores: &ScoresByKey) -> Vec<ScoresRecord> {
    scores
        .iter()
        .map(|((stratum, version, part, metric), it)| ScoresRecord {
            stratum: pair(*stratum),
            version: version.to_string(),
            copied: *part == Part::Copied,
            metric: metric.to_string(),
            moments: (&it.moments).into(),
            clipped: it.clipped,
            table: [it.table.hits, it.table.alarms, it.table.misses, it.table.rest],
            ranks: it.ranks.as_ref().map(|it| (sparse(&it.positives), sparse(&it.negatives))),
            unscored: (&it.unscored).into(),
        })
        .collect()
}

fn contrast_records(contrasts: &BTreeMap<ContrastKey, Contrast>) -> Vec<ContrastRecord> {
    contrasts
        .iter()
        .map(|(key, it)| ContrastRecord {
            stratum: pair(key.stratum),
            candidate: key.candidate.to_string(),
            metric: key.metric.to_string(),
            pairs: [it.pairs.plus, it.pairs.minus, it.pairs.zero],
            difference: (&it.difference).into(),
            capital: it.capital.as_deref().map(|it| {
                it.iter().map(|it| it.0.iter().map(ToString::to_string).collect()).collect()
            }),
        })
        .collect()
}

fn tally_record((stratum, version, part): &(Stratum, Version, Part), it: &Tally) -> TallyRecord {
    TallyRecord {
        stratum: pair(*stratum),
        version: version.to_string(),
        copied: *part == Part::Copied,
        counts: [
            it.exposures,
            it.answered,
            it.errors,
            it.timeouts,
            it.late,
            it.fallbacks,
            it.labelled,
            it.mature,
            it.missing,
            it.labelled_by[0],
            it.labelled_by[1],
        ],
        span: (it.first_at.0, it.last_at.0),
        latency_zeros: it.latency.zeros(),
        latency: it.latency.buckets().collect(),
    }
}

impl TallyRecord {
    fn tally(&self) -> Tally {
        let [
            exposures,
            answered,
            errors,
            timeouts,
            late,
            fallbacks,
            labelled,
            mature,
            missing,
            quarter,
            half,
        ] = self.counts;
        Tally {
            exposures,
            answered,
            errors,
            timeouts,
            late,
            fallbacks,
            labelled,
            mature,
            missing,
            labelled_by: [quarter, half],
            first_at: Timestamp(self.span.0),
            last_at: Timestamp(self.span.1),
            latency: Sketch::from_buckets(self.latency_zeros, self.latency.iter().copied()),
        }
    }
}

impl ScoresRecord {
    fn scores(&self) -> Result<Scores, Malformed> {
        let [hits, alarms, misses, rest] = self.table;
        let ranks = match &self.ranks {
            Some((positives, negatives)) => Some(Ranks {
                positives: dense(positives, Ranks::BINS)?,
                negatives: dense(negatives, Ranks::BINS)?,
            }),
            None => None,
        };
        Ok(Scores {
            moments: self.moments.moments()?,
            clipped: self.clipped,
            table: Table { hits, alarms, misses, rest },
            ranks,
            unscored: self.unscored.unscored()?,
        })
    }
}

impl ContrastRecord {
    fn contrast(&self) -> Result<Contrast, Malformed> {
        let [plus, minus, zero] = self.pairs;
        let capital = match &self.capital {
            None => None,
            Some(capitals) => {
                let mut read: Box<[Capital; 3]> = Box::default();
                if capitals.len() != read.len() {
                    return Err(Malformed::new("partial", "three capitals are wanted"));
                }
                for (capital, texts) in read.iter_mut().zip(capitals) {
                    if texts.len() != capital.0.len() {
                        return Err(Malformed::new("partial", "a capital has another grid"));
                    }
                    for (sum, text) in capital.0.iter_mut().zip(texts) {
                        *sum = number(text)?;
                    }
                }
                Some(read)
            }
        };
        Ok(Contrast {
            pairs: PairedCounts { plus, minus, zero },
            difference: self.difference.moments()?,
            capital,
        })
    }
}

impl ClustersRecord {
    fn clusters(&self) -> Result<Clusters, Malformed> {
        let mut read = Clusters { squares: number(&self.squares)?, ..Clusters::default() };
        if self.sums.len() != read.sums.len() {
            return Err(Malformed::new("partial", "clusters have another number of buckets"));
        }
        for (sum, text) in read.sums.iter_mut().zip(&self.sums) {
            *sum = number(text)?;
        }
        Ok(read)
    }
}

pub(super) fn sparse(bins: &[u64]) -> SparseBins {
    (0..).zip(bins).filter(|(_, n)| **n > 0).map(|(bin, n)| (bin, *n)).collect()
}

pub(super) fn dense(bins: &SparseBins, count: usize) -> Result<Vec<u64>, Malformed> {
    let mut dense = vec![0_u64; count];
    for (bin, n) in bins {
        match dense.get_mut(*bin as usize) {
            Some(count) => {
                let sum = count.checked_add(*n);
                *count = sum.ok_or_else(|| Malformed::new("partial", "its bins overflow"))?;
            }
            None => return Err(Malformed::new("partial", format!("there is no bin {bin}"))),
        }
    }
    Ok(dense)
}

pub(super) fn pair(stratum: Stratum) -> (u32, u32) {
    (stratum.stage.0, stratum.drops)
}

fn stratum((stage, drops): (u32, u32)) -> Stratum {
    Stratum { stage: StageIndex(stage), drops }
}

fn part(is_copied: bool) -> Part {
    if is_copied { Part::Copied } else { Part::Chosen }
}

pub(super) fn version(text: &str) -> Version {
    text.into()
}
