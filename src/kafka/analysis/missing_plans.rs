//! Says that cases wait for the plan that they were routed by: until its event is read they have no row and are in no evidence.

use std::collections::BTreeMap;

use tracing::warn;

use crate::kafka::analysis::lane::AnalystLane;
use crate::kafka::lanes::lane::LaneKey;
use serinus_core::domain::time::{Span, Timestamp};

/// How long an event may take until it is read, without anybody being told.
const USUAL: Span = Span::seconds(2);
/// How often it is said of one lane.
const EVERY: Span = Span::seconds(10);

/// When it was last said of each lane.
#[derive(Debug, Default)]
pub struct PlanWait {
    said: BTreeMap<LaneKey, Timestamp>,
}

impl PlanWait {
    /// Says which lanes' cases have waited for longer than usual.
    pub fn warn(&mut self, now: Timestamp, lanes: &BTreeMap<LaneKey, AnalystLane>) {
        self.said.retain(|key, _| lanes.get(key).is_some_and(|k| k.unplanned().is_some()));
        for (key, lane) in lanes {
            let Some((cases, first)) = lane.unplanned() else { continue };
            let is_new = self.said.get(key).is_none_or(|k| *k + EVERY <= now);
            if first.since + USUAL > now || !is_new {
                continue;
            }
            let rollout = first.prediction.rollout.as_ref().map_or("-", |r| r.as_str());
            warn!(
                model = %key.0,
                partition = key.1,
                cases,
                rollout,
                revision = first.prediction.revision.0,
                "cases wait for the plan that they were routed by, and are in no evidence until its event is read"
            );
            self.said.insert(key.clone(), now);
        }
    }
}
