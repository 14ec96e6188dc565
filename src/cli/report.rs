//! `serinus report`: what the evidence says, in sentences, and when each number may be believed.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::names::{self, NameArgs};
use crate::cli::say;
use crate::cli::state::State;
use crate::cli::status::{headline, newest_metrics};

/// What `report` takes.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    name: NameArgs,
}

/// Prints the newest evidence of a rollout as prose.
pub(crate) fn run(args: &ReportArgs, context: &Context) -> Result<Exit, CliError> {
    let asked = args.name.asked()?;
    let state = names::standing(context, &context.reader()?, &asked)?;
    let metrics = newest_metrics(context, &context.reader()?, &state)?;
    let Some(metrics) = metrics else {
        return Err(CliError::NotFound(format!("there is no evidence of `{}` yet", asked.said())));
    };
    let confidence = confidence(state.field("spec"));
    let sentences: Vec<Value> = told(&metrics)
        .map(|m| {
            json!({
                "metric": m["name"],
                "candidate": m["candidate"],
                "sentences": metric(m, &metrics, confidence),
            })
        })
        .collect();
    let value = json!({
        "rollout": metrics["rollout"],
        "verdict": metrics["verdict"],
        "reason": metrics["reason"],
        "next": next(&state, &metrics),
        "metrics": sentences,
        "evidence": metrics,
    });
    context.output.document(&value, || text(&state, &metrics, confidence))?;
    Ok(Exit::Reached)
}

/// Returns the share of all worlds, in percent, in which an interval holds at every look.
pub(crate) fn confidence(spec: &Value) -> f64 {
    let alpha = &spec["spec"]["decide"]["alpha"];
    let written = alpha.as_str().and_then(|a| a.strip_suffix('%')?.trim().parse::<f64>().ok());
    let alpha = alpha.as_f64().or(written.map(|w| w / 100.0)).unwrap_or(0.05);
    (1.0 - alpha) * 100.0
}

fn text(state: &State, metrics: &Value, confidence: f64) -> String {
    let mut lines = vec![headline(state)];
    if let Some(tick) = metrics["tick"].as_i64() {
        lines.push(format!("Evidence up to {} UTC.", say::moment(tick)));
    }
    lines.push(String::new());
    for it in told(metrics) {
        lines.push(format!(
            "{} of {} ({})",
            word(&it["name"]),
            word(&it["candidate"]),
            word(&it["role"])
        ));
        lines.extend(metric(it, metrics, confidence).iter().map(|c| format!("  {c}")));
        lines.push(String::new());
    }
    for it in list(&metrics["arms"]) {
        lines.push(arm(it));
    }
    lines.push(String::new());
    lines.push(health(&metrics["health"]));
    lines.push(format!("Verdict: {}. {}", word(&metrics["verdict"]), word(&metrics["reason"])));
    lines.push(next(state, metrics));
    lines.join("\n")
}

/// Returns every metric, and of the segments those that should be looked at.
pub(crate) fn told(metrics: &Value) -> impl Iterator<Item = &Value> {
    let alerts = list(&metrics["segments"]).filter(|m| m["verdict"] == "alert");
    list(&metrics["metrics"]).chain(alerts)
}

