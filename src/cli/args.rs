//! What may be written on the command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::apply::ApplyArgs;
use crate::cli::demo::DemoArgs;
use crate::cli::explain::ExplainArgs;
use crate::cli::inspect::InspectArgs;
use crate::cli::list::GetArgs;
use crate::cli::plan::PlanArgs;
use crate::cli::replay::ReplayArgs;
use crate::cli::report::ReportArgs;
use crate::cli::requeue::RequeueArgs;
use crate::cli::run::RunArgs;
use crate::cli::schema::{CompletionArgs, SchemaArgs};
use crate::cli::simulate::SimulateArgs;
use crate::cli::status::StatusArgs;
use crate::cli::tail::TailArgs;
use crate::cli::topics::TopicsArgs;
use crate::cli::validate::ValidateArgs;
use crate::cli::verbs::{PromoteArgs, VerbArgs};
use crate::cli::watch::WatchArgs;
use crate::cli::worker::WorkerArgs;
use crate::kafka::client::guarded_properties;
use serinus_core::spec::scalar::parse_duration;

/// Safe rollouts of machine-learning models whose traffic runs over Kafka.
#[derive(Debug, Parser)]
#[command(name = "serinus", version, about)]
#[command(
    after_help = "Exit codes: 0 reached the wanted state; 1 error; 2 usage or invalid spec; 3 aborted; 4 timed out; \
                  5 paused, needs a person; 6 inconclusive or no data."
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

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

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an instance: route, join, decide
    Run(RunArgs),
    /// Show a rollout from its begin to its end, on real flights
    Demo(DemoArgs),
    /// Send specs to the application, and wait until they hold
    Apply(ApplyArgs),
    /// Check specs without any Kafka, and print what was understood
    Validate(ValidateArgs),
    /// List the models and their rollouts
    List,
    /// Print the state record of a rollout or model
    Get(GetArgs),
    /// Tell where a rollout stands and on what evidence
    Status(StatusArgs),
    /// Say in sentences what the evidence shows, and when each number may be believed
    Report(ReportArgs),
    /// Tell the way to a decision: from where, to where, why, and what it rests on
    Explain(ExplainArgs),
    /// Recompute every decision from the topics, and compare byte for byte
    Replay(ReplayArgs),
    /// Follow a rollout as it goes
    Watch(WatchArgs),
    /// Keep a rollout's routing as it is until it is resumed
    Pause(VerbArgs),
    /// Go on with a paused rollout, or approve its next stage
    Resume(VerbArgs),
    /// Move a rollout to its next stage, or with --full to its end
    Promote(PromoteArgs),
    /// Give all traffic back to the stable version
    Abort(VerbArgs),
    /// Show all that is known of one request
    Inspect(InspectArgs),
    /// Print the records of a topic
    Tail(TailArgs),
    /// Send dead letters back to the topics that they come from, after what was wrong is mended
    Requeue(RequeueArgs),
    /// Tell how long a rollout will take with this traffic, and what it can find
    Plan(PlanArgs),
    /// Let a spec decide over thousands of synthetic worlds: how often it errs, and how long it takes
    Simulate(SimulateArgs),
    /// Answer requests from a model in an ONNX file
    Worker(WorkerArgs),
    /// Check or create the topics that specs need
    Topics(TopicsArgs),
    /// Print the schema of a record or of the spec
    Schema(SchemaArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
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
