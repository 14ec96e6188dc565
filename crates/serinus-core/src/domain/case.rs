//! A closed case: one request, the versions it was sent to, and their answers.

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

/// The status of a version's answer.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AnswerStatus {
    /// It answered in time.
    Ok,
    /// It returned an error.
    Error,
    /// It answered after its deadline.
    Late,
    /// It did not answer.
    Timeout,
}

/// One version's answer in a case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseAnswer {
    /// The version that the request was sent to.
    pub version: Version,
    /// Whether the request was to be served or was a shadow copy.
    pub role: Role,
    /// The status of its answer.
    pub status: AnswerStatus,
    /// Time from the request to the answer; `None` without an answer.
    pub latency: Option<Span>,
    /// The answer's bytes, if any.
    pub value: Option<Bytes>,
    /// The error text of the worker.
    pub error: Option<Arc<str>>,
}

/// The record of one case, written when it closes.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The position of the request in its topic.
    pub case: CaseId,
    /// The caller's id.
    pub request_id: RequestId,
    /// The rollout at routing time, if any.
    pub rollout: Option<RolloutName>,
    /// The routing revision.
    pub revision: Revision,
    /// The stage at routing time.
    pub stage: StageIndex,
    /// The unit of assignment; `None` means the request id.
    pub unit: Option<Bytes>,
    /// The segments of the request.
    pub segments: Segments,
    /// The version that the assignment chose.
    pub arm: Version,
    /// The probability of that choice.
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
    /// The answers of all versions that the request was sent to, in sending order.
    pub answers: Vec<CaseAnswer>,
}

impl Prediction {
    /// Returns the event time of the case: the earlier of the request's timestamp and the routing time.
    ///
    /// A producer whose clock is ahead of ours must not move event time into the future.
    pub fn event_time(&self) -> Timestamp {
        self.requested_at.min(self.routed_at)
    }
}
