//! A member of a consumer group whose assignment changes between two turns, never inside a poll.
//!
//! The rebalance callback only records the event; the role's loop processes it. Revoked partitions are committed while
//! they are still ours and then released. Assigned partitions are restored and then read from the restored offset. The
//! companion of a partition is the partition with the same number in a topic that the group does not subscribe to. It is
//! assigned and released together with the partition, so that two members never share a pair.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{
    BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use crate::kafka::client::client_log::forward_client_log;
use crate::kafka::client::committed_offsets::{GroupOffsets, Offsets};
use crate::kafka::client::error::{ShellError, is_retriable_by_role};
use crate::kafka::client::instance_lease::InstanceLease;
use crate::kafka::client::settings::Settings;
use crate::kafka::process::liveness::Activity;

/// A rebalance event that the loop must process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebalanceEvent {
    /// We own these partitions of subscribed topics once we `accept` them.
    Assigned(Vec<(String, i32)>),
    /// We own these partitions until we `release` them.
    Revoked(Vec<(String, i32)>),
    /// We no longer own these partitions: other members may own them already.
    Lost(Vec<(String, i32)>),
}

/// Timeout of a metadata request and of a seek.
const METADATA_WAIT: Duration = Duration::from_secs(5);
/// Timeout of leaving a group.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A topic, a partition, and the offset from which it is read.
pub type ReadFrom<'a> = (&'a str, i32, Offset);

/// Records rebalance events for the loop.
#[derive(Clone, Debug, Default)]
pub struct RebalanceNotes {
    rebalanced: Arc<Mutex<Vec<RebalanceEvent>>>,
    /// The loop has ended: the callback processes events itself.
    is_closing: Arc<AtomicBool>,
}

impl RebalanceNotes {
    fn take(&self) -> Vec<RebalanceEvent> {
        std::mem::take(&mut *self.rebalanced.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

forward_client_log!(RebalanceNotes);

impl ConsumerContext for RebalanceNotes {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let is_assigning = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.is_closing.load(Ordering::Acquire) {
            let empty = TopicPartitionList::new();
            let done = if is_assigning {
                change(consumer, Change::Assign, &empty)
            } else {
                // Release the whole assignment, including companions.
                match consumer.assignment() {
                    Ok(all) => change(consumer, Change::Unassign, &all),
                    Err(error) => Err(error),
                }
            };
            if let Err(error) = done {
                debug!(%error, "partitions not released");
            }
            return;
        }
        let named =
            partitions.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let note = if is_assigning {
            RebalanceEvent::Assigned(named)
        } else if consumer.assignment_lost() {
            RebalanceEvent::Lost(named)
        } else {
            RebalanceEvent::Revoked(named)
        };
        self.rebalanced.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }
}

#[derive(Clone, Copy)]
enum Change {
    Assign,
    Unassign,
}

impl Change {
    fn of(note: &RebalanceEvent) -> Self {
        match note {
            RebalanceEvent::Assigned(_) => Self::Assign,
            RebalanceEvent::Revoked(_) | RebalanceEvent::Lost(_) => Self::Unassign,
        }
    }
}

fn change(
    consumer: &BaseConsumer<RebalanceNotes>,
    change: Change,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    let is_incremental = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
    match (change, is_incremental) {
        (Change::Assign, true) => consumer.incremental_assign(partitions),
        (Change::Assign, false) => consumer.assign(partitions),
        (Change::Unassign, true) => consumer.incremental_unassign(partitions),
        (Change::Unassign, false) => consumer.unassign(),
    }
}

/// A member of a consumer group.
///
/// A static member that rejoins gets its previous assignment without a rebalance. A partition that it was about to release
/// when it stopped would then have no owner. A changed subscription triggers a rebalance, so a static member subscribes
/// to one more topic once it has joined, and reads nothing from it.
pub struct GroupMember {
    /// `None` only while the member is dropped.
    consumer: Option<BaseConsumer<RebalanceNotes>>,
    offsets: GroupOffsets,
    notes: RebalanceNotes,
    subscribed: Vec<String>,
    /// The additional topic of a static member.
    extra: Option<String>,
    has_joined: Cell<bool>,
    /// The answer that the group waits for.
    owed: Cell<Option<Change>>,
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        self.notes.is_closing.store(true, Ordering::Release);
        let Some(consumer) = self.consumer.take() else { return };
        let owed = self.notes.take().iter().map(Change::of).next_back().or(self.owed.take());
        let (done, is_done) = mpsc::channel();
        let closing = thread::spawn(move || {
            close(consumer, owed);
            // The receiver is gone after the timeout.
            done.send(()).ok();
        });
        match is_done.recv_timeout(CLOSE_MAX) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                // A panic of the thread has been logged.
                closing.join().ok();
            }
            Err(RecvTimeoutError::Timeout) => {
                warn!("leaving the group timed out");
            }
        }
    }
}

