//! Converts the spec of a model to its plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::ids::{ModelName, Version};
use crate::domain::routing::OnFailure;
use crate::domain::time::Span;
use crate::plan::rollout::{Format, LabelMap, ModelPlan, ModelTopics, Source};
use crate::spec::path::{Fault, Faults, Path};
use crate::spec::raw::{LabelsOfModel, ModelDocument, ModelSpec, Topics};

/// Returns the plan of a model, or all of its faults.
pub(crate) fn plan(document: &ModelDocument) -> Result<ModelPlan, Vec<Fault>> {
    let mut faults = Faults::default();
    let spec = &document.spec;
    let at = Path::default().field("spec");
    let name = ModelName::new(&document.metadata.name);
    check_name(
        &mut faults,
        Path::default().field("metadata").field("name"),
        "model",
        &document.metadata.name,
    );
    check_name(&mut faults, at.field("stable"), "version", &spec.stable);
    let topics = topics(&mut faults, &at.field("topics"), &name, spec.topics.as_ref());

    check_text_place(&mut faults, at.field("unit"), spec.unit.as_ref().map(|u| &u.0));
    check_text_place(&mut faults, at.field("requestId"), spec.request_id.as_ref().map(|r| &r.0));
    for (field, span) in [("timeout", Some(spec.timeout)), ("shadowTimeout", spec.shadow_timeout)] {
        if span.is_some_and(|s| s.0 <= Span::ZERO) {
            faults.add(
                at.field(field),
                "a deadline of no time cannot be met",
                "write a longer one, such as `500ms`",
            );
        }
    }
    let on_failure = spec.on_failure.unwrap_or(OnFailure::Stable);
    if on_failure == OnFailure::Default && spec.default.is_none() {
        let help = "add `default:` with the value to serve, such as `default: {score: 0.2}`";
        faults.add(at.field("onFailure"), "there is no default value to serve", help);
    }
    let open_cases_max = spec.open_cases_max.unwrap_or(100_000);
    if open_cases_max == 0 {
        faults.add(
            at.field("openCasesMax"),
            "with no open case nothing can be served",
            "write at least 1",
        );
    }
    let partitions = spec.partitions.unwrap_or(8);
    if !(1..=10_000).contains(&partitions) {
        let problem = format!("`{partitions}` partitions cannot be made");
        faults.add(at.field("partitions"), problem, "write a number from 1 to 10000");
    }
    let plan = ModelPlan {
        name,
        stable: Version::new(&spec.stable),
        unit: spec.unit.as_ref().map_or(Source::Key, |u| u.0.clone()),
        request_id: spec.request_id.as_ref().map(|r| r.0.clone()),
        segments: segments(&mut faults, &at.field("segments"), spec),
        timeout: spec.timeout.0,
        shadow_timeout: spec.shadow_timeout.map_or(spec.timeout.0.times(10), |t| t.0),
        on_failure,
        default: spec.default.as_ref().map(|d| Arc::from(d.to_string().into_bytes())),
        labels: labels(&mut faults, &at.field("labels"), spec.labels.as_ref()),
        format: spec.format.unwrap_or(Format::Json),
        topics,
        open_cases_max: usize::try_from(open_cases_max).unwrap_or(usize::MAX),
        partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
    };
    if faults.0.is_empty() { Ok(plan) } else { Err(faults.0) }
}

/// Adds a fault for a name that cannot be part of a topic name.
pub(crate) fn check_name(faults: &mut Faults, path: Path, what: &str, name: &str) {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let has_a_letter = name.contains(|c: char| c != '.');
    if name.len() > 100 {
        faults.add(
            path,
            format!("this {what}'s name has {} letters", name.len()),
            "use at most 100",
        );
    } else if !has_a_letter || !name.chars().all(is_legal) {
        let help = "use letters, digits, `.`, `_` and `-`: topics are named after it";
        faults.add(path, format!("`{name}` cannot be the name of a {what}"), help);
    }
}

fn check_text_place(faults: &mut Faults, path: Path, source: Option<&Source>) {
    if matches!(source, Some(Source::Json(pointer)) if pointer.is_empty()) {
        let help = "point at a field of it, such as `json:/tailnum`";
        faults.add(path, "`json` is the whole value", help);
    }
}

fn segments(faults: &mut Faults, at: &Path, spec: &ModelSpec) -> Vec<(Arc<str>, Source)> {
    let mut segments = Vec::new();
    for (name, place) in spec.segments.iter().flatten() {
        if name.is_empty() {
            faults.add(at.clone(), "segments need a name", "write one, such as `carrier`");
        }
        check_text_place(faults, at.field(name), Some(&place.0));
        segments.push((Arc::from(name.as_str()), place.0.clone()));
    }
    segments
}

fn labels(faults: &mut Faults, at: &Path, labels: Option<&LabelsOfModel>) -> LabelMap {
    let request_id = labels.and_then(|l| l.request_id.as_ref()).map(|r| r.0.clone());
    check_text_place(faults, at.field("requestId"), request_id.as_ref());
    let observed_at = labels.and_then(|l| l.observed_at.as_ref());
    LabelMap {
        request_id: request_id.unwrap_or_else(|| Source::Json("/request_id".to_owned())),
        value: labels
            .and_then(|l| l.value.as_ref())
            .map_or_else(|| "/label".to_owned(), |v| v.0.clone()),
        observed_at: observed_at.map_or_else(|| Some("/observed_at".to_owned()), |o| o.0.clone()),
    }
}

fn topics(
    faults: &mut Faults,
    at: &Path,
    model: &ModelName,
    written: Option<&Topics>,
) -> ModelTopics {
    let mut topics = ModelTopics::of(model);
    let Some(written) = written else { return topics };
    let mut names = BTreeMap::new();
    for (field, name, place) in [
        ("requests", &written.requests, &mut topics.requests),
        ("responses", &written.responses, &mut topics.responses),
        ("served", &written.served, &mut topics.served),
        ("predictions", &written.predictions, &mut topics.predictions),
        ("labels", &written.labels, &mut topics.labels),
        ("analysis", &written.analysis, &mut topics.analysis),
        ("deadLetters", &written.dead_letters, &mut topics.dead_letters),
        ("versionRequests", &written.version_requests, &mut topics.version_requests),
    ] {
        if let Some(name) = name {
            check_topic(faults, at.field(field), field, name);
            place.clone_from(name);
        }
        if let Some(other) = names.insert(place.clone(), field) {
            let help = format!("`{other}` has this name: give each topic its own");
            faults.add(at.field(field), format!("the topic `{place}` is named twice"), help);
        }
    }
    topics
}

fn check_topic(faults: &mut Faults, path: Path, field: &str, name: &str) {
    let is_of_version = field == "versionRequests";
    if is_of_version && !name.contains("{version}") {
        let help = "put `{version}` where the version belongs, such as `fraud.{version}.in`";
        faults.add(path, format!("`{name}` is the same topic for all versions"), help);
        return;
    }
    let plain = if is_of_version { name.replace("{version}", "v") } else { name.to_owned() };
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if plain.is_empty()
        || plain.len() > 249
        || !plain.chars().all(is_legal)
        || plain == "."
        || plain == ".."
    {
        let help = "use letters, digits, `.`, `_` and `-`, at most 249";
        faults.add(path, format!("`{name}` cannot be the name of a topic"), help);
    }
}
