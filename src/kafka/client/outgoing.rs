//! A record to be produced, and its conversion to the client's type.

use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::util::IntoOpaque;

use serinus_core::domain::record::Header;
use serinus_core::domain::time::Timestamp;

/// Bytes that a batch adds to its only record: the batch header and the lengths of the record's parts.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 110;
/// Upper bound of the bytes that one header adds to its name and value.
const HEADER_OVERHEAD_BYTES: usize = 10;

/// A record to be produced.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Headers of the consumed record that travel on unchanged.
    pub passthrough: &'a [Header],
    /// Headers that Serinus adds.
    pub headers: &'a [(&'a str, &'a str)],
    /// The record's timestamp; without one, the time of sending.
    pub at: Option<Timestamp>,
}

impl<'a> Outgoing<'a> {
    /// Returns the uncompressed size of a batch that holds only this record. Never too small.
    pub fn bytes(&self) -> usize {
        let length = |o: Option<&[u8]>| o.map_or(0, <[u8]>::len);
        let passthrough: usize = self
            .passthrough
            .iter()
            .map(|h| h.name.len() + length(h.value.as_deref()) + HEADER_OVERHEAD_BYTES)
            .sum();
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD_BYTES)
            .sum();
        length(self.key) + length(self.value) + passthrough + headers + RECORD_OVERHEAD_BYTES
    }

    /// Returns all headers in the client's type, or `None` if there are none.
    pub(crate) fn owned_headers(&self) -> Option<OwnedHeaders> {
        let count = self.passthrough.len() + self.headers.len();
        if count == 0 {
            return None;
        }
        let mut owned = OwnedHeaders::new_with_capacity(count);
        for header in self.passthrough {
            owned = owned.insert(KafkaHeader { key: &header.name, value: header.value.as_deref() });
        }
        for (key, value) in self.headers {
            owned = owned.insert(KafkaHeader { key, value: Some(*value) });
        }
        Some(owned)
    }

    /// Converts to the client's type.
    pub(crate) fn record<D: IntoOpaque>(&self, opaque: D) -> BaseRecord<'a, [u8], [u8], D> {
        self.record_with(self.owned_headers(), opaque)
    }

    /// Converts to the client's type with headers that were converted before.
    pub(crate) fn record_with<D: IntoOpaque>(
        &self,
        headers: Option<OwnedHeaders>,
        opaque: D,
    ) -> BaseRecord<'a, [u8], [u8], D> {
        let mut record: BaseRecord<'a, [u8], [u8], D> =
            BaseRecord::with_opaque_to(self.topic, opaque).partition(self.partition);
        record.key = self.key;
        record.payload = self.value;
        record.timestamp = self.at.map(|at| at.0);
        record.headers = headers;
        record
    }
}
