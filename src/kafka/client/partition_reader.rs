//! Reads ranges of partitions, for lanes that are rebuilt from their inputs.
//!
//! A reader must tell records that do not exist from records that are not visible yet. A transaction
//! becomes visible in one partition after another, and in each partition only after all transactions that
//! began there earlier have ended. A process that sleeps or dies with an open transaction therefore hides
//! what others commit behind it until the broker aborts that transaction: after its timeout plus the
//! broker's check interval, 10 s each with our settings.
//!
//! A partition is *stable* once no open transaction began before the end that it had at that time (its
//! last stable offset has reached that end): from then on, a missing record does not exist.

use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::message;
use crate::kafka::client::partition_scan::{OnError, PartitionScan};
use crate::kafka::client::settings::Settings;
use crate::kafka::client::uncommitted_reader::UncommittedReader;
use crate::kafka::process::liveness::{Activity, Heartbeat};
use crate::kafka::process::wait::Deadline;
use crate::wire::journal::ReplayStart;
use serinus_core::domain::time::Timestamp;

/// Time without a record after which a replay fails.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Timeout of a request for the first and last offset of a partition, or for the offset at a time.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout of a metadata request.
const METADATA_TIMEOUT: Duration = Duration::from_secs(15);
/// Time within which a transaction that ended normally becomes visible in all of its partitions.
const VISIBLE_WITHIN: Duration = Duration::from_millis(500);
/// Pause between two checks whether a partition is stable.
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// Time for the transactions in progress to end before a partition is read.
const STABLE_WITHIN: Duration = Duration::from_secs(5);

const READ: &str = "read a partition";

/// Reads ranges of partitions.
pub struct PartitionReader {
    consumer: BaseConsumer<LogContext>,
    uncommitted: UncommittedReader,
    /// Whether a read that finds too little is repeated for a moment.
    is_patient: bool,
    silence_max: Duration,
    offsets_timeout: Duration,
    heartbeat: Option<Heartbeat>,
}

