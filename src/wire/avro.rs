//! Avro: the records' schemas, and single-object encoding (`C3 01`, the schema's CRC-64-AVRO fingerprint, the datum).
//!
//! JSON of any shape in a record (the value of an answer, a label) is carried as JSON text.

use apache_avro::headers::{HeaderBuilder, RabinFingerprintHeader};
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::wire::avro_json::Shape;
use crate::wire::json::Unreadable;

const MARK: [u8; 2] = [0xC3, 0x01];
const HEADER_LENGTH: usize = 10;

/// Writes and reads the records of one schema.
pub struct Codec {
    schema: Value,
    header: Vec<u8>,
    shape: Shape,
    writer: GenericDatumWriter<'static>,
    reader: GenericDatumReader<'static>,
}

impl Codec {
    /// Makes the codec of a schema that is part of this program.
    ///
    /// The parsed schema is leaked: make one codec per schema, in a `LazyLock`.
    #[expect(clippy::missing_panics_doc, reason = "schemas are part of the program and tested")]
    pub fn new(schema: Value) -> Self {
        let parse = |v: &Value| {
            apache_avro::Schema::parse(v).expect("a schema of this program, which a test parses")
        };
        let header = RabinFingerprintHeader::from_schema(&parse(&plain(&schema))).build_header();
        let shape = Shape::new(&schema);
        let parsed: &'static apache_avro::Schema = Box::leak(Box::new(parse(&schema)));
        let writer = GenericDatumWriter::builder(parsed).build();
        let reader = GenericDatumReader::builder(parsed).build();
        Self {
            schema,
            header,
            shape,
            writer: writer.expect("a schema that was parsed has all its names"),
            reader: reader.expect("a schema that was parsed has all its names"),
        }
    }

    /// Writes a record. Its fields must be those of the schema.
    #[expect(
        clippy::missing_panics_doc,
        reason = "records and schemas are part of the program, and tests compare them"
    )]
    pub fn encode<T: Serialize>(&self, record: &T) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.header);
        self.writer
            .write_ser(&mut bytes, record)
            .expect("a test compares the record with the schema");
        bytes
    }

    /// Returns the schema.
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// Returns the ten bytes that every record begins with.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Writes a record that is given as JSON; returns `None` if it does not match the schema.
    pub fn encode_json(&self, record: &Value) -> Option<Vec<u8>> {
        let record = self.shape.to_avro(record)?;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.header);
        self.writer.write_value_ref(&mut bytes, &record).ok()?;
        Some(bytes)
    }

    /// Reads a record that was written with the same schema, as the JSON that we would have written.
    pub fn decode_json(&self, bytes: &[u8]) -> Option<Value> {
        let mut datum = bytes.strip_prefix(&*self.header)?;
        let record = self.reader.read_value(&mut datum).ok()?;
        if datum.is_empty() { self.shape.to_json(record) } else { None }
    }

    /// Reads a record that was written with the same schema.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Unreadable> {
        let mut datum = bytes
            .strip_prefix(&*self.header)
            .ok_or_else(|| Unreadable("it was written with another Avro schema".to_owned()))?;
        // The library's error repeats the whole schema, so we replace it.
        let record = self.reader.read_deser(&mut datum);
        let record = record.map_err(|_| {
            Unreadable("it does not match the Avro schema that it names".to_owned())
        })?;
        if !datum.is_empty() {
            return Err(Unreadable(format!("{} bytes follow after its Avro datum", datum.len())));
        }
        Ok(record)
    }
}

/// Returns whether bytes are in single-object encoding. No UTF-8 text, and so no JSON, begins with these bytes.
pub fn is_single_object(bytes: &[u8]) -> bool {
    bytes.starts_with(&MARK) && bytes.len() >= HEADER_LENGTH
}

/// Returns a schema with plain types instead of logical ones.
///
/// The fingerprint is computed from the canonical form, in which `{"type": "long", "logicalType": ...}` is `"long"`. The library
/// turns it into `{"type": "long"}` instead, which gives another fingerprint than the libraries of other languages.
fn plain(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => match (fields.get("logicalType"), fields.get("type")) {
            (Some(_), Some(kind)) => kind.clone(),
            _ => fields.iter().map(|(name, f)| (name.clone(), plain(f))).collect(),
        },
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
    }
}
