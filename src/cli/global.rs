//! What every command takes: the cluster, the application, output and log formats.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::kafka::client::guarded_properties;
use serinus_core::spec::scalar::parse_duration;

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Kafka's address; several with commas
    #[arg(long, global = true, env = "SERINUS_BOOTSTRAP", value_name = "HOST:PORT")]
    pub bootstrap: Option<String>,
    /// The application id: instances with one id share the work
    #[arg(long, global = true, env = "SERINUS_APP", value_name = "ID", default_value = "serinus")]
    pub app: String,
    /// Hands a property to the Kafka client, unless a guarantee rests on it; may be repeated
    #[arg(short = 'X', global = true, value_name = "KEY=VALUE", value_parser = property)]
    pub properties: Vec<(String, String)>,
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// How the log on stderr is written; the environment filters it, as in `SERINUS_LOG=debug`
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; one document, or one a line where a command prints several as they come.
    Json,
    /// For both.
    Yaml,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads a duration as specs write it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .and_then(|t| u64::try_from(t.0).ok())
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a duration such as 90s, 30m or 1d12h"))
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            guarded_properties::check(key, value)?;
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        Some(_) | None => Err(format!("`{text}` is not KEY=VALUE")),
    }
}
