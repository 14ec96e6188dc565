//! Labels that arrive or change after a decision: the judge reports once that they contradict it, and changes nothing.
//!
//! The tests of a decision were valid when it was made. Its lanes continue their sums, and next to them the sums that the newest
//! labels would give. The difference of the two is what the changed labels do to each test.

use crate::domain::ids::RolloutName;
use crate::domain::time::Timestamp;
use crate::engine::judge::event::{Action, Position, RolloutEvent};
use crate::engine::judge::io::Effect;
use crate::engine::judge::model_judge::ModelJudge;
use crate::engine::judge::partial_set::PartialSet;
use crate::engine::judge::report::RolloutMetrics;
use crate::engine::partial::Partial;
use crate::inference::format;
use crate::inference::interim;
use crate::inference::verdict::{Verdict, Wait};

impl ModelJudge {
    /// Returns whether a partial is the newest of its lane on a finished rollout whose decision can still be contested.
    pub(crate) fn is_of_the_past(&self, partial: &Partial) -> bool {
        let name = &partial.rollout;
        self.state.uncontested(name).is_some()
            && !self.state.is_running(name)
            && self.past.get(name).is_none_or(|set| set.is_news(partial))
    }

    /// Keeps a partial of a past rollout.
    pub(crate) fn keep_past(&mut self, partial: Partial) {
        self.past.entry(partial.rollout.clone()).or_default().insert(partial);
        self.past.retain(|name, _| self.state.uncontested(name).is_some());
    }

    /// Repeats the tests of a decision with the newest labels, and reports once if one of them no longer supports it.
    pub(crate) fn reconsider(&mut self, now: Timestamp, name: &RolloutName, out: &mut Vec<Effect>) {
        let Some(decision) = self.state.uncontested(name) else { return };
        let is_running = self.state.is_running(name);
        let none = PartialSet::default();
        let partials =
            if is_running { &self.partials } else { self.past.get(name).unwrap_or(&none) };
        let sums = partials.sums();
        let labels = sums.amended.labels;
        if labels == 0 {
            return;
        }
        let Some(amended) = sums.as_amended() else { return };
        let tick = partials.newest_tick().unwrap_or(now);
        let Some((support, log_e)) = decision.fallen(&sums, &amended, tick) else { return };
        let (found, wanted) = format::apart(log_e, support.bar);
        let reason = format!(
            "{} of {}: log e {:.2} when it was decided, {found} with {labels} labels that came or changed after maturity, \
             and {wanted} is wanted; nothing changes by itself",
            support.metric, support.candidate, support.log_e
        );
        let phase = if is_running { self.state.position.phase } else { decision.phase };
        let position = Position { phase, routing: self.state.position.routing.clone() };
        let live = decision.live();
        let analysis = interim::analyze(&decision.input(&amended, &live, tick, &self.bets));
        let hold = Verdict::Hold { wait: Wait::Approval, reason: reason.clone() };
        let mut report = RolloutMetrics::of(analysis, position.routing.revision, &hold);
        report.verdict = Action::Contested.word();
        let event = RolloutEvent {
            model: self.settings.model.clone(),
            rollout: Some(name.clone()),
            sequence: self.state.sequence + 1,
            at: now,
            actor: "judge".to_owned(),
            command_id: None,
            action: Action::Contested,
            reason,
            from: Some(position.clone()),
            to: position,
            evidence: Some(Box::new(report)),
            positions: self.positions_of(partials),
            document: None,
            design: None,
        };
        let its = self.state.decisions.iter_mut().filter(|d| d.rollout.plan.name == *name);
        its.for_each(|decision| decision.is_contested = true);
        self.past.remove(name);
        self.publish(event, out);
    }
}
