//! Predictions awaiting their labels, and labels awaiting their predictions.
//!
//! A label counts when it was observed within the window after its case, and stood on Kafka when the case was closed or its window was over,
//! whichever was later: by the times in the records, never by the order in which they came. A label that comes to Kafka later gives a later row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::domain::ids::{CaseId, RequestId};
use crate::domain::label::Label;
use crate::domain::time::{Span, Timestamp};
use crate::join::closed_ids::ClosedIds;
use crate::join::entry::{
    Entry, Fresh, Joined, LabelStatus, LabelWatermark, MaturedAt, Progress, Until, Waiting, truth,
};
use crate::join::label_repeats::{Repeats, repeats};

/// The limits of a label join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of held cases, including mature ones.
    pub cases_max: usize,
    /// How many request ids may have labels without a case.
    pub early_ids_max: usize,
    /// How many versions of its label one request may have.
    pub label_versions_max: usize,
    /// Maximum number of remembered request ids of dropped cases.
    pub closed_ids_max: usize,
}

/// The two clocks of a lane, in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The watermark of the predictions.
    pub predictions: Timestamp,
    /// The watermark of the labels.
    pub labels: Timestamp,
    /// Whether every label that there is has been read.
    pub are_labels_read: bool,
}

/// The result of adding a case.
#[must_use = "a duplicate is to be counted"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is held now.
    Fresh,
    /// It is held now, and so is another case with the same request id.
    Twin,
    /// It was held already; nothing changed.
    Duplicate,
}

/// The result of adding a label.
#[must_use = "rows are to be written and the rest counted"]
#[derive(Clone, Debug, PartialEq)]
pub enum Credited {
    /// No case has this id yet: it is kept.
    Early,
    /// The cases of this id are closed and dropped; the label is kept in case one arrives again.
    Orphan,
    /// It was taken in by the cases that wait; rows follow for those that were mature.
    Joined(Vec<Joined>),
    /// This version was known already; nothing changed.
    Duplicate,
    /// This version was known already with another value; the first counts, and nothing changed.
    Contradiction,
    /// The request has too many versions of its label; it was thrown away.
    TooMany,
}

/// The cases and labels dropped because of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Mature cases that no longer wait for late labels.
    pub kept: u64,
    /// Labels without a case.
    pub early: u64,
    /// Expired labels without a case.
    pub orphaned: u64,
}

/// Everything that waits in one lane.
#[derive(Debug)]
pub struct LabelJoin {
    limits: Limits,
    entries: HashMap<RequestId, Entry>,
    ids: BTreeMap<CaseId, RequestId>,
    due: BTreeSet<(Timestamp, CaseId)>,
    due_without_labels: BTreeSet<(Timestamp, CaseId)>,
    expiring: BTreeSet<(Timestamp, CaseId)>,
    /// What has labels but no case, by when the predictions' clock has passed what they are kept for.
    early: BTreeSet<(Timestamp, RequestId)>,
    /// Of these, what that clock has passed, by when the clock on the wall has, too.
    passed: BTreeSet<(Timestamp, RequestId)>,
    closed: ClosedIds,
    turns: BTreeMap<u64, u64>,
    evicted: Evicted,
}

