//! What arrives: requests and answers, with their bytes untouched.

use std::sync::Arc;

use crate::domain::ids::{CaseId, ModelName, RequestId, Version};
use crate::domain::time::Timestamp;

/// Bytes that are passed on and never looked into.
pub type Bytes = Arc<[u8]>;

/// What a request is part of: the name of each partition of traffic that the model knows, and where in it the request falls.
pub type Segments = Arc<[(Arc<str>, Arc<str>)]>;

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name, as the producer wrote it.
    pub name: Arc<str>,
    /// The value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

/// A request, as it stands in the model's request topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where it stands.
    pub case: CaseId,
    /// The caller's id, or one made of topic, partition and offset.
    pub id: RequestId,
    /// What is kept in one arm; `None` when the record has none, then the id stands for it.
    pub unit: Option<Bytes>,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record's value; `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// The producer's headers that are not ours.
    pub headers: Arc<[Header]>,
    /// The record's own time.
    pub requested_at: Timestamp,
    /// What it is part of, for analysis only.
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
    /// Which ask of the case it answers: the assigned version is 0.
    pub ask: usize,
    /// When the case stops waiting for it, as the token says.
    pub awaited_until: Timestamp,
    /// The model whose case it is, where the token says it.
    pub model: Option<ModelName>,
    /// The version that it says it comes from.
    pub version: Version,
    /// What went wrong at the worker, for people.
    pub error: Option<Arc<str>>,
    /// The answer's bytes; `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// The answer's key and headers, kept for passing it on.
    pub carried: Arc<Carried>,
}

/// What a record carries beside its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The record's key.
    pub key: Option<Bytes>,
    /// All its headers, ours too.
    pub headers: Vec<Header>,
    /// The partition and the offset at which it stood.
    pub stood_at: (i32, i64),
}
