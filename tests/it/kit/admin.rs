//! Operations of a Kafka operator: deletes records, topics and groups, and resets the offsets of a group.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::kit::clock::Deadline;
use crate::kit::kafka::Kafka;
use crate::kit::world::WAIT;

/// Timeout of a single call to the broker.
const CALL_WAIT: Duration = Duration::from_secs(30);

/// Poll interval for state that changes on its own.
const LOOK_EVERY: Duration = Duration::from_millis(50);

fn admin(kafka: &Kafka) -> (AdminClient<DefaultClientContext>, tokio::runtime::Runtime) {
    let admin = kafka.config().create().expect("an admin client can be made");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    (admin, runtime)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CALL_WAIT)).operation_timeout(Some(CALL_WAIT))
}

/// Deletes the records of a topic before these offsets, by partition.
pub fn delete_records(kafka: &Kafka, topic: &str, before: &BTreeMap<i32, i64>) {
    if before.is_empty() {
        return;
    }
    let (admin, runtime) = admin(kafka);
    let mut list = TopicPartitionList::new();
    for (partition, offset) in before {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).expect("it is one");
    }
    let done = runtime.block_on(admin.delete_records(&list, &options()));
    for it in done.expect("the broker answers").elements() {
        it.error().unwrap_or_else(|error| panic!("`{topic}`: {error}"));
    }
}

/// Deletes all records of a topic.
pub fn empty(kafka: &Kafka, topic: &str) {
    let consumer: BaseConsumer = kafka.config().create().expect("a client can be made");
    let end = |partition: i32| {
        let ends = consumer.fetch_watermarks(topic, partition, CALL_WAIT);
        (partition, ends.expect("the broker answers").1)
    };
    let ends = (0..kafka.partitions(topic)).map(end).filter(|e| e.1 > 0).collect();
    delete_records(kafka, topic, &ends);
}

/// Creates a topic with its own settings.
pub fn create_topic(kafka: &Kafka, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let (admin, runtime) = admin(kafka);
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let new = settings.iter().fold(new, |it, (key, value)| it.set(key, value));
    let results = runtime.block_on(admin.create_topics([&new], &options()));
    assert!(results.expect("the broker answers").iter().all(Result::is_ok), "{topic}");
    let deadline = Deadline::after(WAIT);
    while kafka.partitions(topic) == 0 {
        assert!(!deadline.is_over(), "the topic is not shown");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Deletes a topic and waits until it is gone.
pub fn delete_topic(kafka: &Kafka, topic: &str) {
    let (admin, runtime) = admin(kafka);
    let results = runtime.block_on(admin.delete_topics(&[topic], &options()));
    assert!(results.expect("the broker answers").iter().all(Result::is_ok));
    let deadline = Deadline::after(WAIT);
    while kafka.partitions(topic) > 0 {
        assert!(!deadline.is_over(), "the topic is still shown");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Waits until a group has no members, then deletes it with its offsets.
pub fn delete_group(kafka: &Kafka, group: &str) {
    await_empty(kafka, group);
    let (admin, runtime) = admin(kafka);
    let results = runtime.block_on(admin.delete_groups(&[group], &options()));
    for it in results.expect("the broker answers") {
        it.unwrap_or_else(|(group, code)| panic!("group `{group}`: {code}"));
    }
}

/// Waits until the group has no members; only then may another client commit.
pub fn await_empty(kafka: &Kafka, group: &str) {
    let consumer: BaseConsumer = kafka.config().create().expect("a client can be made");
    let deadline = Deadline::after(WAIT);
    loop {
        let found = consumer.fetch_group_list(Some(group), WAIT).expect("the broker answers");
        if found.groups().iter().all(|g| g.members().is_empty()) {
            return;
        }
        assert!(!deadline.is_over(), "the group still has members");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Commits an offset of a group without members, as `kafka-consumer-groups --reset-offsets` does.
pub fn set_offset(kafka: &Kafka, group: &str, (topic, partition): (&str, i32), offset: i64) {
    set_offset_with(kafka, group, (topic, partition), (offset, ""));
}

/// The same, with metadata.
pub fn set_offset_with(
    kafka: &Kafka,
    group: &str,
    (topic, partition): (&str, i32),
    (offset, metadata): (i64, &str),
) {
    await_empty(kafka, group);
    let consumer: BaseConsumer =
        kafka.config().set("group.id", group).create().expect("a consumer can be made");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("it is listed");
    list.find_partition(topic, partition).expect("it is there").set_metadata(metadata);
    consumer.commit(&list, CommitMode::Sync).expect("the group is empty");
}

/// Returns the committed offset of a group, with its metadata.
pub fn offset(
    kafka: &Kafka,
    group: &str,
    (topic, partition): (&str, i32),
) -> Option<(i64, String)> {
    let consumer: BaseConsumer =
        kafka.config().set("group.id", group).create().expect("a consumer can be made");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let found = consumer.committed_offsets(list, CALL_WAIT).expect("the broker answers");
    let it = found.find_partition(topic, partition).expect("it was asked for");
    match it.offset() {
        Offset::Offset(offset) => Some((offset, it.metadata().to_owned())),
        Offset::Beginning
        | Offset::End
        | Offset::Stored
        | Offset::Invalid
        | Offset::OffsetTail(_) => None,
    }
}
