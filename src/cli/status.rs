//! `serinus status`: where a rollout stands, on what evidence, and waiting for its end.

use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::{Context, value_of};
use crate::cli::error::{CliError, Exit};
use crate::cli::global::duration;
use crate::cli::names::{self, Asked, Meant, NameArgs};
use crate::cli::output::{columns, talk};
use crate::cli::say;
use crate::cli::state::{self, State};
use crate::kafka::client::error::ReadError;
use crate::kafka::client::topic_reader::{Start, TopicReader, Which};
use crate::kafka::process::clock;
use crate::kafka::process::wait::Deadline;
use crate::kafka::serving::write_failures::{self, Notice};

/// How far back in the metrics the newest is looked for first.
const METRICS_NEAR: i64 = 500;
/// Age from which a notice of an instance says nothing of now: it says it again every 10 s.
const NOTICE_AGE_MAX_MS: i64 = 60_000;

/// What `status` takes.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Wait until the rollout has ended or needs a person; the exit code says how
    #[arg(long)]
    wait: bool,
    /// How long to wait at most; without it, as long as it takes
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
}

/// Prints where a rollout stands.
pub(crate) fn run(args: &StatusArgs, context: &Context) -> Result<Exit, CliError> {
    let asked = args.name.asked()?;
    let (state, exit) = if args.wait {
        await_end(asked.clone(), args.timeout, context)?
    } else {
        (Some(names::standing(context, &context.reader()?, &asked)?), Exit::Reached)
    };
    let Some(state) = state else {
        talk(&format!("there is still no rollout or model `{}`", asked.said()));
        return Ok(exit);
    };
    let metrics = newest_metrics(context, &context.reader()?, &state)?;
    let unwritable = unwritable(context, &state)?;
    let value = json!({ "state": state.record, "metrics": metrics, "unwritable": unwritable });
    context.output.document(&value, || {
        let topics = unwritable.iter().map(not_sent);
        std::iter::once(text(&state, metrics.as_ref())).chain(topics).collect::<Vec<_>>().join("\n")
    })?;
    Ok(exit)
}

/// Reads which topics of a model's versions some instance could not write of late.
fn unwritable(context: &Context, state: &State) -> Result<Vec<Notice>, CliError> {
    let mut notices = write_failures::read(&context.settings()?)
        .map_err(|error| CliError::Run(Box::new(error)))?;
    let oldest = clock::now().0 - NOTICE_AGE_MAX_MS;
    notices.retain(|n| n.model == state.model && n.reason.is_some() && n.at >= oldest);
    Ok(notices)
}

fn not_sent(notice: &Notice) -> String {
    let Notice { version, topic, instance, not_sent, since, .. } = notice;
    format!(
        "topics    {topic} takes no copies for {version} since {} UTC: {}; {} not sent by instance {instance}",
        say::moment(*since),
        notice.reason.as_deref().unwrap_or_default(),
        say::count(*not_sent)
    )
}

/// Follows states and events until the wait is over; without a state when none came in time.
fn await_end(
    mut asked: Asked,
    timeout: Option<Duration>,
    context: &Context,
) -> Result<(Option<State>, Exit), CliError> {
    let deadline = Deadline::after(timeout.unwrap_or(Duration::MAX));
    let (rollouts, events) = (context.own("rollouts"), context.own("rollout-events"));
    // Turned to before the present is read, so that no change falls between the two.
    let changes = context
        .reader()?
        .follow(&[&rollouts, &events], Start::BeforeEnd(0))
        .map_err(|error| context.own_error(error))?;
    let reader = context.reader()?;
    let mut known = Seen {
        states: state::read_all(context, &reader)?,
        events: names::events(context, &reader, &asked)?,
    };
    let mut newest = None;
    let mut said = None;
    loop {
        match known.find(&asked)? {
            Some(Meant::Refused(reason)) => return Err(CliError::Refused(reason)),
            Some(Meant::Present(state) | Meant::Waiting(state) | Meant::Over(state)) => {
                let now = headline(&state);
                if said.as_ref().is_some_and(|s| *s != now) {
                    talk(&now);
                }
                said = Some(now);
                // A rollout of this name that another model gets later is not meant.
                asked.model.get_or_insert_with(|| state.model.clone());
                if let Some(exit) = state.ending() {
                    return Ok((Some(state), exit));
                }
                newest = Some(state);
            }
            None if said.is_none() => {
                talk(&format!("there is no rollout or model `{}` yet", asked.said()));
                said = Some(String::new());
            }
            None => {}
        }
        // The client cannot count a distant deadline, so we wait for it in pieces.
        match changes.next(deadline.left().min(Duration::from_mins(1)))? {
            Some(record) if record.topic == events => {
                known.events.extend(names::event_of(&value_of(&record), &asked));
            }
            Some(record) => known.states_take(State::of(&record)),
            None if deadline.is_over() => return Ok((newest, Exit::TimedOut)),
            None => {}
        }
    }
}

