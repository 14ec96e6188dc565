//! Applies documents: a model, or a rollout that starts, is queued, or replaces another.

use serde_json::Value;

use crate::domain::ids::{Revision, RolloutName, Salt, StageIndex, Version};
use crate::domain::routing::Routing;
use crate::domain::time::Timestamp;
use crate::engine::judge::command::{Command, Parsed, Verb, Written};
use crate::engine::judge::event::{Action, Phase, Position};
use crate::engine::judge::io::Effect;
use crate::engine::judge::judge::Judge;
use crate::engine::judge::model_change;
use crate::engine::judge::state::{ModelState, Queued, route};
use crate::evidence::design::Design;
use crate::inference::planning;
use crate::inference::verdict::{Verdict, Wait};
use crate::plan::rollout::{ModelPlan, OnConflict, RolloutPlan};

impl Judge {
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
            let reason = format!("this is the model `{}`", written.plan.name);
            return self.refuse(now, command, reason, out);
        }
        let document = written.document.clone();
        let Some(standing) = &mut self.standing else {
            let routing = written.plan.at_rest(written.plan.stable.clone(), Revision(1));
            let position = Position { phase: Phase::Idle, routing };
            let standing = first_standing(now, command, written, position.clone());
            let reason = format!("{} serves everything", position.routing.stable);
            self.standing = Some(standing);
            return self.applied(now, command, None, None, position, document, reason, out);
        };
        let before = standing.position.clone();
        if standing.model.document == document {
            let reason = "nothing to do: the model is as applied before".to_owned();
            return self.applied(
                now,
                command,
                None,
                Some(before.clone()),
                before,
                document,
                reason,
                out,
            );
        }
        let running = standing.rollout.as_ref().filter(|_| before.phase.is_open());
        let refusal = running
            .and_then(|r| model_change::refusal(&standing.model.plan, &written.plan, &r.plan.name));
        if let Some(reason) = refusal {
            return self.refuse(now, command, reason, out);
        }
        let stable = before.routing.stable.clone();
        let rest = written.plan.at_rest(stable.clone(), Revision(before.routing.revision.0 + 1));
        let reason = if written.plan.stable == stable {
            "the model changed".to_owned()
        } else {
            format!("the model changed; {stable} stays the stable version, as decided before")
        };
        standing.model = written;
        standing.position.routing = Routing {
            rollout: before.routing.rollout.clone(),
            stage: before.routing.stage,
            salt: before.routing.salt.clone(),
            slices: before.routing.slices.clone(),
            shadows: before.routing.shadows.clone(),
            ..rest
        };
        let to = standing.position.clone();
        self.applied(now, command, None, Some(before), to, document, reason, out);
    }

    fn apply_rollout(
        &mut self,
        now: Timestamp,
        command: &Command,
        written: Written<RolloutPlan>,
        out: &mut Vec<Effect>,
    ) {
        let Some(standing) = &self.standing else {
            let reason = format!("there is no model `{}` yet: apply it first", written.plan.model);
            return self.refuse(now, command, reason, out);
        };
        let name = written.plan.name.clone();
        if let Some(reason) = unfit(standing, &written) {
            return self.refuse(now, command, reason, out);
        }
        let known = standing
            .rollout
            .iter()
            .chain(standing.queue.iter().map(|q| &q.written))
            .find(|w| w.plan.name == name);
        if let Some(known) = known {
            let reason = format!(
                "`{name}` was applied before with another spec; a changed plan needs a new name, \
                 so that no evidence is read under two plans"
            );
            if known.document != written.document {
                return self.refuse(now, command, reason, out);
            }
            let reason = "nothing to do: the rollout is as applied before".to_owned();
            let (from, mut to) = (self.position(), self.position());
            if standing.queue.iter().any(|q| q.written.plan.name == name) {
                to.phase = Phase::Pending;
            }
            let document = written.document;
            return self.applied(now, command, Some(name), Some(from), to, document, reason, out);
        }
        if let Some(past) = standing.past.iter().find(|p| p.rollout == name) {
            let reason = format!("`{name}` is over ({}): use a new name", past.phase.word());
            return self.refuse(now, command, reason, out);
        }
        if !standing.position.phase.is_open() {
            return self.begin(now, &command.id, &command.by, written, out);
        }
        let running =
            standing.rollout.as_ref().map_or_else(String::new, |n| n.plan.name.to_string());
        match written.plan.on_conflict {
            OnConflict::Refuse => {
                let reason = format!("`{running}` is in progress");
                self.refuse(now, command, reason, out);
            }
            OnConflict::Replace => {
                let reason = format!("replaced by `{name}`");
                let queued =
                    Queued { written, command_id: command.id.clone(), by: command.by.clone() };
                if let Some(standing) = &mut self.standing {
                    standing.queue.insert(0, queued);
                }
                let mut grounds = self.grounds(command);
                grounds.command_id = None;
                self.finish(now, Phase::Aborted, Action::Abort, reason, grounds, out);
            }
            OnConflict::Queue => self.queue(now, command, written, &running, out),
        }
    }

    fn queue(
        &mut self,
        now: Timestamp,
        command: &Command,
        written: Written<RolloutPlan>,
        running: &str,
        out: &mut Vec<Effect>,
    ) {
        let Some(standing) = &mut self.standing else { return };
        let name = written.plan.name.clone();
        let document = written.document.clone();
        let queued = Queued { written, command_id: command.id.clone(), by: command.by.clone() };
        standing.queue.push(queued);
        let from = standing.position.clone();
        let to = Position { phase: Phase::Pending, ..from.clone() };
        let reason = format!("waits for the end of `{running}`");
        self.applied(now, command, Some(name), Some(from), to, document, reason, out);
    }

    /// Starts a rollout at its first stage.
    fn begin(
        &mut self,
        now: Timestamp,
        command_id: &str,
        by: &str,
        written: Written<RolloutPlan>,
        out: &mut Vec<Effect>,
    ) {
        self.forget_evidence();
        let Some(standing) = &mut self.standing else { return };
        let name = written.plan.name.clone();
        let document = written.document.clone();
        let from = standing.position.clone();
        standing.position.routing.salt = salt(&name, command_id);
        standing.design = planning::initial(&written.plan);
        standing.winner = None;
        standing.entered_at = None;
        standing.judged = None;
        standing.applied_at = now;
        standing.since = now;
        standing.conditions = Vec::new();
        let revision = Revision(from.routing.revision.0 + 1);
        let routing = route(standing, &written.plan, StageIndex(0), revision);
        let to = Position { phase: Phase::Progressing, routing };
        let reason = format!(
            "{} {} against {}, stage 1 of {}",
            written.plan.strategy.word(),
            names(&written.plan.candidates),
            to.routing.stable,
            written.plan.stages.len()
        );
        standing.rollout = Some(written);
        standing.position = to.clone();
        let command = Command {
            id: command_id.to_owned(),
            model: self.settings.model.clone(),
            rollout: Some(name.clone()),
            verb: Verb::Apply,
            by: by.to_owned(),
            reason: String::new(),
            expect_revision: None,
            spec: None,
        };
        self.applied(now, &command, Some(name), Some(from), to, document, reason.clone(), out);
        let verdict =
            Verdict::Hold { wait: Wait::Data, reason: format!("{reason}; no traffic yet") };
        self.report(now, &verdict, out);
    }

    /// Starts the first queued rollout that is still valid.
    pub(crate) fn begin_next(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        loop {
            let Some(standing) = &mut self.standing else { return };
            if standing.queue.is_empty() {
                return;
            }
            let next = standing.queue.remove(0);
            let Some(reason) = unfit(standing, &next.written) else {
                return self.begin(now, &next.command_id, &next.by, next.written, out);
            };
            let command = Command {
                id: next.command_id,
                model: self.settings.model.clone(),
                rollout: Some(next.written.plan.name.clone()),
                verb: Verb::Apply,
                by: next.by,
                reason: String::new(),
                expect_revision: None,
                spec: None,
            };
            self.refuse(now, &command, reason, out);
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of the one record that this makes"
    )]
    fn applied(
        &mut self,
        now: Timestamp,
        command: &Command,
        rollout: Option<RolloutName>,
        from: Option<Position>,
        to: Position,
        document: Value,
        reason: String,
        out: &mut Vec<Effect>,
    ) {
        let is_started = to.phase == Phase::Progressing && from.as_ref() != Some(&to);
        let mut change = self.answer(now, command, Action::Apply, reason, rollout, from, to);
        change.document = Some(document);
        if is_started {
            change.design = self.standing.as_ref().map(|s| s.design.clone());
        }
        if let Some(standing) = &mut self.standing {
            standing.by.clone_from(&command.by);
            standing.reason.clone_from(&change.reason);
        }
        self.publish(change, out);
    }
}

