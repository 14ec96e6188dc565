//! The `apply` of a model or a rollout: a rollout begins, waits, or replaces the running one.

use crate::domain::ids::{RolloutName, Salt, StageIndex, Version};
use crate::domain::routing::Routing;
use crate::domain::time::Timestamp;
use crate::engine::judge::command::{Command, Parsed, Verb, Written};
use crate::engine::judge::event::{Action, Grounds, Phase, Position, RolloutEvent};
use crate::engine::judge::io::Effect;
use crate::engine::judge::model_change::{self, wrong_model};
use crate::engine::judge::model_judge::ModelJudge;
use crate::engine::judge::partial_set::PartialSet;
use crate::engine::judge::state::{Queued, RolloutState};
use crate::inference::verdict::{Verdict, Wait};
use crate::plan::rollout::{ModelPlan, OnConflict, RolloutPlan};

impl ModelJudge {
    pub(crate) fn apply(&mut self, now: Timestamp, mut command: Command, out: &mut Vec<Effect>) {
        match command.spec.take() {
            Some(Parsed::Model(written)) => self.apply_model(now, &command, *written, out),
            Some(Parsed::Rollout(written)) => self.apply_rollout(now, &command, *written, out),
            Some(Parsed::Invalid(reason)) => self.refuse(now, &command, reason, out),
            None => self.refuse(now, &command, "there is no spec to apply".to_owned(), out),
        }
    }

    fn apply_model(
        &mut self,
        now: Timestamp,
        command: &Command,
        written: Written<ModelPlan>,
        out: &mut Vec<Effect>,
    ) {
        if written.plan.name != self.settings.model {
            return self.refuse(now, command, wrong_model(&written.plan), out);
        }
        let document = written.document.clone();
        let before = self.state.position.clone();
        let reason = if self.state.model.document == document {
            "nothing to do: the model is as applied before".to_owned()
        } else {
            let refusal = self.state.running().and_then(|rollout| {
                model_change::refusal(&self.state.model.plan, &written.plan, rollout.name())
            });
            if let Some(reason) = refusal {
                return self.refuse(now, command, reason, out);
            }
            self.replace_model(written)
        };
        let to = self.state.position.clone();
        let is_new_design = to != before && to.phase == Phase::Progressing;
        let rollout = self.state.rollout.as_ref().filter(|_| is_new_design);
        let event = RolloutEvent {
            rollout: None,
            from: Some(before),
            document: Some(document),
            design: rollout.map(|r| r.design.clone()),
            ..self.answer(now, command, Action::Apply, to, reason)
        };
        self.publish_applied(event, out);
    }

    /// Replaces the model and what its routing takes from it; returns the reason of the event.
    fn replace_model(&mut self, written: Written<ModelPlan>) -> String {
        let before = self.state.position.routing.clone();
        let stable = before.stable.clone();
        let reason = if written.plan.stable == stable {
            "the model changed".to_owned()
        } else {
            format!("the model changed; {stable} stays the stable version, as decided before")
        };
        let rest = written.plan.at_rest(stable, self.next_revision());
        self.state.model = written;
        self.state.position.routing = Routing {
            rollout: before.rollout,
            stage: before.stage,
            salt: before.salt,
            slices: before.slices,
            shadows: before.shadows,
            ..rest
        };
        reason
    }

    fn apply_rollout(
        &mut self,
        now: Timestamp,
        command: &Command,
        written: Written<RolloutPlan>,
        out: &mut Vec<Effect>,
    ) {
        let state = &self.state;
        let name = written.plan.name.clone();
        if let Some(reason) = self.unfit(&written) {
            return self.refuse(now, command, reason, out);
        }
        let current = state.rollout.iter().map(|r| &r.written);
        let known =
            current.chain(state.queue.iter().map(|q| &q.written)).find(|w| w.plan.name == name);
        if let Some(known) = known {
            let reason = format!(
                "`{name}` was applied before with another spec; a changed plan needs a new name, \
                 so that no evidence is read under two plans"
            );
            if known.document != written.document {
                return self.refuse(now, command, reason, out);
            }
            let reason = "nothing to do: the rollout is as applied before".to_owned();
            return self.applied(now, command, &written, reason, out);
        }
        if let Some(past) = state.past.iter().find(|p| p.rollout == name) {
            let reason = format!("`{name}` is over ({}): use a new name", past.phase.word());
            return self.refuse(now, command, reason, out);
        }
        let Some(running) = state.running().map(|r| r.name().clone()) else {
            return self.begin(now, command, Action::Apply, written, out);
        };
        match written.plan.on_conflict {
            OnConflict::Refuse => {
                let reason = format!("`{running}` is in progress");
                self.refuse(now, command, reason, out);
            }
            OnConflict::Replace => {
                let reason = format!("replaced by `{name}`");
                self.state.queue.insert(0, queued(written, command));
                let grounds = Grounds { command_id: None, ..self.grounds(command) };
                self.finish(now, Phase::Aborted, Action::Abort, reason, grounds, out);
            }
            OnConflict::Queue => {
                self.state.queue.push(queued(written.clone(), command));
                let reason = format!("waits for the end of `{running}`");
                self.applied(now, command, &written, reason, out);
            }
        }
    }

