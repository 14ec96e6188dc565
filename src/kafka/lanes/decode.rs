//! Decodes consumed records into domain types. Decoding is total: every record gives a request, an answer, or a dead letter.

use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Message};

use crate::kafka::client::message::{pairs, time};
use crate::kafka::lanes::dead_letters::{DeadLetter, LeftOut};
use crate::wire::headers;
use crate::wire::json::Parts;
use serinus_core::domain::ids::CaseId;
use serinus_core::domain::record::{Answer, Bytes, Carried, Header, Request, Segments};
use serinus_core::plan::rollout::ModelPlan;

/// Decodes a request. Any record is a valid request.
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

/// Reads the segments of a request; a segment whose source is missing is left out.
fn segments(parts: &Parts<'_>, plan: &ModelPlan) -> Segments {
    let value = |source| Some(Arc::from(String::from_utf8_lossy(&parts.text(source)?)));
    plan.segments
        .iter()
        .filter_map(|(name, source)| Some((Arc::clone(name), value(source)?)))
        .collect()
}

/// Decodes an answer, or makes it a dead letter.
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
        // Drop the dead-letter headers of an earlier failure: the writer adds its own.
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
