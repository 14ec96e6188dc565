//! Any record's value as JSON, for display.

use serde_json::Value;

use crate::wire::avro::is_single_object;
use crate::wire::schema::PUBLISHED;

/// Returns the JSON of a value that is JSON or one of our records in Avro; `None` for other bytes.
pub fn json_of(bytes: &[u8]) -> Option<Value> {
    if is_single_object(bytes) {
        return PUBLISHED.iter().find_map(|published| (published.codec)()?.decode_json(bytes));
    }
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::json_of;
    use crate::wire::label;
    use serinus_core::domain::ids::RequestId;
    use serinus_core::domain::label::Label;
    use serinus_core::domain::time::Timestamp;
    use serinus_core::plan::rollout::Format;

    #[test]
    fn a_record_reads_the_same_in_both_encodings() {
        let label = Label {
            request_id: RequestId::new("r1"),
            value: json!({"late": 1}),
            observed_at: Timestamp(5),
            version: 2,
            retract: false,
        };
        let read = |format: Format| {
            json_of(&label::encode(format, &label)).expect("the record is published")
        };
        let (as_json, as_avro) = (read(Format::Json), read(Format::Avro));
        for field in ["request_id", "label", "observed_at", "label_version"] {
            assert_eq!(as_json[field], as_avro[field], "{field}");
        }
        assert_eq!(as_avro["label"]["late"], 1);
    }

    #[test]
    fn other_bytes_are_no_record() {
        assert_eq!(json_of(b"\xC3\x01no record of ours"), None);
        assert_eq!(json_of(b"score=1"), None);
    }
}
