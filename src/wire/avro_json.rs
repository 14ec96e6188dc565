//! Converts records between JSON and Avro by the Avro schema.

use std::collections::{BTreeMap, HashMap};

use apache_avro::types::Value as Avro;
use serde_json::{Map, Value, json};

/// A schema with an index of its named types.
pub(crate) struct Shape {
    root: Value,
    named: BTreeMap<String, Value>,
}

impl Shape {
    pub(crate) fn new(schema: &Value) -> Self {
        let mut named = BTreeMap::new();
        collect(schema, &mut named);
        Self { root: schema.clone(), named }
    }

    /// Converts a record from JSON to Avro; returns `None` if it does not match the schema.
    pub(crate) fn to_avro(&self, record: &Value) -> Option<Avro> {
        self.avro(&self.root, record)
    }

    /// Converts a record from Avro to the JSON that we would have written.
    pub(crate) fn to_json(&self, record: Avro) -> Option<Value> {
        self.json(&self.root, record)
    }

    fn avro(&self, schema: &Value, value: &Value) -> Option<Avro> {
        if let Value::Array(choices) = schema {
            let (index, made) = match value {
                Value::Null => (0, Avro::Null),
                Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_)
                | Value::Object(_) => (1, self.avro(choices.get(1)?, value)?),
            };
            return Some(Avro::Union(index, Box::new(made)));
        }
        let schema = self.resolved(schema);
        match word(schema)? {
            "boolean" => value.as_bool().map(Avro::Boolean),
            "int" => value.as_i64().and_then(|a| i32::try_from(a).ok()).map(Avro::Int),
            "long" => whole(value).map(Avro::Long),
            "double" => value.as_f64().map(Avro::Double),
            "string" => value.as_str().map(|v| Avro::String(v.to_owned())),
            "enum" => {
                let symbol = value.as_str()?;
                let index = schema.get("symbols")?.as_array()?.iter().position(|a| a == symbol)?;
                Some(Avro::Enum(u32::try_from(index).ok()?, symbol.to_owned()))
            }
            "array" => {
                let items = schema.get("items")?;
                let made = value.as_array()?.iter().map(|a| self.avro(items, a));
                made.collect::<Option<_>>().map(Avro::Array)
            }
            "map" => {
                let values = schema.get("values")?;
                let made = value.as_object()?.iter();
                let made = made.map(|(key, m)| Some((key.clone(), self.avro(values, m)?)));
                made.collect::<Option<HashMap<_, _>>>().map(Avro::Map)
            }
            "record" => {
                let fields = schema.get("fields")?.as_array()?.iter().enumerate();
                let made = fields.map(|(index, field)| {
                    let name = field.get("name")?.as_str()?;
                    let part =
                        if is_marked(schema, "tuple") { value.get(index) } else { value.get(name) };
                    let part = part.unwrap_or(&Value::Null);
                    let kind = field.get("type")?;
                    let is_text = is_marked(field, "json") && !(part.is_null() && kind.is_array());
                    let made = if is_text {
                        self.avro(kind, &json!(part.to_string()))
                    } else {
                        self.avro(kind, part)
                    };
                    Some((name.to_owned(), made?))
                });
                made.collect::<Option<_>>().map(Avro::Record)
            }
            _ => None,
        }
    }

    fn json(&self, schema: &Value, value: Avro) -> Option<Value> {
        let (schema, value) = match (schema, value) {
            (Value::Array(choices), Avro::Union(index, inner)) => {
                (choices.get(usize::try_from(index).ok()?)?, *inner)
            }
            (schema, value) => (schema, value),
        };
        let schema = self.resolved(schema);
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "our records use only some of Avro's types"
        )]
        match value {
            Avro::Null => Some(Value::Null),
            Avro::Boolean(value) => Some(json!(value)),
            Avro::Int(value) => Some(json!(value)),
            Avro::Long(value) | Avro::TimestampMillis(value) => Some(json!(value)),
            Avro::Double(value) => Some(json!(value)),
            Avro::String(value) | Avro::Enum(_, value) => Some(json!(value)),
            Avro::Array(items) => {
                let kind = schema.get("items")?;
                items.into_iter().map(|s| self.json(kind, s)).collect::<Option<_>>()
            }
            Avro::Map(values) => {
                let kind = schema.get("values")?;
                let made = values.into_iter().map(|(key, m)| Some((key, self.json(kind, m)?)));
                made.collect::<Option<Map<_, _>>>().map(Value::Object)
            }
            Avro::Record(parts) => {
                let fields = schema.get("fields")?.as_array()?;
                let made = fields.iter().zip(parts).map(|(field, (name, part))| {
                    let made = self.json(field.get("type")?, part)?;
                    let made = match (is_marked(field, "json"), made) {
                        // Text that is not JSON stays text.
                        (true, Value::String(value)) => {
                            serde_json::from_str(&value).unwrap_or(Value::String(value))
                        }
                        (_, made) => made,
                    };
                    // Fields that our JSON leaves out when they are empty are left out here, too.
                    let is_absent = made.is_null() && field.get("default").is_some();
                    Some((name, made, is_absent))
                });
                let made: Vec<(String, Value, bool)> = made.collect::<Option<_>>()?;
                if is_marked(schema, "tuple") {
                    return Some(made.into_iter().map(|(_, m, _)| m).collect());
                }
                let present = made.into_iter().filter(|(_, _, is_absent)| !is_absent);
                Some(Value::Object(present.map(|(name, p, _)| (name, p)).collect()))
            }
            _ => None,
        }
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        schema.as_str().and_then(|s| self.named.get(s)).unwrap_or(schema)
    }
}

fn collect(schema: &Value, named: &mut BTreeMap<String, Value>) {
    match schema {
        Value::Object(parts) => {
            if let (Some(Value::String(name)), Some("record" | "enum")) =
                (parts.get("name"), parts.get("type").and_then(Value::as_str))
            {
                named.insert(name.clone(), schema.clone());
            }
            parts.values().for_each(|f| collect(f, named));
        }
        Value::Array(items) => items.iter().for_each(|f| collect(f, named)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn word(schema: &Value) -> Option<&str> {
    schema.as_str().or_else(|| schema.get("type")?.as_str())
}

fn is_marked(schema: &Value, mark: &str) -> bool {
    schema.get(mark) == Some(&Value::Bool(true))
}

/// Returns a whole number, at most 2^63 - 1: Avro has no larger ones.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_u64().map(|_| i64::MAX))
}