/// Releases all partitions and leaves the group.
///
/// If the member leaves during a rebalance, the client may block here forever.
fn close(consumer: BaseConsumer<RebalanceNotes>, owed: Option<Change>) {
    // Answer the pending rebalance first; otherwise `close` blocks forever.
    let done = match owed {
        None => Ok(()),
        Some(Change::Assign) => change(&consumer, Change::Assign, &TopicPartitionList::new()),
        Some(Change::Unassign) => {
            consumer.assignment().and_then(|all| change(&consumer, Change::Unassign, &all))
        }
    };
    if let Err(error) = done {
        debug!(%error, "partitions not released");
    }
    drop(consumer);
}

impl GroupMember {
    /// Creates a member that has not joined its group.
    pub fn new(settings: &Settings, group: &str, slot: Option<&str>) -> Result<Self, ShellError> {
        let notes = RebalanceNotes::default();
        let mut config = settings.consumer(group);
        let offsets = GroupOffsets::new(&config)?;
        config.set("partition.assignment.strategy", "cooperative-sticky");
        if let Some(slot) = slot {
            config.set("group.instance.id", slot);
        }
        let consumer = config
            .create_with_context(notes.clone())
            .map_err(ShellError::kafka("set up the consumer"))?;
        Ok(Self {
            consumer: Some(consumer),
            offsets,
            notes,
            subscribed: Vec::new(),
            extra: slot.map(|_| InstanceLease::topic(settings)),
            has_joined: Cell::new(false),
            owed: Cell::new(None),
        })
    }

    fn consumer(&self) -> &BaseConsumer<RebalanceNotes> {
        self.consumer.as_ref().expect("it is taken only when the member is dropped")
    }

    /// Subscribes to these topics unless the subscription is the same.
    pub fn subscribe(&mut self, mut names: Vec<String>) -> Result<(), ShellError> {
        // The client rejects a subscription with duplicates.
        names.sort_unstable();
        names.dedup();
        if names == self.subscribed || names.is_empty() {
            return Ok(());
        }
        info!(topics = names.join(", "), "subscribed");
        self.subscribed = names;
        self.subscribe_as_far_as_joined()
    }

    fn subscribe_as_far_as_joined(&self) -> Result<(), ShellError> {
        let extra = self.extra.iter().filter(|_| self.has_joined.get());
        for topic in extra.clone() {
            // A topic that the client discovers later triggers another rebalance while the roles work.
            let found = self.consumer().fetch_metadata(Some(topic), METADATA_WAIT);
            if let Err(error) = found {
                debug!(%error, topic, "topic metadata not available yet");
            }
        }
        let names: Vec<&str> = self.subscribed.iter().chain(extra).map(String::as_str).collect();
        self.consumer().subscribe(&names).map_err(ShellError::kafka("subscribe"))
    }

    /// Returns the activity of a role between two turns: joining until the first assignment, then running.
    pub fn activity(&self) -> Activity {
        if self.has_joined.get() || self.subscribed.is_empty() {
            Activity::Running
        } else {
            Activity::Joining
        }
    }