impl PartitionReader {
    pub fn new(settings: &Settings) -> Result<Self, ShellError> {
        let config = settings.reader();
        let consumer = config
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("set up the reader of a partition"))?;
        Ok(Self {
            consumer,
            uncommitted: UncommittedReader::new(&config),
            is_patient: true,
            silence_max: SILENCE_MAX,
            offsets_timeout: OFFSETS_TIMEOUT,
            heartbeat: None,
        })
    }

    /// Sets the timeout of each request to a broker.
    #[must_use = "returns the changed reader"]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { silence_max: timeout, offsets_timeout: timeout, ..self }
    }

    /// Reports the progress of each read as the activity of this role.
    #[must_use = "returns the changed reader"]
    pub fn with_heartbeat(self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat: Some(heartbeat), ..self }
    }

    /// Visits the committed records of a partition in `from..to`, or up to its current end if `to` is `None`.
    pub fn range(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        to: Option<i64>,
        mut visit: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ShellError> {
        if to.is_some_and(|to| from >= to) {
            return Ok(());
        }
        for message in self.scan(topic, partition, (from, to))? {
            let message = message.map_err(ShellError::read(READ))?;
            if to.is_some_and(|to| message.offset() >= to) {
                break;
            }
            visit(&message);
            // The record before `to` may be the last: do not wait for the one behind it.
            if to.is_some_and(|to| message.offset() + 1 >= to) {
                break;
            }
        }
        Ok(())
    }

    fn scan<'a>(
        &'a self,
        topic: &'a str,
        partition: i32,
        (from, to): (i64, Option<i64>),
    ) -> Result<PartitionScan<'a>, ShellError> {
        let from_offset = [(partition, Offset::Offset(from))];
        let (timeout, on_error) = (self.silence_max, OnError::Continue);
        PartitionScan::start(&self.consumer, topic, &from_offset, timeout, on_error)
            .map(|s| s.reporting_range(self.heartbeat.as_ref(), partition, (from, to)))
            .map_err(ShellError::kafka("assign a partition"))
    }

    /// Returns the first committed record at or after an offset that passes `test`, as far as the partition is visible.
    fn find<T>(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        mut test: impl FnMut(&BorrowedMessage<'_>) -> Option<T>,
    ) -> Result<Option<T>, ShellError> {
        for message in self.scan(topic, partition, (from, None))? {
            let found = test(&message.map_err(ShellError::read(READ))?);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Reads the turns of a lane's journal from the start of its replay up to the last committed turn; see
    /// `read_when_visible`.
    pub fn turns<T>(
        &self,
        journal: &str,
        partition: i32,
        start: ReplayStart,
        read: impl Fn(&[u8]) -> Option<(u64, T)>,
    ) -> Result<Vec<T>, ShellError> {
        self.read_when_visible(journal, partition, || {
            let (mut turns, mut next) = (Vec::new(), start.turn);
            self.visible_turns(journal, partition, start, &read, |number, turn| {
                // Another owner committed the turns behind these while this process slept; our next
                // commit is fenced.
                if number < start.next {
                    next = number + 1;
                    turns.push(turn);
                }
            })?;
            Ok((turns, next >= start.next))
        })
    }

    /// Returns the newest turn of a lane's journal behind the known committed offsets, which may be out of date.
    ///
    /// # Errors
    ///
    /// `OpenTransaction` if the journal is not stable.
    pub fn newest<T>(
        &self,
        journal: &str,
        partition: i32,
        start: ReplayStart,
        read: impl Fn(&[u8]) -> Option<(u64, T)>,
    ) -> Result<Option<T>, ShellError> {
        self.require_stable(journal, partition)?;
        let mut newest = None;
        self.visible_turns(journal, partition, start, read, |number, turn| {
            if number >= start.next {
                newest = Some(turn);
            }
        })?;
        Ok(newest)
    }

    /// Visits the currently visible turns of a lane's journal, with their numbers, from the start of its replay.
    fn visible_turns<T>(
        &self,
        journal: &str,
        partition: i32,
        start: ReplayStart,
        read: impl Fn(&[u8]) -> Option<(u64, T)>,
        mut visit: impl FnMut(u64, T),
    ) -> Result<(), ShellError> {
        let from = self.offset_at(journal, partition, start.now)?;
        self.range(journal, partition, from, None, |message| {
            let turn = message.payload().and_then(&read);
            if let Some((number, turn)) = turn.filter(|t| t.0 >= start.turn) {
                visit(number, turn);
            }
        })
    }

    /// Fails with `OpenTransaction` unless a partition is stable.
    pub fn require_stable(&self, topic: &str, partition: i32) -> Result<(), ShellError> {
        let end = self.end_offset(topic, partition)?;
        if self.bounds(topic, partition)?.1 < end {
            return Err(open_transaction(topic, partition));
        }
        Ok(())
    }

    /// Sets whether reads wait a moment for transactions in progress. A caller that retries anyway does not need it.
    pub fn set_patient(&mut self, is_patient: bool) {
        self.is_patient = is_patient;
    }

    /// Repeats `read` until it finds everything that was committed before: it returns what it found and whether that
    /// is complete.
    ///
    /// If the partition is stable and something is still missing, that no longer exists; what was found is returned.
    ///
    /// # Errors
    ///
    /// `OpenTransaction` if something is missing that may still become visible: an incomplete result proves nothing.
    pub fn read_when_visible<T>(
        &self,
        topic: &str,
        partition: i32,
        mut read: impl FnMut() -> Result<(T, bool), ShellError>,
    ) -> Result<T, ShellError> {
        let (found, is_complete) = read()?;
        if is_complete {
            return Ok(found);
        }
        let end = self.end_offset(topic, partition)?;
        let deadline =
            Deadline::after(if self.is_patient { VISIBLE_WITHIN } else { Duration::ZERO });
        loop {
            // The bounds first: what becomes visible after them can only make the result more complete.
            let (_, stable) = self.bounds(topic, partition)?;
            let (found, is_complete) = read()?;
            if is_complete || stable >= end {
                return Ok(found);
            }
            if deadline.is_over() {
                return Err(open_transaction(topic, partition));
            }
            thread::park_timeout(POLL_PAUSE);
        }
    }

    /// Waits until every partition of a topic is stable.
    ///
    /// # Errors
    ///
    /// `OpenTransaction` if that takes longer than `wait`.
    pub fn await_stable(&self, topic: &str, wait: Duration) -> Result<(), ShellError> {
        let deadline = Deadline::after(wait);
        for partition in 0..self.partitions(topic)? {
            self.await_stable_partition(topic, partition, deadline)?;
        }
        Ok(())
    }

    fn await_stable_partition(
        &self,
        topic: &str,
        partition: i32,
        deadline: Deadline,
    ) -> Result<(), ShellError> {
        let end = self.end_offset(topic, partition)?;
        while self.bounds(topic, partition)?.1 < end {
            if deadline.is_over() {
                return Err(open_transaction(topic, partition));
            }
            if let Some(heartbeat) = &self.heartbeat {
                heartbeat.report(Activity::begin(topic, partition));
            }
            thread::park_timeout(POLL_PAUSE);
        }
        Ok(())
    }

    /// Waits until a partition is stable, then visits its committed records from the time `since` on.
    ///
    /// # Errors
    ///
    /// `OpenTransaction` if the partition does not become stable in time.
    pub fn since(
        &self,
        topic: &str,
        partition: i32,
        since: Timestamp,
        visit: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ShellError> {
        let wait = if self.is_patient { STABLE_WITHIN } else { VISIBLE_WITHIN };
        self.await_stable_partition(topic, partition, Deadline::after(wait))?;
        let from = self.offset_at(topic, partition, since.max(Timestamp(0)))?;
        self.range(topic, partition, from, None, visit)
    }

    /// Returns the time of the oldest committed record that a partition retains.
    pub fn first_time(&self, topic: &str, partition: i32) -> Result<Option<Timestamp>, ShellError> {
        let (low, high) = self.bounds(topic, partition)?;
        if low >= high {
            return Ok(None);
        }
        self.find(topic, partition, low, |first| Some(message::time(first)))
    }

    /// Returns whether a partition has a committed record with a value that passes `test`.
    pub fn has_any(
        &self,
        topic: &str,
        partition: i32,
        test: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, ShellError> {
        let (low, high) = self.bounds(topic, partition)?;
        if low >= high {
            return Ok(false);
        }
        let found = self.find(topic, partition, low, |message| {
            message.payload().is_some_and(&test).then_some(())
        })?;
        Ok(found.is_some())
    }

    /// Returns the offset after the last record of a partition, including records of open transactions.
    pub fn end_offset(&self, topic: &str, partition: i32) -> Result<i64, ShellError> {
        ends(self.uncommitted.consumer()?, topic, partition, self.offsets_timeout)
            .map(|(_, end)| end)
    }

    /// Returns the partition count of a topic.
    pub fn partitions(&self, topic: &str) -> Result<i32, ShellError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), METADATA_TIMEOUT)
            .map_err(ShellError::kafka("look up a topic"))?;
        let count = metadata.topics().first().map_or(0, |t| t.partitions().len());
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// Returns the first retained offset and the last stable offset.
    pub fn bounds(&self, topic: &str, partition: i32) -> Result<(i64, i64), ShellError> {
        ends(&self.consumer, topic, partition, self.offsets_timeout)
    }

    /// Returns the offset after the last committed record of a partition, or `from` if no record follows it.
    ///
    /// The end offset of the broker also counts control records, which no reader sees.
    pub fn end(&self, topic: &str, partition: i32, from: i64) -> Result<i64, ShellError> {
        let mut end = from;
        self.range(topic, partition, from, None, |message| end = end.max(message.offset() + 1))?;
        Ok(end)
    }

    /// Returns whether a partition is stable up to `end` and has no committed record in `next..end`: only control
    /// records and records of aborted transactions.
    pub fn is_read(
        &self,
        topic: &str,
        partition: i32,
        (next, end): (i64, i64),
    ) -> Result<bool, ShellError> {
        if self.bounds(topic, partition)?.1 < end {
            return Ok(false);
        }
        let first = self.find(topic, partition, next, |message| Some(message.offset()))?;
        Ok(first.is_none_or(|offset| offset >= end))
    }

    /// Returns the offset of the first record with this timestamp or a later one, or the last stable offset if there is
    /// none.
    pub fn offset_at(&self, topic: &str, partition: i32, at: Timestamp) -> Result<i64, ShellError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(at.0))
            .map_err(ShellError::kafka("look up the offset at a time"))?;
        let found = self
            .consumer
            .offsets_for_times(list, OFFSETS_TIMEOUT)
            .map_err(ShellError::kafka("look up the offset at a time"))?;
        match found.find_partition(topic, partition).map(|t| t.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset),
            Some(_) | None => self.bounds(topic, partition).map(|(_, high)| high),
        }
    }
}

/// Returns the first retained offset and the one after the last that this consumer may read.
fn ends(
    consumer: &BaseConsumer<LogContext>,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> Result<(i64, i64), ShellError> {
    consumer
        .fetch_watermarks(topic, partition, timeout)
        .map_err(ShellError::kafka("look up the offsets of a partition"))
}

fn open_transaction(topic: &str, partition: i32) -> ShellError {
    ShellError::OpenTransaction { topic: topic.to_owned(), partition }
}
