//! The JSON Schema of a type, for records that others write and for records that we write.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// Returns the schema of what others write: fields with a default may be left out.
pub(super) fn read_by_us<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// Returns the schema of what we write: a field is required unless we leave it out when it is empty.
pub(super) fn written_by_us<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}
