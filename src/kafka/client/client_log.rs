//! Forwards what librdkafka logs to our own log.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tracing::{debug, info, warn};

/// Log directive that silences the `rdkafka` crate: the receiver of an error logs it.
pub const SILENCED: &str = "rdkafka=off";

/// Implements `ClientContext` for a type that only needs the log.
macro_rules! forward_client_log {
    ($context:ty) => {
        impl rdkafka::ClientContext for $context {
            fn log(
                &self,
                level: rdkafka::config::RDKafkaLogLevel,
                facility: &str,
                log_message: &str,
            ) {
                $crate::kafka::client::client_log::log_line(level, facility, log_message);
            }

            fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
                $crate::kafka::client::client_log::log_error(&error, reason);
            }
        }
    };
}
pub(crate) use forward_client_log;

/// The context of a client without callbacks.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogContext;

forward_client_log!(LogContext);

impl ConsumerContext for LogContext {}

impl ProducerContext for LogContext {
    type DeliveryOpaque = ();

    /// Does nothing: in a transaction, a failed delivery fails the commit.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Logs one line of librdkafka.
///
/// Never as `error`: the client recovers by itself, and where it cannot, its caller reports the failure.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => warn!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            info!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Debug => debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// Logs an error that librdkafka reports outside of any call.
pub fn log_error(error: &KafkaError, reason: &str) {
    debug!(target: "librdkafka", %error, reason, "client error");
}
