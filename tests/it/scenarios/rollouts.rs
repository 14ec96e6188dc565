//! Runs every `tests/scenarios/*.txt` through lanes and judge; `UPDATE=1` rewrites the effects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use serinus_core::domain::ids::Version;
use serinus_core::domain::label::Label;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::analyst::io::Row;
use serinus_core::engine::judge::command::{Parsed, Verb};
use serinus_core::engine::judge::event::RolloutEvent;
use serinus_core::join::entry::LabelStatus;
use serinus_core::plan::rollout::RolloutPlan;

use crate::scenarios::plans::{self, MIDNIGHT};
use crate::statistics::world::{Answer, Extra, World};

/// The number of rows per step up to which each row is listed.
const ROWS_TOLD_MAX: usize = 4;

#[test]
fn every_scenario_has_its_written_effects() {
    happen_as_written("tests/scenarios", run);
}

/// Runs every scenario of a folder and reports differences, or rewrites the effects.
pub(crate) fn happen_as_written(folder: &str, run: impl Fn(&str) -> String) {
    let mut wrong = Vec::new();
    for path in scenarios(folder) {
        let written = std::fs::read_to_string(&path).expect("a scenario can be read");
        let happened = run(&written);
        if written == happened {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &happened).expect("a scenario can be rewritten");
        } else {
            wrong.push(difference(&path, &written, &happened));
        }
    }
    assert!(wrong.is_empty(), "{}\nrun with UPDATE=1 to accept", wrong.join("\n"));
}

