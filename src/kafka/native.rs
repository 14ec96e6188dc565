//! Calls of the C library that its safe wrapper does not have, or has in a way that costs too much.
//!
//! `Producer::commit_transaction` of the `rdkafka` crate first flushes in steps of 100 ms, which makes every commit take that long
//! while anything is in flight. The C function flushes by itself, and the threaded producer's own thread serves its queue.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
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

/// Lets the consumer groups of a client's own mock cluster begin after this wait instead of three seconds.
///
/// Nothing happens where the client has no mock cluster.
#[expect(unsafe_code, reason = "the safe wrapper of the mock cluster lacks this call")]
pub(super) fn groups_begin_after<C: ClientContext>(client: &Client<C>, wait: Duration) {
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is that of a live client, kept alive by the borrow for the whole call; its mock cluster, if it has one, lives
    // as long as it does, and only a number is written into it, on the cluster's own terms.
    unsafe {
        let cluster = rdkafka_sys::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            rdkafka_sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, wait_ms);
        }
    }
}
