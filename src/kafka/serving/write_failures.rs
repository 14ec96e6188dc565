//! Topics of versions that an instance cannot write, for whoever asks how a rollout stands: one record for each in a compacted topic.
//!
//! The records are written beside the loop, by a thread of their own: whoever has trouble with one topic must not wait for another.

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

/// What stands before the keys of these records, which share a topic with the names of instances.
const PREFIX: &str = "unwritable/";
/// How long a broker may take to accept a record.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// How many records may wait for the thread: each is about one topic, and a newer one says more.
const WAITING_MAX: usize = 1_000;

/// The private record of one topic of a version, as one instance finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// The topic.
    pub topic: String,
    /// Who says it.
    pub instance: String,
    /// Why it takes no copies; null once it takes them again.
    pub reason: Option<String>,
    /// How many copies were not sent since the instance began to serve.
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

/// Writes notices down.
#[derive(Debug)]
pub struct Notices {
    settings: Settings,
    thread: Option<Sender<Notice>>,
}

impl Notices {
    /// Begins with nothing to say, and nobody to say it.
    pub fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), thread: None }
    }

    /// Has a notice written down.
    pub fn write(&mut self, notice: Notice) {
        let thread = self.thread.take().or_else(|| start(&self.settings));
        // The thread ends only with this, unless it panicked; then the next one begins another.
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
            warn!(%error, "no thread to write down which topics take no copies");
            None
        }
    }
}

/// Writes what it is given until nobody gives it anything; what cannot be written is said again soon.
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
                Ok(it) => writer = Some(it),
                Err(error) => debug!(%error, key, "a notice was not written"),
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
