//! Whose an instance's name is: the process that was started last has it.
//!
//! A process that slept through its session, or whose transaction took too long, is fenced just like one whose name was taken by another
//! process; and were it to join its groups again, it would throw the other one out. So each process writes down that it begins, and
//! before a role begins, again or for the first time, it looks whether its own record is still the newest.

use std::time::Duration;

use rdkafka::message::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::kafka::client::error::ShellError;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_reader::KeyedWriter;
use crate::kafka::client::topic_scan;
use crate::kafka::process::clock;

/// How long the record of a begin may take.
const WAIT: Duration = Duration::from_secs(10);

/// An instance's name, held by this process.
#[derive(Debug)]
pub struct InstanceLease {
    instance: String,
    process: String,
}

/// The private record of a begin.
#[derive(Debug, Serialize, Deserialize)]
struct Begin {
    process: String,
    at: i64,
}

impl InstanceLease {
    /// Makes the claim of this process; nobody knows of it yet.
    pub fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), process: Uuid::now_v7().to_string() }
    }

    /// Returns the name of the topic that keeps the newest begin of each name.
    pub fn topic(settings: &Settings) -> String {
        settings.topic("internal.slots")
    }

    /// Writes down that this process begins: whoever had the name before leaves when it finds out.
    pub fn take(&self, settings: &Settings) -> Result<(), ShellError> {
        let begin = Begin { process: self.process.clone(), at: clock::now().0 };
        let value = serde_json::to_vec(&begin)
            .map_err(|error| ShellError::Missing(format!("failed to write a begin: {error}")))?;
        KeyedWriter::new(settings, Self::topic(settings), WAIT)
            .and_then(|s| s.write(&self.instance, &value))
            .map_err(ShellError::read("take the instance's name"))
    }

    /// Fails where another process has begun under this name since.
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
