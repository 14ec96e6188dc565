//! From the client's records to the machines' nouns. Total: any record gives something.

use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Message};

use crate::kafka::client::ffi;
use crate::kafka::process::clock;
use crate::wire::headers;
use crate::wire::json::Parts;
use serinus_core::domain::ids::CaseId;
use serinus_core::domain::record::{Answer, Bytes, Carried, Header, Request, Segments};
use serinus_core::domain::time::Timestamp;
use serinus_core::plan::rollout::ModelPlan;

/// A record that cannot be used: its bytes, where it stood, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// The topic it stood in.
    pub topic: Box<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Key and headers.
    pub carried: Carried,
    /// The bytes.
    pub value: Option<Bytes>,
    /// Why.
    pub reason: Box<str>,
    /// What is not here, or does not fit into a dead letter.
    pub left_out: LeftOut,
}

impl Dead {
    /// Makes a dead letter of a record whose bytes are no longer at hand: they still stand where it stood.
    pub fn left(topic: &str, (partition, offset): (i32, i64), reason: &str) -> Self {
        let (carried, value) = (Carried::default(), None);
        let (topic, reason, left_out) = (topic.into(), reason.into(), LeftOut::Key);
        Self { topic, partition, offset, carried, value, reason, left_out }
    }
}

/// What a dead letter leaves out of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Nothing.
    Nothing,
    /// Its bytes.
    Value,
    /// Its bytes and what its producer wrote beside them.
    Headers,
    /// Everything but where it stood.
    Key,
}

impl LeftOut {
    /// Returns the words for it, where there is anything.
    pub fn words(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Value => Some("value"),
            Self::Headers => Some("value, headers"),
            Self::Key => Some("value, headers, key"),
        }
    }

    /// Returns what is left out next when this is not enough.
    pub fn more(self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Value),
            Self::Value => Some(Self::Headers),
            Self::Headers => Some(Self::Key),
            Self::Key => None,
        }
    }
}

/// Reads a request; there is no request that cannot be read.
pub fn request(message: &BorrowedMessage<'_>, plan: &ModelPlan) -> Request {
    let pairs = pairs(message);
    let parts = Parts { key: message.key(), headers: &pairs, value: message.payload() };
    let case = CaseId { partition: message.partition(), offset: message.offset() };
    Request {
        case,
        id: parts.request_id(plan.request_id.as_ref(), message.topic(), case),
        unit: parts.text(&plan.unit).map(|u| Bytes::from(u.as_ref())),
        key: message.key().map(Bytes::from),
        value: message.payload().map(Bytes::from),
        headers: pairs.iter().filter(|(name, _)| !headers::is_ours(name)).map(header).collect(),
        requested_at: time(message),
        segments: segments(&parts, plan),
    }
}

/// Reads what a request is part of; a place where it says nothing is left out.
fn segments(parts: &Parts<'_>, plan: &ModelPlan) -> Segments {
    let value = |source| Some(Arc::from(String::from_utf8_lossy(&parts.text(source)?)));
    plan.segments
        .iter()
        .filter_map(|(name, source)| Some((Arc::clone(name), value(source)?)))
        .collect()
}

/// Reads an answer, or says why it is none.
pub fn answer(message: &BorrowedMessage<'_>) -> Result<Answer, Dead> {
    let pairs = pairs(message);
    let value = message.payload().map(Bytes::from);
    match headers::read_answer(pairs.iter().copied(), value) {
        Ok(mut answer) => {
            if answer.case.partition != message.partition() {
                answer.carried = Arc::new(carried(message));
            }
            Ok(answer)
        }
        Err(why) => Err(dead(message, why.reason())),
    }
}

/// Makes a dead letter of a record.
pub fn dead(message: &BorrowedMessage<'_>, reason: impl Into<Box<str>>) -> Dead {
    Dead {
        topic: message.topic().into(),
        partition: message.partition(),
        offset: message.offset(),
        carried: carried(message),
        value: message.payload().map(Bytes::from),
        reason: reason.into(),
        left_out: LeftOut::Nothing,
    }
}

/// Returns the record's own time; one without any was made now.
pub fn time(message: &BorrowedMessage<'_>) -> Timestamp {
    message.timestamp().to_millis().filter(|t| *t >= 0).map_or_else(clock::now, Timestamp)
}

/// Returns a record's headers as pairs; a name that is not text is given as the character that stands for what cannot be read.
pub fn pairs<'a>(message: &'a BorrowedMessage<'_>) -> Vec<(&'a str, Option<&'a [u8]>)> {
    message.headers().map(ffi::header_pairs).unwrap_or_default()
}

fn carried(message: &BorrowedMessage<'_>) -> Carried {
    Carried {
        key: message.key().map(Bytes::from),
        // What a dead letter says of itself is ours to say.
        headers: pairs(message)
            .iter()
            .filter(|(name, _)| !headers::is_of_dead_letters(name))
            .map(header)
            .collect(),
        stood_at: (message.partition(), message.offset()),
    }
}

fn header((name, value): &(&str, Option<&[u8]>)) -> Header {
    Header { name: Arc::from(*name), value: value.map(Bytes::from) }
}