#[test]
fn every_strategy_has_its_four_scenarios() {
    let names: Vec<String> = scenarios("tests/scenarios")
        .iter()
        .filter_map(|s| Some(s.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    for strategy in ["shadow", "ab", "canary"] {
        for what in ["routes", "promotes", "aborts", "holds_without_data"] {
            let name = format!("{strategy}_{what}");
            assert!(names.contains(&name), "there is no scenario {name}");
        }
    }
}

fn scenarios(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("there are scenarios")
        .map(|f| f.expect("a folder's entry can be read").path())
        .filter(|p| p.extension().is_some_and(|e| e == "txt"))
        .collect();
    paths.sort();
    paths
}

fn difference(path: &Path, written: &str, happened: &str) -> String {
    let mut text = format!("{}:", path.display());
    let mut lines = written.lines();
    for line in happened.lines() {
        let before = lines.next().unwrap_or("");
        if line != before {
            text.push_str("\n  written:  ");
            text.push_str(before);
            text.push_str("\n  happened: ");
            text.push_str(line);
            break;
        }
    }
    text
}

fn run(text: &str) -> String {
    let mut scenario = Scenario::default();
    with_effects(text, |line| scenario.line(line))
}

/// Returns a scenario with the actual effects of each line.
pub(crate) fn with_effects(text: &str, mut step: impl FnMut(&str) -> Vec<String>) -> String {
    let mut happened = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("=>") {
            continue;
        }
        happened.push_str(line);
        happened.push('\n');
        let bare = line.split('#').next().unwrap_or("").trim();
        if bare.is_empty() {
            continue;
        }
        for effect in step(bare) {
            happened.push_str("      => ");
            happened.push_str(&effect);
            happened.push('\n');
        }
    }
    happened
}

#[derive(Default)]
struct Scenario {
    model: (String, String),
    rollouts: BTreeMap<String, (RolloutPlan, String)>,
    newest: String,
    world: Option<World>,
    seen_changes: usize,
    seen_rows: usize,
    cases: u64,
    /// The traffic so far: the id, the serving version and the label of each case.
    sent: Vec<(String, Version, bool)>,
}

impl Scenario {
    fn line(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["model", name, stable] => {
                self.model = ((*name).to_owned(), (*stable).to_owned());
                self.world = Some(World::new(name, 2));
                Vec::new()
            }
            ["rollout", name, strategy, candidates @ ..] => {
                let plan = plans::rollout(&self.model.0, name, strategy, candidates);
                self.rollouts.insert((*name).to_owned(), (plan, line.to_owned()));
                (*name).clone_into(&mut self.newest);
                Vec::new()
            }
            [clock, step @ ..] if clock.contains(':') => {
                let until = at(clock);
                self.world().wait_until(until);
                let told = self.step(step);
                told.into_iter().chain(self.effects()).collect()
            }
            words => {
                let (plan, text) = self.rollouts.get_mut(&self.newest).expect("a rollout first");
                plans::line(plan, words);
                text.push('\n');
                text.push_str(line);
                Vec::new()
            }
        }
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("a scenario begins with its model")
    }

    fn step(&mut self, words: &[&str]) -> Vec<String> {
        match words {
            ["apply", "model", rest @ ..] => {
                let model = plans::changed(plans::model(&self.model.0, &self.model.1), rest);
                let spec = Parsed::Model(Box::new(model));
                self.world().command(Verb::Apply, None, Some(spec), None);
            }
            ["apply", name, rest @ ..] => {
                let (plan, text) = self.rollouts.get(*name).expect("a rollout of the head").clone();
                let spec = Parsed::Rollout(Box::new(plans::written(plan, &text)));
                self.world().command(Verb::Apply, Some(name), Some(spec), expected(rest));
            }
            ["route", unit] => {
                let route = self.world().route(unit);
                let copies: Vec<String> = route.shadows.iter().map(ToString::to_string).collect();
                let copies = if copies.is_empty() { "none".to_owned() } else { copies.join(", ") };
                let serve = route.serve;
                return vec![format!(
                    "{} serves {unit} (share {:.2}), copies to {copies}",
                    serve.version, serve.propensity
                )];
            }
            ["case", id, unit, astray, answers @ ..] if astray.starts_with("arm=") => {
                let answers: BTreeMap<String, Answer> = answers.iter().map(|a| answer(a)).collect();
                let mut route = self.world().route(unit);
                route.serve.version = astray.trim_start_matches("arm=").into();
                self.world().case_by(route, id, unit, |version| {
                    answers.get(version.as_str()).cloned().unwrap_or(Answer::Nothing)
                });
            }
            ["case", id, unit, answers @ ..] => {
                let answers: BTreeMap<String, Answer> = answers.iter().map(|a| answer(a)).collect();
                self.world().case(id, unit, |version| {
                    answers.get(version.as_str()).cloned().unwrap_or(Answer::Nothing)
                });
            }
            ["traffic", n, "over", span, rest @ ..] => self.traffic(n, span, rest),
            ["label", id, value, rest @ ..] => self.label(id, value, rest),
            ["relabel", version, share] => self.relabel(version, plans::fraction(share)),
            ["restart", "judge"] => self.world().restart_judge(),
            ["callers", behind] => {
                let behind = behind.strip_prefix("behind=").expect("how far their clocks are");
                self.world().behind = plans::span(behind);
            }
            ["wait", span] => {
                let until = self.world().now + plans::span(span);
                self.world().wait_until(until);
            }
            ["status"] => return self.status(),
            [verb, name, rest @ ..] => {
                let verb = Verb::ALL.into_iter().find(|v| v.word() == *verb);
                let verb = verb.expect("a step of a scenario");
                let word = |key: &str| rest.iter().find_map(|w| w.strip_prefix(key));
                let extra = Extra {
                    reason: word("reason=").unwrap_or_default().replace('_', " "),
                    to: word("to=").map(Into::into),
                    by: word("by=").map(plans::span),
                };
                let name = (verb != Verb::Rollback).then_some(*name);
                self.world().command_with(verb, name, None, expected(rest), extra);
            }
            other => panic!("what is {other:?}?"),
        }
        Vec::new()
    }

    /// Sends requests evenly over a span; each version is right, or fails, at its given rate.
    ///
    /// `v2=85%` is right, `v2!=1%` fails, `v2-=10%` is missing from the log; `labels` and `delay` of one arm are `v2.labels` and
    /// `v2.delay`; `units` is the number of units that return.
    fn traffic(&mut self, n: &str, span: &str, words: &[&str]) {
        let n: i64 = n.parse().expect("a whole number");
        let span = plans::span(span);
        let share =
            |key: String| words.iter().find_map(|w| w.strip_prefix(&key)).map(plans::fraction);
        let word = |key: &str| words.iter().find_map(|w| w.strip_prefix(key));
        let units: Option<u64> = word("units=").map(|w| w.parse().expect("a whole number"));
        let start = self.world().now;
        for index in 0..n {
            self.cases += 1;
            let id = format!("t{}", self.cases);
            let at = Timestamp(start.0 + span.0 * index / n);
            self.world().wait_until(at);
            let is_late = chance(&id, "truth") < 0.3;
            let unit = units.map_or(id.clone(), |i| format!("u{}", self.cases % i));
            let arm = self.world().route(&unit).serve.version;
            if chance(&id, &format!("{arm} is lost")) < share(format!("{arm}-=")).unwrap_or(0.0) {
                continue;
            }
            self.sent.push((id.clone(), arm.clone(), is_late));
            let labels = share(format!("{arm}.labels=")).or(share("labels=".to_owned()));
            let delay = word(&format!("{arm}.delay=")).or(word("delay="));
            let delay = plans::span(delay.unwrap_or("5s"));
            self.world().case(&id, &unit, |version: &Version| {
                if chance(&id, &format!("{version} fails"))
                    < share(format!("{version}!=")).unwrap_or(0.0)
                {
                    return Answer::Error;
                }
                let is_right =
                    chance(&id, version.as_str()) < share(format!("{version}=")).unwrap_or(0.9);
                Answer::Score(if is_right == is_late { 0.9 } else { 0.1 })
            });
            if chance(&id, "label") < labels.unwrap_or(1.0) {
                let label = Label {
                    request_id: id.as_str().into(),
                    value: json!({"late": u8::from(is_late)}),
                    observed_at: at + delay,
                    version: 1,
                    retract: false,
                };
                self.world().label_later(label);
            }
        }
        self.world().wait_until(start + span);
    }

    /// Inverts the labels of this share of the traffic that a version served so far.
    fn relabel(&mut self, version: &str, share: f64) {
        for (id, arm, is_late) in std::mem::take(&mut self.sent) {
            if arm.as_str() != version || chance(&id, "relabel") >= share {
                self.sent.push((id, arm, is_late));
                continue;
            }
            let value = u8::from(!is_late).to_string();
            self.label(&id, &value, &["version=2"]);
        }
    }

    fn label(&mut self, id: &str, value: &str, words: &[&str]) {
        let word = |key: &str| words.iter().find_map(|w| w.strip_prefix(key));
        let now = self.world().now;
        let label = Label {
            request_id: id.into(),
            value: json!({"late": value.parse::<u8>().expect("0 or 1")}),
            observed_at: word("at=").map_or(now, at),
            version: word("version=").map_or(1, |w| w.parse().expect("a number")),
            retract: words.contains(&"retract"),
        };
        self.world().label(label);
    }

    fn status(&mut self) -> Vec<String> {
        let Some(report) = self.world().report.clone() else { return vec!["nothing".to_owned()] };
        let arms: Vec<String> = report
            .arms
            .iter()
            .map(|a| {
                format!(
                    "{} share {} exposures {} answered {} labelled {}/{}",
                    a.version, a.share, a.exposures, a.answered, a.labelled, a.mature
                )
            })
            .collect();
        vec![format!("{}: {}", report.verdict, report.reason), arms.join("; ")]
    }

    fn effects(&mut self) -> Vec<String> {
        let (seen_changes, seen_rows) = (self.seen_changes, self.seen_rows);
        let world = self.world();
        let mut told: Vec<String> = Vec::new();
        let rows = &world.rows[seen_rows..];
        if rows.len() <= ROWS_TOLD_MAX {
            told.extend(rows.iter().map(row));
        } else {
            told.push(summary(rows));
        }
        told.extend(world.changes[seen_changes..].iter().map(change));
        let seen = (world.changes.len(), world.rows.len());
        (self.seen_changes, self.seen_rows) = seen;
        told
    }
}

