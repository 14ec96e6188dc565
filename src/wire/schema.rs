//! The published schemas: of the spec and of every record, generated from the types.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::wire::analysis::AnalysisRecord;
use crate::wire::avro::{self, Codec};
use crate::wire::avro_schema;
use crate::wire::command::CommandRecord;
use crate::wire::event::EventRecord;
use crate::wire::label::LabelRecord;
use crate::wire::metrics::MetricsRecord;
use crate::wire::prediction::TextPrediction;
use crate::wire::state::StateRecord;
use serinus_core::spec::raw;

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
    Published {
        name: "analysis",
        json_schema: written_by_us::<AnalysisRecord>,
        avro_schema: Some(|| avro_schema::of(&written_by_us::<AnalysisRecord>())),
    },
    Published {
        name: "rollout-metrics",
        json_schema: written_by_us::<MetricsRecord>,
        avro_schema: Some(|| avro_schema::of(&written_by_us::<MetricsRecord>())),
    },
    Published {
        name: "rollout-event",
        json_schema: written_by_us::<EventRecord>,
        avro_schema: Some(|| avro_schema::of(&written_by_us::<EventRecord>())),
    },
    Published {
        name: "rollout-state",
        json_schema: written_by_us::<StateRecord>,
        avro_schema: Some(|| avro_schema::of(&written_by_us::<StateRecord>())),
    },
    Published {
        name: "command",
        json_schema: read_by_us::<CommandRecord>,
        avro_schema: Some(|| avro_schema::of(&read_by_us::<CommandRecord>())),
    },
];

/// Returns every published file by its name in `schemas/`.
pub fn files() -> Vec<(String, String)> {
    let text = |v: Value| format!("{v:#}\n");
    let mut files = Vec::new();
    for published in PUBLISHED {
        files.push((format!("{}.schema.json", published.name), text((published.json_schema)())));
        if let Some(avro_schema) = published.avro_schema {
            files.push((format!("{}.avsc", published.name), text(avro_schema())));
        }
    }
    files
}

/// Returns the Avro codec of a published record, if it has one.
pub fn codec(name: &str) -> Option<&'static Codec> {
    codecs().iter().find(|c| c.0 == name).map(|n| &n.1)
}

/// Returns the Avro codecs of all published records, by name.
pub fn codecs() -> &'static [(&'static str, Codec)] {
    static CODECS: LazyLock<Vec<(&str, Codec)>> = LazyLock::new(|| {
        let made = PUBLISHED.iter().map(|m| Some((m.name, Codec::new(&(m.avro_schema?)()))));
        made.flatten().collect()
    });
    &CODECS
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
