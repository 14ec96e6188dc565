//! Publishes which version topics an instance cannot write, for `serinus status`: one record for each topic, in a compacted topic.
//!
//! A separate thread writes the records, so that the loop does not wait for a broker to report a problem with another.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rdkafka::message::Message;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::kafka::client::error::ShellError;
use crate::kafka::client::instance_lease::InstanceLease;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_reader::KeyedWriter;
use crate::kafka::client::topic_scan::{self, Scanned};

/// Prefix of the keys of these records, which share a topic with instance leases.
const PREFIX: &str = "unwritable/";
/// Timeout of writing a record.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Maximum number of records that the thread takes at once; of several records about one topic it writes the newest.
const WAITING_MAX: usize = 1_000;

/// The private record about one version topic, as one instance sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// The topic.
    pub topic: String,
    /// The instance.
    pub instance: String,
    /// Why the topic is unwritable; null once it is writable again.
    pub reason: Option<String>,
    /// Copies that were not sent since the instance began to serve.
    pub not_sent: u64,
    /// Since when, in Unix ms.
    pub since: i64,
    /// When this was written, in Unix ms.
    pub at: i64,
}

impl Notice {
    fn key(&self) -> String {
        format!("{PREFIX}{}/{}", self.instance, self.topic)
    }
}

/// Writes notices.
#[derive(Debug)]
pub struct Notices {
    settings: Settings,
    thread: Option<Sender<Notice>>,
}

impl Notices {
    /// Starts without a thread; the first notice starts it.
    pub fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), thread: None }
    }

    /// Queues a notice for the thread.
    pub fn write(&mut self, notice: Notice) {
        let thread = self.thread.take().or_else(|| start(&self.settings));
        // If the thread has panicked, the next notice starts another one.
        self.thread = thread.filter(|t| t.send(notice).is_ok());
    }
}

fn start(settings: &Settings) -> Option<Sender<Notice>> {
    let (sender, notices) = channel();
    let settings = settings.clone();
    let thread = thread::Builder::new().name("notices".to_owned());
    match thread.spawn(move || work(&settings, &notices)) {
        Ok(_) => Some(sender),
        Err(error) => {
            warn!(%error, "thread for write-failure notices not started");
            None
        }
    }
}

/// Writes queued notices until the sender is dropped. A notice that fails is not retried: the next report replaces it.
fn work(settings: &Settings, notices: &Receiver<Notice>) {
    let mut writer: Option<KeyedWriter> = None;
    while let Ok(first) = notices.recv() {
        let newest: BTreeMap<String, Notice> = std::iter::once(first)
            .chain(notices.try_iter().take(WAITING_MAX))
            .map(|notice| (notice.key(), notice))
            .collect();
        for (key, notice) in newest {
            let made = writer.take().map_or_else(
                || KeyedWriter::new(settings, InstanceLease::topic(settings), WRITE_MAX),
                Ok,
            );
            let Ok(value) = serde_json::to_vec(&notice) else { continue };
            match made.and_then(|m| m.write(&key, &value).map(|()| m)) {
                Ok(ready) => writer = Some(ready),
                Err(error) => debug!(%error, key, "notice not written"),
            }
        }
    }
}

/// Reads the newest notice of each instance about each topic.
pub fn read(settings: &Settings) -> Result<Vec<Notice>, ShellError> {
    let mut newest = BTreeMap::new();
    let scanned = topic_scan::scan(settings, &InstanceLease::topic(settings), None, |message| {
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
        let Some(key) = key.filter(|key| key.starts_with(PREFIX)) else { return };
        let notice =
            message.payload().and_then(|value| serde_json::from_slice::<Notice>(value).ok());
        if let Some(notice) = notice {
            newest.insert(key.to_owned(), notice);
        }
    })?;
    match scanned {
        Scanned::ToItsEnd | Scanned::Missing => Ok(newest.into_values().collect()),
    }
}
