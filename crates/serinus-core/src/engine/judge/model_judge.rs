//! The judge of an applied model: analyses the evidence at each complete tick and carries out the verdict.

use std::collections::BTreeMap;

use crate::decision::basis;
use crate::decision::gates::{self, GateState};
use crate::domain::ids::{RolloutName, Version};
use crate::domain::time::{Span, Timestamp};
use crate::engine::counter::Counter;
use crate::engine::judge::decision;
use crate::engine::judge::event::{Action, Grounds, Phase};
use crate::engine::judge::io::{Effect, Settings};
use crate::engine::judge::partial_set::PartialSet;
use crate::engine::judge::report::RolloutMetrics;
use crate::engine::judge::state::{ModelState, RolloutState, conditions, is_approval_wanted};
use crate::engine::partial::Partial;
use crate::evidence::sums::Evidence;
use crate::inference::bet_cache::BetCache;
use crate::inference::input::AnalysisInput;
use crate::inference::interim;
use crate::inference::planning;
use crate::inference::verdict::{InterimAnalysis, Verdict, Wait};
use crate::plan::rollout::WhenInconclusive;

/// Maximum time without a record while no evidence arrives.
const SILENCE_MAX: Span = Span::seconds(10);

/// The judge of an applied model.
#[derive(Debug)]
pub struct ModelJudge {
    pub(crate) settings: Settings,
    pub(crate) state: ModelState,
    /// The partials of the running rollout.
    pub(crate) partials: PartialSet,
    /// The partials of finished rollouts whose decisions labels can still contest.
    pub(crate) past: BTreeMap<RolloutName, PartialSet>,
    /// When metrics were last published.
    pub(crate) reported_at: Timestamp,
    pub(crate) bets: BetCache,
}

/// What `AnalysisInput` borrows and a judge has to compute.
struct Inputs {
    evidence: Evidence,
    live: Vec<Version>,
}

impl ModelJudge {
    pub(crate) fn new(settings: Settings, state: ModelState, reported_at: Timestamp) -> Self {
        Self {
            settings,
            state,
            partials: PartialSet::default(),
            past: BTreeMap::new(),
            reported_at,
            bets: BetCache::default(),
        }
    }

    pub(crate) fn uses_partials_of(&self, rollout: &RolloutName) -> bool {
        self.state.is_running(rollout) || self.state.uncontested(rollout).is_some()
    }

    pub(crate) fn has_judged(&mut self, tick: Option<Timestamp>) {
        if let Some(rollout) = &mut self.state.rollout {
            rollout.judged = rollout.judged.max(tick);
        }
    }

    pub(crate) fn newest_tick(&self) -> Option<Timestamp> {
        self.state.rollout.as_ref()?.judged
    }

    pub(crate) fn recall(&mut self, partial: Partial) {
        if self.is_current(&partial) {
            self.partials.insert(partial);
        } else if self.is_of_the_past(&partial) {
            self.keep_past(partial);
        }
    }

    pub(crate) fn partial(&mut self, now: Timestamp, partial: Partial, out: &mut Vec<Effect>) {
        if self.is_of_the_past(&partial) {
            let name = partial.rollout.clone();
            self.keep_past(partial);
            return self.reconsider(now, &name, out);
        }
        if !self.is_current(&partial) {
            out.push(Effect::Count(Counter::PartialStale, 1));
            return;
        }
        self.partials.insert(partial);
        if let Some(tick) = self.partials.complete_tick()
            && self.newest_tick().is_none_or(|judged| judged < tick)
        {
            self.judge(now, tick, out);
        }
    }

