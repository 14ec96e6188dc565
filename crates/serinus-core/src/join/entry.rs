//! The entry of one request id: its labels, its cases, and the rows that follow from them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::case::Prediction;
use crate::domain::ids::CaseId;
use crate::domain::label::Label;
use crate::domain::time::{Span, Timestamp};
use crate::join::small_map::{Keyed, SmallMap};

/// The truth of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// The label's value.
    pub value: Arc<serde_json::Value>,
    /// When it became known.
    pub observed_at: Timestamp,
    /// Its version.
    pub version: u64,
}

/// The label status of a row.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LabelStatus {
    /// There at maturity.
    Labelled,
    /// Not there at maturity.
    Missing,
    /// The label arrived after maturity.
    Late,
    /// A newer version of the label arrived after maturity.
    Corrected,
    /// Taken back after maturity.
    Retracted,
}

/// A row to write: a case with its truth as of now.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// The case.
    pub prediction: Arc<Prediction>,
    /// The truth, if any.
    pub truth: Option<Truth>,
    /// The truth that the row before this one said; nothing for the final row.
    pub before: Option<Truth>,
    /// Whether there was a label at a quarter of the window, and at half of it; only in the final row.
    pub known_by: [bool; 2],
    /// The status of the label.
    pub status: LabelStatus,
    /// 1 for the final row, higher for later rows.
    pub row_version: u32,
    /// The watermarks at which the case matured; only the final row has them.
    pub matured_at: Option<MaturedAt>,
}

/// The watermarks at which a case matured, which explain why its label did or did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaturedAt {
    /// The watermark of the predictions, in event time.
    pub event_time: Timestamp,
    /// The watermark of the labels.
    pub labels: LabelWatermark,
}

/// The time up to which the labels of a lane are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelWatermark {
    /// The time. `Timestamp::MAX` if all labels were read and none arrives, `Timestamp::MIN` if the time is not known.
    pub time: Timestamp,
    /// The partition of the label topic with the lowest watermark, which is this one. Absent if no partition reports a watermark.
    pub slowest: Option<i32>,
}

/// The watermarks of a lane's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The watermark of the predictions, in event time.
    pub predictions: Timestamp,
    /// The watermark of the labels.
    pub labels: LabelWatermark,
    /// The watermark of the labels that ignores partitions whose label times have stopped advancing.
    pub labels_without_stalled: LabelWatermark,
    /// Every label that was on Kafka at this wall-clock time has been read.
    pub read_to: Timestamp,
}

/// A case that has arrived.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// The case.
    pub prediction: Arc<Prediction>,
    /// The turn in which it arrived.
    pub turn: u64,
    /// The wall-clock time at which it arrived.
    pub taken_at: Timestamp,
}

/// One case that is held.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The case.
    pub prediction: Arc<Prediction>,
    /// When its label state is read.
    pub due: Timestamp,
    /// When the case matures if the label watermark is stalled.
    pub due_without_labels: Timestamp,
    /// When it was closed, by the clock on the wall: labels that stood on Kafka by then count.
    pub closed_at: Timestamp,
    /// When it is forgotten.
    pub expires: Timestamp,
    /// The turn in which it arrived.
    pub turn: u64,
    /// The version and the status of its last row; nothing before its final row.
    pub row: Option<(u32, LabelStatus)>,
}

/// Until when labels without a case are kept: until both clocks have passed it.
///
/// The clock of the predictions alone jumps: where a backlog is worked off, the newest case may be closed before the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Until {
    /// In event time, by the predictions' clock.
    pub predictions: Timestamp,
    /// By the clock on the wall.
    pub now: Timestamp,
}

impl Until {
    /// Returns the later of two.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { predictions: self.predictions.max(other.predictions), now: self.now.max(other.now) }
    }
}

/// The entry of one request id.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its labels, in order of arrival.
    pub labels: Vec<Label>,
    /// The turn in which the first of them arrived.
    pub label_turn: u64,
    /// Until when the labels are kept, whatever becomes of the cases: another case may have the same id.
    pub labels_until: Until,
    /// Its cases.
    pub cases: SmallMap<Waiting>,
    /// Whether there ever was a case.
    pub had_case: bool,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            label_turn: 0,
            labels_until: Until { predictions: Timestamp::MIN, now: Timestamp::MIN },
            cases: SmallMap::default(),
            had_case: false,
        }
    }
}

impl Keyed for Waiting {
    type Key = CaseId;

    fn key(&self) -> CaseId {
        self.prediction.case
    }
}

impl Waiting {
    /// Returns whether there was a label at a quarter and at half of the window, by the labels' own times.
    pub(crate) fn known_by(&self, labels: &[Label]) -> [bool; 2] {
        let at = self.prediction.event_time();
        let window = self.due - at;
        [4, 2].map(|part| newest(labels, at + Span(window.0 / part)).is_some_and(|p| !p.retract))
    }

    /// Returns the row for a new truth, once the final row is written.
    pub(crate) fn follow_up(
        &mut self,
        before: Option<&Truth>,
        truth: Option<&Truth>,
    ) -> Option<Joined> {
        let (version, last) = self.row?;
        let status = match (last, truth) {
            (LabelStatus::Missing | LabelStatus::Retracted, None) => return None,
            (LabelStatus::Missing, Some(_)) => LabelStatus::Late,
            (
                LabelStatus::Labelled
                | LabelStatus::Late
                | LabelStatus::Corrected
                | LabelStatus::Retracted,
                Some(_),
            ) => LabelStatus::Corrected,
            (LabelStatus::Labelled | LabelStatus::Late | LabelStatus::Corrected, None) => {
                LabelStatus::Retracted
            }
        };
        self.row = Some((version + 1, status));
        Some(Joined {
            prediction: Arc::clone(&self.prediction),
            truth: truth.cloned(),
            before: before.cloned(),
            known_by: [false; 2],
            status,
            row_version: version + 1,
            matured_at: None,
        })
    }
}

/// Returns the truth among the labels observed by `until`: the highest version wins, and taking back wins over its own version.
pub(crate) fn truth(labels: &[Label], until: Timestamp) -> Option<Truth> {
    let newest = newest(labels, until)?;
    (!newest.retract).then(|| Truth {
        value: Arc::new(newest.value.clone()),
        observed_at: newest.observed_at,
        version: newest.version,
    })
}

fn newest(labels: &[Label], until: Timestamp) -> Option<&Label> {
    labels.iter().filter(|l| l.observed_at <= until).max_by_key(|u| (u.version, u.retract))
}
