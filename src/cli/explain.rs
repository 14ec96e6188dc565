//! `serinus explain`: the way to a decision, from where the model stood to what it rests on.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::{Context, value_of};
use crate::cli::error::{CliError, Exit};
use crate::cli::names::Asked;
use crate::cli::report;
use crate::cli::say;
use crate::cli::state;

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

/// Prints one event, the evidence that it rests on, and the events before it.
pub(crate) fn run(args: &ExplainArgs, context: &Context) -> Result<Exit, CliError> {
    let records = context.read_own(&context.reader()?, "rollout-events")?;
    let mut events: Vec<Value> = records.iter().map(value_of).collect();
    events.sort_by_key(|e| e["sequence"].as_u64());
    let Some(event) = find(&events, &args.decision, args.model.as_deref())? else {
        return Err(CliError::NotFound(format!(
            "`{}` knows no decision `{}`; name it as in flights-v2/12, or by the id of its command",
            context.app, args.decision
        )));
    };
    let before = before(&events, event);
    // The interval's level stands in the spec that was applied.
    let spec = before.iter().rev().chain([&event]).find_map(|e| {
        let is_its = e["rollout"] == event["rollout"] && e["spec"]["kind"] == "Rollout";
        is_its.then(|| e["spec"].clone())
    });
    let confidence = report::confidence(&spec.unwrap_or_default());
    let evidence = &event["evidence"];
    let sentences: Vec<Value> = report::told(evidence)
        .map(|e| json!({"metric": e["name"], "candidate": e["candidate"], "sentences": report::metric(e, evidence, confidence)}))
        .collect();
    let value = json!({
        "decision": event,
        "metrics": sentences,
        "before": before.iter().map(|b| line(b)).collect::<Vec<_>>(),
        "recompute": recompute(event),
    });
    context.output.document(&value, || text(event, &before, confidence))?;
    Ok(Exit::Reached)
}

/// Returns the event that a name means; a name that several models have is an error with all of them.
fn find<'a>(
    events: &'a [Value],
    decision: &str,
    model: Option<&str>,
) -> Result<Option<&'a Value>, CliError> {
    if let Some(it) = events.iter().find(|e| e["command_id"] == decision) {
        return Ok(Some(it));
    }
    let numbered = decision.rsplit_once('/').and_then(|(name, number)| {
        let sequence: u64 = number.parse().ok()?;
        Some((name, sequence))
    });
    if let Some((name, sequence)) = numbered {
        let asked = Asked::of(name, model)?;
        let found = newest(events, &asked, |a| a["sequence"] == sequence)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    // A rollout's name may be a number too.
    newest(events, &Asked::of(decision, model)?, |_| true)
}

/// Returns the newest event of a rollout or model that is as wanted.
fn newest<'a>(
    events: &'a [Value],
    asked: &Asked,
    is_wanted: impl Fn(&Value) -> bool,
) -> Result<Option<&'a Value>, CliError> {
    let mut found: BTreeMap<&str, &Value> = BTreeMap::new();
    for event in events.iter().filter(|e| is_wanted(e)) {
        let Some(model) = event["model"].as_str().filter(|e| asked.may_be_of(e)) else {
            continue;
        };
        if event["rollout"] == *asked.name || model == asked.name {
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

/// Returns the events of the same rollout that led there, oldest first.
fn before<'a>(events: &'a [Value], event: &Value) -> Vec<&'a Value> {
    let is_earlier = |v: &&Value| {
        v["model"] == event["model"]
            && v["rollout"] == event["rollout"]
            && v["sequence"].as_u64() < event["sequence"].as_u64()
    };
    events.iter().filter(is_earlier).collect()
}

