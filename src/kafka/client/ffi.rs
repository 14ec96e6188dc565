//! Calls of the C library that its safe wrapper does not have, or has in a way that costs too much.
//!
//! `Producer::commit_transaction` of the `rdkafka` crate first flushes in steps of 100 ms, which makes every commit take that long
//! while anything is in flight. The C function flushes by itself, and the threaded producer's own thread serves its queue.

use std::ffi::CStr;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedHeaders, Headers};
use rdkafka::producer::{Producer, ThreadedProducer};

use crate::kafka::client::transaction::OutboxContext;

/// Commits the open transaction of a threaded producer.
#[expect(
    unsafe_code,
    reason = "the safe wrapper polls in steps of 100 ms; see the head of this file"
)]
pub(crate) fn commit(
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

/// Waits until all that was sent is delivered.
#[expect(unsafe_code, reason = "the safe wrapper waits in steps of 100 ms")]
pub(crate) fn flush(producer: &ThreadedProducer<OutboxContext>, timeout: Duration) {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is that of a live client, kept alive by the borrow of its producer for the whole call. What is not delivered in
    // time, or failed, the calls that follow tell.
    unsafe {
        rdkafka_sys::rd_kafka_flush(producer.client().native_ptr(), timeout_ms);
    }
}

/// Lets the consumer groups of a client's own mock cluster begin after this wait instead of three seconds.
///
/// Nothing happens where the client has no mock cluster.
#[expect(unsafe_code, reason = "the safe wrapper of the mock cluster lacks this call")]
pub(crate) fn groups_begin_after<C: ClientContext>(client: &Client<C>, wait: Duration) {
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

/// Returns a record's headers; a name that is not text is given as `\u{fffd}`.
///
/// The safe wrapper panics at such a name, which any producer can write: the record would end every process that reads it.
#[expect(unsafe_code, reason = "the safe wrapper panics at a name that is not UTF-8")]
pub(crate) fn header_pairs(headers: &BorrowedHeaders) -> Vec<(&str, Option<&[u8]>)> {
    // The wrapper's type is the C library's own behind a reference.
    let list = std::ptr::from_ref(headers).cast::<rdkafka_sys::rd_kafka_headers_t>();
    let mut pairs = Vec::with_capacity(headers.count());
    for index in 0..headers.count() {
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the list is that of a live message, kept alive by the borrow for as long as the pairs live. The name is a C string and
        // the value, unless it is null, `size` bytes of that list, which nobody changes.
        unsafe {
            let error = rdkafka_sys::rd_kafka_header_get_all(
                list,
                index,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            );
            if error != rdkafka_sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                break;
            }
            let bytes =
                (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            pairs.push((CStr::from_ptr(name).to_str().unwrap_or("\u{fffd}"), bytes));
        }
    }
    pairs
}
