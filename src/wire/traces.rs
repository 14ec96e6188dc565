//! Reads a case back from the headers of the records that its lane has written.

use crate::wire::headers::{self, Token};
use serinus_core::domain::case::Outcome;
use serinus_core::domain::ids::{Revision, Version};
use serinus_core::domain::record::Bytes;
use serinus_core::domain::routing::Role;
use serinus_core::domain::time::Timestamp;
use serinus_core::engine::case_recovery::{Answered, Copied};

/// The headers of a record, in order.
pub type Pairs<'a> = [(&'a str, Option<&'a [u8]>)];

/// Reads a copy of a request; returns `None` for a record that we did not write.
pub fn read_copy(pairs: &Pairs<'_>, at: Timestamp) -> Option<(Token, Copied)> {
    let token = headers::read_token(text(pairs, headers::CASE)?.as_bytes())?;
    let role = match text(pairs, headers::ROLE)? {
        "serve" => Role::Serve,
        "shadow" => Role::Shadow,
        _ => return None,
    };
    let copied = Copied {
        version: Version::new(text(pairs, headers::VERSION)?),
        role,
        at,
        deadline: Timestamp(text(pairs, headers::DEADLINE)?.parse().ok()?),
        close_at: token.awaited_until,
        revision: revision(pairs)?,
    };
    Some((token, copied))
}

/// Reads a served record with its request id; returns `None` for a record that we did not write.
pub fn read_answered<'a>(
    pairs: &Pairs<'a>,
    value: Option<&[u8]>,
    at: Timestamp,
) -> Option<(&'a str, Answered)> {
    let outcome = match text(pairs, headers::OUTCOME)? {
        "ok" => Outcome::Ok,
        "fallback" => Outcome::Fallback,
        "default" => Outcome::Default,
        "error" => Outcome::Error,
        _ => return None,
    };
    let answered = Answered {
        version: text(pairs, headers::VERSION).map(Version::new),
        outcome,
        at,
        value: value.map(Bytes::from),
        revision: revision(pairs)?,
    };
    Some((text(pairs, headers::REQUEST_ID)?, answered))
}

fn revision(pairs: &Pairs<'_>) -> Option<Revision> {
    Some(Revision(text(pairs, headers::REVISION)?.parse().ok()?))
}

fn text<'a>(pairs: &Pairs<'a>, name: &str) -> Option<&'a str> {
    let (_, value) = pairs.iter().rev().find(|(p, _)| *p == name)?;
    std::str::from_utf8((*value)?).ok()
}

#[cfg(test)]
mod tests {
    use super::{Pairs, read_answered, read_copy};
    use serinus_core::domain::case::Outcome;
    use serinus_core::domain::ids::Revision;
    use serinus_core::domain::routing::Role;
    use serinus_core::domain::time::Timestamp;

    const COPY: [(&str, Option<&[u8]>); 6] = [
        ("traceparent", Some(b"a stranger's")),
        ("serinus-case", Some(b"3.1042.1.90")),
        ("serinus-version", Some(b"v2")),
        ("serinus-role", Some(b"shadow")),
        ("serinus-deadline", Some(b"80")),
        ("serinus-revision", Some(b"7")),
    ];

    #[test]
    fn a_copy_says_who_was_asked_and_until_when() {
        let (token, copy) = read_copy(&COPY, Timestamp(5)).expect("it has all it needs");
        assert_eq!((token.case.offset, token.ask, copy.role), (1042, 1, Role::Shadow));
        assert_eq!((copy.deadline, copy.close_at), (Timestamp(80), Timestamp(90)));
        for (left_out, _) in COPY.into_iter().skip(1) {
            let pairs: Vec<_> = COPY.into_iter().filter(|(name, _)| *name != left_out).collect();
            assert_eq!(read_copy(&pairs, Timestamp(5)), None, "without {left_out}");
        }
    }

    #[test]
    fn a_served_record_says_whose_it_is_and_how_it_came_about() {
        let pairs: &Pairs<'_> = &[
            ("serinus-request-id", Some(b"r1")),
            ("serinus-revision", Some(b"7")),
            ("serinus-outcome", Some(b"default")),
        ];
        let (id, answered) = read_answered(pairs, None, Timestamp(5)).expect("it has all it needs");
        assert_eq!(
            (id, answered.outcome, answered.revision),
            ("r1", Outcome::Default, Revision(7))
        );
        assert_eq!((answered.version, answered.value), (None, None));
        assert_eq!(read_answered(&pairs[1..], None, Timestamp(5)), None);
    }
}
