//! `serinus tail`: prints the records of a topic.

use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;

use crate::cli::context::{Context, record_json};
use crate::cli::dead::{DeadLetter, Filter};
use crate::cli::decoded::{Decoded, Subject};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::line;
use crate::cli::say;
use crate::cli::state::{self, State};
use crate::kafka::client::topic_reader::{Record, Start, TopicReader, Which};
use serinus_core::domain::ids::{ModelName, Version};
use serinus_core::plan::rollout::ModelTopics;

/// How many records are printed when nothing else is said.
const COUNT: usize = 10;

/// What `tail` takes.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct TailArgs {
    /// A topic: its whole name, or one of the application's (rollout-metrics, rollout-events, rollouts, commands)
    /// or a model's (requests, responses, served, predictions, labels, analysis, dead-letters, VERSION.requests)
    #[arg(required_unless_present = "dead", conflicts_with = "dead", value_name = "TOPIC")]
    name: Option<String>,
    /// Dead letters: why each is one, where its record stood, and the record
    #[arg(long)]
    dead: bool,
    /// Of dead letters, only those whose reason holds this text
    #[arg(long, value_name = "TEXT", requires = "dead")]
    reason: Option<String>,
    /// Of dead letters, only those whose record stood in this topic
    #[arg(long, value_name = "NAME", requires = "dead")]
    topic: Option<String>,
    /// The model, where the application has several; of the application's topics, only this model's records
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// How many records: the newest, or with --from-beginning the oldest; by default 10, or all from the beginning
    #[arg(short = 'n', long = "lines", value_name = "N")]
    count: Option<usize>,
    /// Begin with the oldest record that is kept
    #[arg(long)]
    from_beginning: bool,
    /// Continue with new records as they arrive
    #[arg(short, long)]
    follow: bool,
    /// One JSON object a line, whatever the output format
    #[arg(long)]
    raw: bool,
}

/// What is printed of the topic.
struct Wanted<'a> {
    topic: String,
    /// Only records of this model, where the topic is of several.
    model: Option<&'a str>,
}

/// Prints a topic's records and, on request, those that come.
pub(crate) fn run(args: &TailArgs, context: &Context) -> Result<Exit, CliError> {
    let reader = context.reader()?;
    let wanted = wanted(args, context, &reader)?;
    let filter =
        Filter { places: &[], reason: args.reason.as_deref(), topic: args.topic.as_deref() };
    let is_wanted = |t: &Record| {
        let is_meant = |r: &Record| DeadLetter::of(r.clone()).is_some_and(|i| filter.holds(&i));
        let is_of = |model: &str, r: &Record| {
            let subject: Option<Decoded<Subject>> = Decoded::of(r);
            subject.is_some_and(|s| s.record.model.as_deref() == Some(model))
        };
        wanted.model.is_none_or(|model| is_of(model, t)) && (filter.is_empty() || is_meant(t))
    };
    // Follow the topic before its records are read, so that no record between the two is lost.
    let coming = if args.follow {
        Some(context.reader()?.follow(&[&wanted.topic], Start::BeforeEnd(0))?)
    } else {
        None
    };
    if args.from_beginning {
        let mut left = args.count.unwrap_or(usize::MAX);
        let mut printed = Ok(());
        reader.scan(&wanted.topic, Which::All, Start::Beginning, |t| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            if is_wanted(&t) {
                left -= 1;
                printed = print(args, context, &t);
            }
            if printed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        printed?;
    } else {
        for it in newest(&reader, &wanted.topic, args.count.unwrap_or(COUNT), is_wanted)? {
            print(args, context, &it)?;
        }
    }
    if let Some(coming) = coming {
        loop {
            if let Some(it) = coming.next(Duration::from_mins(1))?
                && is_wanted(&it)
            {
                print(args, context, &it)?;
            }
        }
    }
    Ok(Exit::Reached)
}

/// Reads the newest records, by time; further back where aborted transactions and other models' records fill the end.
fn newest(
    reader: &TopicReader,
    topic: &str,
    count: usize,
    is_wanted: impl Fn(&Record) -> bool,
) -> Result<Vec<Record>, CliError> {
    let mut back = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(4).saturating_add(16);
    loop {
        let mut records = Vec::new();
        let mut read: i64 = 0;
        let mut oldest_offset = i64::MAX;
        reader.scan(topic, Which::All, Start::BeforeEnd(back), |b| {
            read += 1;
            oldest_offset = oldest_offset.min(b.offset);
            if is_wanted(&b) {
                records.push(b);
            }
            ControlFlow::Continue(())
        })?;
        if records.len() >= count || back > 1 << 40 {
            // Kafka orders within a partition only; between them the records' own time is the best there is.
            records.sort_by_key(|r| (r.timestamp, r.partition, r.offset));
            return Ok(records.split_off(records.len().saturating_sub(count)));
        }
        back = back.saturating_mul(64);
    }
}

fn wanted<'a>(
    args: &'a TailArgs,
    context: &Context,
    reader: &TopicReader,
) -> Result<Wanted<'a>, CliError> {
    let model = args.model.as_deref();
    let name = args.name.as_deref().unwrap_or("dead-letters");
    if ["rollout-metrics", "rollout-events", "rollouts", "commands"].contains(&name) {
        return Ok(Wanted { topic: context.own(name), model });
    }
    if reader.topics()?.contains_key(name) {
        return Ok(Wanted { topic: name.to_owned(), model });
    }
    let states = match state::read_all(context, reader) {
        Ok(states) => states,
        // Without an application the contract's names still hold.
        Err(CliError::NoApp { .. }) if model.is_some() => Vec::new(),
        Err(error) => return Err(error),
    };
    let topics = match (model, &states[..]) {
        (Some(model), states) => states
            .iter()
            .find(|s| s.model == model)
            .and_then(State::plan)
            .map_or_else(|| ModelTopics::of(&ModelName::new(model)), |m| m.topics),
        (None, [state]) => state
            .plan()
            .map_or_else(|| ModelTopics::of(&ModelName::new(&state.model)), |m| m.topics),
        (None, states) => {
            let models: Vec<&str> = states.iter().map(|s| s.model.as_str()).collect();
            return Err(CliError::Usage(format!(
                "`{name}` of which model? give --model, one of: {}",
                models.join(", ")
            )));
        }
    };
    let topic = short(&topics, name).ok_or_else(|| {
        CliError::NotFound(format!(
            "there is no topic `{name}` in this cluster, and it is no short name of one"
        ))
    })?;
    Ok(Wanted { topic, model: None })
}