impl LabelJoin {
    /// Returns an empty join.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            ids: BTreeMap::new(),
            due: BTreeSet::new(),
            due_without_labels: BTreeSet::new(),
            expiring: BTreeSet::new(),
            early: BTreeSet::new(),
            passed: BTreeSet::new(),
            closed: ClosedIds::new(limits.closed_ids_max),
            turns: BTreeMap::new(),
            evicted: Evicted::default(),
        }
    }

    /// Holds a case until its label state is read at age `window`, and `keep` longer for late labels.
    pub fn add(&mut self, fresh: Fresh, window: Span, keep: Span) -> Added {
        let Fresh { prediction, turn, taken_at } = fresh;
        let case = prediction.case;
        if self.ids.contains_key(&case) {
            return Added::Duplicate;
        }
        let id = prediction.request_id.clone();
        let at = prediction.event_time();
        let waiting = Waiting {
            due: at + window,
            due_without_labels: at + window + window,
            // A case from the future, which only a stranger or a clock that went back can write, must not hold up the others.
            closed_at: prediction.served_at.min(taken_at),
            expires: at + window + keep,
            turn,
            row: None,
            prediction,
        };
        self.due.insert((waiting.due, case));
        self.due_without_labels.insert((waiting.due_without_labels, case));
        *self.turns.entry(turn).or_default() += 1;
        self.ids.insert(case, id.clone());
        let entry = self.entries.entry(id.clone()).or_default();
        let is_twin = !entry.cases.is_empty();
        entry.cases.insert(waiting);
        entry.had_case = true;
        let until = entry.labels_until;
        self.unlist(until, id);
        if is_twin { Added::Twin } else { Added::Fresh }
    }

    /// Takes in a label; it is kept until both clocks have passed `until`, for cases yet to come.
    pub fn add_label(&mut self, label: Label, until: Until, turn: u64) -> Credited {
        let id = label.request_id.clone();
        let closed = &self.closed;
        let entry = self
            .entries
            .entry(id.clone())
            .or_insert_with(|| Entry { had_case: closed.holds(&id), ..Entry::default() });
        match repeats(&entry.labels, &label) {
            Repeats::Nothing => {}
            Repeats::Same => return Credited::Duplicate,
            Repeats::Other => return Credited::Contradiction,
        }
        if entry.labels.len() >= self.limits.label_versions_max {
            return Credited::TooMany;
        }
        let before = truth(&entry.labels, Timestamp::MAX);
        if entry.labels.is_empty() {
            entry.label_turn = turn;
            *self.turns.entry(turn).or_default() += 1;
        }
        entry.labels.push(label);
        let known_until = entry.labels_until;
        entry.labels_until = known_until.max(until);
        if entry.cases.is_empty() {
            let (until, had_case) = (entry.labels_until, entry.had_case);
            self.unlist(known_until, id.clone());
            self.early.insert((until.predictions, id));
            self.bound_early();
            return if had_case { Credited::Orphan } else { Credited::Early };
        }
        let truth = truth(&entry.labels, Timestamp::MAX);
        let mut rows = Vec::new();
        if truth != before {
            for waiting in entry.cases.iter_mut() {
                rows.extend(waiting.follow_up(before.as_ref(), truth.as_ref()));
            }
        }
        Credited::Joined(rows)
    }

    /// Returns the next mature case, with its final row and any row that follows at once.
    ///
    /// A case matures when predictions and labels have passed its window, or twice the window where the times of labels stand still: those
    /// must not hold up everything forever. In both cases the labels must have come that stood on Kafka when the case was closed, which for
    /// a request out of a backlog is long after its window.
    pub fn mature(&mut self, progress: Progress) -> Option<(Joined, Option<Joined>)> {
        let Progress { predictions, labels, labels_without_stalled, read_to } = progress;
        let is_passed = |due: Timestamp, labels: LabelWatermark, case: CaseId| {
            due <= predictions.min(labels.time)
                && self.closed_at(case).is_some_and(|c| c <= read_to)
        };
        let (case, labels) = match (self.due.first(), self.due_without_labels.first()) {
            (Some((due, case)), _) if is_passed(*due, labels, *case) => (*case, labels),
            (_, Some((due, case))) if is_passed(*due, labels_without_stalled, *case) => {
                (*case, labels_without_stalled)
            }
            (_, _) => return None,
        };
        self.close(case, MaturedAt { event_time: predictions, labels })
    }

    fn closed_at(&self, case: CaseId) -> Option<Timestamp> {
        self.entries.get(self.ids.get(&case)?)?.cases.get(case).map(|c| c.closed_at)
    }

    /// Reads the label state of a case.
    fn close(&mut self, case: CaseId, matured_at: MaturedAt) -> Option<(Joined, Option<Joined>)> {
        let id = self.ids.get(&case)?;
        let entry = self.entries.get_mut(id)?;
        let waiting = entry.cases.get_mut(case)?;
        self.due.remove(&(waiting.due, case));
        self.due_without_labels.remove(&(waiting.due_without_labels, case));
        self.expiring.insert((waiting.expires, case));
        let in_time = truth(&entry.labels, waiting.due);
        let status = match in_time {
            Some(_) => LabelStatus::Labelled,
            None => LabelStatus::Missing,
        };
        waiting.row = Some((1, status));
        let row = Joined {
            prediction: Arc::clone(&waiting.prediction),
            truth: in_time.clone(),
            before: None,
            known_by: waiting.known_by(&entry.labels),
            status,
            row_version: 1,
            matured_at: Some(matured_at),
        };
        let newest = truth(&entry.labels, Timestamp::MAX);
        let follow_up = if newest == in_time {
            None
        } else {
            waiting.follow_up(in_time.as_ref(), newest.as_ref())
        };
        Some((row, follow_up))
    }

    /// Notes the newest row of a case that was written before the lane was filled again.
    pub fn has_row(&mut self, case: CaseId, row: (u32, LabelStatus)) {
        let Some(entry) = self.ids.get(&case).and_then(|c| self.entries.get_mut(c)) else {
            return;
        };
        let Some(waiting) = entry.cases.get_mut(case) else { return };
        self.due.remove(&(waiting.due, case));
        self.due_without_labels.remove(&(waiting.due_without_labels, case));
        self.expiring.insert((waiting.expires, case));
        waiting.row = Some(row);
    }

    /// Drops expired entries, and entries above the limits; returns those that were dropped early.
    pub fn forget(&mut self, predictions: Timestamp, now: Timestamp) -> Evicted {
        while let Some((expires, case)) = self.expiring.first().copied() {
            if expires > predictions {
                break;
            }
            self.remove(case, predictions);
        }
        while let Some((until, id)) = self.early.first().cloned() {
            if until > predictions {
                break;
            }
            self.early.remove(&(until, id.clone()));
            if let Some(entry) = self.entries.get(&id) {
                self.passed.insert((entry.labels_until.now, id));
            }
        }
        while let Some((until, id)) = self.passed.first().cloned() {
            if until > now {
                break;
            }
            self.passed.remove(&(until, id.clone()));
            // Of ids that had cases each label was counted when it came.
            if let Some(entry) = self.entries.get(&id).filter(|i| !i.had_case) {
                self.evicted.orphaned += entry.labels.len() as u64;
            }
            self.drop_entry(&id);
        }
        self.bound_cases(predictions);
        std::mem::take(&mut self.evicted)
    }

    /// Returns the prediction watermark at which the next entry is due, if any.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Returns the oldest turn with held cases or labels.
    pub fn oldest_turn(&self) -> Option<u64> {
        self.turns.keys().next().copied()
    }

    /// Returns the number of held cases.
    pub fn cases(&self) -> usize {
        self.ids.len()
    }

    /// Returns how many request ids have labels but no case.
    pub fn early_ids(&self) -> usize {
        self.early.len() + self.passed.len()
    }

    /// Returns all entries by request id: those with cases first, in the order of their oldest case.
    pub fn entries(&self) -> impl Iterator<Item = (&RequestId, &Entry)> {
        let of = |id| self.entries.get(id).map(|i| (id, i));
        let is_first = |case: CaseId, entry: &Entry| {
            entry.cases.first().is_some_and(|c| c.prediction.case == case)
        };
        let with_cases = self
            .ids
            .iter()
            .filter_map(move |(case, id)| of(id).filter(|(_, entry)| is_first(*case, entry)));
        with_cases.chain(self.early.iter().chain(&self.passed).filter_map(move |(_, id)| of(id)))
    }

    /// Restores what `entries` returned, into a join without it.
    pub fn put_back(&mut self, id: RequestId, entry: Entry) {
        for it in entry.cases.iter() {
            let case = it.prediction.case;
            self.ids.insert(case, id.clone());
            if it.row.is_some() {
                self.expiring.insert((it.expires, case));
            } else {
                self.due.insert((it.due, case));
                self.due_without_labels.insert((it.due_without_labels, case));
            }
            *self.turns.entry(it.turn).or_default() += 1;
        }
        if !entry.labels.is_empty() {
            *self.turns.entry(entry.label_turn).or_default() += 1;
        }
        if entry.cases.is_empty() {
            self.early.insert((entry.labels_until.predictions, id.clone()));
        }
        self.entries.insert(id, entry);
    }

    /// Returns whether a case is held.
    pub fn holds(&self, case: CaseId) -> bool {
        self.ids.contains_key(&case)
    }

    /// Returns whether there are more cases than there may be, so that the oldest must mature now.
    pub fn is_over_full(&self) -> bool {
        self.ids.len() > self.limits.cases_max
    }

    /// Matures the oldest immature case before its time, because there is too much.
    pub fn mature_oldest(&mut self, progress: Progress) -> Option<(Joined, Option<Joined>)> {
        let (_, case) = self.due.first().copied()?;
        let Progress { predictions, labels, .. } = progress;
        self.close(case, MaturedAt { event_time: predictions, labels })
    }

    fn remove(&mut self, case: CaseId, predictions: Timestamp) {
        let Some(id) = self.ids.remove(&case) else { return };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(waiting) = entry.cases.remove(case) else { return };
        self.due.remove(&(waiting.due, case));
        self.due_without_labels.remove(&(waiting.due_without_labels, case));
        self.expiring.remove(&(waiting.expires, case));
        release(&mut self.turns, waiting.turn);
        if !entry.cases.is_empty() {
            return;
        }
        self.closed.add(&id);
        let until = entry.labels_until.predictions;
        if entry.labels.is_empty() || until <= predictions {
            self.drop_entry(&id);
        } else {
            self.early.insert((until, id));
            self.bound_early();
        }
    }

    /// Takes an id that has labels from the lists of those without a case.
    fn unlist(&mut self, until: Until, id: RequestId) {
        let listed = (until.predictions, id);
        if !self.early.remove(&listed) {
            self.passed.remove(&(until.now, listed.1));
        }
    }

    fn drop_entry(&mut self, id: &RequestId) {
        if let Some(entry) = self.entries.remove(id)
            && !entry.labels.is_empty()
        {
            release(&mut self.turns, entry.label_turn);
        }
    }

    fn bound_cases(&mut self, predictions: Timestamp) {
        while self.is_over_full() {
            let Some((_, case)) = self.expiring.first().copied() else { break };
            self.remove(case, predictions);
            self.evicted.kept += 1;
        }
    }

    fn bound_early(&mut self) {
        while self.early_ids() > self.limits.early_ids_max {
            let oldest = self.passed.pop_first().or_else(|| self.early.pop_first());
            let Some((_, id)) = oldest else { return };
            self.drop_entry(&id);
            self.evicted.early += 1;
        }
    }
}

fn release(turns: &mut BTreeMap<u64, u64>, turn: u64) {
    if let Some(count) = turns.get_mut(&turn) {
        *count -= 1;
        if *count == 0 {
            turns.remove(&turn);
        }
    }
}

#[cfg(test)]
#[path = "label_join_tests.rs"]
mod tests;
