//! A broker inside the process, for the demonstration: the mock cluster of librdkafka.
//!
//! It speaks the Kafka protocol to every client that reaches its address. It keeps 5 MiB per partition in memory, returns
//! uncommitted records, loses offsets that are committed in transactions, and has no admin API. That suffices to watch a
//! rollout and proves nothing that needs a real broker.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;

use crate::kafka::client::admin::RequiredTopic;
use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::ffi::set_initial_rebalance_delay;
use crate::kafka::client::settings::Settings;

/// Initial rebalance delay of a consumer group.
const GROUP_WAIT: Duration = Duration::from_millis(100);

/// A running broker; it ends when dropped.
pub struct MockBroker {
    client: BaseConsumer<LogContext>,
    bootstrap: String,
}

impl MockBroker {
    /// Starts a broker on a free port of this machine.
    pub fn start() -> Result<Self, ShellError> {
        let mut config = Settings::new("", "embedded").reader();
        config.set("test.mock.num.brokers", "1");
        let client: BaseConsumer<LogContext> = config
            .create_with_context(LogContext)
            .map_err(ShellError::kafka("start the broker inside the process"))?;
        set_initial_rebalance_delay(client.client(), GROUP_WAIT);
        let bootstrap = client.client().mock_cluster().map(|m| m.bootstrap_servers());
        let bootstrap = bootstrap.ok_or_else(|| {
            ShellError::Missing("the Kafka client was built without its mock cluster".to_owned())
        })?;
        Ok(Self { client, bootstrap })
    }

    /// Returns its address for clients on this machine.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Returns the controls that inject failures, unless the client was built without the mock cluster.
    pub fn controls(&self) -> Option<MockCluster<'_, LogContext>> {
        self.client.client().mock_cluster()
    }

    /// Creates topics with their partition counts. The mock cluster ignores topic settings.
    pub fn create(&self, wanted: &[RequiredTopic]) -> Result<(), ShellError> {
        let Some(cluster) = self.controls() else { return Ok(()) };
        for it in wanted {
            cluster
                .create_topic(&it.name, it.partitions.count(), 1)
                .map_err(ShellError::kafka("make a topic in the broker inside the process"))?;
        }
        Ok(())
    }
}
