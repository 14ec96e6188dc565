//! Restores an analyst lane from its inputs if its journal is lost: each case with the row that it already has.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::case::Prediction;
use crate::domain::label::Label;
use crate::domain::time::Timestamp;
use crate::engine::analyst::lane::{Analyst, Unplanned};
use crate::engine::partial::Partial;
use crate::join::entry::Fresh;
use crate::join::entry::LabelStatus;
use crate::join::label_join::Added;

/// A case with its newest row.
#[derive(Clone, Debug)]
pub struct KnownCase {
    /// The offset of its prediction.
    pub offset: i64,
    /// The case.
    pub prediction: Box<Prediction>,
    /// The version and the status of its newest row; `None` while it waits for its label.
    pub row: Option<(u32, LabelStatus)>,
}

/// The inputs and outputs of a lane without a journal.
#[derive(Debug, Default)]
pub struct Remains {
    /// The labels in the order of their offsets.
    pub labels: Vec<(i64, Label)>,
    /// The cases, in the order of their predictions.
    pub cases: Vec<KnownCase>,
    /// The newest sums of each rollout, which include the cases with a row.
    pub sums: Vec<Partial>,
    /// A case without a row that was due by this time has lost its row, and gets no other.
    pub settled_before: Option<Timestamp>,
}

impl Analyst {
    /// Restores a lane that has only its plans; due rows follow with the next turn.
    pub fn rebuild(&mut self, now: Timestamp, remains: Remains) {
        let Remains { labels, cases, sums, settled_before } = remains;
        let mut counted = BTreeMap::new();
        for partial in sums {
            if let Some(book) = self.books.get_mut(&partial.rollout) {
                book.tick = Some(partial.tick);
                book.sums.restore(partial.sums);
                // Sums are published before the prediction counts whose time has passed their tick.
                let uncounted = i64::from(!partial.is_idle);
                counted.insert(partial.rollout, partial.inputs.predictions - uncounted);
            }
        }
        for (offset, label) in labels {
            self.inputs.labels = self.inputs.labels.max(offset + 1);
            self.watermarks.labels.advance(now, label.observed_at.min(now));
            self.keep_label(now, label);
        }
        for KnownCase { offset, mut prediction, row } in cases {
            self.inputs.predictions = self.inputs.predictions.max(offset + 1);
            self.watermarks.predictions.advance(now, prediction.event_time().min(now));
            self.names.share(&mut prediction);
            let prediction: Arc<Prediction> = Arc::from(prediction);
            let is_counted = prediction.rollout.as_ref().and_then(|r| counted.get(r));
            let is_counted = is_counted.is_some_and(|i| offset < *i);
            self.take_known(now, &prediction, row, settled_before);
            if !is_counted {
                self.respond(&prediction, self.watermarks.predictions.reached);
            }
        }
    }

    fn take_known(
        &mut self,
        now: Timestamp,
        prediction: &Arc<Prediction>,
        row: Option<(u32, LabelStatus)>,
        settled_before: Option<Timestamp>,
    ) {
        if row.is_none() && !self.books.has_plan_of(prediction) {
            let (since, turn, reached) = (now, self.turn, self.watermarks.predictions.reached);
            let prediction = Arc::clone(prediction);
            self.unplanned.push(Unplanned { since, turn, reached, prediction });
            return;
        }
        let (window, keep) = self.spans_of(prediction);
        let has_lost_its_row =
            settled_before.is_some_and(|s| prediction.event_time() + window <= s);
        if row.is_none() && has_lost_its_row {
            return;
        }
        let fresh = Fresh { prediction: Arc::clone(prediction), turn: self.turn, taken_at: now };
        match self.pending.add(fresh, window, keep) {
            Added::Fresh | Added::Twin => {
                if let Some(row) = row {
                    self.pending.has_row(prediction.case, row);
                }
            }
            Added::Duplicate => {}
        }
    }
}
