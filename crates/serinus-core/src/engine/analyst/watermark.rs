//! Event time, as one input of a lane tells it.

use std::collections::BTreeMap;

use crate::domain::ids::RolloutName;
use crate::domain::time::{Span, Timestamp};
use crate::engine::analyst::io::LabelWatermark;

/// One input's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputWatermark {
    /// The newest time seen in a record.
    pub seen: Option<Timestamp>,
    /// When the last record came, by the clock on the wall.
    pub arrived: Option<Timestamp>,
    /// How far the clock had come; it never goes back.
    pub reached: Timestamp,
}

/// How far the labels of one partition of the labels' own topic have come.
///
/// Labels come to a lane out of many partitions, and each is read at its own pace. Whoever reads one reports how far it has come, after the
/// labels that the report covers: a report stays true whoever reads the partition later, and however long ago it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionWatermark {
    /// The newest time among its labels.
    pub newest: Timestamp,
    /// When that last moved, by the clock on the wall.
    pub moved: Timestamp,
    /// Every label that stood in the partition at this time, by the clock on the wall, has come to this lane.
    pub read_to: Timestamp,
    /// Whether no label had come for a while before that time.
    pub is_quiet: bool,
}

impl PartitionWatermark {
    /// The watermark of a partition without a report.
    pub const UNKNOWN: Self = Self {
        newest: Timestamp::MIN,
        moved: Timestamp::MIN,
        read_to: Timestamp::MIN,
        is_quiet: false,
    };

    /// Takes in a label of the partition.
    pub fn hear_label(&mut self, now: Timestamp, time: Timestamp) {
        self.move_to(now, time);
        self.is_quiet = false;
    }

    /// Takes in a report.
    pub fn hear_mark(&mut self, now: Timestamp, mark: &LabelWatermark) {
        self.move_to(now, mark.newest.unwrap_or(Timestamp::MIN));
        self.read_to = self.read_to.max(mark.read_to.unwrap_or(Timestamp::MIN));
        self.is_quiet = mark.is_quiet;
    }

    /// Returns up to which time the labels are complete.
    ///
    /// While labels come, their own times count too: where history is replayed faster than it happened, the labels of an hour may be
    /// written a moment after its predictions.
    pub fn complete_to(&self) -> Timestamp {
        if self.is_quiet { self.read_to } else { self.read_to.min(self.newest) }
    }

    /// Returns the same where labels do not count that come, but whose times have stood still for so long: old ones, or corrections.
    pub fn complete_beside_standing(&self, still_after: Span) -> Timestamp {
        let is_standing = self.read_to - self.moved >= still_after;
        if is_standing { self.read_to } else { self.complete_to() }
    }

    fn move_to(&mut self, now: Timestamp, time: Timestamp) {
        if time > self.newest {
            (self.newest, self.moved) = (time, now);
        }
    }
}

/// What a replay must begin with: small, and written down at the start of every turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The prediction clock.
    pub predictions: InputWatermark,
    /// The label clock.
    pub labels: InputWatermark,
    /// The clocks of the partitions that labels come from, each by its number.
    pub sources: BTreeMap<i32, PartitionWatermark>,
    /// Whether the lane has said that it is idle.
    pub is_idle: bool,
    /// The newest tick published of each rollout.
    pub ticks: BTreeMap<RolloutName, Timestamp>,
}

impl InputWatermark {
    /// Hears a record of this time, and moves on to it.
    pub fn hear(&mut self, now: Timestamp, time: Timestamp) {
        self.seen = self.seen.max(Some(time));
        self.arrived = Some(now);
        self.reached = self.reached.max(time);
    }

    /// Returns whether nothing was heard for so long.
    pub fn is_silent(&self, now: Timestamp, idle_after: Span) -> bool {
        self.arrived.is_some_and(|a| a + idle_after <= now)
    }

    /// Lets event time flow on with the clock on the wall.
    pub fn flow(&mut self, now: Timestamp, idle_after: Span) {
        if let (Some(seen), Some(arrived)) = (self.seen, self.arrived) {
            self.reached = self.reached.max(seen + (now - (arrived + idle_after)));
        }
    }
}
