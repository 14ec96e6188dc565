//! The two inputs of an analyst lane, predictions and labels: each record decoded into an event.

use std::collections::VecDeque;

use rdkafka::message::{BorrowedMessage, Message};

use crate::kafka::client::error::ShellError;
use crate::kafka::client::message;
use crate::kafka::client::partition_reader::PartitionReader;
use crate::kafka::lanes::dead_letters::DeadLetter;
use crate::kafka::lanes::decode;
use crate::kafka::lanes::internal_topics::InternalTopics;
use crate::wire::json::Parts;
use crate::wire::label;
use crate::wire::prediction;
use crate::wire::watermark;
use crate::wire::watermark::WatermarkRecord;
use serinus_core::engine::analyst::io::{Event, Input};
use serinus_core::plan::rollout::{LabelMap, ModelPlan, Source};

/// A decoded record for a lane.
#[derive(Debug)]
pub struct Arrival {
    /// The input that it belongs to.
    pub input: Input,
    /// Its offset.
    pub offset: i64,
    /// The event for the machine.
    pub event: Event,
    /// The dead letter if the record could not be decoded.
    pub dead: Option<DeadLetter>,
}

/// A range of both inputs, read again for turns that are replayed.
#[derive(Debug)]
pub struct Inputs {
    /// Predictions, by offset.
    pub predictions: VecDeque<Arrival>,
    /// Labels and watermarks, by offset.
    pub labels: VecDeque<Arrival>,
}

impl Inputs {
    /// Reads predictions and labels between two pairs of offsets.
    pub fn read(
        plan: &ModelPlan,
        partition: i32,
        topics: &InternalTopics,
        (from, to): ((i64, i64), (i64, i64)),
        replay: &PartitionReader,
    ) -> Result<Self, ShellError> {
        let mut predictions = VecDeque::new();
        replay.range(&plan.topics.predictions, partition, from.0, Some(to.0), |t| {
            predictions.push_back(read_prediction(t));
        })?;
        let mut labels = VecDeque::new();
        replay.range(&topics.labels, partition, from.1, Some(to.1), |t| {
            labels.push_back(read_label(t));
        })?;
        Ok(Self { predictions, labels })
    }
}

/// Decodes a record of the prediction log.
pub fn read_prediction(message: &BorrowedMessage<'_>) -> Arrival {
    let offset = message.offset();
    let input = Input::Predictions;
    match message.payload().map(prediction::decode) {
        Some(Ok((_, it))) => {
            let event = Event::Prediction { offset, prediction: Box::new(it) };
            Arrival { input, offset, event, dead: None }
        }
        Some(Err(error)) => unreadable(message, input, error.to_string()),
        None => unreadable(message, input, "a prediction without a value".to_owned()),
    }
}

/// Decodes a repartitioned label, or a watermark between labels.
pub fn read_label(message: &BorrowedMessage<'_>) -> Arrival {
    let offset = message.offset();
    let input = Input::Labels;
    if message.key().is_none() {
        return match WatermarkRecord::read(message.payload().unwrap_or_default()) {
            Ok(it) => {
                let event = Event::Watermark { offset, mark: it.into() };
                Arrival { input, offset, event, dead: None }
            }
            Err(error) => unreadable(message, input, error.to_string()),
        };
    }
    let parts = Parts { key: message.key(), headers: &[], value: message.payload() };
    match label::decode(&own_labels(), parts, message::time(message)) {
        Ok(it) => {
            let source = watermark::source(message::pairs(message));
            let event = Event::Label { offset, source, label: Box::new(it) };
            Arrival { input, offset, event, dead: None }
        }
        Err(error) => unreadable(message, input, error.reason().into_owned()),
    }
}

fn unreadable(message: &BorrowedMessage<'_>, input: Input, reason: String) -> Arrival {
    let dead = Some(decode::dead(message, reason.clone()));
    let offset = message.offset();
    Arrival { input, offset, event: Event::Unreadable { input, offset, reason }, dead }
}

/// Returns where the parts of a label are in our own format.
fn own_labels() -> LabelMap {
    LabelMap {
        request_id: Source::Json("/request_id".to_owned()),
        value: "/label".to_owned(),
        observed_at: Some("/observed_at".to_owned()),
    }
}
