//! `serinus watch`: follows a rollout until its end.

use std::time::Duration;

use crate::cli::context::{Context, value_of};
use crate::cli::decoded::{Decoded, Subject, decode};
use crate::cli::error::{CliError, Exit};
use crate::cli::names::{self, Asked, Meant, NameArgs};
use crate::cli::output::talk;
use crate::cli::say;
use crate::cli::state::{self, shares};
use crate::cli::status::{difference, headline};
use crate::kafka::client::topic_reader::Start;
use crate::wire::event::{EventRecord, PositionRecord};
use crate::wire::metrics::MetricsRecord;
use clap::Args;
use serinus_core::engine::judge::event::Phase;

/// What `watch` takes.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    name: NameArgs,
}

/// Prints each event and each metrics record when it arrives, until the rollout has ended.
pub(crate) fn run(args: &WatchArgs, context: &Context) -> Result<Exit, CliError> {
    let (metrics, events) = (context.own("rollout-metrics"), context.own("rollout-events"));
    // Follow the topics before the state is read, so that no record between the two is lost.
    let coming = context
        .reader()?
        .follow(&[&metrics, &events], Start::BeforeEnd(0))
        .map_err(|error| context.own_error(error))?;
    let asked = args.name.asked()?;
    let reader = context.reader()?;
    let state = names::standing(context, &reader, &asked)?;
    talk(&headline(&state));
    let mut end = end_of_watch(state.phase);
    // The name of a model means all of its rollouts.
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
        let subject: Subject = decode(&value).unwrap_or_default();
        let is_its_model = subject.model.as_ref() == Some(&state.model);
        if !is_its_model || rollout.is_some_and(|r| subject.rollout.as_deref() != Some(r)) {
            continue;
        }
        if record.topic != events {
            let metrics: Option<MetricsRecord> = decode(&value);
            context.output.item(&value, || {
                metrics.as_ref().map_or_else(|| value.to_string(), metrics_line)
            })?;
            continue;
        }
        let event: Option<EventRecord> = decode(&value);
        context
            .output
            .item(&value, || event.as_ref().map_or_else(|| value.to_string(), event_line))?;
        let Some(record) = event else { continue };
        let Some(rollout) = rollout else {
            end = end_of_watch(record.to.phase);
            continue;
        };
        told.extend(names::event(Decoded { record, value }, &own));
        match names::told(&told, &state.model, rollout) {
            Some(Meant::Refused(reason)) => return Err(CliError::Refused(reason)),
            Some(Meant::Present(state) | Meant::Waiting(state) | Meant::Over(state)) => {
                end = end_of_watch(state.phase);
            }
            None => {}
        }
    }
    Ok(end.unwrap_or(Exit::Reached))
}

/// A pause does not end a watch, and a model at rest can get another rollout.
fn end_of_watch(phase: Phase) -> Option<Exit> {
    state::ending(phase).filter(|e| *e != Exit::Paused && phase != Phase::Idle)
}

fn event_line(event: &EventRecord) -> String {
    let (from, to) = (event.from.as_ref(), Some(&event.to));
    let phase = |p: Option<&PositionRecord>| p.map_or(Phase::Idle, |p| p.phase);
    let stage = |p: Option<&PositionRecord>| p.map_or(0, |p| u64::from(p.stage) + 1);
    let mut changes = Vec::new();
    if phase(from) != phase(to) {
        changes.push(format!("{} -> {}", phase(from).word(), phase(to).word()));
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
        say::moment(event.at),
        event.verdict.word().to_uppercase(),
        event.actor,
        event.reason,
    )
}

fn metrics_line(metrics: &MetricsRecord) -> String {
    let mut lines = vec![format!(
        "{}  stage {}  {}: {}",
        say::moment(metrics.tick),
        u64::from(metrics.stage) + 1,
        metrics.verdict,
        metrics.reason,
    )];
    for it in &metrics.metrics {
        lines.push(format!(
            "    {} {}: {}, limit {}, n {} compared: {}",
            it.name,
            it.candidate,
            difference(it),
            say::number(it.margin),
            say::count(it.n),
            it.verdict,
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{event_line, metrics_line};
    use crate::cli::fixtures_for_tests::{event, finding, merge, metrics, position};

    #[test]
    fn events_and_evidence_are_lines_that_a_person_reads() {
        let place = |stage: u32, share: f64| {
            let mut place = position();
            merge(&mut place, json!({"stage": stage, "shares": {"v2": share}}));
            place
        };
        let event = event(json!({
            "at": 1_377_993_600_000_i64, "verdict": "advance", "reason": "all gates passed",
            "from": place(1, 0.05), "to": place(2, 0.25),
        }));
        insta::assert_snapshot!(event_line(&event.record), @r"
        2013-09-01 00:00:00  ADVANCE by judge: stage 2 -> 3, v1 75% (stable), v2 25%
            all gates passed
        ");
        let metrics = metrics(json!({"metrics": [finding(json!({
            "n": 3900, "verdict": "proved", "difference": {"estimate": -0.013, "low": -0.021, "high": -0.004},
        }))]}));
        insta::assert_snapshot!(metrics_line(&metrics.record), @r"
        2013-08-31 23:00:00  stage 3  hold: holding until 14:30
            brier v2: -0.013 [-0.021, -0.0040], limit 0.010, n 3,900 compared: proved
        ");
    }
}
