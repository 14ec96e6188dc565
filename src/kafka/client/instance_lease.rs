//! The lease of an instance name: the process that started last owns it.
//!
//! A process that was suspended past its session, or whose transaction timed out, is fenced exactly like a process whose
//! name another process took. If it rejoined its groups, it would remove the new owner. So each process writes a record
//! when it starts, and checks that its record is the newest before it starts or restarts a role.

use std::time::Duration;

use rdkafka::message::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_reader::KeyedWriter;
use crate::kafka::client::topic_scan;
use crate::kafka::process::clock;

/// Timeout of writing the start record.
const WAIT: Duration = Duration::from_secs(10);

/// The claim of this process on an instance name.
#[derive(Debug)]
pub struct InstanceLease {
    instance: String,
    process: String,
}

/// The record that a process writes when it starts.
#[derive(Debug, Serialize, Deserialize)]
struct Begin {
    process: String,
    at: i64,
}

impl InstanceLease {
    /// Creates a claim that is not written yet.
    pub fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), process: Uuid::now_v7().to_string() }
    }

    /// Returns the compacted topic with the newest start record of each name.
    pub fn topic(settings: &Settings) -> String {
        settings.topic("internal.slots")
    }

    /// Writes the start record. The previous owner stops at its next check.
    pub fn take(&self, settings: &Settings) -> Result<(), ShellError> {
        let begin = Begin { process: self.process.clone(), at: clock::now().0 };
        let value = serde_json::to_vec(&begin).map_err(|error| {
            ShellError::Missing(format!("failed to encode the start record: {error}"))
        })?;
        KeyedWriter::new(settings, Self::topic(settings), WAIT)
            .and_then(|s| s.write(&self.instance, &value))
            .map_err(ShellError::read("take the instance name"))
    }

    /// Fails if another process has started under this name since.
    pub fn check(&self, settings: &Settings) -> Result<(), ShellError> {
        let mut newest = None;
        let topic = Self::topic(settings);
        topic_scan::scan(settings, &topic, None, |message| {
            if message.key() == Some(self.instance.as_bytes()) {
                newest = message.payload().and_then(|p| serde_json::from_slice(p).ok());
            }
        })?
        .or_missing(&topic)?;
        match newest {
            Some(Begin { process, .. }) if process != self.process => {
                Err(ShellError::Fenced { instance: self.instance.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }
}
