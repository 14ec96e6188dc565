//! Finds values in the JSON of requests, answers and labels without building a tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::IgnoredAny;
use serde_json::Number;
use serde_json::value::RawValue;

use crate::wire::headers;
use serinus_core::domain::ids::{CaseId, RequestId};
use serinus_core::plan::rollout::Source;

/// The reason why a record cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// The parts of a record in which a text can be found.
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
    /// Returns the bytes of a text: the key, a header, or a JSON string, number or boolean.
    ///
    /// Returns `None` if it is absent, null, empty, an object or a list, or if the value is not JSON.
    pub fn text(&self, source: &Source) -> Option<Cow<'a, [u8]>> {
        let bytes = match source {
            Source::Key => Cow::Borrowed(self.key?),
            Source::Header(name) => Cow::Borrowed(self.header(name)?),
            Source::Json(pointer) => match scalar_text(find(self.value?, pointer)?)? {
                Cow::Borrowed(value) => Cow::Borrowed(value.as_bytes()),
                Cow::Owned(value) => Cow::Owned(value.into_bytes()),
            },
        };
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Returns an id as it is written: the key, a header, or a JSON string or number. Ids of requests and of labels are read alike.
    ///
    /// Returns `None` if it is absent, empty, not UTF-8, or of another type.
    pub fn id(&self, source: &Source) -> Option<Cow<'a, str>> {
        let id = match source {
            Source::Key => std::str::from_utf8(self.key?).ok().map(Cow::Borrowed)?,
            Source::Header(name) => {
                std::str::from_utf8(self.header(name)?).ok().map(Cow::Borrowed)?
            }
            Source::Json(pointer) => id_text(find(self.value?, pointer)?)?,
        };
        (!id.is_empty()).then_some(id)
    }

    /// Returns the id of a request: from `source`, else from the header `ce_id`, else made from its topic, partition and offset.
    pub fn request_id(&self, source: Option<&Source>, topic: &str, case: CaseId) -> RequestId {
        let written = source.and_then(|source| self.id(source));
        let by_header = || {
            let id = std::str::from_utf8(self.header(headers::CE_ID)?).ok()?;
            (!id.is_empty()).then_some(Cow::Borrowed(id))
        };
        match written.or_else(by_header) {
            Some(id) => RequestId::new(id),
            None => RequestId::from(format!("{topic}-{}-{}", case.partition, case.offset)),
        }
    }

    /// Returns the last value of a header.
    fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().rev().find(|(h, _)| *h == name).and_then(|(_, value)| *value)
    }
}

/// Returns the bytes as one JSON value without the white space around it, or `None` if they are not JSON.
pub fn raw(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}

/// Returns the value at a JSON pointer as it is written, or `None` if it is absent or the bytes do not have the structure of JSON.
///
/// Of two fields with the same name the last counts, as in most JSON parsers. The rest of the document only needs the structure of
/// JSON: `NaN` and `Infinity`, which Python writes, and text that is not UTF-8 are skipped.
pub fn find<'a>(bytes: &'a [u8], pointer: &str) -> Option<&'a str> {
    let path: Vec<Cow<'_, str>> = match pointer.strip_prefix('/') {
        Some(rest) => rest.split('/').map(unescaped).collect(),
        None if pointer.is_empty() => Vec::new(),
        None => return None,
    };
    let mut scanner = Scanner::new(bytes);
    let found = scanner.find(&path)?;
    scanner.end()?;
    std::str::from_utf8(found?).ok()
}

/// Returns whether the bytes have the structure of JSON. Words such as `NaN` may take the place of numbers inside of objects and lists.
pub fn is_structured(bytes: &[u8]) -> bool {
    let mut scanner = Scanner::new(bytes);
    let is_word = !matches!(scanner.peek(), Some(b'{' | b'[' | b'"'));
    let is_whole = scanner.skip_value().and_then(|()| scanner.end()).is_some();
    is_whole && (!is_word || raw(bytes).is_some())
}

/// Returns the text of a JSON string, number or boolean, and `None` for anything else, including `NaN` and `+5`.
pub fn scalar_text(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first()? {
        b'"' => match raw.get(1..raw.len() - 1) {
            Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
            _ => serde_json::from_str(raw).ok().map(Cow::Owned),
        },
        b'{' | b'[' | b'n' => None,
        _ => serde_json::from_str::<IgnoredAny>(raw).ok().map(|_| Cow::Borrowed(raw)),
    }
}

/// Returns the text of a JSON string, or a JSON number as it is written.
pub fn id_text(raw: &str) -> Option<Cow<'_, str>> {
    scalar_text(raw).filter(|_| !matches!(raw, "true" | "false"))
}

