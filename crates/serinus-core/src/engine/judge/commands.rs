//! Executes or refuses operator commands: pause, resume, promote, abort.

use crate::decision::gates;
use crate::domain::ids::{ModelName, Revision, RolloutName, Salt, StageIndex, Version};
use crate::domain::routing::{OnFailure, Routing};
use crate::domain::time::{Span, Timestamp};
use crate::engine::counter::Counter;
use crate::engine::judge::command::{Command, Verb};
use crate::engine::judge::event::{Action, Phase, Position, RolloutEvent};
use crate::engine::judge::io::Effect;
use crate::engine::judge::judge::{Grounds, Judge};
use crate::engine::judge::state::live;
use crate::inference::input::AnalysisInput;
use crate::inference::interim;
use crate::inference::verdict::{Verdict, Wait};

/// Number of remembered command ids, so that a command delivered twice runs once.
const COMMANDS_MAX: usize = 64;

impl Judge {
    /// Executes a command, or refuses it with a reason; in both cases an event answers the command.
    pub(crate) fn command(&mut self, now: Timestamp, command: Command, out: &mut Vec<Effect>) {
        if command.model != self.settings.model {
            return;
        }
        if self.standing.as_ref().is_some_and(|s| s.commands.contains(&command.id)) {
            out.push(Effect::Count(Counter::CommandDuplicate, 1));
            return;
        }
        if let Some(standing) = &mut self.standing {
            standing.commands.push(command.id.clone());
            if standing.commands.len() > COMMANDS_MAX {
                standing.commands.remove(0);
            }
        }
        let revision = self.standing.as_ref().map_or(Revision(0), |s| s.position.routing.revision);
        if let Some(expected) = command.expect_revision
            && expected != revision
        {
            let reason = format!("the revision is {revision}, not {expected}: look again");
            return self.refuse(now, &command, reason, out);
        }
        match command.verb {
            Verb::Apply => self.apply(now, command, out),
            Verb::Pause | Verb::Resume | Verb::Promote | Verb::PromoteFull | Verb::Abort => {
                self.steer(now, &command, out);
            }
            Verb::Retry => {
                let reason = "a rollout is not tried again: apply it under a new name".to_owned();
                self.refuse(now, &command, reason, out);
            }
            Verb::Rollback => {
                let reason =
                    "apply a rollout whose candidate is the version to go back to".to_owned();
                self.refuse(now, &command, reason, out);
            }
            Verb::Extend => {
                let reason = "the time of a running rollout is part of its spec and cannot change"
                    .to_owned();
                self.refuse(now, &command, reason, out);
            }
        }
    }

    fn steer(&mut self, now: Timestamp, command: &Command, out: &mut Vec<Effect>) {
        let current = self.plan().map(|p| p.name.clone());
        if current.is_none() || (command.rollout.is_some() && command.rollout != current) {
            let reason = match (&command.rollout, current) {
                (Some(asked), Some(current)) => {
                    format!("the rollout of this model is `{current}`, not `{asked}`")
                }
                (_, _) => "there is no rollout of this model".to_owned(),
            };
            return self.unqueue_or_refuse(now, command, reason, out);
        }
        let phase = self.phase();
        if !phase.is_open() {
            let reason = format!("the rollout is over ({})", phase.word());
            return self.refuse(now, command, reason, out);
        }
        let reason = if command.reason.is_empty() {
            format!("{} by {}", command.verb.word(), command.by)
        } else {
            command.reason.clone()
        };
        let verdict = Verdict::Hold { wait: Wait::Approval, reason: reason.clone() };
        self.report(now, &verdict, out);
        match (command.verb, phase) {
            (Verb::Pause, Phase::Progressing) => {
                self.move_to(now, Phase::Paused, Action::Pause, reason, command, out);
            }
            (Verb::Resume, Phase::Paused) => {
                self.move_to(now, Phase::Progressing, Action::Resume, reason, command, out);
            }
            (Verb::Promote, _) => self.step_on(now, reason, command, out),
            (Verb::PromoteFull, _) => self.promote_by_hand(now, reason, command, out),
            (Verb::Abort, _) => {
                let grounds = self.grounds(command);
                self.finish(now, Phase::Aborted, Action::Abort, reason, grounds, out);
            }
            (
                Verb::Pause
                | Verb::Resume
                | Verb::Apply
                | Verb::Retry
                | Verb::Rollback
                | Verb::Extend,
                _,
            ) => {
                let reason = format!("nothing to {}: it is {}", command.verb.word(), phase.word());
                self.refuse(now, command, reason, out);
            }
        }
    }

    fn move_to(
        &mut self,
        now: Timestamp,
        phase: Phase,
        deed: Action,
        reason: String,
        command: &Command,
        out: &mut Vec<Effect>,
    ) {
        let grounds = self.grounds(command);
        let to = Position { phase, ..self.position() };
        self.change(now, deed, reason, to, grounds, out);
    }

