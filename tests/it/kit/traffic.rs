//! Background requests at a steady rate, followed by their labels, independent of broker outages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

use crate::kit::clock::{Deadline, Stopwatch, unix_ms};
use crate::kit::kafka::{Receipts, Record};
use crate::kit::world::{Sent, World};

/// Interval at which due records are sent.
const EVERY: Duration = Duration::from_millis(5);

/// Timeout for delivering everything after the last request.
const DELIVERY_WAIT: Duration = Duration::from_mins(2);

/// Receipts of labels are numbered from here, above all requests.
const LABELS: usize = usize::MAX / 2;

/// Sends the requests of one model, and later their labels.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sent>>,
}

impl Traffic {
    /// Starts sending `rate` requests per second. Each label is observed and sent half a second to four seconds later.
    pub fn start(world: &World, per_second: f64) -> Self {
        Self::start_at(world, 0, per_second)
    }

    /// The same, starting with this request number.
    pub fn start_at(world: &World, first: usize, per_second: f64) -> Self {
        Self::begin(world, first, per_second, Labels::Follow)
    }

    /// The same, without labels.
    pub fn unlabelled(world: &World, first: usize, per_second: f64) -> Self {
        Self::begin(world, first, per_second, Labels::Never)
    }

    fn begin(world: &World, first: usize, per_second: f64, truth: Labels) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (world, flag) = (world.clone(), Arc::clone(&stop));
        let thread =
            std::thread::spawn(move || Caller::new(world, first, truth).call(per_second, &flag));
        Self { stop, thread }
    }

    /// Stops sending requests, without waiting.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops sending requests, and returns all of them once they and their labels are delivered.
    pub fn stop(self) -> Vec<Sent> {
        self.end();
        self.thread.join().expect("all was delivered")
    }
}

/// Whether labels follow the requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Labels {
    Follow,
    Never,
}

struct Caller {
    world: World,
    first: usize,
    truth: Labels,
    producer: BaseProducer<Receipts>,
    label_partitions: i32,
    sent: Vec<Sent>,
    /// By topic and partition.
    lanes: BTreeMap<(&'static str, i32), Lane>,
    /// Offsets by request number.
    offsets: BTreeMap<usize, i64>,
    /// When the label of which request is observed, earliest first.
    labels: VecDeque<(i64, usize)>,
    labels_sent: usize,
}

/// The records of one partition.
///
/// The client gets the next records only after it has delivered all previous ones. With more than five records of a partition in flight and more behind them,
/// an idempotent producer of librdkafka (2.12) spins on one core until a response arrives, and a restarting broker on the same machine needs that core.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<(usize, Record)>,
    under_way: Vec<usize>,
}

impl Caller {
    fn new(world: World, first: usize, truth: Labels) -> Self {
        let producer = world
            .kafka
            .config()
            // Retries are rarely written twice. A record in flight when a broker is killed may be, and the ledger counts it.
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "600000")
            .set("queue.buffering.max.messages", "500000")
            .set("linger.ms", "2")
            .set("reconnect.backoff.max.ms", "500")
            .create_with_context(Receipts::default())
            .expect("a producer can be made");
        let label_partitions = world.kafka.partitions(&world.topic("labels"));
        assert!(label_partitions > 0, "the topic of labels is there");
        Self {
            world,
            first,
            truth,
            producer,
            label_partitions,
            sent: Vec::new(),
            lanes: BTreeMap::new(),
            offsets: BTreeMap::new(),
            labels: VecDeque::new(),
            labels_sent: 0,
        }
    }

    fn call(mut self, per_second: f64, stop: &AtomicBool) -> Vec<Sent> {
        let watch = Stopwatch::start();
        while !stop.load(Ordering::Relaxed) {
            while (self.sent.len() as f64) < watch.elapsed().as_secs_f64() * per_second {
                self.request();
            }
            self.tell(unix_ms());
            self.post();
        }
        let deadline = Deadline::after(DELIVERY_WAIT);
        let numbers = |this: &Self| this.sent.len() + this.labels_sent;
        while !self.labels.is_empty() || self.offsets.len() < numbers(&self) {
            assert!(!deadline.is_over(), "requests and labels are delivered in {DELIVERY_WAIT:?}");
            self.tell(unix_ms());
            self.post();
        }
        for (request, offset) in self.sent.iter_mut().zip(self.offsets.into_values()) {
            request.offset = offset;
        }
        self.sent
    }

    fn request(&mut self) {
        let number = self.sent.len();
        let request = self.world.request(self.first + number);
        let now = unix_ms();
        let record = Record { timestamp: now, ..request.record() };
        self.enqueue("requests", record, number);
        if request.has_label && self.truth == Labels::Follow {
            let delay = 500 + i64::try_from(number * 37 % 3_500).expect("it is small");
            let at = now + delay;
            let place = self.labels.partition_point(|(other, _)| *other <= at);
            self.labels.insert(place, (at, number));
        }
        self.sent.push(request);
    }

    /// Sends the labels that have been observed.
    fn tell(&mut self, now: i64) {
        while let Some((at, number)) = self.labels.front().copied().filter(|(at, _)| *at <= now) {
            self.labels.pop_front();
            let partition = i32::try_from(number % 1_000).expect("it is small");
            let label = self.sent[number].label(at);
            let label = Record { partition: partition % self.label_partitions, ..label };
            self.enqueue("labels", label, LABELS + number);
            self.labels_sent += 1;
        }
    }

    fn enqueue(&mut self, kind: &'static str, record: Record, number: usize) {
        let lane = self.lanes.entry((kind, record.partition)).or_default();
        lane.waiting.push_back((number, record));
    }

    /// Sends what may be sent, and collects delivery reports.
    fn post(&mut self) {
        for ((kind, _), lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.under_way.is_empty())
        {
            let topic = self.world.topic(kind);
            for (number, record) in lane.waiting.drain(..) {
                while let Err((error, _)) = self.producer.send(record.outgoing(&topic, number)) {
                    let is_full =
                        error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
                    assert!(is_full, "record {number} for `{topic}` was refused: {error}");
                    self.producer.poll(EVERY);
                }
                lane.under_way.push(number);
            }
        }
        self.producer.poll(EVERY);
        let delivered = self.producer.context().take();
        for lane in self.lanes.values_mut() {
            lane.under_way.retain(|u| !delivered.contains_key(u));
        }
        self.offsets.extend(delivered);
    }
}
