//! How a command ends: its exit code, and what it says when it fails.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::kafka::client::admin::TopicError;
use crate::kafka::client::error::ReadError;
use crate::kafka::client::topic_requirements::Mismatch;
use serinus_core::spec::error::SpecErrors;

/// The exit codes of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the process ends with it"]
pub enum Exit {
    /// The wanted state is reached.
    Reached,
    /// Something failed.
    Failed,
    /// The command line or a spec is wrong.
    Usage,
    /// The rollout was aborted.
    Aborted,
    /// Time is over.
    TimedOut,
    /// The rollout is paused and needs a person.
    Paused,
    /// Nothing could be proved.
    Inconclusive,
}

impl Exit {
    /// Returns the process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Reached => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Aborted => 3,
            Self::TimedOut => 4,
            Self::Paused => 5,
            Self::Inconclusive => 6,
        }
    }
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// Specs are wrong.
    #[error("{0}")]
    Spec(SpecErrors),
    /// A file could not be read.
    #[error("failed to read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A topic of the application is not there.
    #[error(
        "there is no topic `{topic}`: is the application id `{app}`, and has `serinus run --create-topics` been started once?"
    )]
    NoApp {
        /// The topic.
        topic: String,
        /// The application id.
        app: String,
    },
    /// HTTP cannot be served where it was to be.
    #[error("failed to serve HTTP at {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Kafka could not be read or written.
    #[error("failed to {}", chain(.0))]
    Read(ReadError),
    /// Topics could not be looked at or made.
    #[error("failed to {}", chain(.0))]
    Topics(TopicError),
    /// Topics are not as they must be.
    #[error("{}", lines(.0))]
    Mismatch(Vec<Mismatch>),
    /// The application refused a command.
    #[error("refused: {0}")]
    Refused(String),
    /// No instance ran the command.
    #[error(
        "no instance of `{app}` answered within {} s: is `serinus run --app {app}` up?", wait.as_secs_f64()
    )]
    NoAnswer {
        /// The application id.
        app: String,
        /// How long was waited.
        wait: Duration,
    },
    /// Printing failed.
    #[error("failed to print")]
    Print(#[from] io::Error),
    /// A value has no form in the wanted format.
    #[error("failed to write as {format}: {problem}")]
    Form {
        /// The format.
        format: &'static str,
        /// What the writer says.
        problem: String,
    },
    /// What runs could not go on.
    #[error("{}", chain(&**.0))]
    Run(Box<dyn std::error::Error + Send + Sync>),
}

impl CliError {
    /// Returns how the process ends for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Spec(_) | Self::Read(ReadError::Setup(_)) => Exit::Usage,
            Self::NoAnswer { .. } => Exit::TimedOut,
            Self::File { .. }
            | Self::NoApp { .. }
            | Self::Listen { .. }
            | Self::NotFound(_)
            | Self::Read(_)
            | Self::Topics(_)
            | Self::Mismatch(_)
            | Self::Refused(_)
            | Self::Print(_)
            | Self::Form { .. }
            | Self::Run(_) => Exit::Failed,
        }
    }

    /// Returns whether the reader of our stdout has had enough, as `head` does: nothing to complain about.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Print(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<ReadError> for CliError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<TopicError> for CliError {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Read(error) => Self::Read(error),
            TopicError::Admin { .. } | TopicError::Refused { .. } | TopicError::NotSeen(_) => {
                Self::Topics(error)
            }
        }
    }
}

impl From<SpecErrors> for CliError {
    fn from(errors: SpecErrors) -> Self {
        Self::Spec(errors)
    }
}

fn lines(mismatches: &[Mismatch]) -> String {
    mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Says an error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // The Kafka client's errors say their causes themselves.
        let cause_said = error.to_string();
        if !said.contains(&cause_said) {
            said = format!("{said}: {cause_said}");
        }
        cause = error.source();
    }
    said
}
