//! Labels that arrive or change after a decision: the judge reports once that they contradict it, and changes nothing.
//!
//! The tests of a decision were valid when it was made. The lanes continue their sums after it, and separately record the effect
//! of the newest labels; the difference of the two shows how the changed labels affect each test.

use std::collections::BTreeMap;

use crate::domain::ids::RolloutName;
use crate::domain::time::Timestamp;
use crate::engine::judge::decision::Decision;
use crate::engine::judge::event::{Action, Position, RolloutEvent};
use crate::engine::judge::io::Effect;
use crate::engine::judge::judge::{Judge, positions_of};
use crate::engine::judge::report::RolloutMetrics;
use crate::engine::partial::Partial;
use crate::evidence::sums::Evidence;
use crate::inference::format;
use crate::inference::interim;
use crate::inference::verdict::{Verdict, Wait};

impl Judge {
    /// Returns whether a partial is the newest of its lane on a decision that can still be contested.
    pub(crate) fn is_of_the_past(&self, partial: &Partial) -> bool {
        let known = self.past.get(&partial.rollout).and_then(|r| r.get(&partial.partition));
        self.may_be_contested(&partial.rollout)
            && !self.is_running(&partial.rollout)
            && known.is_none_or(|k| (k.tick, k.turn) <= (partial.tick, partial.turn))
    }

    /// Returns whether there is a decision on a rollout that has not been contested yet.
    pub(crate) fn may_be_contested(&self, name: &RolloutName) -> bool {
        self.standing.as_ref().is_some_and(|s| {
            s.decisions.iter().any(|d| d.rollout.plan.name == *name && !d.is_contested)
        })
    }

    pub(crate) fn is_running(&self, name: &RolloutName) -> bool {
        self.standing.as_ref().is_some_and(|s| {
            s.position.phase.is_open() && s.rollout.as_ref().is_some_and(|r| r.plan.name == *name)
        })
    }

    /// Keeps a partial of a past rollout.
    pub(crate) fn keep_past(&mut self, partial: Partial) {
        let lanes = self.past.entry(partial.rollout.clone()).or_default();
        lanes.insert(partial.partition, partial);
        let Some(standing) = &self.standing else { return };
        self.past.retain(|name, _| {
            standing.decisions.iter().any(|d| d.rollout.plan.name == *name && !d.is_contested)
        });
    }

    /// Repeats the tests of a decision with the newest labels, and reports once if one of them no longer supports it.
    pub(crate) fn reconsider(&mut self, now: Timestamp, name: &RolloutName, out: &mut Vec<Effect>) {
        let Some(standing) = &self.standing else { return };
        let is_its = |d: &&Decision| d.rollout.plan.name == *name && !d.is_contested;
        let Some(decision) = standing.decisions.iter().find(is_its) else { return };
        let none = BTreeMap::new();
        let lanes = if self.is_running(name) {
            &self.partials
        } else {
            self.past.get(name).unwrap_or(&none)
        };
        let mut plain = Evidence::default();
        for it in lanes.values() {
            plain.merge(&it.sums);
        }
        let labels = plain.amended.labels;
        if labels == 0 {
            return;
        }
        let Some(amended) = plain.as_amended() else { return };
        let tick = lanes.values().map(|l| l.tick).max().unwrap_or(now);
        let Some((support, log_e)) = decision.fallen(&plain, &amended, tick) else { return };
        let (found, wanted) = format::apart(log_e, support.bar);
        let reason = format!(
            "{} of {}: log e {:.2} when it was decided, {found} with {labels} labels that came or changed after maturity, \
             and {wanted} is wanted; nothing changes by itself",
            support.metric, support.candidate, support.log_e
        );
        let phase = if self.is_running(name) { standing.position.phase } else { decision.phase };
        let position = Position { phase, routing: standing.position.routing.clone() };
        let live = decision.live();
        let look = interim::analyze(&decision.sight(&amended, &live, tick, self.bets()));
        let hold = Verdict::Hold { wait: Wait::Approval, reason: reason.clone() };
        let mut report = RolloutMetrics::of(look, position.routing.revision, &hold);
        report.verdict = Action::Contested.word();
        let change = RolloutEvent {
            model: self.settings.model.clone(),
            rollout: Some(name.clone()),
            sequence: self.sequence + 1,
            at: now,
            actor: "judge".to_owned(),
            command_id: None,
            deed: Action::Contested,
            reason,
            from: Some(position.clone()),
            to: position,
            evidence: Some(Box::new(report)),
            positions: positions_of(lanes, standing, &self.settings),
            document: None,
            design: None,
        };
        if let Some(standing) = &mut self.standing {
            let of_it = standing.decisions.iter_mut().filter(|d| d.rollout.plan.name == *name);
            of_it.for_each(|f| f.is_contested = true);
        }
        self.past.remove(name);
        self.publish(change, out);
    }
}