    /// Begins a rollout at its first stage.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        command: &Command,
        action: Action,
        written: Written<RolloutPlan>,
        out: &mut Vec<Effect>,
    ) {
        self.partials = PartialSet::default();
        let name = written.plan.name.clone();
        let document = written.document.clone();
        let rollout = RolloutState::begin(written, now);
        let revision = self.next_revision();
        let state = &mut self.state;
        let from = state.position.clone();
        state.position.routing.salt = salt(&name, &command.id);
        state.since = now;
        state.conditions = Vec::new();
        let routing = state.route(&rollout, StageIndex(0), revision);
        let to = Position { phase: Phase::Progressing, routing };
        let plan = rollout.plan();
        let reason = format!(
            "{} {} against {}, stage 1 of {}",
            plan.strategy.word(),
            names(&plan.candidates),
            to.routing.stable,
            plan.stages.len()
        );
        let design = Some(rollout.design.clone());
        state.rollout = Some(rollout);
        state.position = to.clone();
        let answer = self.answer(now, command, action, to, reason.clone());
        let document = Some(document);
        let rollout = Some(name);
        let event = RolloutEvent { rollout, from: Some(from), document, design, ..answer };
        self.publish_applied(event, out);
        let verdict =
            Verdict::Hold { wait: Wait::Data, reason: format!("{reason}; no traffic yet") };
        self.report(now, &verdict, out);
    }

    /// Begins the first rollout of the queue that still fits, and refuses those before it.
    pub(crate) fn begin_next(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        while !self.state.queue.is_empty() {
            let next = self.state.queue.remove(0);
            let name = next.written.plan.name.clone();
            let command = self.apply_command(name, &next.command_id, &next.by);
            let Some(reason) = self.unfit(&next.written) else {
                return self.begin(now, &command, Action::Apply, next.written, out);
            };
            self.refuse(now, &command, reason, out);
        }
    }

    /// Answers the `apply` of a rollout that waits, or that is known already.
    fn applied(
        &mut self,
        now: Timestamp,
        command: &Command,
        written: &Written<RolloutPlan>,
        reason: String,
        out: &mut Vec<Effect>,
    ) {
        let name = &written.plan.name;
        let mut to = self.state.position.clone();
        if self.state.queue.iter().any(|q| q.written.plan.name == *name) {
            to.phase = Phase::Pending;
        }
        let answer = self.answer(now, command, Action::Apply, to, reason);
        let event = RolloutEvent {
            rollout: Some(name.clone()),
            document: Some(written.document.clone()),
            ..answer
        };
        self.publish_applied(event, out);
    }

    /// Publishes the answer to an `apply`, which becomes the reason of the state.
    pub(crate) fn publish_applied(&mut self, event: RolloutEvent, out: &mut Vec<Effect>) {
        self.state.by.clone_from(&event.actor);
        self.state.reason.clone_from(&event.reason);
        self.publish(event, out);
    }

    /// Returns the command that applied a rollout, which its beginning or its refusal answers.
    pub(crate) fn apply_command(&self, rollout: RolloutName, id: &str, by: &str) -> Command {
        Command {
            id: id.to_owned(),
            model: self.settings.model.clone(),
            rollout: Some(rollout),
            verb: Verb::Apply,
            by: by.to_owned(),
            reason: String::new(),
            expect_revision: None,
            spec: None,
            to: None,
            extend_by: None,
        }
    }

    /// Returns why a rollout cannot begin on the model in its present state, if it cannot.
    pub(crate) fn unfit(&self, written: &Written<RolloutPlan>) -> Option<String> {
        let state = &self.state;
        let plan = &written.plan;
        let model = &state.model.plan.name;
        if plan.model != *model {
            return Some(format!(
                "`{}` is a rollout of `{}`, not of `{model}`",
                plan.name, plan.model
            ));
        }
        let known = &state.model.plan.segments;
        let named = plan.metrics.iter().filter_map(|m| m.segment.as_ref());
        if let Some((by, _)) = named.into_iter().find(|(by, _)| known.iter().all(|(k, _)| k != by))
        {
            return Some(format!(
                "`{model}` knows no segments by `{by}`; add them to its `segments`"
            ));
        }
        let stable = &state.position.routing.stable;
        let is_known = state.rollout.as_ref().is_some_and(|r| *r.name() == plan.name)
            || state.past.iter().any(|p| p.rollout == plan.name);
        (plan.candidates.contains(stable) && !is_known)
            .then(|| format!("{stable} is the stable version already"))
    }
}

fn queued(written: Written<RolloutPlan>, command: &Command) -> Queued {
    Queued { written, command_id: command.id.clone(), by: command.by.clone() }
}

/// Returns the salt of a rollout: its own, and the same wherever the command is read.
fn salt(name: &RolloutName, command_id: &str) -> Salt {
    let text = format!("{name}{command_id}");
    Salt::new(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())))
}

fn names(versions: &[Version]) -> String {
    versions.iter().map(Version::as_str).collect::<Vec<_>>().join(", ")
}
