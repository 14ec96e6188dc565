//! `serinus run`: an instance of the application.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};
use tracing::{info, warn};

use crate::api::server::listen;
use crate::cli::apply::wish;
use crate::cli::ask::{AskArgs, commands};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::specs;
use crate::cli::topics;
use crate::kafka::client::admin::check;
use crate::kafka::client::settings::Settings;
use crate::kafka::client::topic_reader::KeyedWriter;
use crate::kafka::client::topic_requirements::split_by_severity;
use crate::kafka::instance::run;
use crate::kafka::lanes::run_options::RunOptions;
use crate::kafka::process::metrics::MetricsRegistry;
use crate::kafka::process::shutdown::Shutdown;
use serinus_core::spec::plan::Document;

/// How long the cluster may take to make or describe topics.
const WAIT: Duration = Duration::from_secs(30);

/// How long brokers that did not take a spec are left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// What `run` takes.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A spec file that is applied once at the start; may be repeated
    #[arg(long, value_name = "SPEC")]
    apply: Vec<PathBuf>,
    /// This instance's name, the same at every start: a restart then takes its own work back at once.
    /// By default made of the host's name and chance
    #[arg(long, value_name = "NAME", env = "SERINUS_INSTANCE")]
    instance: Option<String>,
    /// Where copies of what waits for labels live, so that a restart need not read it from the topics again; they can always be thrown away
    #[arg(long, value_name = "DIR", env = "SERINUS_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where HTTP is served: /livez, /readyz and /metrics
    #[arg(long, value_name = "ADDR:PORT", env = "SERINUS_HTTP")]
    http: Option<SocketAddr>,
    /// Which parts of the work this instance takes
    #[arg(long, value_name = "ROLE", value_enum, value_delimiter = ',',
          default_values_t = [Role::Serving, Role::Analysis, Role::Control])]
    roles: Vec<Role>,
    /// Make the topics that are missing
    #[arg(long)]
    create_topics: bool,
}

/// A part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Role {
    /// Route requests, match and serve answers.
    Serving,
    /// Join predictions and labels, sum up.
    Analysis,
    /// Judge, and carry commands out.
    Control,
}

/// Makes or checks topics, applies specs, and runs until it is asked to stop.
pub(crate) fn run(args: &RunArgs, context: &Context) -> Result<Exit, CliError> {
    let is_starting = leave_on_signals()?;
    // Wrong specs end it before anything is touched.
    let documents = specs::read_for(&context.app, &args.apply)?;
    let instance = args.instance.clone().unwrap_or_else(instance_name);
    let settings = context.settings()?;
    let board = MetricsRegistry::default();
    if let Some(address) = args.http {
        listen(address, &board).map_err(|source| CliError::Listen { address, source })?;
    }
    prepare_topics(args, context, &documents)?;
    send(&documents, &settings, &instance)?;
    let options = RunOptions {
        settings,
        instance,
        is_static: args.instance.is_some(),
        serving: args.roles.contains(&Role::Serving),
        analysis: args.roles.contains(&Role::Analysis),
        control: args.roles.contains(&Role::Control),
        data_dir: args.data_dir.clone(),
    };
    let stop = stop_on_signals()?;
    is_starting.store(false, Ordering::Release);
    run::run(&options, &stop, &board, end).map_err(|error| CliError::Run(Box::new(error)))?;
    Ok(Exit::Reached)
}

/// Sends the specs. The topics exist, so an error of the brokers is temporary: log it and retry.
fn send(documents: &[Document], settings: &Settings, by: &str) -> Result<(), CliError> {
    let ask = AskArgs {
        reason: Some("applied at the start".to_owned()),
        expect_revision: None,
        by: by.to_owned(),
        timeout: WAIT,
    };
    let mut writer: Option<KeyedWriter> = None;
    for document in documents {
        let name = document.name();
        loop {
            let sent = writer.take().map_or_else(|| commands(settings), Ok).and_then(|commands| {
                let command = wish(document).send(&commands, &ask)?;
                Ok((commands, command))
            });
            match sent {
                Ok((commands, command)) => {
                    info!(name, command, "spec sent to the application");
                    writer = Some(commands);
                    break;
                }
                Err(error) if error.is_retriable() => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(name, %error, cause, "spec not sent yet, trying again");
                    thread::park_timeout(PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Topics that are not as they must be stop the start.
fn prepare_topics(
    args: &RunArgs,
    context: &Context,
    documents: &[Document],
) -> Result<(), CliError> {
    let settings = context.settings()?;
    let wanted = if args.create_topics {
        let (wanted, made) = topics::create(documents, context)?;
        if !made.created.is_empty() {
            info!(count = made.created.len(), "topics created");
        }
        if !made.grown.is_empty() {
            info!(topics = made.grown.join(", "), "partitions added");
        }
        wanted
    } else {
        topics::wanted(documents, context, &context.reader()?)?
    };
    let (wrong, warnings) = split_by_severity(check(&settings, &wanted, WAIT)?);
    for mismatch in warnings {
        warn!(
            topic = mismatch.topic,
            setting = mismatch.setting,
            found = mismatch.found,
            wanted = mismatch.wanted,
            "topic setting differs"
        );
    }
    for mismatch in topics::narrow(documents, context, &wanted)? {
        warn!("{mismatch}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(CliError::Mismatch(wrong)) }
}

/// A name that no other instance has, whatever host, container or process it runs in: the same name would fence the other one off.
fn instance_name() -> String {
    let host = std::fs::read_to_string("/etc/hostname")
        .ok()
        .map(|r| r.trim().to_owned())
        .filter(|i| !i.is_empty())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "local".to_owned());
    // The last digits of a version 7 id are random; its first ones are the time.
    let id = uuid::Uuid::now_v7().simple().to_string();
    format!("{host}-{}", &id[id.len() - 8..])
}

/// Ends the process, whatever its threads do.
pub(crate) fn end(code: u8) {
    std::process::exit(i32::from(code));
}

/// Ends the process well and at once when it is asked to stop before its roles begin, as long as the flag is set: nothing is open yet,
/// and what it waits for may not come in time.
fn leave_on_signals() -> Result<Arc<AtomicBool>, CliError> {
    let is_starting = Arc::new(AtomicBool::new(true));
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 0, Arc::clone(&is_starting))
            .map_err(|error| CliError::Run(Box::new(error)))?;
    }
    Ok(is_starting)
}

/// Returns a shutdown that SIGTERM and SIGINT request. The second signal ends the process at once.
pub(crate) fn stop_on_signals() -> Result<Shutdown, CliError> {
    let stop = Shutdown::default();
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 1, stop.flag())
            .and_then(|_| register(signal, stop.flag()))
            .map_err(|error| CliError::Run(Box::new(error)))?;
    }
    Ok(stop)
}
