//! `serinus watch`: follows a rollout as it goes.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cli::context::{Context, value_of};
use crate::cli::error::{CliError, Exit};
use crate::cli::names::{self, Asked, Meant, NameArgs};
use crate::cli::output::talk;
use crate::cli::say;
use crate::cli::state::{State, shares};
use crate::cli::status::{difference, headline};
use crate::kafka::client::topic_reader::Start;

/// What `watch` takes.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    name: NameArgs,
}

/// Prints every event and all evidence as they come, until the rollout has ended.
pub(crate) fn run(args: &WatchArgs, context: &Context) -> Result<Exit, CliError> {
    let (metrics, events) = (context.own("rollout-metrics"), context.own("rollout-events"));
    // Turned to before the present is read, so that nothing falls between the two.
    let coming = context
        .reader()?
        .follow(&[&metrics, &events], Start::BeforeEnd(0))
        .map_err(|error| context.own_error(error))?;
    let asked = args.name.asked()?;
    let reader = context.reader()?;
    let state = names::standing(context, &reader, &asked)?;
    talk(&headline(&state));
    let mut end = end_of_watch(&state);
    // Who names a model watches all of its rollouts.
    let rollout = state.rollout().filter(|r| *r == asked.name);
    let own = Asked { model: Some(state.model.clone()), name: asked.name.clone() };
    let mut told = if rollout.is_some() && end.is_none() {
        names::events(context, &reader, &own)?
    } else {
        Vec::new()
    };
    while end.is_none() {
        let Some(record) = coming.next(Duration::from_mins(1))? else { continue };
        let value = value_of(&record);
        if value["model"] != *state.model || rollout.is_some_and(|r| value["rollout"] != *r) {
            continue;
        }
        if record.topic != events {
            context.output.item(&value, || metrics_line(&value))?;
            continue;
        }
        context.output.item(&value, || event_line(&value))?;
        let Some(rollout) = rollout else {
            let record = value["to"].clone();
            end = end_of_watch(&State { model: state.model.clone(), record });
            continue;
        };
        told.extend(names::event_of(&value, &own));
        match names::told(&told, &state.model, rollout) {
            Some(Meant::Refused(reason)) => return Err(CliError::Refused(reason)),
            Some(Meant::Present(state) | Meant::Waiting(state) | Meant::Over(state)) => {
                end = end_of_watch(&state);
            }
            None => {}
        }
    }
    Ok(end.unwrap_or(Exit::Reached))
}

/// A pause is not the end for someone who watches, and a model at rest may get a rollout yet.
fn end_of_watch(state: &State) -> Option<Exit> {
    state.ending().filter(|e| *e != Exit::Paused && state.phase() != "Idle")
}

fn event_line(event: &Value) -> String {
    let (from, to) = (&event["from"], &event["to"]);
    let phase = |v: &Value| v["phase"].as_str().unwrap_or("Idle").to_owned();
    let stage = |v: &Value| v["stage"].as_u64().map_or(0, |a| a + 1);
    let mut changes = Vec::new();
    if phase(from) != phase(to) {
        changes.push(format!("{} -> {}", phase(from), phase(to)));
    }
    if stage(from) != stage(to) {
        changes.push(format!("stage {} -> {}", stage(from), stage(to)));
    }
    if shares(from) != shares(to) {
        changes.push(shares(to));
    }
    let changes =
        if changes.is_empty() { "nothing changes".to_owned() } else { changes.join(", ") };
    format!(
        "{}  {} by {}: {changes}\n    {}",
        event["at"].as_i64().map_or_else(|| "-".to_owned(), say::moment),
        event["verdict"].as_str().unwrap_or("-").to_uppercase(),
        event["actor"].as_str().unwrap_or("-"),
        event["reason"].as_str().unwrap_or("no reason was given"),
    )
}

fn metrics_line(metrics: &Value) -> String {
    let mut lines = vec![format!(
        "{}  stage {}  {}: {}",
        metrics["tick"].as_i64().map_or_else(|| "-".to_owned(), say::moment),
        metrics["stage"].as_u64().map_or(0, |a| a + 1),
        metrics["verdict"].as_str().unwrap_or("-"),
        metrics["reason"].as_str().unwrap_or("-"),
    )];
    for it in metrics["metrics"].as_array().into_iter().flatten() {
        let text = |name: &str| it[name].as_str().unwrap_or("-");
        lines.push(format!(
            "    {} {}: {}, limit {}, n {} compared: {}",
            text("name"),
            text("candidate"),
            difference(it),
            say::or_dash(&it["margin"], say::number),
            say::count_or_dash(&it["n"]),
            text("verdict"),
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{event_line, metrics_line};

    #[test]
    fn events_and_evidence_are_lines_that_a_person_reads() {
        let routing = |phase: &str, stage: u64, share: f64| json!({"phase": phase, "stage": stage, "stable": "v1", "shares": {"v2": share}, "shadows": {}});
        let event = json!({
            "at": 1_377_993_600_000_i64, "actor": "judge", "verdict": "advance", "reason": "all gates passed",
            "from": routing("Progressing", 1, 0.05), "to": routing("Progressing", 2, 0.25),
        });
        insta::assert_snapshot!(event_line(&event), @r"
        2013-09-01 00:00:00  ADVANCE by judge: stage 2 -> 3, v1 75% (stable), v2 25%
            all gates passed
        ");
        let metrics = json!({
            "tick": 1_377_990_000_000_i64, "stage": 2, "verdict": "hold", "reason": "holding until 14:30",
            "metrics": [{"name": "brier", "candidate": "v2", "n": 3900, "margin": 0.01, "verdict": "proved",
                         "difference": {"estimate": -0.013, "low": -0.021, "high": -0.004}}],
        });
        insta::assert_snapshot!(metrics_line(&metrics), @r"
        2013-08-31 23:00:00  stage 3  hold: holding until 14:30
            brier v2: -0.013 [-0.021, -0.0040], limit 0.010, n 3,900 compared: proved
        ");
    }
}