/// A number in [0, 1) that is the same in every run.
fn chance(id: &str, what: &str) -> f64 {
    serinus_core::domain::assignment::point(what.as_bytes(), id.as_bytes())
}

fn at(clock: &str) -> Timestamp {
    let parts: Vec<i64> = clock.split(':').map(|c| c.parse().expect("HH:MM:SS")).collect();
    let [hours, minutes, seconds] = parts.as_slice() else { panic!("{clock} is not HH:MM:SS") };
    Timestamp(MIDNIGHT.0 + 1000 * (3600 * hours + 60 * minutes + seconds))
}

fn expected(words: &[&str]) -> Option<u64> {
    words.iter().find_map(|w| w.strip_prefix("expect=")).map(|s| s.parse().expect("a revision"))
}

fn answer(word: &str) -> (String, Answer) {
    let (version, answer) = word.split_once('=').expect("version=answer");
    let answer = match answer {
        "error" => Answer::Error,
        "timeout" => Answer::Nothing,
        score => Answer::Score(score.parse().expect("a score")),
    };
    (version.to_owned(), answer)
}

fn row(row: &Row) -> String {
    let joined = &row.joined;
    let scores: Vec<String> = row
        .scores
        .iter()
        .map(|(version, scores)| {
            let scores: Vec<String> =
                scores.iter().map(|(metric, s)| format!("{metric} {s:.2}")).collect();
            format!("{version}: {}", scores.join(" "))
        })
        .collect();
    let label = joined.truth.as_ref().map_or("none".to_owned(), |t| t.value.to_string());
    format!(
        "row {} of {}: {}, label {label} {{{}}}",
        joined.row_version,
        joined.prediction.request_id,
        status(joined.status),
        scores.join(", ")
    )
}

fn summary(rows: &[Row]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(status(row.joined.status)).or_default() += 1;
    }
    let counts: Vec<String> = counts.into_iter().map(|(c, n)| format!("{n} {c}")).collect();
    format!("rows: {}", counts.join(", "))
}

fn status(status: LabelStatus) -> &'static str {
    match status {
        LabelStatus::Labelled => "labelled",
        LabelStatus::Missing => "missing",
        LabelStatus::Late => "late",
        LabelStatus::Corrected => "corrected",
        LabelStatus::Retracted => "retracted",
    }
}

fn change(change: &RolloutEvent) -> String {
    let routing = &change.to.routing;
    let mut serves: Vec<String> = vec![format!("{} {}", routing.stable, routing.stable_share())];
    serves.extend(routing.slices.iter().map(|s| format!("{} {}", s.version, s.share)));
    serves.extend(routing.shadows.iter().map(|s| format!("copies {} {}", s.version, s.share)));
    let name = change.rollout.as_ref().map_or_else(String::new, |n| format!("{n} "));
    format!(
        "{}. {} {name}{} stage {} revision {} [{}] by {}: {}",
        change.sequence,
        change.action.word(),
        change.to.phase.word(),
        routing.stage,
        routing.revision,
        serves.join(", "),
        change.actor,
        change.reason
    )
}
