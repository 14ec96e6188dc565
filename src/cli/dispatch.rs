//! The command line: the list of commands and their dispatch.

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::apply;
use crate::cli::apply::ApplyArgs;
use crate::cli::context::Context;
use crate::cli::demo;
use crate::cli::demo::DemoArgs;
use crate::cli::demo::Show;
use crate::cli::diff;
use crate::cli::diff::DiffArgs;
use crate::cli::error::{CliError, Exit};
use crate::cli::explain;
use crate::cli::explain::ExplainArgs;
use crate::cli::global::Global;
use crate::cli::history;
use crate::cli::history::HistoryArgs;
use crate::cli::inspect;
use crate::cli::inspect::InspectArgs;
use crate::cli::list;
use crate::cli::list::GetArgs;
use crate::cli::log::{self, Talk};
use crate::cli::plan;
use crate::cli::plan::PlanArgs;
use crate::cli::replay;
use crate::cli::replay::ReplayArgs;
use crate::cli::report;
use crate::cli::report::ReportArgs;
use crate::cli::requeue;
use crate::cli::requeue::RequeueArgs;
use crate::cli::run;
use crate::cli::run::RunArgs;
use crate::cli::schema;
use crate::cli::schema::{CompletionArgs, SchemaArgs};
use crate::cli::simulate;
use crate::cli::simulate::SimulateArgs;
use crate::cli::status;
use crate::cli::status::StatusArgs;
use crate::cli::tail;
use crate::cli::tail::TailArgs;
use crate::cli::topics;
use crate::cli::topics::TopicsArgs;
use crate::cli::validate;
use crate::cli::validate::ValidateArgs;
use crate::cli::verbs;
use crate::cli::verbs::{ExtendArgs, PromoteArgs, RollbackArgs, VerbArgs};
use crate::cli::watch;
use crate::cli::watch::WatchArgs;
use crate::cli::worker;
use crate::cli::worker::WorkerArgs;

/// Safe rollouts of machine-learning models whose traffic runs over Kafka.
#[derive(Debug, Parser)]
#[command(name = "serinus", version, about)]
#[command(
    after_help = "Exit codes: 0 reached the wanted state; 1 error; 2 usage or invalid spec; 3 aborted; 4 timed out; \
                  5 paused, needs a person; 6 inconclusive or no data."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an instance: route, join, decide
    Run(RunArgs),
    /// Run a complete rollout on real flight data, with a broker inside the process
    Demo(DemoArgs),
    /// Apply specs to the application and wait until they take effect
    Apply(ApplyArgs),
    /// Show what `apply` would change, field by field
    Diff(DiffArgs),
    /// Check specs without Kafka and print how they were understood
    Validate(ValidateArgs),
    /// List the models and their rollouts
    List,
    /// Print the state record of a rollout or model
    Get(GetArgs),
    /// Show the state of a rollout and its evidence
    Status(StatusArgs),
    /// Report in sentences what the evidence shows and when each number is valid
    Report(ReportArgs),
    /// List every event of a rollout or model
    History(HistoryArgs),
    /// Explain a decision: what changed, why, and the evidence it rests on
    Explain(ExplainArgs),
    /// Recompute every decision from the topics and compare byte for byte
    Replay(ReplayArgs),
    /// Follow a rollout until it ends
    Watch(WatchArgs),
    /// Pause a rollout: its routing stays as it is until it is resumed
    Pause(VerbArgs),
    /// Resume a paused rollout
    Resume(VerbArgs),
    /// Approve to leave the current stage, once its other gates are passed
    Approve(VerbArgs),
    /// Force a rollout to its next stage, or with --full to its end, whatever its gates say
    Promote(PromoteArgs),
    /// Abort a rollout: the stable version serves all traffic again
    Abort(VerbArgs),
    /// Start an aborted or inconclusive rollout again, as a new run without evidence
    Retry(VerbArgs),
    /// Give a rollout more time until it must decide
    Extend(ExtendArgs),
    /// Route all traffic of a model to the stable version before, whatever runs
    Rollback(RollbackArgs),
    /// Show every record of one request
    Inspect(InspectArgs),
    /// Print the records of a topic
    Tail(TailArgs),
    /// Send dead letters back to their topics after their cause is fixed
    Requeue(RequeueArgs),
    /// Estimate how long a rollout takes with this traffic and which effects it can detect
    Plan(PlanArgs),
    /// Simulate a spec on thousands of synthetic worlds: error rates and durations
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

/// Runs one command; `show` runs the demonstration.
pub fn dispatch(cli: Cli, show: Show) -> Result<Exit, CliError> {
    let talk = match &cli.command {
        Command::Run(_) | Command::Worker(_) => Talk::Long,
        Command::Demo(_)
        | Command::Apply(_)
        | Command::Diff(_)
        | Command::Validate(_)
        | Command::List
        | Command::Get(_)
        | Command::Status(_)
        | Command::Watch(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Approve(_)
        | Command::Promote(_)
        | Command::Abort(_)
        | Command::Retry(_)
        | Command::Extend(_)
        | Command::Rollback(_)
        | Command::Inspect(_)
        | Command::Tail(_)
        | Command::Requeue(_)
        | Command::Plan(_)
        | Command::Report(_)
        | Command::History(_)
        | Command::Explain(_)
        | Command::Replay(_)
        | Command::Simulate(_)
        | Command::Topics(_)
        | Command::Schema(_)
        | Command::Completion(_) => Talk::Short,
    };
    log::start(cli.global.log_format, talk)?;
    let context = Context::new(cli.global);
    match &cli.command {
        Command::Run(args) => run::run(args, &context),
        Command::Demo(args) => demo::run(args, &context, show),
        Command::Apply(args) => apply::run(args, &context),
        Command::Validate(args) => validate::run(args, &context),
        Command::List => list::list(&context),
        Command::Get(args) => list::get(args, &context),
        Command::Status(args) => status::run(args, &context),
        Command::Watch(args) => watch::run(args, &context),
        Command::Pause(args) => verbs::pause(args, &context),
        Command::Resume(args) => verbs::resume(args, &context),
        Command::Approve(args) => verbs::approve(args, &context),
        Command::Promote(args) => verbs::promote(args, &context),
        Command::Abort(args) => verbs::abort(args, &context),
        Command::Retry(args) => verbs::retry(args, &context),
        Command::Extend(args) => verbs::extend(args, &context),
        Command::Rollback(args) => verbs::rollback(args, &context),
        Command::Inspect(args) => inspect::run(args, &context),
        Command::Tail(args) => tail::run(args, &context),
        Command::Requeue(args) => requeue::run(args, &context),
        Command::Report(args) => report::run(args, &context),
        Command::History(args) => history::run(args, &context),
        Command::Diff(args) => diff::run(args, &context),
        Command::Explain(args) => explain::run(args, &context),
        Command::Replay(args) => replay::run(args, &context),
        Command::Plan(args) => plan::run(args, &context),
        Command::Simulate(args) => simulate::run(args, &context),
        Command::Worker(args) => worker::run(args, &context),
        Command::Topics(args) => topics::run(args, &context),
        Command::Schema(args) => schema::run(args, &context),
        Command::Completion(args) => schema::completion(args, &mut Cli::command()),
    }
}
