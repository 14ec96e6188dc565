//! The analyst lane of one partition of predictions: joins them with their labels and keeps the sums.
//!
//! Its event time is the predictions' own. It keeps two clocks, one for each input; a case is mature when both have passed its
//! window, and all labels have come that stood on Kafka when the window or the case was closed. Sums are published at every tick of event time, at the same point of the input whatever the batches are.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::case::Prediction;
use crate::domain::ids::{CaseId, Revision, RolloutName};
use crate::domain::label::Label;
use crate::domain::time::{Span, Timestamp};
use crate::engine::analyst::accumulator::{CaseScores, EvidenceAccumulator, Watch};
use crate::engine::analyst::io::{Effect, Event, Input, Planned, Row, Settings};
use crate::engine::analyst::rollout_book::RolloutBook;
use crate::engine::analyst::score::Truth;
use crate::engine::analyst::watermark::{Checkpoint, InputWatermark, PartitionWatermark};
use crate::engine::counter::Counter;
use crate::engine::partial::{Inputs, Partial};
use crate::evidence::sums::GAP_MAX;
use crate::join::entry::{
    Fresh, Joined, LabelStatus, LabelWatermark, Progress, Truth as KnownTruth, Until,
};
use crate::join::interner::Interner;
use crate::join::label_join::{Added, Credited, LabelJoin};
use crate::plan::rollout::{MissingLabels, RolloutPlan};

/// How many rollouts that are over a lane still scores cases for.
const BOOKS_CLOSED_MAX: usize = 8;
/// Label times count as stalled if they do not advance for this multiple of the idle timeout.
const STILL_AFTER: i64 = 5;

/// The analyst lane of one partition.
#[derive(Debug)]
pub struct Analyst {
    pub(crate) settings: Settings,
    pub(crate) turn: u64,
    pub(crate) inputs: Inputs,
    pub(crate) lag: (u64, u64),
    pub(crate) predictions: InputWatermark,
    pub(crate) labels: InputWatermark,
    sources: BTreeMap<i32, PartitionWatermark>,
    is_idle: bool,
    pub(crate) pending: LabelJoin,
    pub(crate) books: BTreeMap<RolloutName, RolloutBook>,
    closed: Vec<RolloutName>,
    newest: Option<Arc<RolloutPlan>>,
    pub(crate) names: Interner,
    pub(crate) unplanned: Vec<Unplanned>,
    /// Whether plans that cases wait for may have become known without an event.
    pub(crate) is_replanned: bool,
    pub(crate) ticks: BTreeMap<RolloutName, Timestamp>,
    pub(crate) restoring: BTreeMap<RolloutName, Partial>,
}

/// A case without a known plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Unplanned {
    /// When it arrived: since then it waits for its plan.
    pub since: Timestamp,
    /// The turn in which it arrived.
    pub turn: u64,
    /// The watermark of the predictions at that time.
    pub reached: Timestamp,
    /// The case.
    pub prediction: Arc<Prediction>,
}

impl Unplanned {
    fn fresh(&self) -> Fresh {
        let prediction = Arc::clone(&self.prediction);
        Fresh { prediction, turn: self.turn, taken_at: self.since }
    }
}

impl Analyst {
    /// Returns an empty lane.
    pub fn new(settings: Settings) -> Self {
        let clock = InputWatermark { seen: None, arrived: None, reached: Timestamp::MIN };
        Self {
            pending: LabelJoin::new(settings.limits),
            settings,
            turn: 0,
            inputs: Inputs::default(),
            lag: (0, 0),
            predictions: clock,
            labels: clock,
            sources: BTreeMap::new(),
            is_idle: false,
            books: BTreeMap::new(),
            closed: Vec::new(),
            newest: None,
            names: Interner::default(),
            unplanned: Vec::new(),
            is_replanned: false,
            ticks: BTreeMap::new(),
            restoring: BTreeMap::new(),
        }
    }

    /// Sets the number of the turn that begins; cases and published sums are marked with it.
    pub fn turn_is(&mut self, turn: u64) {
        self.turn = turn;
    }

