//! The private partial record: the sums of a lane. It holds only counts and exact sums, so decoding restores every bit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::bets::{
    CentresRecord, LostPairsRecord, SplitRecord, centres_record, lost_records, split_record,
};
use crate::wire::codec::{Record, read, write};
use crate::wire::malformed::Malformed;
use crate::wire::partial_parts::{pair, part, stratum, version};
use crate::wire::scores::{MomentsRecord, RankingRecord, UnscoredRecord, number};
use crate::wire::units::{UnitsRecord, units_record};
use serinus_core::domain::ids::{MetricName, Revision, Version};
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::partial::{Inputs, Partial};
use serinus_core::evidence::bounds::{Lost, Sides};
use serinus_core::evidence::design::{ContrastKey, Part, Stratum};
use serinus_core::evidence::sums::{Amended, Contrast, Evidence, Scores, Table, Tally, Values};
use serinus_core::join::label_join::Clocks;
use serinus_stats::bounded_bet::Capital;
use serinus_stats::cluster::{BUCKETS, Clusters, PartSums};
use serinus_stats::paired_bet::PairedCounts;
use serinus_stats::sketch::Sketch;

/// The sums of one lane and one rollout at one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartialRecord {
    /// The model.
    pub model: String,
    /// The rollout.
    pub rollout: String,
    /// The partition of the prediction log.
    pub partition: i32,
    /// The tick.
    pub tick: i64,
    /// The watermarks of the predictions and of the labels.
    pub clocks: (i64, i64),
    /// Whether all labels had been read.
    pub labels_read: bool,
    /// Whether the prediction log is idle.
    pub idle: bool,
    /// The turn that published it.
    pub turn: u64,
    /// The next offsets of predictions and labels.
    pub inputs: (i64, i64),
    /// The number of records that are not read yet.
    pub lag: u64,
    /// Cases whose plan is not known yet.
    #[serde(default)]
    pub unplanned: u64,
    /// The newest routing revision whose plan is known.
    #[serde(default)]
    pub revision: u64,
    /// Counts of each version's cases.
    pub arms: Vec<TallyRecord>,
    /// The scores of each version's answers.
    pub scores: Vec<ScoresRecord>,
    /// Comparisons of candidates with the stable version.
    pub contrasts: Vec<ContrastRecord>,
    /// The counts of the SRM check.
    pub units: Vec<UnitsRecord>,
    /// Cases whose unit is their request id: requests without a unit, and all cases if the spec uses the id as the unit.
    #[serde(default)]
    pub without_unit: u64,
    /// Values by bucket of units, for the design effect.
    #[serde(default)]
    pub units_alike: Vec<ClustersRecord>,
    /// The centers of the lane's split bets.
    #[serde(default)]
    pub centres: Vec<CentresRecord>,
    /// The effect of labels that changed after maturity, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amended: Option<AmendedRecord>,
}

/// The effect of labels that changed after maturity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AmendedRecord {
    /// The number of label changes.
    pub labels: u64,
    /// The scores by the newer labels.
    pub given_scores: Vec<ScoresRecord>,
    /// The comparisons by the newer labels.
    pub given_contrasts: Vec<ContrastRecord>,
    /// The scores by the labels that they replace.
    pub taken_scores: Vec<ScoresRecord>,
    /// The comparisons by the labels that they replace.
    pub taken_contrasts: Vec<ContrastRecord>,
}

/// Counts of one version's cases in one stratum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TallyRecord {
    /// The stage and the number of dropped candidates.
    pub stratum: (u32, u32),
    /// The version.
    pub version: String,
    /// Whether the cases are copies (shadow traffic).
    pub copied: bool,
    /// Exposures, answered, errors, timeouts, late, fallbacks, labeled, mature, missing, labeled by a quarter of the maturity, by half.
    pub counts: [u64; 11],
    /// The event times of the first and of the newest case.
    pub span: (i64, i64),
    /// The number of latencies of zero.
    pub latency_zeros: u64,
    /// The number of latencies in each bucket.
    pub latency: Vec<(i32, u64)>,
}

