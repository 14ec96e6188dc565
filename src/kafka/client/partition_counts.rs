//! Partition counts of topics, cached for as long as a role runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kafka::client::error::ShellError;
use crate::kafka::client::transaction::TransactionalProducer;
use crate::kafka::process::clock;

/// Time after which a missing topic is looked up again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The partition count of each topic that was looked up; a missing topic has 0 and the time of the look-up.
#[derive(Debug, Default)]
pub struct PartitionCounts(hashbrown::HashMap<Arc<str>, (i32, Option<Instant>)>);

impl PartitionCounts {
    /// Returns the partition count of a topic, or 0 while the topic does not exist.
    ///
    /// # Errors
    ///
    /// The brokers do not answer.
    pub fn of(&mut self, topic: &str, producer: &TransactionalProducer) -> Result<i32, ShellError> {
        match self.0.get(topic) {
            Some((count, None)) => return Ok(*count),
            Some((_, Some(at))) if at.elapsed() < RETRY_AFTER => return Ok(0),
            Some(_) | None => {}
        }
        let count = producer.partitions(topic)?;
        let missing_since = (count == 0).then(clock::moment);
        self.0.insert(Arc::from(topic), (count, missing_since));
        Ok(count)
    }
}
