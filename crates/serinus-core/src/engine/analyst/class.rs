//! Classes: when a predicted one and a labelled one are the same, and when they cannot be compared.

use std::borrow::Cow;

use serde_json::Value;

use crate::engine::analyst::document::Node;
use crate::engine::analyst::number::{Decimal, Number};

/// A class: a text, a boolean or a number.
#[derive(Clone, Debug, PartialEq)]
pub enum Class<'a> {
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Cow<'a, str>),
    /// A text.
    Text(Cow<'a, str>),
}

impl<'a> Class<'a> {
    /// Returns the class that an answer names; nothing of null, a list, an object or a number without a value.
    pub fn predicted(node: &'a Node<'_>) -> Option<Self> {
        match node {
            Node::Bool(is) => Some(Self::Bool(*is)),
            Node::Number(number) => Some(Self::Number(Cow::Borrowed(number.text()))),
            Node::Text(text) => Some(Self::Text(Cow::Borrowed(text))),
            Node::Null | Node::NotFinite | Node::List(_) | Node::Object(_) => None,
        }
    }

    /// Returns the class that a label names; nothing of null, a list or an object.
    pub fn labelled(value: &'a Value) -> Option<Self> {
        match value {
            Value::Bool(is) => Some(Self::Bool(*is)),
            Value::Number(number) => Some(Self::Number(Cow::Owned(number.to_string()))),
            Value::String(text) => Some(Self::Text(Cow::Borrowed(text))),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Returns whether two classes are the same; nothing where that cannot be known.
    ///
    /// A text that reads `1.0` or `true` is compared with numbers and booleans as these, and 1 and 0 with true and false. Two
    /// different texts that read as the same number may be one class or two, and a text is no number.
    pub fn is_same(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Text(ours), Self::Text(theirs)) if ours == theirs => Some(true),
            (Self::Text(_), Self::Text(_)) => match (self.plain(), other.plain()) {
                (Some(ours), Some(theirs)) => ours.is_same_plain(&theirs).filter(|is| !is),
                (_, _) => Some(false),
            },
            (_, _) => self.plain()?.is_same_plain(&other.plain()?),
        }
    }

    /// Returns the number: of true 1, of false 0, of a text what it reads as.
    pub fn number(&self) -> Option<f64> {
        match self.plain()? {
            Class::Bool(is) => Some(f64::from(is)),
            Class::Number(text) => Some(Number::of(&text)?.float()),
            Class::Text(_) => None,
        }
    }

    /// Returns whether it is a number with a fraction, which names no class.
    pub fn is_fraction(&self) -> bool {
        let decimal = self.plain().and_then(|p| p.decimal());
        decimal.is_some_and(|d| !d.is_whole())
    }

    /// Returns the boolean or number that it is, or that its text reads as.
    fn plain(&self) -> Option<Class<'_>> {
        match self {
            Self::Bool(is) => Some(Class::Bool(*is)),
            Self::Number(text) => Some(Class::Number(Cow::Borrowed(text))),
            Self::Text(text) => match &**text {
                "true" => Some(Class::Bool(true)),
                "false" => Some(Class::Bool(false)),
                text => Number::of(text).map(|t| Class::Number(Cow::Borrowed(t.text()))),
            },
        }
    }

    fn decimal(&self) -> Option<Decimal> {
        match self {
            Self::Number(text) => Number::of(text).map(Number::decimal),
            Self::Bool(_) | Self::Text(_) => None,
        }
    }

    /// Compares booleans and numbers.
    fn is_same_plain(&self, other: &Class<'_>) -> Option<bool> {
        match (self, other) {
            (Self::Bool(ours), Class::Bool(theirs)) => Some(ours == theirs),
            (Self::Bool(is), number) | (number, Class::Bool(is)) => {
                let value = number.decimal()?.whole()?;
                (value == 0 || value == 1).then_some((value == 1) == *is)
            }
            (ours, theirs) => Some(ours.decimal()? == theirs.decimal()?),
        }
    }
}

/// Returns whether a label's whole number may have lost digits when it was read.
pub fn is_too_long(value: &Value) -> bool {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            number.is_f64() && number.as_f64().is_some_and(|a| a.abs() >= EXACT_MAX)
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Class;
    use crate::engine::analyst::document::Document;

    #[test]
    fn classes_compare_in_every_form_that_means_one_thing() {
        let check = |predicted: &str, label: Value, expected: Option<bool>| {
            let Document::Json(node) = Document::of(predicted.as_bytes()) else {
                panic!("{predicted} is JSON");
            };
            let ours = Class::predicted(&node).expect("a class");
            let theirs = Class::labelled(&label).expect("a class");
            assert_eq!(ours.is_same(&theirs), expected, "{predicted} against {label}");
        };
        check("1", json!(1), Some(true));
        check("1", json!(2), Some(false));
        check("1.0", json!(1), Some(true));
        check("-0.0", json!(0), Some(true));
        check("\"1\"", json!(1), Some(true));
        check("1", json!("1"), Some(true));
        check("\"1.0\"", json!(1), Some(true));
        check("\"2\"", json!(1), Some(false));
        check("\"true\"", json!(true), Some(true));
        check("\"false\"", json!(true), Some(false));
        check("1", json!(true), Some(true));
        check("false", json!(1), Some(false));
        check("\"1\"", json!(true), Some(true));
        check("2", json!(true), None);
        check("\"yes\"", json!("yes"), Some(true));
        check("\"yes\"", json!("no"), Some(false));
        check("\"yes\"", json!(1), None);
        check("\"yes\"", json!(true), None);
        check("1", json!("late"), None);
        check("\"True\"", json!(true), None);
        check("\"01\"", json!(1), None);
        check("\"1.0\"", json!("1"), None);
        check("\"1\"", json!("2"), Some(false));
        check("9007199254740993", json!(9_007_199_254_740_993_u64), Some(true));
        check("9007199254740992", json!(9_007_199_254_740_993_u64), Some(false));
        check("18446744073709551615", json!(u64::MAX), Some(true));
    }
}
