//! The thin commit call.
//!
//! `Producer::commit_transaction` of the `rdkafka` crate first flushes in steps of 100 ms, which makes every commit take that long
//! while anything is in flight. The C function flushes by itself, and the threaded producer's own thread serves its queue.

use rdkafka::error::{IsError, KafkaError, KafkaResult, RDKafkaError};
use rdkafka::producer::{Producer, ThreadedProducer};
use std::time::Duration;

use crate::kafka::outbox::OutboxContext;

/// Commits the open transaction of a threaded producer.
#[expect(unsafe_code, reason = "the safe wrapper polls in steps of 100 ms; see the head of this file")]
pub(super) fn commit(producer: &ThreadedProducer<OutboxContext>, timeout: Duration) -> KafkaResult<()> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is that of a live client, kept alive by the borrow of its producer for the whole call, and the error that
    // comes back is owned by us: `from_ptr` takes it over and frees it.
    let result = unsafe {
        let client = producer.client().native_ptr();
        RDKafkaError::from_ptr(rdkafka_sys::rd_kafka_commit_transaction(client, timeout_ms))
    };
    if result.is_error() { Err(KafkaError::Transaction(result)) } else { Ok(()) }
}