/// States and events read so far.
struct Seen {
    states: Vec<State>,
    events: Vec<Value>,
}

impl Seen {
    /// Returns what is meant. Of a rollout that no state is about any more, its events say how it ended.
    fn find(&self, asked: &Asked) -> Result<Option<Meant>, CliError> {
        match names::present(&self.states, asked)? {
            Some(Meant::Waiting(state)) => {
                let told = names::told(&self.events, &state.model, &asked.name);
                Ok(Some(told.unwrap_or(Meant::Waiting(state))))
            }
            Some(meant @ (Meant::Present(_) | Meant::Over(_) | Meant::Refused(_))) => {
                Ok(Some(meant))
            }
            None => names::past(&self.states, &self.events, asked),
        }
    }

    fn states_take(&mut self, state: Option<State>) {
        let Some(state) = state else { return };
        self.states.retain(|s| s.model != state.model);
        self.states.push(state);
    }
}

/// Finds the newest metrics of a state's rollout, if any were written.
pub(crate) fn newest_metrics(
    context: &Context,
    reader: &TopicReader,
    state: &State,
) -> Result<Option<Value>, CliError> {
    let Some(rollout) = state.rollout() else { return Ok(None) };
    let topic = context.own("rollout-metrics");
    for start in [Start::BeforeEnd(METRICS_NEAR), Start::Beginning] {
        let mut newest: Option<Value> = None;
        let scanned = reader.scan(&topic, Which::All, start, |record| {
            if record.key_text().is_none_or(|k| k == rollout) {
                let value = value_of(&record);
                // Those of one rollout stand in one partition, in order. The first has the time of the apply, which a replay of
                // old traffic never comes to.
                if value["rollout"] == rollout && value["model"] == *state.model {
                    newest = Some(value);
                }
            }
            ControlFlow::Continue(())
        });
        match scanned {
            Err(ReadError::NoTopic(_)) => return Ok(None),
            scanned => scanned?,
        }
        if newest.is_some() {
            return Ok(newest);
        }
    }
    Ok(None)
}

/// Says in one line where a rollout stands.
pub(crate) fn headline(state: &State) -> String {
    let name = state.rollout().unwrap_or(&state.model);
    let mut said = vec![state.phase().to_owned()];
    said.extend(state.rollout().map(|_| state.stage()));
    said.push(state.shares());
    format!("{name}: {}", said.join(", "))
}

