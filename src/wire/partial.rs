//! The private record of a lane's sums: everything in it is a count or an exact sum, so it comes back the same to the bit.

use std::collections::BTreeMap;

use schemars::JsonSchema;
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
    /// Cases that wait for their plan.
    #[serde(default)]
    pub unplanned: u64,
    /// The newest revision that the plan is known of.
    #[serde(default)]
    pub revision: u64,
    /// What happened to each version's cases.
    pub arms: Vec<TallyRecord>,
    /// What each version's answers scored.
    pub scores: Vec<ScoresRecord>,
    /// Comparisons.
    pub contrasts: Vec<ContrastRecord>,
    /// What the split of traffic is checked on.
    pub units: Vec<UnitsRecord>,
    /// Cases whose request id stands for their unit: requests without one, and all where the spec takes the id.
    #[serde(default)]
    pub without_unit: u64,
    /// Values by buckets of units.
    #[serde(default)]
    pub units_alike: Vec<ClustersRecord>,
    /// What the lane's split bets are centred on.
    #[serde(default)]
    pub centres: Vec<CentresRecord>,
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
    /// Answers that could not be scored although the truth is known: of positive cases, and of others.
    #[serde(default)]
    pub lost: (u64, u64),
    /// Hits, alarms, misses, rest.
    pub table: [u64; 4],
    /// Scores of positives and negatives, for rankings.
    #[serde(default)]
    pub ranking: Option<RankingRecord>,
    /// Labelled cases with an answer, and those of them that could not be scored.
    #[serde(default)]
    pub unscored: UnscoredRecord,
}

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
    /// Pairs with an answer that cannot be scored, as they count for harm and in the candidate's favour; nothing where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<(LostPairsRecord, LostPairsRecord)>,
    /// Cases of a binary metric that were split between the two, by the centre of their bets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<SplitRecord>,
    /// Log-capitals in 2^-40, as decimal text: harm, non-inferior, superior.
    pub capital: Option<Vec<Vec<String>>>,
}

/// The values of a comparison by buckets of units. Buckets are hexadecimal numbers with spaces between; none if all are zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClustersRecord {
    /// The candidate.
    pub candidate: String,
    /// The metric.
    pub metric: String,
    /// The candidate's cases, the stable version's, and pairs.
    pub parts: Vec<PartSumsRecord>,
}

/// The weights of one part of a comparison, and sums over its cases as decimal text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartSumsRecord {
    /// The weighted values of each bucket in 2^-36.
    pub values: String,
    /// The weights of each bucket in 2^-16.
    pub weights: String,
    /// Squared weights in 2^-32; these times values in 2^-52, times squared values in 2^-72, times centres in 2^-52.
    pub sums: [String; 4],
}

impl Record for PartialRecord {
    const NAME: &'static str = "partial";
}

impl PartialRecord {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
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
        let mut sums = Evidence { without_unit: self.without_unit, ..Evidence::default() };
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
    Malformed::new("partial", format!("a list of buckets does not have {BUCKETS} numbers"))
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
            return Err(Malformed::new("partial", "clusters have another number of parts"));
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
