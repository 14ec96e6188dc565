//! The newest partial of each lane of one rollout, and what they add up to.

use std::collections::BTreeMap;

use crate::domain::time::Timestamp;
use crate::engine::partial::Partial;
use crate::evidence::sums::{Evidence, GAP_MAX};

/// The newest partial of each partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartialSet {
    newest: BTreeMap<i32, Partial>,
}

impl PartialSet {
    /// Returns whether a partial is as new as the one held of its partition, or newer.
    pub(crate) fn is_news(&self, partial: &Partial) -> bool {
        let held = self.newest.get(&partial.partition);
        held.is_none_or(|h| (h.tick, h.turn) <= (partial.tick, partial.turn))
    }

    /// Replaces the partial of its partition.
    pub(crate) fn insert(&mut self, partial: Partial) {
        self.newest.insert(partial.partition, partial);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// Returns the newest tick that every partition with traffic has passed.
    ///
    /// Idle partitions, and those that have sent nothing yet, are not waited upon: sums only add up, so that their cases count
    /// at a later tick.
    pub(crate) fn complete_tick(&self) -> Option<Timestamp> {
        let busy = self.newest.values().filter(|p| !p.is_idle).map(|p| p.tick).min();
        busy.or_else(|| self.newest_tick())
    }

    /// Returns the newest tick of any partition.
    pub(crate) fn newest_tick(&self) -> Option<Timestamp> {
        self.newest.values().map(|p| p.tick).max()
    }

    /// Returns the partition with traffic whose tick is the oldest.
    pub(crate) fn slowest(&self) -> Option<i32> {
        let busy = self.newest.values().filter(|p| !p.is_idle);
        busy.min_by_key(|p| p.tick).map(|p| p.partition)
    }

    /// Returns the sums of all partitions.
    pub(crate) fn sums(&self) -> Evidence {
        let mut evidence = Evidence::default();
        for partial in self.newest.values() {
            evidence.merge(&partial.sums);
        }
        evidence
    }

    /// Returns the sums of all partitions, with the time of their first case.
    pub(crate) fn evidence(&self) -> Evidence {
        let mut evidence = self.sums();
        let Some(tick) = self.complete_tick() else { return evidence };
        // An idle lane this far behind the others holds only cases with wrong times.
        let current = self.newest.values().filter(|p| tick - p.tick <= GAP_MAX);
        let first_at = current.filter_map(|p| p.sums.first_at()).min();
        evidence.begin_at(first_at.map_or(tick, |at| at.min(tick)));
        evidence
    }

    /// Returns the number of input records that the lanes have not read yet.
    pub(crate) fn lag(&self) -> u64 {
        self.newest.values().map(|p| p.lag).sum()
    }

    /// Returns the number of cases that wait for a plan of their rollout.
    pub(crate) fn unplanned(&self) -> u64 {
        self.newest.values().map(|p| p.unplanned).sum()
    }

    /// Returns the next offset of each input that the lanes had read: topic, partition, offset.
    pub(crate) fn positions(&self, predictions: &str, labels: &str) -> Vec<(String, i32, i64)> {
        let both = |p: &Partial| {
            [
                (predictions.to_owned(), p.partition, p.inputs.predictions),
                (labels.to_owned(), p.partition, p.inputs.labels),
            ]
        };
        self.newest.values().flat_map(both).collect()
    }
}
