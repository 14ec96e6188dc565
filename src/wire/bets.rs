//! Parts of a lane's private sums: what bets are centred on, and what counts on one side only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::malformed::Malformed;
use crate::wire::scores::MomentsRecord;
use serinus_core::domain::ids::{CaseId, MetricName};
use serinus_core::domain::time::Timestamp;
use serinus_core::evidence::bet_center::{Centre, Centres, Frozen, Order};
use serinus_core::evidence::bounds::Sides;
use serinus_core::evidence::design::Stratum;
use serinus_core::evidence::sums::Contrast;
use serinus_stats::ipw_bet::Counts;
use serinus_stats::moments::Moments;
use serinus_stats::paired_bet::PairedCounts;

/// Pairs with an answer that cannot be scored, as one side counts them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LostPairsRecord {
    /// Pairs of a binary metric: candidate alone, stable alone, alike.
    pub pairs: [u64; 3],
    /// Differences of pairs.
    pub difference: MomentsRecord,
}

/// Split cases of a binary metric whose bets have one centre.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SplitRecord {
    /// The centre, in millionths.
    pub centre: u32,
    /// For harm: the candidate's cases, events among them, the stable version's, events among them.
    pub harm: [u64; 4],
    /// The same, in the candidate's favour.
    pub favour: [u64; 4],
}

/// The centres of one metric's split bets in one stratum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CentresRecord {
    /// Stage and number of candidates taken out.
    pub stratum: (u32, u32),
    /// The metric.
    pub metric: String,
    /// The values of all cases scored so far.
    pub seen: MomentsRecord,
    /// The last of them in order.
    pub newest: OrderRecord,
    /// What was frozen, in order.
    pub frozen: Vec<FrozenRecord>,
}

/// What was frozen once for the split bets of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FrozenRecord {
    /// The last case before it.
    pub after: OrderRecord,
    /// The centre of the cases that follow.
    pub centre: f64,
    /// The variance around it, once enough was seen to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance: Option<f64>,
}

/// Where a case stands in the order that centres are frozen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderRecord {
    /// Its event time.
    pub at: i64,
    /// The partition that its request stands in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
}

impl LostPairsRecord {
    /// Reads the pairs back.
    pub(super) fn counts(&self) -> PairedCounts {
        let [plus, minus, zero] = self.pairs;
        PairedCounts { plus, minus, zero }
    }
}

/// Returns the pairs of a comparison with an answer that cannot be scored, if there are any.
pub(super) fn lost_records(contrast: &Contrast) -> Option<(LostPairsRecord, LostPairsRecord)> {
    let (pairs, difference) = (&contrast.lost_pairs, &contrast.lost_difference);
    let record = |pairs: &PairedCounts, difference: &Moments| LostPairsRecord {
        pairs: [pairs.plus, pairs.minus, pairs.zero],
        difference: difference.into(),
    };
    (difference.harm.n > 0)
        .then(|| (record(&pairs.harm, &difference.harm), record(&pairs.favour, &difference.favour)))
}

/// Returns the split cases whose bets have one centre.
pub(super) fn split_record(centre: Centre, sides: &Sides<Counts>) -> SplitRecord {
    let counts = |c: &Counts| [c.treated, c.treated_events, c.control, c.control_events];
    SplitRecord { centre: centre.0, harm: counts(&sides.harm), favour: counts(&sides.favour) }
}

impl CentresRecord {
    /// Reads it back.
    pub(super) fn centres(&self) -> Result<Centres, Malformed> {
        Ok(Centres {
            seen: self.seen.moments()?,
            newest: self.newest.order(),
            frozen: self
                .frozen
                .iter()
                .map(|f| Frozen { after: f.after.order(), centre: f.centre, variance: f.variance })
                .collect(),
        })
    }
}

/// Returns the centres of one metric in one stratum.
pub(super) fn centres_record(
    (stratum, metric): &(Stratum, MetricName),
    it: &Centres,
) -> CentresRecord {
    CentresRecord {
        stratum: (stratum.stage.0, stratum.drops),
        metric: metric.to_string(),
        seen: (&it.seen).into(),
        newest: it.newest.into(),
        frozen: it
            .frozen
            .iter()
            .map(|f| FrozenRecord { after: f.after.into(), centre: f.centre, variance: f.variance })
            .collect(),
    }
}

impl OrderRecord {
    fn order(self) -> Order {
        (Timestamp(self.at), CaseId { partition: self.partition, offset: self.offset })
    }
}

impl From<Order> for OrderRecord {
    fn from((at, case): Order) -> Self {
        Self { at: at.0, partition: case.partition, offset: case.offset }
    }
}

impl SplitRecord {
    /// Reads it back.
    pub(super) fn sides(&self) -> (Centre, Sides<Counts>) {
        let counts = |[treated, treated_events, control, control_events]: [u64; 4]| Counts {
            treated,
            treated_events,
            control,
            control_events,
        };
        let sides = Sides { harm: counts(self.harm), favour: counts(self.favour) };
        (Centre(self.centre), sides)
    }
}
