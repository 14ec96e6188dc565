//! `serinus status`: where a rollout stands, on what evidence, and waiting for its end.

use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::decoded::Decoded;
use crate::cli::error::{CliError, Exit};
use crate::cli::global::duration;
use crate::cli::names::{self, Asked, Event, Meant, NameArgs};
use crate::cli::output::{columns, talk};
use crate::cli::report::{stable_of, told};
use crate::cli::say;
use crate::cli::state::{self, State};
use crate::kafka::client::error::ReadError;
use crate::kafka::client::topic_reader::{Start, TopicReader, Which};
use crate::kafka::process::clock;
use crate::kafka::process::wait::Deadline;
use crate::kafka::serving::write_failures::{self, Notice};
use crate::wire::metrics::{ArmRecord, CheckRecord, FindingRecord, HealthRecord, MetricsRecord};

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
    let value = json!({ "state": state.value, "metrics": metrics.as_ref().map(|m| &m.value), "unwritable": unwritable });
    context.output.document(&value, || {
        let topics = unwritable.iter().map(not_sent);
        let text = text(&state, metrics.as_ref().map(|m| &m.record));
        std::iter::once(text).chain(topics).collect::<Vec<_>>().join("\n")
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
                known.events.extend(names::event_of(&record, &asked));
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
    events: Vec<Event>,
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

/// Finds the newest metrics of a state's rollout, if there are any that can be decoded.
pub(crate) fn newest_metrics(
    context: &Context,
    reader: &TopicReader,
    state: &State,
) -> Result<Option<Decoded<MetricsRecord>>, CliError> {
    let Some(rollout) = state.rollout() else { return Ok(None) };
    let topic = context.own("rollout-metrics");
    for start in [Start::BeforeEnd(METRICS_NEAR), Start::Beginning] {
        let mut newest: Option<Decoded<MetricsRecord>> = None;
        let scanned = reader.scan(&topic, Which::All, start, |record| {
            if record.key_text().is_none_or(|k| k == rollout) {
                // The metrics of one rollout are in one partition, so the last one is the newest. Their ticks do not show it: the first
                // tick is the time of the apply, which a replay of old traffic never reaches.
                let decoded: Option<Decoded<MetricsRecord>> = Decoded::of(&record);
                let is_its = |m: &MetricsRecord| m.rollout == rollout && m.model == state.model;
                if let Some(decoded) = decoded.filter(|d| is_its(&d.record)) {
                    newest = Some(decoded);
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
    let mut said = vec![state.phase.word().to_owned()];
    said.extend(state.rollout().map(|_| state.stage()));
    said.push(state.shares());
    format!("{name}: {}", said.join(", "))
}

fn text(state: &State, metrics: Option<&MetricsRecord>) -> String {
    let mut lines = Vec::new();
    let strategy = metrics.map(|m| m.strategy.as_str());
    match state.rollout() {
        Some(rollout) => lines.push(format!(
            "{rollout}: {} of model {}",
            strategy.unwrap_or("rollout"),
            state.model
        )),
        None => lines.push(format!("model {}", state.model)),
    }
    lines.push(format!("phase     {}", state.phase.word()));
    if state.rollout().is_some() {
        lines.push(format!("stage     {}", state.stage().trim_start_matches("stage ")));
    }
    lines.push(format!("routing   {}", state.shares()));
    lines.push(format!("revision  {}", say::count_or_dash(state.revision())));
    if let Some(since) = state.since {
        lines.push(format!("since     {} UTC", say::moment(since)));
    }
    let reason = metrics.map(|m| &m.reason).filter(|_| state.ending().is_none());
    lines.push(format!("reason    {}", reason.unwrap_or(&state.reason)));
    if let Some(metrics) = metrics {
        let health = Some(health(&metrics.health));
        let parts = [arms(&metrics.arms), evidence(metrics), health, scoring(&metrics.health)];
        for part in parts.into_iter().flatten() {
            lines.push(String::new());
            lines.push(part);
        }
    }
    lines.join("\n")
}

fn arms(arms: &[ArmRecord]) -> Option<String> {
    let rows: Vec<Vec<String>> = arms
        .iter()
        .map(|m| {
            let latency = m.latency_ms;
            let (p50, p99) = (latency.map(|l| l.p50), latency.map(|l| l.p99));
            vec![
                m.version.clone(),
                m.role.clone(),
                say::percent(m.share),
                say::count(m.exposures),
                say::count(m.errors),
                say::count(m.timeouts),
                say::count(m.fallbacks),
                say::count(m.mature),
                say::count(m.labelled),
                say::or_dash(m.coverage, say::percent),
                format!("{} / {}", say::or_dash(p50, say::number), say::or_dash(p99, say::number)),
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

fn evidence(metrics: &MetricsRecord) -> Option<String> {
    let stable = stable_of(metrics);
    let rows: Vec<Vec<String>> = told(metrics)
        .map(|a| {
            vec![
                a.name.clone(),
                a.role.clone(),
                estimate(a, stable),
                format!("{} {}", a.candidate, estimate(a, &a.candidate)),
                difference(a),
                say::number(a.margin),
                say::count(a.n),
                a.verdict.clone(),
            ]
        })
        .collect();
    let of_stable = stable.to_uppercase();
    let heading =
        ["METRIC", "ROLE", &of_stable, "CANDIDATE", "DIFFERENCE", "MARGIN", "COMPARED", "VERDICT"];
    (!rows.is_empty()).then(|| columns(&heading, rows))
}

/// Returns the text of a version's value in a metric.
pub(crate) fn estimate(metric: &FindingRecord, version: &str) -> String {
    say::or_dash(metric.arms.get(version).map(|value| value.estimate), say::number)
}

/// Returns the text of a difference with its interval: `-0.013 [-0.021, -0.004]`.
pub(crate) fn difference(metric: &FindingRecord) -> String {
    let Some(it) = metric.difference else { return "-".to_owned() };
    let estimate = say::signed(it.estimate);
    match (it.low, it.high) {
        (Some(low), Some(high)) => {
            format!("{estimate} [{}, {}]", say::signed(low), say::signed(high))
        }
        _ => estimate,
    }
}

fn health(health: &HealthRecord) -> String {
    // The checks at single points and ages are only in the record; the reason names the one that is bad.
    let HealthRecord { split, label_parity, mixed_units, without_unit, lag, unplanned, .. } =
        health;
    let check = |c: &CheckRecord| format!("{} (p {})", say::word(c.verdict), say::number(c.p));
    let no_data = if health.no_data { "yes" } else { "no" };
    let said = [
        format!("label parity: {}", check(label_parity)),
        format!("lag: {}", say::count(*lag)),
        format!("mixed units: {}", say::count(*mixed_units)),
        format!("no data: {no_data}"),
        format!("split: {}", check(split)),
        format!("unplanned: {}", say::count(*unplanned)),
        format!("without unit: {}", say::count(*without_unit)),
    ];
    format!("health    {}", said.join("; "))
}

/// Returns the lines about the cases that could not be scored: one for each metric, version and reason.
fn scoring(health: &HealthRecord) -> Option<String> {
    let gaps: Vec<String> =
        health.scoring.iter().map(|gap| format!("scoring   {}", say::gap(gap))).collect();
    (!gaps.is_empty()).then(|| gaps.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::text;
    use crate::cli::fixtures_for_tests::{arm, finding, metrics, state};

    #[test]
    fn a_status_says_stage_evidence_and_reason() {
        let state = state(json!({
            "stage": 2, "shares": {"v2": 0.25},
            "spec": {"kind": "Rollout", "spec": {"stages": [{}, {}, {}, {}]}},
        }));
        let value =
            |estimate: f64| json!({"estimate": estimate, "low": null, "high": null, "n": 3900});
        let metrics = metrics(json!({
            "arms": [
                arm(json!({"share": 0.75, "exposures": 5031, "timeouts": 1, "mature": 3900, "labelled": 4100, "coverage": 0.98,
                           "latency_ms": {"p50": 3.1, "p95": 5.0, "p99": 9.7}})),
                arm(json!({"version": "v2", "role": "candidate", "share": 0.25, "exposures": 1677})),
            ],
            "metrics": [finding(json!({
                "n": 3900, "arms": {"v1": value(0.128), "v2": value(0.115)},
                "difference": {"estimate": -0.013, "low": -0.021, "high": -0.004}, "verdict": "proved",
            }))],
            "health": {
                "split": {"p": 0.4, "verdict": "ok"}, "label_parity": {"p": 1.0, "verdict": "ok"}, "mixed_units": 0, "lag": 1200,
                "no_data": false,
                "scoring": [{"metric": "brier", "version": "v2", "reason": "not finite", "share": 0.331, "sample": ["r1", "r5", "r9"]}],
            },
        }));
        insta::assert_snapshot!(text(&state, Some(&metrics.record)), @r"
        flights-v2: canary of model flights
        phase     Progressing
        stage     3 of 4
        routing   v1 75% (stable), v2 25%
        revision  7
        since     2013-09-01 00:00:00 UTC
        reason    holding until 14:30

        ARM  ROLE       SHARE  ASKED  ERRORS  TIMEOUTS  FALLBACKS  MATURE  LABELLED  COVERAGE  MS P50 / P99
        v1   stable     75%    5,031  0       1         0          3,900   4,100     98%       3.10 / 9.70
        v2   candidate  25%    1,677  0       0         0          0       0         -         - / -

        METRIC  ROLE  V1     CANDIDATE  DIFFERENCE                MARGIN  COMPARED  VERDICT
        brier   goal  0.128  v2 0.115   -0.013 [-0.021, -0.0040]  0.010   3,900     proved

        health    label parity: ok (p 1.00); lag: 1,200; mixed units: 0; no data: no; split: ok (p 0.400); unplanned: 0; without unit: 0

        scoring   brier of v2: 33.1% of the labelled cases cannot be scored (not finite), such as r1, r5, r9
        ");
    }
}
