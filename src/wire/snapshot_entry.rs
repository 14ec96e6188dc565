//! The pending entries of a lane snapshot in a compact form: cases that wait for labels, and labels that wait for cases.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use serinus_core::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
use serinus_core::domain::ids::{CaseId, RequestId, Revision, RolloutName, StageIndex, Version};
use serinus_core::domain::label::Label;
use serinus_core::domain::routing::Role;
use serinus_core::domain::time::{Span, Timestamp};
use serinus_core::engine::analyst::lane::Unplanned;
use serinus_core::join::entry::{Entry, LabelStatus, Until, Waiting};
use serinus_core::join::interner::Interner;

/// The pending cases and labels of one request id.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EntryRecord<'a> {
    id: &'a str,
    #[serde(borrow)]
    labels: Vec<PendingLabel<'a>>,
    label_turn: u64,
    labels_until: (i64, i64),
    had_case: bool,
    #[serde(borrow)]
    cases: Vec<PendingCase<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PendingLabel<'a> {
    /// The truth as JSON text.
    #[serde(borrow)]
    value: Cow<'a, str>,
    observed_at: i64,
    version: u64,
    retract: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct PendingCase<'a> {
    #[serde(borrow)]
    case: CaseRecord<'a>,
    due: i64,
    due_without_labels: i64,
    closed_at: i64,
    expires: i64,
    turn: u64,
    row: Option<(u32, LabelStatus)>,
}

/// A case whose plan is not known yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnplannedRecord<'a> {
    since: i64,
    turn: u64,
    reached: i64,
    id: &'a str,
    #[serde(borrow)]
    case: CaseRecord<'a>,
}

/// A closed case without its request id.
#[derive(Debug, Serialize, Deserialize)]
struct CaseRecord<'a> {
    place: (i32, i64),
    rollout: Option<&'a str>,
    revision: u64,
    stage: u32,
    unit: Option<&'a [u8]>,
    segments: Vec<(&'a str, &'a str)>,
    arm: &'a str,
    propensity: f64,
    served: Option<&'a str>,
    outcome: Outcome,
    requested_at: i64,
    routed_at: i64,
    served_at: i64,
    #[serde(borrow)]
    answers: Vec<PendingAnswer<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PendingAnswer<'a> {
    version: &'a str,
    role: Role,
    status: AnswerStatus,
    latency: Option<i64>,
    value: Option<&'a [u8]>,
    error: Option<&'a str>,
}

impl<'a> EntryRecord<'a> {
    pub(super) fn of(id: &'a RequestId, entry: &'a Entry) -> Self {
        Self {
            id: id.as_str(),
            labels: entry.labels.iter().map(PendingLabel::from).collect(),
            label_turn: entry.label_turn,
            labels_until: (entry.labels_until.predictions.0, entry.labels_until.now.0),
            had_case: entry.had_case,
            cases: entry.cases.iter().map(PendingCase::from).collect(),
        }
    }

    pub(super) fn into_entry(self, names: &mut Interner) -> (RequestId, Entry) {
        let id = RequestId::new(self.id);
        let entry = Entry {
            labels: self.labels.into_iter().filter_map(|l| l.into_label(&id)).collect(),
            label_turn: self.label_turn,
            labels_until: Until {
                predictions: Timestamp(self.labels_until.0),
                now: Timestamp(self.labels_until.1),
            },
            had_case: self.had_case,
            cases: self.cases.into_iter().map(|c| c.into_waiting(&id, names)).collect(),
        };
        (id, entry)
    }
}

impl<'a> From<&'a Label> for PendingLabel<'a> {
    fn from(label: &'a Label) -> Self {
        Self {
            value: label.value.to_string().into(),
            observed_at: label.observed_at.0,
            version: label.version,
            retract: label.retract,
        }
    }
}

impl PendingLabel<'_> {
    fn into_label(self, id: &RequestId) -> Option<Label> {
        Some(Label {
            request_id: id.clone(),
            // The text was written from JSON, so parsing it cannot fail.
            value: serde_json::from_str(&self.value).ok()?,
            observed_at: Timestamp(self.observed_at),
            version: self.version,
            retract: self.retract,
        })
    }
}

