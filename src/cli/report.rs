//! `serinus report`: the evidence in sentences, and the condition under which each number is valid.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::names::{self, NameArgs};
use crate::cli::say;
use crate::cli::state::State;
use crate::cli::status::{estimate, headline, newest_metrics};
use crate::wire::metrics::{
    ArmRecord, CheckVerdict, FindingRecord, HealthRecord, MetricsRecord, TriadRecord,
};
use serinus_core::engine::judge::event::Phase;

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
    let confidence = confidence(&state.spec);
    let record = &metrics.record;
    let value = json!({
        "rollout": record.rollout,
        "verdict": record.verdict,
        "reason": record.reason,
        "next": next(&state, record),
        "metrics": sentences(record, confidence),
        "evidence": metrics.value,
    });
    context.output.document(&value, || text(&state, record, confidence))?;
    Ok(Exit::Reached)
}

/// Returns the sentences of each metric as JSON.
pub(crate) fn sentences(metrics: &MetricsRecord, confidence: f64) -> Vec<Value> {
    let json = |m: &FindingRecord| {
        json!({
            "metric": m.name,
            "candidate": m.candidate,
            "sentences": metric(m, metrics, confidence),
        })
    };
    told(metrics).map(json).collect()
}

/// Returns the simultaneous confidence level of the intervals at all looks, in percent.
pub(crate) fn confidence(spec: &Value) -> f64 {
    let alpha = &spec["spec"]["decide"]["alpha"];
    let written = alpha.as_str().and_then(|a| a.strip_suffix('%')?.trim().parse::<f64>().ok());
    let alpha = alpha.as_f64().or(written.map(|w| w / 100.0)).unwrap_or(0.05);
    (1.0 - alpha) * 100.0
}

fn text(state: &State, metrics: &MetricsRecord, confidence: f64) -> String {
    let tick = format!("Evidence up to {} UTC.", say::moment(metrics.tick));
    let mut lines = vec![headline(state), tick, String::new()];
    for it in told(metrics) {
        lines.push(format!("{} of {} ({})", it.name, it.candidate, it.role));
        lines.extend(metric(it, metrics, confidence).iter().map(|c| format!("  {c}")));
        lines.push(String::new());
    }
    lines.extend(metrics.arms.iter().map(arm));
    lines.push(String::new());
    lines.push(health(&metrics.health));
    lines.push(format!("Verdict: {}. {}", metrics.verdict, metrics.reason));
    lines.push(next(state, metrics));
    lines.join("\n")
}

/// Returns every metric, and the segments that have an alert.
pub(crate) fn told(metrics: &MetricsRecord) -> impl Iterator<Item = &FindingRecord> {
    let alerts = metrics.segments.iter().filter(|m| m.verdict == "alert");
    metrics.metrics.iter().chain(alerts)
}

/// Returns the stable version; empty if no arm is stable.
pub(crate) fn stable_of(metrics: &MetricsRecord) -> &str {
    metrics.arms.iter().find(|m| m.role == "stable").map_or("", |m| &m.version)
}

/// Returns the sentences about one metric.
pub(crate) fn metric(it: &FindingRecord, metrics: &MetricsRecord, confidence: f64) -> Vec<String> {
    let stable = stable_of(metrics);
    let candidate = &it.candidate;
    let mut said = Vec::new();
    let n = say::count(it.n);
    let Some(difference) = it.difference else {
        return vec![format!("Nothing to compare yet ({n} cases compared).")];
    };
    let relative = it.kind == "latency";
    let amount = |value: f64| {
        if relative { format!("{:+.1} %", value * 100.0) } else { say::signed(value) }
    };
    said.push(format!(
        "{candidate} has {}, {stable} has {} over all stages; stage by stage the difference is {}, over {n} compared cases.",
        estimate(it, candidate),
        estimate(it, stable),
        amount(difference.estimate)
    ));
    if let (Some(low), Some(high)) = (difference.low, difference.high) {
        said.push(format!(
            "It lies between {} and {}, at {confidence:.0} % for all looks together; worse by {} is allowed.",
            amount(low),
            amount(high),
            amount(it.margin).trim_start_matches('+')
        ));
    }
    if let Some(p) = &it.p {
        said.push(format!("{} {}", verdict(it), anytime(p)));
    }
    if let Some(classic) = &it.classic {
        said.push(format!(
            "A classic {} gives p {}: to be believed only had the size been fixed beforehand and looked at once.",
            classic.test.replace('_', " "),
            small(classic.p)
        ));
    }
    if it.design_effect.is_none() {
        said.push(
            "The same few units come again and again: too few of them to tell chance from a difference, so nothing can be proved."
                .to_owned(),
        );
    }
    if let Some(effect) = it.design_effect.filter(|a| *a > 1.0) {
        said.push(format!(
            "Cases of one unit resemble each other: {} of them tell as much as one (design effect), which is allowed for in all of \
             the above but the classic test.",
            say::number(effect)
        ));
    }
    said
}

