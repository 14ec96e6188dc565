//! Sends copies of requests to one version's topic, outside of transactions, so that an unwritable topic blocks nothing else.
//!
//! Each topic has its own idempotent producer, which keeps the order within a partition. A failure of one topic (leader, permissions,
//! size limit) never affects the connection, queue or sequence numbers of another.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext, ThreadedProducer};
use tracing::debug;

use crate::kafka::client::client_log::forward_client_log;
use crate::kafka::client::error::ShellError;
use crate::kafka::client::outgoing::Outgoing;
use crate::kafka::client::settings::Settings;
use crate::kafka::process::clock;
use crate::kafka::process::wait::Deadline;
use serinus_core::domain::ids::CaseId;
use serinus_core::domain::time::Span;

/// Age of the oldest copy in flight at which its topic counts as unwritable.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Time after the last failure during which a topic counts as unwritable.
const FAILED_FOR: Duration = Duration::from_secs(10);
/// Bounds of the delivery timeout of a copy: at least the time of a leader election, and not much more than a caller waits.
const LIFETIME_MIN: Span = Span::seconds(2);
const LIFETIME_MAX: Span = Span::seconds(60);

/// A copy in flight.
struct InFlight {
    number: u64,
    case: CaseId,
    bytes: usize,
}

/// A copy that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The request.
    pub case: CaseId,
    /// The size of its key and value, in bytes.
    pub bytes: usize,
    /// The cause.
    pub code: RDKafkaErrorCode,
}

/// The result of sending a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was not sent must be counted"]
pub enum Handed {
    /// It is in flight.
    InFlight,
    /// The client refused it at once.
    Refused(RDKafkaErrorCode),
}

/// The copies in flight, and the results of the others.
#[derive(Default)]
struct State {
    in_flight: BTreeMap<u64, Instant>,
    delivered: u64,
    failed: Vec<Failure>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    is_idle: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records delivery reports on the client's thread.
struct DeliveryReports(Arc<Shared>);

forward_client_log!(DeliveryReports);

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, result: &DeliveryResult<'_>, copy: Box<InFlight>) {
        let mut state = self.0.state();
        state.in_flight.remove(&copy.number);
        match result {
            Ok(_) => state.delivered += 1,
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                debug!(topic = message.topic(), %error, "copy not delivered");
                state.failed.push(Failure { case: copy.case, bytes: copy.bytes, code });
            }
        }
        if state.in_flight.is_empty() {
            self.0.is_idle.notify_all();
        }
    }
}

/// The producer of one topic.
pub struct TopicProducer {
    producer: ThreadedProducer<DeliveryReports>,
    shared: Arc<Shared>,
    next: u64,
    /// Whether commits wait for copies in flight.
    is_waited_for: bool,
    failed_at: Option<(Instant, RDKafkaErrorCode)>,
}

/// The deliveries to a topic since the last check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Copies that failed.
    pub failed: Vec<Failure>,
    /// Why the topic counts as unwritable; nothing if it is writable.
    pub trouble: Option<String>,
}

impl TopicProducer {
    /// Connects to a topic. `limit` is the largest batch in bytes, if known; `lifetime` the delivery timeout of a copy.
    pub fn new(
        settings: &Settings,
        limit: Option<usize>,
        lifetime: Span,
    ) -> Result<Self, ShellError> {
        let shared = Arc::new(Shared::default());
        let lifetime = lifetime.0.clamp(LIFETIME_MIN.0, LIFETIME_MAX.0);
        let producer = settings
            .courier(limit, lifetime)
            .create_with_context(DeliveryReports(Arc::clone(&shared)))
            .map_err(ShellError::kafka("create the producer of copies"))?;
        Ok(Self { producer, shared, next: 0, is_waited_for: true, failed_at: None })
    }

    /// Sends a copy; waits up to `wait` if the queue is full.
    pub fn send(&mut self, outgoing: &Outgoing<'_>, case: CaseId, wait: Duration) -> Handed {
        let length = |o: Option<&[u8]>| o.map_or(0, <[u8]>::len);
        let bytes = length(outgoing.key) + length(outgoing.value);
        self.next += 1;
        let number = self.next;
        // Insert first: the delivery report may arrive before the call returns.
        self.shared.state().in_flight.insert(number, clock::moment());
        let mut is_first = true;
        let code = loop {
            let copy = Box::new(InFlight { number, case, bytes });
            match self.producer.send(outgoing.record(copy)) {
                Ok(()) => return Handed::InFlight,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if is_first && self.is_waited_for =>
                {
                    is_first = false;
                    self.shared.state().in_flight.remove(&number);
                    self.flush(Deadline::after(wait));
                    self.shared.state().in_flight.insert(number, clock::moment());
                }
                Err((error, _)) => {
                    break error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                }
            }
        };
        self.shared.state().in_flight.remove(&number);
        if code != RDKafkaErrorCode::MessageSizeTooLarge {
            self.failed_at = Some((clock::moment(), code));
        }
        Handed::Refused(code)
    }

    /// Returns whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.shared.state().in_flight.is_empty()
    }

    /// Waits until all copies are delivered. A topic that misses the deadline is not waited for again until it recovers.
    pub fn flush(&mut self, deadline: Deadline) {
        if !self.is_waited_for {
            return;
        }
        let mut state = self.shared.state();
        while !state.in_flight.is_empty() {
            let left = deadline.left();
            if left.is_zero() {
                self.is_waited_for = false;
                return;
            }
            let waited = self.shared.is_idle.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns the deliveries since the last call.
    pub fn deliveries(&mut self) -> Deliveries {
        let (delivered, failed, oldest, is_clear) = {
            let mut state = self.shared.state();
            let oldest = state.in_flight.first_key_value().map(|(_, since)| since.elapsed());
            let delivered = std::mem::take(&mut state.delivered);
            (delivered, std::mem::take(&mut state.failed), oldest, state.in_flight.is_empty())
        };
        let refused = failed.iter().rev().find(|f| f.code != RDKafkaErrorCode::MessageSizeTooLarge);
        if let Some(failure) = refused {
            self.failed_at = Some((clock::moment(), failure.code));
            self.is_waited_for = false;
        } else if delivered > 0 && is_clear {
            self.is_waited_for = true;
        }
        let has_failed = self.failed_at.filter(|(at, _)| at.elapsed() < FAILED_FOR);
        let trouble = match (has_failed, oldest.filter(|age| *age > SILENCE_MAX)) {
            (Some((_, RDKafkaErrorCode::MessageTimedOut)), _) => Some(
                "no broker accepted a copy in time; check that each partition has a leader"
                    .to_owned(),
            ),
            (Some((_, code)), _) => Some(code.to_string()),
            (None, Some(_)) => Some(format!(
                "no broker has accepted a copy for {} s or longer",
                SILENCE_MAX.as_secs()
            )),
            (None, None) => None,
        };
        Deliveries { failed, trouble }
    }
}