/// Says all that one metric shows, a sentence for each thing.
pub(crate) fn metric(it: &Value, metrics: &Value, confidence: f64) -> Vec<String> {
    let stable = list(&metrics["arms"]).find(|m| m["role"] == "stable");
    let stable = stable.map_or_else(String::new, |n| word(&n["version"]));
    let candidate = word(&it["candidate"]);
    let mut said = Vec::new();
    let n = say::count_or_dash(&it["n"]);
    let Some(difference) = it["difference"]["estimate"].as_f64() else {
        return vec![format!("Nothing to compare yet ({n} cases compared).")];
    };
    let relative = it["kind"] == "latency";
    let amount = |value: f64| {
        if relative { format!("{:+.1} %", value * 100.0) } else { say::signed(value) }
    };
    let of = |arm: &str| say::or_dash(&it["arms"][arm]["estimate"], say::number);
    said.push(format!(
        "{candidate} has {}, {stable} has {} over all stages; stage by stage the difference is {}, over {n} compared cases.",
        of(&candidate),
        of(&stable),
        amount(difference)
    ));
    let interval = &it["difference"];
    if let (Some(low), Some(high)) = (interval["low"].as_f64(), interval["high"].as_f64()) {
        said.push(format!(
            "It lies between {} and {}, at {confidence:.0} % for all looks together; worse by {} is allowed.",
            amount(low),
            amount(high),
            say::or_dash(&it["margin"], |i| amount(i).trim_start_matches('+').to_owned())
        ));
    }
    if it["p"].is_object() {
        said.push(format!("{} {}", verdict(it), anytime(&it["p"])));
    }
    if let (Some(test), Some(p)) = (it["classic"]["test"].as_str(), it["classic"]["p"].as_f64()) {
        said.push(format!(
            "A classic {} gives p {}: to be believed only had the size been fixed beforehand and looked at once.",
            test.replace('_', " "),
            small(p)
        ));
    }
    if it["design_effect"].is_null() {
        said.push(
            "The same few units come again and again: too few of them to tell chance from a difference, so nothing can be proved."
                .to_owned(),
        );
    }
    if let Some(effect) = it["design_effect"].as_f64().filter(|a| *a > 1.0) {
        said.push(format!(
            "Cases of one unit resemble each other: {} of them tell as much as one (design effect), which is allowed for in all of \
             the above but the classic test.",
            say::number(effect)
        ));
    }
    said
}

fn verdict(it: &Value) -> String {
    let candidate = word(&it["candidate"]);
    match it["verdict"].as_str().unwrap_or_default() {
        "proved" => format!("{candidate} is proved not to be worse than allowed."),
        "superior" => format!("{candidate} is proved better."),
        "harmful" => format!("{candidate} is proved worse."),
        "alert" => format!(
            "{candidate} is proved worse in this segment; at most one alert in ten is false. It decides nothing."
        ),
        "watched" => "This metric is watched and decides nothing.".to_owned(),
        "no_data" => "There is no data to judge by.".to_owned(),
        _ => "Nothing is proved yet.".to_owned(),
    }
}

/// Says the p-values that hold however often one looks.
fn anytime(p: &Value) -> String {
    let of = |name: &str| say::or_dash(&p[name], small);
    format!(
        "However often you look: p {} for non-inferior, {} for superior, {} for harm.",
        of("non_inferior"),
        of("superior"),
        of("harm")
    )
}

pub(crate) fn arm(it: &Value) -> String {
    let count = |name: &str| say::count_or_dash(&it[name]);
    let coverage = it["coverage"].as_f64().map_or(String::new(), |n| {
        format!(", {} of the mature ones with a label in time", say::percent(n))
    });
    format!(
        "{} ({}) serves {}: asked in {} cases, {} answered, {} errors, {} timeouts, {} mature{coverage}.",
        word(&it["version"]),
        word(&it["role"]),
        say::or_dash(&it["share"], say::percent),
        count("exposures"),
        count("answered"),
        count("errors"),
        count("timeouts"),
        count("mature")
    )
}

pub(crate) fn health(health: &Value) -> String {
    let mut wrong: Vec<String> = Vec::new();
    if health["split"]["verdict"] == "bad" {
        wrong.push("traffic is not split as planned".to_owned());
    }
    if health["label_parity"]["verdict"] == "bad" {
        wrong.push("labels come or are missing unequally".to_owned());
    }
    if health["mixed_units"].as_u64() > Some(0) {
        wrong.push("units met two arms".to_owned());
    }
    if health["no_data"] == true {
        wrong.push("no fresh traffic comes".to_owned());
    }
    wrong.extend(list(&health["scoring"]).map(say::gap));
    if wrong.is_empty() {
        "The measurement is sound: traffic is split as planned, labels come alike, data is fresh."
            .to_owned()
    } else {
        format!("The measurement is not to be trusted: {}.", wrong.join("; "))
    }
}