fn verdict(it: &FindingRecord) -> String {
    let candidate = &it.candidate;
    match it.verdict.as_str() {
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

/// Returns the sentence about the anytime-valid p-values.
fn anytime(p: &TriadRecord) -> String {
    format!(
        "However often you look: p {} for non-inferior, {} for superior, {} for harm.",
        small(p.non_inferior),
        small(p.superior),
        small(p.harm)
    )
}

pub(crate) fn arm(it: &ArmRecord) -> String {
    let coverage = it.coverage.map_or(String::new(), |n| {
        format!(", {} of the mature ones with a label in time", say::percent(n))
    });
    format!(
        "{} ({}) serves {}: asked in {} cases, {} answered, {} errors, {} timeouts, {} mature{coverage}.",
        it.version,
        it.role,
        say::percent(it.share),
        say::count(it.exposures),
        say::count(it.answered),
        say::count(it.errors),
        say::count(it.timeouts),
        say::count(it.mature)
    )
}

pub(crate) fn health(health: &HealthRecord) -> String {
    let mut wrong: Vec<String> = Vec::new();
    if health.split.verdict == CheckVerdict::Bad {
        wrong.push("traffic is not split as planned".to_owned());
    }
    if health.label_parity.verdict == CheckVerdict::Bad {
        wrong.push("labels come or are missing unequally".to_owned());
    }
    if health.mixed_units > 0 {
        wrong.push("units met two arms".to_owned());
    }
    if health.no_data {
        wrong.push("no fresh traffic comes".to_owned());
    }
    wrong.extend(health.scoring.iter().map(say::gap));
    if wrong.is_empty() {
        "The measurement is sound: traffic is split as planned, labels come alike, data is fresh."
            .to_owned()
    } else {
        format!("The measurement is not to be trusted: {}.", wrong.join("; "))
    }
}

/// Returns the sentence about the next step, and about the commands that a person can run.
fn next(state: &State, metrics: &MetricsRecord) -> String {
    let name = state.rollout().unwrap_or(&state.model);
    match state.phase {
        Phase::Progressing => match metrics.eta {
            Some(at) => format!("Next: at this pace not before {} UTC.", say::moment(at)),
            None => "Next: it goes on by itself once the verdict changes.".to_owned(),
        },
        Phase::Paused => {
            format!("Next: a person; `serinus resume {name}` or `serinus abort {name}`.")
        }
        Phase::Concluded => {
            format!("Next: a person; `serinus promote {name}` or `serinus abort {name}`.")
        }
        phase @ (Phase::Idle
        | Phase::Pending
        | Phase::Promoted
        | Phase::Aborted
        | Phase::Inconclusive) => format!("Next: nothing; it is over ({}).", phase.word()),
    }
}

/// Returns the text of a p-value; a small one has a power of ten.
fn small(p: f64) -> String {
    if p >= 0.001 { format!("{p:.3}") } else { format!("{p:.1e}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::text;
    use crate::cli::fixtures_for_tests::{arm, finding, metrics, state};

    #[test]
    fn a_report_says_when_each_number_may_be_believed() {
        let state = state(json!({
            "stage": 2, "shares": {"v2": 0.25},
            "spec": {"kind": "Rollout", "spec": {"stages": [{}, {}, {}, {}], "decide": {"alpha": 0.05}}},
        }));
        let value =
            |estimate: f64| json!({"estimate": estimate, "low": null, "high": null, "n": 3900});
        let metrics = metrics(json!({
            "arms": [arm(json!({
                "share": 0.75, "exposures": 5031, "answered": 5030, "timeouts": 1, "mature": 3900, "coverage": 0.98,
            }))],
            "metrics": [
                finding(json!({
                    "n": 3900, "arms": {"v1": value(0.128), "v2": value(0.115)},
                    "difference": {"estimate": -0.013, "low": -0.021, "high": -0.004},
                    "p": {"harm": 1.0, "non_inferior": 5.5e-5, "superior": 0.012},
                    "classic": {"test": "welch_t", "statistic": -3.1, "p": 0.002},
                    "design_effect": 1.8, "verdict": "proved",
                })),
                finding(json!({"name": "auc", "kind": "auc", "role": "watch"})),
            ],
            "eta": 1_377_993_600_000_i64,
        }));
        insta::assert_snapshot!(text(&state, &metrics.record, 95.0), @r"
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
