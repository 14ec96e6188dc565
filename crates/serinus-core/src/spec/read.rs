//! Deserializes the structs of the spec from a tree; errors have the path of the field.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    Deserialize, Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::spec::path::{Aim, Fault, Path, Step};
use crate::spec::suggest::did_you_mean;
use crate::spec::tree::{Kind, Node};

/// Reads a struct of the spec.
pub(crate) fn read<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Fault> {
    T::deserialize(node).map_err(|n| {
        let mut steps = n.steps;
        steps.reverse();
        Fault { path: Path(steps), aim: n.aim, problem: n.problem, help: n.help }
    })
}

/// The reason why a struct cannot be read. Each level adds its step of the path on the way up.
#[derive(Debug)]
pub(crate) struct ReadError {
    steps: Vec<Step>,
    aim: Aim,
    problem: String,
    help: Option<String>,
}

impl ReadError {
    fn new(problem: String, help: Option<String>) -> Self {
        Self { steps: Vec::new(), aim: Aim::Value, problem, help }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ReadError {}

impl Error for ReadError {
    /// Takes the message of a scalar: the problem, a line break, and the help.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        match message.split_once('\n') {
            Some((problem, help)) => Self::new(problem.to_owned(), Some(help.to_owned())),
            None => Self::new(message, None),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        #[expect(clippy::wildcard_enum_match_arm, reason = "the message quotes scalars only")]
        let text = match found {
            Unexpected::Bool(value) => Some(value.to_string()),
            Unexpected::Unsigned(value) => Some(value.to_string()),
            Unexpected::Signed(value) => Some(value.to_string()),
            Unexpected::Float(value) => Some(value.to_string()),
            Unexpected::Str(value) => Some(value.to_owned()),
            _ => None,
        };
        let help = match (&text, &*expected) {
            (Some(_), "a string") => "put it in quotes".to_owned(),
            (_, "u64") => "write a whole number from 0".to_owned(),
            (_, "f64") => "write a number".to_owned(),
            (_, "a boolean") => "write `true` or `false`".to_owned(),
            (_, "a sequence") => "write a list, such as `[v2]`".to_owned(),
            (_, value) if value.starts_with("struct ") => "write a mapping".to_owned(),
            (_, value) => format!("write {value}"),
        };
        let problem = match (&text, found) {
            (Some(value), _) => format!("`{value}` does not fit here"),
            (None, Unexpected::Unit | Unexpected::Option) => "nothing is written here".to_owned(),
            (None, Unexpected::Seq) => "a list does not fit here".to_owned(),
            (None, Unexpected::Map) => "a mapping does not fit here".to_owned(),
            (None, other) => format!("{other} does not fit here"),
        };
        Self::new(problem, Some(help))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("`{word}` is not a word for this"), Some(did_you_mean(word, known)))
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self {
            steps: vec![Step::Field(name.to_owned())],
            aim: Aim::Name,
            problem: "there is no such field".to_owned(),
            help: Some(did_you_mean(name, known)),
        }
    }

    fn missing_field(name: &'static str) -> Self {
        let help = match name {
            "timeout" => "the deadline of the serving version, such as `timeout: 500ms`",
            "apiVersion" => "write `apiVersion: serinus/v1`",
            "stable" => "the version that serves at the start, such as `stable: v1`",
            "candidates" => "the versions under test, such as `candidates: [v2]`",
            "strategy" => "one of `shadow`, `ab`, `canary`",
            "role" => "one of `goal`, `guardrail`, `signal`, `watch`",
            "metrics" => {
                "what is measured, such as `metrics: [{kind: response_error, role: guardrail, margin: 0.5%}]`"
            }
            _ => "it has no default",
        };
        Self::new(format!("the field `{name}` is missing"), Some(help.to_owned()))
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Number(value) => match (value.as_u64(), value.as_i64(), value.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (None, Some(value), _) => visitor.visit_i64(value),
                (None, None, value) => visitor.visit_f64(value.unwrap_or(f64::NAN)),
            },
            Kind::Text(value) => visitor.visit_borrowed_str(value),
            Kind::List(items) => {
                let items = items
                    .iter()
                    .enumerate()
                    .map(|(item, node)| Below { step: Step::Item(item), node });
                visitor.visit_seq(SeqDeserializer::new(items))
            }
            Kind::Map(fields) => {
                let fields = fields.iter().map(|f| {
                    (&*f.name, Below { step: Step::Field(f.name.clone()), node: &f.node })
                });
                visitor.visit_map(MapDeserializer::new(fields))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.kind {
            Kind::Null => visitor.visit_none(),
            Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) | Kind::Map(_) => {
                visitor.visit_some(self)
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.kind {
            Kind::Text(value) => {
                let value: serde::de::value::StrDeserializer<'_, ReadError> =
                    value.as_str().into_deserializer();
                value.deserialize_enum(name, words, visitor)
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => {
                Err(ReadError::new(
                    "a word belongs here".to_owned(),
                    Some(format!("one of {}", crate::spec::suggest::quoted(words))),
                ))
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

impl<'de> IntoDeserializer<'de, ReadError> for Below<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A node and the step that leads to it, which is added to the path of every error.
struct Below<'de> {
    step: Step,
    node: &'de Node,
}

impl Below<'_> {
    fn with_step<T>(step: Step, result: Result<T, ReadError>) -> Result<T, ReadError> {
        result.map_err(|mut error| {
            error.steps.push(step);
            error
        })
    }
}

impl<'de> Deserializer<'de> for Below<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        Self::with_step(self.step, self.node.deserialize_any(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        Self::with_step(self.step, self.node.deserialize_option(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        Self::with_step(self.step, self.node.deserialize_enum(name, words, visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        Self::with_step(self.step, self.node.deserialize_newtype_struct(name, visitor))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}
