//! The analyst lane of one partition of predictions: joins them with their labels and keeps the sums.
//!
//! Event time is that of the predictions. Each input has a watermark. A case is mature when both have passed its window, and every label
//! has arrived that was on Kafka when the window or the case was closed. Sums are published at every tick of event time, at the same
//! point of the input whatever the batches are.

use std::sync::Arc;

use crate::domain::case::Prediction;
use crate::domain::ids::CaseId;
use crate::domain::label::Label;
use crate::domain::time::{Span, Timestamp};
use crate::engine::analyst::accumulator::{CaseScores, Watch};
use crate::engine::analyst::io::{Effect, Event, Input, Planned, Row, Settings};
use crate::engine::analyst::rollout_books::RolloutBooks;
use crate::engine::analyst::score::Truth;
use crate::engine::analyst::watermark::{Checkpoint, Watermarks};
use crate::engine::counter::Counter;
use crate::engine::partial::Inputs;
use crate::evidence::sums::GAP_MAX;
use crate::join::entry::{Fresh, Joined, LabelStatus, Progress, Truth as KnownTruth, Until};
use crate::join::interner::Interner;
use crate::join::label_join::{Added, Credited, LabelJoin};
use crate::plan::rollout::{MissingLabels, RolloutPlan};

/// The analyst lane of one partition.
#[derive(Debug)]
pub struct Analyst {
    pub(crate) settings: Settings,
    pub(crate) turn: u64,
    pub(crate) inputs: Inputs,
    pub(crate) lag: (u64, u64),
    pub(crate) watermarks: Watermarks,
    pub(crate) pending: LabelJoin,
    pub(crate) books: RolloutBooks,
    pub(crate) names: Interner,
    pub(crate) unplanned: Vec<Unplanned>,
    /// Whether plans that cases wait for may have become known without an event.
    pub(crate) is_replanned: bool,
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
        Self {
            pending: LabelJoin::new(settings.limits),
            settings,
            turn: 0,
            inputs: Inputs::default(),
            lag: (0, 0),
            watermarks: Watermarks::new(),
            books: RolloutBooks::default(),
            names: Interner::default(),
            unplanned: Vec::new(),
            is_replanned: false,
        }
    }

    /// Sets the number of the turn that begins; cases and published sums are marked with it.
    pub fn turn_is(&mut self, turn: u64) {
        self.turn = turn;
    }

    /// Returns the checkpoint for a replay that starts at the turn that begins now.
    pub fn checkpoint(&self) -> Checkpoint {
        let Watermarks { predictions, labels, sources, is_idle } = self.watermarks.clone();
        Checkpoint { predictions, labels, sources, is_idle, ticks: self.books.ticks() }
    }

    /// Sets the watermarks and read positions to those of the turn that a replay starts with. Call it first.
    pub fn restore_checkpoint(&mut self, checkpoint: Checkpoint, inputs: Inputs) {
        self.inputs = inputs;
        let Checkpoint { predictions, labels, sources, is_idle, ticks } = checkpoint;
        self.watermarks = Watermarks { predictions, labels, sources, is_idle };
        self.books.restore_ticks(ticks);
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
                self.advance_predictions(now, &prediction, out);
                self.take_in(now, prediction, out);
            }
            Event::Label { offset, source, label } => {
                self.inputs.labels = self.inputs.labels.max(offset + 1);
                // A label from the future must not make everybody's labels look complete.
                let reached = label.observed_at.min(now);
                self.add_label(now, *label, out);
                self.watermarks.labels.advance(now, reached);
                if let Some(source) = source {
                    self.watermarks.source(source).add_label(now, reached);
                }
            }
            Event::Watermark { offset, mark } => {
                self.inputs.labels = self.inputs.labels.max(offset + 1);
                self.watermarks.source(mark.source).add_report(now, &mark);
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
                    self.watermarks.source(source);
                }
            }
            Event::Plan(planned) => self.plan(*planned, out),
            Event::Lag { predictions, labels } => self.lag = (predictions, labels),
        }
        self.settle(now, out);
    }

    /// Acts on every deadline that `now` has reached.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.watermarks.predictions.arrived.get_or_insert(now);
        self.watermarks.labels.arrived.get_or_insert(now);
        if std::mem::take(&mut self.is_replanned) {
            self.take_in_planned(out);
        }
        let idle_after = self.settings.idle_after;
        let is_idle = self.lag.0 == 0 && self.watermarks.predictions.is_silent(now, idle_after);
        if is_idle {
            self.watermarks.predictions.flow(now, idle_after);
        }
        self.settle(now, out);
        self.publish_passed(is_idle, out);
        if is_idle && !self.watermarks.is_idle {
            self.watermarks.is_idle = true;
            self.publish_idle(out);
        }
        self.give_up_plans(now, out);
    }

    /// Returns when `tick` is next needed, if ever.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let Watermarks { predictions, labels, sources, is_idle } = &self.watermarks;
        let (seen, arrived) = (predictions.seen?, predictions.arrived?);
        let silent_at = arrived + self.settings.idle_after;
        let labels_silent_at = labels.arrived? + self.settings.idle_after;
        let at = |event_time: Timestamp| silent_at + (event_time - seen);
        let due = self.pending.next_due().and_then(|due| {
            if due > predictions.reached {
                Some(at(due).max(silent_at))
            } else {
                // The partitions of label sources report again soon.
                sources.is_empty().then_some(labels_silent_at)
            }
        });
        let books = self.books.iter().map(|(_, book)| book).filter(|b| b.is_due());
        let ticks = books.filter_map(|b| Some(at(b.tick? + b.sums.plan().tick).max(silent_at)));
        let idle = (!is_idle).then_some(silent_at);
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

    /// Moves the prediction clock to a case's time; what that passes is published before the case counts.
    fn advance_predictions(&mut self, now: Timestamp, case: &Prediction, out: &mut Vec<Effect>) {
        self.watermarks.is_idle = false;
        let before = self.watermarks.predictions.reached;
        // A case from the future, which only a stranger or a clock that went back can write, must not make the others mature.
        self.watermarks.predictions.advance(now, case.event_time().min(now));
        let reached = self.watermarks.predictions.reached;
        if before > Timestamp::MIN && reached - before > GAP_MAX {
            for book in self.books.iter_mut().filter(|b| b.is_live) {
                let tick = book.sums.plan().tick;
                book.sums.sums_mut().begin_at(reached - tick);
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
        let (turn, reached) = (self.turn, self.watermarks.predictions.reached);
        let unplanned = Unplanned { since: now, turn, reached, prediction };
        if self.books.has_plan_of(&unplanned.prediction) {
            self.hold(&unplanned, out);
        } else {
            self.unplanned.push(unplanned);
        }
    }

    fn hold(&mut self, case: &Unplanned, out: &mut Vec<Effect>) {
        let prediction = &case.prediction;
        let (window, keep) = self.spans_of(prediction);
        match self.pending.add(case.fresh(), window, keep) {
            Added::Duplicate => out.push(Effect::Count(Counter::PredictionDuplicate, 1)),
            added @ (Added::Fresh | Added::Twin) => {
                if added == Added::Twin {
                    out.push(Effect::Count(Counter::RequestIdDuplicate, 1));
                }
                self.respond(prediction, case.reached);
            }
        }
    }

    /// Returns how long a case waits for its label, and how long it is kept after that.
    pub(crate) fn spans_of(&self, prediction: &Prediction) -> (Span, Span) {
        self.settings.spans(self.books.plan_of(prediction))
    }

    /// Counts the answers of a case.
    pub(crate) fn respond(&mut self, prediction: &Prediction, reached: Timestamp) {
        let Settings { partition, partitions, .. } = self.settings;
        if let Some(book) = self.books.of_mut(prediction) {
            let oldest = reached - book.sums.plan().tick;
            book.sums.respond(prediction, Watch { partition, partitions, oldest });
            book.touch(self.watermarks.predictions.reached);
        }
    }

    /// Keeps a label for the case that it belongs to, of which nothing follows now.
    pub(crate) fn keep_label(&mut self, now: Timestamp, label: Label) {
        self.add_label(now, label, &mut Vec::new());
    }

    fn add_label(&mut self, now: Timestamp, label: Label, out: &mut Vec<Effect>) {
        let (window, keep) = self.books.longest_spans(&self.settings);
        let reached = self.watermarks.predictions.reached;
        let until = Until {
            predictions: label.observed_at.max(reached) + window + keep,
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

    fn progress(&self, now: Timestamp) -> Progress {
        self.watermarks.progress(now, self.settings.idle_after, self.lag.1 == 0)
    }

    fn write_final_row(&mut self, joined: Joined, out: &mut Vec<Effect>) {
        let reached = self.watermarks.predictions.reached;
        let scores = match self.books.of_mut(&joined.prediction) {
            None => CaseScores::new(),
            Some(book) => {
                let plan = Arc::clone(book.sums.plan());
                let truth = truth(joined.truth.as_ref(), &plan);
                let scores = book.sums.mature(&joined.prediction, truth, joined.known_by);
                book.touch(reached);
                let (clipped, unscored) = book.sums.take_faults();
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
        let reached = self.watermarks.predictions.reached;
        let scores = match self.books.of_mut(&joined.prediction) {
            None => CaseScores::new(),
            Some(book) => {
                // By what there was and is, not by the status: a label that follows a retraction is a correction.
                if joined.before.is_some() != joined.truth.is_some() {
                    book.sums.relabel(&joined.prediction, joined.truth.is_some());
                }
                let plan = Arc::clone(book.sums.plan());
                let before = truth(joined.before.as_ref(), &plan);
                let after = truth(joined.truth.as_ref(), &plan);
                let scores = book.sums.amend(&joined.prediction, before, after);
                book.touch(reached);
                scores
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

    fn plan(&mut self, planned: Planned, out: &mut Vec<Effect>) {
        let replay_turn = self.oldest_turn().unwrap_or(self.turn).min(self.turn);
        let reached = self.watermarks.predictions.reached;
        self.books.plan(planned, (reached, replay_turn), self.settings.partitions);
        self.take_in_planned(out);
    }

    /// Processes the cases whose plans have arrived.
    fn take_in_planned(&mut self, out: &mut Vec<Effect>) {
        let (ready, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unplanned)
            .into_iter()
            .partition(|u| self.books.has_plan_of(&u.prediction));
        self.unplanned = waiting;
        for it in ready {
            self.hold(&it, out);
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
