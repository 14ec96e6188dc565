//! What is known of the rollout from its topics, and how it is told. Nothing here comes from inside.

use std::collections::BTreeMap;

use hashbrown::HashSet;
use serde_json::Value;

use crate::cli::context::value_of;
use crate::cli::output::columns;
use crate::cli::say;
use crate::cli::state::shares;
use crate::cli::status::difference;
use crate::demo::screen::{Screen, Style, moment};
use crate::kafka::client::topic_reader::Record;
use crate::wire::headers;

const DAY_MS: i64 = 86_400_000;

/// The topics that are looked at.
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

/// What the served topic shows.
#[derive(Debug, Default)]
pub struct Served {
    /// Records.
    pub records: u64,
    /// Request ids among them.
    pub ids: HashSet<String>,
    /// Those that were not served by the version that was asked.
    pub not_ok: u64,
    /// Records by routing revision and version.
    pub by: BTreeMap<(u64, String), u64>,
}

/// What the topics have told so far.
#[derive(Debug, Default)]
pub struct Scene {
    /// What was served.
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
    pub routing: Value,
    /// The newest evidence of the rollout.
    pub metrics: Value,
    /// How it ended, once it has: the event.
    pub ending: Option<Value>,
    /// The answer to the last command.
    pub answer: Option<Value>,
    /// The time of the newest evidence that rests on traffic.
    pub tick: i64,
    day: i64,
}

impl Scene {
    /// Turns to another rollout.
    pub fn turn_to(&mut self, rollout: &str, stages: usize) {
        rollout.clone_into(&mut self.rollout);
        self.stages = stages;
        self.metrics = Value::Null;
        self.ending = None;
        (self.tick, self.day) = (0, 0);
    }

    /// Takes a record in; returns the lines that it is worth.
    pub fn take(&mut self, record: &Record, sources: &Sources, screen: &Screen) -> Vec<String> {
        if record.topic == sources.served {
            self.served.records += 1;
            self.served.not_ok += u64::from(record.header(headers::OUTCOME) != Some("ok"));
            if let Some(id) = record.header(headers::REQUEST_ID) {
                self.served.ids.insert(id.to_owned());
            }
            let revision = record.header(headers::REVISION).and_then(|h| h.parse().ok());
            let version = record.header(headers::VERSION).unwrap_or("nobody").to_owned();
            *self.served.by.entry((revision.unwrap_or(0), version)).or_default() += 1;
            return Vec::new();
        }
        let value = value_of(record);
        if record.topic == sources.analysis {
            // Later rows of a case are not further cases.
            if value["row_version"].as_u64().unwrap_or(1) <= 1 {
                let is_missing = value["label_status"] == "missing";
                self.missing += u64::from(is_missing);
                self.labelled += u64::from(!is_missing);
            }
            return Vec::new();
        }
        if record.topic == sources.events { self.event(value, screen) } else { self.tick(value) }
    }

    fn event(&mut self, event: Value, screen: &Screen) -> Vec<String> {
        if event["command_id"].is_string() {
            self.answer = Some(event.clone());
        }
        if event["verdict"] != "conflict" {
            self.routing = event["to"].clone();
        }
        if event["rollout"] != self.rollout.as_str() {
            return Vec::new();
        }
        let phase = event["to"]["phase"].as_str().unwrap_or("Idle");
        let is_end = matches!(phase, "Concluded" | "Promoted" | "Aborted" | "Inconclusive");
        let style = match phase {
            "Aborted" | "Inconclusive" => Style::Bad,
            "Concluded" | "Promoted" => Style::Good,
            _ => Style::Bold,
        };
        let at = event["evidence"]["tick"].as_i64();
        let when = at.map_or_else(|| " ".repeat(12), moment);
        let word = event["verdict"].as_str().unwrap_or("-").to_uppercase();
        let to = format!("{phase}, {}", shares(&event["to"]));
        let reason = event["reason"].as_str().unwrap_or("no reason was given");
        let mut lines =
            vec![format!("  {when}  {} {to}", screen.styled(style, &format!("{word}:")))];
        if word != "APPLY" {
            lines.push(format!("                {reason}"));
        }
        if is_end && self.ending.is_none() {
            self.ending = Some(event);
        }
        lines
    }