/// Returns why a rollout cannot run on a model in its current state; `None` if it can.
fn unfit(standing: &ModelState, written: &Written<RolloutPlan>) -> Option<String> {
    let plan = &written.plan;
    let model = &standing.model.plan.name;
    if plan.model != *model {
        return Some(format!("`{}` is a rollout of `{}`, not of `{model}`", plan.name, plan.model));
    }
    let known = &standing.model.plan.segments;
    let named = plan.metrics.iter().filter_map(|m| m.segment.as_ref());
    if let Some((by, _)) = named.into_iter().find(|(by, _)| known.iter().all(|(k, _)| k != by)) {
        return Some(format!("`{model}` knows no segments by `{by}`; add them to its `segments`"));
    }
    let stable = &standing.position.routing.stable;
    let is_known = standing.rollout.as_ref().is_some_and(|r| r.plan.name == plan.name)
        || standing.past.iter().any(|p| p.rollout == plan.name);
    (plan.candidates.contains(stable) && !is_known)
        .then(|| format!("{stable} is the stable version already"))
}

fn first_standing(
    now: Timestamp,
    command: &Command,
    model: Written<ModelPlan>,
    position: Position,
) -> ModelState {
    ModelState {
        model,
        rollout: None,
        position,
        sequence: 0,
        since: now,
        by: command.by.clone(),
        reason: String::new(),
        conditions: Vec::new(),
        applied_at: now,
        entered_at: None,
        judged: None,
        design: Design::default(),
        winner: None,
        decisions: Vec::new(),
        queue: Vec::new(),
        past: Vec::new(),
        commands: vec![command.id.clone()],
    }
}

/// The salt of a rollout: unique in practice, and the same for every reader of the command.
fn salt(name: &RolloutName, command_id: &str) -> Salt {
    let text = format!("{name}{command_id}");
    Salt::new(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())))
}

fn names(versions: &[Version]) -> String {
    versions.iter().map(Version::as_str).collect::<Vec<_>>().join(", ")
}
