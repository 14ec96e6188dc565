//! `serinus worker`: answers requests from a model in an ONNX file.

use std::path::PathBuf;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::run::stop_on_signals;
use crate::worker::bridge;
use crate::worker::options::WorkerOptions;

/// What `worker` takes.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// The model
    #[arg(long, value_name = "NAME")]
    model: String,
    /// The version that this file is
    #[arg(long, value_name = "VERSION")]
    version: String,
    /// The model's file
    #[arg(long, value_name = "FILE")]
    onnx: PathBuf,
    /// The features in the model's order, with commas; a name alone stands under /features of the request, and
    /// NAME=/POINTER anywhere else
    #[arg(long, value_name = "NAMES")]
    features: String,
    /// What the answer calls the model's decision
    #[arg(long, value_name = "NAME", default_value = "positive")]
    decision: String,
    /// The consumer group; by default `MODEL.VERSION.workers`
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// The topic of the requests; by default the contract's
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only these partitions, with commas, without a group's rebalances
    #[arg(long, value_name = "N", value_delimiter = ',')]
    partitions: Vec<i32>,
}

pub(crate) fn run(args: &WorkerArgs, context: &Context) -> Result<Exit, CliError> {
    let (model, version) = (&args.model, &args.version);
    start(&WorkerOptions {
        settings: context.settings()?,
        model: model.clone(),
        version: version.clone(),
        onnx: args.onnx.clone(),
        features: args.features.clone(),
        decision: args.decision.clone(),
        group: args.group.clone().unwrap_or_else(|| format!("{model}.{version}.workers")),
        topic: args.topic.clone().unwrap_or_else(|| format!("{model}.{version}.requests")),
        partitions: args.partitions.clone(),
    })
}

/// Runs the worker until a signal asks it to stop.
fn start(options: &WorkerOptions) -> Result<Exit, CliError> {
    let stop = stop_on_signals()?;
    bridge::run(options, &stop).map_err(|error| CliError::Run(Box::new(error)))?;
    Ok(Exit::Reached)
}
