//! `serinus apply`: sends specs to the application.

use std::path::PathBuf;

use clap::Args;

use crate::cli::ask::{AskArgs, Asker, Wish};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::specs;
use serinus_core::spec::plan::Document;

/// Which spec files.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true, id = "specs")]
pub struct SpecArgs {
    /// Spec files, YAML or JSON; `-` is stdin
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1.., group = "specs")]
    named: Vec<PathBuf>,
    /// Spec files
    #[arg(value_name = "FILE", group = "specs")]
    plain: Vec<PathBuf>,
}

impl SpecArgs {
    /// Reads the files in the order given, for an application.
    pub(crate) fn read(&self, app: &str) -> Result<Vec<Document>, CliError> {
        specs::read_for(app, &self.named.iter().chain(&self.plain).cloned().collect::<Vec<_>>())
    }
}

/// What `apply` takes.
#[derive(Clone, Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    specs: SpecArgs,
    #[command(flatten)]
    ask: AskArgs,
}

/// Applies every document, models first, each when the one before it holds.
pub(crate) fn run(args: &ApplyArgs, context: &Context) -> Result<Exit, CliError> {
    let documents = args.specs.read(&context.app)?;
    let asker = Asker::new(context)?;
    for document in &documents {
        asker.ask_and_print(&wish(document), &args.ask)?;
    }
    Ok(Exit::Reached)
}

/// Returns the wish that a document is.
pub(crate) fn wish(document: &Document) -> Wish {
    let (model, rollout, spec) = match document {
        Document::Model(plan, spec) => (&plan.name, None, spec),
        Document::Rollout(plan, spec) => (&plan.model, Some(plan.name.to_string()), spec),
    };
    Wish { model: model.to_string(), rollout, verb: "apply", fields: vec![("spec", spec.clone())] }
}
