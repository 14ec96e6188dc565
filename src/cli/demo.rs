//! `serinus demo`: shows a rollout on real data.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::kafka::client::settings::Settings;

/// What `demo` takes.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Only this act: 1 shadow, 2 canary, 3 a broken build; may be repeated
    #[arg(long = "act", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=3))]
    acts: Vec<u8>,
    /// Speed of the month relative to real time; by default, all acts take about a minute
    #[arg(long, value_name = "X", value_parser = speed)]
    speed: Option<f64>,
    /// Stay up at the end, for kcat and the other commands
    #[arg(long)]
    keep: bool,
}

/// Options of the demonstration.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The cluster; `None` for a broker inside the process.
    pub settings: Option<Settings>,
    /// The application id.
    pub app: String,
    /// The numbers of the acts, in order.
    pub acts: Vec<u8>,
    /// Speed relative to real time; `None` for the default.
    pub speed: Option<f64>,
    /// Whether it keeps running after the last act.
    pub keep: bool,
}

/// The function that shows the demonstration. The binary passes it in, because `cli` must not import `demo`.
pub type Show = fn(&DemoOptions) -> Result<Exit, CliError>;

pub(crate) fn run(args: &DemoArgs, context: &Context, show: Show) -> Result<Exit, CliError> {
    let mut acts = args.acts.clone();
    acts.sort_unstable();
    acts.dedup();
    show(&DemoOptions {
        settings: context.settings_if_named(),
        app: context.app.clone(),
        acts: if acts.is_empty() { vec![1, 2, 3] } else { acts },
        speed: args.speed,
        keep: args.keep,
    })
}

fn speed(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('x').parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        Ok(_) | Err(_) => Err(format!("`{text}` is not a number above 0")),
    }
}
