//! `serinus demo`: a rollout before your eyes.

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
    /// How many times faster than its own time the month goes by; by default about a minute for all
    #[arg(long, value_name = "X", value_parser = speed)]
    speed: Option<f64>,
    /// Stay up at the end, for kcat and the other commands
    #[arg(long)]
    keep: bool,
}

/// What the demonstration is started with.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The cluster; without one, a broker inside the process.
    pub settings: Option<Settings>,
    /// The application id.
    pub app: String,
    /// Which acts, in order.
    pub acts: Vec<u8>,
    /// How many times faster than its own time; without one, the demonstration's own choice.
    pub speed: Option<f64>,
    /// Whether it stays up at the end.
    pub keep: bool,
}

/// What shows the demonstration: its room knows this one, so that the binary hands it in.
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
