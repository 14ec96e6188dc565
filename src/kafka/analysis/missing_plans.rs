//! Warns about cases whose plan is missing: until the event with the plan is read, they get no row and no evidence.

use std::collections::BTreeMap;

use tracing::warn;

use crate::kafka::analysis::lane::AnalystLane;
use crate::kafka::lanes::lane::LaneKey;
use serinus_core::domain::time::{Span, Timestamp};

/// Delay of a plan up to which no warning is due: an event normally arrives within it.
const WARN_AFTER: Span = Span::seconds(2);
/// Interval between two warnings about one lane.
const WARN_EVERY: Span = Span::seconds(10);

/// When each lane was last warned about.
#[derive(Debug, Default)]
pub struct PlanWait {
    warned_at: BTreeMap<LaneKey, Timestamp>,
}

impl PlanWait {
    /// Warns about the lanes whose cases have waited for too long.
    pub fn warn(&mut self, now: Timestamp, lanes: &BTreeMap<LaneKey, AnalystLane>) {
        self.warned_at.retain(|key, _| lanes.get(key).is_some_and(|k| k.unplanned().is_some()));
        for (key, lane) in lanes {
            let Some((cases, first)) = lane.unplanned() else { continue };
            let is_new = self.warned_at.get(key).is_none_or(|k| *k + WARN_EVERY <= now);
            if first.since + WARN_AFTER > now || !is_new {
                continue;
            }
            let rollout = first.prediction.rollout.as_ref().map_or("-", |r| r.as_str());
            warn!(
                model = %key.0,
                partition = key.1,
                cases,
                rollout,
                revision = first.prediction.revision.0,
                "plan missing: cases stay out of the evidence until its event is read"
            );
            self.warned_at.insert(key.clone(), now);
        }
    }
}
