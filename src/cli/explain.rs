//! `serinus explain`: how a decision was reached, from the position of the model before it to the inputs.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::decoded::Decoded;
use crate::cli::error::{CliError, Exit};
use crate::cli::evidence::told;
use crate::cli::names::Asked;
use crate::cli::report;
use crate::cli::say;
use crate::cli::state;
use crate::wire::event::{EventRecord, PositionRecord};

/// A decision with its evidence.
type Event = Decoded<EventRecord>;

/// What `explain` takes.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// The decision: NAME/SEQUENCE as in `flights-v2/12`, a command's id, or a rollout or model alone for its newest; MODEL/ in front
    /// where several models have a rollout of this name
    decision: String,
    /// The model that it is of
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

/// Prints one event, its evidence, and the events before it.
pub(crate) fn run(args: &ExplainArgs, context: &Context) -> Result<Exit, CliError> {
    let records = context.read_own(&context.reader()?, "rollout-events")?;
    let mut events: Vec<Event> = records.iter().filter_map(Decoded::of).collect();
    events.sort_by_key(|e| e.record.sequence);
    let Some(event) = find(&events, &args.decision, args.model.as_deref())? else {
        return Err(CliError::NotFound(format!(
            "`{}` knows no decision `{}`; name it as in flights-v2/12, or by the id of its command",
            context.app, args.decision
        )));
    };
    let before = before(&events, event);
    // The spec that was applied has the confidence level of the intervals.
    let mut specs = before.iter().rev().chain([&event]).filter_map(|e| e.record.spec.as_ref());
    let spec = specs.find(|spec| state::is_rollout(spec));
    let confidence = report::confidence(spec.unwrap_or(&Value::Null));
    let sentences = event.record.evidence.as_ref().map(|e| report::sentences(e, confidence));
    let value = json!({
        "decision": event.value,
        "metrics": sentences.unwrap_or_default(),
        "before": before.iter().map(|b| line(&b.record)).collect::<Vec<_>>(),
        "recompute": recompute(&event.record),
    });
    context.output.document(&value, || text(&event.record, &before, confidence))?;
    Ok(Exit::Reached)
}

/// Returns the event that a name means; a name that several models have is an error that lists them.
fn find<'a>(
    events: &'a [Event],
    decision: &str,
    model: Option<&str>,
) -> Result<Option<&'a Event>, CliError> {
    if let Some(it) = events.iter().find(|e| e.record.command_id.as_deref() == Some(decision)) {
        return Ok(Some(it));
    }
    let numbered = decision.rsplit_once('/').and_then(|(name, number)| {
        let sequence: u64 = number.parse().ok()?;
        Some((name, sequence))
    });
    if let Some((name, sequence)) = numbered {
        let asked = Asked::of(name, model)?;
        let found = newest(events, &asked, |a| a.sequence == sequence)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    // The name of a rollout can be a number.
    newest(events, &Asked::of(decision, model)?, |_| true)
}

/// Returns the newest event of a rollout or model that satisfies a condition.
fn newest<'a>(
    events: &'a [Event],
    asked: &Asked,
    is_wanted: impl Fn(&EventRecord) -> bool,
) -> Result<Option<&'a Event>, CliError> {
    let mut found: BTreeMap<&str, &Event> = BTreeMap::new();
    for event in events.iter().filter(|e| is_wanted(&e.record)) {
        let EventRecord { model, rollout, .. } = &event.record;
        let is_its = rollout.as_deref().is_some_and(|rollout| asked.means(rollout));
        let is_meant = is_its || *model == asked.name;
        if is_meant && asked.may_be_of(model) {
            found.insert(model, event);
        }
    }
    if found.len() > 1 {
        let all: Vec<String> = found.keys().map(|f| format!("`{f}/{}`", asked.name)).collect();
        return Err(CliError::Usage(format!(
            "`{}` is ambiguous: there are {}; say which, or give --model",
            asked.name,
            all.join(" and ")
        )));
    }
    Ok(found.into_values().next())
}

