//! The list of published schemas: of the spec and of every published record.

use serde_json::Value;

use crate::wire::analysis::AnalysisRecord;
use crate::wire::avro::Codec;
use crate::wire::codec::Record;
use crate::wire::command::CommandRecord;
use crate::wire::event::EventRecord;
use crate::wire::json_schema::{read_by_us, written_by_us};
use crate::wire::label::LabelRecord;
use crate::wire::metrics::MetricsRecord;
use crate::wire::prediction::TextPrediction;
use crate::wire::state::StateRecord;
use serinus_core::spec::raw;

/// A published schema.
#[derive(Clone, Copy)]
pub struct Published {
    /// The name of its files, and its word in `serinus schema`.
    pub name: &'static str,
    /// Returns its JSON Schema.
    pub json_schema: fn() -> Value,
    /// Returns its Avro codec; the spec has none.
    pub codec: fn() -> Option<&'static Codec>,
}

impl Published {
    const fn record<T: Record>(json_schema: fn() -> Value) -> Self {
        Self { name: T::NAME, json_schema, codec: T::codec }
    }

    /// Returns its Avro schema; the spec has none.
    pub fn avro_schema(&self) -> Option<&'static Value> {
        (self.codec)().map(Codec::schema)
    }
}

/// All published schemas.
// Add a line here for a new record; `UPDATE=1 cargo test` writes its files.
pub const PUBLISHED: &[Published] = &[
    Published { name: "spec", json_schema: read_by_us::<raw::Document>, codec: || None },
    Published::record::<LabelRecord>(read_by_us::<LabelRecord>),
    Published::record::<TextPrediction<'static>>(written_by_us::<TextPrediction<'static>>),
    Published::record::<AnalysisRecord>(written_by_us::<AnalysisRecord>),
    Published::record::<MetricsRecord>(written_by_us::<MetricsRecord>),
    Published::record::<EventRecord>(written_by_us::<EventRecord>),
    Published::record::<StateRecord>(written_by_us::<StateRecord>),
    Published::record::<CommandRecord>(read_by_us::<CommandRecord>),
];

/// Returns every published file with its name in `schemas/`.
pub fn files() -> Vec<(String, String)> {
    let text = |schema: &Value| format!("{schema:#}\n");
    let mut files = Vec::new();
    for published in PUBLISHED {
        files.push((format!("{}.schema.json", published.name), text(&(published.json_schema)())));
        if let Some(avro_schema) = published.avro_schema() {
            files.push((format!("{}.avsc", published.name), text(avro_schema)));
        }
    }
    files
}
