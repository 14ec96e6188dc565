//! `serinus inspect`: all that is known of one request.

use std::ops::ControlFlow;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::{Context, record_json, value_of};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::talk;
use crate::cli::say;
use crate::cli::state::{self, State};
use crate::domain::ids::ModelName;
use crate::domain::time::Span;
use crate::kafka::reader::{ReadError, Reader, Record, Start, Which};
use crate::strategy::stage::{LabelMap, ModelTopics, Source};

/// What `inspect` takes.
#[derive(Clone, Debug, Args)]
pub struct InspectArgs {
    /// The request id
    request_id: String,
    /// The model; without it, every model is searched
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

/// Everything that was found about one request of one model.
#[derive(Debug, Default)]
struct Case {
    predictions: Vec<Record>,
    analysis: Vec<Record>,
    served: Vec<Record>,
    labels: Vec<Record>,
    dead_letters: Vec<Record>,
}

/// Where to look.
struct Place {
    model: String,
    topics: ModelTopics,
    labels: Option<LabelMap>,
}

/// Prints everything about a request; nothing found is an error.
pub(crate) fn run(args: &InspectArgs, context: &Context) -> Result<Exit, CliError> {
    let reader = context.reader()?;
    let places = places(args, context, &reader)?;
    let mut found = false;
    for place in &places {
        let case = look(&reader, place, &args.request_id)?;
        if case.is_empty() {
            continue;
        }
        found = true;
        context.output.item(&case.json(&args.request_id, &place.model), || {
            case.text(&args.request_id, &place.model)
        })?;
    }
    if found {
        return Ok(Exit::Reached);
    }
    let models: Vec<&str> = places.iter().map(|it| it.model.as_str()).collect();
    Err(CliError::NotFound(format!(
        "nothing is known of request `{}` of {}: it may still be open, or its records are no longer kept",
        args.request_id,
        models.join(", ")
    )))
}

/// Returns the topics of the models in question; the contract's names where the application does not know the model.
fn places(args: &InspectArgs, context: &Context, reader: &Reader) -> Result<Vec<Place>, CliError> {
    let states = state::read_all(context, reader);
    let place = |state: &State| {
        let plan = state.plan();
        let by_contract = || ModelTopics::of(&ModelName::new(&state.model));
        Place {
            model: state.model.clone(),
            topics: plan.as_ref().map_or_else(by_contract, |it| it.topics.clone()),
            labels: plan.map(|it| it.labels),
        }
    };
    let Some(model) = &args.model else {
        let places: Vec<Place> = states?.iter().map(place).collect();
        if places.is_empty() {
            return Err(CliError::NotFound(format!("`{}` has no model yet", context.app)));
        }
        return Ok(places);
    };
    let known = states.ok().and_then(|it| it.iter().find(|it| it.model == *model).map(place));
    Ok(vec![known.unwrap_or_else(|| {
        talk(&format!(
            "`{}` does not know model `{model}`: its contract topics are read",
            context.app
        ));
        Place {
            model: model.clone(),
            topics: ModelTopics::of(&ModelName::new(model)),
            labels: None,
        }
    })])
}

fn look(reader: &Reader, place: &Place, id: &str) -> Result<Case, CliError> {
    let topics = &place.topics;
    let mut case = Case {
        predictions: there(reader.find(&topics.predictions, id))?,
        analysis: there(reader.find(&topics.analysis, id))?,
        ..Case::default()
    };
    // The answer stands in the partition of its request, which the prediction names.
    let mut homes: Vec<Which> = case
        .predictions
        .iter()
        .filter_map(|it| i32::try_from(value_of(it)["source"]["partition"].as_i64()?).ok())
        .map(Which::One)
        .collect();
    homes.dedup();
    if homes.is_empty() {
        homes.push(Which::All);
    }
    let has_id = |it: &Record| it.header("serinus-request-id") == Some(id);
    for home in homes {
        case.served.extend(matching(reader, &topics.served, home, has_id)?);
    }
    let is_its_label = |it: &Record| match place.labels.as_ref().map(|it| &it.request_id) {
        Some(source) => text_at(source, it).as_deref() == Some(id),
        None => value_of(it)["request_id"] == id || it.key_text() == Some(id),
    };
    case.labels = matching(reader, &topics.labels, Which::All, is_its_label)?;
    case.dead_letters = matching(reader, &topics.dead_letters, Which::All, |it| {
        has_id(it) || it.header("ce_id") == Some(id) || is_its_label(it)
    })?;
    Ok(case)
}

fn matching(
    reader: &Reader,
    topic: &str,
    which: Which,
    is_it: impl Fn(&Record) -> bool,
) -> Result<Vec<Record>, CliError> {
    let mut found = Vec::new();
    let scanned = reader.scan(topic, which, Start::Beginning, |it| {
        if is_it(&it) {
            found.push(it);
        }
        ControlFlow::Continue(())
    });
    there(scanned.map(|()| found))
}

/// A topic that is not there has no records.
fn there(found: Result<Vec<Record>, ReadError>) -> Result<Vec<Record>, CliError> {
    match found {
        Err(ReadError::NoTopic(_)) => Ok(Vec::new()),
        found => Ok(found?),
    }
}

/// Reads the text at a place of a record, as the application does.
fn text_at(source: &Source, record: &Record) -> Option<String> {
    match source {
        Source::Key => record.key_text().map(str::to_owned),
        Source::Header(name) => record.header(name).map(str::to_owned),
        Source::Json(pointer) => match value_of(record).pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            number @ Value::Number(_) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        },
    }
}

