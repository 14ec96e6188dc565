//! Reads the committed offsets of a group, including offsets that a broker withholds.
//!
//! A broker withholds the offset of a partition while an open transaction may still change it. Usually that
//! ends soon: the transaction ends, or the broker aborts it at its timeout. But a broker that crashes while
//! it ends a transaction may lose the control record for the group's partition and then withholds the offset
//! forever (observed with Kafka 4.3, whose transaction log says that the transaction is complete). The
//! previous offset can still be read, and the journals hold what was committed after it.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::{ShellError, is_offset_withheld, is_retriable_by_role};
use crate::kafka::client::uncommitted_reader::UncommittedReader;
use crate::kafka::process::clock;
use crate::kafka::process::wait::Deadline;

/// Time for retries of errors other than withheld offsets.
const RETRY_MAX: Duration = Duration::from_secs(20);
/// Timeout of one attempt to read offsets that the broker may be withholding.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time after an attempt that found offsets withheld during which no new attempt is made.
const RECHECK_AFTER: Duration = Duration::from_secs(2);
/// Time after which no transaction can still be open: it exceeds the transaction timeout plus the broker's
/// check interval.
const WITHHELD_MAX: Duration = Duration::from_secs(30);

/// The committed offset of a partition with its metadata, if any.
pub type Committed = Option<(i64, String)>;

/// The committed offsets of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    found: Vec<Committed>,
    /// If false, the broker withholds later offsets and will not release them by itself.
    is_certain: bool,
}

impl Offsets {
    /// Returns the offsets of the first two partitions, and whether they are certain to be the latest.
    pub fn pair(self) -> (Committed, Committed, bool) {
        let mut found = self.found.into_iter();
        (found.next().flatten(), found.next().flatten(), self.is_certain)
    }
}

/// Adds the next offset to read, which is one after the last offset that was processed.
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
    if let (Some(metadata), Some(mut added)) = (metadata, offsets.find_partition(topic, partition))
    {
        added.set_metadata(metadata);
    }
    Ok(())
}

/// Reads the committed offsets of a group.
///
/// It has its own connections: on the connection of a member, requests wait behind a join until the rebalance ends.
pub struct GroupOffsets {
    reader: BaseConsumer<LogContext>,
    /// Does not require stable offsets, so the broker returns the previous value of a withheld one.
    uncommitted: UncommittedReader,
    withheld: Cell<Option<Withheld>>,
}

/// Since when offsets have been withheld, and when that was last checked.
#[derive(Clone, Copy)]
struct Withheld {
    since: Instant,
    checked_at: Instant,
}

impl GroupOffsets {
    /// Creates a reader for the group of this configuration.
    pub fn new(config: &ClientConfig) -> Result<Self, ShellError> {
        let reader = config
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("set up the reader of offsets"))?;
        Ok(Self { reader, uncommitted: UncommittedReader::new(config), withheld: Cell::new(None) })
    }

    /// Returns the committed offset of each of these partitions.
    ///
    /// # Errors
    ///
    /// `OffsetsWithheld` if the broker withholds them and a transaction may still be open.
    pub fn read(&self, partitions: &[(&str, i32)]) -> Result<Offsets, ShellError> {
        let now = clock::moment();
        let is_recent = |w: &Withheld| now.duration_since(w.checked_at) < RECHECK_AFTER;
        if self.withheld.get().as_ref().is_some_and(is_recent) {
            return self.read_withheld(partitions);
        }
        match request(&self.reader, partitions) {
            Ok(found) => {
                self.withheld.set(None);
                Ok(Offsets { found, is_certain: true })
            }
            Err(error) if is_offset_withheld(&error) => {
                let since = self.withheld.get().map_or(now, |w| w.since);
                self.withheld.set(Some(Withheld { since, checked_at: clock::moment() }));
                debug!(%error, "committed offsets withheld");
                self.read_withheld(partitions)
            }
            Err(error) => Err(ShellError::kafka(READ)(error)),
        }
    }

    fn read_withheld(&self, partitions: &[(&str, i32)]) -> Result<Offsets, ShellError> {
        let withheld = self.withheld.get().map_or(Duration::ZERO, |w| w.since.elapsed());
        let for_s = withheld.as_secs();
        if withheld < WITHHELD_MAX {
            return Err(ShellError::OffsetsWithheld { for_s });
        }
        if !self.uncommitted.is_created() {
            warn!(
                for_s,
                "committed offsets withheld for longer than any transaction lasts: using the previous offsets and the journals"
            );
        }
        let found =
            request(self.uncommitted.consumer()?, partitions).map_err(ShellError::kafka(READ))?;
        Ok(Offsets { found, is_certain: false })
    }
}

const READ: &str = "read the committed offsets";

fn request(
    reader: &BaseConsumer<LogContext>,
    partitions: &[(&str, i32)],
) -> Result<Vec<Committed>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    let deadline = Deadline::after(RETRY_MAX);
    let found = loop {
        match reader.committed_offsets(list.clone(), ATTEMPT_TIMEOUT) {
            Ok(found) => break found,
            Err(error)
                if !is_offset_withheld(&error)
                    && is_retriable_by_role(&error)
                    && !deadline.is_over() =>
            {
                debug!(%error, "retrying to read the committed offsets");
                thread::park_timeout(Duration::from_millis(100));
            }
            Err(error) => return Err(error),
        }
    };
    let offset = |(topic, partition): &(&str, i32)| {
        let element = found.find_partition(topic, *partition)?;
        match element.offset() {
            Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
            Offset::Beginning
            | Offset::End
            | Offset::Stored
            | Offset::Invalid
            | Offset::OffsetTail(_) => None,
        }
    };
    Ok(partitions.iter().map(offset).collect())
}