    /// Returns the checkpoint for a replay that starts at the turn that begins now.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut ticks = self.ticks.clone();
        ticks.extend(self.books.iter().filter_map(|(name, b)| Some((name.clone(), b.tick?))));
        Checkpoint {
            predictions: self.predictions,
            labels: self.labels,
            sources: self.sources.clone(),
            is_idle: self.is_idle,
            ticks,
        }
    }

    /// Sets the watermarks and read positions to those of the turn that a replay starts with. Call it first.
    pub fn restore_checkpoint(&mut self, checkpoint: Checkpoint, inputs: Inputs) {
        self.inputs = inputs;
        self.predictions = checkpoint.predictions;
        self.labels = checkpoint.labels;
        self.sources = checkpoint.sources;
        self.is_idle = checkpoint.is_idle;
        self.ticks = checkpoint.ticks;
    }

    /// Takes a rollout's plan before a replay; like the event, but at no time of its own.
    pub fn restore_plan(&mut self, planned: Planned) {
        self.plan(planned, &mut Vec::new());
    }

    /// Processes one event and appends its effects.
    pub fn handle(&mut self, now: Timestamp, event: Event, out: &mut Vec<Effect>) {
        self.tick(now, out);
        match event {
            Event::Prediction { offset, mut prediction } => {
                self.inputs.predictions = self.inputs.predictions.max(offset + 1);
                self.names.share(&mut prediction);
                let prediction = Arc::from(prediction);
                self.hear_prediction(now, &prediction, out);
                self.take_in(now, prediction, out);
            }
            Event::Label { offset, source, label } => {
                self.inputs.labels = self.inputs.labels.max(offset + 1);
                // A label from the future must not make everybody's labels look complete.
                let reached = label.observed_at.min(now);
                self.add_label(now, *label, out);
                self.labels.hear(now, reached);
                if let Some(source) = source {
                    self.source(source).hear_label(now, reached);
                }
            }
            Event::Watermark { offset, mark } => {
                self.inputs.labels = self.inputs.labels.max(offset + 1);
                self.source(mark.source).hear_mark(now, &mark);
            }
            Event::Unreadable { input, offset, reason } => {
                let read = match input {
                    Input::Predictions => &mut self.inputs.predictions,
                    Input::Labels => &mut self.inputs.labels,
                };
                *read = (*read).max(offset + 1);
                out.push(Effect::Count(Counter::Refused, 1));
                out.push(Effect::Refuse { input, offset, reason });
            }
            Event::Sources(count) => {
                for source in 0..count {
                    self.source(source);
                }
            }
            Event::Plan(planned) => self.plan(*planned, out),
            Event::Lag { predictions, labels } => self.lag = (predictions, labels),
        }
        self.settle(now, out);
    }

    /// Acts on every deadline that `now` has reached.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.predictions.arrived.get_or_insert(now);
        self.labels.arrived.get_or_insert(now);
        if std::mem::take(&mut self.is_replanned) {
            self.take_in_planned(out);
        }
        let is_idle = self.lag.0 == 0 && self.predictions.is_silent(now, self.settings.idle_after);
        if is_idle {
            self.predictions.flow(now, self.settings.idle_after);
        }
        self.settle(now, out);
        self.publish_passed(is_idle, out);
        if is_idle && !self.is_idle {
            self.is_idle = true;
            self.publish_idle(out);
        }
        self.give_up_plans(now, out);
    }

    /// Returns when `tick` is next needed, if ever.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let (seen, arrived) = (self.predictions.seen?, self.predictions.arrived?);
        let silent_at = arrived + self.settings.idle_after;
        let labels_silent_at = self.labels.arrived? + self.settings.idle_after;
        let at = |event_time: Timestamp| silent_at + (event_time - seen);
        let due = self.pending.next_due().and_then(|due| {
            if due > self.predictions.reached {
                Some(at(due).max(silent_at))
            } else {
                // The partitions of label sources report again soon.
                self.sources.is_empty().then_some(labels_silent_at)
            }
        });
        let ticks = self
            .books
            .values()
            .filter(|b| b.is_live || b.is_changed)
            .filter_map(|i| Some(at(i.tick? + i.book.plan().tick).max(silent_at)));
        let idle = (!self.is_idle).then_some(silent_at);
        let unplanned = self.unplanned.first().map(|u| u.since + self.settings.plan_wait_max);
        due.into_iter().chain(ticks).chain(idle).chain(unplanned).min()
    }

    /// Returns the number of held cases.
    pub fn cases(&self) -> usize {
        self.pending.cases() + self.unplanned.len()
    }

    /// Returns the number of cases that wait for their plan, and the first of them; `None` if there are none.
    pub fn unplanned(&self) -> Option<(usize, &Unplanned)> {
        Some((self.unplanned.len(), self.unplanned.first()?))
    }

    /// Returns how many request ids have labels but no case.
    pub fn early_labels(&self) -> usize {
        self.pending.early_ids()
    }

    /// Returns the oldest turn with held cases or labels.
    pub(crate) fn oldest_turn(&self) -> Option<u64> {
        let unplanned = self.unplanned.iter().map(|u| u.turn);
        self.pending.oldest_turn().into_iter().chain(unplanned).min()
    }

    /// Advances the prediction watermark to a case's time; ticks that it passes are published before the case counts.
    fn hear_prediction(&mut self, now: Timestamp, case: &Prediction, out: &mut Vec<Effect>) {
        self.is_idle = false;
        let before = self.predictions.reached;
        // A case from the future, which only a stranger or a clock that went back can write, must not make the others mature.
        self.predictions.hear(now, case.event_time().min(now));
        let reached = self.predictions.reached;
        if before > Timestamp::MIN && reached - before > GAP_MAX {
            for open in self.books.values_mut().filter(|b| b.is_live) {
                let tick = open.book.plan().tick;
                open.book.sums_mut().begin_at(reached - tick);
            }
        }
        self.settle(now, out);
        self.publish_passed(false, out);
    }

    fn take_in(&mut self, now: Timestamp, prediction: Arc<Prediction>, out: &mut Vec<Effect>) {
        let is_known = self.pending.holds(prediction.case)
            || self.unplanned.iter().any(|u| u.prediction.case == prediction.case);
        if is_known {
            out.push(Effect::Count(Counter::PredictionDuplicate, 1));
            return;
        }
        out.push(Effect::Count(Counter::Predictions, 1));
        let (turn, reached) = (self.turn, self.predictions.reached);
        let unplanned = Unplanned { since: now, turn, reached, prediction };
        if self.is_planned(&unplanned.prediction) {
            self.hold(&unplanned, out);
        } else {
            self.unplanned.push(unplanned);
        }
    }

    /// Returns whether everything is known that the case's evidence needs.
    ///
    /// A replay that has not come to the sums of before the restart knows no more than what was known then: what waited then is not in
    /// those sums, and must come after them.
    pub(crate) fn is_planned(&self, prediction: &Prediction) -> bool {
        let Some(rollout) = &prediction.rollout else { return true };
        let Some(open) = self.books.get(rollout) else { return false };
        let then = self.restoring.get(rollout).map(|r| r.revision);
        let known =
            then.filter(|k| *k > Revision(0)).map_or(open.revision, |r| r.min(open.revision));
        known >= prediction.revision
    }

    fn hold(&mut self, case: &Unplanned, out: &mut Vec<Effect>) {
        let prediction = &case.prediction;
        let book = prediction.rollout.as_ref().and_then(|r| self.books.get_mut(r));
        let plan = book.as_ref().map(|b| Arc::clone(b.book.plan())).or_else(|| self.newest.clone());
        let (window, keep) = self.settings.spans(plan.as_deref());
        match self.pending.add(case.fresh(), window, keep) {
            Added::Duplicate => out.push(Effect::Count(Counter::PredictionDuplicate, 1)),
            added @ (Added::Fresh | Added::Twin) => {
                if added == Added::Twin {
                    out.push(Effect::Count(Counter::RequestIdDuplicate, 1));
                }
                if let Some(open) = book {
                    let Settings { partition, partitions, .. } = self.settings;
                    let oldest = case.reached - open.book.plan().tick;
                    open.book.respond(prediction, Watch { partition, partitions, oldest });
                    open.touch(self.predictions.reached);
                }
            }
        }
    }

    /// Returns how long a case waits for its label, and how long it is kept after that.
    pub(crate) fn spans_of(&self, prediction: &Prediction) -> (Span, Span) {
        let book = prediction.rollout.as_ref().and_then(|r| self.books.get(r));
        let plan = book.map(|b| b.book.plan()).or(self.newest.as_ref());
        self.settings.spans(plan.map(|p| &**p))
    }

    /// Keeps a label for the case that it belongs to, of which nothing follows now.
    pub(crate) fn keep_label(&mut self, now: Timestamp, label: Label) {
        self.add_label(now, label, &mut Vec::new());
    }

    fn add_label(&mut self, now: Timestamp, label: Label, out: &mut Vec<Effect>) {
        let held = self
            .books
            .values()
            .map(|b| (b.book.plan().maturity, b.book.plan().keep))
            .chain([(self.settings.window, self.settings.keep)])
            .max_by_key(|(window, keep)| window.0 + keep.0);
        let (window, keep) = held.unwrap_or((self.settings.window, self.settings.keep));
        let until = Until {
            predictions: label.observed_at.max(self.predictions.reached) + window + keep,
            now: now + window + keep,
        };
        match self.pending.add_label(label, until, self.turn) {
            Credited::Early => {}
            Credited::Orphan => out.push(Effect::Count(Counter::LabelOrphaned, 1)),
            Credited::Duplicate => out.push(Effect::Count(Counter::LabelDuplicate, 1)),
            Credited::Contradiction => out.push(Effect::Count(Counter::LabelContradiction, 1)),
            Credited::TooMany => out.push(Effect::Count(Counter::PendingEvicted, 1)),
            Credited::Joined(rows) => {
                for joined in rows {
                    self.write_later_row(joined, out);
                }
            }
        }
    }

    /// Matures, forgets and bounds what the clocks allow.
    fn settle(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let progress = self.progress(now);
        while let Some((row, later)) = self.pending.mature(progress) {
            self.write_final_row(row, out);
            if let Some(later) = later {
                self.write_later_row(later, out);
            }
        }
        let evicted = self.pending.forget(progress.predictions, now);
        let mut too_many = evicted.kept;
        while self.pending.is_over_full() {
            let Some((row, later)) = self.pending.mature_oldest(progress) else { break };
            too_many += 1;
            self.write_final_row(row, out);
            if let Some(later) = later {
                self.write_later_row(later, out);
            }
            too_many += self.pending.forget(progress.predictions, now).kept;
        }
        if too_many > 0 {
            out.push(Effect::Count(Counter::PendingEvicted, too_many));
        }
        if evicted.early > 0 {
            out.push(Effect::Count(Counter::PendingEvicted, evicted.early));
        }
        if evicted.orphaned > 0 {
            out.push(Effect::Count(Counter::LabelOrphaned, evicted.orphaned));
        }
    }

    fn source(&mut self, source: i32) -> &mut PartitionWatermark {
        self.sources.entry(source).or_insert(PartitionWatermark::UNKNOWN)
    }

    /// Returns how far both inputs have come. Without partitions that are reported on, labels that are idle have all come.
    fn progress(&self, now: Timestamp) -> Progress {
        let Settings { idle_after, .. } = self.settings;
        let predictions = self.predictions.reached;
        if self.sources.is_empty() {
            let are_read = self.lag.1 == 0;
            let is_silent = are_read && self.labels.is_silent(now, idle_after);
            let labels = if is_silent { Timestamp::MAX } else { self.labels.reached };
            let read_to = if are_read { Timestamp::MAX } else { Timestamp::MIN };
            let of_all = |time: Timestamp| LabelWatermark { time, slowest: None };
            return Progress {
                predictions,
                labels: of_all(labels),
                labels_without_stalled: of_all(read_to),
                read_to,
            };
        }
        let least = |of: &dyn Fn(&PartitionWatermark) -> Timestamp| {
            let slowest = self.sources.iter().map(|(id, s)| (of(s), *id)).min();
            let time = slowest.map_or(Timestamp::MIN, |(time, _)| time);
            LabelWatermark { time, slowest: slowest.map(|(_, id)| id) }
        };
        Progress {
            predictions,
            labels: least(&PartitionWatermark::complete_to),
            labels_without_stalled: least(&|s| {
                s.complete_beside_standing(idle_after.times(STILL_AFTER))
            }),
            read_to: least(&|s| s.read_to).time,
        }
    }

    fn write_final_row(&mut self, joined: Joined, out: &mut Vec<Effect>) {
        let reached = self.predictions.reached;
        let scores = match self.book_of(&joined) {
            None => CaseScores::new(),
            Some(open) => {
                let plan = Arc::clone(open.book.plan());
                let truth = truth(joined.truth.as_ref(), &plan);
                let scores = open.book.mature(&joined.prediction, truth, joined.known_by);
                open.touch(reached);
                let (clipped, unscored) = open.book.take_faults();
                if clipped > 0 {
                    out.push(Effect::Count(Counter::ValueClipped, clipped));
                }
                if unscored > 0 {
                    out.push(Effect::Count(Counter::ValueMissing, unscored));
                }
                scores
            }
        };
        self.write(joined, scores, out);
    }

    fn write_later_row(&mut self, joined: Joined, out: &mut Vec<Effect>) {
        let reached = self.predictions.reached;
        let scores = match self.book_of(&joined) {
            None => CaseScores::new(),
            Some(open) => {
                // By what there was and is, not by the status: a label that follows a retraction is a correction.
                if joined.before.is_some() != joined.truth.is_some() {
                    open.book.relabel(&joined.prediction, joined.truth.is_some());
                }
                let plan = Arc::clone(open.book.plan());
                let before = truth(joined.before.as_ref(), &plan);
                let after = truth(joined.truth.as_ref(), &plan);
                open.book.amend(&joined.prediction, before, after);
                open.touch(reached);
                open.book.scores(&joined.prediction, after)
            }
        };
        self.write(joined, scores, out);
    }

    fn write(&self, joined: Joined, scores: CaseScores, out: &mut Vec<Effect>) {
        out.push(Effect::Count(Counter::AnalysisRows, 1));
        match joined.status {
            LabelStatus::Labelled => out.push(Effect::Count(Counter::LabelJoined, 1)),
            LabelStatus::Late => out.push(Effect::Count(Counter::LabelLate, 1)),
            LabelStatus::Missing | LabelStatus::Corrected | LabelStatus::Retracted => {}
        }
        let model = self.settings.model.clone();
        out.push(Effect::Row(Box::new(Row { model, joined, scores })));
    }

    fn book_of(&mut self, joined: &Joined) -> Option<&mut RolloutBook> {
        self.books.get_mut(joined.prediction.rollout.as_ref()?)
    }

    fn plan(&mut self, planned: Planned, out: &mut Vec<Effect>) {
        let name = planned.plan.name.clone();
        let Planned { plan, design, stable, revision, is_live } = planned;
        if is_live || self.newest.is_none() {
            self.newest = Some(Arc::clone(&plan));
        }
        let tick = self.ticks.remove(&name);
        let replay_turn = self.oldest_turn().unwrap_or(self.turn).min(self.turn);
        let reached = self.predictions.reached;
        let open = self.books.entry(name.clone()).or_insert_with(|| RolloutBook {
            tick: tick.or((reached > Timestamp::MIN).then(|| reached.floor_to(plan.tick))),
            book: EvidenceAccumulator::new(Arc::clone(&plan), design.clone(), stable)
                .of_lanes(self.settings.partitions),
            revision,
            is_live,
            is_changed: false,
            replay_turn,
        });
        open.book.redesign(design);
        open.revision = open.revision.max(revision);
        open.is_live = is_live;
        self.closed.retain(|c| *c != name);
        if !is_live {
            self.closed.push(name);
            if self.closed.len() > BOOKS_CLOSED_MAX {
                self.forget_oldest_book();
            }
        }
        self.take_in_planned(out);
    }

    /// Processes the cases whose plans have arrived.
    fn take_in_planned(&mut self, out: &mut Vec<Effect>) {
        let (ready, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unplanned)
            .into_iter()
            .partition(|u| self.is_planned(&u.prediction));
        self.unplanned = waiting;
        for it in ready {
            self.hold(&it, out);
        }
    }

    /// Drops the rollout that ended first, regardless of the order in which the lane learned of them.
    fn forget_oldest_book(&mut self) {
        let revision = |name: &RolloutName| self.books.get(name).map(|n| n.revision);
        let oldest = (0..self.closed.len()).min_by_key(|l| revision(&self.closed[*l]));
        if let Some(oldest) = oldest {
            let name = self.closed.remove(oldest);
            self.books.remove(&name);
        }
    }

    /// Joins the cases whose plan never arrives, without evidence.
    fn give_up_plans(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        while let Some(first) = self.unplanned.first() {
            if first.since + self.settings.plan_wait_max > now {
                return;
            }
            let it = self.unplanned.remove(0);
            let Settings { window, keep, .. } = self.settings;
            match self.pending.add(it.fresh(), window, keep) {
                Added::Fresh | Added::Twin => {
                    out.push(Effect::Count(Counter::PredictionUnplanned, 1));
                }
                Added::Duplicate => out.push(Effect::Count(Counter::PredictionDuplicate, 1)),
            }
        }
    }

    /// Returns whether a case is held, for tests and `inspect`.
    pub fn holds(&self, case: CaseId) -> bool {
        self.pending.holds(case)
    }
}

fn truth<'a>(known: Option<&'a KnownTruth>, plan: &RolloutPlan) -> Truth<'a> {
    match (known, plan.missing) {
        (Some(truth), _) => Truth::Known(&truth.value),
        (None, MissingLabels::Negative) => Truth::Negative,
        (None, MissingLabels::Exclude) => Truth::Unknown,
    }
}
