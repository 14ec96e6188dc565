//! Parts of the private partial record: the centers of bets, and counts that differ between the two sides of a test.

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

/// Pairs with an answer that cannot be scored, as one side of the test counts them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LostPairsRecord {
    /// Pairs of a binary metric: events of the candidate alone, of the stable version alone, of both or neither.
    pub pairs: [u64; 3],
    /// The differences of the pairs.
    pub difference: MomentsRecord,
}

/// Split cases of a binary metric whose bets share one center.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// The center in millionths.
    pub centre: u32,
    /// As they count for harm: cases and events of the candidate, cases and events of the stable version.
    pub harm: [u64; 4],
    /// As they count in the candidate's favor.
    pub favour: [u64; 4],
}

/// The centers of one metric's split bets in one stratum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CentresRecord {
    /// The stage and the number of dropped candidates.
    pub stratum: (u32, u32),
    /// The metric.
    pub metric: String,
    /// The values of all scored cases so far.
    pub seen: MomentsRecord,
    /// The last of these cases in order.
    pub newest: OrderRecord,
    /// The frozen centers in order.
    pub frozen: Vec<FrozenRecord>,
}

/// A center of the split bets of a metric, frozen at one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrozenRecord {
    /// The last case before the freeze.
    pub after: OrderRecord,
    /// The center for the cases that follow.
    pub centre: f64,
    /// The variance around the center, once there are enough cases to estimate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance: Option<f64>,
}

/// The position of a case in the order in which centers are frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// Its event time.
    pub at: i64,
    /// The partition of its request.
    pub partition: i32,
    /// The offset of its request.
    pub offset: i64,
}

impl LostPairsRecord {
    pub(super) fn counts(&self) -> PairedCounts {
        let [plus, minus, zero] = self.pairs;
        PairedCounts { plus, minus, zero }
    }
}

/// Returns a comparison's pairs with an answer that cannot be scored, if any.
pub(super) fn lost_records(contrast: &Contrast) -> Option<(LostPairsRecord, LostPairsRecord)> {
    let (pairs, difference) = (&contrast.lost_pairs, &contrast.lost_difference);
    let record = |pairs: &PairedCounts, difference: &Moments| LostPairsRecord {
        pairs: [pairs.plus, pairs.minus, pairs.zero],
        difference: difference.into(),
    };
    (difference.harm.n > 0)
        .then(|| (record(&pairs.harm, &difference.harm), record(&pairs.favour, &difference.favour)))
}

pub(super) fn split_record(centre: Centre, sides: &Sides<Counts>) -> SplitRecord {
    let counts = |c: &Counts| [c.treated, c.treated_events, c.control, c.control_events];
    SplitRecord { centre: centre.0, harm: counts(&sides.harm), favour: counts(&sides.favour) }
}

impl CentresRecord {
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

pub(super) fn centres_record(
    (stratum, metric): &(Stratum, MetricName),
    centres: &Centres,
) -> CentresRecord {
    CentresRecord {
        stratum: (stratum.stage.0, stratum.drops),
        metric: metric.to_string(),
        seen: (&centres.seen).into(),
        newest: centres.newest.into(),
        frozen: centres
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
