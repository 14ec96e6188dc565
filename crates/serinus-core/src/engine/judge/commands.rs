//! The other commands of operators: pause, resume, promote, abort; and refusals.

use crate::decision::gates;
use crate::domain::time::Timestamp;
use crate::engine::counter::Counter;
use crate::engine::judge::command::{Command, Verb, unsupported};
use crate::engine::judge::event::{Action, Phase, Position, RolloutEvent};
use crate::engine::judge::io::Effect;
use crate::engine::judge::model_judge::ModelJudge;
use crate::inference::verdict::{Verdict, Wait};

/// How many ids of commands are kept, so that a command that is delivered twice is executed once.
const COMMANDS_MAX: usize = 64;

impl ModelJudge {
    /// Executes or refuses a command. Either way one event answers it.
    pub(crate) fn command(&mut self, now: Timestamp, command: Command, out: &mut Vec<Effect>) {
        if command.model != self.settings.model {
            return;
        }
        let state = &mut self.state;
        if state.commands.contains(&command.id) {
            out.push(Effect::Count(Counter::CommandDuplicate, 1));
            return;
        }
        state.commands.push(command.id.clone());
        if state.commands.len() > COMMANDS_MAX {
            state.commands.remove(0);
        }
        if let Some(reason) = command.wrong_revision(state.position.routing.revision) {
            return self.refuse(now, &command, reason, out);
        }
        match command.verb {
            Verb::Apply => self.apply(now, command, out),
            Verb::Pause | Verb::Resume | Verb::Promote | Verb::PromoteFull | Verb::Abort => {
                self.steer(now, &command, out);
            }
            Verb::Retry | Verb::Rollback | Verb::Extend => {
                let reason = unsupported(command.verb).unwrap_or_default().to_owned();
                self.refuse(now, &command, reason, out);
            }
        }
    }

    fn steer(&mut self, now: Timestamp, command: &Command, out: &mut Vec<Effect>) {
        let current = self.state.rollout.as_ref().map(|r| r.name().clone());
        if current.is_none() || (command.rollout.is_some() && command.rollout != current) {
            let reason = match (&command.rollout, current) {
                (Some(asked), Some(current)) => {
                    format!("the rollout of this model is `{current}`, not `{asked}`")
                }
                (_, _) => "there is no rollout of this model".to_owned(),
            };
            return self.unqueue_or_refuse(now, command, reason, out);
        }
        let phase = self.state.position.phase;
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
        let grounds = self.grounds(command);
        match (command.verb, phase) {
            (Verb::Pause, Phase::Progressing) => {
                self.enter_phase(now, Phase::Paused, Action::Pause, reason, grounds, out);
            }
            (Verb::Resume, Phase::Paused) => {
                self.enter_phase(now, Phase::Progressing, Action::Resume, reason, grounds, out);
            }
            (Verb::Promote, _) => self.promote_stage(now, reason, command, out),
            (Verb::PromoteFull, _) => self.promote_by_command(now, reason, command, out),
            (Verb::Abort, _) => {
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

    /// Enters the next stage, or promotes after the last.
    fn promote_stage(
        &mut self,
        now: Timestamp,
        reason: String,
        command: &Command,
        out: &mut Vec<Effect>,
    ) {
        let stages = self.state.rollout.as_ref().map_or(0, |r| r.plan().stages.len());
        let stage = self.state.position.routing.stage;
        let is_concluded = self.state.position.phase == Phase::Concluded;
        if is_concluded || stage.0 as usize + 1 >= stages {
            return self.promote_by_command(now, reason, command, out);
        }
        let grounds = self.grounds(command);
        self.enter_next_stage(now, self.newest_tick(), reason, grounds, out);
    }

    /// Promotes the winner, or the candidate that is ahead.
    fn promote_by_command(
        &mut self,
        now: Timestamp,
        reason: String,
        command: &Command,
        out: &mut Vec<Effect>,
    ) {
        let winner = self.state.rollout.as_ref().and_then(|r| r.winner.clone());
        let winner = winner.or_else(|| self.with_analysis(now, gates::favourite));
        if let Some(winner) = winner {
            let grounds = self.grounds(command);
            self.promote(now, winner, reason, grounds, out);
        } else {
            let reason = "no evidence says which of the candidates to promote".to_owned();
            self.refuse(now, command, reason, out);
        }
    }

    /// Takes a rollout out of the queue; refuses every other command about a rollout that is not the current one.
    fn unqueue_or_refuse(
        &mut self,
        now: Timestamp,
        command: &Command,
        reason: String,
        out: &mut Vec<Effect>,
    ) {
        let mut queue = self.state.queue.iter();
        let queued = queue.position(|q| Some(&q.written.plan.name) == command.rollout.as_ref());
        match (queued, command.verb) {
            (Some(index), Verb::Abort) => {
                self.state.queue.remove(index);
                let to = Position { phase: Phase::Aborted, ..self.state.position.clone() };
                let reason = "taken out of the queue".to_owned();
                let event = self.answer(now, command, Action::Abort, to, reason);
                self.publish(event, out);
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
        let to = self.state.position.clone();
        let event = self.answer(now, command, Action::Conflict, to, reason);
        self.publish(event, out);
    }

    /// Returns the event that answers a command.
    pub(crate) fn answer(
        &self,
        now: Timestamp,
        command: &Command,
        action: Action,
        to: Position,
        reason: String,
    ) -> RolloutEvent {
        let from = Some(self.state.position.clone());
        let sequence = self.state.sequence + 1;
        let positions = self.positions();
        let answer = RolloutEvent::answer(command, sequence, now, action, to, reason);
        RolloutEvent { from, positions, ..answer }
    }

    /// Publishes an event, and the state with its number.
    pub(crate) fn publish(&mut self, event: RolloutEvent, out: &mut Vec<Effect>) {
        out.push(Effect::Count(Counter::Changes, 1));
        self.state.sequence = event.sequence;
        out.push(Effect::Event(Box::new(event)));
        out.push(Effect::State(Box::new(self.state.clone())));
    }
}
