//! The judge of one model: merges the sums of its lanes at event-time ticks, decides, and answers commands.
//!
//! Its output is a function of the commands, partials and clock readings that it was given, in their order, and of nothing else.

use crate::domain::ids::{Revision, RolloutName, Salt, StageIndex, Version};
use crate::domain::routing::{OnFailure, Routing};
use crate::domain::time::{Span, Timestamp};
use crate::engine::counter::Counter;
use crate::engine::judge::command::{Command, Parsed, Verb, Written};
use crate::engine::judge::event::{Action, Phase, Position, RolloutEvent};
use crate::engine::judge::io::{Effect, Event, Settings};
use crate::engine::judge::model_change::wrong_model;
use crate::engine::judge::model_judge::ModelJudge;
use crate::engine::judge::state::ModelState;
use crate::engine::partial::Partial;
use crate::plan::rollout::ModelPlan;

/// The judge of one model.
#[derive(Debug)]
pub enum Judge {
    /// Its model was not applied yet.
    WithoutModel(UnappliedJudge),
    /// Its model was applied.
    OfModel(Box<ModelJudge>),
}

impl Judge {
    /// Returns a judge whose model was not applied yet.
    pub fn new(settings: Settings) -> Self {
        Self::WithoutModel(UnappliedJudge { settings, sequence: 0, opened_at: Timestamp::MIN })
    }

    /// Returns a judge with the newest recorded state. The partials that were judged before follow by `recall`.
    pub fn restore(settings: Settings, state: ModelState) -> Self {
        Self::OfModel(Box::new(ModelJudge::new(settings, state, Timestamp::MIN)))
    }

    /// Starts, for the first time or after a restart: the time without a record counts from here.
    pub fn open(&mut self, now: Timestamp) {
        match self {
            Self::WithoutModel(judge) => judge.opened_at = now,
            Self::OfModel(judge) => judge.reported_at = now,
        }
    }

    /// Returns whether the partials of a rollout are used: those of the running one, and those that labels can still contest.
    pub fn uses_partials_of(&self, rollout: &RolloutName) -> bool {
        self.of_model().is_some_and(|j| j.uses_partials_of(rollout))
    }

    /// Resumes after the newest tick that was judged before a restart, once its inputs are restored.
    pub fn has_judged(&mut self, tick: Option<Timestamp>) {
        if let Self::OfModel(judge) = self {
            judge.has_judged(tick);
        }
    }

    /// Restores one of all partials that were judged before a restart, in their order. Decides nothing.
    pub fn recall_in_order(&mut self, partial: Partial) {
        if let Self::OfModel(judge) = self {
            judge.recall(partial);
            judge.has_judged(judge.partials.complete_tick());
        }
    }

    /// Restores the newest partial of a lane that was judged before a restart. Decides nothing.
    pub fn recall(&mut self, partial: Partial) {
        if let Self::OfModel(judge) = self {
            judge.recall(partial);
        }
    }

    /// Handles one event and appends its effects.
    pub fn handle(&mut self, now: Timestamp, event: Event, out: &mut Vec<Effect>) {
        match (&mut *self, event) {
            (Self::OfModel(judge), Event::Command(command)) => judge.command(now, *command, out),
            (Self::OfModel(judge), Event::Partial(partial)) => judge.partial(now, *partial, out),
            (Self::WithoutModel(judge), Event::Command(command)) => {
                if let Some(applied) = judge.command(now, *command, out) {
                    *self = Self::OfModel(Box::new(applied));
                }
            }
            (Self::WithoutModel(_), Event::Partial(_)) => {
                out.push(Effect::Count(Counter::PartialStale, 1));
            }
        }
    }

    /// Handles every deadline that `now` has reached; reports missing evidence.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if let Self::OfModel(judge) = self {
            judge.tick(now, out);
        }
    }

    /// Returns when `tick` is next needed, if ever.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.of_model()?.next_wake()
    }

    /// Returns the state of the model, once it was applied.
    pub fn state(&self) -> Option<&ModelState> {
        Some(&self.of_model()?.state)
    }

    /// Returns the newest judged tick of the running rollout.
    pub fn newest_tick(&self) -> Option<Timestamp> {
        self.of_model()?.newest_tick()
    }

    fn of_model(&self) -> Option<&ModelJudge> {
        match self {
            Self::WithoutModel(_) => None,
            Self::OfModel(judge) => Some(judge),
        }
    }
}

/// The judge of a model that was not applied yet: it refuses every command except to apply the model.
#[derive(Debug)]
pub struct UnappliedJudge {
    settings: Settings,
    sequence: u64,
    opened_at: Timestamp,
}

impl UnappliedJudge {
    /// Executes or refuses a command; returns the judge of the model if that was applied.
    fn command(
        &mut self,
        now: Timestamp,
        mut command: Command,
        out: &mut Vec<Effect>,
    ) -> Option<ModelJudge> {
        if command.model != self.settings.model {
            return None;
        }
        let revision = Revision(0);
        if let Some(reason) = command.wrong_revision(revision) {
            self.refuse(now, &command, reason, out);
            return None;
        }
        let spec = command.spec.take();
        let reason = match spec {
            _ if command.verb != Verb::Apply => "there is no rollout of this model".to_owned(),
            Some(Parsed::Model(written)) if written.plan.name == self.settings.model => {
                return Some(self.apply(now, &command, *written, out));
            }
            Some(Parsed::Model(written)) => wrong_model(&written.plan),
            Some(Parsed::Rollout(written)) => {
                format!("there is no model `{}` yet: apply it first", written.plan.model)
            }
            Some(Parsed::Invalid(reason)) => reason,
            None => "there is no spec to apply".to_owned(),
        };
        self.refuse(now, &command, reason, out);
        None
    }

    fn apply(
        &self,
        now: Timestamp,
        command: &Command,
        written: Written<ModelPlan>,
        out: &mut Vec<Effect>,
    ) -> ModelJudge {
        let document = written.document.clone();
        let routing = written.plan.at_rest(written.plan.stable.clone(), Revision(1));
        let position = Position { phase: Phase::Idle, routing };
        let reason = format!("{} serves everything", position.routing.stable);
        let state = ModelState {
            sequence: self.sequence,
            ..ModelState::first(now, written, position.clone(), command)
        };
        let mut judge = ModelJudge::new(self.settings.clone(), state, self.opened_at);
        let answer = judge.answer(now, command, Action::Apply, position, reason);
        let event = RolloutEvent { rollout: None, from: None, document: Some(document), ..answer };
        judge.publish_applied(event, out);
        judge
    }

    fn refuse(&mut self, now: Timestamp, command: &Command, reason: String, out: &mut Vec<Effect>) {
        let position = nowhere(command);
        self.sequence += 1;
        let event =
            RolloutEvent::answer(command, self.sequence, now, Action::Conflict, position, reason);
        out.push(Effect::Count(Counter::CommandRefused, 1));
        out.push(Effect::Count(Counter::Changes, 1));
        out.push(Effect::Event(Box::new(event)));
    }
}

/// Returns the position of a model that was never applied.
fn nowhere(command: &Command) -> Position {
    let routing = Routing {
        model: command.model.clone(),
        revision: Revision(0),
        rollout: None,
        stage: StageIndex(0),
        stable: Version::new(""),
        salt: Salt::new(""),
        slices: Vec::new(),
        shadows: Vec::new(),
        timeout: Span::ZERO,
        shadow_timeout: Span::ZERO,
        on_failure: OnFailure::Error,
        default: None,
    };
    Position { phase: Phase::Idle, routing }
}
