//! A document as a tree whose nodes have their positions in the text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

use crate::spec::path::{Aim, Path, Step};

/// A position in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextPosition {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// The column, counted from 1.
    pub(crate) column: usize,
    /// The width in characters.
    pub(crate) width: usize,
}

/// One node of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Its value.
    pub(crate) kind: Kind,
    /// Its position; `None` if the document comes from JSON in a record.
    pub(crate) position: Option<TextPosition>,
}

/// The value of a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// An empty value.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the written order.
    Map(Vec<Entry>),
}

/// One field of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: String,
    /// The position of the name.
    pub(crate) position: Option<TextPosition>,
    /// The value.
    pub(crate) node: Node,
}

impl Node {
    /// Reads all documents of a YAML or JSON text and skips empty ones.
    pub(crate) fn read_all(text: &str) -> Result<Vec<Self>, serde_saphyr::Error> {
        let options = serde_saphyr::options! { strict_booleans: true };
        let mut nodes: Vec<Self> = serde_saphyr::from_multiple_with_options(text, options)?;
        nodes.retain(|n| n.kind != Kind::Null);
        Ok(nodes)
    }

    /// Returns a tree without positions.
    pub(crate) fn from_json(value: &Value) -> Self {
        let kind = match value {
            Value::Null => Kind::Null,
            Value::Bool(value) => Kind::Bool(*value),
            Value::Number(value) => Kind::Number(value.clone()),
            Value::String(value) => Kind::Text(value.clone()),
            Value::Array(items) => Kind::List(items.iter().map(Self::from_json).collect()),
            Value::Object(fields) => Kind::Map(
                fields
                    .iter()
                    .map(|(name, f)| Entry {
                        name: name.clone(),
                        position: None,
                        node: Self::from_json(f),
                    })
                    .collect(),
            ),
        };
        Self { kind, position: None }
    }

    /// Converts the tree to JSON.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(value) => Value::Number(value.clone()),
            Kind::Text(value) => Value::String(value.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Map(fields) => Value::Object(
                fields.iter().map(|f| (f.name.clone(), f.node.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// Returns the value of a field if this is a mapping that has it.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        Some(&self.entry(name)?.node)
    }

    /// Returns the position of a path, or of its nearest existing parent.
    pub(crate) fn position_of(&self, path: &Path, aim: Aim) -> Option<TextPosition> {
        let mut here = self;
        let mut position = here.position;
        for (index, step) in path.0.iter().enumerate() {
            let is_last = index + 1 == path.0.len();
            match step {
                Step::Field(name) => {
                    let Some(entry) = here.entry(name) else { break };
                    here = &entry.node;
                    // Point at the name of a block, which begins on a later line, and of an empty value, which has no position.
                    let names = (is_last && aim == Aim::Name)
                        || !matches!(here.kind, Kind::Text(_) | Kind::Number(_) | Kind::Bool(_));
                    position = if names { entry.position } else { here.position };
                }
                Step::Item(item) => {
                    let Kind::List(items) = &here.kind else { break };
                    let Some(node) = items.get(*item) else { break };
                    here = node;
                    position = here.position;
                }
            }
        }
        position
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(fields) => fields.iter().find(|f| f.name == name),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        let position = position_of(spanned.referenced);
        let position = match &spanned.value {
            Kind::List(_) | Kind::Map(_) => position.map(|p| TextPosition { width: 1, ..p }),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => position,
        };
        Ok(Self { kind: spanned.value, position })
    }
}

/// Converts a location of the YAML library.
pub(crate) fn position_of(location: Location) -> Option<TextPosition> {
    let number = |u: u64| usize::try_from(u).ok().filter(|i| *i > 0);
    Some(TextPosition {
        line: number(location.line())?,
        column: number(location.column())?,
        width: number(location.span().len()).unwrap_or(1),
    })
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Kind, E> {
        Number::from_f64(value)
            .map(Kind::Number)
            .ok_or_else(|| E::custom("this number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = access.next_key::<Spanned<String>>()? {
            let node = access.next_value()?;
            fields.push(Entry { position: position_of(name.referenced), name: name.value, node });
        }
        Ok(Kind::Map(fields))
    }
}
