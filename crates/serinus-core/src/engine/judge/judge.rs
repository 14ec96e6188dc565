//! The judge of one model: merges the lanes' evidence at event-time ticks, decides, and answers operators.
//!
//! A decision is a function of the received commands and partials in their order, and of nothing else.

use std::collections::BTreeMap;

use crate::decision::basis;
use crate::decision::gates;
use crate::domain::ids::{Revision, RolloutName, StageIndex, Version};
use crate::domain::routing::Routing;
use crate::domain::time::{Span, Timestamp};
use crate::engine::counter::Counter;
use crate::engine::judge::decision;
use crate::engine::judge::event::{Action, Phase, Position, RolloutEvent};
use crate::engine::judge::io::{Effect, Event, Settings};
use crate::engine::judge::report::RolloutMetrics;
use crate::engine::judge::state::{
    ModelState, conditions, is_approval_wanted, live, of_phase, remember, route,
};
use crate::engine::partial::Partial;
use crate::evidence::design::Design;
use crate::evidence::sums::{Evidence, GAP_MAX};
use crate::inference::bet_cache::BetCache;
use crate::inference::input::AnalysisInput;
use crate::inference::interim;
use crate::inference::planning;
use crate::inference::verdict::{Verdict, Wait};
use crate::plan::rollout::{RolloutPlan, WhenInconclusive};

/// Maximum time without a record while no evidence arrives.
const SILENCE_MAX: Span = Span::seconds(10);

/// The judge of one model.
#[derive(Debug)]
pub struct Judge {
    pub(crate) settings: Settings,
    pub(crate) standing: Option<ModelState>,
    pub(crate) partials: BTreeMap<i32, Partial>,
    /// The newest sums of past rollouts, while labels can contest their decisions.
    pub(crate) past: BTreeMap<RolloutName, BTreeMap<i32, Partial>>,
    judged: Option<Timestamp>,
    spoke_at: Timestamp,
    pub(crate) sequence: u64,
    bets: BetCache,
}

