//! The event-time watermarks of a lane's inputs.

use std::collections::BTreeMap;

use crate::domain::ids::RolloutName;
use crate::domain::time::{Span, Timestamp};
use crate::engine::analyst::io::LabelWatermark;

/// The watermark of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputWatermark {
    /// The newest time seen in a record.
    pub seen: Option<Timestamp>,
    /// The wall-clock time of the last record.
    pub arrived: Option<Timestamp>,
    /// The watermark; it never decreases.
    pub reached: Timestamp,
}

/// The label watermark of one partition of the label topic.
///
/// The labels of a lane come from many partitions, which are read at different speeds. The reader of a partition writes a report
/// after the labels that it covers, so a report stays true even if it is old or another instance reads the partition now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionWatermark {
    /// The newest label time.
    pub newest: Timestamp,
    /// The wall-clock time at which that last changed.
    pub moved: Timestamp,
    /// All labels that were in the partition at this wall-clock time have reached this lane.
    pub read_to: Timestamp,
    /// Whether the partition was idle at that time.
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

    /// Records a label of the partition.
    pub fn hear_label(&mut self, now: Timestamp, time: Timestamp) {
        self.move_to(now, time);
        self.is_quiet = false;
    }

    /// Records a report.
    pub fn hear_mark(&mut self, now: Timestamp, mark: &LabelWatermark) {
        self.move_to(now, mark.newest.unwrap_or(Timestamp::MIN));
        self.read_to = self.read_to.max(mark.read_to.unwrap_or(Timestamp::MIN));
        self.is_quiet = mark.is_quiet;
    }

    /// Returns the time up to which the labels are complete.
    ///
    /// While labels arrive, their own times count too: when history is replayed faster than it happened, the labels of an hour may
    /// be written a moment after its predictions.
    pub fn complete_to(&self) -> Timestamp {
        if self.is_quiet { self.read_to } else { self.read_to.min(self.newest) }
    }

    /// Returns the same, but ignores label times that have not advanced for `still_after`: old labels or corrections.
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

/// The state that a replay starts with: small, and written at the start of every turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The watermark of the predictions.
    pub predictions: InputWatermark,
    /// The watermark of the labels by request id.
    pub labels: InputWatermark,
    /// The label watermarks by partition of the label topic.
    pub sources: BTreeMap<i32, PartitionWatermark>,
    /// Whether the lane has published that it is idle.
    pub is_idle: bool,
    /// The newest published tick of each rollout.
    pub ticks: BTreeMap<RolloutName, Timestamp>,
}

impl InputWatermark {
    /// Records the time of a record and advances the watermark to it.
    pub fn hear(&mut self, now: Timestamp, time: Timestamp) {
        self.seen = self.seen.max(Some(time));
        self.arrived = Some(now);
        self.reached = self.reached.max(time);
    }

    /// Returns whether no record came for `idle_after`.
    pub fn is_silent(&self, now: Timestamp, idle_after: Span) -> bool {
        self.arrived.is_some_and(|a| a + idle_after <= now)
    }

    /// Advances event time with the wall clock.
    pub fn flow(&mut self, now: Timestamp, idle_after: Span) {
        if let (Some(seen), Some(arrived)) = (self.seen, self.arrived) {
            self.reached = self.reached.max(seen + (now - (arrived + idle_after)));
        }
    }
}