/// Returns the earlier events of the same rollout, oldest first.
fn before<'a>(events: &'a [Event], event: &Event) -> Vec<&'a Event> {
    let EventRecord { model, rollout, sequence, .. } = &event.record;
    let is_earlier =
        |e: &EventRecord| e.model == *model && e.rollout == *rollout && e.sequence < *sequence;
    events.iter().filter(|e| is_earlier(&e.record)).collect()
}

fn text(event: &EventRecord, before: &[&Event], confidence: f64) -> String {
    let mut lines = vec![line(event)];
    lines.extend(event.command_id.iter().map(|id| format!("  by command {id}")));
    lines.extend(event.from.iter().map(|from| format!("  from {}", place(from))));
    lines.push(format!("  to   {}", place(&event.to)));
    if let Some(evidence) = &event.evidence {
        lines.push(String::new());
        lines.push(format!("The evidence up to {} UTC", say::moment(evidence.tick)));
        for it in told(evidence) {
            lines.push(format!("{} of {} ({})", it.name, it.candidate, it.role));
            lines.extend(report::metric(it, evidence, confidence).iter().map(|c| format!("  {c}")));
        }
        lines.extend(evidence.arms.iter().map(report::arm));
        lines.push(report::health(&evidence.health));
        lines.push(
            "The gates in their order: held long enough; evidence of this stage; traffic; harm; health; sample and labels; signals; proof; \
             approval. The first that blocks is the reason."
                .to_owned(),
        );
    }
    if !event.positions.is_empty() {
        lines.push(String::new());
        lines.push("It rests on".to_owned());
        lines.extend(event.positions.iter().map(|(topic, partition, offset)| {
            let offset = say::count_or_dash(u64::try_from(*offset).ok());
            format!("  {topic}[{partition}] up to {offset}")
        }));
    }
    if !before.is_empty() {
        lines.push(String::new());
        lines.push("What led there".to_owned());
        lines.extend(before.iter().map(|b| format!("  {}", line(&b.record))));
    }
    lines.push(String::new());
    lines.push(format!("Recompute it: {}", recompute(event)));
    lines.push("Why one label counted, or was late: serinus inspect REQUEST_ID".to_owned());
    lines.join("\n")
}

fn line(event: &EventRecord) -> String {
    format!(
        "{}/{} {} {} by {}: {}",
        event.key(),
        say::count(event.sequence),
        say::moment(event.at),
        event.verdict.word(),
        event.actor,
        event.reason
    )
}

fn place(position: &PositionRecord) -> String {
    format!(
        "{}, stage {}, revision {}: {}",
        position.phase.word(),
        u64::from(position.stage) + 1,
        say::count(position.revision),
        state::shares(Some(position))
    )
}

