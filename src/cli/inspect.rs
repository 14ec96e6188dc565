//! `serinus inspect`: all records of one request.

use std::ops::ControlFlow;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::{Context, record_json, value_of};
use crate::cli::decoded::{Decoded, decode};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::talk;
use crate::cli::say;
use crate::cli::state::{self, State};
use crate::kafka::client::error::ReadError;
use crate::kafka::client::topic_reader::{Record, Start, TopicReader, Which};
use crate::wire::analysis::{AnalysisRecord, MaturedAtRecord};
use crate::wire::avro::is_single_object;
use crate::wire::json::Parts;
use crate::wire::label;
use crate::wire::prediction::{OwnedPrediction, OwnedValue};
use serinus_core::domain::ids::ModelName;
use serinus_core::domain::time::Span;
use serinus_core::plan::rollout::{LabelMap, ModelTopics, Source};

/// What `inspect` takes.
#[derive(Clone, Debug, Args)]
pub struct InspectArgs {
    /// The request id
    request_id: String,
    /// The model; without it, every model is searched
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

/// Maximum number of similar ids that are shown for each kind of record.
const NEAREST_MAX: usize = 3;

/// Everything that was found about one request of one model.
#[derive(Debug, Default)]
struct Case {
    predictions: Vec<Record>,
    analysis: Vec<Record>,
    served: Vec<Record>,
    labels: Vec<Record>,
    dead_letters: Vec<Record>,
    nearest: Vec<Nearest>,
}

/// A record with an id that is similar to the one in question. It is shown if no record of its kind has the exact id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Nearest {
    kind: &'static str,
    id: String,
    record: Record,
}

/// The topics to search for one model.
struct Place {
    model: String,
    topics: ModelTopics,
    labels: Option<LabelMap>,
}

