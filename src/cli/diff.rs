//! `serinus diff`: what `apply` would change, field by field, without Kafka writes.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::apply::SpecArgs;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::state::{self, State};
use serinus_core::spec::plan::Document;

/// What `diff` takes.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    #[command(flatten)]
    specs: SpecArgs,
}

/// One field that differs: its JSON pointer, and both values.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    at: String,
    applied: Option<Value>,
    written: Option<Value>,
}

/// Prints the differences between specs and what is applied.
pub(crate) fn run(args: &DiffArgs, context: &Context) -> Result<Exit, CliError> {
    let documents = args.specs.read(&context.app)?;
    let states = state::read_all(context, &context.reader()?)?;
    for document in &documents {
        let (kind, written) = match document {
            Document::Model(_, written) => ("model", written),
            Document::Rollout(_, written) => ("rollout", written),
        };
        let applied = applied(&states, document);
        let changes = applied.map(|applied| changes(applied, written));
        let stable = promoted(&states, document);
        let value = json!({
            "kind": kind,
            "name": document.name(),
            "applied": applied.is_some(),
            "changes": changes.iter().flatten().map(as_json).collect::<Vec<_>>(),
            "stable": stable,
        });
        context.output.item(&value, || text(kind, document.name(), changes.as_deref(), stable))?;
    }
    Ok(Exit::Reached)
}

/// Returns the document that was applied under the same name, if it is the current one.
fn applied<'a>(states: &'a [State], document: &Document) -> Option<&'a Value> {
    let of = |model: &str| states.iter().find(|state| state.model == model);
    match document {
        Document::Model(plan, _) => {
            of(plan.name.as_str())?.memory.as_ref().map(|memory| &memory.model_spec)
        }
        Document::Rollout(plan, _) => {
            let state = of(plan.model.as_str())?;
            let is_it = state.rollout() == Some(plan.name.as_str());
            is_it.then_some(&state.spec)
        }
    }
}

/// Returns the version that a promotion made stable in place of the one in the spec of a model.
fn promoted<'a>(states: &'a [State], document: &Document) -> Option<&'a str> {
    let Document::Model(plan, _) = document else { return None };
    let state = states.iter().find(|state| state.model == plan.name.as_str())?;
    let stable = state.position.as_ref()?.stable.as_str();
    (stable != plan.stable.as_str()).then_some(stable)
}

fn changes(applied: &Value, written: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", Some(applied), Some(written), &mut found);
    found
}

fn compare(at: &str, applied: Option<&Value>, written: Option<&Value>, found: &mut Vec<Change>) {
    match (applied, written) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                compare(&format!("{at}/{name}"), old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare(&format!("{at}/{index}"), old.get(index), new.get(index), found);
            }
        }
        (old, new) if old == new => {}
        (old, new) => {
            let (applied, written) = (old.cloned(), new.cloned());
            found.push(Change { at: at.to_owned(), applied, written });
        }
    }
}

fn as_json(change: &Change) -> Value {
    json!({"at": change.at, "applied": change.applied, "written": change.written})
}

fn text(kind: &str, name: &str, changes: Option<&[Change]>, stable: Option<&str>) -> String {
    let mut lines = match changes {
        None => vec![format!("{kind} {name}: not applied")],
        Some([]) => vec![format!("{kind} {name}: no difference")],
        Some(changes) => vec![format!("{kind} {name}: {} differences", changes.len())],
    };
    let word = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
    let line = |c: &Change| format!("  {}: {} -> {}", c.at, word(&c.applied), word(&c.written));
    lines.extend(changes.into_iter().flatten().map(line));
    if let Some(stable) = stable {
        lines.push(format!("  {stable} is stable by an earlier decision, and stays so"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{changes, text};

    #[test]
    fn differences_are_named_by_field() {
        let applied = json!({"spec": {"timeout": "800ms", "stages": [{"share": "5%"}]}});
        let written =
            json!({"spec": {"timeout": "900ms", "stages": [{"share": "5%"}, {}], "unit": "key"}});
        let found = changes(&applied, &written);
        insta::assert_snapshot!(text("model", "flights", Some(&found), Some("v2")), @r#"
        model flights: 3 differences
          /spec/stages/1: - -> {}
          /spec/timeout: "800ms" -> "900ms"
          /spec/unit: - -> "key"
          v2 is stable by an earlier decision, and stays so
        "#);
        assert_eq!(changes(&applied, &applied), []);
        assert_eq!(text("model", "m", None, None), "model m: not applied");
        assert_eq!(text("model", "m", Some(&[]), None), "model m: no difference");
    }
}
