//! Copies of requests on their way to one version's topic: outside of transactions, so that a topic that takes none holds nothing up.
//!
//! Each topic has a producer of its own. An idempotent producer keeps the order of a partition, and what goes wrong with one topic, its
//! leader, its rights, its limit, never concerns another's connection, queue or sequence numbers.

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

/// Age of the oldest undelivered copy from which a topic counts as unwritable.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Time after the last failure during which a topic counts as unwritable.
const FAILED_FOR: Duration = Duration::from_secs(10);
/// Bounds of how long a copy is tried: at least as long as a leader's election takes, and not much longer than anybody waits for it.
const LIFETIME_MIN: Span = Span::seconds(2);
const LIFETIME_MAX: Span = Span::seconds(60);

/// What was handed over, and of which request it is a copy.
struct Parcel {
    number: u64,
    case: CaseId,
    bytes: usize,
}

/// A copy that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The request.
    pub case: CaseId,
    /// How many bytes its key and value have.
    pub bytes: usize,
    /// Why.
    pub code: RDKafkaErrorCode,
}

/// What became of a copy that was to be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was not sent must be counted"]
pub enum Handed {
    /// It is on its way.
    Over,
    /// The client refuses it at once.
    Refused(RDKafkaErrorCode),
}

/// What is on its way, and what became of the rest.
#[derive(Default)]
struct State {
    under_way: BTreeMap<u64, Instant>,
    delivered: u64,
    failed: Vec<Failure>,
}

#[derive(Default)]
struct Way {
    state: Mutex<State>,
    is_clear: Condvar,
}

impl Way {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears of deliveries on the client's thread.
struct Receipts(Arc<Way>);

forward_client_log!(Receipts);

impl ProducerContext for Receipts {
    type DeliveryOpaque = Box<Parcel>;

    fn delivery(&self, result: &DeliveryResult<'_>, parcel: Box<Parcel>) {
        let mut state = self.0.state();
        state.under_way.remove(&parcel.number);
        match result {
            Ok(_) => state.delivered += 1,
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                debug!(topic = message.topic(), %error, "a copy was not delivered");
                state.failed.push(Failure { case: parcel.case, bytes: parcel.bytes, code });
            }
        }
        if state.under_way.is_empty() {
            self.0.is_clear.notify_all();
        }
    }
}

/// The way to one topic.
pub struct Courier {
    producer: ThreadedProducer<Receipts>,
    way: Arc<Way>,
    next: u64,
    /// Whether commits wait for what is on its way.
    is_waited_for: bool,
    failed_at: Option<(Instant, RDKafkaErrorCode)>,
}

/// What a look at a topic's deliveries shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Copies that were not delivered since the last look.
    pub failed: Vec<Failure>,
    /// Why the topic counts as unwritable, if it does.
    pub trouble: Option<String>,
}

impl Courier {
    /// Sets out for a topic whose batches may have so many bytes, where that is known; copies are tried for so long.
    pub fn new(
        settings: &Settings,
        limit: Option<usize>,
        lifetime: Span,
    ) -> Result<Self, ShellError> {
        let way = Arc::new(Way::default());
        let lifetime = lifetime.0.clamp(LIFETIME_MIN.0, LIFETIME_MAX.0);
        let producer = settings
            .courier(limit, lifetime)
            .create_with_context(Receipts(Arc::clone(&way)))
            .map_err(ShellError::kafka("set up the producer of copies"))?;
        Ok(Self { producer, way, next: 0, is_waited_for: true, failed_at: None })
    }

    /// Hands a copy over; where too much is on its way already, waits a little.
    pub fn hand(&mut self, outgoing: &Outgoing<'_>, case: CaseId, wait: Duration) -> Handed {
        let length = |o: Option<&[u8]>| o.map_or(0, <[u8]>::len);
        let bytes = length(outgoing.key) + length(outgoing.value);
        self.next += 1;
        let number = self.next;
        // Noted first: its receipt may come before the call is over.
        self.way.state().under_way.insert(number, clock::moment());
        let mut is_first = true;
        let code = loop {
            let parcel = Box::new(Parcel { number, case, bytes });
            match self.producer.send(outgoing.record(parcel)) {
                Ok(()) => return Handed::Over,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if is_first && self.is_waited_for =>
                {
                    is_first = false;
                    self.way.state().under_way.remove(&number);
                    self.settle(Deadline::after(wait));
                    self.way.state().under_way.insert(number, clock::moment());
                }
                Err((error, _)) => {
                    break error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                }
            }
        };
        self.way.state().under_way.remove(&number);
        if code != RDKafkaErrorCode::MessageSizeTooLarge {
            self.failed_at = Some((clock::moment(), code));
        }
        Handed::Refused(code)
    }

    /// Returns whether nothing is on its way.
    pub fn is_clear(&self) -> bool {
        self.way.state().under_way.is_empty()
    }

    /// Waits until all is delivered, unless the topic is not waited for or it takes too long: then commits wait no more.
    pub fn settle(&mut self, deadline: Deadline) {
        if !self.is_waited_for {
            return;
        }
        let mut state = self.way.state();
        while !state.under_way.is_empty() {
            let left = deadline.left();
            if left.is_zero() {
                self.is_waited_for = false;
                return;
            }
            let waited = self.way.is_clear.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns what became of copies since the last look.
    pub fn look(&mut self) -> Deliveries {
        let (delivered, failed, oldest, is_clear) = {
            let mut state = self.way.state();
            let oldest = state.under_way.first_key_value().map(|(_, since)| since.elapsed());
            let delivered = std::mem::take(&mut state.delivered);
            (delivered, std::mem::take(&mut state.failed), oldest, state.under_way.is_empty())
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
                "no broker took a copy in time: is the leader of each of its partitions up?"
                    .to_owned(),
            ),
            (Some((_, code)), _) => Some(code.to_string()),
            (None, Some(_)) => Some(format!(
                "no broker has taken a copy for {} s or longer",
                SILENCE_MAX.as_secs()
            )),
            (None, None) => None,
        };
        Deliveries { failed, trouble }
    }
}