impl<'a> From<&'a Waiting> for PendingCase<'a> {
    fn from(waiting: &'a Waiting) -> Self {
        Self {
            case: CaseRecord::from(&*waiting.prediction),
            due: waiting.due.0,
            due_without_labels: waiting.due_without_labels.0,
            closed_at: waiting.closed_at.0,
            expires: waiting.expires.0,
            turn: waiting.turn,
            row: waiting.row,
        }
    }
}

impl PendingCase<'_> {
    fn into_waiting(self, id: &RequestId, names: &mut Interner) -> Waiting {
        Waiting {
            prediction: Arc::new(self.case.into_case(id, names)),
            due: Timestamp(self.due),
            due_without_labels: Timestamp(self.due_without_labels),
            closed_at: Timestamp(self.closed_at),
            expires: Timestamp(self.expires),
            turn: self.turn,
            row: self.row,
        }
    }
}

impl<'a> From<&'a Unplanned> for UnplannedRecord<'a> {
    fn from(unplanned: &'a Unplanned) -> Self {
        Self {
            since: unplanned.since.0,
            turn: unplanned.turn,
            reached: unplanned.reached.0,
            id: unplanned.prediction.request_id.as_str(),
            case: CaseRecord::from(&*unplanned.prediction),
        }
    }
}

impl UnplannedRecord<'_> {
    pub(super) fn into_unplanned(self, names: &mut Interner) -> Unplanned {
        let id = RequestId::new(self.id);
        let prediction = Arc::new(self.case.into_case(&id, names));
        let (since, reached) = (Timestamp(self.since), Timestamp(self.reached));
        Unplanned { since, turn: self.turn, reached, prediction }
    }
}

impl<'a> From<&'a Prediction> for CaseRecord<'a> {
    fn from(prediction: &'a Prediction) -> Self {
        let pair = |(name, value): &'a (Arc<str>, Arc<str>)| (&**name, &**value);
        Self {
            place: (prediction.case.partition, prediction.case.offset),
            rollout: prediction.rollout.as_ref().map(RolloutName::as_str),
            revision: prediction.revision.0,
            stage: prediction.stage.0,
            unit: prediction.unit.as_deref(),
            segments: prediction.segments.iter().map(pair).collect(),
            arm: prediction.arm.as_str(),
            propensity: prediction.propensity,
            served: prediction.served.as_ref().map(Version::as_str),
            outcome: prediction.outcome,
            requested_at: prediction.requested_at.0,
            routed_at: prediction.routed_at.0,
            served_at: prediction.served_at.0,
            answers: prediction.answers.iter().map(PendingAnswer::from).collect(),
        }
    }
}

impl CaseRecord<'_> {
    fn into_case(self, id: &RequestId, names: &mut Interner) -> Prediction {
        let pair = |(name, value)| (Arc::from(name), Arc::from(value));
        let segments = self.segments.into_iter().map(pair).collect();
        Prediction {
            case: CaseId { partition: self.place.0, offset: self.place.1 },
            request_id: id.clone(),
            rollout: self.rollout.map(|r| names.rollout(r)),
            revision: Revision(self.revision),
            stage: StageIndex(self.stage),
            unit: self.unit.map(Arc::from),
            segments: names.segments(&segments),
            arm: names.version(self.arm),
            propensity: self.propensity,
            served: self.served.map(|s| names.version(s)),
            outcome: self.outcome,
            requested_at: Timestamp(self.requested_at),
            routed_at: Timestamp(self.routed_at),
            served_at: Timestamp(self.served_at),
            answers: self.answers.into_iter().map(|a| a.into_answer(names)).collect(),
        }
    }
}

impl<'a> From<&'a CaseAnswer> for PendingAnswer<'a> {
    fn from(answer: &'a CaseAnswer) -> Self {
        Self {
            version: answer.version.as_str(),
            role: answer.role,
            status: answer.status,
            latency: answer.latency.map(|l| l.0),
            value: answer.value.as_deref(),
            error: answer.error.as_deref(),
        }
    }
}

impl PendingAnswer<'_> {
    fn into_answer(self, names: &mut Interner) -> CaseAnswer {
        CaseAnswer {
            version: names.version(self.version),
            role: self.role,
            status: self.status,
            latency: self.latency.map(Span),
            value: self.value.map(Arc::from),
            error: self.error.map(Arc::from),
        }
    }
}