impl Judge {
    /// Returns a judge of an unknown model.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            standing: None,
            partials: BTreeMap::new(),
            past: BTreeMap::new(),
            judged: None,
            spoke_at: Timestamp::MIN,
            sequence: 0,
            bets: BetCache::default(),
        }
    }

    /// Restores a judge from the newest state; the partials that were judged before follow by `recall`.
    pub fn restore(settings: Settings, standing: ModelState) -> Self {
        Self {
            judged: standing.judged,
            sequence: standing.sequence,
            standing: Some(standing),
            ..Self::new(settings)
        }
    }

    /// Starts the judge, for the first time or after a restart.
    pub fn open(&mut self, now: Timestamp, partitions: i32) {
        self.settings.partitions = partitions;
        self.spoke_at = now;
    }

    /// Returns whether the judge uses sums of this rollout: the current one, and those with a decision that labels can still contest.
    pub fn uses_partials_of(&self, rollout: &RolloutName) -> bool {
        self.is_running(rollout) || self.may_be_contested(rollout)
    }

    /// Resumes after the newest tick that was judged before a restart, once its inputs are restored.
    pub fn has_judged(&mut self, tick: Option<Timestamp>) {
        self.judged = self.judged.max(tick);
        if let Some(standing) = &mut self.standing {
            standing.judged = self.judged;
        }
    }

    /// Merges a partial that was judged before a restart, without a decision. Call it for all such partials in their order.
    pub fn recall_in_order(&mut self, partial: Partial) {
        self.recall(partial);
        self.has_judged(self.complete_tick());
    }

    /// Merges the newest partial of a lane that was judged before a restart, without a decision.
    pub fn recall(&mut self, partial: Partial) {
        if self.is_current(&partial) {
            self.partials.insert(partial.partition, partial);
        } else if self.is_of_the_past(&partial) {
            self.keep_past(partial);
        }
    }

    /// Processes one event and appends its effects.
    pub fn handle(&mut self, now: Timestamp, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Command(command) => self.command(now, *command, out),
            Event::Partial(partial) if self.is_of_the_past(&partial) => {
                let name = partial.rollout.clone();
                self.keep_past(*partial);
                self.reconsider(now, &name, out);
            }
            Event::Partial(partial) => {
                if !self.is_current(&partial) {
                    out.push(Effect::Count(Counter::PartialStale, 1));
                    return;
                }
                self.partials.insert(partial.partition, *partial);
                match self.complete_tick() {
                    Some(tick) if self.judged.is_none_or(|j| j < tick) => {
                        self.judge(now, tick, out);
                    }
                    Some(_) | None => {}
                }
            }
        }
    }

    /// Handles every deadline that `now` has reached; reports missing evidence.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.next_wake().is_some_and(|at| at <= now) {
            self.break_silence(now, out);
        }
    }

    /// Returns when `tick` is next needed, if ever.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let standing = self.standing.as_ref()?;
        let plan = &standing.rollout.as_ref()?.plan;
        let patience = plan.tick.min(SILENCE_MAX).max(Span::seconds(1));
        standing.position.phase.is_open().then(|| self.spoke_at.max(standing.applied_at) + patience)
    }

    /// Returns the state of the model, once it was applied.
    pub fn standing(&self) -> Option<&ModelState> {
        self.standing.as_ref()
    }

    /// Merges the partials of the lanes, and decides.
    fn judge(&mut self, now: Timestamp, tick: Timestamp, out: &mut Vec<Effect>) {
        let evidence = self.evidence();
        let positions = self.positions();
        let (lag, unplanned) = (self.lag(), self.unplanned());
        let Some(standing) = &mut self.standing else { return };
        let Some(rollout) = standing.rollout.clone() else { return };
        self.judged = Some(tick);
        standing.judged = Some(tick);
        let is_first_look = standing.entered_at.is_none();
        standing.entered_at.get_or_insert(tick);
        let stable = standing.position.routing.stable.clone();
        let has_new_thresholds = planning::freeze_thresholds(
            &mut standing.design,
            &rollout.plan,
            standing.position.routing.stage,
            &stable,
            &evidence,
            tick,
        );
        let live = live(&rollout.plan, standing);
        let look = interim::analyze(&AnalysisInput {
            plan: &rollout.plan,
            design: &standing.design,
            evidence: &evidence,
            stage: standing.position.routing.stage,
            stable: &stable,
            live: &live,
            tick,
            entered_at: standing.entered_at,
            lag,
            unplanned,
            bets: &self.bets,
            detail: self.settings.detail,
        });
        let verdict = of_phase(standing, gates::judge(&look));
        let supports = basis::of(&look, &verdict);
        let conditions = conditions(&look, &verdict);
        let report = RolloutMetrics::of(look, standing.position.routing.revision, &verdict);
        let has_new_conditions = standing.conditions != conditions;
        let was_approval_wanted = standing.conditions.iter().any(is_approval_wanted);
        standing.conditions = conditions;
        if let Some(decision) = standing.decision(&verdict, supports) {
            decision::keep(&mut standing.decisions, decision);
        }
        out.push(Effect::Count(Counter::TicksJudged, 1));
        let sequence = self.sequence;
        let grounds = Grounds {
            actor: "judge".to_owned(),
            command_id: None,
            evidence: Some(Box::new(report.clone())),
            positions,
        };
        self.act(now, tick, verdict, was_approval_wanted, grounds, out);
        self.say(now, report, out);
        self.reconsider(now, &rollout.plan.name, out);
        let Some(standing) = &self.standing else { return };
        let must_keep = has_new_conditions || has_new_thresholds || is_first_look;
        if self.sequence == sequence && must_keep {
            out.push(Effect::State(Box::new(standing.clone())));
        }
    }

    /// Executes a verdict.
    fn act(
        &mut self,
        now: Timestamp,
        tick: Timestamp,
        verdict: Verdict,
        was_approval_wanted: bool,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        match verdict {
            Verdict::Hold { wait: Wait::Approval, reason } => {
                let is_first = !was_approval_wanted;
                if is_first && self.phase() == Phase::Progressing {
                    let position = self.position();
                    self.change(now, Action::Hold, reason, position, grounds, out);
                }
            }
            Verdict::Hold {
                wait: Wait::Until(_) | Wait::Data | Wait::Health | Wait::Signal | Wait::Proof(_),
                ..
            } => {}
            Verdict::Advance { reason } => {
                self.enter_next_stage(now, Some(tick), reason, grounds, out);
            }
            Verdict::Drop { candidate, reason } => {
                self.drop_candidate(now, candidate, reason, grounds, out);
            }
            Verdict::Abort { reason } => {
                self.finish(now, Phase::Aborted, Action::Abort, reason, grounds, out);
            }
            Verdict::Inconclusive { reason } => {
                let policy = self.plan().map(|p| p.decide.inconclusive);
                match policy {
                    Some(WhenInconclusive::Abort) | None => {
                        let deed = Action::Inconclusive;
                        self.finish(now, Phase::Inconclusive, deed, reason, grounds, out);
                    }
                    Some(WhenInconclusive::Pause) => {
                        let to = Position { phase: Phase::Paused, ..self.position() };
                        self.change(now, Action::Inconclusive, reason, to, grounds, out);
                    }
                }
            }
            Verdict::Conclude { winner, reason } => {
                if let Some(standing) = &mut self.standing {
                    standing.winner = Some(winner);
                }
                let to = Position { phase: Phase::Concluded, ..self.position() };
                self.change(now, Action::Advance, reason, to, grounds, out);
            }
            Verdict::Promote { winner, reason } => {
                self.promote(now, winner, reason, grounds, out);
            }
        }
    }

    /// Advances to the next stage, with bets planned from the evidence of earlier stages.
    pub(crate) fn enter_next_stage(
        &mut self,
        now: Timestamp,
        tick: Option<Timestamp>,
        reason: String,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let evidence = self.evidence();
        let Some(standing) = &mut self.standing else { return };
        let Some(rollout) = &standing.rollout else { return };
        let routing = &standing.position.routing;
        let next = StageIndex(routing.stage.0 + 1);
        let stable = routing.stable.clone();
        planning::plan_stage(&mut standing.design, &rollout.plan, next, &stable, &evidence);
        standing.entered_at = tick;
        let revision = Revision(routing.revision.0 + 1);
        let routing = route(standing, &rollout.plan, next, revision);
        let to = Position { phase: Phase::Progressing, routing };
        self.change(now, Action::Advance, reason, to, grounds, out);
    }

    fn drop_candidate(
        &mut self,
        now: Timestamp,
        candidate: Version,
        reason: String,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let Some(standing) = &mut self.standing else { return };
        let Some(rollout) = standing.rollout.clone() else { return };
        let revision = Revision(standing.position.routing.revision.0 + 1);
        if standing.winner.as_ref() == Some(&candidate) {
            standing.winner = None;
        }
        standing.design.drops.push((revision, candidate));
        let stage = standing.position.routing.stage;
        let routing = route(standing, &rollout.plan, stage, revision);
        let to = Position { phase: standing.position.phase, routing };
        self.change(now, Action::Abort, reason, to, grounds, out);
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
        if let Some(standing) = &mut self.standing {
            standing.winner = Some(winner);
        }
        self.finish(now, Phase::Promoted, Action::Promote, reason, grounds, out);
    }

    /// Ends the rollout: removes it from routing, and starts the next in the queue.
    pub(crate) fn finish(
        &mut self,
        now: Timestamp,
        phase: Phase,
        deed: Action,
        reason: String,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let Some(standing) = &mut self.standing else { return };
        let Some(rollout) = &standing.rollout else { return };
        let stable = match (&standing.winner, phase) {
            (Some(winner), Phase::Promoted) => winner.clone(),
            (_, _) => standing.position.routing.stable.clone(),
        };
        let revision = Revision(standing.position.routing.revision.0 + 1);
        let routing = Routing {
            stage: standing.position.routing.stage,
            ..standing.model.plan.at_rest(stable, revision)
        };
        remember(&mut standing.past, rollout, phase);
        let name = rollout.plan.name.clone();
        decision::settle(&mut standing.decisions, &name, phase);
        if standing.decisions.iter().any(|d| d.rollout.plan.name == name) {
            self.past.insert(name, std::mem::take(&mut self.partials));
        }
        standing.conditions = Vec::new();
        standing.design = Design::default();
        standing.entered_at = None;
        standing.judged = None;
        self.forget_evidence();
        self.change(now, deed, reason, Position { phase, routing }, grounds, out);
        self.begin_next(now, out);
    }

    /// Publishes an event, and stores the new state of the model.
    pub(crate) fn change(
        &mut self,
        now: Timestamp,
        deed: Action,
        reason: String,
        to: Position,
        grounds: Grounds,
        out: &mut Vec<Effect>,
    ) {
        let Some(standing) = &mut self.standing else { return };
        let before = std::mem::replace(&mut standing.position, to.clone());
        self.sequence += 1;
        standing.sequence = self.sequence;
        if before.phase != to.phase || before.routing.stage != to.routing.stage {
            standing.since = now;
        }
        standing.by.clone_from(&grounds.actor);
        standing.reason.clone_from(&reason);
        let is_new_design = before.routing.revision != to.routing.revision && to.phase.is_open();
        out.push(Effect::Event(Box::new(RolloutEvent {
            model: self.settings.model.clone(),
            rollout: standing.rollout.as_ref().map(|r| r.plan.name.clone()),
            sequence: standing.sequence,
            at: now,
            actor: grounds.actor,
            command_id: grounds.command_id,
            deed,
            reason,
            from: Some(before),
            to,
            evidence: grounds.evidence,
            positions: grounds.positions,
            document: None,
            design: is_new_design.then(|| standing.design.clone()),
        })));
        out.push(Effect::State(Box::new(standing.clone())));
        out.push(Effect::Count(Counter::Changes, 1));
    }

    /// Publishes the current evidence with the caller's sentence, for changes outside of a tick.
    pub(crate) fn report(&mut self, now: Timestamp, verdict: &Verdict, out: &mut Vec<Effect>) {
        let evidence = self.evidence();
        let Some(standing) = &self.standing else { return };
        let Some(rollout) = &standing.rollout else { return };
        let live = live(&rollout.plan, standing);
        let look = interim::analyze(&AnalysisInput {
            plan: &rollout.plan,
            design: &standing.design,
            evidence: &evidence,
            stage: standing.position.routing.stage,
            stable: &standing.position.routing.stable,
            live: &live,
            tick: self.judged.unwrap_or(now.floor_to(rollout.plan.tick)),
            entered_at: standing.entered_at,
            lag: self.lag(),
            unplanned: self.unplanned(),
            bets: &self.bets,
            detail: self.settings.detail,
        });
        let report = RolloutMetrics::of(look, standing.position.routing.revision, verdict);
        self.say(now, report, out);
    }

    fn say(&mut self, now: Timestamp, report: RolloutMetrics, out: &mut Vec<Effect>) {
        self.spoke_at = now;
        out.push(Effect::Metrics(Box::new(report)));
    }

    /// Reports missing evidence. Before the first evidence, the wall clock replaces event time.
    fn break_silence(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let waiting_for = self.waiting_for();
        let Some(standing) = &self.standing else { return };
        let Some(rollout) = &standing.rollout else { return };
        let evidence = self.evidence();
        let live = live(&rollout.plan, standing);
        let is_unheard = self.partials.is_empty() && self.judged.is_none();
        let tick = if is_unheard { now } else { self.judged.unwrap_or(now) };
        let mut look = interim::analyze(&AnalysisInput {
            plan: &rollout.plan,
            design: &standing.design,
            evidence: &evidence,
            stage: standing.position.routing.stage,
            stable: &standing.position.routing.stable,
            live: &live,
            tick,
            entered_at: if is_unheard { Some(standing.applied_at) } else { standing.entered_at },
            lag: self.lag(),
            unplanned: self.unplanned(),
            bets: &self.bets,
            detail: self.settings.detail,
        });
        look.health.no_data = true;
        let verdict = if is_unheard {
            of_phase(standing, gates::judge(&look))
        } else {
            let reason = match waiting_for {
                _ if look.health.unplanned > 0 => gates::unplanned(look.health.unplanned),
                Some(partition) => format!("waiting for the evidence of partition {partition}"),
                None => "no new evidence".to_owned(),
            };
            Verdict::Hold { wait: Wait::Data, reason }
        };
        let report = RolloutMetrics::of(look, standing.position.routing.revision, &verdict);
        let grounds = Grounds {
            actor: "judge".to_owned(),
            command_id: None,
            evidence: Some(Box::new(report.clone())),
            positions: self.positions(),
        };
        self.act(now, tick, verdict, true, grounds, out);
        self.say(now, report, out);
    }

    fn is_current(&self, partial: &Partial) -> bool {
        let known = self.partials.get(&partial.partition);
        self.is_running(&partial.rollout)
            && known.is_none_or(|k| (k.tick, k.turn) <= (partial.tick, partial.turn))
    }

    /// Returns the newest tick that every partition with traffic has passed.
    ///
    /// Partitions that are idle, or without any partial, do not hold the tick back: their evidence is in their sums whenever
    /// these arrive, and adds up to the same.
    fn complete_tick(&self) -> Option<Timestamp> {
        let busy = self.partials.values().filter(|p| !p.is_idle).map(|i| i.tick).min();
        busy.or_else(|| self.partials.values().map(|p| p.tick).max())
    }

    fn waiting_for(&self) -> Option<i32> {
        let busy = self.partials.values().filter(|p| !p.is_idle);
        busy.min_by_key(|b| b.tick).map(|t| t.partition)
    }

    pub(crate) fn evidence(&self) -> Evidence {
        let mut evidence = Evidence::default();
        let Some(tick) = self.complete_tick() else { return evidence };
        let mut began = tick;
        for partial in self.partials.values() {
            evidence.merge(&partial.sums);
            // An idle lane with a watermark this far behind the others has seen only wrong dates.
            let first_at = partial.sums.first_at().filter(|_| tick - partial.tick <= GAP_MAX);
            began = first_at.map_or(began, |b| b.min(began));
        }
        evidence.begin_at(began);
        evidence
    }

    pub(crate) fn positions(&self) -> Vec<(String, i32, i64)> {
        let Some(standing) = &self.standing else { return Vec::new() };
        positions_of(&self.partials, standing, &self.settings)
    }

    fn lag(&self) -> u64 {
        self.partials.values().map(|p| p.lag).sum()
    }

    fn unplanned(&self) -> u64 {
        self.partials.values().map(|p| p.unplanned).sum()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.standing.as_ref().map_or(Phase::Idle, |s| s.position.phase)
    }

    /// Returns the state of the model; called only once there is a model.
    pub(crate) fn position(&self) -> Position {
        self.standing
            .as_ref()
            .expect("changes are only made to a model that was applied")
            .position
            .clone()
    }

    pub(crate) fn plan(&self) -> Option<&RolloutPlan> {
        self.standing.as_ref()?.rollout.as_ref().map(|r| &r.plan)
    }

    pub(crate) fn bets(&self) -> &BetCache {
        &self.bets
    }

    /// Returns the newest judged tick of the current rollout.
    pub fn newest_tick(&self) -> Option<Timestamp> {
        self.judged
    }

    pub(crate) fn forget_evidence(&mut self) {
        self.partials = BTreeMap::new();
        self.judged = None;
    }
}

/// Returns how far the lanes had read for these partials.
pub(crate) fn positions_of(
    partials: &BTreeMap<i32, Partial>,
    standing: &ModelState,
    settings: &Settings,
) -> Vec<(String, i32, i64)> {
    let predictions = &standing.model.plan.topics.predictions;
    let labels = &settings.labels_topic;
    partials
        .values()
        .flat_map(|p| {
            [
                (predictions.clone(), p.partition, p.inputs.predictions),
                (labels.clone(), p.partition, p.inputs.labels),
            ]
        })
        .collect()
}

/// The actor and the basis of a change.
#[derive(Clone, Debug)]
pub(crate) struct Grounds {
    pub(crate) actor: String,
    pub(crate) command_id: Option<String>,
    pub(crate) evidence: Option<Box<RolloutMetrics>>,
    pub(crate) positions: Vec<(String, i32, i64)>,
}
