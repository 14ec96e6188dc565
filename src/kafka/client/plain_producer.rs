//! Produces records outside of transactions, each with its own timestamp.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ThreadedProducer};

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::settings::Settings;
use crate::kafka::process::wait::Deadline;

/// Time for which the producer's queue may stay full, and timeout of a flush.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub struct PlainProducer {
    producer: ThreadedProducer<LogContext>,
}

impl PlainProducer {
    pub fn new(settings: &Settings) -> Result<Self, ShellError> {
        let producer = settings
            .producer()
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("set up a producer"))?;
        Ok(Self { producer })
    }

    /// Queues a record, which the client sends in the background.
    pub fn send(&self, outgoing: &Outgoing<'_>) -> Result<(), ShellError> {
        let deadline = Deadline::after(WAIT_MAX);
        loop {
            match self.producer.send(outgoing.record(())) {
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

    /// Waits until all queued records are delivered.
    pub fn flush(&self) -> Result<(), ShellError> {
        self.producer.flush(WAIT_MAX).map_err(ShellError::kafka("deliver records"))
    }
}
