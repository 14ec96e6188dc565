//! Calls of librdkafka that the `rdkafka` crate lacks, or that are too slow or unsafe in it.
//!
//! `Producer::commit_transaction` of the crate first flushes in steps of 100 ms, so that every commit
//! takes at least that long while records are in flight. The C function flushes by itself, and the
//! thread of the threaded producer serves the delivery queue during the call.

use std::ffi::CStr;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedHeaders, Headers};
use rdkafka::producer::{Producer, ProducerContext, ThreadedProducer};

/// Commits the open transaction of a threaded producer.
#[expect(unsafe_code, reason = "the crate flushes in steps of 100 ms; see the head of this file")]
pub(crate) fn commit<C: ProducerContext + 'static>(
    producer: &ThreadedProducer<C>,
    timeout: Duration,
) -> Result<(), RDKafkaErrorCode> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the borrow of the producer keeps its client alive during the call. The returned error is
    // null or owned by us; we read it once and destroy it once.
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

/// Waits until every record in flight is delivered, at most for `timeout`.
#[expect(unsafe_code, reason = "the crate waits in steps of 100 ms")]
pub(crate) fn flush<C: ProducerContext + 'static>(
    producer: &ThreadedProducer<C>,
    timeout: Duration,
) {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the borrow of the producer keeps its client alive during the call. The result is ignored:
    // the next call on the transaction reports records that failed or are still in flight.
    unsafe {
        rdkafka_sys::rd_kafka_flush(producer.client().native_ptr(), timeout_ms);
    }
}

/// Sets the initial rebalance delay of the groups in a client's mock cluster, whose default is three seconds.
///
/// Does nothing if the client has no mock cluster.
#[expect(unsafe_code, reason = "the crate's mock cluster lacks this call")]
pub(crate) fn set_initial_rebalance_delay<C: ClientContext>(client: &Client<C>, delay: Duration) {
    let delay_ms = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the borrow keeps the client alive during the call. A mock cluster lives as long as its
    // client and synchronizes this call itself.
    unsafe {
        let cluster = rdkafka_sys::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            rdkafka_sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, delay_ms);
        }
    }
}

/// Returns a record's headers. A name that is not valid UTF-8 is replaced by `\u{fffd}`.
///
/// The crate panics on such a name. Any producer can write one, and the record would crash every process that reads it.
#[expect(unsafe_code, reason = "the crate panics on a name that is not UTF-8")]
pub(crate) fn header_pairs(headers: &BorrowedHeaders) -> Vec<(&str, Option<&[u8]>)> {
    // `BorrowedHeaders` is librdkafka's own type behind a reference.
    let list = std::ptr::from_ref(headers).cast::<rdkafka_sys::rd_kafka_headers_t>();
    let mut pairs = Vec::with_capacity(headers.count());
    for index in 0..headers.count() {
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the borrow keeps the message and its headers alive as long as the pairs. The name is a C
        // string; a value that is not null has `size` bytes in the same list, which nothing modifies.
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
