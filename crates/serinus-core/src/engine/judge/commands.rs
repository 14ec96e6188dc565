//! The commands to a running rollout: pause, resume, approve, extend, promote, abort; and refusals.

use serde_json::Value;

use crate::decision::gates::{self, GateState};
use crate::domain::ids::RolloutName;
use crate::domain::time::{Span, Timestamp};
use crate::engine::counter::Counter;
use crate::engine::judge::command::{Command, Verb, Written};
use crate::engine::judge::event::{Action, Grounds, Phase, Position, RolloutEvent};
use crate::engine::judge::io::Effect;
use crate::engine::judge::model_judge::ModelJudge;
use crate::inference::format::clock;
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
            Verb::Pause
            | Verb::Resume
            | Verb::Approve
            | Verb::Promote
            | Verb::PromoteFull
            | Verb::Abort
            | Verb::Extend => {
                self.steer(now, &command, out);
            }
            Verb::Retry => self.retry(now, &command, out),
            Verb::Rollback => self.rollback(now, &command, out),
        }
    }

    fn steer(&mut self, now: Timestamp, command: &Command, out: &mut Vec<Effect>) {
        let current = self.state.rollout.as_ref().map(|r| r.name().clone());
        let is_meant = |name: &RolloutName| {
            command.rollout.as_ref().is_none_or(|asked| name.is_meant_by(asked))
        };
        if !current.as_ref().is_some_and(is_meant) {
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
        if let Some(reason) = self.steer_refusal(now, command) {
            return self.refuse(now, command, reason, out);
        }
        let reason = command.reason_or_sender();
        let verdict = Verdict::Hold { wait: Wait::Approval, reason: reason.clone() };
        let gates = self.report(now, &verdict, out);
        let grounds = Grounds { gates, ..self.grounds(command) };
        match (command.verb, phase) {
            (Verb::Pause, Phase::Progressing) => {
                self.enter_phase(now, Phase::Paused, Action::Pause, reason, grounds, out);
            }
            (Verb::Resume, Phase::Paused) => {
                self.enter_phase(now, Phase::Progressing, Action::Resume, reason, grounds, out);
            }
            (Verb::Approve, _) => self.approve(now, reason, grounds, out),
            (Verb::Extend, _) => self.extend(now, command, grounds.gates, out),
            (Verb::Promote, _) => self.promote_stage(now, command, grounds, out),
            (Verb::PromoteFull, _) => self.promote_by_command(now, command, grounds, out),
            (Verb::Abort, _) => {
                self.finish(now, Phase::Aborted, Action::Abort, reason, grounds, out);
            }
            (Verb::Pause | Verb::Resume | Verb::Apply | Verb::Retry | Verb::Rollback, _) => {
                let reason = format!("nothing to {}: it is {}", command.verb.word(), phase.word());
                self.refuse(now, command, reason, out);
            }
        }
    }

    /// Returns why a command to a running rollout is refused for another reason than its phase.
    fn steer_refusal(&self, now: Timestamp, command: &Command) -> Option<String> {
        let rollout = self.state.running()?;
        let stage = self.state.position.routing.stage;
        let name = rollout.name();
        match command.verb {
            Verb::Promote | Verb::PromoteFull if command.reason.is_empty() => {
                Some("promote skips gates: give the reason".to_owned())
            }
            Verb::Approve => {
                let is_wanted = rollout.plan().stage(stage).is_some_and(|s| s.approve);
                let number = stage.0 + 1;
                if !is_wanted {
                    return Some(format!("stage {number} needs no approval"));
                }
                (rollout.approved == Some(stage))
                    .then(|| format!("stage {number} is approved already"))
            }
            Verb::Resume if self.state.position.phase == Phase::Paused => {
                let (at, by) = self.with_analysis(now, |a| Some((a.tick, gates::deadline(a))))?;
                (at >= by).then(|| {
                    format!("the time of `{name}` was over at {}: extend it first", clock(by, at))
                })
            }
            Verb::Extend if command.extend_by.is_none() => {
                Some("extend needs the time to add".to_owned())
            }
            Verb::Extend if rollout.plan().decide.by.is_none() => {
                Some(format!("`{name}` has no `decide.by` that could be extended"))
            }
            Verb::Apply
            | Verb::Pause
            | Verb::Resume
            | Verb::Promote
            | Verb::PromoteFull
            | Verb::Abort
            | Verb::Retry
            | Verb::Rollback
            | Verb::Extend => None,
        }
    }

    /// Records the consent of a person to leave the current stage, once its other gates are passed.
    fn approve(&mut self, now: Timestamp, reason: String, grounds: Grounds, out: &mut Vec<Effect>) {
        let stage = self.state.position.routing.stage;
        if let Some(rollout) = &mut self.state.rollout {
            rollout.approved = Some(stage);
        }
        let phase = self.state.position.phase;
        self.enter_phase(now, phase, Action::Approve, reason, grounds, out);
    }

    /// Adds time to `decide.by`, in the document too.
    fn extend(
        &mut self,
        now: Timestamp,
        command: &Command,
        gates: Vec<GateState>,
        out: &mut Vec<Effect>,
    ) {
        let Some(more) = command.extend_by else { return };
        let Some(rollout) = &mut self.state.rollout else { return };
        let Written { plan, document } = &mut rollout.written;
        let by = plan.decide.by.unwrap_or(Span::ZERO) + more;
        plan.decide.by = Some(by);
        if let Some(Value::Object(decide)) = document.pointer_mut("/spec/decide") {
            decide.insert("by".to_owned(), by.to_string().into());
        }
        let sentence = format!("{more} more: by {by} after its first case");
        let reason = match command.reason.as_str() {
            "" => sentence,
            reason => format!("{reason}; {sentence}"),
        };
        let (document, design) = (Some(document.clone()), Some(rollout.design.clone()));
        let mut to = self.state.position.clone();
        to.routing.revision = self.next_revision();
        let answer = self.answer(now, command, Action::Extend, to.clone(), reason);
        self.state.position = to;
        // The document goes with the event, so that a state that is lost can be rebuilt.
        self.publish_applied(RolloutEvent { document, design, gates, ..answer }, out);
    }

    /// Enters the next stage, or promotes after the last.
    fn promote_stage(
        &mut self,
        now: Timestamp,
        command: &Command,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let stages = self.state.rollout.as_ref().map_or(0, |r| r.plan().stages.len());
        let stage = self.state.position.routing.stage;
        let is_concluded = self.state.position.phase == Phase::Concluded;
        if is_concluded || stage.0 as usize + 1 >= stages {
            return self.promote_by_command(now, command, grounds, out);
        }
        self.enter_next_stage(now, self.newest_tick(), command.reason_or_sender(), grounds, out);
    }

    /// Promotes the winner, or the candidate that is ahead.
    fn promote_by_command(
        &mut self,
        now: Timestamp,
        command: &Command,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let winner = self.state.rollout.as_ref().and_then(|r| r.winner.clone());
        let winner = winner.or_else(|| self.with_analysis(now, gates::favourite));
        if let Some(winner) = winner {
            self.promote(now, winner, command.reason_or_sender(), grounds, out);
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
