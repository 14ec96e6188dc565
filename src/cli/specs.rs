//! Spec files: reading them, and which topics they need.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cli::error::CliError;
use crate::domain::ids::{ModelName, Version};
use crate::domain::time::Span;
use crate::kafka::topics::{ModelNeeds, Wanted, wanted_for_app, wanted_for_model};
use crate::spec::error::SpecErrors;
use crate::spec::plan::{Document, load};
use crate::strategy::stage::{ModelPlan, RolloutPlan};

/// Reads spec files in order; models come before rollouts, which need them. `-` is stdin.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Document>, CliError> {
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
            Ok(mut found) => documents.append(&mut found),
            Err(SpecErrors(mut found)) => errors.append(&mut found),
        }
    }
    if !errors.is_empty() {
        return Err(CliError::Spec(SpecErrors(errors)));
    }
    documents.sort_by_key(|it| match it {
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
) -> Result<Vec<Wanted>, CliError> {
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
    let mut wanted = wanted_for_app(app);
    for (model, rollouts) in models.into_values() {
        let needs = ModelNeeds {
            versions: &versions(model, &rollouts),
            kept: rollouts
                .iter()
                .map(|it| Span(it.maturity.0.saturating_add(it.keep.0)))
                .max()
                .unwrap_or(Span::ZERO),
            found: found.clone(),
        };
        wanted.extend(wanted_for_model(app, model, &needs));
    }
    Ok(wanted)
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
