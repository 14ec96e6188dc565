//! The properties of each Kafka client: every property that we rely on, set explicitly.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::kafka::client::guarded_properties::TRANSACTION_TIMEOUT_MS;

/// The cluster, the application id, and the properties that the operator sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bootstrap brokers: `HOST:PORT`, separated by commas.
    pub bootstrap: String,
    /// The application id: instances with one id share the work.
    pub app: String,
    /// Client properties that override ours; the last one wins.
    pub overrides: Vec<(String, String)>,
}

impl Settings {
    /// Returns the settings for a cluster and an application, with nothing overridden.
    pub fn new(bootstrap: impl Into<String>, app: impl Into<String>) -> Self {
        Self { bootstrap: bootstrap.into(), app: app.into(), overrides: Vec::new() }
    }

    /// Returns the name of one of the application's own topics.
    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.app)
    }

    /// Returns the properties of a group member. Only transactions commit its offsets.
    pub fn consumer(&self, group: &str) -> ClientConfig {
        self.client(&[
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", "false"),
            // The partitions of a crashed member have no owner for this long.
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "2000"),
            // A role that restores a lane for minutes does not poll; the watchdog checks its progress instead.
            ("max.poll.interval.ms", "900000"),
            ("fetch.wait.max.ms", "10"),
            // The client waits this long before it fetches again for a full queue; its default of a second stalls a lane.
            ("fetch.queue.backoff.ms", "10"),
            ("queued.min.messages", "20000"),
        ])
    }

    /// Returns the properties of a reader: manual assignment, no commits, and `PartitionEOF` at each end.
    pub fn reader(&self) -> ClientConfig {
        // `assign` requires a group id; nothing joins the group.
        let group = format!("{}.readers", self.app);
        let mut config = self.consumer(&group);
        config.set("enable.partition.eof", "true");
        self.overridden(config)
    }

    /// Returns the properties of a reader that follows a quiet topic: a longer fetch wait saves empty fetches.
    pub fn follower(&self) -> ClientConfig {
        let mut config = self.reader();
        config.set("fetch.wait.max.ms", "100");
        self.overridden(config)
    }

    /// Returns the properties of a model worker's consumer. It reads uncommitted requests, which saves the wait for one
    /// commit: an answer to an aborted request changes nothing.
    pub fn worker(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        config.set("isolation.level", "read_uncommitted");
        self.overridden(config)
    }

    /// Returns the properties of an idempotent producer that sets every partition explicitly.
    pub fn producer(&self) -> ClientConfig {
        self.client(&[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("compression.type", "lz4"),
            ("linger.ms", "1"),
            ("queue.buffering.max.messages", "500000"),
            ("message.timeout.ms", "30000"),
            // A broker accepts batches of 1,048,588 bytes; the difference is room for the batch header.
            ("message.max.bytes", "1000000"),
        ])
    }

    /// Returns the maximum size of a record that the producers accept.
    pub fn record_bytes_max(&self) -> usize {
        let said = self.producer().get("message.max.bytes").and_then(|p| p.parse().ok());
        said.unwrap_or(usize::MAX)
    }

    /// Returns a transactional producer's properties.
    ///
    /// A failed delivery fails the commit, so that reports of success are not needed.
    pub fn transactional(&self, id: &str) -> ClientConfig {
        self.transactional_within(id, None)
    }

    /// The same, with batches of at most `limit` bytes.
    pub fn transactional_within(&self, id: &str, limit: Option<usize>) -> ClientConfig {
        let mut config = self.producer();
        let timeout = config.get("transaction.timeout.ms").and_then(|c| c.parse().ok());
        let timeout = timeout.unwrap_or(TRANSACTION_TIMEOUT_MS);
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout.to_string())
            // While it sends offsets, the client waits without a limit for a connection to change before it looks up the
            // group's coordinator again. Closing an idle connection is such a change.
            .set("connections.max.idle.ms", "12000")
            // No message may outlive its transaction.
            .set("message.timeout.ms", timeout.min(TRANSACTION_TIMEOUT_MS).to_string())
            .set("delivery.report.only.error", "true");
        narrowed(self.overridden(config), limit)
    }

    /// Returns the properties of a producer of copies for one topic. Each copy is retried for `lifetime_ms`; `limit` is the
    /// maximum size of a batch, if known.
    pub fn courier(&self, limit: Option<usize>, lifetime_ms: i64) -> ClientConfig {
        let mut config = self.producer();
        config
            .set("message.timeout.ms", lifetime_ms.to_string())
            // An unwritable topic must not use the memory of the others.
            .set("queue.buffering.max.messages", "10000")
            .set("queue.buffering.max.kbytes", "65536");
        narrowed(self.overridden(config), limit)
    }

    /// Returns the properties of the admin client.
    pub fn admin(&self) -> ClientConfig {
        self.client(&[])
    }

    fn client(&self, properties: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Info)
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.app)
            // Small records on a quiet connection must not wait for more.
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // A metadata request must not create a topic; a producer would by default.
            .set("allow.auto.create.topics", "false")
            .set("topic.metadata.refresh.interval.ms", "10000");
        for (key, value) in properties {
            config.set(*key, *value);
        }
        self.overridden(config)
    }

    fn overridden(&self, mut config: ClientConfig) -> ClientConfig {
        for (key, value) in &self.overrides {
            config.set(key, value);
        }
        config
    }
}

