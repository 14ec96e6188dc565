//! `serinus requeue`: sends dead letters back to where they come from.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::dead::{DeadLetter, Filter, topic_of};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::columns;
use crate::kafka::client::topic_reader::{Record, TopicReader, TopicWriter};
use crate::wire::headers;

/// How long a broker may take to accept a record.
const WRITE_MAX: Duration = Duration::from_secs(15);

/// What `requeue` takes.
#[derive(Clone, Debug, Args)]
pub struct RequeueArgs {
    /// The model whose dead letters are meant
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Only the dead letter at this place of their topic; may be repeated
    #[arg(long = "offset", value_name = "PARTITION:OFFSET", value_parser = place)]
    offsets: Vec<(i32, i64)>,
    /// Only those whose reason holds this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those whose record stood in this topic
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// All of them; needed where nothing else says which
    #[arg(long)]
    all: bool,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
}

/// What becomes of one dead letter.
struct Requeued<'a> {
    dead: &'a DeadLetter,
    /// What is sent; nothing where the bytes are gone.
    record: Option<Record>,
}

/// Sends what was asked for; a record of which the bytes are gone is exit code 1, after the others were sent.
///
/// Who asks twice sends twice: the header `serinus-requeued-from` tells the copies of one dead letter.
pub(crate) fn run(args: &RequeueArgs, context: &Context) -> Result<Exit, CliError> {
    let (reason, topic) = (args.reason.as_deref(), args.topic.as_deref());
    let filter = Filter { places: &args.offsets, reason, topic };
    if filter.is_empty() && !args.all {
        return Err(CliError::Usage(
            "which dead letters? give --offset, --reason or --topic, or --all".to_owned(),
        ));
    }
    let reader = context.reader()?;
    let dead_letters = topic_of(&args.model, context, &reader)?;
    let letters = reader.read_to_end(&dead_letters)?;
    let letters: Vec<DeadLetter> =
        letters.into_iter().filter_map(DeadLetter::of).filter(|o| filter.holds(o)).collect();
    if letters.is_empty() && !args.all {
        return Err(CliError::NotFound(format!(
            "no dead letter on `{dead_letters}` is meant by this"
        )));
    }
    let topics = reader.topics()?;
    let mut requeued = Vec::new();
    for dead in &letters {
        let count = topics.get(&dead.topic).copied().unwrap_or(0);
        let found = if dead.partition < count { original(&reader, dead)? } else { None };
        let record = record(dead, found, count);
        requeued.push(Requeued { dead, record });
    }
    if !args.dry_run {
        let writer = TopicWriter::new(&context.settings()?, WRITE_MAX)?;
        for record in requeued.iter().filter_map(|r| r.record.as_ref()) {
            writer.write(record)?;
        }
    }
    let value = json!({
        "dead_letters": dead_letters,
        "dry_run": args.dry_run,
        "requeued": requeued.iter().map(Requeued::json).collect::<Vec<Value>>(),
    });
    context.output.document(&value, || table(&requeued))?;
    let is_whole = requeued.iter().all(|r| r.record.is_some());
    Ok(if is_whole { Exit::Reached } else { Exit::Failed })
}

/// Finds the original record of a dead letter, if it still exists. A topic that was deleted and created again has other records there.
fn original(reader: &TopicReader, dead: &DeadLetter) -> Result<Option<Record>, CliError> {
    let found = reader.at(&dead.topic, dead.partition, dead.offset)?;
    Ok(found.filter(|f| is_original(dead, f)))
}

fn is_original(dead: &DeadLetter, found: &Record) -> bool {
    let lacks = |part: &str| dead.left_out.as_deref().is_some_and(|l| l.contains(part));
    (lacks("key") || found.key == dead.record.key)
        && (lacks("value") || found.value == dead.record.value)
}

