//! A broker inside the process, for the demonstration: the Kafka client library's own mock cluster.
//!
//! It speaks Kafka to every client that reaches its address. It keeps 5 MiB a partition in memory, shows what a transaction has
//! written before its commit, forgets offsets that are committed in transactions, and has no administration: right to watch a rollout
//! in, and no proof of anything that needs a real one.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;

use crate::kafka::client::admin::RequiredTopic;
use crate::kafka::client::client_log::LogContext;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::ffi::set_initial_rebalance_delay;
use crate::kafka::client::settings::Settings;

/// How long a new consumer group waits for more members.
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

    /// Returns its address, for any client on this machine.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Returns its controls, for whoever wants to see it fail; absent where the client was built without it.
    pub fn controls(&self) -> Option<MockCluster<'_, LogContext>> {
        self.client.client().mock_cluster()
    }

    /// Makes topics with the partitions that they want; it knows no settings.
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
