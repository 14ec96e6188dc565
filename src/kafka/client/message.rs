//! What every consumed record has: its time and its headers.

use rdkafka::message::{BorrowedMessage, Message};

use crate::kafka::client::ffi;
use crate::kafka::process::clock;
use serinus_core::domain::time::Timestamp;

/// Returns the record's timestamp, or the current time if it has none.
pub fn time(message: &BorrowedMessage<'_>) -> Timestamp {
    message.timestamp().to_millis().filter(|t| *t >= 0).map_or_else(clock::now, Timestamp)
}

/// Returns the record's headers as pairs. A name that is not valid UTF-8 is replaced by the replacement character.
pub fn pairs<'a>(message: &'a BorrowedMessage<'_>) -> Vec<(&'a str, Option<&'a [u8]>)> {
    message.headers().map(ffi::header_pairs).unwrap_or_default()
}
