//! Throughput of the serving path next to a raw pass-through of the same records on the same broker.

use std::io::Write;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::kit::clock::Stopwatch;
use crate::kit::kafka::{Kafka, Reader};
use crate::kit::worker::{Behavior, Worker};
use crate::kit::world::{PARTITIONS, WAIT, World};

const SPEC: &str = "
apiVersion: serinus/v1
kind: Model
metadata: {name: MODEL}
spec:
  stable: v1
  unit: key
  requestId: header:ce_id
  timeout: 60s
  labels: {requestId: json:/request_id, value: json:/label, observedAt: json:/observed_at}
";

/// A measurement, not a gate: it fails only if requests are not served at all. `make bench` prints it from a release build.
#[test]
fn the_serving_path_beside_a_raw_pass_through() {
    let Some(kafka) = Kafka::find() else { return };
    let total = std::env::var("SERINUS_THROUGHPUT_REQUESTS")
        .map_or(5_000, |v| v.parse().expect("it is a number"));
    let world = World::new(&kafka, "throughput", SPEC);
    let mut run = world.run();
    world.await_phase("Idle", &mut run);
    let worker = Worker::start(&kafka, &world.name, "v1", Behavior::default());
    let mut served = Reader::open(&kafka, &world.topic("served"));
    // The first answers include joining groups and connecting.
    let warm = world.send_requests(0, 100).len();
    served.until("the first answers", WAIT, |records| records.len() >= warm);

    let watch = Stopwatch::start();
    let sent = world.send_requests(warm, warm + total).len();
    served.until("an answer to every request", WAIT, |records| records.len() >= warm + sent);
    let serving = watch.per_second(sent);
    drop(worker);
    run.stop();

    kafka.create_topics(&[(&world.topic("raw"), PARTITIONS)]);
    let watch = Stopwatch::start();
    let passed = pass_through(&kafka, &world.topic("requests"), &world.topic("raw"), warm + sent);
    let raw = watch.per_second(passed);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    writeln!(
        std::io::stderr(),
        "throughput ({build} build, {sent} requests in one burst, producer, worker and reader on the same machine): \
         {serving:.0} requests/s asked, forwarded, answered and served in transactions; {raw:.0} records/s through a raw pass-through"
    )
    .expect("stderr is open");
}

/// Reads records and sends them on unchanged without a transaction: the minimum between two topics.
fn pass_through(kafka: &Kafka, from: &str, to: &str, total: usize) -> usize {
    let consumer: BaseConsumer = kafka
        .config()
        .set("group.id", "raw")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer can be made");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment
            .add_partition_offset(from, partition, Offset::Beginning)
            .expect("a partition can be listed");
    }
    consumer.assign(&assignment).expect("partitions can be assigned");
    let producer: BaseProducer = kafka
        .config()
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .create()
        .expect("a producer can be made");
    let mut passed = 0;
    while passed < total {
        let Some(message) = consumer.poll(Duration::from_secs(10)) else {
            panic!("{passed} of {total} records came")
        };
        let message = message.expect("the broker is up");
        let mut record = BaseRecord::<'_, [u8], [u8]>::to(to)
            .partition(message.partition())
            .payload(message.payload().unwrap_or_default());
        if let Some(key) = message.key() {
            record = record.key(key);
        }
        while let Err((error, back)) = producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            producer.poll(Duration::from_millis(10));
            record = back;
        }
        passed += 1;
    }
    producer.flush(Duration::from_secs(30)).expect("all is delivered");
    passed
}
