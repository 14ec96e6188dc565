//! The thin commit call.
//!
//! `Producer::commit_transaction` of the `rdkafka` crate first flushes in steps of 100 ms, which makes every commit take that long
//! while anything is in flight. The C function flushes by itself, and the threaded producer's own thread serves its queue.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{Producer, ThreadedProducer};

use crate::kafka::outbox::OutboxContext;

/// Commits the open transaction of a threaded producer.
#[expect(
    unsafe_code,
    reason = "the safe wrapper polls in steps of 100 ms; see the head of this file"
)]
pub(super) fn commit(
    producer: &ThreadedProducer<OutboxContext>,
    timeout: Duration,
) -> Result<(), RDKafkaErrorCode> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is that of a live client, kept alive by the borrow of its producer for the whole call. The error that comes
    // back is null or ours: it is read once and destroyed once.
    unsafe {
        let error =
            rdkafka_sys::rd_kafka_commit_transaction(producer.client().native_ptr(), timeout_ms);
        if error.is_null() {
            return Ok(());
        }
        let code = rdkafka_sys::rd_kafka_error_code(error);
        rdkafka_sys::rd_kafka_error_destroy(error);
        Err(code.into())
    }
}
