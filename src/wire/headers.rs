//! The names of headers and the format of their values.

use std::fmt;
use std::sync::Arc;

use serinus_core::domain::case::Outcome;
use serinus_core::domain::ids::{CaseId, ModelName, Version};
use serinus_core::domain::record::{Answer, Bytes, Header};
use serinus_core::domain::routing::Role;
use serinus_core::domain::time::Timestamp;

/// The request id that a producer sets (`CloudEvents`).
pub const CE_ID: &str = "ce_id";
/// The request id on the records that we write.
pub const REQUEST_ID: &str = "serinus-request-id";
/// The opaque token of a case, which the worker must echo.
pub const CASE: &str = "serinus-case";
/// The version that the request was sent to, that answered, or that was served.
pub const VERSION: &str = "serinus-version";
/// `serve` or `shadow`.
pub const ROLE: &str = "serinus-role";
/// The topic to answer to.
pub const REPLY_TOPIC: &str = "serinus-reply-topic";
/// The partition to answer to.
pub const REPLY_PARTITION: &str = "serinus-reply-partition";
/// Unix milliseconds after which the answer is late.
pub const DEADLINE: &str = "serinus-deadline";
/// The routing revision.
pub const REVISION: &str = "serinus-revision";
/// The reason why the worker could not answer.
pub const ERROR: &str = "serinus-error";
/// How the caller was answered.
pub const OUTCOME: &str = "serinus-outcome";
/// The reason why a record became a dead letter.
pub const DEAD_REASON: &str = "serinus-dead-reason";
/// The topic of the original record.
pub const DEAD_TOPIC: &str = "serinus-dead-topic";
/// The partition of the original record.
pub const DEAD_PARTITION: &str = "serinus-dead-partition";
/// The offset of the original record.
pub const DEAD_OFFSET: &str = "serinus-dead-offset";

/// The parts that a dead letter leaves out because they would not fit into one message. The original record still has them.
pub const DEAD_LEFT_OUT: &str = "serinus-dead-left-out";
/// The dead letter from which a record was requeued: topic, partition and offset, separated by `-`.
pub const REQUEUED_FROM: &str = "serinus-requeued-from";

/// Returns whether only dead letters have this header.
pub fn is_of_dead_letters(name: &str) -> bool {
    name.starts_with("serinus-dead-")
}

/// Returns whether a header is one of ours. Producers do not set these, and we do not copy them to other records.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("serinus-")
}

/// Returns the last value of a header, as Kafka's own clients do; `None` if the header is absent or null.
pub fn find<'a>(headers: &'a [Header], name: &str) -> Option<&'a [u8]> {
    headers.iter().rev().find(|h| &*h.name == name).and_then(|n| n.value.as_deref())
}

/// Returns the contract's word for a role.
pub fn role_word(role: Role) -> &'static str {
    match role {
        Role::Serve => "serve",
        Role::Shadow => "shadow",
    }
}

/// Returns the contract's word for an outcome.
pub fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Fallback => "fallback",
        Outcome::Default => "default",
        Outcome::Error => "error",
    }
}

/// The content of the header `serinus-case`: the case, the index of the ask, the deadline of the case, and the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The position of the request.
    pub case: CaseId,
    /// The index of the ask among those of the case.
    pub ask: usize,
    /// The time at which the case stops waiting.
    pub awaited_until: Timestamp,
    /// The model. Absent in tokens of older builds.
    pub model: Option<ModelName>,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, ask, awaited_until, model } = self;
        write!(f, "{}.{}.{ask}.{}", case.partition, case.offset, awaited_until.0)?;
        match model {
            Some(model) => write!(f, ".{model}"),
            None => Ok(()),
        }
    }
}

/// Reads a token; returns `None` for text that we did not write.
pub fn read_token(text: &[u8]) -> Option<Token> {
    // The name of a model may contain dots.
    let mut parts = std::str::from_utf8(text).ok()?.splitn(5, '.');
    let partition = parts.next()?.parse().ok().filter(|p| *p >= 0)?;
    let offset = parts.next()?.parse().ok().filter(|p| *p >= 0)?;
    let ask = parts.next()?.parse().ok()?;
    let awaited_until = Timestamp(parts.next()?.parse().ok()?);
    let model = parts.next().map(ModelName::new);
    let token = Token { case: CaseId { partition, offset }, ask, awaited_until, model };
    let is_named = token.model.as_ref().is_none_or(|model| !model.as_str().is_empty());
    (is_named && token.to_string().as_bytes() == text).then_some(token)
}