/// Prints everything about a request; nothing found is an error.
pub(crate) fn run(args: &InspectArgs, context: &Context) -> Result<Exit, CliError> {
    let reader = context.reader()?;
    let places = places(args, context, &reader)?;
    let (mut found, mut nearest) = (false, Vec::new());
    for place in &places {
        let case = look(&reader, place, &args.request_id)?;
        if case.is_empty() {
            nearest.extend(case.nearest.iter().map(Nearest::text));
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
    let models: Vec<&str> = places.iter().map(|p| p.model.as_str()).collect();
    let hint = if nearest.is_empty() { String::new() } else { format!("; {}", nearest.join("; ")) };
    Err(CliError::NotFound(format!(
        "nothing is known of request `{}` of {}: it may still be open, or its records are no longer kept{hint}",
        args.request_id,
        models.join(", ")
    )))
}

/// Returns the topics of the models in question. If the application does not know the model, they have the contract's names.
fn places(
    args: &InspectArgs,
    context: &Context,
    reader: &TopicReader,
) -> Result<Vec<Place>, CliError> {
    let states = state::read_all(context, reader);
    let place = |state: &State| {
        let plan = state.plan();
        let by_contract = || ModelTopics::of(&ModelName::new(&state.model));
        Place {
            model: state.model.clone(),
            topics: plan.as_ref().map_or_else(by_contract, |b| b.topics.clone()),
            labels: plan.map(|p| p.labels),
        }
    };
    let Some(model) = &args.model else {
        let places: Vec<Place> = states?.iter().map(place).collect();
        if places.is_empty() {
            return Err(CliError::NotFound(format!("`{}` has no model yet", context.app)));
        }
        return Ok(places);
    };
    let known = states.ok().and_then(|s| s.iter().find(|i| i.model == *model).map(place));
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

fn look(reader: &TopicReader, place: &Place, id: &str) -> Result<Case, CliError> {
    let topics = &place.topics;
    let mut case = Case {
        predictions: there(reader.find(&topics.predictions, id))?,
        analysis: there(reader.find(&topics.analysis, id))?,
        ..Case::default()
    };
    // The answer is in the partition of its request, which the prediction names.
    let mut homes: Vec<Which> = case
        .predictions
        .iter()
        .filter_map(Decoded::of)
        .map(|p: Decoded<OwnedPrediction>| Which::One(p.record.source.partition))
        .collect();
    homes.dedup();
    if homes.is_empty() {
        homes.push(Which::All);
    }
    let has_id = |r: &Record| r.header("serinus-request-id") == Some(id);
    for home in homes {
        case.served.extend(matching(reader, &topics.served, home, has_id)?);
    }
    let label_ids = |r: &Record| match place.labels.as_ref().map(|l| &l.request_id) {
        Some(source) => vec![id_at(source, r)],
        None => vec![id_at(&Source::Json("/request_id".to_owned()), r), id_at(&Source::Key, r)],
    };
    let is_its_label = |r: &Record| label_ids(r).iter().any(|i| i.as_deref() == Some(id));
    let mut near = Vec::new();
    case.labels = matching(reader, &topics.labels, Which::All, |l| {
        let ids = label_ids(l);
        near.extend(ids.into_iter().flatten().filter_map(|of| Nearest::of("label", id, of, l)));
        is_its_label(l)
    })?;
    if case.labels.is_empty() {
        case.nearest.extend(closest(near));
    }
    case.dead_letters = matching(reader, &topics.dead_letters, Which::All, |d| {
        has_id(d) || d.header("ce_id") == Some(id) || is_its_label(d)
    })?;
    if case.predictions.is_empty() {
        let mut near = Vec::new();
        matching(reader, &topics.predictions, Which::All, |p| {
            let of = p.key_text().map(str::to_owned);
            near.extend(of.and_then(|of| Nearest::of("prediction", id, of, p)));
            false
        })?;
        case.nearest.extend(closest(near));
    }
    Ok(case)
}

/// Returns the first record of each id, for at most `NEAREST_MAX` ids.
fn closest(near: Vec<Nearest>) -> Vec<Nearest> {
    let mut closest: Vec<Nearest> = Vec::new();
    for it in near {
        if closest.len() < NEAREST_MAX && closest.iter().all(|of| of.id != it.id) {
            closest.push(it);
        }
    }
    closest
}

impl Nearest {
    /// Returns a record whose id is similar to the one in question, but not equal.
    fn of(kind: &'static str, wanted: &str, id: String, record: &Record) -> Option<Self> {
        is_near(wanted, &id).then(|| Self { kind, id, record: record.clone() })
    }

    fn text(&self) -> String {
        let Self { kind, id, record } = self;
        format!(
            "no {kind} has this id, but one has {id:?} ({}[{}]@{}), and ids are compared as they are written",
            record.topic, record.partition, record.offset
        )
    }

    fn json(&self) -> Value {
        let Record { topic, partition, offset, .. } = &self.record;
        json!({ "kind": self.kind, "request_id": self.id, "topic": topic, "partition": partition, "offset": offset })
    }
}

/// Returns whether two ids are different but similar: equal numbers, or text that differs only in case, white space or punctuation.
fn is_near(a: &str, b: &str) -> bool {
    let number = |s: &str| {
        let is_number = s.trim().starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        s.trim().parse::<f64>().ok().filter(|f| is_number && f.is_finite())
    };
    let letters = |s: &str| -> String {
        s.chars().filter(|i| i.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let is_one_number = match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq() || (a == 0.0 && b == 0.0),
        (Some(_) | None, _) => false,
    };
    let are_both_numbers = number(a).is_some() && number(b).is_some();
    let are_letters_alike = !are_both_numbers && !letters(a).is_empty() && letters(a) == letters(b);
    a != b && (is_one_number || are_letters_alike)
}

fn matching(
    reader: &TopicReader,
    topic: &str,
    which: Which,
    mut is_it: impl FnMut(&Record) -> bool,
) -> Result<Vec<Record>, CliError> {
    let mut found = Vec::new();
    let scanned = reader.scan(topic, which, Start::Beginning, |w| {
        if is_it(&w) {
            found.push(w);
        }
        ControlFlow::Continue(())
    });
    there(scanned.map(|()| found))
}

/// Treats a topic that does not exist as empty.
fn there(found: Result<Vec<Record>, ReadError>) -> Result<Vec<Record>, CliError> {
    match found {
        Err(ReadError::NoTopic(_)) => Ok(Vec::new()),
        found => Ok(found?),
    }
}

/// Reads the id at a place of a record, as the application does.
fn id_at(source: &Source, record: &Record) -> Option<String> {
    let headers: Vec<(&str, Option<&[u8]>)> =
        record.headers.iter().map(|(name, h)| (name.as_str(), h.as_deref())).collect();
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    label::request_id_of(source, Parts { key, headers: &headers, value })
}

/// Returns a record's value as it is written if it is text, else as JSON.
fn written(record: &Record) -> String {
    let is_ours = record.value.as_deref().is_none_or(is_single_object);
    match record.value.as_deref().map(std::str::from_utf8) {
        Some(Ok(text)) if !is_ours => text.trim().to_owned(),
        Some(Ok(_) | Err(_)) | None => value_of(record).to_string(),
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
        value["nearest"] = self.nearest.iter().map(Nearest::json).collect();
        value
    }

    fn text(&self, id: &str, model: &str) -> String {
        let mut lines = vec![format!("request {id} of {model}")];
        if self.predictions.len() > 1 {
            lines.push(format!("  {} cases have this id", self.predictions.len()));
        }
        lines.extend(self.predictions.iter().map(prediction));
        for it in &self.served {
            lines.push(format!(
                "served {} by {}: {}",
                it.header("serinus-outcome").unwrap_or("-"),
                it.header("serinus-version").unwrap_or("-"),
                value_of(it)
            ));
            lines.push(format!("  {}", place(it)));
        }
        for it in &self.labels {
            lines.push(format!("label {}", written(it)));
            lines.push(format!("  {}", place(it)));
        }
        lines.extend(self.analysis.iter().map(analysis));
        for it in &self.dead_letters {
            let reason = it.header("serinus-dead-reason").unwrap_or("no reason was given");
            lines.push(format!("dead letter: {reason}"));
            lines.push(format!("  {}", place(it)));
        }
        lines.extend(self.nearest.iter().map(Nearest::text));
        lines.join("\n")
    }
}

fn place(record: &Record) -> String {
    let time = record.timestamp.map(say::moment).unwrap_or_default();
    format!("{}[{}]@{} {time}", record.topic, record.partition, record.offset)
}

/// Returns the text of a prediction; one that cannot be decoded is printed as JSON.
fn prediction(record: &Record) -> String {
    let value = value_of(record);
    let Some(it) = decode::<OwnedPrediction>(&value) else { return format!("prediction {value}") };
    let after = |at: i64| format!("after {}", Span(at - it.requested_at));
    let mut lines = vec![format!(
        "routed to {} (propensity {}) at revision {}, stage {}, unit {}, rollout {}",
        it.arm,
        say::number(it.propensity),
        say::count(it.revision),
        u64::from(it.stage) + 1,
        it.unit.as_deref().unwrap_or("-"),
        it.rollout.as_deref().unwrap_or("-"),
    )];
    lines.push(format!(
        "  requested {} UTC, routed {}, served {}",
        say::moment(it.requested_at),
        after(it.routed_at),
        after(it.served_at)
    ));
    for answer in it.answers {
        let latency = answer.latency_ms.map(|a| format!(" in {} ms", say::number(a)));
        let OwnedValue(value) = answer.value;
        let text = || answer.value_base64.or(answer.error).map(|text| json!(text));
        let said = value.or_else(text);
        lines.push(format!(
            "  {} {}: {}{}{}",
            say::word(answer.role),
            answer.version,
            say::word(answer.status),
            latency.unwrap_or_default(),
            said.map(|s| format!(": {s}")).unwrap_or_default(),
        ));
    }
    lines.join("\n")
}

/// Returns the watermarks at which the case matured: they show why a label counted, or was too late.
fn matured(at: MaturedAtRecord) -> String {
    let MaturedAtRecord { prediction_watermark, label_watermark, slowest_label_partition } = at;
    let labels = match (label_watermark, slowest_label_partition) {
        (Some(labels), Some(partition)) => {
            format!("labels up to {} (slowest: label partition {partition})", say::moment(labels))
        }
        (Some(labels), None) => format!("labels up to {}", say::moment(labels)),
        (None, _) => "all labels, and no more came".to_owned(),
    };
    format!(
        "  matured with predictions up to {} and {labels}; a label after that is late",
        say::moment(prediction_watermark)
    )
}

/// Returns the text of an analysis row; one that cannot be decoded is printed as JSON.
fn analysis(record: &Record) -> String {
    let value = value_of(record);
    let Some(it) = decode::<AnalysisRecord>(&value) else { return format!("analysis row {value}") };
    let delay = it.label_delay_ms.map(|a| format!(", label after {}", Span(a)));
    let mut lines = vec![format!(
        "analysis row {}: {}{}",
        it.row_version,
        say::word(it.label_status),
        delay.unwrap_or_default()
    )];
    lines.extend(it.matured_at.map(matured));
    lines
        .extend(it.scores.iter().map(|(version, scores)| format!("  {version} {}", json!(scores))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Case, Nearest, Record, closest, is_near};

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
            "request_id": "r1", "model": "flights", "served": {"version": "v2", "outcome": "ok"},
            "source": {"partition": 3, "offset": 42}, "arm": "v2", "propensity": 0.25, "revision": 7, "stage": 2, "unit": "N14228", "rollout": "flights-v2",
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
                json!({"request_id": "r1", "model": "flights", "rollout": "flights-v2", "revision": 7, "stage": 2, "unit": "N14228",
                       "arm": "v2", "propensity": 0.25, "served": {"version": "v2", "outcome": "ok"},
                       "requested_at": 1_377_993_600_000_i64, "routed_at": 1_377_993_600_000_i64,
                       "served_at": 1_377_993_600_009_i64, "answers": [], "source": {"partition": 3, "offset": 42},
                       "label": {"late": 1}, "row_version": 1, "label_status": "labelled", "label_delay_ms": 9_000_000,
                       "matured_at": {"prediction_watermark": 1_378_080_000_000_i64,
                                      "label_watermark": 1_378_079_990_000_i64, "slowest_label_partition": 5},
                       "scores": {"v2": {"brier": 0.7744}}}),
                &[],
            )],
            ..Case::default()
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
          matured with predictions up to 2013-09-02 00:00:00 and labels up to 2013-09-01 23:59:50 (slowest: label partition 5); a label after that is late
          v2 {"brier":0.7744}
        "#);
        assert_eq!(case.json("r1", "flights")["served"][0]["offset"], 42);
    }
    #[test]
    fn ids_of_one_number_or_of_the_same_letters_are_near() {
        let check = |a: &str, b: &str, expected: bool| {
            assert_eq!((is_near(a, b), is_near(b, a)), (expected, expected), "{a:?} and {b:?}");
        };
        check("12345", "12345.0", true);
        check("1e3", "1000", true);
        check("+5", "5", true);
        check("-0", "0", true);
        check("007", "7", true);
        check("12345678901234567890123", "1.2345678901234568e22", true);
        check("9007199254740993", "9007199254740992", true);
        check("R1", "r1", true);
        check(" r1\t", "r1", true);
        check("\"r1\"", "r1", true);
        check("6f9619ff-8b86", "6F9619FF8B86", true);
        check("r1", "r1", false);
        check("12345", "12346", false);
        check("1.5", "15", false);
        check("-5", "5", false);
        check("r1", "r2", false);
        check("--", "__", false);
        check("inf", "infinity", false);
    }

    #[test]
    fn an_orphan_shows_what_is_written_almost_like_it() {
        let record =
            |offset| Record { topic: "flights.labels".to_owned(), offset, ..Record::default() };
        let near = |id: &str, offset| Nearest::of("label", "12345", id.to_owned(), &record(offset));
        let found = ["12345.0", "12345.0", "12345.00", "12346", " 12345", "1.2345e4"];
        let found = (0..).zip(found).filter_map(|(offset, id)| near(id, offset)).collect();
        let case = Case { nearest: closest(found), ..Case::default() };
        assert!(case.is_empty());
        let text = case.text("12345", "flights");
        let line = |id: &str, offset: i64| {
            format!(
                "no label has this id, but one has {id:?} (flights.labels[0]@{offset}), and ids are compared as they are written"
            )
        };
        let expected = [line("12345.0", 0), line("12345.00", 2), line(" 12345", 4)];
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), expected);
        assert_eq!(case.json("12345", "flights")["nearest"][1]["offset"], 2);
    }
}
