//! The commands that return to an earlier state: roll a model back, and try a rollout again.

use serde_json::Value;

use crate::domain::ids::{RolloutName, Version};
use crate::domain::time::Timestamp;
use crate::engine::judge::command::{Command, Written};
use crate::engine::judge::event::{Action, Phase};
use crate::engine::judge::io::Effect;
use crate::engine::judge::model_judge::ModelJudge;
use crate::engine::judge::state::RolloutState;
use crate::plan::rollout::RolloutPlan;

impl ModelJudge {
    /// Routes everything to an earlier stable version, and aborts the running rollout in the same event.
    pub(crate) fn rollback(&mut self, now: Timestamp, command: &Command, out: &mut Vec<Effect>) {
        if let Some(reason) = self.rollback_refusal(command) {
            return self.refuse(now, command, reason, out);
        }
        let before = self.state.stable_before.last().cloned();
        let Some(target) = command.to.clone().or(before) else { return };
        let grounds = self.grounds(command);
        let phase = if self.state.running().is_some() {
            Phase::Aborted
        } else {
            self.state.rollout = None;
            Phase::Idle
        };
        let reason = format!("{}; back to {target}", command.reason);
        let to = self.close_rollout(phase, target);
        self.change(now, Action::Rollback, reason, to, grounds, out);
        // Nothing begins by itself after a rollback.
        for queued in std::mem::take(&mut self.state.queue) {
            let name = queued.written.plan.name;
            let waiting = self.apply_command(name, &queued.command_id, &queued.by);
            self.refuse(now, &waiting, "the model was rolled back".to_owned(), out);
        }
    }

    fn rollback_refusal(&self, command: &Command) -> Option<String> {
        let stable = &self.state.position.routing.stable;
        let before = &self.state.stable_before;
        if command.reason.is_empty() {
            return Some("rollback needs a reason".to_owned());
        }
        let Some(target) = &command.to else {
            return before.is_empty().then(|| {
                format!("no version was stable before {stable}: abort the rollout instead")
            });
        };
        if target == stable {
            let is_idle = self.state.running().is_none();
            return is_idle.then(|| format!("{target} serves everything already"));
        }
        (!before.contains(target)).then(|| {
            let known: Vec<&str> = before.iter().chain([stable]).map(Version::as_str).collect();
            format!("{target} was never the stable version, only {}", known.join(", "))
        })
    }

    /// Begins an aborted or inconclusive rollout again from its spec, as a new run without evidence.
    pub(crate) fn retry(&mut self, now: Timestamp, command: &Command, out: &mut Vec<Effect>) {
        if let Some(reason) = self.retry_refusal(command) {
            return self.refuse(now, command, reason, out);
        }
        let Some(written) = self.next_run() else { return };
        match self.unfit(&written) {
            None => self.begin(now, command, Action::Retry, written, out),
            Some(reason) => self.refuse(now, command, reason, out),
        }
    }

    fn retry_refusal(&self, command: &Command) -> Option<String> {
        let Some(last) = self.state.rollout.as_ref().map(RolloutState::name) else {
            return Some("there is no rollout of this model".to_owned());
        };
        let other = command.rollout.as_ref().filter(|asked| !last.is_meant_by(asked));
        let phase = self.state.position.phase;
        match (other, phase) {
            (Some(_), _) => Some(format!(
                "only the last rollout of a model can be tried again, which is `{last}`"
            )),
            (None, Phase::Aborted | Phase::Inconclusive) => None,
            (None, Phase::Progressing | Phase::Paused | Phase::Concluded) => {
                Some(format!("`{last}` is in progress"))
            }
            (None, Phase::Idle | Phase::Pending | Phase::Promoted) => {
                Some(format!("`{last}` is over ({})", phase.word()))
            }
        }
    }

    /// Returns the last rollout as its next run.
    fn next_run(&self) -> Option<Written<RolloutPlan>> {
        let last = self.state.rollout.as_ref()?;
        let (name, run) = last.name().parts();
        let mut written = last.written.clone();
        if let Some(Value::Object(metadata)) = written.document.get_mut("metadata") {
            metadata.insert("run".to_owned(), (run + 1).into());
        }
        written.plan.name = RolloutName::of_run(name, run + 1);
        Some(written)
    }
}
