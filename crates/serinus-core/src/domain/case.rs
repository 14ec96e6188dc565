//! A closed case: one request, who was asked, and all that came back.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{CaseId, RequestId, Revision, RolloutName, StageIndex, Version};
use crate::domain::record::{Bytes, Segments};
use crate::domain::routing::Role;
use crate::domain::time::{Span, Timestamp};

/// How a caller was answered.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The assigned version answered in time.
    Ok,
    /// The stable version answered for the candidate.
    Fallback,
    /// The spec's default value was served.
    Default,
    /// Nothing could be served.
    Error,
}

/// What came back from a version.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AnswerStatus {
    /// It answered in time.
    Ok,
    /// It said that it could not.
    Error,
    /// It answered after its deadline.
    Late,
    /// It did not answer.
    Timeout,
}

/// One version's part in a case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseAnswer {
    /// The version that was asked.
    pub version: Version,
    /// What it was asked for.
    pub role: Role,
    /// What came back.
    pub status: AnswerStatus,
    /// From asking to the answer; `None` without one.
    pub latency: Option<Span>,
    /// The answer's bytes, where there are any.
    pub value: Option<Bytes>,
    /// What the worker said went wrong.
    pub error: Option<Arc<str>>,
}

/// The record of one case, written when it closes.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Where the request stands.
    pub case: CaseId,
    /// The caller's id.
    pub request_id: RequestId,
    /// The rollout at routing time, if any.
    pub rollout: Option<RolloutName>,
    /// The routing revision.
    pub revision: Revision,
    /// The stage at routing time.
    pub stage: StageIndex,
    /// What was kept in one arm; `None` means the request id.
    pub unit: Option<Bytes>,
    /// What the request is part of.
    pub segments: Segments,
    /// The version that the assignment chose.
    pub arm: Version,
    /// The probability with which it chose it.
    pub propensity: f64,
    /// The version served, if any, and how.
    pub served: Option<Version>,
    /// How the caller was answered.
    pub outcome: Outcome,
    /// The request's own time.
    pub requested_at: Timestamp,
    /// When it was routed.
    pub routed_at: Timestamp,
    /// When it was answered.
    pub served_at: Timestamp,
    /// Everyone who was asked, in the order of asking.
    pub answers: Vec<CaseAnswer>,
}

impl Prediction {
    /// Returns the case's place in event time: the request's own time, but never after it was routed.
    ///
    /// A producer with a clock ahead of ours must not drag everyone's event time into the future.
    pub fn event_time(&self) -> Timestamp {
        self.requested_at.min(self.routed_at)
    }
}