    fn step_on(
        &mut self,
        now: Timestamp,
        reason: String,
        command: &Command,
        out: &mut Vec<Effect>,
    ) {
        let stages = self.plan().map_or(0, |p| p.stages.len());
        let stage = self.position().routing.stage;
        if self.phase() == Phase::Concluded || stage.0 as usize + 1 >= stages {
            return self.promote_by_hand(now, reason, command, out);
        }
        let grounds = self.grounds(command);
        self.enter_next_stage(now, self.newest_tick(), reason, grounds, out);
    }

    fn promote_by_hand(
        &mut self,
        now: Timestamp,
        reason: String,
        command: &Command,
        out: &mut Vec<Effect>,
    ) {
        let concluded = self.standing.as_ref().and_then(|s| s.winner.clone());
        if let Some(winner) = concluded.or_else(|| self.favourite(now)) {
            let grounds = self.grounds(command);
            self.promote(now, winner, reason, grounds, out);
        } else {
            let reason = "no evidence says which of the candidates to promote".to_owned();
            self.refuse(now, command, reason, out);
        }
    }

    /// Returns the version that is ahead in the current evidence, for a promotion by hand.
    fn favourite(&self, now: Timestamp) -> Option<Version> {
        let standing = self.standing.as_ref()?;
        let rollout = standing.rollout.as_ref()?;
        let live = live(&rollout.plan, standing);
        let evidence = self.evidence();
        let look = interim::analyze(&AnalysisInput {
            plan: &rollout.plan,
            design: &standing.design,
            evidence: &evidence,
            stage: standing.position.routing.stage,
            stable: &standing.position.routing.stable,
            live: &live,
            tick: self.newest_tick().unwrap_or(now),
            entered_at: standing.entered_at,
            lag: 0,
            unplanned: 0,
            bets: self.bets(),
            detail: self.settings.detail,
        });
        gates::favourite(&look)
    }

    /// Removes a queued rollout from the queue; refuses every other command on a rollout that is not current.
    fn unqueue_or_refuse(
        &mut self,
        now: Timestamp,
        command: &Command,
        reason: String,
        out: &mut Vec<Effect>,
    ) {
        let Some(standing) = &mut self.standing else {
            return self.refuse(now, command, reason, out);
        };
        let queued = standing
            .queue
            .iter()
            .position(|q| Some(&q.written.plan.name) == command.rollout.as_ref());
        match (queued, command.verb) {
            (Some(index), Verb::Abort) => {
                let gone = standing.queue.remove(index);
                let from = standing.position.clone();
                let to = Position { phase: Phase::Aborted, ..from.clone() };
                let name = Some(gone.written.plan.name);
                let reason = "taken out of the queue".to_owned();
                let change = self.answer(now, command, Action::Abort, reason, name, Some(from), to);
                self.publish(change, out);
            }
            (_, _) => self.refuse(now, command, reason, out),
        }
    }

    pub(crate) fn refuse(
        &mut self,
        now: Timestamp,
        command: &Command,
        reason: String,
        out: &mut Vec<Effect>,
    ) {
        out.push(Effect::Count(Counter::CommandRefused, 1));
        let position = match &self.standing {
            Some(standing) => standing.position.clone(),
            None => nowhere(&self.settings.model),
        };
        let from = Some(position.clone());
        let name = command.rollout.clone();
        let change = self.answer(now, command, Action::Conflict, reason, name, from, position);
        self.publish(change, out);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of the one record that this makes"
    )]
    pub(crate) fn answer(
        &self,
        now: Timestamp,
        command: &Command,
        deed: Action,
        reason: String,
        rollout: Option<RolloutName>,
        from: Option<Position>,
        to: Position,
    ) -> RolloutEvent {
        RolloutEvent {
            model: self.settings.model.clone(),
            rollout,
            sequence: self.sequence + 1,
            at: now,
            actor: command.by.clone(),
            command_id: Some(command.id.clone()),
            deed,
            reason,
            from,
            to,
            evidence: None,
            positions: self.positions(),
            document: None,
            design: None,
        }
    }

    pub(crate) fn publish(&mut self, change: RolloutEvent, out: &mut Vec<Effect>) {
        out.push(Effect::Count(Counter::Changes, 1));
        self.sequence = change.sequence;
        out.push(Effect::Event(Box::new(change)));
        if let Some(standing) = &mut self.standing {
            standing.sequence = self.sequence;
            out.push(Effect::State(Box::new(standing.clone())));
        }
    }

    pub(crate) fn grounds(&self, command: &Command) -> Grounds {
        Grounds {
            actor: command.by.clone(),
            command_id: Some(command.id.clone()),
            evidence: None,
            positions: self.positions(),
        }
    }
}

/// The position of a model that was never applied.
fn nowhere(model: &ModelName) -> Position {
    let routing = Routing {
        model: model.clone(),
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