fn recompute(event: &EventRecord) -> String {
    format!("serinus replay --from-topics --model {}", event.model)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Event, before, find, text};
    use crate::cli::fixtures_for_tests::{arm, event, finding, merge, metrics, position};

    fn events() -> Vec<Event> {
        let place = |stage: u32, revision: u64, share: f64| {
            let mut place = position();
            merge(
                &mut place,
                json!({"stage": stage, "revision": revision, "shares": {"v2": share}}),
            );
            place
        };
        let value =
            |estimate: f64| json!({"estimate": estimate, "low": null, "high": null, "n": 3900});
        let evidence = metrics(json!({
            "arms": [arm(json!({
                "share": 0.95, "exposures": 5031, "answered": 5030, "timeouts": 1, "mature": 3900, "coverage": 0.98,
            }))],
            "metrics": [finding(json!({
                "n": 3900, "arms": {"v1": value(0.128), "v2": value(0.115)},
                "difference": {"estimate": -0.013, "low": -0.021, "high": -0.004},
                "p": {"harm": 1.0, "non_inferior": 5.5e-5, "superior": 0.012}, "design_effect": 1.0, "verdict": "proved",
            }))],
        }));
        vec![
            event(
                json!({"rollout": null, "sequence": 1, "actor": "ann", "command_id": "c1", "verdict": "apply",
                         "reason": "v1 serves everything", "to": place(0, 1, 0.0)}),
            ),
            event(
                json!({"sequence": 2, "at": 1000, "actor": "ann", "command_id": "c2", "verdict": "apply",
                         "reason": "begins", "from": place(0, 1, 0.0), "to": place(0, 2, 0.05)}),
            ),
            event(json!({"sequence": 3, "at": 1_377_990_000_000_i64, "verdict": "advance",
                         "reason": "brier: non-inferior proved; every gate is passed",
                         "from": place(0, 2, 0.05), "to": place(1, 3, 0.25),
                         "positions": [["flights.predictions", 0, 5120]], "evidence": evidence.value})),
        ]
    }

    #[test]
    fn a_decision_is_found_by_its_number_its_command_or_as_the_newest() {
        let events = events();
        let check = |name: &str, expected: Option<u64>| {
            assert_eq!(
                find(&events, name, None)
                    .expect("one model has this name")
                    .map(|n| n.record.sequence),
                expected,
                "{name}"
            );
        };
        check("flights-v2/2", Some(2));
        check("flights/1", Some(1));
        check("c2", Some(2));
        check("flights-v2", Some(3));
        check("flights", Some(3));
        check("flights-v2/1", None);
        check("flights-v3", None);
        check("flights-v2/x", None);
        check("flights/flights-v2/2", Some(2));
        check("flights/flights-v2", Some(3));
        check("trips/flights-v2", None);
    }

    #[test]
    fn a_decision_of_two_models_is_named_with_its_model() {
        let mut events = events();
        let mut other = events[2].clone();
        other.record.model = "trips".to_owned();
        other.record.reason = "of the other".to_owned();
        events.push(other);
        for name in ["flights-v2", "flights-v2/3"] {
            let error = find(&events, name, None).expect_err("two models have it");
            assert_eq!(
                error.to_string(),
                "`flights-v2` is ambiguous: there are `flights/flights-v2` and `trips/flights-v2`; say which, or give --model"
            );
        }
        for (name, model) in [("trips/flights-v2/3", None), ("flights-v2/3", Some("trips"))] {
            let found = find(&events, name, model).expect("it is named").expect("it is there");
            assert_eq!(found.record.reason, "of the other", "{name} {model:?}");
        }
        assert!(
            find(&events, "flights/flights-v2", Some("trips")).is_err(),
            "two models are named"
        );
    }

    #[test]
    fn a_decision_is_explained_from_its_evidence_to_its_inputs() {
        let events = events();
        let event = &events[2];
        insta::assert_snapshot!(text(&event.record, &before(&events, event), 95.0), @r"
        flights-v2/3 2013-08-31 23:00:00 advance by judge: brier: non-inferior proved; every gate is passed
          from Progressing, stage 1, revision 2: v1 95% (stable), v2 5%
          to   Progressing, stage 2, revision 3: v1 75% (stable), v2 25%

        The evidence up to 2013-08-31 23:00:00 UTC
        brier of v2 (goal)
          v2 has 0.115, v1 has 0.128 over all stages; stage by stage the difference is -0.013, over 3,900 compared cases.
          It lies between -0.021 and -0.0040, at 95 % for all looks together; worse by 0.010 is allowed.
          v2 is proved not to be worse than allowed. However often you look: p 5.5e-5 for non-inferior, 0.012 for superior, 1.000 for harm.
        v1 (stable) serves 95%: asked in 5,031 cases, 5,030 answered, 0 errors, 1 timeouts, 3,900 mature, 98% of the mature ones with a label in time.
        The measurement is sound: traffic is split as planned, labels come alike, data is fresh.
        The gates in their order: held long enough; evidence of this stage; traffic; harm; health; sample and labels; signals; proof; approval. The first that blocks is the reason.

        It rests on
          flights.predictions[0] up to 5,120

        What led there
          flights-v2/2 1970-01-01 00:00:01 apply by ann: begins

        Recompute it: serinus replay --from-topics --model flights
        Why one label counted, or was late: serinus inspect REQUEST_ID
        ");
    }
}