fn text(state: &State, metrics: Option<&Value>) -> String {
    let mut lines = Vec::new();
    let strategy = metrics.and_then(|m| m["strategy"].as_str());
    match state.rollout() {
        Some(rollout) => lines.push(format!(
            "{rollout}: {} of model {}",
            strategy.unwrap_or("rollout"),
            state.model
        )),
        None => lines.push(format!("model {}", state.model)),
    }
    lines.push(format!("phase     {}", state.phase()));
    if state.rollout().is_some() {
        lines.push(format!("stage     {}", state.stage().trim_start_matches("stage ")));
    }
    lines.push(format!("routing   {}", state.shares()));
    lines.push(format!("revision  {}", say::count_or_dash(state.field("revision"))));
    if let Some(since) = state.field("since").as_i64() {
        lines.push(format!("since     {} UTC", say::moment(since)));
    }
    let metrics = metrics.unwrap_or(&Value::Null);
    let reason = metrics["reason"].as_str().filter(|_| state.ending().is_none());
    if let Some(reason) = reason.or_else(|| state.field("reason").as_str()) {
        lines.push(format!("reason    {reason}"));
    }
    for part in
        [arms(metrics), evidence(metrics), health(metrics), scoring(metrics)].into_iter().flatten()
    {
        lines.push(String::new());
        lines.push(part);
    }
    lines.join("\n")
}

fn arms(metrics: &Value) -> Option<String> {
    let rows: Vec<Vec<String>> = list(&metrics["arms"])
        .map(|m| {
            let ms = |name: &str| say::or_dash(&m["latency_ms"][name], say::number);
            vec![
                word(&m["version"]),
                word(&m["role"]),
                say::or_dash(&m["share"], say::percent),
                say::count_or_dash(&m["exposures"]),
                say::count_or_dash(&m["errors"]),
                say::count_or_dash(&m["timeouts"]),
                say::count_or_dash(&m["fallbacks"]),
                say::count_or_dash(&m["mature"]),
                say::count_or_dash(&m["labelled"]),
                say::or_dash(&m["coverage"], say::percent),
                format!("{} / {}", ms("p50"), ms("p99")),
            ]
        })
        .collect();
    let heading = [
        "ARM",
        "ROLE",
        "SHARE",
        "ASKED",
        "ERRORS",
        "TIMEOUTS",
        "FALLBACKS",
        "MATURE",
        "LABELLED",
        "COVERAGE",
        "MS P50 / P99",
    ];
    (!rows.is_empty()).then(|| columns(&heading, rows))
}

fn evidence(metrics: &Value) -> Option<String> {
    // Of the segments only those that should be looked at.
    let alerts = list(&metrics["segments"]).filter(|m| m["verdict"] == "alert");
    let stable = list(&metrics["arms"])
        .find(|m| m["role"] == "stable")
        .map(|i| word(&i["version"]))
        .unwrap_or_default();
    let rows: Vec<Vec<String>> = list(&metrics["metrics"])
        .chain(alerts)
        .map(|a| {
            let candidate = word(&a["candidate"]);
            let of = |arm: &str| say::or_dash(&a["arms"][arm]["estimate"], say::number);
            vec![
                word(&a["name"]),
                word(&a["role"]),
                of(&stable),
                format!("{candidate} {}", of(&candidate)),
                difference(a),
                say::or_dash(&a["margin"], say::number),
                say::count_or_dash(&a["n"]),
                word(&a["verdict"]),
            ]
        })
        .collect();
    let of_stable = stable.to_uppercase();
    let heading =
        ["METRIC", "ROLE", &of_stable, "CANDIDATE", "DIFFERENCE", "MARGIN", "COMPARED", "VERDICT"];
    (!rows.is_empty()).then(|| columns(&heading, rows))
}

/// Says a difference with its interval: `-0.013 [-0.021, -0.004]`.
pub(crate) fn difference(metric: &Value) -> String {
    let it = &metric["difference"];
    let estimate = say::or_dash(&it["estimate"], say::signed);
    match (it["low"].as_f64(), it["high"].as_f64()) {
        (Some(low), Some(high)) => {
            format!("{estimate} [{}, {}]", say::signed(low), say::signed(high))
        }
        _ => estimate,
    }
}