/// Limits the batch size: brokers apply the limit of a topic to whole batches.
fn narrowed(mut config: ClientConfig, limit: Option<usize>) -> ClientConfig {
    if let Some(limit) = limit {
        let batch = config.get("batch.size").and_then(|c| c.parse().ok());
        config.set("batch.size", limit.min(batch.unwrap_or(BATCH_BYTES)).to_string());
    }
    config
}

/// Default of `batch.size` in librdkafka.
pub const BATCH_BYTES: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::metadata::MetadataTopic;
    use rdkafka::producer::{BaseProducer, Producer};

    use super::Settings;
    use crate::kafka::client::client_log::LogContext;
    use crate::kafka::client::mock_broker::MockBroker;

    /// The mock cluster makes topics on demand, as brokers with `auto.create.topics.enable` do.
    #[test]
    fn no_client_makes_a_topic_by_asking_for_it() {
        let cluster = MockBroker::start().expect("the mock cluster starts");
        let settings = Settings::new(cluster.bootstrap(), "serinus");
        let wait = Duration::from_secs(20);
        let consumer = |config: ClientConfig| -> BaseConsumer<LogContext> {
            config.create_with_context(LogContext).expect("a consumer can be made")
        };
        let producer = |config: ClientConfig| -> BaseProducer {
            config.create().expect("a producer can be made")
        };
        let names = |s: &str| format!("absent-for-{s}");
        for (what, config) in [
            ("consumer", settings.consumer("g")),
            ("reader", settings.reader()),
            ("worker", settings.worker("g")),
        ] {
            consumer(config).fetch_metadata(Some(&names(what)), wait).expect("it answers");
        }
        for (what, config) in [
            ("producer", settings.producer()),
            ("transactional", settings.transactional("t")),
            ("admin", settings.admin()),
        ] {
            producer(config).client().fetch_metadata(Some(&names(what)), wait).expect("it answers");
        }
        let all = consumer(settings.reader()).fetch_metadata(None, wait).expect("it answers");
        let made: Vec<&str> = all.topics().iter().map(MetadataTopic::name).collect();
        assert!(!made.iter().any(|name| name.starts_with("absent-for-")), "{made:?}");
    }

    #[test]
    fn an_operators_property_wins_over_ours() {
        let mut settings = Settings::new("localhost:9092", "serinus");
        let check = |settings: &Settings, key: &str, expected: [Option<&str>; 5]| {
            let found = [
                settings.consumer("g").get(key).map(str::to_owned),
                settings.reader().get(key).map(str::to_owned),
                settings.producer().get(key).map(str::to_owned),
                settings.transactional("t").get(key).map(str::to_owned),
                settings.admin().get(key).map(str::to_owned),
            ];
            assert_eq!(found.each_ref().map(Option::as_deref), expected, "{key}");
        };
        check(&settings, "enable.partition.eof", [Some("false"), Some("true"), None, None, None]);
        check(&settings, "transactional.id", [None, None, None, Some("t"), None]);
        settings.overrides = vec![("linger.ms".to_owned(), "7".to_owned())];
        check(&settings, "linger.ms", [Some("7"); 5]);
        check(&settings, "bootstrap.servers", [Some("localhost:9092"); 5]);
    }
}