    /// Waits for a record.
    pub fn poll(&self, wait: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.consumer().poll(wait)
    }

    /// Returns the rebalance events in order. Each must be answered by `accept` or `release`.
    pub fn rebalanced(&self) -> Vec<RebalanceEvent> {
        let mut notes = self.notes.take();
        if let Some(last) = notes.last() {
            self.owed.set(Some(Change::of(last)));
        }
        for note in &mut notes {
            let (RebalanceEvent::Assigned(partitions)
            | RebalanceEvent::Revoked(partitions)
            | RebalanceEvent::Lost(partitions)) = note;
            partitions.retain(|(topic, _)| Some(topic) != self.extra.as_ref());
        }
        notes
    }

    /// Accepts assigned partitions, including companions, and reads them from these offsets.
    pub fn accept(&self, partitions: &[ReadFrom<'_>]) -> Result<(), ShellError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, from) in partitions {
            list.add_partition_offset(topic, *partition, *from)
                .map_err(ShellError::kafka("list partitions"))?;
        }
        self.owed.set(None);
        change(self.consumer(), Change::Assign, &list)
            .map_err(ShellError::kafka("accept partitions"))?;
        let is_first = !self.has_joined.replace(true);
        if is_first && self.extra.is_some() {
            self.subscribe_as_far_as_joined()?;
        }
        Ok(())
    }

    /// Releases partitions, including companions.
    pub fn release(&self, partitions: &[(&str, i32)]) -> Result<(), ShellError> {
        let held = self.consumer().assignment().map_err(ShellError::kafka("list partitions"))?;
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            // A partition that was assigned but not accepted is not held.
            if held.find_partition(topic, *partition).is_some() {
                list.add_partition(topic, *partition);
            }
        }
        self.owed.set(None);
        change(self.consumer(), Change::Unassign, &list)
            .map_err(ShellError::kafka("release partitions"))
    }

    /// Reads an assigned partition again from its beginning.
    pub fn rewind(&self, topic: &str, partition: i32) -> Result<(), ShellError> {
        self.consumer()
            .seek(topic, partition, Offset::Beginning, METADATA_WAIT)
            .map_err(ShellError::kafka("read a partition again"))
    }

    /// Returns the group's metadata, which fences offset commits of previous owners.
    pub fn metadata(&self) -> Result<ConsumerGroupMetadata, ShellError> {
        self.consumer()
            .group_metadata()
            .ok_or_else(|| ShellError::Missing("the consumer has no group metadata".to_owned()))
    }

    /// Converts a poll error, or returns `None` if the client retries by itself.
    pub fn failure(&self, doing: &'static str, error: KafkaError) -> Option<ShellError> {
        // The client reports the fatal error only on request.
        let fatal = self.consumer().client().fatal_error().map(|f| f.0);
        match fatal {
            Some(code) => {
                let source = KafkaError::MessageConsumptionFatal(code);
                Some(ShellError::Kafka { doing, source })
            }
            None if is_retriable_by_role(&error) => {
                debug!(%error, doing, "client retries");
                None
            }
            None => Some(ShellError::Kafka { doing, source: error }),
        }
    }

    /// Returns the committed offset and metadata of each of these partitions, if any.
    pub fn committed(&self, partitions: &[(&str, i32)]) -> Result<Offsets, ShellError> {
        self.offsets.read(partitions)
    }

    /// Pauses or resumes one partition.
    pub fn pause(&self, topic: &str, partition: i32, is_paused: bool) -> Result<(), ShellError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        if is_paused {
            self.consumer().pause(&list).map_err(ShellError::kafka("pause a partition"))
        } else {
            self.consumer().resume(&list).map_err(ShellError::kafka("resume a partition"))
        }
    }
}

/// Returns the offset from which to read: `next`, or the beginning if nothing was ever committed or read.
pub fn read_from(committed: Option<&(i64, String)>, next: i64) -> Offset {
    if committed.is_none() && next == 0 { Offset::Beginning } else { Offset::Offset(next) }
}