/// The scores of one version's answers in one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoresRecord {
    /// The stage and the number of dropped candidates.
    pub stratum: (u32, u32),
    /// The version.
    pub version: String,
    /// Whether the cases are copies (shadow traffic).
    pub copied: bool,
    /// The metric.
    pub metric: String,
    /// The count and the sums.
    pub moments: MomentsRecord,
    /// The number of clipped values.
    pub clipped: u64,
    /// Labeled cases whose answer could not be scored: positive ones, and others.
    #[serde(default)]
    pub lost: (u64, u64),
    /// True positives, false positives, false negatives, true negatives.
    pub table: [u64; 4],
    /// The scores of positives and negatives, for ranking metrics.
    #[serde(default)]
    pub ranking: Option<RankingRecord>,
    /// Labeled cases with an answer, and those of them that could not be scored.
    #[serde(default)]
    pub unscored: UnscoredRecord,
}

/// The comparison of a candidate with the stable version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContrastRecord {
    /// The stage and the number of dropped candidates.
    pub stratum: (u32, u32),
    /// The candidate.
    pub candidate: String,
    /// The metric.
    pub metric: String,
    /// Pairs of a binary metric: events of the candidate alone, of the stable version alone, of both or neither.
    pub pairs: [u64; 3],
    /// The differences of the pairs.
    pub difference: MomentsRecord,
    /// Pairs with an answer that cannot be scored, as they count for harm and in the candidate's favor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<(LostPairsRecord, LostPairsRecord)>,
    /// Split cases of a binary metric, by the center of their bets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<SplitRecord>,
    /// Log capitals in units of 2^-40 as decimal text: harm, non-inferior, superior.
    pub capital: Option<Vec<Vec<String>>>,
}

/// The values of a comparison by bucket of units. Buckets are hexadecimal numbers separated by spaces, or empty if all are zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClustersRecord {
    /// The candidate.
    pub candidate: String,
    /// The metric.
    pub metric: String,
    /// The candidate's cases, the stable version's cases, and pairs.
    pub parts: Vec<PartSumsRecord>,
}

/// The weights of one part of a comparison, and decimal sums over its cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartSumsRecord {
    /// The weighted values of each bucket in units of 2^-36.
    pub values: String,
    /// The weights of each bucket in units of 2^-16.
    pub weights: String,
    /// Squared weights in units of 2^-32, and their products with values (2^-52), squared values (2^-72) and centers (2^-52).
    pub sums: [String; 4],
}

impl Record for PartialRecord {
    const NAME: &'static str = "partial";
}

impl PartialRecord {
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    pub fn write(&self) -> Vec<u8> {
        write(self)
    }

    /// Returns the key: one per rollout and partition, so that compaction keeps the newest record.
    pub fn key(&self) -> String {
        format!("{}/{}", self.rollout, self.partition)
    }