    pub(crate) fn tick(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.next_wake().is_some_and(|at| at <= now) {
            self.break_silence(now, out);
        }
    }

    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        let rollout = self.state.running()?;
        let patience = rollout.plan().tick.min(SILENCE_MAX).max(Span::seconds(1));
        Some(self.reported_at.max(rollout.applied_at) + patience)
    }

    /// Merges the partials, analyses them as of a tick, and carries out the verdict.
    fn judge(&mut self, now: Timestamp, tick: Timestamp, out: &mut Vec<Effect>) {
        let evidence = self.partials.evidence();
        let positions = self.positions();
        let routing = &self.state.position.routing;
        let Some(rollout) = &mut self.state.rollout else { return };
        rollout.judged = Some(tick);
        let is_first = rollout.entered_at.is_none();
        rollout.entered_at.get_or_insert(tick);
        let has_new_thresholds = planning::freeze_thresholds(
            &mut rollout.design,
            &rollout.written.plan,
            routing.stage,
            &routing.stable,
            &evidence,
            tick,
        );
        let Some(rollout) = &self.state.rollout else { return };
        let name = rollout.name().clone();
        let inputs = Inputs { evidence, live: rollout.live() };
        let analysis = self.analyze(rollout, &inputs, tick, rollout.entered_at);
        let verdict = self.state.in_phase(gates::judge(&analysis));
        let supports = basis::of(&analysis, &verdict);
        let conditions = conditions(&analysis, &verdict);
        let gates = gates_of(&analysis, &verdict);
        let report = self.metrics(analysis, &verdict);
        let decision = rollout.decision(&self.state.position.routing, &verdict, supports);
        let has_new_conditions = self.state.conditions != conditions;
        let was_approval_wanted = self.state.conditions.iter().any(is_approval_wanted);
        self.state.conditions = conditions;
        if let Some(decision) = decision {
            decision::keep(&mut self.state.decisions, decision);
        }
        out.push(Effect::Count(Counter::TicksJudged, 1));
        let sequence = self.state.sequence;
        let grounds = Grounds::of_judge(report.clone(), positions, gates);
        self.act(now, tick, verdict, was_approval_wanted, grounds, out);
        self.publish_metrics(now, report, out);
        self.reconsider(now, &name, out);
        let must_keep = has_new_conditions || has_new_thresholds || is_first;
        if self.state.sequence == sequence && must_keep {
            out.push(Effect::State(Box::new(self.state.clone())));
        }
    }

    /// Carries out a verdict.
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
                if !was_approval_wanted && self.state.position.phase == Phase::Progressing {
                    let position = self.state.position.clone();
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
                let action = Action::Inconclusive;
                match self.state.rollout.as_ref().map(|r| r.plan().decide.inconclusive) {
                    Some(WhenInconclusive::Abort) | None => {
                        self.finish(now, Phase::Inconclusive, action, reason, grounds, out);
                    }
                    Some(WhenInconclusive::Pause) => {
                        self.enter_phase(now, Phase::Paused, action, reason, grounds, out);
                    }
                }
            }
            Verdict::Conclude { winner, reason } => {
                self.set_winner(winner);
                self.enter_phase(now, Phase::Concluded, Action::Advance, reason, grounds, out);
            }
            Verdict::Promote { winner, reason } => {
                self.promote(now, winner, reason, grounds, out);
            }
        }
    }

    /// Publishes metrics as of now with a verdict that does not come from a tick.
    ///
    /// Returns the gates of the stage.
    pub(crate) fn report(
        &mut self,
        now: Timestamp,
        verdict: &Verdict,
        out: &mut Vec<Effect>,
    ) -> Vec<GateState> {
        let Some(rollout) = &self.state.rollout else { return Vec::new() };
        let tick = rollout.judged.unwrap_or(now.floor_to(rollout.plan().tick));
        let inputs = self.inputs(rollout);
        let analysis = self.analyze(rollout, &inputs, tick, rollout.entered_at);
        let gates = gates::states(&analysis);
        let report = self.metrics(analysis, verdict);
        self.publish_metrics(now, report, out);
        gates
    }

    /// Analyses the present evidence without a verdict.
    pub(crate) fn with_analysis<T>(
        &self,
        now: Timestamp,
        read: impl FnOnce(&InterimAnalysis<'_>) -> Option<T>,
    ) -> Option<T> {
        let rollout = self.state.rollout.as_ref()?;
        let inputs = self.inputs(rollout);
        let tick = rollout.judged.unwrap_or(now);
        read(&self.analyze(rollout, &inputs, tick, rollout.entered_at))
    }

    /// Publishes that no evidence arrives. Before the first partial, event time is unknown and the wall clock is used.
    fn break_silence(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(rollout) = &self.state.rollout else { return };
        let is_first = self.partials.is_empty() && rollout.judged.is_none();
        let tick = rollout.judged.unwrap_or(now);
        let entered_at = if is_first { Some(rollout.applied_at) } else { rollout.entered_at };
        let inputs = self.inputs(rollout);
        let mut analysis = self.analyze(rollout, &inputs, tick, entered_at);
        analysis.health.no_data = true;
        let verdict = if is_first {
            self.state.in_phase(gates::judge(&analysis))
        } else {
            let reason = match self.partials.slowest() {
                _ if analysis.health.unplanned > 0 => gates::unplanned(analysis.health.unplanned),
                Some(partition) => format!("waiting for the evidence of partition {partition}"),
                None => "no new evidence".to_owned(),
            };
            Verdict::Hold { wait: Wait::Data, reason }
        };
        let gates = gates_of(&analysis, &verdict);
        let report = self.metrics(analysis, &verdict);
        let grounds = Grounds::of_judge(report.clone(), self.positions(), gates);
        self.act(now, tick, verdict, true, grounds, out);
        self.publish_metrics(now, report, out);
    }

    fn inputs(&self, rollout: &RolloutState) -> Inputs {
        Inputs { evidence: self.partials.evidence(), live: rollout.live() }
    }

    fn analyze<'a>(
        &'a self,
        rollout: &'a RolloutState,
        inputs: &'a Inputs,
        tick: Timestamp,
        entered_at: Option<Timestamp>,
    ) -> InterimAnalysis<'a> {
        let routing = &self.state.position.routing;
        interim::analyze(&AnalysisInput {
            plan: rollout.plan(),
            design: &rollout.design,
            evidence: &inputs.evidence,
            stage: routing.stage,
            stable: &routing.stable,
            live: &inputs.live,
            tick,
            entered_at,
            lag: self.partials.lag(),
            unplanned: self.partials.unplanned(),
            is_approved: rollout.approved == Some(routing.stage),
            bets: &self.bets,
            detail: self.settings.detail,
        })
    }

    fn metrics(&self, analysis: InterimAnalysis<'_>, verdict: &Verdict) -> RolloutMetrics {
        RolloutMetrics::of(analysis, self.state.position.routing.revision, verdict)
    }

    fn publish_metrics(&mut self, now: Timestamp, report: RolloutMetrics, out: &mut Vec<Effect>) {
        self.reported_at = now;
        out.push(Effect::Metrics(Box::new(report)));
    }

    fn is_current(&self, partial: &Partial) -> bool {
        self.state.is_running(&partial.rollout) && self.partials.is_news(partial)
    }

    pub(crate) fn positions(&self) -> Vec<(String, i32, i64)> {
        self.positions_of(&self.partials)
    }

    /// Returns how far the lanes had read for these partials.
    pub(crate) fn positions_of(&self, partials: &PartialSet) -> Vec<(String, i32, i64)> {
        let predictions = &self.state.model.plan.topics.predictions;
        partials.positions(predictions, &self.settings.labels_topic)
    }
}

/// Returns the gates of the stage for the event of a verdict; a hold that waits for no person makes no event.
fn gates_of(analysis: &InterimAnalysis<'_>, verdict: &Verdict) -> Vec<GateState> {
    match verdict {
        Verdict::Hold {
            wait: Wait::Until(_) | Wait::Data | Wait::Health | Wait::Signal | Wait::Proof(_),
            ..
        } => Vec::new(),
        Verdict::Hold { wait: Wait::Approval, .. }
        | Verdict::Advance { .. }
        | Verdict::Drop { .. }
        | Verdict::Abort { .. }
        | Verdict::Inconclusive { .. }
        | Verdict::Conclude { .. }
        | Verdict::Promote { .. } => gates::states(analysis),
    }
}
