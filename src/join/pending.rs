//! Predictions awaiting their labels, and labels awaiting their predictions.
//!
//! What counts is decided by the times in the records, never by the order in which they came: a label counts when it was
//! observed within the window after its case. The order of arrival can only decide whether a row is final or a later one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::domain::case::Prediction;
use crate::domain::ids::{CaseId, RequestId};
use crate::domain::label::Label;
use crate::domain::time::{Span, Timestamp};
use crate::join::entry::{Entry, Joined, LabelStatus, Waiting, truth};

/// How much may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many cases may be held, mature ones included.
    pub cases_max: usize,
    /// How many request ids may have labels without a case.
    pub early_ids_max: usize,
    /// How many versions of its label one request may have.
    pub label_versions_max: usize,
}

/// The two clocks of a lane, in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// How far the predictions have come.
    pub predictions: Timestamp,
    /// How far the labels have come.
    pub labels: Timestamp,
    /// Whether every label that there is has been read.
    pub are_labels_read: bool,
}

/// What adding a case did.
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

/// What a label did.
#[must_use = "rows are to be written and the rest counted"]
#[derive(Clone, Debug, PartialEq)]
pub enum Credited {
    /// No case has this id yet: it is kept.
    Early,
    /// It was taken in by the cases that wait; rows follow for those that were mature.
    Joined(Vec<Joined>),
    /// This version was known already; nothing changed.
    Duplicate,
    /// The request has too many versions of its label; it was thrown away.
    TooMany,
}

/// What had to go because there was too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Mature cases that no longer wait for late labels.
    pub kept: u64,
    /// Labels without a case.
    pub early: u64,
    /// Labels whose time is over, and no case ever came.
    pub orphaned: u64,
}

/// Everything that waits in one lane.
#[derive(Debug)]
pub struct Pending {
    limits: Limits,
    entries: HashMap<RequestId, Entry>,
    ids: BTreeMap<CaseId, RequestId>,
    due: BTreeSet<(Timestamp, CaseId)>,
    due_without_labels: BTreeSet<(Timestamp, CaseId)>,
    expiring: BTreeSet<(Timestamp, CaseId)>,
    early: BTreeSet<(Timestamp, RequestId)>,
    turns: BTreeMap<u64, u64>,
    evicted: Evicted,
}

