//! A client that is not shielded from what is not decided yet: made once somebody needs to know it.

use std::cell::OnceCell;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::settings::LogContext;

/// The same client as another, but for its isolation.
///
/// It is told of records, ends and offsets as they are before their transactions have ended.
pub struct UncommittedReader {
    config: ClientConfig,
    consumer: OnceCell<BaseConsumer<LogContext>>,
}

impl UncommittedReader {
    /// Remembers how it is to be made.
    pub fn new(config: &ClientConfig) -> Self {
        let mut config = config.clone();
        config.set("isolation.level", "read_uncommitted");
        Self { config, consumer: OnceCell::new() }
    }

    /// Returns whether anybody has needed it.
    pub fn is_made(&self) -> bool {
        self.consumer.get().is_some()
    }

    /// Returns it, made with the first call.
    pub fn consumer(&self) -> Result<&BaseConsumer<LogContext>, ShellError> {
        if let Some(it) = self.consumer.get() {
            return Ok(it);
        }
        let made = self
            .config
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("set up a reader of what is not committed"))?;
        Ok(self.consumer.get_or_init(|| made))
    }
}
