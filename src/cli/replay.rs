//! `serinus replay`: recomputes every decision from the topics, and compares byte for byte.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::talk;
use crate::cli::say;
use crate::kafka::audit::audit::{Archive, Audit};
use serinus_core::domain::ids::ModelName;

/// What `replay` takes.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// Read the inputs from the application's topics, which is also what happens without it
    #[arg(long)]
    from_topics: bool,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

/// Audits the models of an application; a difference, and what cannot be recomputed, is an error.
pub(crate) fn run(args: &ReplayArgs, context: &Context) -> Result<Exit, CliError> {
    // Says in time, and in words, when there is no such application.
    context.read_own(&context.reader()?, "rollouts")?;
    let broken = |error| CliError::Run(Box::new(error));
    let archive = Archive::read(&context.settings()?).map_err(broken)?;
    let mut models = archive.models();
    if let Some(name) = &args.model {
        models.retain(|m| m.as_str() == name);
        if models.is_empty() {
            return Err(CliError::NotFound(format!("`{}` has no model `{name}`", context.app)));
        }
    }
    let mut audits = Vec::new();
    for model in models {
        talk(&format!("recomputing {model}"));
        let audit = archive.audit(&model).map_err(broken)?;
        audits.push((model, audit));
    }
    let is_clean = audits.iter().all(|(_, a)| a.is_clean());
    let value =
        json!({ "clean": is_clean, "models": audits.iter().map(json_of).collect::<Vec<_>>() });
    context.output.document(&value, || {
        audits.iter().map(|(model, audit)| text(model, audit)).collect::<Vec<_>>().join("\n")
    })?;
    Ok(if is_clean { Exit::Reached } else { Exit::Failed })
}

fn json_of((model, audit): &(ModelName, Audit)) -> Value {
    let checks: Vec<Value> = audit
        .checks
        .iter()
        .map(|(what, c)| json!({"what": what, "equal": c.equal, "different": c.different, "newer": c.newer}))
        .collect();
    let differences: Vec<Value> = audit
        .differences
        .iter()
        .map(|d| {
            json!({"topic": d.topic, "key": d.key, "index": d.index, "published": d.published, "recomputed": d.recomputed})
        })
        .collect();
    json!({
        "model": model.as_str(),
        "clean": audit.is_clean(),
        "checks": checks,
        "differences": differences,
        "unchecked": audit.unchecked,
    })
}

fn text(model: &ModelName, audit: &Audit) -> String {
    let verdict = if audit.is_clean() {
        "all that was published is what the inputs give, byte for byte"
    } else {
        "NOT all that was published is what the inputs give"
    };
    let mut lines = vec![format!("{model}: {verdict}")];
    for (what, tally) in &audit.checks {
        let count = |u: usize| say::count(u64::try_from(u).unwrap_or(u64::MAX));
        let mut line = format!("  {what:<9} {} equal", count(tally.equal));
        if tally.different > 0 {
            line = format!("{line}, {} different", count(tally.different));
        }
        if tally.newer > 0 {
            line =
                format!("{line}, {} newer than the journals as they were read", count(tally.newer));
        }
        lines.push(line);
    }
    lines.extend(audit.unchecked.iter().map(|u| format!("  not recomputed: {u}")));
    for it in &audit.differences {
        lines.push(format!("  {} {}, number {}", it.topic, it.key, it.index + 1));
        lines.push(format!("    published   {}", it.published.as_deref().unwrap_or("nothing")));
        lines.push(format!("    recomputed  {}", it.recomputed.as_deref().unwrap_or("nothing")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Audit, text};
    use crate::kafka::audit::audit::{Difference, Tally};
    use serinus_core::domain::ids::ModelName;

    #[test]
    fn an_audit_says_what_was_compared_and_what_differs() {
        let mut audit = Audit {
            checks: BTreeMap::from([
                ("events", Tally { equal: 12, different: 0, newer: 0 }),
                ("sums", Tally { equal: 1204, different: 0, newer: 3 }),
            ]),
            ..Audit::default()
        };
        let model = ModelName::new("flights");
        insta::assert_snapshot!(text(&model, &audit), @"
        flights: all that was published is what the inputs give, byte for byte
          events    12 equal
          sums      1,204 equal, 3 newer than the journals as they were read
        ");
        audit.checks.insert("events", Tally { equal: 11, different: 1, newer: 0 });
        audit.unchecked.push(
            "the sums of partition 3: its journal does not reach back to the beginning".to_owned(),
        );
        audit.differences.push(Difference {
            topic: "serinus.rollout-events".to_owned(),
            key: "flights-v2".to_owned(),
            index: 3,
            published: None,
            recomputed: Some("{\"sequence\":4}".to_owned()),
        });
        insta::assert_snapshot!(text(&model, &audit), @r#"
        flights: NOT all that was published is what the inputs give
          events    11 equal, 1 different
          sums      1,204 equal, 3 newer than the journals as they were read
          not recomputed: the sums of partition 3: its journal does not reach back to the beginning
          serinus.rollout-events flights-v2, number 4
            published   nothing
            recomputed  {"sequence":4}
        "#);
    }
}