    pub fn partial(&self) -> Result<Partial, Malformed> {
        let mut sums = Evidence { without_unit: self.without_unit, ..Evidence::default() };
        for arm in &self.arms {
            let key = (stratum(arm.stratum), version(&arm.version), part(arm.copied));
            sums.arms.insert(key, arm.tally());
        }
        sums.scores = scores(&self.scores)?;
        sums.contrasts = contrasts(&self.contrasts)?;
        if let Some(amended) = &self.amended {
            let given = (scores(&amended.given_scores)?, contrasts(&amended.given_contrasts)?);
            let taken = (scores(&amended.taken_scores)?, contrasts(&amended.taken_contrasts)?);
            let values = |(scores, contrasts)| Values { scores, contrasts };
            sums.amended =
                Amended { labels: amended.labels, given: values(given), taken: values(taken) };
        }
        for units in &self.units {
            sums.units.insert(stratum(units.stratum), units.units()?);
        }
        for record in &self.centres {
            let key = (stratum(record.stratum), record.metric.as_str().into());
            sums.centres.insert(key, record.centres()?);
        }
        for record in &self.units_alike {
            let key = (version(&record.candidate), record.metric.as_str().into());
            sums.clusters.insert(key, record.clusters()?);
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
            unplanned: self.unplanned,
            revision: Revision(self.revision),
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
            unplanned: partial.unplanned,
            revision: partial.revision.0,
            arms: sums.arms.iter().map(|(key, a)| tally_record(key, a)).collect(),
            scores: scores_records(&sums.scores),
            contrasts: contrast_records(&sums.contrasts),
            units: sums.units.iter().map(|(stratum, u)| units_record(*stratum, u)).collect(),
            without_unit: sums.without_unit,
            amended: (sums.amended.labels > 0).then(|| AmendedRecord {
                labels: sums.amended.labels,
                given_scores: scores_records(&sums.amended.given.scores),
                given_contrasts: contrast_records(&sums.amended.given.contrasts),
                taken_scores: scores_records(&sums.amended.taken.scores),
                taken_contrasts: contrast_records(&sums.amended.taken.contrasts),
            }),
            centres: sums.centres.iter().map(|(key, c)| centres_record(key, c)).collect(),
            units_alike: sums.clusters.iter().map(|(key, c)| clusters(key, c)).collect(),
        }
    }
}

fn clusters((candidate, metric): &(Version, MetricName), clusters: &Clusters) -> ClustersRecord {
    let part = |sums: &PartSums| PartSumsRecord {
        values: buckets_text(&sums.sums),
        weights: buckets_text(&sums.weights),
        sums: [sums.squares, sums.values, sums.value_squares, sums.centres]
            .map(|sum| sum.to_string()),
    };
    ClustersRecord {
        candidate: candidate.to_string(),
        metric: metric.to_string(),
        parts: clusters.parts.iter().map(part).collect(),
    }
}

fn buckets_text(buckets: &[i128; BUCKETS]) -> String {
    let mut text = String::new();
    if buckets.iter().all(|bucket| *bucket == 0) {
        return text;
    }
    for bucket in buckets {
        if !text.is_empty() {
            text.push(' ');
        }
        if *bucket < 0 {
            text.push('-');
        }
        let digits = format!("{:x}", bucket.unsigned_abs());
        text.push_str(&digits);
    }
    text
}

fn buckets(text: &str) -> Result<[i128; BUCKETS], Malformed> {
    let mut buckets = [0; BUCKETS];
    if text.is_empty() {
        return Ok(buckets);
    }
    let mut words = text.split(' ');
    for bucket in &mut buckets {
        let word = words.next().ok_or_else(wrong_buckets)?;
        *bucket = i128::from_str_radix(word, 16)
            .map_err(|error| Malformed::new("partial", format!("{word}: {error}")))?;
    }
    if words.next().is_some() { Err(wrong_buckets()) } else { Ok(buckets) }
}

fn wrong_buckets() -> Malformed {
    Malformed::new("partial", format!("expected {BUCKETS} buckets"))
}

type ScoresByKey = BTreeMap<(Stratum, Version, Part, MetricName), Scores>;

fn scores(records: &[ScoresRecord]) -> Result<ScoresByKey, Malformed> {
    let keyed = |s: &ScoresRecord| {
        let metric = s.metric.as_str().into();
        Ok(((stratum(s.stratum), version(&s.version), part(s.copied), metric), s.scores()?))
    };
    records.iter().map(keyed).collect()
}

fn contrasts(records: &[ContrastRecord]) -> Result<BTreeMap<ContrastKey, Contrast>, Malformed> {
    let keyed = |c: &ContrastRecord| {
        let key = ContrastKey {
            stratum: stratum(c.stratum),
            candidate: version(&c.candidate),
            metric: c.metric.as_str().into(),
        };
        Ok((key, c.contrast()?))
    };
    records.iter().map(keyed).collect()
}

