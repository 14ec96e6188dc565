//! The offsets that a group has committed, and what to do where the brokers do not give them out.
//!
//! A broker holds a partition's offset back as long as a transaction may still change it. That is over soon: the transaction ends, or the
//! broker ends it when its time is over. But a broker that dies in the middle of ending one may lose the mark that says so to the group,
//! and then holds the offset back for ever (seen with Kafka 4.3: the transaction's own log says that it is complete). What was committed
//! before can still be asked for, and what came after it stands in the journals.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use crate::kafka::client::error::{ShellError, mends_by_itself};
use crate::kafka::client::settings::LogContext;
use crate::kafka::client::uncommitted_reader::UncommittedReader;
use crate::kafka::process::clock;
use crate::kafka::process::wait::Deadline;

/// How long offsets may take where nothing holds them back.
const READ_MAX: Duration = Duration::from_secs(20);
/// How long is waited for such that are held back, each time.
const WAIT: Duration = Duration::from_secs(3);
/// How soon it makes no sense to ask again for what was held back.
const PAUSE: Duration = Duration::from_secs(2);
/// After so long no transaction can be open any more: its own time is over, and the brokers have looked.
const HELD_MAX: Duration = Duration::from_secs(30);

/// An offset and its metadata.
pub type Committed = Option<(i64, String)>;

/// What a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    found: Vec<Committed>,
    /// Whether that is all. If not, what came after is not given out, and never will be by itself.
    is_certain: bool,
}

impl Offsets {
    /// Returns the first two, and whether that is all.
    pub fn pair(self) -> (Committed, Committed, bool) {
        let mut found = self.found.into_iter();
        (found.next().flatten(), found.next().flatten(), self.is_certain)
    }
}

/// Adds the next offset to read, which is one after the last that was taken in.
pub fn add(
    offsets: &mut TopicPartitionList,
    topic: &str,
    partition: i32,
    next: i64,
    metadata: Option<String>,
) -> Result<(), ShellError> {
    offsets
        .add_partition_offset(topic, partition, Offset::Offset(next))
        .map_err(ShellError::kafka("list offsets"))?;
    if let (Some(metadata), Some(mut it)) = (metadata, offsets.find_partition(topic, partition)) {
        it.set_metadata(metadata);
    }
    Ok(())
}

/// Reads a group's offsets.
///
/// On connections of its own: behind a member that joins anew requests wait until the whole group has.
pub struct GroupOffsets {
    reader: BaseConsumer<LogContext>,
    /// Does not ask for stable offsets only, and is given what is held back as it was before.
    uncommitted: UncommittedReader,
    held: Cell<Option<Held>>,
}

/// Since when offsets are held back, and when that was found last.
#[derive(Clone, Copy)]
struct Held {
    since: Instant,
    seen: Instant,
}

impl GroupOffsets {
    /// Makes a reader of the group of this configuration.
    pub fn new(config: &ClientConfig) -> Result<Self, ShellError> {
        let reader = config
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("set up the reader of offsets"))?;
        Ok(Self { reader, uncommitted: UncommittedReader::new(config), held: Cell::new(None) })
    }

    /// Returns the offset of each of these partitions.
    ///
    /// # Errors
    ///
    /// `OffsetsHeld` where they are held back, not yet for so long that it must be for ever.
    pub fn read(&self, partitions: &[(&str, i32)]) -> Result<Offsets, ShellError> {
        let now = clock::moment();
        let is_fresh = |h: &Held| now.duration_since(h.seen) < PAUSE;
        if self.held.get().as_ref().is_some_and(is_fresh) {
            return self.held_back(partitions);
        }
        match ask(&self.reader, partitions) {
            Ok(found) => {
                self.held.set(None);
                Ok(Offsets { found, is_certain: true })
            }
            Err(error) if is_held(&error) => {
                let since = self.held.get().map_or(now, |n| n.since);
                self.held.set(Some(Held { since, seen: clock::moment() }));
                debug!(%error, "offsets are not given out");
                self.held_back(partitions)
            }
            Err(error) => Err(ShellError::kafka(READ)(error)),
        }
    }

    fn held_back(&self, partitions: &[(&str, i32)]) -> Result<Offsets, ShellError> {
        let held = self.held.get().map_or(Duration::ZERO, |h| h.since.elapsed());
        let for_s = held.as_secs();
        if held < HELD_MAX {
            return Err(ShellError::OffsetsHeld { for_s });
        }
        if !self.uncommitted.is_made() {
            warn!(
                for_s,
                "the group's offsets are held back, though no transaction lasts so long: the journals tell what was committed"
            );
        }
        let found =
            ask(self.uncommitted.consumer()?, partitions).map_err(ShellError::kafka(READ))?;
        Ok(Offsets { found, is_certain: false })
    }
}

const READ: &str = "read the committed offsets";

/// Brokers that are away time out too, and then whoever asks in the other way is told so.
fn is_held(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::MessageTimedOut
                | RDKafkaErrorCode::UnstableOffsetCommit
        )
    )
}

fn ask(
    reader: &BaseConsumer<LogContext>,
    partitions: &[(&str, i32)],
) -> Result<Vec<Committed>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    let deadline = Deadline::after(READ_MAX);
    let found = loop {
        match reader.committed_offsets(list.clone(), WAIT) {
            Ok(found) => break found,
            Err(error) if !is_held(&error) && mends_by_itself(&error) && !deadline.is_over() => {
                debug!(%error, "the committed offsets are asked for again");
                thread::park_timeout(Duration::from_millis(100));
            }
            Err(error) => return Err(error),
        }
    };
    let offset = |(topic, partition): &(&str, i32)| {
        let it = found.find_partition(topic, *partition)?;
        match it.offset() {
            Offset::Offset(offset) => Some((offset, it.metadata().to_owned())),
            Offset::Beginning
            | Offset::End
            | Offset::Stored
            | Offset::Invalid
            | Offset::OffsetTail(_) => None,
        }
    };
    Ok(partitions.iter().map(offset).collect())
}