/// Returns whether we would write every number in the JSON the same way, so that decoding and encoding it again loses nothing.
pub fn keeps_numbers(bytes: &[u8]) -> bool {
    let mut scanner = Scanner::new(bytes);
    while let Some(byte) = scanner.peek() {
        let from = scanner.at;
        let is_kept = match byte {
            b'"' => scanner.string().is_some(),
            b'-' | b'0'..=b'9' => {
                let word =
                    scanner.word().and_then(|()| bytes_text(&scanner.bytes[from..scanner.at]));
                word.is_some_and(|w| {
                    serde_json::from_str::<Number>(w).is_ok_and(|number| number.to_string() == w)
                })
            }
            _ => scanner.next().is_some(),
        };
        if !is_kept {
            return false;
        }
    }
    true
}

/// Returns the nearest number that JSON can hold, which has no infinities; NaN becomes 0.
pub(crate) fn finite(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(f64::MIN, f64::MAX) }
}

fn bytes_text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Returns the field name of one step of a JSON pointer.
fn unescaped(step: &str) -> Cow<'_, str> {
    if step.contains('~') {
        Cow::Owned(step.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(step)
    }
}

/// Scans JSON by its structure alone. Methods return `None` when the structure is broken.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the first value, after a byte order mark if there is one.
    fn new(bytes: &'a [u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut scanner = Self { bytes, at: 0 };
        scanner.skip_space();
        scanner
    }

    /// Follows a path and skips the rest of the current value. The inner `None` means that the path leads nowhere.
    #[expect(
        clippy::option_option,
        reason = "the outer `None` is a broken structure, the inner one an absent value"
    )]
    fn find(&mut self, path: &[Cow<'_, str>]) -> Option<Option<&'a [u8]>> {
        let Some((step, below)) = path.split_first() else {
            let from = self.at;
            self.skip_value()?;
            return Some(Some(&self.bytes[from..self.at]));
        };
        // As in RFC 6901, an index has no sign and no leading zero.
        let index: Option<usize> = step.parse().ok().filter(|u: &usize| u.to_string() == **step);
        let mut found = None;
        match self.peek()? {
            b'{' => {
                self.open(b'}', |scanner, _| {
                    let name = scanner.name()?;
                    if is_name(name, step) {
                        found = scanner.find(below)?;
                        Some(())
                    } else {
                        scanner.skip_value()
                    }
                })?;
            }
            b'[' => {
                self.open(b']', |scanner, nth| {
                    if Some(nth) == index {
                        found = scanner.find(below)?;
                        Some(())
                    } else {
                        scanner.skip_value()
                    }
                })?;
            }
            _ => self.skip_value()?,
        }
        Some(found)
    }

    /// Scans an object or a list and calls `member` for each member.
    fn open(
        &mut self,
        close: u8,
        mut member: impl FnMut(&mut Self, usize) -> Option<()>,
    ) -> Option<()> {
        self.at += 1;
        self.skip_space();
        if self.peek()? == close {
            self.at += 1;
            return Some(());
        }
        for nth in 0.. {
            member(self, nth)?;
            self.skip_space();
            match self.next()? {
                b',' => self.skip_space(),
                byte if byte == close => break,
                _ => return None,
            }
        }
        Some(())
    }

    /// Skips a value. It does not recurse, because callers control the depth of their JSON.
    fn skip_value(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            let close = match self.peek()? {
                b'{' => Some(b'}'),
                b'[' => Some(b']'),
                b'"' => {
                    self.string()?;
                    None
                }
                _ => {
                    self.word()?;
                    None
                }
            };
            if let Some(close) = close {
                self.at += 1;
                self.skip_space();
                if self.peek()? == close {
                    self.at += 1;
                } else {
                    open.push(close);
                    if close == b'}' {
                        self.name()?;
                    }
                    continue;
                }
            }
            // The value has ended, and the values around it may end here, too.
            loop {
                let Some(close) = open.last().copied() else { return Some(()) };
                self.skip_space();
                match self.next()? {
                    b',' => {
                        self.skip_space();
                        if close == b'}' {
                            self.name()?;
                        }
                        break;
                    }
                    byte if byte == close => {
                        open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    /// Skips the name of a field and the colon, and returns the name with its quotes.
    fn name(&mut self) -> Option<&'a [u8]> {
        let from = self.at;
        self.string()?;
        let name = &self.bytes[from..self.at];
        self.skip_space();
        (self.next()? == b':').then_some(())?;
        self.skip_space();
        Some(name)
    }

    fn string(&mut self) -> Option<()> {
        (self.next()? == b'"').then_some(())?;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => {
                    self.next()?;
                }
                _ => {}
            }
        }
    }

    /// Skips a number, or a word in the place of a number.
    fn word(&mut self) -> Option<()> {
        let from = self.at;
        let is_part = |u: u8| u.is_ascii_alphanumeric() || matches!(u, b'+' | b'-' | b'.');
        while self.peek().is_some_and(is_part) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Option<()> {
        self.skip_space();
        (self.at == self.bytes.len()).then_some(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

/// Returns whether the written name of a field, with its quotes, is `name`.
fn is_name(written: &[u8], name: &str) -> bool {
    if written.contains(&b'\\') {
        serde_json::from_slice(written).is_ok_and(|s: String| s == name)
    } else {
        written.get(1..written.len() - 1) == Some(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::{Parts, find, id_text, is_structured, keeps_numbers, raw, scalar_text};
    use serinus_core::domain::ids::CaseId;
    use serinus_core::plan::rollout::Source;

    const FLIGHT: &[u8] = br#" {"id": "r\u00fc1", "tail": {"a/b": [10, {"x~y": 1.50}]}, "no": null, "e": "", "id2": 17} "#;

    #[test]
    fn a_pointer_finds_what_is_written() {
        let check = |pointer: &str, expected: Option<&str>| {
            assert_eq!(find(FLIGHT, pointer), expected, "{pointer}");
        };
        check("/tail/a~1b/0", Some("10"));
        check("/tail/a~1b/1/x~0y", Some("1.50"));
        check("/tail/a~1b/01", None);
        check("/tail/a~1b/9", None);
        check("/id/x", None);
        check("/nothing", None);
        check("/no", Some("null"));
        check("wrong", None);
        assert_eq!(find(b"3", ""), Some("3"));
        assert_eq!(find(br#"{"a":1,"a":2}"#, "/a"), Some("2"));
        assert_eq!(find(br#"{"a":{"b":1},"a":{"c":2}}"#, "/a/b"), None);
        assert_eq!(find(br#"{"\u0061":1}"#, "/a"), Some("1"));
        assert_eq!(find(b"\xef\xbb\xbf{\"a\":1}", "/a"), Some("1"));
        assert_eq!(find(br#"{"":{"":7},"a":[]}"#, "//"), Some("7"));
        assert_eq!(
            find(br#"{"a":[ ],"b":{ },"c":[{"d":[1,[2,{}]]} , 3]}"#, "/c/0/d/1/0"),
            Some("2")
        );
    }

    #[test]
    fn the_rest_of_a_document_does_not_hide_a_value() {
        let check = |document: &[u8], expected: Option<&str>| {
            let shown = String::from_utf8_lossy(document);
            assert_eq!(find(document, "/tail"), expected, "{shown}");
        };
        for odd in
            ["NaN", "Infinity", "-Infinity", "+Inf", "nan", "undefined", "None", "01", "1e999"]
        {
            for inner in [odd.to_owned(), format!("[1, {odd}]"), format!("{{\"x\": {odd}}}")] {
                check(format!(r#"{{"tail":"N1","wind":{inner}}}"#).as_bytes(), Some("\"N1\""));
                check(format!(r#"{{"wind":{inner},"tail":7}}"#).as_bytes(), Some("7"));
            }
        }
        check(b"{\"note\":\"caf\xe9\",\"tail\":\"N1\"}", Some("\"N1\""));
        check(b"{\"note\":\"a\nb\",\"tail\":\"N1\"}", Some("\"N1\""));
        check(b"{\"note\":\"}{\\\"\",\"tail\":\"N1\"}", Some("\"N1\""));
        check(b"{\"tail\":\"caf\xe9\"}", None);
        for broken in [
            "{\"tail\":1",
            "{\"tail\":1]",
            "{\"tail\":1,}",
            "{\"tail\" 1}",
            "{'tail':1}",
            "{\"tail\":}",
        ] {
            check(broken.as_bytes(), None);
            assert!(!is_structured(broken.as_bytes()), "{broken}");
        }
        assert!(is_structured(b"{\"a\":NaN}") && is_structured(b" 7 ") && is_structured(b"null"));
        assert!(!is_structured(b"hello") && !is_structured(b"NaN") && !is_structured(b""));
    }

    #[test]
    fn numbers_that_are_written_in_another_form_are_found() {
        let check = |text: &str, expected: bool| {
            assert_eq!(keeps_numbers(text.as_bytes()), expected, "{text}");
        };
        check(r#"{"b": [1, -2, 0.5], "a1": "1.50", "c\"2.0": true, "d": 1377993600000}"#, true);
        check(r#"{"a": 1.50}"#, false);
        check(r"[12345678901234567890123]", false);
        check("-0", false);
        check("hello", true);
    }

    #[test]
    fn an_id_is_the_text_that_is_written() {
        let check = |raw: &str, expected: Option<&str>| {
            assert_eq!(id_text(raw).as_deref(), expected, "{raw}");
        };
        for number in ["12345678901234567890123", "1.50", "12345.0", "1e3", "1E+3", "-0", "0.10"] {
            check(number, Some(number));
            check(&format!("\"{number}\""), Some(number));
        }
        check(r#""\u0031""#, Some("1"));
        check(r#"" 1""#, Some(" 1"));
        check(r#""\ud800""#, None);
        for none in
            ["true", "false", "null", "{}", "[1]", "NaN", "-Infinity", "+5", "01", "1.", "0x1"]
        {
            check(none, None);
        }
        assert_eq!(scalar_text("true").as_deref(), Some("true"));
    }

    #[test]
    fn nothing_is_found_in_bytes_that_are_not_json() {
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