fn scores_records(scores: &ScoresByKey) -> Vec<ScoresRecord> {
    scores
        .iter()
        .map(|((stratum, version, part, metric), s)| ScoresRecord {
            stratum: pair(*stratum),
            version: version.to_string(),
            copied: *part == Part::Copied,
            metric: metric.to_string(),
            moments: (&s.moments).into(),
            clipped: s.clipped,
            lost: (s.lost.positives, s.lost.rest),
            table: [s.table.hits, s.table.alarms, s.table.misses, s.table.rest],
            ranking: s.ranks.as_ref().map(Into::into),
            unscored: (&s.unscored).into(),
        })
        .collect()
}

fn contrast_records(contrasts: &BTreeMap<ContrastKey, Contrast>) -> Vec<ContrastRecord> {
    contrasts
        .iter()
        .map(|(key, x)| ContrastRecord {
            stratum: pair(key.stratum),
            candidate: key.candidate.to_string(),
            metric: key.metric.to_string(),
            pairs: [x.pairs.plus, x.pairs.minus, x.pairs.zero],
            difference: (&x.difference).into(),
            lost: lost_records(x),
            split: x.split.iter().map(|(centre, i)| split_record(*centre, i)).collect(),
            capital: x
                .capital
                .as_deref()
                .map(|c| c.iter().map(|i| i.0.iter().map(ToString::to_string).collect()).collect()),
        })
        .collect()
}

fn tally_record((stratum, version, part): &(Stratum, Version, Part), tally: &Tally) -> TallyRecord {
    TallyRecord {
        stratum: pair(*stratum),
        version: version.to_string(),
        copied: *part == Part::Copied,
        counts: [
            tally.exposures,
            tally.answered,
            tally.errors,
            tally.timeouts,
            tally.late,
            tally.fallbacks,
            tally.labelled,
            tally.mature,
            tally.missing,
            tally.labelled_by[0],
            tally.labelled_by[1],
        ],
        span: (tally.first_at.0, tally.last_at.0),
        latency_zeros: tally.latency.zeros(),
        latency: tally.latency.buckets().collect(),
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
        Ok(Scores {
            moments: self.moments.moments()?,
            clipped: self.clipped,
            lost: Lost { positives: self.lost.0, rest: self.lost.1 },
            table: Table { hits, alarms, misses, rest },
            ranks: self.ranking.as_ref().map(RankingRecord::ranking).transpose()?,
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
                    return Err(Malformed::new("partial", "expected three capitals"));
                }
                for (capital, texts) in read.iter_mut().zip(capitals) {
                    if texts.len() != capital.0.len() {
                        return Err(Malformed::new(
                            "partial",
                            "a capital has the wrong number of grid points",
                        ));
                    }
                    for (sum, text) in capital.0.iter_mut().zip(texts) {
                        *sum = number(text)?;
                    }
                }
                Some(read)
            }
        };
        let (lost_pairs, lost_difference) = match &self.lost {
            None => (Sides::default(), Sides::default()),
            Some((harm, favour)) => (
                Sides { harm: harm.counts(), favour: favour.counts() },
                Sides { harm: harm.difference.moments()?, favour: favour.difference.moments()? },
            ),
        };
        let split = self.split.iter().map(SplitRecord::sides);
        Ok(Contrast {
            pairs: PairedCounts { plus, minus, zero },
            difference: self.difference.moments()?,
            lost_pairs,
            lost_difference,
            split: split.collect(),
            capital,
        })
    }
}

impl ClustersRecord {
    fn clusters(&self) -> Result<Clusters, Malformed> {
        let mut read = Clusters::default();
        if self.parts.len() != read.parts.len() {
            return Err(Malformed::new("partial", "clusters have the wrong number of parts"));
        }
        for (part, record) in read.parts.iter_mut().zip(&self.parts) {
            let [squares, values, value_squares, centres] = &record.sums;
            *part = PartSums {
                sums: buckets(&record.values)?,
                weights: buckets(&record.weights)?,
                squares: number(squares)?,
                values: number(values)?,
                value_squares: number(value_squares)?,
                centres: number(centres)?,
            };
        }
        Ok(read)
    }
}
