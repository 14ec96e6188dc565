//! Looks into the JSON of requests, answers and labels, without building a tree of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::ids::{CaseId, RequestId};
use crate::strategy::stage::Source;
use crate::wire::headers;

/// Why a record cannot be used, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// The parts of a record in which a text may stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts<'a> {
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// The value.
    pub value: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// Returns the bytes of a text: the key, a header, or a JSON string or number.
    ///
    /// Nothing is returned where it is absent, null, empty, or an object or list, or where the value is not JSON.
    pub fn text(&self, source: &Source) -> Option<Cow<'a, [u8]>> {
        let bytes = match source {
            Source::Key => Cow::Borrowed(self.key?),
            Source::Header(name) => Cow::Borrowed(self.header(name)?),
            Source::Json(pointer) => match scalar_text(find(self.value?, pointer)?)? {
                Cow::Borrowed(it) => Cow::Borrowed(it.as_bytes()),
                Cow::Owned(it) => Cow::Owned(it.into_bytes()),
            },
        };
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Returns a request's id: where the model says it stands, else the header `ce_id`, else made of where it stands.
    pub fn request_id(&self, source: Option<&Source>, topic: &str, case: CaseId) -> RequestId {
        let written = source.and_then(|it| self.text(it)).and_then(utf8);
        let written =
            written.or_else(|| self.header(headers::CE_ID).map(Cow::Borrowed).and_then(utf8));
        match written.filter(|it| !it.is_empty()) {
            Some(id) => RequestId::new(id),
            None => RequestId::from(format!("{topic}-{}-{}", case.partition, case.offset)),
        }
    }

    /// Returns the last value of a header.
    fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().rev().find(|(it, _)| *it == name).and_then(|(_, value)| *value)
    }
}

fn utf8(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(it) => std::str::from_utf8(it).ok().map(Cow::Borrowed),
        Cow::Owned(it) => String::from_utf8(it).ok().map(Cow::Owned),
    }
}

/// Returns a JSON value as it is written, if the bytes are one; white space around it is left out.
pub fn raw(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}

/// Returns what stands at a JSON pointer, as it is written; nothing where the bytes are not JSON or it is absent.
///
/// Of two fields of one name the last counts, as in most readers of JSON.
pub fn find<'a>(bytes: &'a [u8], pointer: &str) -> Option<&'a RawValue> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let rest = if pointer.is_empty() { None } else { Some(pointer.strip_prefix('/')?) };
    let found = Walk { rest }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    found
}

/// Returns the text of a JSON string, number or boolean.
pub fn scalar_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    match text.as_bytes().first()? {
        b'"' => match text.get(1..text.len() - 1) {
            Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
            _ => serde_json::from_str(text).ok().map(Cow::Owned),
        },
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(text)),
    }
}

/// Goes down a pointer; `rest` is what is left of it, `None` at its end.
#[derive(Clone, Copy)]
struct Walk<'p> {
    rest: Option<&'p str>,
}

impl<'p> Walk<'p> {
    fn step(self) -> (Cow<'p, str>, Self) {
        let rest = self.rest.unwrap_or_default();
        let (name, rest) =
            rest.split_once('/').map_or((rest, None), |(name, rest)| (name, Some(rest)));
        let name = if name.contains('~') {
            Cow::Owned(name.replace("~1", "/").replace("~0", "~"))
        } else {
            Cow::Borrowed(name)
        };
        (name, Self { rest })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.rest {
            None => serde::Deserialize::deserialize(deserializer).map(Some),
            Some(_) => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let (name, below) = self.step();
        let mut found = None;
        while let Some(is_it) = access.next_key_seed(Is(&name))? {
            if is_it {
                found = access.next_value_seed(below)?;
            } else {
                access.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let (name, below) = self.step();
        // As in RFC 6901, an index has no sign and no leading zero.
        let index: Option<usize> = name.parse().ok().filter(|it: &usize| it.to_string() == *name);
        let mut found = None;
        for here in 0.. {
            if Some(here) == index {
                match access.next_element_seed(below)? {
                    Some(it) => found = it,
                    None => break,
                }
            } else if access.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Reads a field's name and says whether it is the one looked for.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{Parts, find, raw};
    use crate::domain::ids::CaseId;
    use crate::strategy::stage::Source;

    const FLIGHT: &[u8] = br#" {"id": "r\u00fc1", "tail": {"a/b": [10, {"x~y": 1.50}]}, "no": null, "e": "", "id2": 17} "#;

    #[test]
    fn a_pointer_finds_what_is_written() {
        let check = |pointer: &str, expected: Option<&str>| {
            assert_eq!(find(FLIGHT, pointer).map(RawValue::get), expected, "{pointer}");
        };
        check("/tail/a~1b/0", Some("10"));
        check("/tail/a~1b/1/x~0y", Some("1.50"));
        check("/tail/a~1b/01", None);
        check("/tail/a~1b/9", None);
        check("/id/x", None);
        check("/nothing", None);
        check("/no", Some("null"));
        check("wrong", None);
        assert_eq!(find(b"3", "").map(RawValue::get), Some("3"));
        assert_eq!(find(br#"{"a":1,"a":2}"#, "/a").map(RawValue::get), Some("2"));
    }

    #[test]
    fn what_is_not_json_has_nothing_in_it() {
        let deep = [b"{\"a\":".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat();
        for bytes in [&b""[..], b"{", b"{\"a\":1} x", b"\xff\xfe", b"{\"a\":1", b"{\"a\" 1}"] {
            assert!(find(bytes, "/a").is_none() && raw(bytes).is_none(), "{bytes:?}");
        }
        assert!(raw(&deep).is_some() && find(&deep, "/b").is_none(), "depth is no danger");
    }

    #[test]
    fn a_text_is_a_key_a_header_a_string_or_a_number() {
        let parts = Parts {
            key: Some(b"k"),
            headers: &[("h", Some(b"1")), ("h", Some(b"2"))],
            value: Some(FLIGHT),
        };
        let check = |source: Source, expected: Option<&str>| {
            assert_eq!(parts.text(&source).as_deref(), expected.map(str::as_bytes), "{source:?}");
        };
        check(Source::Key, Some("k"));
        check(Source::Header("h".to_owned()), Some("2"));
        check(Source::Header("H".to_owned()), None);
        check(Source::Json("/id".to_owned()), Some("r\u{fc}1"));
        check(Source::Json("/id2".to_owned()), Some("17"));
        check(Source::Json("/tail".to_owned()), None);
        check(Source::Json("/no".to_owned()), None);
        check(Source::Json("/e".to_owned()), None);
    }

    #[test]
    fn every_request_has_an_id() {
        let case = CaseId { partition: 3, offset: 9 };
        let check = |parts: Parts<'_>, source: Option<&Source>, expected: &str| {
            assert_eq!(parts.request_id(source, "flights.requests", case).as_str(), expected);
        };
        let id = Source::Json("/id2".to_owned());
        let ce =
            Parts { headers: &[("ce_id", Some(b"c1"))], value: Some(FLIGHT), ..Parts::default() };
        check(ce, None, "c1");
        check(ce, Some(&id), "17");
        check(Parts { value: None, ..ce }, Some(&id), "c1");
        check(Parts::default(), Some(&id), "flights.requests-3-9");
        check(
            Parts { headers: &[("ce_id", Some(b"\xff"))], ..Parts::default() },
            None,
            "flights.requests-3-9",
        );
        check(
            Parts { headers: &[("ce_id", None)], ..Parts::default() },
            None,
            "flights.requests-3-9",
        );
    }
}
