//! The transitions of a model: to the next stage, without a candidate, to a promotion, to the end of a rollout.

use crate::domain::ids::{Revision, StageIndex, Version};
use crate::domain::routing::Routing;
use crate::domain::time::Timestamp;
use crate::engine::counter::Counter;
use crate::engine::judge::command::Command;
use crate::engine::judge::decision;
use crate::engine::judge::event::{Action, Grounds, Phase, Position, RolloutEvent};
use crate::engine::judge::io::Effect;
use crate::engine::judge::model_judge::ModelJudge;
use crate::engine::judge::state::remember;
use crate::inference::planning;

impl ModelJudge {
    /// Returns the grounds of a change that a command makes.
    pub(crate) fn grounds(&self, command: &Command) -> Grounds {
        Grounds {
            actor: command.by.clone(),
            command_id: Some(command.id.clone()),
            evidence: None,
            positions: self.positions(),
            gates: Vec::new(),
        }
    }

    /// Enters the next stage, with bets planned from the evidence of earlier stages.
    pub(crate) fn enter_next_stage(
        &mut self,
        now: Timestamp,
        tick: Option<Timestamp>,
        reason: String,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let evidence = self.partials.evidence();
        let routing = &self.state.position.routing;
        let Some(rollout) = &mut self.state.rollout else { return };
        let next = StageIndex(routing.stage.0 + 1);
        let (design, plan) = (&mut rollout.design, &rollout.written.plan);
        planning::plan_stage(design, plan, next, &routing.stable, &evidence);
        rollout.entered_at = tick;
        let routing = self.next_routing(next);
        let to = Position { phase: Phase::Progressing, routing };
        self.change(now, Action::Advance, reason, to, grounds, out);
    }

    /// Changes the phase, and with a command the revision: a command that expects the one before is then refused.
    pub(crate) fn enter_phase(
        &mut self,
        now: Timestamp,
        phase: Phase,
        action: Action,
        reason: String,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let mut to = Position { phase, ..self.state.position.clone() };
        if grounds.command_id.is_some() {
            to.routing.revision = self.next_revision();
        }
        self.change(now, action, reason, to, grounds, out);
    }

    pub(crate) fn drop_candidate(
        &mut self,
        now: Timestamp,
        candidate: Version,
        reason: String,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let revision = self.next_revision();
        let Some(rollout) = &mut self.state.rollout else { return };
        rollout.winner.take_if(|winner| *winner == candidate);
        rollout.design.drops.push((revision, candidate));
        let routing = self.next_routing(self.state.position.routing.stage);
        let to = Position { phase: self.state.position.phase, routing };
        self.change(now, Action::Abort, reason, to, grounds, out);
    }

    pub(crate) fn set_winner(&mut self, winner: Version) {
        if let Some(rollout) = &mut self.state.rollout {
            rollout.winner = Some(winner);
        }
    }

    /// Makes the winner the stable version.
    pub(crate) fn promote(
        &mut self,
        now: Timestamp,
        winner: Version,
        reason: String,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        self.set_winner(winner);
        self.finish(now, Phase::Promoted, Action::Promote, reason, grounds, out);
    }

    /// Ends the rollout: routes everything to the stable version, and begins the next rollout of the queue.
    pub(crate) fn finish(
        &mut self,
        now: Timestamp,
        phase: Phase,
        action: Action,
        reason: String,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let winner = self.state.rollout.as_ref().and_then(|r| r.winner.clone());
        let stable = match (winner, phase) {
            (Some(winner), Phase::Promoted) => winner,
            (_, _) => self.state.position.routing.stable.clone(),
        };
        let to = self.close_rollout(phase, stable);
        self.change(now, action, reason, to, grounds, out);
        self.begin_next(now, out);
    }

    /// Ends what belongs to the rollout; returns the position in which a version serves everything.
    pub(crate) fn close_rollout(&mut self, phase: Phase, stable: Version) -> Position {
        let revision = self.next_revision();
        self.state.replace_stable(&stable);
        let state = &mut self.state;
        let rest = state.model.plan.at_rest(stable, revision);
        let routing = Routing { stage: state.position.routing.stage, ..rest };
        if let Some(rollout) = &mut state.rollout {
            remember(&mut state.past, &rollout.written, phase);
            rollout.end();
            let name = rollout.name().clone();
            decision::settle(&mut state.decisions, &name, phase);
            let partials = std::mem::take(&mut self.partials);
            if state.decisions.iter().any(|d| d.rollout.plan.name == name) {
                self.past.insert(name, partials);
            }
        }
        state.conditions = Vec::new();
        Position { phase, routing }
    }

    /// Publishes a change and the new state.
    pub(crate) fn change(
        &mut self,
        now: Timestamp,
        action: Action,
        reason: String,
        to: Position,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let state = &mut self.state;
        let before = std::mem::replace(&mut state.position, to.clone());
        state.sequence += 1;
        if before.phase != to.phase || before.routing.stage != to.routing.stage {
            state.since = now;
        }
        state.by.clone_from(&grounds.actor);
        state.reason.clone_from(&reason);
        let is_new_design = before.routing.revision != to.routing.revision && to.phase.is_open();
        let rollout = state.rollout.as_ref();
        out.push(Effect::Event(Box::new(RolloutEvent {
            model: self.settings.model.clone(),
            rollout: rollout.map(|r| r.name().clone()),
            sequence: state.sequence,
            at: now,
            actor: grounds.actor,
            command_id: grounds.command_id,
            action,
            reason,
            from: Some(before),
            to,
            evidence: grounds.evidence,
            positions: grounds.positions,
            document: None,
            gates: grounds.gates,
            design: rollout.filter(|_| is_new_design).map(|r| r.design.clone()),
        })));
        out.push(Effect::State(Box::new(state.clone())));
        out.push(Effect::Count(Counter::Changes, 1));
    }

    /// Returns the revision after the current one.
    pub(crate) fn next_revision(&self) -> Revision {
        Revision(self.state.position.routing.revision.0 + 1)
    }

    /// Returns the routing of a stage of the rollout at the next revision.
    fn next_routing(&self, stage: StageIndex) -> Routing {
        let revision = self.next_revision();
        match &self.state.rollout {
            Some(rollout) => self.state.route(rollout, stage, revision),
            None => Routing { revision, ..self.state.position.routing.clone() },
        }
    }
}
