//! `serinus topics check` and `create`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::apply::SpecArgs;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::specs;
use crate::cli::state::{self, State};
use crate::kafka::client::admin::{RequiredTopic, check, create_missing, grow};
use crate::kafka::client::record_limits;
use crate::kafka::client::topic_reader::TopicReader;
use crate::kafka::client::topic_requirements::{Mismatch, split_by_severity};
use serinus_core::plan::rollout::ModelPlan;
use serinus_core::spec::plan::Document;

/// How long the cluster may take.
const WAIT: Duration = Duration::from_secs(30);

/// What `topics` takes.
#[derive(Clone, Debug, Args)]
pub struct TopicsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Compare the topics that specs need with those that are there; a difference is exit code 1
    Check(SpecArgs),
    /// Make those that are missing, add partitions where the requests have more, and check them all
    Create(SpecArgs),
}

pub(crate) fn run(args: &TopicsArgs, context: &Context) -> Result<Exit, CliError> {
    match &args.verb {
        Verb::Check(specs) => {
            let documents = specs.read(&context.app)?;
            let wanted = wanted(&documents, context, &context.reader()?)?;
            let wrong = check(&context.settings()?, &wanted, WAIT)?;
            let narrow = narrow(&documents, context, &wanted)?;
            print(context, &wanted, &Made::default(), wrong, &narrow)
        }
        Verb::Create(specs) => {
            let settings = context.settings()?;
            let documents = specs.read(&context.app)?;
            let (wanted, made) = create(&documents, context)?;
            let wrong = check(&settings, &wanted, WAIT)?;
            let narrow = narrow(&documents, context, &wanted)?;
            print(context, &wanted, &made, wrong, &narrow)
        }
    }
}

/// Returns the topics that documents need in this cluster, and the application's own.
pub(crate) fn wanted(
    documents: &[Document],
    context: &Context,
    reader: &TopicReader,
) -> Result<Vec<RequiredTopic>, CliError> {
    let found = reader.topics()?;
    let states = if found.contains_key(&context.own("rollouts")) {
        state::read_all(context, reader)?
    } else {
        Vec::new()
    };
    // An instance without specs needs the topics of running rollouts, too.
    let mut all: Vec<Document> = documents.to_vec();
    for document in states.iter().flat_map(State::documents) {
        if !documents.iter().any(|d| d.is_of(&document)) {
            all.push(document);
        }
    }
    specs::wanted(&context.app, &all, &state::plans(&states), &found)
}

/// Returns, in words, which topics take smaller records than the requests that go into them may be.
pub(crate) fn narrow(
    documents: &[Document],
    context: &Context,
    wanted: &[RequiredTopic],
) -> Result<Vec<String>, CliError> {
    let plans: Vec<&ModelPlan> = documents
        .iter()
        .filter_map(|document| match document {
            Document::Model(plan, _) => Some(plan),
            Document::Rollout(..) => None,
        })
        .collect();
    Ok(record_limits::narrow(&context.settings()?, wanted, &plans))
}

/// What was done to topics.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Those that are new.
    pub(crate) created: Vec<String>,
    /// Those that were given more partitions.
    pub(crate) grown: Vec<String>,
}

/// Makes the topics that are missing, and adds the partitions that the requests have and their partners lack; returns all that are
/// wanted, and what was done.
///
/// Those that others take their number of partitions from come first: a topic that was made a moment ago, by its owner or by
/// another instance, may not be shown yet, and is found only by the attempt to make it.
pub(crate) fn create(
    documents: &[Document],
    context: &Context,
) -> Result<(Vec<RequiredTopic>, Made), CliError> {
    let settings = context.settings()?;
    let mut leading = wanted(documents, context, &context.reader()?)?;
    leading.retain(|l| l.leads);
    let mut created = create_missing(&settings, &leading, WAIT)?;
    let all = wanted(documents, context, &context.reader()?)?;
    created.extend(create_missing(&settings, &all, WAIT)?);
    let grown = grow(&settings, &all, WAIT)?;
    Ok((all, Made { created, grown }))
}

fn print(
    context: &Context,
    wanted: &[RequiredTopic],
    made: &Made,
    wrong: Vec<Mismatch>,
    narrow: &[String],
) -> Result<Exit, CliError> {
    let (wrong, warnings) = split_by_severity(wrong);
    let mismatches: Vec<Value> = wrong
        .iter()
        .map(|w| json!({"topic": w.topic, "setting": w.setting, "found": w.found, "wanted": w.wanted}))
        .collect();
    let warnings: Vec<String> =
        warnings.iter().map(ToString::to_string).chain(narrow.iter().cloned()).collect();
    let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
    let value = json!({ "topics": names, "created": made.created, "grown": made.grown, "mismatches": mismatches, "warnings": warnings });
    context.output.document(&value, || {
        let mut lines: Vec<String> = made.created.iter().map(|c| format!("created {c}")).collect();
        lines.extend(made.grown.iter().map(|g| format!("added partitions to {g}")));
        lines.extend(wrong.iter().map(ToString::to_string));
        lines.extend(warnings.iter().map(|w| format!("warning: {w}")));
        if wrong.is_empty() {
            lines.push(format!("{} topics are as they must be", wanted.len()));
        }
        lines.join("\n")
    })?;
    Ok(if wrong.is_empty() { Exit::Reached } else { Exit::Failed })
}
