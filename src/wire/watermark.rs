//! The private watermark record: how far one partition of the label topic has been repartitioned.
//!
//! Watermarks are written between the repartitioned labels. They have no key, unlike labels, and labels name their source partition in
//! a header.

use std::str;

use serde::{Deserialize, Serialize};

use crate::wire::codec::{Record, read, write};
use crate::wire::malformed::Malformed;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::io::LabelWatermark;

/// The header of a repartitioned label that names its source partition.
pub const SOURCE: &str = "serinus-source";

/// How far one source partition has been repartitioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkRecord {
    /// The source partition.
    pub source: i32,
    /// When this was written, in Unix milliseconds.
    pub said_at: i64,
    /// The newest time of its labels so far, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<i64>,
    /// A time in Unix milliseconds: every label that was in the source partition at this time has been repartitioned before this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_to: Option<i64>,
    /// Whether the source partition was idle before that time.
    #[serde(default)]
    pub quiet: bool,
}

impl Record for WatermarkRecord {
    const NAME: &'static str = "watermark";
}

impl WatermarkRecord {
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    pub fn write(&self) -> Vec<u8> {
        write(self)
    }
}

impl From<LabelWatermark> for WatermarkRecord {
    fn from(watermark: LabelWatermark) -> Self {
        Self {
            source: watermark.source,
            said_at: watermark.said_at.0,
            reached: watermark.newest.map(|n| n.0),
            read_to: watermark.read_to.map(|r| r.0),
            quiet: watermark.is_quiet,
        }
    }
}

impl From<WatermarkRecord> for LabelWatermark {
    fn from(record: WatermarkRecord) -> Self {
        Self {
            source: record.source,
            said_at: Timestamp(record.said_at),
            newest: record.reached.map(Timestamp),
            read_to: record.read_to.map(Timestamp),
            is_quiet: record.quiet,
        }
    }
}

/// Returns the source partition of a repartitioned label, if its headers name it.
pub fn source<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Option<i32> {
    let (_, value) = headers.into_iter().find(|(name, _)| *name == SOURCE)?;
    str::from_utf8(value?).ok()?.parse().ok()
}