fn health(metrics: &Value) -> Option<String> {
    let health = metrics["health"].as_object()?;
    let said: Vec<String> = health
        .iter()
        // Each point of a check by itself is for those who read the record; the reason says which one is bad.
        .filter(|(name, h)| {
            *name != "scoring" && h.as_object().is_none_or(|a| a.contains_key("verdict"))
        })
        .map(|(name, c)| {
            let name = name.replace('_', " ");
            match c {
                Value::Object(members) => {
                    let p = say::or_dash(&c["p"], say::number);
                    let verdict = members.get("verdict").map(word).unwrap_or_default();
                    format!("{name}: {verdict} (p {p})")
                }
                Value::Bool(is) => format!("{name}: {}", if *is { "yes" } else { "no" }),
                Value::Number(number) => match number.as_u64() {
                    Some(count) => format!("{name}: {}", say::count(count)),
                    None => format!("{name}: {}", say::or_dash(c, say::number)),
                },
                Value::String(said) => format!("{name}: {said}"),
                Value::Null | Value::Array(_) => format!("{name}: -"),
            }
        })
        .collect();
    Some(format!("health    {}", said.join("; ")))
}

/// Says which cases could not be scored, one line for each metric, version and reason.
fn scoring(metrics: &Value) -> Option<String> {
    let gaps: Vec<String> = list(&metrics["health"]["scoring"])
        .map(|gap| format!("scoring   {}", say::gap(gap)))
        .collect();
    (!gaps.is_empty()).then(|| gaps.join("\n"))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::text;
    use crate::cli::state::State;

    #[test]
    fn a_status_says_stage_evidence_and_reason() {
        let record = json!({
            "rollout": "flights-v2", "model": "flights", "phase": "Progressing", "stage": 2, "revision": 7,
            "stable": "v1", "shares": {"v2": 0.25}, "shadows": {}, "since": 1_377_993_600_000_i64, "reason": "advanced",
            "spec": {"kind": "Rollout", "spec": {"stages": [{}, {}, {}, {}]}},
        });
        let state = State { model: "flights".to_owned(), record };
        let metrics = json!({
            "rollout": "flights-v2", "strategy": "canary", "tick": 1_377_990_000_000_i64,
            "arms": [
                {"version": "v1", "role": "stable", "share": 0.75, "exposures": 5031, "errors": 0, "timeouts": 1,
                 "fallbacks": 0, "mature": 3900, "labelled": 4100, "coverage": 0.98,
                 "latency_ms": {"p50": 3.1, "p99": 9.7}},
                {"version": "v2", "role": "candidate", "share": 0.25, "exposures": 1677},
            ],
            "metrics": [
                {"name": "brier", "role": "goal", "candidate": "v2", "n": 3900,
                 "arms": {"v1": {"estimate": 0.128}, "v2": {"estimate": 0.115}},
                 "difference": {"estimate": -0.013, "low": -0.021, "high": -0.004}, "margin": 0.01, "verdict": "proved"},
            ],
            "health": {"split": {"p": 0.4, "verdict": "ok"}, "mixed_units": 0, "no_data": false,
                       "scoring": [{"metric": "brier", "version": "v2", "reason": "not finite", "share": 0.331, "sample": ["r1", "r5", "r9"]}]},
            "verdict": "hold", "reason": "holding until 14:30",
        });
        insta::assert_snapshot!(text(&state, Some(&metrics)), @r"
        flights-v2: canary of model flights
        phase     Progressing
        stage     3 of 4
        routing   v1 75% (stable), v2 25%
        revision  7
        since     2013-09-01 00:00:00 UTC
        reason    holding until 14:30

        ARM  ROLE       SHARE  ASKED  ERRORS  TIMEOUTS  FALLBACKS  MATURE  LABELLED  COVERAGE  MS P50 / P99
        v1   stable     75%    5,031  0       1         0          3,900   4,100     98%       3.10 / 9.70
        v2   candidate  25%    1,677  -       -         -          -       -         -         - / -

        METRIC  ROLE  V1     CANDIDATE  DIFFERENCE                MARGIN  COMPARED  VERDICT
        brier   goal  0.128  v2 0.115   -0.013 [-0.021, -0.0040]  0.010   3,900     proved

        health    mixed units: 0; no data: no; split: ok (p 0.400)

        scoring   brier of v2: 33.1% of the labelled cases cannot be scored (not finite), such as r1, r5, r9
        ");
    }
}