fn short(topics: &ModelTopics, name: &str) -> Option<String> {
    let topic = match name {
        "requests" => &topics.requests,
        "responses" => &topics.responses,
        "served" => &topics.served,
        "predictions" => &topics.predictions,
        "labels" => &topics.labels,
        "analysis" => &topics.analysis,
        "dead-letters" => &topics.dead_letters,
        _ => {
            let version = name.strip_suffix(".requests")?;
            return Some(topics.of_version(&Version::new(version)));
        }
    };
    Some(topic.clone())
}

fn print(args: &TailArgs, context: &Context, record: &Record) -> Result<(), CliError> {
    if args.dead
        && let Some(dead) = DeadLetter::of(record.clone())
    {
        let value = dead.json();
        return if args.raw {
            line(&value.to_string())
        } else {
            context.output.item(&value, || dead.text())
        };
    }
    let value = record_json(record);
    if args.raw { line(&value.to_string()) } else { context.output.item(&value, || text(record)) }
}

fn text(record: &Record) -> String {
    let bytes = |bytes: &Option<Vec<u8>>| match bytes {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "null".to_owned(),
    };
    let time = record.timestamp.map_or_else(|| "-".to_owned(), say::moment);
    let Record { topic, partition, offset, .. } = record;
    let mut lines =
        vec![format!("{topic}[{partition}]@{offset}  {time}  key {}", bytes(&record.key))];
    lines.extend(record.headers.iter().map(|(name, value)| format!("  {name}: {}", bytes(value))));
    lines.push(format!("  {}", bytes(&record.value)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{ModelName, ModelTopics, Record, short, text};

    #[test]
    fn short_names_are_the_models_topics() {
        let topics = ModelTopics::of(&ModelName::new("flights"));
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(short(&topics, name).as_deref(), expected, "{name}");
        };
        check("served", Some("flights.served"));
        check("dead-letters", Some("flights.dead-letters"));
        check("v2.requests", Some("flights.v2.requests"));
        check("serve", None);
    }

    #[test]
    fn a_record_shows_where_it_stands_and_what_it_carries() {
        let record = Record {
            topic: "flights.served".to_owned(),
            partition: 3,
            offset: 1042,
            timestamp: Some(1_377_993_600_000),
            key: Some(b"N14228".to_vec()),
            value: Some(br#"{"score":0.12}"#.to_vec()),
            headers: vec![("serinus-version".to_owned(), Some(b"v2".to_vec()))],
        };
        insta::assert_snapshot!(text(&record), @r#"
        flights.served[3]@1042  2013-09-01 00:00:00  key N14228
          serinus-version: v2
          {"score":0.12}
        "#);
    }
}
