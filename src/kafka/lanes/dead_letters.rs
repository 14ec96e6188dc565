//! Dead letters: records that cannot be used, sent to the model's dead-letter topic with the reason and as much of the record as fits.

use tracing::warn;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::partition_counts::PartitionCounts;
use crate::kafka::client::transaction::{Sent, TransactionalProducer};
use crate::kafka::lanes::size_limit;
use crate::kafka::process::metrics::PendingCounts;
use crate::wire::headers;
use serinus_core::domain::record::{Bytes, Carried};
use serinus_core::engine::counter::Counter;
use serinus_core::plan::rollout::ModelPlan;

/// A record that cannot be used: its bytes, its position, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The topic that it was read from.
    pub topic: Box<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Key and headers.
    pub carried: Carried,
    /// The bytes.
    pub value: Option<Bytes>,
    /// Why the record cannot be used.
    pub reason: Box<str>,
    /// The parts that are unavailable or do not fit into a dead letter.
    pub left_out: LeftOut,
}

impl DeadLetter {
    /// Makes a dead letter of a record without its bytes, which remain available at its position.
    pub fn left(topic: &str, (partition, offset): (i32, i64), reason: &str) -> Self {
        let (carried, value) = (Carried::default(), None);
        let (topic, reason, left_out) = (topic.into(), reason.into(), LeftOut::Key);
        Self { topic, partition, offset, carried, value, reason, left_out }
    }
}

/// The parts of the record that a dead letter leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Nothing.
    Nothing,
    /// The value.
    Value,
    /// The value and the headers.
    Headers,
    /// The value, the headers and the key: everything but the position.
    Key,
}

impl LeftOut {
    /// Returns the value of the header that names the omitted parts; nothing if the record is complete.
    pub fn words(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Value => Some("value"),
            Self::Headers => Some("value, headers"),
            Self::Key => Some("value, headers, key"),
        }
    }

    /// Returns the next larger omission.
    pub fn more(self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Value),
            Self::Value => Some(Self::Headers),
            Self::Headers => Some(Self::Key),
            Self::Key => None,
        }
    }
}

/// Writes dead letters into the open transaction.
#[derive(Default)]
pub struct DeadLetterWriter {
    partitions: PartitionCounts,
}

impl DeadLetterWriter {
    /// Writes a dead letter, with as much of the record as fits.
    pub fn send_to_dead_letters(
        &mut self,
        plan: &ModelPlan,
        dead: &DeadLetter,
        producer: &mut TransactionalProducer,
        counts: &mut PendingCounts,
    ) -> Result<(), ShellError> {
        counts.add(&plan.name, Counter::Refused, 1);
        let topic = &plan.topics.dead_letters;
        let count = self.partitions.of(topic, producer)?;
        let (partition, offset) = (dead.partition.to_string(), dead.offset.to_string());
        let (mut left_out, mut is_short) = (dead.left_out, false);
        loop {
            let reason = if is_short {
                size_limit::cut_short(&dead.reason)
            } else {
                size_limit::cut(&dead.reason)
            };
            let (key, value) = (dead.carried.key.as_deref(), dead.value.as_deref());
            let carried = &dead.carried.headers[..];
            let (key, value, carried) = match left_out {
                LeftOut::Nothing => (key, value, carried),
                LeftOut::Value => (key, None, carried),
                LeftOut::Headers => (key, None, &[][..]),
                LeftOut::Key => (None, None, &[][..]),
            };
            let mut ours = vec![
                (headers::DEAD_REASON, reason),
                (headers::DEAD_TOPIC, &dead.topic),
                (headers::DEAD_PARTITION, &partition),
                (headers::DEAD_OFFSET, &offset),
            ];
            ours.extend(left_out.words().map(|w| (headers::DEAD_LEFT_OUT, w)));
            let partition = dead.partition % count.max(1);
            let fit = producer.offer(Outgoing {
                topic,
                partition,
                key,
                value,
                passthrough: carried,
                headers: &ours,
                at: None,
            })?;
            match (fit, left_out.more()) {
                (Sent::Sent, _) => return Ok(()),
                (Sent::TooLarge, Some(more)) => left_out = more,
                (Sent::TooLarge, None) if is_short => {
                    warn!(
                        topic,
                        from = &*dead.topic,
                        partition = dead.partition,
                        offset,
                        reason = size_limit::cut(&dead.reason),
                        "dead letter dropped: its topic accepts too small records even for the position"
                    );
                    counts.add(&plan.name, Counter::TooLarge, 1);
                    return Ok(());
                }
                (Sent::TooLarge, None) => is_short = true,
            }
        }
    }
}
