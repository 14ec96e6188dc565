//! `serinus schema` and `serinus completion`: what is generated from the types.

use clap::Args;
use clap_complete::Shell;

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::line;
use crate::wire::schema::{PUBLISHED, Published};

/// What `schema` takes.
#[derive(Clone, Debug, Args)]
pub struct SchemaArgs {
    /// A record's name, or `spec`; without one, the names are listed
    name: Option<String>,
    /// The Avro schema instead of the JSON Schema
    #[arg(long, requires = "name")]
    avro: bool,
}

/// What `completion` takes.
#[derive(Clone, Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Prints a schema, which is JSON whatever the format for people would be.
pub(crate) fn run(args: &SchemaArgs, context: &Context) -> Result<Exit, CliError> {
    let names: Vec<&str> = PUBLISHED.iter().map(|s| s.name).collect();
    let Some(name) = &args.name else {
        context.output.document(&names.clone().into(), || names.join("\n"))?;
        return Ok(Exit::Reached);
    };
    let is_it = |p: &&Published| p.name == name;
    let published = PUBLISHED.iter().find(is_it).ok_or_else(|| {
        CliError::Usage(format!("there is no schema `{name}`; there are {}", names.join(", ")))
    })?;
    let schema = match (args.avro, published.avro_schema()) {
        (false, _) => (published.json_schema)(),
        (true, Some(avro)) => avro.clone(),
        (true, None) => {
            return Err(CliError::Usage(format!("`{name}` is never written in Avro")));
        }
    };
    context.output.document(&schema, || format!("{schema:#}"))?;
    Ok(Exit::Reached)
}

/// Prints the script that completes our commands in a shell.
pub(crate) fn completion(
    args: &CompletionArgs,
    command: &mut clap::Command,
) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "serinus", &mut script);
    line(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Reached)
}
