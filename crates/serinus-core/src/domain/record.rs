//! Input records: requests and answers, with their bytes unchanged.

use std::sync::Arc;

use crate::domain::ids::{CaseId, ModelName, RequestId, Version};
use crate::domain::time::Timestamp;

/// Bytes that are passed on and never looked into.
pub type Bytes = Arc<[u8]>;

/// The segments of a request: the name of each segmentation of the model, with the request's segment.
pub type Segments = Arc<[(Arc<str>, Arc<str>)]>;

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name, as the producer wrote it.
    pub name: Arc<str>,
    /// The value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

/// A request, as read from the model's request topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its position.
    pub case: CaseId,
    /// The caller's id, or one made of topic, partition and offset.
    pub id: RequestId,
    /// The unit of assignment; `None` if the record has none, and then the id is the unit.
    pub unit: Option<Bytes>,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record's value; `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// The producer's headers that are not ours.
    pub headers: Arc<[Header]>,
    /// The record's own time.
    pub requested_at: Timestamp,
    /// Its segments, for analysis only.
    pub segments: Segments,
}

impl Request {
    /// Returns the bytes that decide the arm.
    pub fn unit_bytes(&self) -> &[u8] {
        match &self.unit {
            Some(unit) => unit,
            None => self.id.as_str().as_bytes(),
        }
    }
}

/// A worker's answer to one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The case that it names.
    pub case: CaseId,
    /// The index of the ask that it answers: the assigned version is 0.
    pub ask: usize,
    /// When the case stops waiting for it, from the token.
    pub awaited_until: Timestamp,
    /// The model of the case, if the token names it.
    pub model: Option<ModelName>,
    /// The version that answered, by its header.
    pub version: Version,
    /// The error text of the worker, for people.
    pub error: Option<Arc<str>>,
    /// The answer's bytes; `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// The answer's key and headers, kept for passing it on.
    pub carried: Arc<Carried>,
}

/// The key, the headers and the position of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The record's key.
    pub key: Option<Bytes>,
    /// All its headers, ours too.
    pub headers: Vec<Header>,
    /// Its partition and offset.
    pub stood_at: (i32, i64),
}
