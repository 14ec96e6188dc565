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

/// How far the labels have come that one partition of the labels' own topic holds.
///
/// Labels come to a lane out of many partitions, and each of them is read at its own pace. Whoever reads one says how far it has
/// come; the lane's labels are complete only as far as the slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceClock {
    /// The newest time among its labels.
    pub reached: Timestamp,
    /// When it was last heard of, by the clock on the wall.
    pub heard: Timestamp,
    /// When it last came any further, by the clock on the wall.
    pub moved: Timestamp,
    /// What was said before this, by the clock on the wall, is not believed: nobody may have read it since.
    pub since: Timestamp,
    /// Until when, by the clock on the wall, it counts as read to its end.
    pub idle_until: Option<Timestamp>,
    /// Whether labels are there, or may be, that were not read yet.
    pub is_behind: bool,
}

impl SourceClock {
    /// Returns the clock of a partition of which nothing that was said before now is believed.
    pub fn unknown(now: Timestamp) -> Self {
        Self {
            reached: Timestamp::MIN,
            heard: Timestamp::MIN,
            moved: now,
            since: now,
            idle_until: None,
            is_behind: true,
        }
    }

    /// Hears that the partition is being read, and how far it has come.
    pub fn hear(&mut self, now: Timestamp, reached: Option<Timestamp>) {
        if let Some(reached) = reached.filter(|it| *it > self.reached) {
            (self.reached, self.moved) = (reached, now);
        }
        self.heard = now;
        self.idle_until = None;
    }

    /// Returns whether it holds up the others for nothing: it is read to its end, by someone who says so, and comes no further.
    pub fn is_stuck(&self, now: Timestamp, idle_after: Span) -> bool {
        let is_attended = self.heard + idle_after.times(2) >= now;
        is_attended && !self.is_behind && self.moved + idle_after.times(5) <= now
    }

    /// Returns whether labels of it may be on their way.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.idle_until.is_none_or(|it| it <= now)
    }
}

/// What a replay must begin with: small, and written down at the start of every turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The prediction clock.
    pub predictions: InputClock,
    /// The label clock.
    pub labels: InputClock,
    /// The clocks of the partitions that labels come from, each by its number.
    pub sources: BTreeMap<i32, SourceClock>,
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
