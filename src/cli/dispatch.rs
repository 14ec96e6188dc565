//! From the command line to the command.

use clap::CommandFactory;

use crate::cli::apply;
use crate::cli::args::{Cli, Command};
use crate::cli::context::Context;
use crate::cli::demo;
use crate::cli::demo::Show;
use crate::cli::error::{CliError, Exit};
use crate::cli::explain;
use crate::cli::inspect;
use crate::cli::list;
use crate::cli::log::{self, Talk};
use crate::cli::plan;
use crate::cli::replay;
use crate::cli::report;
use crate::cli::requeue;
use crate::cli::run;
use crate::cli::schema;
use crate::cli::simulate;
use crate::cli::status;
use crate::cli::tail;
use crate::cli::topics;
use crate::cli::validate;
use crate::cli::verbs;
use crate::cli::watch;
use crate::cli::worker;

/// Carries one command out; `show` is the demonstration.
pub fn dispatch(cli: Cli, show: Show) -> Result<Exit, CliError> {
    let talk = match &cli.command {
        Command::Run(_) | Command::Worker(_) => Talk::Long,
        Command::Demo(_)
        | Command::Apply(_)
        | Command::Validate(_)
        | Command::List
        | Command::Get(_)
        | Command::Status(_)
        | Command::Watch(_)
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Promote(_)
        | Command::Abort(_)
        | Command::Inspect(_)
        | Command::Tail(_)
        | Command::Requeue(_)
        | Command::Plan(_)
        | Command::Report(_)
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
        Command::Promote(args) => verbs::promote(args, &context),
        Command::Abort(args) => verbs::abort(args, &context),
        Command::Inspect(args) => inspect::run(args, &context),
        Command::Tail(args) => tail::run(args, &context),
        Command::Requeue(args) => requeue::run(args, &context),
        Command::Report(args) => report::run(args, &context),
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
