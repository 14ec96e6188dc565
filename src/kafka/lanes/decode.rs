//! From the client's records to the machines' nouns. Total: any record gives something.

use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Message};

use crate::kafka::client::message::{pairs, time};
use crate::kafka::lanes::dead_letters::{DeadLetter, LeftOut};
use crate::wire::headers;
use crate::wire::json::Parts;
use serinus_core::domain::ids::CaseId;
use serinus_core::domain::record::{Answer, Bytes, Carried, Header, Request, Segments};
use serinus_core::plan::rollout::ModelPlan;

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
pub fn answer(message: &BorrowedMessage<'_>) -> Result<Answer, DeadLetter> {
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
pub fn dead(message: &BorrowedMessage<'_>, reason: impl Into<Box<str>>) -> DeadLetter {
    DeadLetter {
        topic: message.topic().into(),
        partition: message.partition(),
        offset: message.offset(),
        carried: carried(message),
        value: message.payload().map(Bytes::from),
        reason: reason.into(),
        left_out: LeftOut::Nothing,
    }
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
