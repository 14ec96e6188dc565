//! Model fields that cannot change during a rollout: those that would reassign units, or read or write the evidence differently.
//!
//! Deadlines, the fallback, the record format and new segments affect neither, so they may change.

use std::sync::Arc;

use crate::domain::ids::RolloutName;
use crate::plan::rollout::{ModelPlan, ModelTopics, Source};

/// The effect of a field that changes during a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Units,
    Labels,
    Segments,
    Topics,
}

impl Harm {
    fn sentence(self) -> &'static str {
        match self {
            Self::Units => "units would be reassigned, and one unit would meet two arms",
            Self::Labels => "labels would be joined in two ways",
            Self::Segments => "one segment would hold two kinds of traffic",
            Self::Topics => "cases and labels that are under way would be lost",
        }
    }
}

/// Returns why a model cannot be applied to the judge of another.
pub(crate) fn wrong_model(plan: &ModelPlan) -> String {
    format!("this is the model `{}`", plan.name)
}

/// Returns why a model cannot be applied while a rollout runs, with the fields' names as the spec has them; nothing if it can.
pub(crate) fn refusal(
    before: &ModelPlan,
    after: &ModelPlan,
    running: &RolloutName,
) -> Option<String> {
    let touched = touched(before, after);
    let (_, first) = touched.first()?;
    let mut names: Vec<String> = touched.iter().map(|(name, _)| format!("`{name}`")).collect();
    let last = names.pop()?;
    let fields = if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) };
    Some(format!(
        "{fields} cannot change while `{running}` is in progress: {}; apply it after the rollout's end",
        first.sentence()
    ))
}

fn touched(before: &ModelPlan, after: &ModelPlan) -> Vec<(String, Harm)> {
    // For a new field of a model, decide here whether it may change during a rollout.
    let ModelPlan {
        name: _,
        stable: _,
        unit,
        request_id,
        segments,
        timeout: _,
        shadow_timeout: _,
        on_failure: _,
        default: _,
        labels,
        format: _,
        topics,
        open_cases_max: _,
        partitions: _,
    } = after;
    let mut touched = Vec::new();
    let mut note = |is_other: bool, name: &str, harm: Harm| {
        if is_other {
            touched.push((name.to_owned(), harm));
        }
    };
    note(*unit != before.unit, "unit", Harm::Units);
    note(*request_id != before.request_id, "requestId", Harm::Units);
    let (is, was) = (labels, &before.labels);
    note(is.request_id != was.request_id, "labels.requestId", Harm::Labels);
    note(is.value != was.value, "labels.value", Harm::Labels);
    note(is.observed_at != was.observed_at, "labels.observedAt", Harm::Labels);
    for (name, place) in &before.segments {
        note(place_of(segments, name) != Some(place), &format!("segments.{name}"), Harm::Segments);
    }
    for (name, is, was) in fields(topics, &before.topics) {
        note(is != was, &format!("topics.{name}"), Harm::Topics);
    }
    touched
}

fn place_of<'a>(segments: &'a [(Arc<str>, Source)], name: &str) -> Option<&'a Source> {
    segments.iter().find(|(s, _)| **s == *name).map(|(_, place)| place)
}

/// Returns each topic of a rollout's cases and labels, with its new and old name.
fn fields<'a>(is: &'a ModelTopics, was: &'a ModelTopics) -> [(&'static str, &'a str, &'a str); 7] {
    [
        ("requests", &is.requests, &was.requests),
        ("responses", &is.responses, &was.responses),
        ("served", &is.served, &was.served),
        ("predictions", &is.predictions, &was.predictions),
        ("labels", &is.labels, &was.labels),
        ("analysis", &is.analysis, &was.analysis),
        ("versionRequests", &is.version_requests, &was.version_requests),
    ]
}