fn text(event: &Value, before: &[&Value], confidence: f64) -> String {
    let mut lines = vec![line(event)];
    if let Some(id) = event["command_id"].as_str() {
        lines.push(format!("  by command {id}"));
    }
    for (word, position) in [("from", &event["from"]), ("to", &event["to"])] {
        if position.is_object() {
            lines.push(format!("  {word:<5}{}", place(position)));
        }
    }
    let evidence = &event["evidence"];
    if evidence.is_object() {
        lines.push(String::new());
        if let Some(tick) = evidence["tick"].as_i64() {
            lines.push(format!("The evidence up to {} UTC", say::moment(tick)));
        }
        for it in report::told(evidence) {
            lines.push(format!(
                "{} of {} ({})",
                report::word(&it["name"]),
                report::word(&it["candidate"]),
                report::word(&it["role"])
            ));
            lines.extend(report::metric(it, evidence, confidence).iter().map(|c| format!("  {c}")));
        }
        lines.extend(report::list(&evidence["arms"]).map(report::arm));
        lines.push(report::health(&evidence["health"]));
        lines.push(
            "The gates in their order: held long enough; evidence of this stage; traffic; harm; health; sample and labels; signals; proof; \
             approval. The first that blocks is the reason."
                .to_owned(),
        );
    }
    let positions: Vec<String> = report::list(&event["positions"])
        .map(|e| format!("  {}[{}] up to {}", report::word(&e[0]), e[1], say::count_or_dash(&e[2])))
        .collect();
    if !positions.is_empty() {
        lines.push(String::new());
        lines.push("It rests on".to_owned());
        lines.extend(positions);
    }
    if !before.is_empty() {
        lines.push(String::new());
        lines.push("What led there".to_owned());
        lines.extend(before.iter().map(|b| format!("  {}", line(b))));
    }
    lines.push(String::new());
    lines.push(format!("Recompute it: {}", recompute(event)));
    lines.push("Why one label counted, or was late: serinus inspect REQUEST_ID".to_owned());
    lines.join("\n")
}

fn line(event: &Value) -> String {
    let name = event["rollout"].as_str().or(event["model"].as_str()).unwrap_or("-");
    format!(
        "{name}/{} {} {} by {}: {}",
        say::count_or_dash(&event["sequence"]),
        event["at"].as_i64().map_or_else(|| "-".to_owned(), say::moment),
        report::word(&event["verdict"]),
        report::word(&event["actor"]),
        report::word(&event["reason"])
    )
}

fn place(position: &Value) -> String {
    let stage = position["stage"].as_u64().map_or(0, |a| a + 1);
    format!(
        "{}, stage {stage}, revision {}: {}",
        report::word(&position["phase"]),
        say::count_or_dash(&position["revision"]),
        state::shares(position)
    )
}

fn recompute(event: &Value) -> String {
    format!("serinus replay --from-topics --model {}", report::word(&event["model"]))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{before, find, text};

    fn events() -> Vec<Value> {
        let position = |stage: u32, revision: u64, share: f64| {
            json!({"phase": "Progressing", "stage": stage, "revision": revision, "stable": "v1",
                   "shares": {"v2": share}, "shadows": {}})
        };
        vec![
            json!({"rollout": null, "model": "flights", "sequence": 1, "at": 0, "actor": "ann", "command_id": "c1",
                   "verdict": "apply", "reason": "v1 serves everything", "from": null, "to": position(0, 1, 0.0)}),
            json!({"rollout": "flights-v2", "model": "flights", "sequence": 2, "at": 1000, "actor": "ann", "command_id": "c2",
                   "verdict": "apply", "reason": "begins", "from": position(0, 1, 0.0), "to": position(0, 2, 0.05)}),
            json!({"rollout": "flights-v2", "model": "flights", "sequence": 3, "at": 1_377_990_000_000_i64, "actor": "judge",
                   "command_id": null, "verdict": "advance", "reason": "brier: non-inferior proved; every gate is passed",
                   "from": position(0, 2, 0.05), "to": position(1, 3, 0.25),
                   "positions": [["flights.predictions", 0, 5120]],
                   "evidence": {"tick": 1_377_990_000_000_i64, "arms": [
                        {"version": "v1", "role": "stable", "share": 0.95, "exposures": 5031, "answered": 5030, "errors": 0,
                         "timeouts": 1, "mature": 3900, "coverage": 0.98}],
                    "metrics": [{"name": "brier", "kind": "brier", "role": "goal", "candidate": "v2", "n": 3900,
                        "arms": {"v1": {"estimate": 0.128}, "v2": {"estimate": 0.115}},
                        "difference": {"estimate": -0.013, "low": -0.021, "high": -0.004}, "margin": 0.01,
                        "p": {"harm": 1.0, "non_inferior": 5.5e-5, "superior": 0.012}, "design_effect": 1.0,
                        "verdict": "proved"}],
                    "health": {"split": {"verdict": "ok"}, "label_parity": {"verdict": "ok"}, "mixed_units": 0, "no_data": false}}}),
        ]
    }

    #[test]
    fn a_decision_is_found_by_its_number_its_command_or_as_the_newest() {
        let events = events();
        let check = |name: &str, expected: Option<u64>| {
            assert_eq!(
                find(&events, name, None)
                    .expect("one model has this name")
                    .map(|n| n["sequence"].as_u64().unwrap()),
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
        other["model"] = "trips".into();
        other["reason"] = "of the other".into();
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
            assert_eq!(found["reason"], "of the other", "{name} {model:?}");
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
        insta::assert_snapshot!(text(event, &before(&events, event), 95.0), @r"
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
