//! A consumer with `read_uncommitted` isolation, created on first use.

use std::cell::OnceCell;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;

use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::ShellError;

/// Returns records, end offsets, and committed offsets regardless of open transactions.
pub struct UncommittedReader {
    config: ClientConfig,
    consumer: OnceCell<BaseConsumer<LogContext>>,
}

impl UncommittedReader {
    /// Takes the properties of another consumer and changes its isolation level.
    pub fn new(config: &ClientConfig) -> Self {
        let mut config = config.clone();
        config.set("isolation.level", "read_uncommitted");
        Self { config, consumer: OnceCell::new() }
    }

    /// Returns whether the consumer was used before.
    pub fn is_created(&self) -> bool {
        self.consumer.get().is_some()
    }

    /// Returns the consumer. The first call creates it.
    pub fn consumer(&self) -> Result<&BaseConsumer<LogContext>, ShellError> {
        if let Some(consumer) = self.consumer.get() {
            return Ok(consumer);
        }
        let created = self
            .config
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("set up a reader of uncommitted records"))?;
        Ok(self.consumer.get_or_init(|| created))
    }
}
