//! Puts records into topics as any producer would: outside of transactions, each at its own time.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ThreadedProducer};

use crate::kafka::client::error::ShellError;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::transaction::{OutboxContext, Outgoing, record};
use crate::kafka::process::wait::Deadline;

/// How long the client's queue may stay full, and how long the last records may take.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A plain producer.
pub struct PlainProducer {
    producer: ThreadedProducer<OutboxContext>,
}

impl PlainProducer {
    /// Makes a producer.
    pub fn new(settings: &Settings) -> Result<Self, ShellError> {
        let producer = settings
            .producer()
            .create_with_context(OutboxContext)
            .map_err(ShellError::kafka("set up a producer"))?;
        Ok(Self { producer })
    }

    /// Hands a record to the client, which sends it in the background.
    pub fn send(&self, outgoing: &Outgoing<'_>) -> Result<(), ShellError> {
        let deadline = Deadline::after(WAIT_MAX);
        loop {
            match self.producer.send(record(outgoing, ())) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if !deadline.is_over() =>
                {
                    self.producer.flush(Duration::from_millis(50)).ok();
                }
                Err((source, _)) => {
                    return Err(ShellError::Kafka { doing: "send a record", source });
                }
            }
        }
    }

    /// Waits until the brokers have all that was sent.
    pub fn flush(&self) -> Result<(), ShellError> {
        self.producer.flush(WAIT_MAX).map_err(ShellError::kafka("deliver records"))
    }
}
