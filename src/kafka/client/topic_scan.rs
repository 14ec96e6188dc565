//! Reading a whole topic of ours for its newest values.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::client::error::ShellError;
use crate::kafka::client::settings::{LogContext, Settings};
use crate::kafka::process::clock;
use crate::kafka::process::liveness::{Activity, Heartbeat};
use crate::kafka::process::wait::Deadline;

/// How often it is shown how far reading has come.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// How long nothing may come before reading gives up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What there was to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a topic that is not there is not an empty one"]
pub enum Scanned {
    /// Every record.
    ToItsEnd,
    /// There is no such topic.
    Missing,
}

impl Scanned {
    /// Fails where the topic must be there.
    pub fn or_missing(self, topic: &str) -> Result<(), ShellError> {
        match self {
            Self::ToItsEnd => Ok(()),
            Self::Missing => Err(ShellError::Missing(format!("topic `{topic}` does not exist"))),
        }
    }
}

/// Visits every committed record of a topic, from its beginning to its end as it is now; `beat` shows that it comes on.
///
/// # Errors
///
/// When its end is not reached: what was read of it then is not all.
pub fn scan(
    settings: &Settings,
    topic: &str,
    beat: Option<&Heartbeat>,
    mut visit: impl FnMut(&BorrowedMessage<'_>),
) -> Result<Scanned, ShellError> {
    let consumer: BaseConsumer<LogContext> = settings
        .reader()
        .create_with_context(LogContext)
        .map_err(ShellError::kafka("set up the reader of a topic"))?;
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(15))
        .map_err(ShellError::kafka("look up a topic"))?;
    let mut open: BTreeSet<i32> = metadata
        .topics()
        .iter()
        .flat_map(|t| t.partitions().iter().map(MetadataPartition::id))
        .collect();
    if open.is_empty() {
        return Ok(Scanned::Missing);
    }
    let mut list = TopicPartitionList::new();
    for partition in &open {
        list.add_partition_offset(topic, *partition, Offset::Beginning)
            .map_err(ShellError::kafka("assign a topic"))?;
    }
    consumer.assign(&list).map_err(ShellError::kafka("assign a topic"))?;
    let mut deadline = Deadline::after(SILENCE_MAX);
    let (mut shown_at, mut done) = (clock::moment(), 0);
    while !open.is_empty() {
        if let Some(beat) = beat.filter(|_| shown_at.elapsed() >= SHOW_EVERY) {
            shown_at = clock::moment();
            let topic = topic.to_owned();
            beat.is(Activity::Restoring { topic, partition: 0, done, total: None });
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                deadline = Deadline::after(SILENCE_MAX);
                done += 1;
                if open.contains(&message.partition()) {
                    visit(&message);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(_)) | None if deadline.is_over() => {
                return Err(ShellError::Missing(format!("the end of `{topic}` was not reached")));
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(Scanned::ToItsEnd)
}
