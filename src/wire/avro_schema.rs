//! Derives the Avro schema of a record from its JSON Schema.
//!
//! JSON of any shape becomes a string of JSON text, marked `"json": true`. A JSON list of fixed length becomes a record, marked
//! `"tuple": true`. A field that JSON leaves out when it is empty has the default null; a field that JSON writes as null has no default.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// JSON lists of fixed length: the name of the field, the name of the Avro record, and the names of the parts.
// Add a line here for a new list of fixed length in a published record.
const TUPLES: &[(&str, &str, &[&str])] = &[
    ("slices", "Slice", &["version", "width"]),
    ("positions", "InputPosition", &["topic", "partition", "offset"]),
    ("drops", "Drop", &["revision", "version"]),
    ("stratum", "Stratum", &["stage", "drops"]),
    ("seen", "LatencyBucket", &["bucket", "answers"]),
];

/// Fields that are Unix milliseconds. Fields whose names end in `_at` are, too.
const TIMES: &[&str] =
    &["at", "tick", "since", "judged", "eta", "prediction_watermark", "label_watermark"];

/// Returns the Avro schema of the record that a JSON Schema describes.
///
/// # Panics
///
/// Panics if the schema has a shape that no record of this program has.
pub(crate) fn of(schema: &Value) -> Value {
    let no_definitions = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&no_definitions);
    let mut maker = Maker { definitions, named: BTreeSet::new() };
    let name = schema.get("title").and_then(Value::as_str).unwrap_or("Record");
    let mut record = maker.object(name, schema);
    record["namespace"] = json!("io.serinus");
    record
}

/// Returns the schema of a record whose Avro form differs from its JSON form, so that its fields are written by hand.
#[expect(clippy::needless_pass_by_value, reason = "the fields become part of the schema")]
pub(super) fn record(name: &str, doc: &str, fields: Vec<Value>) -> Value {
    json!({"type": "record", "namespace": "io.serinus", "name": name, "doc": doc, "fields": fields})
}

/// Returns a nullable field with the default null.
pub(super) fn optional(name: &str, kind: &Value) -> Value {
    json!({"name": name, "type": ["null", kind], "default": null})
}

/// Returns the type of a time in Unix milliseconds.
pub(super) fn time() -> Value {
    json!({"type": "long", "logicalType": "timestamp-millis"})
}

/// The Avro type of a field.
struct Kind {
    schema: Value,
    is_nullable: bool,
    is_json: bool,
}

struct Maker<'a> {
    definitions: &'a Map<String, Value>,
    named: BTreeSet<String>,
}

impl Maker<'_> {
    /// Returns the type of `field`.
    fn kind(&mut self, field: &str, schema: &Value) -> Kind {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit('/').next().unwrap_or(reference);
            return self.definition(name);
        }
        if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
            let is_null = |v: &&Value| v.get("type") == Some(&json!("null"));
            let some = choices.iter().find(|c| !is_null(c)).expect("a choice besides null");
            assert!(choices.iter().filter(|c| !is_null(c)).count() == 1, "{field}: {schema}");
            return Kind { is_nullable: true, ..self.kind(field, some) };
        }
        match schema.get("type") {
            None => Kind { schema: json!("string"), is_nullable: true, is_json: true },
            Some(Value::Array(types)) => {
                let some = types.iter().find(|t| **t != "null").expect("a type besides null");
                let mut one = schema.clone();
                one["type"] = some.clone();
                Kind { is_nullable: types.contains(&json!("null")), ..self.kind(field, &one) }
            }
            Some(kind) => {
                let kind = kind.as_str().unwrap_or_default();
                let schema = self.plain(field, kind, schema);
                Kind { schema, is_nullable: false, is_json: false }
            }
        }
    }

    fn definition(&mut self, name: &str) -> Kind {
        let definitions = self.definitions;
        let definition = definitions.get(name).expect("a reference leads to a definition");
        let schema = if self.named.contains(name) {
            json!(name)
        } else if definition.get("oneOf").is_some() {
            self.words(name, definition)
        } else {
            self.object(name, definition)
        };
        Kind { schema, is_nullable: false, is_json: false }
    }

    fn plain(&mut self, field: &str, kind: &str, schema: &Value) -> Value {
        match kind {
            "string" | "boolean" => json!(kind),
            "number" => json!("double"),
            "integer" if TIMES.contains(&field) || field.ends_with("_at") => {
                json!({"type": "long", "logicalType": "timestamp-millis"})
            }
            "integer" if schema.get("format") == Some(&json!("int32")) => json!("int"),
            "integer" => json!("long"),
            "array" => {
                if let Some(parts) = schema.get("prefixItems").and_then(Value::as_array) {
                    return self.tuple(field, parts);
                }
                let items = self.kind(field, &schema["items"]);
                assert!(!items.is_json && !items.is_nullable, "{field}: {schema}");
                json!({"type": "array", "items": items.schema})
            }
            "object" => {
                let values = self.kind(field, &schema["additionalProperties"]);
                assert!(!values.is_json && !values.is_nullable, "{field}: {schema}");
                json!({"type": "map", "values": values.schema})
            }
            other => panic!("{field}: {other} has no Avro type"),
        }
    }

    fn tuple(&mut self, field: &str, parts: &[Value]) -> Value {
        let (_, name, names) =
            TUPLES.iter().find(|n| n.0 == field).expect("a list of fixed parts has a line above");
        assert_eq!(names.len(), parts.len(), "the parts of {field}");
        if !self.named.insert((*name).to_owned()) {
            return json!(name);
        }
        let fields = names.iter().zip(parts).map(|(part, schema)| {
            let kind = self.kind(part, schema);
            assert!(!kind.is_json && !kind.is_nullable, "{field}: {schema}");
            json!({"name": part, "type": kind.schema})
        });
        let fields: Vec<Value> = fields.collect();
        json!({"type": "record", "name": name, "tuple": true, "fields": fields})
    }

    fn words(&mut self, name: &str, schema: &Value) -> Value {
        let words = schema["oneOf"].as_array().expect("a list of words");
        let words: Vec<&Value> = words.iter().map(|w| &w["const"]).collect();
        // Symbols of Avro enums cannot contain hyphens.
        let is_symbol = |v: &&Value| v.as_str().is_some_and(|i| !i.contains('-'));
        if !words.iter().all(is_symbol) {
            return json!("string");
        }
        self.named.insert(name.to_owned());
        documented(json!({"type": "enum", "name": name, "symbols": words}), schema)
    }

    fn object(&mut self, name: &str, schema: &Value) -> Value {
        self.named.insert(name.to_owned());
        let no_fields = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&no_fields);
        let required = schema.get("required").and_then(Value::as_array);
        let fields = properties.iter().map(|(field, schema)| {
            let kind = self.kind(field, schema);
            let is_required = required.is_some_and(|r| r.contains(&json!(field)));
            let is_nullable = kind.is_nullable || !is_required;
            let schema_of =
                if is_nullable { json!(["null", kind.schema]) } else { kind.schema.clone() };
            let mut made = json!({"name": field, "type": schema_of});
            if !is_required {
                made["default"] = Value::Null;
            }
            if kind.is_json {
                made["json"] = Value::Bool(true);
            }
            documented(made, schema)
        });
        let fields: Vec<Value> = fields.collect();
        documented(json!({"type": "record", "name": name, "fields": fields}), schema)
    }
}

fn documented(mut made: Value, schema: &Value) -> Value {
    if let Some(doc) = schema.get("description") {
        made["doc"] = doc.clone();
    }
    made
}
