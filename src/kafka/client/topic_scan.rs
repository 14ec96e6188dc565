//! Reads a whole topic, to find the newest value of each key.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::partition_scan::{OnError, PartitionScan};
use crate::kafka::client::settings::Settings;
use crate::kafka::process::liveness::Heartbeat;

/// Time without a record after which a scan fails.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Timeout of a metadata request.
const METADATA_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether there was a topic to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a missing topic is not an empty one"]
pub enum Scanned {
    /// All records were visited.
    ToItsEnd,
    Missing,
}

impl Scanned {
    /// Fails if the topic does not exist.
    pub fn or_missing(self, topic: &str) -> Result<(), ShellError> {
        match self {
            Self::ToItsEnd => Ok(()),
            Self::Missing => Err(ShellError::Missing(format!("topic `{topic}` does not exist"))),
        }
    }
}

/// Visits every committed record of a topic up to its current end, and reports progress to `heartbeat`.
///
/// # Errors
///
/// The end was not reached, so that the visited records are not all.
pub fn scan(
    settings: &Settings,
    topic: &str,
    heartbeat: Option<&Heartbeat>,
    mut visit: impl FnMut(&BorrowedMessage<'_>),
) -> Result<Scanned, ShellError> {
    let consumer: BaseConsumer<LogContext> = settings
        .reader()
        .create_with_context(LogContext)
        .map_err(ShellError::kafka("set up the reader of a topic"))?;
    let metadata = consumer
        .fetch_metadata(Some(topic), METADATA_TIMEOUT)
        .map_err(ShellError::kafka("look up a topic"))?;
    let partitions: Vec<(i32, Offset)> = metadata
        .topics()
        .iter()
        .flat_map(|t| t.partitions().iter().map(|p| (p.id(), Offset::Beginning)))
        .collect();
    if partitions.is_empty() {
        return Ok(Scanned::Missing);
    }
    let scan = PartitionScan::start(&consumer, topic, &partitions, SILENCE_MAX, OnError::Continue)
        .map_err(ShellError::kafka("assign a topic"))?;
    for message in scan.reporting(heartbeat) {
        visit(&message.map_err(ShellError::read("read a whole topic"))?);
    }
    Ok(Scanned::ToItsEnd)
}
