//! What a command needs to reach the application.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::output::Output;
use crate::kafka::client::error::ReadError;
use crate::kafka::client::guarded_properties;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_reader::{Record, TopicReader};
use crate::wire::any::json_of;
use crate::wire::json::keeps_numbers;

/// How long Kafka may be silent while it is read.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where data is printed to.
    pub(crate) output: Output,
    /// The application id.
    pub(crate) app: String,
    bootstrap: Option<String>,
    properties: Vec<(String, String)>,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        Self {
            output: Output { format: global.output },
            app: global.app,
            bootstrap: global.bootstrap,
            properties: global.properties,
        }
    }

    /// Returns how to reach Kafka, which someone must have said.
    pub(crate) fn settings(&self) -> Result<Settings, CliError> {
        let bootstrap = self.bootstrap.clone().filter(|b| !b.is_empty()).ok_or_else(|| {
            CliError::Usage(
                "where is Kafka? give --bootstrap HOST:PORT, or set SERINUS_BOOTSTRAP".to_owned(),
            )
        })?;
        guarded_properties::check_together(&self.properties).map_err(CliError::Usage)?;
        let (app, overrides) = (self.app.clone(), self.properties.clone());
        Ok(Settings { bootstrap, app, overrides })
    }

    /// Returns how to reach Kafka where someone said it.
    pub(crate) fn settings_if_named(&self) -> Option<Settings> {
        self.settings().ok()
    }

    /// Returns a reader of the cluster.
    pub(crate) fn reader(&self) -> Result<TopicReader, CliError> {
        Ok(TopicReader::new(&self.settings()?, SILENCE_MAX)?)
    }

    /// Reads one of the application's topics to its end.
    pub(crate) fn read_own(
        &self,
        reader: &TopicReader,
        name: &str,
    ) -> Result<Vec<Record>, CliError> {
        let topic = self.own(name);
        reader.read_to_end(&topic).map_err(|error| self.own_error(error))
    }

    /// Returns the name of one of the application's topics.
    pub(crate) fn own(&self, name: &str) -> String {
        format!("{}.{name}", self.app)
    }

    /// Says of a missing topic of the application what may be the matter.
    pub(crate) fn own_error(&self, error: ReadError) -> CliError {
        match error {
            ReadError::NoTopic(topic) => CliError::NoApp { topic, app: self.app.clone() },
            error @ (ReadError::Setup(_)
            | ReadError::Unreachable { .. }
            | ReadError::Read { .. }
            | ReadError::Stalled { .. }
            | ReadError::Write { .. }) => CliError::Read(error),
        }
    }
}

/// Returns a record's value as JSON; what is neither JSON nor text is given as base64.
pub(crate) fn value_of(record: &Record) -> Value {
    let Some(bytes) = &record.value else { return Value::Null };
    if let Some(value) = json_of(bytes) {
        return value;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "base64": base64(bytes) }),
    }
}

/// Returns a whole record as JSON.
pub(crate) fn record_json(record: &Record) -> Value {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "base64": base64(bytes) }),
    };
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| json!([name, value.as_deref().map(text)]))
        .collect();
    let mut json = json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": record.key.as_deref().map(text),
        "headers": headers,
        "value": value_of(record),
    });
    // Ids are compared as they are written, which a number that was read and is printed again does not show.
    if let Some(bytes) = record.value.as_deref().filter(|v| !keeps_numbers(v)) {
        json["value_text"] = text(bytes);
    }
    json
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
