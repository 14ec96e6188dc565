//! What a judge does at an operator's wish: apply, pause, resume, promote, abort; and how it refuses.

use serde_json::Value;

use crate::domain::ids::{ModelName, Revision, RolloutName, Salt, StageIndex, Version};
use crate::domain::routing::{OnFailure, Routing};
use crate::domain::time::{Span, Timestamp};
use crate::engine::change::{Change, Deed, Phase, Position};
use crate::engine::command::{Command, Parsed, Verb, Written};
use crate::engine::judge::{Grounds, Judge};
use crate::engine::judge_io::{Counter, Effect};
use crate::engine::standing::{Queued, Standing, route};
use crate::strategy::design::Design;
use crate::strategy::planning;
use crate::strategy::stage::{ModelPlan, OnConflict, RolloutPlan};
use crate::strategy::verdict::{Verdict, Wait};

/// How many commands' ids are remembered, so that one delivered twice is done once.
const COMMANDS_MAX: usize = 64;

impl Judge {
    /// Does what a command asks for, or refuses with words; either way the answer is a change that names the command.
    pub(super) fn command(&mut self, now: Timestamp, command: Command, out: &mut Vec<Effect>) {
        if command.model != self.settings.model {
            return;
        }
        if self.standing.as_ref().is_some_and(|it| it.commands.contains(&command.id)) {
            out.push(Effect::Count(Counter::CommandDuplicates, 1));
            return;
        }
        if let Some(standing) = &mut self.standing {
            standing.commands.push(command.id.clone());
            if standing.commands.len() > COMMANDS_MAX {
                standing.commands.remove(0);
            }
        }
        let revision =
            self.standing.as_ref().map_or(Revision(0), |it| it.position.routing.revision);
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

    fn apply(&mut self, now: Timestamp, mut command: Command, out: &mut Vec<Effect>) {
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
            .chain(standing.queue.iter().map(|it| &it.written))
            .find(|it| it.plan.name == name);
        if let Some(known) = known {
            let reason = format!(
                "`{name}` was applied before with another spec; a changed plan needs a new name, \
                 so that no evidence is read under two plans"
            );
            if known.document != written.document {
                return self.refuse(now, command, reason, out);
            }
            let reason = "nothing to do: the rollout is as applied before".to_owned();
            let position = self.position();
            let document = written.document;
            return self.applied(
                now,
                command,
                Some(name),
                Some(position.clone()),
                position,
                document,
                reason,
                out,
            );
        }
        if let Some(past) = standing.past.iter().find(|it| it.rollout == name) {
            let reason = format!("`{name}` is over ({}): use a new name", past.phase.word());
            return self.refuse(now, command, reason, out);
        }
        if !standing.position.phase.is_open() {
            return self.begin(now, &command.id, &command.by, written, out);
        }
        let running =
            standing.rollout.as_ref().map_or_else(String::new, |it| it.plan.name.to_string());
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
                self.finish(now, Phase::Aborted, Deed::Abort, reason, grounds, out);
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

    /// Begins the first rollout of the queue that still fits.
    pub(super) fn begin_next(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
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

    fn steer(&mut self, now: Timestamp, command: &Command, out: &mut Vec<Effect>) {
        let current = self.plan().map(|it| it.name.clone());
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
                self.move_to(now, Phase::Paused, Deed::Pause, reason, command, out);
            }
            (Verb::Resume, Phase::Paused) => {
                self.move_to(now, Phase::Progressing, Deed::Resume, reason, command, out);
            }
            (Verb::Promote, _) => self.step_on(now, reason, command, out),
            (Verb::PromoteFull, _) => self.promote_by_hand(now, reason, command, out),
            (Verb::Abort, _) => {
                let grounds = self.grounds(command);
                self.finish(now, Phase::Aborted, Deed::Abort, reason, grounds, out);
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
        deed: Deed,
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
        let stages = self.plan().map_or(0, |it| it.stages.len());
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
        let concluded = self.standing.as_ref().and_then(|it| it.winner.clone());
        if let Some(winner) = concluded.or_else(|| self.favourite(now)) {
            let grounds = self.grounds(command);
            self.promote(now, winner, reason, grounds, out);
        } else {
            let reason = "no evidence says which of the candidates to promote".to_owned();
            self.refuse(now, command, reason, out);
        }
    }

    /// A queued rollout can be taken out of the queue; everything else about another rollout is refused.
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
            .position(|it| Some(&it.written.plan.name) == command.rollout.as_ref());
        match (queued, command.verb) {
            (Some(index), Verb::Abort) => {
                let gone = standing.queue.remove(index);
                let from = standing.position.clone();
                let to = Position { phase: Phase::Aborted, ..from.clone() };
                let name = Some(gone.written.plan.name);
                let reason = "taken out of the queue".to_owned();
                let change = self.answer(now, command, Deed::Abort, reason, name, Some(from), to);
                self.publish(change, out);
            }
            (_, _) => self.refuse(now, command, reason, out),
        }
    }

    pub(super) fn refuse(
        &mut self,
        now: Timestamp,
        command: &Command,
        reason: String,
        out: &mut Vec<Effect>,
    ) {
        out.push(Effect::Count(Counter::Refusals, 1));
        let position = match &self.standing {
            Some(standing) => standing.position.clone(),
            None => nowhere(&self.settings.model),
        };
        let from = Some(position.clone());
        let name = command.rollout.clone();
        let change = self.answer(now, command, Deed::Conflict, reason, name, from, position);
        self.publish(change, out);
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
        let mut change = self.answer(now, command, Deed::Apply, reason, rollout, from, to);
        change.document = Some(document);
        if is_started {
            change.design = self.standing.as_ref().map(|it| it.design.clone());
        }
        if let Some(standing) = &mut self.standing {
            standing.by.clone_from(&command.by);
            standing.reason.clone_from(&change.reason);
        }
        self.publish(change, out);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of the one record that this makes"
    )]
    fn answer(
        &self,
        now: Timestamp,
        command: &Command,
        deed: Deed,
        reason: String,
        rollout: Option<RolloutName>,
        from: Option<Position>,
        to: Position,
    ) -> Change {
        Change {
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

    fn publish(&mut self, change: Change, out: &mut Vec<Effect>) {
        out.push(Effect::Count(Counter::Changes, 1));
        self.sequence = change.sequence;
        out.push(Effect::Change(Box::new(change)));
        if let Some(standing) = &mut self.standing {
            standing.sequence = self.sequence;
            out.push(Effect::State(Box::new(standing.clone())));
        }
    }

    fn grounds(&self, command: &Command) -> Grounds {
        Grounds {
            actor: command.by.clone(),
            command_id: Some(command.id.clone()),
            evidence: None,
            positions: self.positions(),
        }
    }
}

/// Returns why a rollout cannot run on a model as it stands, if it cannot.
fn unfit(standing: &Standing, written: &Written<RolloutPlan>) -> Option<String> {
    let plan = &written.plan;
    let model = &standing.model.plan.name;
    if plan.model != *model {
        return Some(format!("`{}` is a rollout of `{}`, not of `{model}`", plan.name, plan.model));
    }
    let stable = &standing.position.routing.stable;
    let is_known = standing.rollout.as_ref().is_some_and(|it| it.plan.name == plan.name)
        || standing.past.iter().any(|it| it.rollout == plan.name);
    (plan.candidates.contains(stable) && !is_known)
        .then(|| format!("{stable} is the stable version already"))
}

fn first_standing(
    now: Timestamp,
    command: &Command,
    model: Written<ModelPlan>,
    position: Position,
) -> Standing {
    Standing {
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
        queue: Vec::new(),
        past: Vec::new(),
        commands: vec![command.id.clone()],
    }
}

/// Where a model stands that was never applied.
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

/// The salt of a rollout: random enough to be its own, and the same wherever the command is read.
fn salt(name: &RolloutName, command_id: &str) -> Salt {
    let text = format!("{name}{command_id}");
    Salt::new(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())))
}

fn names(versions: &[Version]) -> String {
    versions.iter().map(Version::as_str).collect::<Vec<_>>().join(", ")
}