/// The reason why a record of the response topic is not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnAnswer {
    /// The header `serinus-case` is absent.
    NoCase,
    /// The header `serinus-case` is not a token of ours.
    BadCase,
    /// The header `serinus-version` is absent or not text.
    NoVersion,
}

impl NotAnAnswer {
    /// Returns the reason as text, for dead letters and counters.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoCase => "the header serinus-case is missing",
            Self::BadCase => "the header serinus-case is not a token of this program",
            Self::NoVersion => "the header serinus-version is missing or not text",
        }
    }
}

/// Reads a worker's answer from the headers of a record, in one pass.
///
/// The key and the other headers are not kept: only an answer on a wrong partition needs them.
pub fn read_answer<'a>(
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    value: Option<Bytes>,
) -> Result<Answer, NotAnAnswer> {
    let (mut case, mut version, mut error) = (None, None, None);
    for (name, text) in headers {
        match name {
            CASE => case = text,
            VERSION => version = text,
            // An error without text is still an error.
            ERROR => error = Some(text.unwrap_or_default()),
            _ => {}
        }
    }
    let token = read_token(case.ok_or(NotAnAnswer::NoCase)?).ok_or(NotAnAnswer::BadCase)?;
    let version =
        version.and_then(|v| std::str::from_utf8(v).ok()).ok_or(NotAnAnswer::NoVersion)?;
    let error = error.map(|e| Arc::from(String::from_utf8_lossy(e)));
    let Token { case, ask, awaited_until, model } = token;
    let version = Version::new(version);
    Ok(Answer { case, ask, awaited_until, model, version, error, value, carried: Arc::default() })
}

#[cfg(test)]
mod tests {
    use super::{CASE, ERROR, NotAnAnswer, Token, VERSION, read_answer, read_token};
    use serinus_core::domain::ids::{CaseId, ModelName};
    use serinus_core::domain::time::Timestamp;

    #[test]
    fn a_token_is_read_back_and_nothing_else_is() {
        let case = CaseId { partition: 3, offset: 1042 };
        let awaited_until = Timestamp(1_377_990_000_500);
        for (model, text) in [
            (None, "3.1042.1.1377990000500"),
            (Some("flights"), "3.1042.1.1377990000500.flights"),
            (Some("eu.flights"), "3.1042.1.1377990000500.eu.flights"),
        ] {
            let token = Token { case, ask: 1, awaited_until, model: model.map(ModelName::new) };
            assert_eq!(token.to_string(), text);
            assert_eq!(read_token(text.as_bytes()), Some(token));
        }
        for wrong in [
            "",
            "3",
            "3.1042.0",
            "3.1042.0.5.",
            "-1.2.0.3",
            "3.+1.0.5",
            "a.b.0.c",
            "03.1.0.5",
            "3.1.0.5 ",
        ] {
            assert_eq!(read_token(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(read_token(&[0xff, 0xfe]), None);
    }

    #[test]
    fn an_answer_needs_its_case_and_its_version() {
        type Pairs<'a> = &'a [(&'a str, Option<&'a [u8]>)];
        let read = |pairs: Pairs<'_>| read_answer(pairs.iter().copied(), None);
        let answer = read(&[
            ("other", None),
            (VERSION, Some(b"v2")),
            (CASE, Some(b"0.7.0.9")),
            (ERROR, None),
        ])
        .expect("it has all it needs");
        assert_eq!(
            (answer.version.as_str(), answer.case.offset, answer.error.as_deref()),
            ("v2", 7, Some(""))
        );
        assert_eq!(read(&[(VERSION, Some(b"v2"))]), Err(NotAnAnswer::NoCase));
        assert_eq!(read(&[(VERSION, Some(b"v2")), (CASE, Some(b"x"))]), Err(NotAnAnswer::BadCase));
        assert_eq!(
            read(&[(CASE, Some(b"0.7.0.9")), (VERSION, Some(&[0xff]))]),
            Err(NotAnAnswer::NoVersion)
        );
    }
}
