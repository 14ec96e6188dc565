//! Any record's value as JSON, for people and programs that only look.

use std::sync::LazyLock;

use serde_json::Value;

use crate::wire::avro::{Codec, is_single_object};
use crate::wire::schema::PUBLISHED;

/// Returns a value that is JSON, or one of our records in Avro; nothing for other bytes.
pub fn json_of(bytes: &[u8]) -> Option<Value> {
    static CODECS: LazyLock<Vec<Codec>> = LazyLock::new(|| {
        let schemas = PUBLISHED.iter().filter_map(|it| it.avro_schema);
        schemas.map(|it| Codec::new(&it())).collect()
    });
    if is_single_object(bytes) {
        let record = CODECS.iter().find_map(|it| it.decode_json(bytes))?;
        return Some(opened(record));
    }
    serde_json::from_slice(bytes).ok()
}

/// Opens what Avro carries as JSON text, and leaves out what it must write as null.
fn opened(record: Value) -> Value {
    let Value::Object(fields) = record else { return record };
    if let (1, Some(Value::String(text))) = (fields.len(), fields.get("json")) {
        return parsed(text);
    }
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    let fields = fields.map(|(name, value)| match (name.as_str(), value) {
        ("label" | "value", Value::String(text)) => (name, parsed(&text)),
        ("answers", Value::Array(answers)) => {
            (name, Value::Array(answers.into_iter().map(opened).collect()))
        }
        (_, value) => (name, value),
    });
    Value::Object(fields.collect())
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{json_of, opened};
    use crate::domain::ids::RequestId;
    use crate::domain::label::Label;
    use crate::domain::time::Timestamp;
    use crate::strategy::stage::Format;
    use crate::wire::label;

    #[test]
    fn a_record_reads_the_same_in_both_encodings() {
        let label = Label {
            request_id: RequestId::new("r1"),
            value: json!({"late": 1}),
            observed_at: Timestamp(5),
            version: 2,
            retract: false,
        };
        let read =
            |format: Format| json_of(&label::encode(format, &label)).expect("it is one of ours");
        let (as_json, as_avro) = (read(Format::Json), read(Format::Avro));
        for field in ["request_id", "label", "observed_at", "label_version"] {
            assert_eq!(as_json[field], as_avro[field], "{field}");
        }
        assert_eq!(as_avro["label"]["late"], 1);
    }

    #[test]
    fn json_text_in_a_record_is_opened() {
        let prediction =
            json!({"rollout": null, "answers": [{"value": "{\"score\":0.5}", "error": null}]});
        assert_eq!(opened(prediction), json!({"answers": [{"value": {"score": 0.5}}]}));
        assert_eq!(opened(json!({"json": "{\"verdict\":\"hold\"}"})), json!({"verdict": "hold"}));
    }

    #[test]
    fn other_bytes_are_nothing() {
        assert_eq!(json_of(b"\xC3\x01no record of ours"), None);
        assert_eq!(json_of(b"score=1"), None);
    }
}
