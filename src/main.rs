//! The `serinus` binary.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use serinus::cli::args::Cli;
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
            // `{:#}` says the whole chain of causes in one line.
            let said = format!("{:#}", anyhow::Error::from(error));
            // Whoever closed stderr does not want to hear it.
            writeln!(std::io::stderr(), "{lead}{said}").ok();
            ExitCode::from(exit.code())
        }
    }
}
