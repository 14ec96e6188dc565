//! Reads spec files into plans. A plan that exists is valid, and nothing checks it again.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::plan::rollout::{ModelPlan, RolloutPlan};
use crate::spec::error::{PlanError, SpecErrors};
use crate::spec::model;
use crate::spec::path::{Aim, Fault, Path};
use crate::spec::raw::DocumentKind;
use crate::spec::read;
use crate::spec::rollout;
use crate::spec::suggest::did_you_mean;
use crate::spec::tree::{Kind, Node, position_of};

const KINDS: [(&str, DocumentKind); 2] =
    [("Model", DocumentKind::Model), ("Rollout", DocumentKind::Rollout)];

/// A document of a spec file: its plan, and the document as JSON, which is the form in records.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a file has only a few documents")]
pub enum Document {
    /// A model.
    Model(ModelPlan, Value),
    /// A rollout.
    Rollout(RolloutPlan, Value),
}

impl Document {
    /// Returns whether both documents describe the same model or rollout.
    pub fn is_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Model(model, _), Self::Model(other, _)) => model.name == other.name,
            (Self::Rollout(rollout, _), Self::Rollout(other, _)) => {
                (&rollout.model, &rollout.name) == (&other.model, &other.name)
            }
            (Self::Model(..), Self::Rollout(..)) | (Self::Rollout(..), Self::Model(..)) => false,
        }
    }

    /// Returns the name of the model or rollout.
    pub fn name(&self) -> &str {
        match self {
            Self::Model(plan, _) => plan.name.as_str(),
            Self::Rollout(plan, _) => plan.name.as_str(),
        }
    }
}

/// Reads a spec file, which is YAML or JSON and has at least one document that is not empty.
///
/// All documents are read before it fails, so that one run reports the errors of each.
pub fn load(file: &str, text: &str) -> Result<Vec<Document>, SpecErrors> {
    let nodes =
        Node::read_all(text).map_err(|error| SpecErrors(vec![unreadable(file, text, &error)]))?;
    if nodes.is_empty() {
        let help =
            "write a document with `apiVersion: serinus/v1` and `kind: Model` or `kind: Rollout`";
        let problem = "there is nothing in this file".to_owned();
        return Err(SpecErrors(vec![PlanError::at(
            file,
            text,
            None,
            String::new(),
            problem,
            Some(help.to_owned()),
        )]));
    }
    let mut documents: Vec<Document> = Vec::new();
    let mut errors = Vec::new();
    let mut named = BTreeSet::new();
    for node in &nodes {
        let mut faults = match document(node) {
            Ok(document) => {
                let faults = duplicate(&mut named, &document);
                documents.push(document);
                faults
            }
            Err(faults) => faults,
        };
        faults.sort_by_key(|f| node.position_of(&f.path, f.aim).map(|a| (a.line, a.column)));
        errors.extend(faults.into_iter().map(|f| PlanError::new(file, text, Some(node), f)));
    }
    if errors.is_empty() { Ok(documents) } else { Err(SpecErrors(errors)) }
}

/// Reads a model from the JSON of its document.
pub fn model_from_json(document: &Value) -> Result<ModelPlan, SpecErrors> {
    from_json(document, DocumentKind::Model, model::plan)
}

/// Reads a rollout from the JSON of its document.
pub fn rollout_from_json(document: &Value) -> Result<RolloutPlan, SpecErrors> {
    from_json(document, DocumentKind::Rollout, rollout::plan)
}

fn document(node: &Node) -> Result<Document, Vec<Fault>> {
    match kind(node)? {
        DocumentKind::Model => {
            let plan = read::read(node).map_err(|n| vec![n]).and_then(|i| model::plan(&i))?;
            Ok(Document::Model(plan, node.to_json()))
        }
        DocumentKind::Rollout => {
            let plan = read::read(node).map_err(|n| vec![n]).and_then(|i| rollout::plan(&i))?;
            Ok(Document::Rollout(plan, node.to_json()))
        }
    }
}

/// Returns the kind of a document.
fn kind(node: &Node) -> Result<DocumentKind, Vec<Fault>> {
    let fault = |path: Path, problem: &str, help: &str| {
        vec![Fault {
            path,
            aim: Aim::Value,
            problem: problem.to_owned(),
            help: Some(help.to_owned()),
        }]
    };
    if !matches!(node.kind, Kind::Map(_)) {
        return Err(fault(
            Path::default(),
            "this is not a document",
            "begin it with `apiVersion: serinus/v1`",
        ));
    }
    let path = Path::default().field("kind");
    match node.field("kind").map(|f| &f.kind) {
        Some(Kind::Text(word)) => {
            KINDS.into_iter().find(|(w, _)| w == word).map(|(_, kind)| kind).ok_or_else(|| {
                let help = did_you_mean(word, &KINDS.map(|(w, _)| w));
                fault(path, &format!("`{word}` is not a kind of document"), &help)
            })
        }
        Some(Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_)) => {
            Err(fault(path, "a word belongs here", "one of `Model`, `Rollout`"))
        }
        None => Err(fault(
            Path::default(),
            "the field `kind` is missing",
            "write `kind: Model` or `kind: Rollout`",
        )),
    }
}

/// Returns a fault if an earlier document has the same kind and name. Rollouts of different models may share a name.
fn duplicate(named: &mut BTreeSet<(Option<String>, String)>, document: &Document) -> Vec<Fault> {
    let of_model = match document {
        Document::Model(..) => None,
        Document::Rollout(plan, _) => Some(plan.model.to_string()),
    };
    if named.insert((of_model, document.name().to_owned())) {
        return Vec::new();
    }
    vec![Fault {
        path: Path::default().field("metadata").field("name"),
        aim: Aim::Value,
        problem: format!("`{}` stands in this file twice", document.name()),
        help: Some("give it another name, or keep one of the two".to_owned()),
    }]
}

fn from_json<Raw, Plan>(
    document: &Value,
    wanted: DocumentKind,
    plan: impl FnOnce(&Raw) -> Result<Plan, Vec<Fault>>,
) -> Result<Plan, SpecErrors>
where
    Raw: serde::de::DeserializeOwned,
{
    let node = Node::from_json(document);
    let read = || {
        let found = kind(&node)?;
        if found != wanted {
            return Err(vec![Fault {
                path: Path::default().field("kind"),
                aim: Aim::Value,
                problem: format!("this is a {found:?}"),
                help: Some(format!("a {wanted:?} is wanted here")),
            }]);
        }
        plan(&read::read(&node).map_err(|n| vec![n])?)
    };
    read().map_err(|faults| {
        SpecErrors(faults.into_iter().map(|f| PlanError::new("", "", None, f)).collect())
    })
}

/// Returns the error for a text that is not YAML.
fn unreadable(file: &str, text: &str, error: &serde_saphyr::Error) -> PlanError {
    let position = error.location().and_then(position_of);
    let message =
        error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
    // The library ends its message with the position, which the first line of our message already has.
    let problem =
        message.split(" at line ").next().unwrap_or(&message).lines().next().unwrap_or("not YAML");
    PlanError::at(file, text, position, String::new(), problem.trim().to_owned(), None)
}
