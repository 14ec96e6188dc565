//! Spec files: reading them, and which topics they need.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::error::CliError;
use crate::kafka::client::admin::{
    self, ModelNeeds, RequiredTopic, topics_of_app, topics_of_model,
};
use crate::kafka::control::topic_ownership::{self, Conflict, TopicUser};
use serinus_core::domain::ids::{ModelName, Version};
use serinus_core::domain::time::Span;
use serinus_core::plan::rollout::{ModelPlan, RolloutPlan};
use serinus_core::spec::error::{PlanError, SpecErrors};
use serinus_core::spec::plan::{Document, load};

/// Reads spec files in order; models come before rollouts, which need them. `-` is stdin.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Document>, CliError> {
    Ok(read_files(paths)?.into_iter().map(|written| written.document).collect())
}

/// The same for an application, whose topics and those of all models in the files must be different ones.
pub(crate) fn read_for(app: &str, paths: &[PathBuf]) -> Result<Vec<Document>, CliError> {
    let written = read_files(paths)?;
    let documents: Vec<Document> = written.iter().map(|w| w.document.clone()).collect();
    let users = users(&documents);
    let errors: Vec<PlanError> = topic_ownership::conflicts(app, &users)
        .iter()
        .map(|conflict| error_of(conflict, &written))
        .collect();
    if errors.is_empty() { Ok(documents) } else { Err(CliError::Spec(SpecErrors(errors))) }
}

/// A document, and the file that it stands in.
struct WrittenIn {
    document: Document,
    file: String,
    text: Arc<str>,
}

fn users<'a>(documents: &'a [Document]) -> Vec<TopicUser<'a>> {
    let rollouts = |model: &'a ModelName| {
        documents.iter().filter_map(move |document| match document {
            Document::Rollout(plan, _) if plan.model == *model => Some(plan),
            Document::Rollout(..) | Document::Model(..) => None,
        })
    };
    let user = |document: &'a Document| match document {
        Document::Model(plan, _) => {
            Some(TopicUser::new(plan, rollouts(&plan.name).collect::<Vec<_>>()))
        }
        Document::Rollout(..) => None,
    };
    documents.iter().filter_map(user).collect()
}

/// Finds the place that says what a conflict is about: the field that names the topic, or the version.
fn error_of(conflict: &Conflict, written: &[WrittenIn]) -> PlanError {
    let topic_ownership::Use { model, field, version } = &conflict.other;
    let is_of = |w: &&WrittenIn| match (&w.document, version) {
        (Document::Rollout(plan, _), Some(version)) => {
            Some(&plan.model) == model.as_ref() && plan.versions().contains(&version)
        }
        (Document::Rollout(..), None) => false,
        (Document::Model(plan, _), None) => Some(&plan.name) == model.as_ref(),
        (Document::Model(plan, _), Some(version)) => {
            Some(&plan.name) == model.as_ref() && plan.stable == *version
        }
    };
    let field = match (written.iter().find(is_of).map(|i| &i.document), field) {
        (Some(Document::Rollout(..)), _) => "candidates".to_owned(),
        (Some(Document::Model(..)) | None, Some(field)) => format!("topics.{field}"),
        (Some(Document::Model(..)) | None, None) => "topics".to_owned(),
    };
    let (problem, help) = (conflict.problem(), Some(topic_ownership::HELP));
    let (file, text, name, is_model) = match written.iter().find(is_of) {
        Some(WrittenIn { document: document @ Document::Model(..), file, text }) => {
            (file.as_str(), &**text, document.name(), true)
        }
        Some(WrittenIn { document: document @ Document::Rollout(..), file, text }) => {
            (file.as_str(), &**text, document.name(), false)
        }
        None => ("", "", "", true),
    };
    let kind = if is_model { "Model" } else { "Rollout" };
    PlanError::of_document(file, text, (kind, name), &format!("spec.{field}"), (problem, help))
}

fn read_files(paths: &[PathBuf]) -> Result<Vec<WrittenIn>, CliError> {
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        let is_stdin = path.as_os_str() == "-";
        let text = if is_stdin {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(path)
        };
        let text = text.map_err(|source| CliError::File { path: path.clone(), source })?;
        let name = if is_stdin { "stdin".to_owned() } else { path.display().to_string() };
        match load(&name, &text) {
            Ok(found) => {
                let text: Arc<str> = Arc::from(text);
                documents.extend(found.into_iter().map(|document| WrittenIn {
                    document,
                    file: name.clone(),
                    text: Arc::clone(&text),
                }));
            }
            Err(SpecErrors(mut found)) => errors.append(&mut found),
        }
    }
    if !errors.is_empty() {
        return Err(CliError::Spec(SpecErrors(errors)));
    }
    documents.sort_by_key(|d| match d.document {
        Document::Model(..) => 0,
        Document::Rollout(..) => 1,
    });
    Ok(documents)
}

/// Returns the topics that an application with these models and rollouts needs.
///
/// A rollout of a model that is not among the documents needs `known` to tell of it.
pub(crate) fn wanted(
    app: &str,
    documents: &[Document],
    known: &BTreeMap<ModelName, ModelPlan>,
    found: &BTreeMap<String, i32>,
) -> Result<Vec<RequiredTopic>, CliError> {
    let mut models: BTreeMap<&ModelName, (&ModelPlan, Vec<&RolloutPlan>)> = BTreeMap::new();
    for document in documents {
        if let Document::Model(plan, _) = document {
            models.insert(&plan.name, (plan, Vec::new()));
        }
    }
    for document in documents {
        let Document::Rollout(plan, _) = document else { continue };
        if !models.contains_key(&plan.model) {
            let model = known.get(&plan.model).ok_or_else(|| {
                CliError::NotFound(format!(
                    "rollout `{}` is of model `{}`, whose spec is neither among the files nor known to `{app}`",
                    plan.name, plan.model
                ))
            })?;
            models.insert(&model.name, (model, Vec::new()));
        }
        if let Some((_, rollouts)) = models.get_mut(&plan.model) {
            rollouts.push(plan);
        }
    }
    let mut wanted = topics_of_app(app);
    for (model, rollouts) in models.into_values() {
        let needs = ModelNeeds {
            versions: &versions(model, &rollouts),
            kept: rollouts
                .iter()
                .map(|r| Span(r.maturity.0.saturating_add(r.keep.0)))
                .max()
                .unwrap_or(Span::ZERO),
            found: found.clone(),
        };
        wanted.extend(topics_of_model(app, model, &needs));
    }
    admin::merged(wanted).map_err(CliError::Usage)
}

fn versions(model: &ModelPlan, rollouts: &[&RolloutPlan]) -> Vec<Version> {
    let mut versions = vec![model.stable.clone()];
    for rollout in rollouts {
        for version in rollout.versions() {
            if !versions.contains(version) {
                versions.push(version.clone());
            }
        }
    }
    versions
}