impl Pending {
    /// Makes an empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            ids: BTreeMap::new(),
            due: BTreeSet::new(),
            due_without_labels: BTreeSet::new(),
            expiring: BTreeSet::new(),
            early: BTreeSet::new(),
            turns: BTreeMap::new(),
            evicted: Evicted::default(),
        }
    }

    /// Holds a case until its label state is read at age `window`, and `keep` longer for late labels.
    pub fn add(
        &mut self,
        prediction: Arc<Prediction>,
        window: Span,
        keep: Span,
        turn: u64,
    ) -> Added {
        let case = prediction.case;
        if self.ids.contains_key(&case) {
            return Added::Duplicate;
        }
        let id = prediction.request_id.clone();
        let at = prediction.event_time();
        let waiting = Waiting {
            due: at + window,
            due_without_labels: at + window + window,
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
        self.early.remove(&(entry.labels_until, id));
        if is_twin { Added::Twin } else { Added::Fresh }
    }

    /// Takes in a label; it is kept until the prediction clock has passed `until`, for cases yet to come.
    pub fn credit(&mut self, label: Label, until: Timestamp, turn: u64) -> Credited {
        let id = label.request_id.clone();
        let entry = self.entries.entry(id.clone()).or_default();
        let is_known = entry
            .labels
            .iter()
            .any(|it| it.version == label.version && (it.retract || !label.retract));
        if is_known {
            return Credited::Duplicate;
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
            self.early.remove(&(known_until, id.clone()));
            self.early.insert((entry.labels_until, id));
            self.bound_early();
            return Credited::Early;
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

    /// Returns the next case that is mature under these clocks, with its final row and what must follow it at once.
    ///
    /// A case matures when both clocks have passed its window, or the prediction clock alone has passed twice the window
    /// and no label is left to read: labels that stand still must not hold up everything for ever.
    pub fn mature(&mut self, clocks: Clocks) -> Option<(Joined, Option<Joined>)> {
        let both = clocks.predictions.min(clocks.labels);
        let case = match (self.due.first(), self.due_without_labels.first()) {
            (Some((due, case)), _) if *due <= both => *case,
            (_, Some((due, case))) if clocks.are_labels_read && *due <= clocks.predictions => *case,
            (_, _) => return None,
        };
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
        let Some(entry) = self.ids.get(&case).and_then(|it| self.entries.get_mut(it)) else {
            return;
        };
        let Some(waiting) = entry.cases.get_mut(case) else { return };
        self.due.remove(&(waiting.due, case));
        self.due_without_labels.remove(&(waiting.due_without_labels, case));
        self.expiring.insert((waiting.expires, case));
        waiting.row = Some(row);
    }

    /// Forgets what nothing can come for any more, and what is over the bounds; returns what had to go early.
    pub fn forget(&mut self, predictions: Timestamp) -> Evicted {
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
            if self.entries.get(&id).is_some_and(|it| !it.had_case) {
                self.evicted.orphaned += 1;
            }
            self.drop_entry(&id);
        }
        self.bound_cases(predictions);
        std::mem::take(&mut self.evicted)
    }

    /// Returns the predictions clock at which something is next due, if anything is.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Returns the oldest turn of which something is still held.
    pub fn oldest_turn(&self) -> Option<u64> {
        self.turns.keys().next().copied()
    }

    /// Returns how many cases are held.
    pub fn cases(&self) -> usize {
        self.ids.len()
    }

    /// Returns how many request ids have labels but no case.
    pub fn early_ids(&self) -> usize {
        self.early.len()
    }

    /// Returns all that is held, by request id: those with cases first, in the order of their oldest.
    pub fn entries(&self) -> impl Iterator<Item = (&RequestId, &Entry)> {
        let of = |id| self.entries.get(id).map(|it| (id, it));
        let is_first = |case: CaseId, entry: &Entry| {
            entry.cases.first().is_some_and(|it| it.prediction.case == case)
        };
        let with_cases = self
            .ids
            .iter()
            .filter_map(move |(case, id)| of(id).filter(|(_, entry)| is_first(*case, entry)));
        with_cases.chain(self.early.iter().filter_map(move |(_, id)| of(id)))
    }

    /// Puts back what `entries` returned, into one that does not hold it.
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
            self.early.insert((entry.labels_until, id.clone()));
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
    pub fn hurry(&mut self) -> Option<(Joined, Option<Joined>)> {
        let (due, _) = self.due.first().copied()?;
        self.mature(Clocks { predictions: due, labels: due, are_labels_read: false })
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
        if entry.labels.is_empty() || entry.labels_until <= predictions {
            self.drop_entry(&id);
        } else {
            self.early.insert((entry.labels_until, id));
            self.bound_early();
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
        while self.early.len() > self.limits.early_ids_max {
            let Some((_, id)) = self.early.pop_first() else { return };
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
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{Clocks, LabelStatus, Limits, Pending};
    use crate::domain::case::{Outcome, Prediction};
    use crate::domain::ids::{CaseId, Revision, StageIndex};
    use crate::domain::label::Label;
    use crate::domain::time::{Span, Timestamp};

    const START: Timestamp = Timestamp(1_000_000);

    fn case(id: &str) -> Arc<Prediction> {
        Arc::new(Prediction {
            case: CaseId { partition: 0, offset: 1 },
            request_id: id.into(),
            rollout: None,
            revision: Revision(1),
            stage: StageIndex(0),
            unit: None,
            segments: Arc::default(),
            arm: "v1".into(),
            propensity: 1.0,
            served: None,
            outcome: Outcome::Ok,
            requested_at: START,
            routed_at: START,
            served_at: START,
            answers: Vec::new(),
        })
    }

    fn label(seconds: i64, late: u8, version: u64, retract: bool) -> Label {
        Label {
            request_id: "r".into(),
            value: json!(late),
            observed_at: START + Span::seconds(seconds),
            version,
            retract,
        }
    }

    fn held(labels: &[Label]) -> Pending {
        let limits = Limits { cases_max: 10, early_ids_max: 10, label_versions_max: 16 };
        let mut pending = Pending::new(limits);
        let _added = pending.add(case("r"), Span::seconds(40), Span::seconds(1000), 0);
        for label in labels {
            let _credited = pending.credit(label.clone(), START + Span::seconds(9000), 0);
        }
        pending
    }

    fn mature(pending: &mut Pending) -> (super::Joined, Option<super::Joined>) {
        let at = START + Span::seconds(50);
        let clocks = Clocks { predictions: at, labels: at, are_labels_read: true };
        pending.mature(clocks).expect("the case is mature")
    }

    #[test]
    fn a_case_knows_at_which_ages_it_had_a_label() {
        let check = |labels: &[Label], expected: [bool; 2]| {
            assert_eq!(mature(&mut held(labels)).0.known_by, expected, "{labels:?}");
        };
        check(&[], [false, false]);
        check(&[label(10, 1, 1, false)], [true, true]);
        check(&[label(11, 1, 1, false)], [false, true]);
        check(&[label(21, 1, 1, false)], [false, false]);
        // A correction does not make the label any later, and taking it back leaves nothing.
        check(&[label(5, 1, 1, false), label(30, 0, 2, false)], [true, true]);
        check(&[label(5, 1, 1, false), label(15, 1, 1, true)], [true, false]);
    }

    #[test]
    fn what_was_put_back_is_as_it_was() {
        let mut first = held(&[label(5, 1, 1, false), label(45, 0, 2, false)]);
        let early = Label { request_id: "early".into(), ..label(3, 1, 1, false) };
        assert_eq!(first.credit(early, START + Span::seconds(70), 3), super::Credited::Early);
        for is_mature in [false, true] {
            if is_mature {
                mature(&mut first);
            }
            let mut second = Pending::new(first.limits);
            for (id, entry) in first.entries() {
                second.put_back(id.clone(), entry.clone());
            }
            let indices = |it: &Pending| {
                format!(
                    "{:?}",
                    (&it.ids, &it.due, &it.due_without_labels, &it.expiring, &it.early, &it.turns)
                )
            };
            assert_eq!(indices(&second), indices(&first));
            assert!(second.entries().eq(first.entries()));
        }
    }

    #[test]
    fn a_later_row_says_what_the_row_before_it_said() {
        let mut pending = held(&[label(5, 1, 1, false), label(45, 0, 2, false)]);
        let (row, later) = mature(&mut pending);
        let later = later.expect("the correction came after the window");
        assert_eq!((later.before, later.status), (row.truth, LabelStatus::Corrected));
        let taken_back = pending.credit(label(60, 0, 2, true), START, 0);
        let super::Credited::Joined(rows) = taken_back else { panic!("{taken_back:?}") };
        assert_eq!((rows[0].before.clone(), rows[0].truth.clone()), (later.truth, None));
    }
}
