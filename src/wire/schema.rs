//! The published schemas: of the spec and of every record, generated from the types.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::spec::raw;
use crate::wire::avro;
use crate::wire::label::LabelRecord;
use crate::wire::prediction::TextPrediction;

/// Something that has a published schema.
#[derive(Clone, Copy)]
pub struct Published {
    /// Its name: that of its file, and the word of `serinus schema`.
    pub name: &'static str,
    /// Makes its JSON Schema.
    pub json_schema: fn() -> Value,
    /// Makes its Avro schema, if it has one.
    pub avro_schema: Option<fn() -> Value>,
}

/// All that is published.
// A new record: its line here; `UPDATE=1 cargo test` writes its files.
pub const PUBLISHED: &[Published] = &[
    Published { name: "spec", json_schema: read_by_us::<raw::Document>, avro_schema: None },
    Published {
        name: "label",
        json_schema: read_by_us::<LabelRecord>,
        avro_schema: Some(avro::label_schema),
    },
    Published {
        name: "prediction",
        json_schema: written_by_us::<TextPrediction<'static>>,
        avro_schema: Some(avro::prediction_schema),
    },
];

/// Returns every published file by its name in `schemas/`.
pub fn files() -> Vec<(String, String)> {
    let text = |it: Value| format!("{it:#}\n");
    let mut files = Vec::new();
    for published in PUBLISHED {
        files.push((format!("{}.schema.json", published.name), text((published.json_schema)())));
        if let Some(avro_schema) = published.avro_schema {
            files.push((format!("{}.avsc", published.name), text(avro_schema())));
        }
    }
    files
}

/// Returns the schema of what others write: fields with a default may be left out.
pub fn read_by_us<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// Returns the schema of what we write: a field is required unless it is left out when there is nothing in it.
pub fn written_by_us<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}
