//! Reading a range of a partition again, for a lane that is rebuilt from its inputs.
//!
//! What is not there must be told from what is not shown yet. A transaction becomes visible in one partition after the other, and in each
//! not before all that began there earlier have ended. One that is left open by a process that sleeps or died holds back whatever others
//! commit there after it, until the brokers end it: up to its timeout and the time between two looks of theirs, 10 s each as things are
//! set.

use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tracing::info;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::message;
use crate::kafka::client::settings::{LogContext, Settings};
use crate::kafka::client::uncommitted_reader::UncommittedReader;
use crate::kafka::process::clock;
use crate::kafka::process::liveness::{Activity, Heartbeat};
use crate::kafka::process::wait::Deadline;
use crate::wire::journal::ReplayStart;
use serinus_core::domain::time::Timestamp;

/// How often it is shown how far a replay has come, and how often it is said in the log.
const SHOW_EVERY: Duration = Duration::from_millis(200);
const SAY_EVERY: Duration = Duration::from_secs(5);
/// How long nothing may come before a replay gives up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a look at the ends of a partition may take.
const ENDS_WAIT: Duration = Duration::from_secs(20);
/// Within this a transaction that ended properly is visible everywhere, as a rule; and how often it is looked.
const SOON: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);
/// How long what others write at this moment may take to be decided.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Reads ranges of partitions.
pub struct PartitionReader {
    consumer: BaseConsumer<LogContext>,
    uncommitted: UncommittedReader,
    /// Whether a look that did not find all is repeated for a moment.
    is_patient: bool,
    silence_max: Duration,
    ends_wait: Duration,
    beat: Option<Heartbeat>,
}

