//! The state of the rollout as its topics show it, and its text. Nothing is read from the application itself.

use std::collections::BTreeMap;

use hashbrown::HashSet;

use crate::cli::output::columns;
use crate::cli::say;
use crate::cli::state::shares;
use crate::cli::status::{difference, estimate};
use crate::demo::screen::{Screen, Style, moment};
use crate::kafka::client::topic_reader::Record;
use crate::wire::analysis::AnalysisRecord;
use crate::wire::event::{EventRecord, PositionRecord};
use crate::wire::headers;
use crate::wire::metrics::MetricsRecord;

const DAY_MS: i64 = 86_400_000;

/// The topics that are read.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Answers served.
    pub served: String,
    /// Rows joined.
    pub analysis: String,
    /// Changes.
    pub events: String,
    /// Evidence.
    pub metrics: String,
}

/// Counts of the served topic.
#[derive(Debug, Default)]
pub struct Served {
    /// Records.
    pub records: u64,
    /// Request ids among them.
    pub ids: HashSet<String>,
    /// Records that the requested version did not serve.
    pub not_ok: u64,
    /// Records by routing revision and version.
    pub by: BTreeMap<(u64, String), u64>,
}

/// The state that the topics have shown so far.
#[derive(Debug, Default)]
pub struct Scene {
    /// The served records.
    pub served: Served,
    /// Joined rows with a label.
    pub labelled: u64,
    /// Joined rows without one.
    pub missing: u64,
    /// The act's rollout.
    pub rollout: String,
    /// Its stages.
    pub stages: usize,
    /// The newest routing.
    pub routing: Option<PositionRecord>,
    /// The newest evidence of the rollout.
    pub metrics: Option<MetricsRecord>,
    /// The event that ended the rollout.
    pub ending: Option<EventRecord>,
    /// The answer to the last command.
    pub answer: Option<EventRecord>,
    /// The time of the newest evidence with traffic.
    pub tick: i64,
    day: i64,
}

impl Scene {
    /// Starts with another rollout.
    pub fn turn_to(&mut self, rollout: &str, stages: usize) {
        rollout.clone_into(&mut self.rollout);
        self.stages = stages;
        self.metrics = None;
        self.ending = None;
        (self.tick, self.day) = (0, 0);
    }

    /// Processes a record; returns the lines to print.
    pub fn take(&mut self, record: &Record, sources: &Sources, screen: &Screen) -> Vec<String> {
        if record.topic == sources.served {
            self.served.records += 1;
            self.served.not_ok += u64::from(record.header(headers::OUTCOME) != Some("ok"));
            if let Some(id) = record.header(headers::REQUEST_ID) {
                self.served.ids.insert(id.to_owned());
            }
            let revision = record.header(headers::REVISION).and_then(|h| h.parse().ok());
            let version = record.header(headers::VERSION).unwrap_or("none").to_owned();
            *self.served.by.entry((revision.unwrap_or(0), version)).or_default() += 1;
            return Vec::new();
        }
        let bytes = record.value.as_deref().unwrap_or_default();
        if record.topic == sources.analysis {
            // Only the first row of a case is counted.
            if let Ok(row) = AnalysisRecord::read(bytes)
                && row.row_version <= 1
            {
                let is_missing = say::word(row.label_status) == "missing";
                self.missing += u64::from(is_missing);
                self.labelled += u64::from(!is_missing);
            }
            return Vec::new();
        }
        if record.topic == sources.events {
            EventRecord::read(bytes).map_or_else(|_| Vec::new(), |event| self.event(event, screen))
        } else {
            MetricsRecord::read(bytes).map_or_else(|_| Vec::new(), |metrics| self.tick(metrics))
        }
    }

    fn event(&mut self, event: EventRecord, screen: &Screen) -> Vec<String> {
        if event.command_id.is_some() {
            self.answer = Some(event.clone());
        }
        if event.verdict.word() != "conflict" {
            self.routing = Some(event.to.clone());
        }
        if event.rollout.as_ref() != Some(&self.rollout) {
            return Vec::new();
        }
        let (phase, verdict) = (event.to.phase.word(), event.verdict.word());
        let (is_end, style) = match phase {
            "Aborted" | "Inconclusive" => (true, Style::Bad),
            "Concluded" | "Promoted" => (true, Style::Good),
            _ => (false, Style::Bold),
        };
        let when = event.evidence.as_ref().map_or_else(|| " ".repeat(12), |e| moment(e.tick));
        let word = screen.styled(style, &format!("{}:", verdict.to_uppercase()));
        let to = format!("{phase}, {}", shares(Some(&event.to)));
        let mut lines = vec![format!("  {when}  {word} {to}")];
        if verdict != "apply" {
            lines.push(format!("                {}", event.reason));
        }
        if is_end && self.ending.is_none() {
            self.ending = Some(event);
        }
        lines
    }

