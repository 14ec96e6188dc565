//! Watermarks: the event time up to which each input of a lane was read.

use std::collections::BTreeMap;

use crate::domain::ids::RolloutName;
use crate::domain::time::{Span, Timestamp};
use crate::engine::analyst::io::LabelWatermark;
use crate::join::entry::{LabelWatermark as JoinWatermark, Progress};

/// The times of arriving labels count as standing still after this many idle waits.
const STILL_AFTER: i64 = 5;

/// The watermark of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputWatermark {
    /// The newest time in a record.
    pub seen: Option<Timestamp>,
    /// When the last record arrived, in wall-clock time.
    pub arrived: Option<Timestamp>,
    /// The watermark; it never goes back.
    pub reached: Timestamp,
}

/// The watermark of one partition of the source topic of labels.
///
/// The labels of a lane come from many partitions, and each is read at its own pace. The reader of a partition reports how far it has
/// read, after the labels that the report covers: a report stays true whichever instance reads the partition later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionWatermark {
    /// The newest label time.
    pub newest: Timestamp,
    /// When that last changed, in wall-clock time.
    pub moved: Timestamp,
    /// Every label that was in the partition at this wall-clock time has reached this lane.
    pub read_to: Timestamp,
    /// Whether no label had arrived for a while before that time.
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

    /// Adds a label of the partition.
    pub fn add_label(&mut self, now: Timestamp, time: Timestamp) {
        self.move_to(now, time);
        self.is_quiet = false;
    }

    /// Adds a report.
    pub fn add_report(&mut self, now: Timestamp, mark: &LabelWatermark) {
        self.move_to(now, mark.newest.unwrap_or(Timestamp::MIN));
        self.read_to = self.read_to.max(mark.read_to.unwrap_or(Timestamp::MIN));
        self.is_quiet = mark.is_quiet;
    }

    /// Returns the time up to which the labels are complete.
    ///
    /// While labels arrive, their own times count too: if history is replayed faster than it happened, the labels of an hour may be
    /// written a moment after its predictions.
    pub fn complete_to(&self) -> Timestamp {
        if self.is_quiet { self.read_to } else { self.read_to.min(self.newest) }
    }

    /// Returns the same, but ignores arriving labels whose times have not advanced for `still_after`: old ones, or corrections.
    pub fn complete_without_stalled(&self, still_after: Span) -> Timestamp {
        let is_standing = self.read_to - self.moved >= still_after;
        if is_standing { self.read_to } else { self.complete_to() }
    }

    fn move_to(&mut self, now: Timestamp, time: Timestamp) {
        if time > self.newest {
            (self.newest, self.moved) = (time, now);
        }
    }
}

/// The watermarks of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) predictions: InputWatermark,
    pub(crate) labels: InputWatermark,
    /// By source partition of labels; empty if nothing reports on them.
    pub(crate) sources: BTreeMap<i32, PartitionWatermark>,
    /// Whether the lane has reported that it is idle.
    pub(crate) is_idle: bool,
}

impl Watermarks {
    pub(crate) fn new() -> Self {
        let unknown = InputWatermark { seen: None, arrived: None, reached: Timestamp::MIN };
        Self { predictions: unknown, labels: unknown, sources: BTreeMap::new(), is_idle: false }
    }

    /// Returns the watermark of a source partition of labels.
    pub(crate) fn source(&mut self, partition: i32) -> &mut PartitionWatermark {
        self.sources.entry(partition).or_insert(PartitionWatermark::UNKNOWN)
    }

    /// Returns how far both inputs were read. Labels without reports are complete once they are read to their end and idle.
    pub(crate) fn progress(
        &self,
        now: Timestamp,
        idle_after: Span,
        are_labels_read: bool,
    ) -> Progress {
        let predictions = self.predictions.reached;
        if self.sources.is_empty() {
            let is_silent = are_labels_read && self.labels.is_silent(now, idle_after);
            let labels = if is_silent { Timestamp::MAX } else { self.labels.reached };
            let read_to = if are_labels_read { Timestamp::MAX } else { Timestamp::MIN };
            let of_all = |time: Timestamp| JoinWatermark { time, slowest: None };
            return Progress {
                predictions,
                labels: of_all(labels),
                labels_without_stalled: of_all(read_to),
                read_to,
            };
        }
        let least = |of: &dyn Fn(&PartitionWatermark) -> Timestamp| {
            let slowest = self.sources.iter().map(|(id, s)| (of(s), *id)).min();
            let time = slowest.map_or(Timestamp::MIN, |(time, _)| time);
            JoinWatermark { time, slowest: slowest.map(|(_, id)| id) }
        };
        let still_after = idle_after.times(STILL_AFTER);
        Progress {
            predictions,
            labels: least(&PartitionWatermark::complete_to),
            labels_without_stalled: least(&|s| s.complete_without_stalled(still_after)),
            read_to: least(&|s| s.read_to).time,
        }
    }
}

/// What a replay starts with: small, and recorded at the start of every turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The watermark of predictions.
    pub predictions: InputWatermark,
    /// The watermark of labels.
    pub labels: InputWatermark,
    /// The watermarks of the source partitions of labels, by partition.
    pub sources: BTreeMap<i32, PartitionWatermark>,
    /// Whether the lane has reported that it is idle.
    pub is_idle: bool,
    /// The newest published tick of each rollout.
    pub ticks: BTreeMap<RolloutName, Timestamp>,
}

impl InputWatermark {
    /// Advances to the time of a record.
    pub fn advance(&mut self, now: Timestamp, time: Timestamp) {
        self.seen = self.seen.max(Some(time));
        self.arrived = Some(now);
        self.reached = self.reached.max(time);
    }

    /// Returns whether no record arrived for `idle_after`.
    pub fn is_silent(&self, now: Timestamp, idle_after: Span) -> bool {
        self.arrived.is_some_and(|a| a + idle_after <= now)
    }

    /// Advances event time with the wall clock while no record arrives.
    pub fn flow(&mut self, now: Timestamp, idle_after: Span) {
        if let (Some(seen), Some(arrived)) = (self.seen, self.arrived) {
            self.reached = self.reached.max(seen + (now - (arrived + idle_after)));
        }
    }
}