impl Case {
    fn is_empty(&self) -> bool {
        self.parts().iter().all(|(_, records)| records.is_empty())
    }

    fn parts(&self) -> [(&'static str, &[Record]); 5] {
        [
            ("predictions", &self.predictions),
            ("served", &self.served),
            ("labels", &self.labels),
            ("analysis", &self.analysis),
            ("dead_letters", &self.dead_letters),
        ]
    }

    fn json(&self, id: &str, model: &str) -> Value {
        let mut value = json!({ "request_id": id, "model": model });
        for (name, records) in self.parts() {
            value[name] = records.iter().map(record_json).collect();
        }
        value
    }

    fn text(&self, id: &str, model: &str) -> String {
        let mut lines = vec![format!("request {id} of {model}")];
        if self.predictions.len() > 1 {
            lines.push(format!("  {} cases have this id", self.predictions.len()));
        }
        lines.extend(self.predictions.iter().map(|it| prediction(&value_of(it))));
        for it in &self.served {
            lines.push(format!(
                "served {} by {}: {}",
                it.header("serinus-outcome").unwrap_or("-"),
                it.header("serinus-version").unwrap_or("nobody"),
                value_of(it)
            ));
            lines.push(format!("  {}", place(it)));
        }
        for it in &self.labels {
            lines.push(format!("label {}", value_of(it)));
            lines.push(format!("  {}", place(it)));
        }
        lines.extend(self.analysis.iter().map(|it| analysis(&value_of(it))));
        for it in &self.dead_letters {
            let reason = it.header("serinus-dead-reason").unwrap_or("no reason was given");
            lines.push(format!("dead letter: {reason}"));
            lines.push(format!("  {}", place(it)));
        }
        lines.join("\n")
    }
}

fn place(record: &Record) -> String {
    let time = record.timestamp.map(say::moment).unwrap_or_default();
    format!("{}[{}]@{} {time}", record.topic, record.partition, record.offset)
}

fn prediction(it: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let requested = it["requested_at"].as_i64();
    let after = |name: &str| match (it[name].as_i64(), requested) {
        (Some(at), Some(requested)) => format!("after {}", Span(at - requested)),
        (_, _) => "-".to_owned(),
    };
    let mut lines = vec![format!(
        "routed to {} (propensity {}) at revision {}, stage {}, unit {}, rollout {}",
        text(&it["arm"]),
        say::or_dash(&it["propensity"], say::number),
        say::count_or_dash(&it["revision"]),
        it["stage"].as_u64().map_or(0, |it| it + 1),
        text(&it["unit"]),
        text(&it["rollout"]),
    )];
    lines.push(format!(
        "  requested {} UTC, routed {}, served {}",
        requested.map_or_else(|| "-".to_owned(), say::moment),
        after("routed_at"),
        after("served_at")
    ));
    for answer in it["answers"].as_array().into_iter().flatten() {
        let latency = answer["latency_ms"].as_f64().map(|it| format!(" in {} ms", say::number(it)));
        let said = ["value", "value_base64", "error"].iter().find_map(|name| answer.get(*name));
        lines.push(format!(
            "  {} {}: {}{}{}",
            text(&answer["role"]),
            text(&answer["version"]),
            text(&answer["status"]),
            latency.unwrap_or_default(),
            said.map(|it| format!(": {it}")).unwrap_or_default(),
        ));
    }
    lines.join("\n")
}

fn analysis(it: &Value) -> String {
    let delay = it["label_delay_ms"].as_i64().map(|it| format!(", label after {}", Span(it)));
    let mut lines = vec![format!(
        "analysis row {}: {}{}",
        say::count_or_dash(&it["row_version"]),
        it["label_status"].as_str().unwrap_or("-"),
        delay.unwrap_or_default()
    )];
    let scores = it["scores"].as_object().into_iter().flatten();
    lines.extend(scores.map(|(version, scores)| format!("  {version} {scores}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Case, Record};

    #[test]
    fn a_case_is_told_in_the_order_in_which_it_happened() {
        let record = |topic: &str, value: serde_json::Value, headers: &[(&str, &str)]| Record {
            topic: topic.to_owned(),
            partition: 3,
            offset: 42,
            timestamp: Some(1_377_993_600_000),
            key: None,
            value: Some(value.to_string().into_bytes()),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())))
                .collect(),
        };
        let prediction = json!({
            "arm": "v2", "propensity": 0.25, "revision": 7, "stage": 2, "unit": "N14228", "rollout": "flights-v2",
            "requested_at": 1_377_993_600_000_i64, "routed_at": 1_377_993_600_000_i64, "served_at": 1_377_993_600_009_i64,
            "answers": [
                {"version": "v2", "role": "serve", "status": "ok", "latency_ms": 6.1, "value": {"score": 0.12}},
                {"version": "v1", "role": "shadow", "status": "timeout"},
            ],
        });
        let case = Case {
            predictions: vec![record("flights.predictions", prediction, &[])],
            served: vec![record(
                "flights.served",
                json!({"score": 0.12}),
                &[("serinus-outcome", "ok"), ("serinus-version", "v2")],
            )],
            labels: vec![record(
                "flights.labels",
                json!({"request_id": "r1", "label": {"late": 1}}),
                &[],
            )],
            analysis: vec![record(
                "flights.analysis",
                json!({"row_version": 1, "label_status": "labelled", "label_delay_ms": 9_000_000,
                       "scores": {"v2": {"brier": 0.7744}}}),
                &[],
            )],
            dead_letters: Vec::new(),
        };
        insta::assert_snapshot!(case.text("r1", "flights"), @r#"
        request r1 of flights
        routed to v2 (propensity 0.250) at revision 7, stage 3, unit N14228, rollout flights-v2
          requested 2013-09-01 00:00:00 UTC, routed after 0s, served after 9ms
          serve v2: ok in 6.10 ms: {"score":0.12}
          shadow v1: timeout
        served ok by v2: {"score":0.12}
          flights.served[3]@42 2013-09-01 00:00:00
        label {"label":{"late":1},"request_id":"r1"}
          flights.labels[3]@42 2013-09-01 00:00:00
        analysis row 1: labelled, label after 2h30m
          v2 {"brier":0.7744}
        "#);
        assert_eq!(case.json("r1", "flights")["served"][0]["offset"], 42);
    }
}
