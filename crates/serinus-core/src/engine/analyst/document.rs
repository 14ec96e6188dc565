//! An answer as a document: JSON whose numbers stay as they are written.
//!
//! An identifier may be longer than a float, and a number may be too large for one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::engine::analyst::number::Number;

/// How deep lists and objects may stand in each other; a deeper document is not read.
const DEPTH_MAX: usize = 128;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// A number as it is written.
    Number(Number<'a>),
    /// `NaN`, `Infinity` or `-Infinity`, which some writers of JSON put out and no reader must take.
    NotFinite,
    /// A text.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Self>),
    /// An object; of two members of one name the last counts.
    Object(BTreeMap<Cow<'a, str>, Self>),
}

/// What the bytes of an answer are.
#[derive(Clone, Debug, PartialEq)]
pub enum Document<'a> {
    /// JSON.
    Json(Node<'a>),
    /// JSON but for `NaN` or an infinity somewhere in it.
    NotFinite,
    /// No JSON.
    Other,
}

impl<'a> Document<'a> {
    /// Reads bytes.
    pub fn of(bytes: &'a [u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else { return Self::Other };
        let mut reader = Reader { text, at: 0, has_infinite: false };
        match reader.document() {
            Some(_) if reader.has_infinite => Self::NotFinite,
            Some(node) => Self::Json(node),
            None => Self::Other,
        }
    }
}

impl Node<'_> {
    /// Returns the value at a JSON pointer.
    pub fn pointer(&self, pointer: &str) -> Option<&Self> {
        if pointer.is_empty() {
            return Some(self);
        }
        pointer.strip_prefix('/')?.split('/').try_fold(self, |node, name| match node {
            Self::Object(members) => {
                members.get(name.replace("~1", "/").replace("~0", "~").as_str())
            }
            Self::List(items) => {
                let index: usize = name.parse().ok()?;
                // As in RFC 6901, an index has no sign and no leading zero.
                (index.to_string() == name).then(|| items.get(index)).flatten()
            }
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::NotFinite | Self::Text(_) => None,
        })
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    has_infinite: bool,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Option<Node<'a>> {
        let node = self.node(0)?;
        self.space();
        (self.at == self.text.len()).then_some(node)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    /// Takes a mark if it comes next.
    fn take(&mut self, mark: &str) -> bool {
        let is_there = self.rest().starts_with(mark);
        if is_there {
            self.at += mark.len();
        }
        is_there
    }

    fn node(&mut self, depth: usize) -> Option<Node<'a>> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.space();
        match self.rest().as_bytes().first()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.string().map(Node::Text),
            b't' => self.take("true").then_some(Node::Bool(true)),
            b'f' => self.take("false").then_some(Node::Bool(false)),
            b'n' => self.take("null").then_some(Node::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Node<'a>> {
        let mut members = BTreeMap::new();
        self.at += 1;
        self.space();
        if self.take("}") {
            return Some(Node::Object(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            if !self.take(":") {
                return None;
            }
            members.insert(name, self.node(depth + 1)?);
            self.space();
            if self.take("}") {
                return Some(Node::Object(members));
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Node<'a>> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        if self.take("]") {
            return Some(Node::List(items));
        }
        loop {
            items.push(self.node(depth + 1)?);
            self.space();
            if self.take("]") {
                return Some(Node::List(items));
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    fn number(&mut self) -> Option<Node<'a>> {
        if ["NaN", "Infinity", "-Infinity"].iter().any(|word| self.take(word)) {
            self.has_infinite = true;
            return Some(Node::NotFinite);
        }
        let number = Number::at_start_of(self.rest())?;
        self.at += number.text().len();
        Some(Node::Number(number))
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        if !self.take("\"") {
            return None;
        }
        let mut text = Cow::Borrowed("");
        loop {
            let rest = self.rest();
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ')?;
            if text.is_empty() {
                text = Cow::Borrowed(&rest[..plain]);
            } else {
                text.to_mut().push_str(&rest[..plain]);
            }
            self.at += plain;
            if self.take("\"") {
                return Some(text);
            }
            if !self.take("\\") {
                return None;
            }
            text.to_mut().push(self.escaped()?);
        }
    }

    /// Reads what follows a backslash.
    fn escaped(&mut self) -> Option<char> {
        let mark = self.rest().chars().next()?;
        self.at += mark.len_utf8();
        Some(match mark {
            '"' | '\\' | '/' => mark,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.unit()?;
                if (0xd800..0xdc00).contains(&first) {
                    let second = if self.take("\\u") { self.unit()? } else { return None };
                    let low = second.checked_sub(0xdc00).filter(|x| *x < 0x400)?;
                    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + low)?
                } else {
                    char::from_u32(first)?
                }
            }
            _ => return None,
        })
    }

    /// Reads four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4).filter(|r| r.bytes().all(|i| i.is_ascii_hexdigit()))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Document, Node};

    fn as_value(node: &Node<'_>) -> Value {
        match node {
            Node::Null => Value::Null,
            Node::Bool(is) => Value::Bool(*is),
            Node::Number(number) => number.text().parse().expect("a number"),
            Node::NotFinite => panic!("no JSON has it"),
            Node::Text(text) => Value::from(&**text),
            Node::List(items) => items.iter().map(as_value).collect(),
            Node::Object(members) => {
                members.iter().map(|(name, m)| (name.to_string(), as_value(m))).collect()
            }
        }
    }

    #[test]
    fn what_is_json_is_read_as_json() {
        let check = |text: &str| {
            let known: Option<Value> = text.parse().ok();
            let read = match Document::of(text.as_bytes()) {
                Document::Json(node) => Some(as_value(&node)),
                Document::NotFinite | Document::Other => None,
            };
            assert_eq!(read, known, "{text}");
        };
        for text in [
            " {\"a\" : [1, -2.5e+3, 0, -0, 1E5, true, false, null, {}, []] , \"b\":\"\"}\r\n\t",
            r#""plain""#,
            r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00 tail""#,
            r#"{"a":1,"a":2}"#,
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83dx""#,
            r#""\u12""#,
            "\"a\nb\"",
            "",
            " ",
            "{",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "1e+",
            "nul",
            "true false",
            "1 x",
            "\"open",
            "'a'",
        ] {
            check(text);
        }
        check(&format!("{}1{}", "[".repeat(100), "]".repeat(100)));
        check(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)));
        assert_eq!(Document::of(b"\"\xff\""), Document::Other);
    }

    #[test]
    fn numbers_without_a_value_are_told_from_what_is_no_json() {
        for text in ["NaN", "{\"score\": NaN}", "[1, -Infinity]", "{\"a\":{\"b\":[Infinity]}}"] {
            assert_eq!(Document::of(text.as_bytes()), Document::NotFinite, "{text}");
        }
        for text in ["nan", "+Infinity", "{\"score\": NaN", "-NaN", "inf"] {
            assert_eq!(Document::of(text.as_bytes()), Document::Other, "{text}");
        }
    }

    #[test]
    fn a_pointer_leads_to_what_stands_there() {
        let Document::Json(node) = Document::of(br#"{"a/b":[10,{"x~y":1.50}],"":{"":2}}"#) else {
            panic!("it is JSON");
        };
        let check = |pointer: &str, expected: Option<&str>| {
            let found = node.pointer(pointer).map(|p| {
                if let Node::Number(number) = p { number.text() } else { "something else" }
            });
            assert_eq!(found, expected, "{pointer}");
        };
        check("/a~1b/0", Some("10"));
        check("/a~1b/1/x~0y", Some("1.50"));
        check("/a~1b/00", None);
        check("/a~1b/2", None);
        check("/a~1b/0/x", None);
        check("//", Some("2"));
        check("", Some("something else"));
        check("a", None);
    }
}