    /// Evidence is printed once a day.
    fn tick(&mut self, metrics: Value) -> Vec<String> {
        if metrics["rollout"] != self.rollout.as_str() {
            return Vec::new();
        }
        self.metrics = metrics;
        let has_traffic = self.metrics["arms"]
            .as_array()
            .is_some_and(|arms| arms.iter().any(|a| a["exposures"].as_u64() > Some(0)));
        if self.ending.is_some() || !has_traffic {
            return Vec::new();
        }
        let tick = self.metrics["tick"].as_i64().unwrap_or(0);
        self.tick = tick;
        let day = tick.div_euclid(DAY_MS);
        if day <= self.day {
            return Vec::new();
        }
        self.day = day;
        let stage = format!(
            "stage {} of {}",
            self.metrics["stage"].as_u64().map_or(0, |a| a + 1),
            self.stages
        );
        let goal = self.metrics["metrics"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|a| a["role"] == "goal")
            .map_or_else(String::new, |n| format!("{} {}", word(&n["name"]), difference(n)));
        let reason = self.metrics["reason"].as_str().unwrap_or("-");
        let waits = reason.rsplit_once("; ").map_or(reason, |(_, last)| last);
        vec![format!("  {}  {stage}  {:<22} {goal}; {waits}", moment(tick), self.serving())]
    }

    /// Says what is going on, in one line.
    pub fn status(&self, now: i64) -> String {
        format!(
            "{}  {}  {} served, truth known of {}",
            moment(now),
            self.serving(),
            say::count(self.served.records),
            say::count(self.labelled)
        )
    }

    /// Says who served at the routing that the rollout ended with; nothing while it goes on, or where the end changed no routing.
    pub fn aftermath(&self) -> Option<String> {
        let ending = self.ending.as_ref()?;
        let revision = ending["to"]["revision"].as_u64()?;
        if ending["from"]["revision"] == revision {
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

    /// Says who serves: `v1 95%, v2 5%`.
    fn serving(&self) -> String {
        let said = shares(&self.routing).replace(" (stable)", "");
        said.split(';').next().unwrap_or_default().to_owned()
    }

    /// Returns the evidence as it was when the rollout ended, or as it is now: one line a metric.
    pub fn table(&self) -> String {
        let evidence = self.ending.as_ref().map(|e| &e["evidence"]).filter(|i| i.is_object());
        let evidence = evidence.unwrap_or(&self.metrics);
        let arms: Vec<&Value> = evidence["arms"].as_array().into_iter().flatten().collect();
        let names: Vec<&str> = arms.iter().map(|a| word(&a["version"])).collect();
        let stable = names.first().copied().unwrap_or("stable");
        let mut rows = Vec::new();
        for it in evidence["metrics"].as_array().into_iter().flatten() {
            let candidate = word(&it["candidate"]);
            let value = |version: &str| say::or_dash(&it["arms"][version]["estimate"], say::number);
            let is_watched = it["role"] == "watch";
            let limit =
                if is_watched { "-".to_owned() } else { say::or_dash(&it["margin"], say::number) };
            rows.push(vec![
                word(&it["name"]).to_owned(),
                word(&it["role"]).to_owned(),
                format!("{stable} {}", value(stable)),
                format!("{candidate} {}", value(candidate)),
                difference(it),
                limit,
                say::count_or_dash(&it["n"]),
                word(&it["verdict"]).replace('_', " "),
            ]);
        }
        for arm in arms {
            let ms = |name: &str| say::or_dash(&arm["latency_ms"][name], say::number);
            rows.push(vec![
                format!("latency of {}", word(&arm["version"])),
                String::new(),
                format!("p50 {} ms", ms("p50")),
                format!("p99 {} ms", ms("p99")),
                format!("{} answers", say::count_or_dash(&arm["answered"])),
            ]);
        }
        let heading =
            ["METRIC", "ROLE", "STABLE", "CANDIDATE", "DIFFERENCE", "LIMIT", "COMPARED", "VERDICT"];
        let lines: Vec<String> =
            columns(&heading, rows).lines().map(|r| format!("    {r}")).collect();
        lines.join("\n")
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
