//! The private record that stands among the labels by request id: how far one partition of the labels' own topic has been placed.
//!
//! It has no key, which tells it from a label, and labels name their partition in a header.

use std::str;

use serde::{Deserialize, Serialize};

use crate::wire::codec::{Record, read, write};
use crate::wire::malformed::Malformed;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::io::LabelWatermark;

/// The header of a placed label that names the partition it came from.
pub const SOURCE: &str = "serinus-source";

/// How far one partition's labels have been placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkRecord {
    /// The partition.
    pub source: i32,
    /// When this was said, in Unix milliseconds.
    pub said_at: i64,
    /// The newest time among its labels so far, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<i64>,
    /// Every label that stood in the partition at this time was placed before, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_to: Option<i64>,
    /// Whether no label had come for a while before that time.
    #[serde(default)]
    pub quiet: bool,
}

impl Record for WatermarkRecord {
    const NAME: &'static str = "mark";
}

impl WatermarkRecord {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        read(bytes)
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        write(self)
    }
}

impl From<LabelWatermark> for WatermarkRecord {
    fn from(mark: LabelWatermark) -> Self {
        Self {
            source: mark.source,
            said_at: mark.said_at.0,
            reached: mark.newest.map(|n| n.0),
            read_to: mark.read_to.map(|r| r.0),
            quiet: mark.is_quiet,
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

/// Returns the partition that a placed label came from, where its headers say so.
pub fn source<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Option<i32> {
    let (_, value) = headers.into_iter().find(|(name, _)| *name == SOURCE)?;
    str::from_utf8(value?).ok()?.parse().ok()
}
