//! Reading a whole topic of ours for its newest values.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::deadline::Deadline;
use crate::kafka::error::ShellError;
use crate::kafka::settings::{LogContext, Settings};

/// How long nothing may come before reading gives up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Visits every committed record of a topic, from its beginning to its end as it is now.
pub fn scan(
    settings: &Settings,
    topic: &str,
    mut visit: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), ShellError> {
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
        .flat_map(|it| it.partitions().iter().map(MetadataPartition::id))
        .collect();
    let mut list = TopicPartitionList::new();
    for partition in &open {
        list.add_partition_offset(topic, *partition, Offset::Beginning)
            .map_err(ShellError::kafka("assign a topic"))?;
    }
    consumer.assign(&list).map_err(ShellError::kafka("assign a topic"))?;
    let mut deadline = Deadline::after(SILENCE_MAX);
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                deadline = Deadline::after(SILENCE_MAX);
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
    Ok(())
}
