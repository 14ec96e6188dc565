//! Event time, as one input of a lane tells it.

use std::collections::BTreeMap;

use crate::domain::ids::RolloutName;
use crate::domain::time::{Span, Timestamp};

/// One input's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputClock {
    /// The newest time seen in a record.
    pub seen: Option<Timestamp>,
    /// When the last record came, by the clock on the wall.
    pub arrived: Option<Timestamp>,
    /// How far the clock had come; it never goes back.
    pub reached: Timestamp,
}

/// What a replay must begin with: small, and written down at the start of every turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The prediction clock.
    pub predictions: InputClock,
    /// The label clock.
    pub labels: InputClock,
    /// Whether the lane has said that it is idle.
    pub is_idle: bool,
    /// The newest tick published of each rollout.
    pub ticks: BTreeMap<RolloutName, Timestamp>,
}

impl InputClock {
    /// Hears a record of this time, and moves on to it.
    pub fn hear(&mut self, now: Timestamp, time: Timestamp) {
        self.seen = self.seen.max(Some(time));
        self.arrived = Some(now);
        self.reached = self.reached.max(time);
    }

    /// Returns whether nothing was heard for so long.
    pub fn is_silent(&self, now: Timestamp, idle_after: Span) -> bool {
        self.arrived.is_some_and(|it| it + idle_after <= now)
    }

    /// Lets event time flow on with the clock on the wall.
    pub fn flow(&mut self, now: Timestamp, idle_after: Span) {
        if let (Some(seen), Some(arrived)) = (self.seen, self.arrived) {
            self.reached = self.reached.max(seen + (now - (arrived + idle_after)));
        }
    }
}
