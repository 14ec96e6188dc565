//! How each of our Kafka clients is set up: every property that we rely on, explicitly.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::kafka::client::guarded_properties::TRANSACTION_TIMEOUT_MS;

/// Where Kafka is, which application this is, and what the operator wants set beyond that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The brokers to ask first: `HOST:PORT`, several with commas.
    pub bootstrap: String,
    /// The application id: instances with one id share the work.
    pub app: String,
    /// Properties of the Kafka client that win over ours, in order.
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

    /// Returns a consumer's properties for the processing of a group; offsets are committed by transactions only.
    pub fn consumer(&self, group: &str) -> ClientConfig {
        self.client(&[
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", "false"),
            // A dead member's partitions and its open transaction block others for as long.
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "2000"),
            // A lane that is restored for minutes does not poll; that it comes round at all the watchdog sees to.
            ("max.poll.interval.ms", "900000"),
            ("fetch.wait.max.ms", "10"),
            // The client waits this long before it fetches again for a full queue; its default of a second stalls a lane.
            ("fetch.queue.backoff.ms", "10"),
            ("queued.min.messages", "20000"),
        ])
    }

    /// Returns a consumer's properties for looking: assigned by hand, committing nothing, told of each partition's end.
    pub fn reader(&self) -> ClientConfig {
        // A group id must be there for `assign`; nothing joins the group.
        let group = format!("{}.readers", self.app);
        let mut config = self.consumer(&group);
        config.set("enable.partition.eof", "true");
        self.overridden(config)
    }

    /// Returns a reader's properties for one that stays at the end of a quiet topic: every broker is asked in vain as often as a fetch may wait.
    pub fn follower(&self) -> ClientConfig {
        let mut config = self.reader();
        config.set("fetch.wait.max.ms", "100");
        self.overridden(config)
    }

    /// Returns a consumer's properties for a model's worker: it reads what is not committed yet, since an answer to a request that is
    /// taken back changes nothing, and so one commit less is waited for.
    pub fn worker(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        config.set("isolation.level", "read_uncommitted");
        self.overridden(config)
    }

    /// Returns a producer's properties: idempotent, placed by explicit partition.
    pub fn producer(&self) -> ClientConfig {
        self.client(&[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("compression.type", "lz4"),
            ("linger.ms", "1"),
            ("queue.buffering.max.messages", "500000"),
            ("message.timeout.ms", "30000"),
            // A broker takes batches of 1,048,588 bytes; the rest is room for the batch around a single record.
            ("message.max.bytes", "1000000"),
        ])
    }

    /// Returns how large a record may be that the producers take.
    pub fn record_bytes_max(&self) -> usize {
        let said = self.producer().get("message.max.bytes").and_then(|p| p.parse().ok());
        said.unwrap_or(usize::MAX)
    }

    /// Returns a transactional producer's properties.
    ///
    /// In a transaction a failed delivery fails the commit, so that reports of success would only cost.
    pub fn transactional(&self, id: &str) -> ClientConfig {
        self.transactional_within(id, None)
    }

    /// The same for topics whose batches may not have more bytes than this.
    pub fn transactional_within(&self, id: &str, limit: Option<usize>) -> ClientConfig {
        let mut config = self.producer();
        let timeout = config.get("transaction.timeout.ms").and_then(|c| c.parse().ok());
        let timeout = timeout.unwrap_or(TRANSACTION_TIMEOUT_MS);
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout.to_string())
            // In `send offsets` the client waits, with no limit, for a connection to change before it asks anew who coordinates the group.
            // Where nothing else happens, a connection that is closed for being idle is that change.
            .set("connections.max.idle.ms", "12000")
            // The client asks again for the end of a transaction 100 ms before its time is over, or over the next connection: an outbox waits
            // less, see `patience` there.
            // No message may outlive its transaction.
            .set("message.timeout.ms", timeout.min(TRANSACTION_TIMEOUT_MS).to_string())
            .set("delivery.report.only.error", "true");
        narrowed(self.overridden(config), limit)
    }

    /// Returns the properties of a producer of copies for one topic, each of which is tried for so many milliseconds; `limit` is how many
    /// bytes a batch of the topic may have, where that is known.
    pub fn courier(&self, limit: Option<usize>, lifetime_ms: i64) -> ClientConfig {
        let mut config = self.producer();
        config
            .set("message.timeout.ms", lifetime_ms.to_string())
            // A topic that takes nothing must not take the memory of the rest.
            .set("queue.buffering.max.messages", "10000")
            .set("queue.buffering.max.kbytes", "65536");
        narrowed(self.overridden(config), limit)
    }

    /// Returns the properties of the client that makes and describes topics.
    pub fn admin(&self) -> ClientConfig {
        self.client(&[])
    }

    fn client(&self, properties: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Info)
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.app)
            // Small records on a quiet link must not wait for their neighbours.
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // No client of ours makes a topic by asking for it, whatever the brokers allow; a producer would by default.
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

/// Returns a producer's properties with batches of at most so many bytes: brokers hold whole batches to a topic's limit.
fn narrowed(mut config: ClientConfig, limit: Option<usize>) -> ClientConfig {
    if let Some(limit) = limit {
        let batch = config.get("batch.size").and_then(|c| c.parse().ok());
        config.set("batch.size", limit.min(batch.unwrap_or(BATCH_BYTES)).to_string());
    }
    config
}

/// The client's default of `batch.size`.
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