impl PartitionReader {
    /// Makes a reader.
    pub fn new(settings: &Settings) -> Result<Self, ShellError> {
        let config = settings.reader();
        let consumer = config
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("set up the reader of a replay"))?;
        Ok(Self {
            consumer,
            uncommitted: UncommittedReader::new(&config),
            is_patient: true,
            silence_max: SILENCE_MAX,
            ends_wait: ENDS_WAIT,
            beat: None,
        })
    }

    /// Waits no longer than this for what a broker has to say.
    #[must_use = "it is another reader then"]
    pub fn waiting_at_most(self, wait: Duration) -> Self {
        Self { silence_max: wait, ends_wait: wait, ..self }
    }

    /// Shows how far it has come as what this role is doing.
    #[must_use = "it is another reader then"]
    pub fn shown_by(self, beat: Heartbeat) -> Self {
        Self { beat: Some(beat), ..self }
    }

    fn show(&self, activity: Activity) {
        if let Some(beat) = &self.beat {
            beat.is(activity);
        }
    }

    /// Reads the committed records of a partition from one offset up to, but not with, another; `None` is its end.
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
        self.walk(topic, partition, (from, to), |message| {
            visit(message);
            ControlFlow::Continue(())
        })
    }

    /// Reads from an offset up to another one, or until the visitor has seen enough.
    fn walk(
        &self,
        topic: &str,
        partition: i32,
        (from, to): (i64, Option<i64>),
        mut visit: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<(), ShellError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from))
            .map_err(ShellError::kafka("assign a replay"))?;
        self.consumer.assign(&list).map_err(ShellError::kafka("assign a replay"))?;
        let mut deadline = Deadline::after(self.silence_max);
        let (mut shown_at, mut said_at) = (clock::moment(), clock::moment());
        let mut done = 0;
        loop {
            if shown_at.elapsed() >= SHOW_EVERY {
                shown_at = clock::moment();
                let (topic, total) = (topic.to_owned(), to.map(|t| t - from));
                self.show(Activity::Restoring { topic, partition, done, total });
            }
            if said_at.elapsed() >= SAY_EVERY {
                said_at = clock::moment();
                info!(topic, partition, done, total = to.map(|t| t - from), "restoring");
            }
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message))
                    if message.topic() != topic || message.partition() != partition => {}
                Some(Ok(message)) => {
                    deadline = Deadline::after(self.silence_max);
                    done = message.offset() - from;
                    if to.is_some_and(|to| message.offset() >= to) {
                        break;
                    }
                    let is_enough = visit(&message).is_break();
                    if is_enough || to.is_some_and(|to| message.offset() + 1 >= to) {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition => break,
                Some(Err(_)) | None if deadline.is_over() => {
                    return Err(ShellError::Missing(format!(
                        "nothing came of {topic}/{partition} from {from} for {} s",
                        self.silence_max.as_secs()
                    )));
                }
                Some(Err(_)) | None => {}
            }
        }
        self.consumer.unassign().map_err(ShellError::kafka("end a replay"))
    }

    /// Reads a lane's journal from where its replay starts, up to the last turn that was committed; see `shown`.
    pub fn turns<T>(
        &self,
        journal: &str,
        partition: i32,
        start: ReplayStart,
        read: impl Fn(&[u8]) -> Option<(u64, T)>,
    ) -> Result<Vec<T>, ShellError> {
        self.shown(journal, partition, || {
            let (mut turns, mut next) = (Vec::new(), start.turn);
            self.turns_shown(journal, partition, start, &read, |number, turn| {
                // What follows was committed by another owner, while whoever reads this slept; it is told so when it commits.
                if number < start.next {
                    next = number + 1;
                    turns.push(turn);
                }
            })?;
            Ok((turns, next >= start.next))
        })
    }

    /// Returns the newest turn of a lane's journal that the committed offsets do not speak of, where they are not certain.
    ///
    /// # Errors
    ///
    /// `Unsettled` where something in it is not decided yet.
    pub fn newest<T>(
        &self,
        journal: &str,
        partition: i32,
        start: ReplayStart,
        read: impl Fn(&[u8]) -> Option<(u64, T)>,
    ) -> Result<Option<T>, ShellError> {
        self.is_decided(journal, partition)?;
        let mut newest = None;
        self.turns_shown(journal, partition, start, read, |number, turn| {
            if number >= start.next {
                newest = Some(turn);
            }
        })?;
        Ok(newest)
    }

    /// Visits the turns of a lane that its journal shows now, from where its replay starts, each with its number.
    fn turns_shown<T>(
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

    /// Fails where something in a partition is not decided yet.
    pub fn is_decided(&self, topic: &str, partition: i32) -> Result<(), ShellError> {
        let written = self.written(topic, partition)?;
        if self.bounds(topic, partition)?.1 < written {
            return Err(unsettled(topic, partition));
        }
        Ok(())
    }

    /// Whether what is not shown at once is waited for: not where it is looked for again later anyway.
    pub fn be_patient(&mut self, is_patient: bool) {
        self.is_patient = is_patient;
    }

    /// Looks at a partition until it shows what was committed before: `look` returns what it found, and whether that is all.
    ///
    /// Where something is missing although everything is decided that was written before, it is gone, and what is there is returned.
    ///
    /// # Errors
    ///
    /// `Unsettled` where something is missing that may still come: nothing may be concluded from what is there.
    pub fn shown<T>(
        &self,
        topic: &str,
        partition: i32,
        mut look: impl FnMut() -> Result<(T, bool), ShellError>,
    ) -> Result<T, ShellError> {
        let (found, is_all) = look()?;
        if is_all {
            return Ok(found);
        }
        let written = self.written(topic, partition)?;
        let deadline = Deadline::after(if self.is_patient { SOON } else { Duration::ZERO });
        loop {
            let (_, decided) = self.bounds(topic, partition)?;
            let (found, is_all) = look()?;
            if is_all || decided >= written {
                return Ok(found);
            }
            if deadline.is_over() {
                return Err(unsettled(topic, partition));
            }
            thread::park_timeout(PAUSE);
        }
    }

    /// Waits until everything is decided that stands in a topic now.
    ///
    /// # Errors
    ///
    /// `Unsettled` where that takes longer than `wait`.
    pub fn settle(&self, topic: &str, wait: Duration) -> Result<(), ShellError> {
        let deadline = Deadline::after(wait);
        for partition in 0..self.partitions(topic)? {
            self.settle_one(topic, partition, deadline)?;
        }
        Ok(())
    }

    fn settle_one(
        &self,
        topic: &str,
        partition: i32,
        deadline: Deadline,
    ) -> Result<(), ShellError> {
        let written = self.written(topic, partition)?;
        while self.bounds(topic, partition)?.1 < written {
            if deadline.is_over() {
                return Err(unsettled(topic, partition));
            }
            self.show(Activity::begin(topic, partition));
            thread::park_timeout(PAUSE);
        }
        Ok(())
    }

    /// Reads the committed records of a partition that are not older than this, once everything is decided that stands there now.
    ///
    /// # Errors
    ///
    /// `Unsettled` where that takes too long.
    pub fn since(
        &self,
        topic: &str,
        partition: i32,
        since: Timestamp,
        visit: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ShellError> {
        let wait = if self.is_patient { SETTLE_MAX } else { SOON };
        self.settle_one(topic, partition, Deadline::after(wait))?;
        let from = self.offset_at(topic, partition, since.max(Timestamp(0)))?;
        self.range(topic, partition, from, None, visit)
    }

    /// Returns the time of the oldest committed record that a partition keeps.
    pub fn first_time(&self, topic: &str, partition: i32) -> Result<Option<Timestamp>, ShellError> {
        let (low, high) = self.bounds(topic, partition)?;
        let mut found = None;
        if low < high {
            self.walk(topic, partition, (low, None), |first| {
                found = Some(message::time(first));
                ControlFlow::Break(())
            })?;
        }
        Ok(found)
    }

    /// Returns whether a partition has a committed record whose value is of this kind; one without a value is not.
    pub fn has_any(
        &self,
        topic: &str,
        partition: i32,
        is_it: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, ShellError> {
        let (low, high) = self.bounds(topic, partition)?;
        let mut found = false;
        if low < high {
            self.walk(topic, partition, (low, None), |message| {
                found = message.payload().is_some_and(&is_it);
                if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(found)
    }

    /// Returns the offset after the last record of a partition, whether it is decided or not.
    pub fn written(&self, topic: &str, partition: i32) -> Result<i64, ShellError> {
        ends(self.uncommitted.consumer()?, topic, partition, self.ends_wait).map(|(_, end)| end)
    }

    /// Returns how many partitions a topic has.
    pub fn partitions(&self, topic: &str) -> Result<i32, ShellError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), Duration::from_secs(15))
            .map_err(ShellError::kafka("look up a topic"))?;
        let count = metadata.topics().first().map_or(0, |t| t.partitions().len());
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// Returns the first offset that is kept and the one after the last that is decided.
    pub fn bounds(&self, topic: &str, partition: i32) -> Result<(i64, i64), ShellError> {
        ends(&self.consumer, topic, partition, self.ends_wait)
    }

    /// Returns the offset after the last committed record of a partition, or `from` where there is none at or after it.
    ///
    /// The end that a broker names also counts the marks of transactions, which no reader ever sees.
    pub fn end(&self, topic: &str, partition: i32, from: i64) -> Result<i64, ShellError> {
        let mut end = from;
        self.range(topic, partition, from, None, |message| end = end.max(message.offset() + 1))?;
        Ok(end)
    }

    /// Returns whether all that stands in a partition before an offset is decided, and a reader of committed records has nothing to read there
    /// from another one on: what is left are marks of transactions and what was taken back.
    pub fn is_read(
        &self,
        topic: &str,
        partition: i32,
        (next, end): (i64, i64),
    ) -> Result<bool, ShellError> {
        if self.bounds(topic, partition)?.1 < end {
            return Ok(false);
        }
        let mut has_more = false;
        self.walk(topic, partition, (next, None), |message| {
            has_more = message.offset() < end;
            ControlFlow::Break(())
        })?;
        Ok(!has_more)
    }

    /// Returns the first offset whose record is not older than this; the end where there is none.
    pub fn offset_at(&self, topic: &str, partition: i32, at: Timestamp) -> Result<i64, ShellError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(at.0))
            .map_err(ShellError::kafka("look up a time"))?;
        let found = self
            .consumer
            .offsets_for_times(list, Duration::from_secs(20))
            .map_err(ShellError::kafka("look up a time"))?;
        match found.find_partition(topic, partition).map(|t| t.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset),
            Some(_) | None => self.bounds(topic, partition).map(|(_, high)| high),
        }
    }
}

/// Returns the first offset that is kept and the one after the last that this consumer may read.
fn ends(
    consumer: &BaseConsumer<LogContext>,
    topic: &str,
    partition: i32,
    wait: Duration,
) -> Result<(i64, i64), ShellError> {
    consumer
        .fetch_watermarks(topic, partition, wait)
        .map_err(ShellError::kafka("look up the ends of a partition"))
}

fn unsettled(topic: &str, partition: i32) -> ShellError {
    ShellError::Unsettled { topic: topic.to_owned(), partition }
}
