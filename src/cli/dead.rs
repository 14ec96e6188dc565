//! Dead letters, as people look for them and read them.

use serde_json::{Value, json};

use crate::cli::context::{Context, record_json};
use crate::cli::error::CliError;
use crate::cli::say;
use crate::cli::state::{self, State};
use crate::kafka::client::topic_reader::{Record, TopicReader};
use crate::wire::headers;
use serinus_core::domain::ids::ModelName;
use serinus_core::plan::rollout::ModelTopics;

/// A dead letter, and what its headers say of the record that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    /// The dead letter itself.
    pub(crate) record: Record,
    /// Why the record could not be used.
    pub(crate) reason: String,
    /// The topic in which the record stood.
    pub(crate) topic: String,
    /// The partition.
    pub(crate) partition: i32,
    /// The offset.
    pub(crate) offset: i64,
    /// What is not in the dead letter.
    pub(crate) left_out: Option<String>,
}

impl DeadLetter {
    /// Reads one; nothing where the headers do not say where a record stood.
    pub(crate) fn of(record: Record) -> Option<Self> {
        let text = |name| record.header(name).map(str::to_owned);
        Some(Self {
            reason: text(headers::DEAD_REASON)?,
            topic: text(headers::DEAD_TOPIC)?,
            partition: text(headers::DEAD_PARTITION)?.parse().ok()?,
            offset: text(headers::DEAD_OFFSET)?.parse().ok()?,
            left_out: text(headers::DEAD_LEFT_OUT),
            record,
        })
    }

    /// Returns the headers that the record had itself.
    pub(crate) fn headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let is_its_own = |name: &str| !headers::is_of_dead_letters(name);
        self.record.headers.iter().filter(|(name, _)| is_its_own(name)).cloned().collect()
    }

    /// Returns it for programs.
    pub(crate) fn json(&self) -> Value {
        let own = Record { headers: self.headers(), ..self.record.clone() };
        let mut value = record_json(&own);
        value["dead"] = json!({
            "reason": self.reason,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "left_out": self.left_out,
        });
        value
    }

    /// Returns it for people.
    pub(crate) fn text(&self) -> String {
        let bytes = |bytes: &Option<Vec<u8>>| match bytes {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => "null".to_owned(),
        };
        let Self { record, reason, topic, partition, offset, left_out } = self;
        let time = record.timestamp.map_or_else(|| "-".to_owned(), say::moment);
        let mut lines = vec![
            format!("{}[{}]@{}  {time}", record.topic, record.partition, record.offset),
            format!("  reason  {reason}"),
            format!("  from    {topic}[{partition}]@{offset}"),
        ];
        lines.extend(left_out.iter().map(|l| format!("  left out because of its size: {l}")));
        lines.push(format!("  key     {}", bytes(&record.key)));
        let own = self.headers();
        lines.extend(own.iter().map(|(name, o)| format!("  header  {name}: {}", bytes(o))));
        lines.push(format!("  value   {}", bytes(&record.value)));
        lines.join("\n")
    }
}

/// Which dead letters are meant; what is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter<'a> {
    /// Where they stand themselves: partition and offset.
    pub(crate) places: &'a [(i32, i64)],
    /// A part of the reason.
    pub(crate) reason: Option<&'a str>,
    /// The topic in which the records stood.
    pub(crate) topic: Option<&'a str>,
}

impl Filter<'_> {
    /// Returns whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether a dead letter is meant.
    pub(crate) fn holds(&self, dead: &DeadLetter) -> bool {
        let place = (dead.record.partition, dead.record.offset);
        (self.places.is_empty() || self.places.contains(&place))
            && self.reason.is_none_or(|r| dead.reason.contains(r))
            && self.topic.is_none_or(|t| dead.topic == t)
    }
}

/// Returns the topic of a model's dead letters; the contract's name where the application does not know the model.
pub(crate) fn topic_of(
    model: &str,
    context: &Context,
    reader: &TopicReader,
) -> Result<String, CliError> {
    let states = match state::read_all(context, reader) {
        Ok(states) => states,
        Err(CliError::NoApp { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let plan = states.iter().find(|s| s.model == model).and_then(State::plan);
    let topics = plan.map_or_else(|| ModelTopics::of(&ModelName::new(model)), |m| m.topics);
    Ok(topics.dead_letters)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{DeadLetter, Filter};
    use crate::kafka::client::topic_reader::Record;

    pub(crate) fn letter(extra: &[(&str, &str)]) -> DeadLetter {
        let headers = [
            ("ce_id", "r1"),
            ("serinus-dead-reason", "it is neither JSON nor Avro"),
            ("serinus-dead-topic", "flights.labels"),
            ("serinus-dead-partition", "2"),
            ("serinus-dead-offset", "17"),
        ];
        let headers = headers.iter().chain(extra);
        DeadLetter::of(Record {
            topic: "flights.dead-letters".to_owned(),
            partition: 1,
            offset: 4,
            timestamp: Some(1_377_993_600_000),
            key: Some(b"N14228".to_vec()),
            value: Some(b"{".to_vec()),
            headers: headers
                .map(|(name, h)| ((*name).to_owned(), Some(h.as_bytes().to_vec())))
                .collect(),
        })
        .expect("it says where its record stood")
    }

    #[test]
    fn a_dead_letter_says_why_and_where_from() {
        insta::assert_snapshot!(letter(&[("serinus-dead-left-out", "value")]).text(), @"
        flights.dead-letters[1]@4  2013-09-01 00:00:00
          reason  it is neither JSON nor Avro
          from    flights.labels[2]@17
          left out because of its size: value
          key     N14228
          header  ce_id: r1
          value   {
        ");
        let json = letter(&[]).json();
        assert_eq!(
            (&json["dead"]["offset"], json["headers"].as_array().map(Vec::len)),
            (&17.into(), Some(1))
        );
        assert_eq!(DeadLetter::of(Record::default()), None);
    }

    #[test]
    fn a_filter_holds_where_all_that_it_says_does() {
        let check = |filter: Filter<'_>, expected: bool| {
            assert_eq!(filter.holds(&letter(&[])), expected, "{filter:?}");
        };
        check(Filter::default(), true);
        check(Filter { places: &[(0, 4), (1, 4)], ..Filter::default() }, true);
        check(Filter { places: &[(1, 5)], ..Filter::default() }, false);
        check(
            Filter {
                reason: Some("neither JSON"),
                topic: Some("flights.labels"),
                ..Filter::default()
            },
            true,
        );
        check(
            Filter { reason: Some("no id"), topic: Some("flights.labels"), ..Filter::default() },
            false,
        );
        check(Filter { topic: Some("flights.requests"), ..Filter::default() }, false);
        assert!(
            Filter::default().is_empty()
                && !Filter { topic: Some("t"), ..Filter::default() }.is_empty()
        );
    }
}
