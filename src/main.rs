//! The `serinus` binary.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use serinus::cli::dispatch::Cli;
use serinus::cli::dispatch::dispatch;
use serinus::cli::error::CliError;
use serinus::demo::show::show;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match dispatch(Cli::parse(), show) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            let exit = error.exit();
            // A wrong spec begins with its place, where editors look for it.
            let lead = if matches!(error, CliError::Spec(_)) { "" } else { "error: " };
            let message = with_causes(&error);
            // If stderr is closed, there is nowhere to report it.
            writeln!(std::io::stderr(), "{lead}{message}").ok();
            ExitCode::from(exit.code())
        }
    }
}

/// Returns an error and the chain of its causes in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
