//! A member of a consumer group that changes its partitions between two turns, never inside of a poll.
//!
//! The client's callback only takes notes. The loop acts on them: what is to go away is committed while it is still ours and given up
//! then; what came is restored first and read from the offset that it was restored to. A partition's companion, the same partition of
//! another topic that the group does not subscribe to, comes and goes with it: so a pair can never be split over two members, and no
//! key has to agree with anything.

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

/// What the group has given or taken since it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebalanceEvent {
    /// These partitions of subscribed topics are ours once we `accept` them.
    Assigned(Vec<(String, i32)>),
    /// These are to go away, and are ours until we `release` them.
    Revoked(Vec<(String, i32)>),
    /// These are ours no more: others may have them already.
    Lost(Vec<(String, i32)>),
}

/// How long looking a topic up may take.
const METADATA_WAIT: Duration = Duration::from_secs(5);
/// How long leaving a group may take.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A partition, and where reading begins.
pub type ReadFrom<'a> = (&'a str, i32, Offset);

/// Takes notes for the loop to act on.
#[derive(Clone, Debug, Default)]
pub struct RebalanceNotes {
    rebalanced: Arc<Mutex<Vec<RebalanceEvent>>>,
    /// Nobody acts on notes any more: what is to go away goes at once.
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
                // The whole assignment goes, companions included.
                match consumer.assignment() {
                    Ok(all) => change(consumer, Change::Unassign, &all),
                    Err(error) => Err(error),
                }
            };
            if let Err(error) = done {
                debug!(%error, "partitions were not given up in an orderly way");
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
/// A static member that comes back is given what its group had given it before, and nothing is assigned anew. What it was to hand
/// over when it went, and had not yet said that it did, would belong to nobody from then on. A change of subscription makes the group
/// assign everything anew: so a static member subscribes to one topic more once it has joined, of which it takes nothing.
pub struct GroupMember {
    /// There as long as the member is.
    consumer: Option<BaseConsumer<RebalanceNotes>>,
    offsets: GroupOffsets,
    notes: RebalanceNotes,
    subscribed: Vec<String>,
    /// A static member's one topic more.
    extra: Option<String>,
    has_joined: Cell<bool>,
    /// What the group waits for.
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
            // Nobody waits any more where this took too long.
            done.send(()).ok();
        });
        match is_done.recv_timeout(CLOSE_MAX) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                // A thread that panicked has said so.
                closing.join().ok();
            }
            Err(RecvTimeoutError::Timeout) => {
                warn!("leaving a group takes too long; nobody waits for it");
            }
        }
    }
}

/// Gives up what is held and leaves the group.
///
/// The client may wait here for an answer of its own that never comes, when it is asked to leave in the middle of a rebalance.
fn close(consumer: BaseConsumer<RebalanceNotes>, owed: Option<Change>) {
    // What waits for our word must have it, or closing waits for ever.
    let done = match owed {
        None => Ok(()),
        Some(Change::Assign) => change(&consumer, Change::Assign, &TopicPartitionList::new()),
        Some(Change::Unassign) => {
            consumer.assignment().and_then(|all| change(&consumer, Change::Unassign, &all))
        }
    };
    if let Err(error) = done {
        debug!(%error, "partitions were not given up in an orderly way");
    }
    drop(consumer);
}

impl GroupMember {
    /// Joins nothing yet.
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

    /// Subscribes to these topics, each once, unless they are what it is subscribed to.
    pub fn subscribe(&mut self, mut names: Vec<String>) -> Result<(), ShellError> {
        // The client refuses a subscription that names a topic twice.
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
            // A topic that the client finds out about later makes the group assign anew once more, in the middle of the work.
            let found = self.consumer().fetch_metadata(Some(topic), METADATA_WAIT);
            if let Err(error) = found {
                debug!(%error, topic, "the topic is looked up later");
            }
        }
        let names: Vec<&str> = self.subscribed.iter().chain(extra).map(String::as_str).collect();
        self.consumer().subscribe(&names).map_err(ShellError::kafka("subscribe"))
    }

    /// Returns what a role does that goes round with this member: it waits until the group has answered, where it was asked.
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

    /// Returns what the group has given and taken, in order; each must be answered by `accept` or `release`.
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

    /// Takes partitions that the group has given, companions included, and reads them from these offsets.
    pub fn accept(&self, partitions: &[ReadFrom<'_>]) -> Result<(), ShellError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, from) in partitions {
            list.add_partition_offset(topic, *partition, *from)
                .map_err(ShellError::kafka("list partitions"))?;
        }
        self.owed.set(None);
        change(self.consumer(), Change::Assign, &list)
            .map_err(ShellError::kafka("take partitions"))?;
        let is_first = !self.has_joined.replace(true);
        if is_first && self.extra.is_some() {
            self.subscribe_as_far_as_joined()?;
        }
        Ok(())
    }

    /// Gives partitions up, companions included.
    pub fn release(&self, partitions: &[(&str, i32)]) -> Result<(), ShellError> {
        let held = self.consumer().assignment().map_err(ShellError::kafka("list partitions"))?;
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            // One that was given but could not be taken yet is not among them.
            if held.find_partition(topic, *partition).is_some() {
                list.add_partition(topic, *partition);
            }
        }
        self.owed.set(None);
        change(self.consumer(), Change::Unassign, &list)
            .map_err(ShellError::kafka("give partitions up"))
    }

    /// Reads a partition that is ours again from its beginning.
    pub fn rewind(&self, topic: &str, partition: i32) -> Result<(), ShellError> {
        self.consumer()
            .seek(topic, partition, Offset::Beginning, METADATA_WAIT)
            .map_err(ShellError::kafka("read a partition again"))
    }

    /// Returns the group's metadata, with which offsets are fenced.
    pub fn metadata(&self) -> Result<ConsumerGroupMetadata, ShellError> {
        self.consumer()
            .group_metadata()
            .ok_or_else(|| ShellError::Missing("the consumer has no group metadata".to_owned()))
    }

    /// Returns what is the matter when a record could not be read, or nothing where the client mends it by itself.
    pub fn failure(&self, doing: &'static str, error: KafkaError) -> Option<ShellError> {
        // The client says what is fatal only when it is asked.
        let fatal = self.consumer().client().fatal_error().map(|f| f.0);
        match fatal {
            Some(code) => {
                let source = KafkaError::MessageConsumptionFatal(code);
                Some(ShellError::Kafka { doing, source })
            }
            None if is_retriable_by_role(&error) => {
                debug!(%error, "{doing}: the client tries again");
                None
            }
            None => Some(ShellError::Kafka { doing, source: error }),
        }
    }

    /// Returns the committed offset and its metadata of each of these partitions; nothing where none was committed.
    pub fn committed(&self, partitions: &[(&str, i32)]) -> Result<Offsets, ShellError> {
        self.offsets.read(partitions)
    }

    /// Stops or resumes reading of one partition.
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

/// Returns where reading goes on: at what follows, or at the beginning where nothing was ever committed or read.
pub fn read_from(committed: Option<&(i64, String)>, next: i64) -> Offset {
    if committed.is_none() && next == 0 { Offset::Beginning } else { Offset::Offset(next) }
}
