//! Open cases: the versions asked, their answers, and the deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::case::{AnswerStatus, CaseAnswer, Outcome, Prediction};
use crate::domain::ids::Version;
use crate::domain::record::{Bytes, Request};
use crate::domain::routing::{Role, Routing};
use crate::domain::time::Timestamp;

/// The answer to one ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// In time, failed or late.
    pub status: AnswerStatus,
    /// When it was read.
    pub at: Timestamp,
    /// The answer's bytes.
    pub value: Option<Bytes>,
    /// The error text of the worker.
    pub error: Option<Arc<str>>,
}

/// One version that was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The version.
    pub version: Version,
    /// Whether to serve or to shadow.
    pub role: Role,
    /// When.
    pub at: Timestamp,
    /// After this its answer is late.
    pub deadline: Timestamp,
    /// The answers so far.
    pub reply: Option<Reply>,
}

impl Ask {
    /// Returns whether there is an answer that can be served.
    pub fn is_ok(&self) -> bool {
        self.reply.as_ref().is_some_and(|r| r.status == AnswerStatus::Ok)
    }

    /// Returns whether no answer that can be served is possible any more.
    pub fn has_failed(&self) -> bool {
        self.reply.as_ref().is_some_and(|r| r.status != AnswerStatus::Ok)
    }
}

/// The served answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// The version that answered, if any.
    pub version: Option<Version>,
    /// How.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
}

/// One request that waits for answers.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenCase {
    /// The request; its bytes are kept only while a fallback may need them.
    pub request: Arc<Request>,
    /// The routing that it was routed by.
    pub routing: Arc<Routing>,
    /// The assigned version.
    pub arm: Version,
    /// The probability of that.
    pub propensity: f64,
    /// When it was routed.
    pub routed_at: Timestamp,
    /// By when it must be served.
    pub deadline: Timestamp,
    /// When it stops waiting.
    pub close_at: Timestamp,
    /// When the stable version gets a copy, too, unless the candidate has answered.
    pub hedge_at: Option<Timestamp>,
    /// Everyone asked; the first is the assigned version.
    pub asks: Vec<Ask>,
    /// The index of the fallback ask.
    pub fallback: Option<usize>,
    /// The served answer.
    pub served: Option<Served>,
}

impl OpenCase {
    /// Returns when it next needs attention.
    pub fn due(&self) -> Timestamp {
        match (&self.served, self.hedge_at) {
            (None, Some(hedge_at)) => hedge_at.min(self.deadline),
            (None, None) => self.deadline,
            (Some(_), _) => self.close_at,
        }
    }

    /// Returns whether it waits for nothing any more.
    pub fn is_complete(&self) -> bool {
        self.served.is_some() && self.asks.iter().all(|a| a.reply.is_some())
    }

    /// Turns the case into its record; a version without an answer timed out.
    pub fn into_prediction(self, now: Timestamp) -> Prediction {
        let served =
            self.served.unwrap_or(Served { version: None, outcome: Outcome::Error, at: now });
        Prediction {
            case: self.request.case,
            request_id: self.request.id.clone(),
            rollout: self.routing.rollout.clone(),
            revision: self.routing.revision,
            stage: self.routing.stage,
            unit: Some(Bytes::from(self.request.unit_bytes())),
            segments: Arc::clone(&self.request.segments),
            arm: self.arm,
            propensity: self.propensity,
            served: served.version,
            outcome: served.outcome,
            requested_at: self.request.requested_at,
            routed_at: self.routed_at,
            served_at: served.at,
            answers: self.asks.into_iter().map(case_answer).collect(),
        }
    }
}

fn case_answer(ask: Ask) -> CaseAnswer {
    let (status, latency, value, error) = match ask.reply {
        Some(reply) => (reply.status, Some(reply.at - ask.at), reply.value, reply.error),
        None => (AnswerStatus::Timeout, None, None, None),
    };
    CaseAnswer { version: ask.version, role: ask.role, status, latency, value, error }
}

/// The open cases of one partition, by offset, with their due times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenCases {
    cases: BTreeMap<i64, OpenCase>,
    due: BTreeSet<(Timestamp, i64)>,
}

impl OpenCases {
    /// Returns how many cases are open.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Returns whether none is.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Returns the offset of the oldest open case.
    pub fn oldest(&self) -> Option<i64> {
        self.cases.first_key_value().map(|(offset, _)| *offset)
    }

    /// Inserts a case; replaces an existing one.
    pub fn insert(&mut self, case: OpenCase) {
        let offset = case.request.case.offset;
        if let Some(previous) = self.cases.remove(&offset) {
            self.due.remove(&(previous.due(), offset));
        }
        self.due.insert((case.due(), offset));
        self.cases.insert(offset, case);
    }

    /// Returns an open case.
    pub fn get(&self, offset: i64) -> Option<&OpenCase> {
        self.cases.get(&offset)
    }

    /// Takes a case out, if it is open. Put it back with `insert` when it stays open.
    pub fn take(&mut self, offset: i64) -> Option<OpenCase> {
        let case = self.cases.remove(&offset)?;
        self.due.remove(&(case.due(), offset));
        Some(case)
    }

    /// Takes out the case that has been due the longest at `now`.
    pub fn take_due(&mut self, now: Timestamp) -> Option<OpenCase> {
        let (at, offset) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.take(offset)
    }

    /// Returns when the next case falls due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }
}
