//! Reads partitions of one topic to their ends: the one loop with a timeout and progress for all readers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info};

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::{ReadError, is_retriable};
use crate::kafka::process::clock;
use crate::kafka::process::liveness::{Activity, Heartbeat};
use crate::kafka::process::wait::Deadline;

/// Maximum duration of one poll.
const POLL_MAX: Duration = Duration::from_millis(100);
/// Interval at which progress goes to the heartbeat, for readiness probes.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// Interval at which progress goes to the log.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// What a scan does on an error of the client that is not retriable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Polls on until the timeout. For a role: it has nothing better to do, and the watchdog sees its progress.
    Continue,
    /// Fails at once. For a command, whose user reads the error.
    Fail,
}

/// An iterator over the committed records of assigned partitions; it ends when each has reached its end.
///
/// The end of a partition is its end at the time at which the client reaches it. The consumer must report
/// `PartitionEOF`. Dropping the scan removes the assignment.
pub struct PartitionScan<'a> {
    consumer: &'a BaseConsumer<LogContext>,
    topic: &'a str,
    open: BTreeSet<i32>,
    timeout: Duration,
    deadline: Deadline,
    on_error: OnError,
    progress: Option<Progress<'a>>,
}

/// How far a scan has come, and when that was last reported.
struct Progress<'a> {
    heartbeat: &'a Heartbeat,
    partition: i32,
    /// The offset at which the scan of a single partition began. Without it, records are counted.
    from: Option<i64>,
    total: Option<i64>,
    done: i64,
    reported_at: Instant,
    logged_at: Instant,
}

impl<'a> PartitionScan<'a> {
    /// Assigns partitions of a topic from these offsets. The scan fails if no record arrives for `timeout`.
    pub fn start(
        consumer: &'a BaseConsumer<LogContext>,
        topic: &'a str,
        partitions: &[(i32, Offset)],
        timeout: Duration,
        on_error: OnError,
    ) -> KafkaResult<Self> {
        let mut list = TopicPartitionList::new();
        for (partition, from) in partitions {
            list.add_partition_offset(topic, *partition, *from)?;
        }
        consumer.assign(&list)?;
        let open = partitions.iter().map(|(partition, _)| *partition).collect();
        let deadline = Deadline::after(timeout);
        Ok(Self { consumer, topic, open, timeout, deadline, on_error, progress: None })
    }

    /// Reports progress as the activity of a role: in records of the topic.
    #[must_use = "returns the changed scan"]
    pub fn reporting(self, heartbeat: Option<&'a Heartbeat>) -> Self {
        self.with_progress(heartbeat, 0, None, None)
    }

    /// Reports progress as the activity of a role: in offsets of a partition from `from` up to `to`, where that is known.
    #[must_use = "returns the changed scan"]
    pub fn reporting_range(
        self,
        heartbeat: Option<&'a Heartbeat>,
        partition: i32,
        (from, to): (i64, Option<i64>),
    ) -> Self {
        self.with_progress(heartbeat, partition, Some(from), to.map(|to| to - from))
    }

    fn with_progress(
        mut self,
        heartbeat: Option<&'a Heartbeat>,
        partition: i32,
        from: Option<i64>,
        total: Option<i64>,
    ) -> Self {
        let (reported_at, logged_at) = (clock::moment(), clock::moment());
        self.progress = heartbeat.map(|heartbeat| Progress {
            heartbeat,
            partition,
            from,
            total,
            done: 0,
            reported_at,
            logged_at,
        });
        self
    }
}

impl<'a> Iterator for PartitionScan<'a> {
    type Item = Result<BorrowedMessage<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.open.is_empty() {
            if let Some(progress) = &mut self.progress {
                progress.report(self.topic);
            }
            match self.consumer.poll(self.deadline.left().min(POLL_MAX)) {
                Some(Ok(message)) => {
                    // The queue may still hold records of the previous assignment.
                    if message.topic() != self.topic || !self.open.contains(&message.partition()) {
                        continue;
                    }
                    self.deadline = Deadline::after(self.timeout);
                    if let Some(progress) = &mut self.progress {
                        progress.advance(&message);
                    }
                    return Some(Ok(message));
                }
                // Only the client knows the end: a control record there is no record of a reader.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                }
                Some(Err(source)) if self.on_error == OnError::Fail && !is_retriable(&source) => {
                    return Some(Err(ReadError::Read { topic: self.topic.to_owned(), source }));
                }
                Some(Err(_)) | None if self.deadline.is_over() => {
                    let topic = self.topic.to_owned();
                    return Some(Err(ReadError::Stalled { topic, wait: self.timeout }));
                }
                Some(Err(_)) | None => {}
            }
        }
        None
    }
}

impl Drop for PartitionScan<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.consumer.unassign() {
            debug!(topic = self.topic, %error, "partitions still assigned after a scan");
        }
    }
}

impl Progress<'_> {
    fn advance(&mut self, message: &BorrowedMessage<'_>) {
        self.done = self.from.map_or(self.done + 1, |from| message.offset() - from);
    }

    fn report(&mut self, topic: &str) {
        let (partition, done, total) = (self.partition, self.done, self.total);
        if self.reported_at.elapsed() >= REPORT_EVERY {
            self.reported_at = clock::moment();
            let topic = topic.to_owned();
            self.heartbeat.report(Activity::Restoring { topic, partition, done, total });
        }
        if self.logged_at.elapsed() >= LOG_EVERY {
            self.logged_at = clock::moment();
            info!(topic, partition, done, total, "restoring");
        }
    }
}