/// Says what would come next, and what a person may do.
fn next(state: &State, metrics: &Value) -> String {
    let name = state.rollout().unwrap_or(&state.model);
    match state.phase() {
        "Progressing" => match metrics["eta"].as_i64() {
            Some(at) => format!("Next: at this pace not before {} UTC.", say::moment(at)),
            None => "Next: it goes on by itself once the verdict changes.".to_owned(),
        },
        "Paused" => format!("Next: a person; `serinus resume {name}` or `serinus abort {name}`."),
        "Concluded" => {
            format!("Next: a person; `serinus promote {name}` or `serinus abort {name}`.")
        }
        phase => format!("Next: nothing; it is over ({phase})."),
    }
}

/// Says a p-value: small ones by their power of ten.
fn small(p: f64) -> String {
    if p >= 0.001 { format!("{p:.3}") } else { format!("{p:.1e}") }
}

pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(crate) fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::text;
    use crate::cli::state::State;

    #[test]
    fn a_report_says_when_each_number_may_be_believed() {
        let record = json!({
            "rollout": "flights-v2", "model": "flights", "phase": "Progressing", "stage": 2, "revision": 7,
            "stable": "v1", "shares": {"v2": 0.25}, "shadows": {},
            "spec": {"kind": "Rollout", "spec": {"stages": [{}, {}, {}, {}], "decide": {"alpha": 0.05}}},
        });
        let state = State { model: "flights".to_owned(), record };
        let metrics = json!({
            "rollout": "flights-v2", "strategy": "canary", "tick": 1_377_990_000_000_i64,
            "arms": [
                {"version": "v1", "role": "stable", "share": 0.75, "exposures": 5031, "answered": 5030, "errors": 0,
                 "timeouts": 1, "mature": 3900, "coverage": 0.98},
            ],
            "metrics": [
                {"name": "brier", "kind": "brier", "role": "goal", "candidate": "v2", "n": 3900,
                 "arms": {"v1": {"estimate": 0.128}, "v2": {"estimate": 0.115}},
                 "difference": {"estimate": -0.013, "low": -0.021, "high": -0.004}, "margin": 0.01,
                 "p": {"harm": 1.0, "non_inferior": 5.5e-5, "superior": 0.012},
                 "classic": {"test": "welch_t", "statistic": -3.1, "p": 0.002},
                 "design_effect": 1.8, "verdict": "proved"},
                {"name": "auc", "kind": "auc", "role": "watch", "candidate": "v2", "n": 0},
            ],
            "health": {"split": {"p": 0.4, "verdict": "ok"}, "label_parity": {"p": 1.0, "verdict": "ok"},
                       "mixed_units": 0, "no_data": false},
            "verdict": "hold", "reason": "holding until 14:30", "eta": 1_377_993_600_000_i64,
        });
        insta::assert_snapshot!(text(&state, &metrics, 95.0), @r"
        flights-v2: Progressing, stage 3 of 4, v1 75% (stable), v2 25%
        Evidence up to 2013-08-31 23:00:00 UTC.

        brier of v2 (goal)
          v2 has 0.115, v1 has 0.128 over all stages; stage by stage the difference is -0.013, over 3,900 compared cases.
          It lies between -0.021 and -0.0040, at 95 % for all looks together; worse by 0.010 is allowed.
          v2 is proved not to be worse than allowed. However often you look: p 5.5e-5 for non-inferior, 0.012 for superior, 1.000 for harm.
          A classic welch t gives p 0.002: to be believed only had the size been fixed beforehand and looked at once.
          Cases of one unit resemble each other: 1.80 of them tell as much as one (design effect), which is allowed for in all of the above but the classic test.

        auc of v2 (watch)
          Nothing to compare yet (0 cases compared).

        v1 (stable) serves 75%: asked in 5,031 cases, 5,030 answered, 0 errors, 1 timeouts, 3,900 mature, 98% of the mature ones with a label in time.

        The measurement is sound: traffic is split as planned, labels come alike, data is fresh.
        Verdict: hold. holding until 14:30
        Next: at this pace not before 2013-09-01 00:00:00 UTC.
        ");
    }
}
