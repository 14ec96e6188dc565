//! From the client's records to commands, no larger than what answers them can carry.

use rdkafka::message::{BorrowedMessage, Message};
use serde_json::Value;

use crate::engine::command::{Command, Parsed};
use crate::kafka::intake::{self, Dead};
use crate::kafka::shrink;
use crate::wire::command::CommandRecord;

/// The largest command whose spec is taken in: a state holds those of the model and of its rollouts.
const COMMAND_BYTES_MAX: usize = 200_000;
/// The most that a command's id and the names of its model and rollout may have together.
const NAMES_BYTES_MAX: usize = 2000;

/// Reads a command and where it stands, or makes a dead letter of it.
pub fn receive(message: &BorrowedMessage<'_>) -> (i32, i64, Result<CommandRecord, Box<Dead>>) {
    let read = match message.payload() {
        Some(bytes) => CommandRecord::read(bytes).map_err(|it| it.to_string()),
        None => Err("the command has no value".to_owned()),
    };
    let names = |it: &CommandRecord| {
        it.id.len() + it.model.len() + it.rollout.as_ref().map_or(0, String::len)
    };
    let record = read.and_then(|it| {
        let is_sane = names(&it) <= NAMES_BYTES_MAX;
        is_sane.then_some(it).ok_or_else(|| "the command's names are too long".to_owned())
    });
    let record = record.map_err(|reason| Box::new(intake::dead(message, reason)));
    (message.partition(), message.offset(), record)
}

/// Reads a command, and cuts what would not fit into the records that answer it: they carry its words and its spec.
pub fn bounded(mut record: CommandRecord, parse: impl FnOnce(Value) -> Parsed) -> Command {
    for text in [&mut record.by, &mut record.reason] {
        text.truncate(shrink::cut(text).len());
    }
    let bytes = record.write().len();
    record.command(|document| {
        if bytes > COMMAND_BYTES_MAX {
            return Parsed::Invalid(format!(
                "the command has {bytes} bytes, and {COMMAND_BYTES_MAX} are the most that fit into the records of a rollout"
            ));
        }
        parse(document)
    })
}
