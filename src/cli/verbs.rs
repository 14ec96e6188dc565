//! The commands to a rollout or model: `pause`, `resume`, `approve`, `promote`, `abort`, `retry`, `extend` and `rollback`.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cli::ask::{AskArgs, Asker, Wish};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::global::duration;
use crate::cli::names::{self, Asked, NameArgs};
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

/// What `extend` takes.
#[derive(Clone, Debug, Args)]
pub struct ExtendArgs {
    #[command(flatten)]
    verb: VerbArgs,
    /// The time to add to `decide.by`, for example 2d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    by: Duration,
}

/// What `rollback` takes.
#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    model: String,
    /// The version to go back to; default: the stable version before
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

pub(crate) fn pause(args: &VerbArgs, context: &Context) -> Result<Exit, CliError> {
    carry_out("pause", args, Vec::new(), context)
}

pub(crate) fn resume(args: &VerbArgs, context: &Context) -> Result<Exit, CliError> {
    carry_out("resume", args, Vec::new(), context)
}

pub(crate) fn approve(args: &VerbArgs, context: &Context) -> Result<Exit, CliError> {
    carry_out("approve", args, Vec::new(), context)
}

pub(crate) fn promote(args: &PromoteArgs, context: &Context) -> Result<Exit, CliError> {
    let verb = if args.full { "promote-full" } else { "promote" };
    need_reason(verb, &args.verb.ask, "it skips gates")?;
    carry_out(verb, &args.verb, Vec::new(), context)
}

pub(crate) fn abort(args: &VerbArgs, context: &Context) -> Result<Exit, CliError> {
    carry_out("abort", args, Vec::new(), context)
}

pub(crate) fn retry(args: &VerbArgs, context: &Context) -> Result<Exit, CliError> {
    carry_out("retry", args, Vec::new(), context)
}

pub(crate) fn extend(args: &ExtendArgs, context: &Context) -> Result<Exit, CliError> {
    let milliseconds = i64::try_from(args.by.as_millis()).unwrap_or(i64::MAX);
    carry_out("extend", &args.verb, vec![("extend_by", milliseconds.into())], context)
}

pub(crate) fn rollback(args: &RollbackArgs, context: &Context) -> Result<Exit, CliError> {
    need_reason("rollback", &args.ask, "it overrides decisions")?;
    let states = state::read_all(context, &context.reader()?)?;
    let known = states.iter().any(|state| state.model == args.model);
    if !known {
        return Err(Asked::of(&args.model, None)?.not_found(&states));
    }
    let fields = args.to.iter().map(|to| ("to", Value::from(to.as_str()))).collect();
    let wish = Wish { model: args.model.clone(), rollout: None, verb: "rollback", fields };
    Asker::new(context)?.ask_and_print(&wish, &args.ask)?;
    Ok(Exit::Reached)
}

fn need_reason(verb: &str, ask: &AskArgs, why: &str) -> Result<(), CliError> {
    match ask.reason.as_deref() {
        Some(reason) if !reason.trim().is_empty() => Ok(()),
        Some(_) | None => {
            Err(CliError::Usage(format!("`{verb}` needs --reason TEXT, because {why}")))
        }
    }
}

fn carry_out(
    verb: &'static str,
    args: &VerbArgs,
    fields: Vec<(&'static str, Value)>,
    context: &Context,
) -> Result<Exit, CliError> {
    let states = state::read_all(context, &context.reader()?)?;
    let state = names::steered(&states, &args.name.asked()?)?;
    let rollout = state.rollout().map(str::to_owned);
    let wish = Wish { model: state.model, rollout, verb, fields };
    Asker::new(context)?.ask_and_print(&wish, &args.ask)?;
    Ok(Exit::Reached)
}