/// Returns the record to send: the original, or else the copy in the dead letter; `None` if the copy is not complete.
fn record(dead: &DeadLetter, original: Option<Record>, partitions: i32) -> Option<Record> {
    let copy = (dead.left_out.is_none() && partitions > 0).then(|| Record {
        timestamp: None,
        headers: dead.headers(),
        ..dead.record.clone()
    });
    let mut record = original.or(copy)?;
    record.topic.clone_from(&dead.topic);
    record.partition = dead.partition % partitions;
    let from = &dead.record;
    let from = format!("{}-{}-{}", from.topic, from.partition, from.offset);
    record
        .headers
        .retain(|(name, _)| name != headers::REQUEUED_FROM && !headers::is_of_dead_letters(name));
    record.headers.push((headers::REQUEUED_FROM.to_owned(), Some(from.into_bytes())));
    Some(record)
}

impl Requeued<'_> {
    fn json(&self) -> Value {
        let from = &self.dead.record;
        json!({
            "partition": from.partition,
            "offset": from.offset,
            "reason": self.dead.reason,
            "to": self.record.as_ref().map(|r| json!({"topic": r.topic, "partition": r.partition})),
        })
    }
}

fn table(requeued: &[Requeued<'_>]) -> String {
    let row = |t: &Requeued<'_>| {
        let from = &t.dead.record;
        let to = t.record.as_ref().map_or_else(
            || {
                "not sent: the record is no longer kept, and its dead letter lacks its bytes"
                    .to_owned()
            },
            |r| format!("{}[{}]", r.topic, r.partition),
        );
        vec![format!("{}:{}", from.partition, from.offset), t.dead.reason.clone(), to]
    };
    columns(&["OFFSET", "REASON", "TO"], requeued.iter().map(row).collect())
}

fn place(text: &str) -> Result<(i32, i64), String> {
    let parsed = text
        .split_once(':')
        .and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
    parsed.ok_or_else(|| format!("`{text}` is not PARTITION:OFFSET"))
}

#[cfg(test)]
mod tests {
    use super::{is_original, place, record};
    use crate::cli::dead::tests::letter;
    use crate::kafka::client::topic_reader::Record;

    fn text(record: &Record) -> String {
        let headers: Vec<String> = record
            .headers
            .iter()
            .map(|(name, h)| {
                format!("{name}={}", String::from_utf8_lossy(h.as_deref().unwrap_or_default()))
            })
            .collect();
        let value = record.value.as_deref().map(String::from_utf8_lossy);
        format!(
            "{}[{}] {value:?} at {:?}, {}",
            record.topic,
            record.partition,
            record.timestamp,
            headers.join(" ")
        )
    }

    #[test]
    fn a_record_goes_back_as_it_stood() {
        let whole = letter(&[]);
        let cut = letter(&[("serinus-dead-left-out", "value, headers")]);
        let stood = Record {
            key: Some(b"N14228".to_vec()),
            value: Some(b"{".to_vec()),
            timestamp: Some(7),
            headers: vec![("a".to_owned(), Some(b"b".to_vec()))],
            ..Record::default()
        };
        let from = "serinus-requeued-from=flights.dead-letters-1-4";
        let check = |sent: Option<Record>, expected: Option<String>| {
            assert_eq!(sent.as_ref().map(text), expected);
        };
        let copy =
            |to: i32| Some(format!("flights.labels[{to}] Some(\"{{\") at None, ce_id=r1 {from}"));
        check(record(&whole, None, 4), copy(2));
        check(record(&whole, None, 2), copy(0));
        check(record(&whole, None, 0), None);
        check(record(&cut, None, 4), None);
        let original = Some(format!("flights.labels[2] Some(\"{{\") at Some(7), a=b {from}"));
        check(record(&cut, Some(stood.clone()), 4), original);
        let other = Record { value: Some(b"other".to_vec()), ..stood.clone() };
        assert!(is_original(&whole, &stood) && !is_original(&whole, &other));
        assert!(is_original(&cut, &other), "the dead letter does not know its bytes");
    }

    #[test]
    fn a_place_is_a_partition_and_an_offset() {
        assert_eq!(place("3:1042"), Ok((3, 1042)));
        for wrong in ["", "3", "3:", "a:1", "3-1042"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
