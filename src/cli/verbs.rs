//! `serinus pause`, `resume`, `promote` and `abort`.

use clap::Args;

use crate::cli::ask::{AskArgs, Asker, Wish};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::names::{self, NameArgs};
use crate::cli::state;

/// What a verb takes.
#[derive(Clone, Debug, Args)]
pub struct VerbArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    ask: AskArgs,
}

/// What `promote` takes.
#[derive(Clone, Debug, Args)]
pub struct PromoteArgs {
    #[command(flatten)]
    verb: VerbArgs,
    /// Skip all stages that are left: the candidate becomes stable
    #[arg(long)]
    full: bool,
}

pub(crate) fn pause(args: &VerbArgs, context: &Context) -> Result<Exit, CliError> {
    carry_out("pause", args, context)
}

pub(crate) fn resume(args: &VerbArgs, context: &Context) -> Result<Exit, CliError> {
    carry_out("resume", args, context)
}

pub(crate) fn promote(args: &PromoteArgs, context: &Context) -> Result<Exit, CliError> {
    carry_out(if args.full { "promote-full" } else { "promote" }, &args.verb, context)
}

pub(crate) fn abort(args: &VerbArgs, context: &Context) -> Result<Exit, CliError> {
    carry_out("abort", args, context)
}

fn carry_out(verb: &'static str, args: &VerbArgs, context: &Context) -> Result<Exit, CliError> {
    let states = state::read_all(context, &context.reader()?)?;
    let state = names::steered(&states, &args.name.asked()?)?;
    let rollout = state.rollout().map(str::to_owned);
    let wish = Wish { model: state.model, rollout, verb, spec: None };
    Asker::new(context)?.ask_and_print(&wish, &args.ask)?;
    Ok(Exit::Reached)
}