    /// Prints the evidence once a day.
    fn tick(&mut self, metrics: MetricsRecord) -> Vec<String> {
        if metrics.rollout != self.rollout {
            return Vec::new();
        }
        let metrics = self.metrics.insert(metrics);
        let has_traffic = metrics.arms.iter().any(|a| a.exposures > 0);
        if self.ending.is_some() || !has_traffic {
            return Vec::new();
        }
        let tick = metrics.tick;
        self.tick = tick;
        let day = tick.div_euclid(DAY_MS);
        if day <= self.day {
            return Vec::new();
        }
        self.day = day;
        let stage = format!("stage {} of {}", u64::from(metrics.stage) + 1, self.stages);
        let goal = metrics.metrics.iter().find(|a| a.role == "goal");
        let goal = goal.map_or_else(String::new, |n| format!("{} {}", n.name, difference(n)));
        let reason = &metrics.reason;
        let waits = reason.rsplit_once("; ").map_or(reason.as_str(), |(_, last)| last).to_owned();
        vec![format!("  {}  {stage}  {:<22} {goal}; {waits}", moment(tick), self.serving())]
    }

    /// Returns the status line.
    pub fn status(&self, now: i64) -> String {
        format!(
            "{}  {}  {} served, truth known of {}",
            moment(now),
            self.serving(),
            say::count(self.served.records),
            say::count(self.labelled)
        )
    }

    /// Returns how many requests each version served with the routing after the end of the rollout. `None` while the rollout is in
    /// progress, and if its end did not change the routing.
    pub fn aftermath(&self) -> Option<String> {
        let ending = self.ending.as_ref()?;
        let revision = ending.to.revision;
        if ending.from.as_ref().is_some_and(|from| from.revision == revision) {
            return None;
        }
        let said: Vec<String> = self
            .served
            .by
            .iter()
            .filter(|((b, _), _)| *b == revision)
            .map(|((_, version), n)| format!("{version} {}", say::count(*n)))
            .collect();
        (!said.is_empty()).then(|| format!("  Served since then: {}.", said.join(", ")))
    }

    /// Returns the share of each version: `v1 95%, v2 5%`.
    fn serving(&self) -> String {
        let said = shares(self.routing.as_ref()).replace(" (stable)", "");
        said.split(';').next().unwrap_or_default().to_owned()
    }

    /// Returns a table of the evidence with which the rollout ended, or else of the newest one: a row for each metric.
    pub fn table(&self) -> String {
        let evidence = self.ending.as_ref().and_then(|e| e.evidence.as_deref());
        let evidence = evidence.or(self.metrics.as_ref());
        let (arms, metrics) = evidence.map_or((&[][..], &[][..]), |e| (&e.arms, &e.metrics));
        let stable = arms.first().map_or("stable", |arm| &arm.version);
        let mut rows = Vec::new();
        for it in metrics {
            let candidate = &it.candidate;
            let limit = if it.role == "watch" { "-".to_owned() } else { say::number(it.margin) };
            rows.push(vec![
                it.name.clone(),
                it.role.clone(),
                format!("{stable} {}", estimate(it, stable)),
                format!("{candidate} {}", estimate(it, candidate)),
                difference(it),
                limit,
                say::count(it.n),
                it.verdict.replace('_', " "),
            ]);
        }
        for arm in arms {
            let ms = |quantile: Option<f64>| say::or_dash(quantile, say::number);
            rows.push(vec![
                format!("latency of {}", arm.version),
                String::new(),
                format!("p50 {} ms", ms(arm.latency_ms.map(|l| l.p50))),
                format!("p99 {} ms", ms(arm.latency_ms.map(|l| l.p99))),
                format!("{} answers", say::count(arm.answered)),
            ]);
        }
        let heading =
            ["METRIC", "ROLE", "STABLE", "CANDIDATE", "DIFFERENCE", "LIMIT", "COMPARED", "VERDICT"];
        let lines: Vec<String> =
            columns(&heading, rows).lines().map(|r| format!("    {r}")).collect();
        lines.join("\n")
    }
}
