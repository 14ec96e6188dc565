//! The sums of one rollout in one lane, with what is needed to publish them again after a restart.

use crate::domain::ids::Revision;
use crate::domain::time::Timestamp;
use crate::engine::analyst::accumulator::EvidenceAccumulator;

/// A rollout's sums in one lane, and the tick at which they were last published.
#[derive(Debug)]
pub(crate) struct RolloutBook {
    pub(crate) book: EvidenceAccumulator,
    pub(crate) revision: Revision,
    pub(crate) is_live: bool,
    pub(crate) tick: Option<Timestamp>,
    /// Whether the sums changed since they were last published.
    pub(crate) is_changed: bool,
    /// The oldest turn whose cases can still change the sums since they were last published.
    pub(crate) replay_turn: u64,
}

impl RolloutBook {
    /// Notes that the sums changed. Those of a rollout that is over are published with the next tick, as seldom as they change.
    pub(crate) fn touch(&mut self, reached: Timestamp) {
        if !self.is_live && !self.is_changed && reached > Timestamp::MIN {
            self.tick = self.tick.max(Some(reached.floor_to(self.book.plan().tick)));
        }
        self.is_changed = true;
    }
}
