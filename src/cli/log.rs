//! The log on stderr.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::error::CliError;
use crate::cli::global::LogFormat;
use crate::kafka::client::client_log::SILENCED;

/// How much is logged when `SERINUS_LOG` does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Talk {
    /// A command that ends by itself: what is wrong.
    Short,
    /// A process that stays: what it does.
    Long,
}

/// Starts the log. A second start in one process changes nothing.
pub(crate) fn start(format: LogFormat, talk: Talk) -> Result<(), CliError> {
    let default = match talk {
        Talk::Short => "warn",
        Talk::Long => "info",
    };
    let filter = match std::env::var("SERINUS_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|error| CliError::Usage(format!("SERINUS_LOG is `{text}`: {error}")))?,
        Ok(_) | Err(_) => EnvFilter::new(format!("{default},{SILENCED}")),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => {
            let is_coloured = std::env::var_os("NO_COLOR").is_none()
                && std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(layer().with_ansi(is_coloured).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Json => registry
            .with(layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init(),
    };
    // Another log of this process, such as a test's, stays as it is.
    started.or(Ok(()))
}
