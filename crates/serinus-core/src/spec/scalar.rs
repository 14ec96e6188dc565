//! The scalars of a spec: durations, percentages, limits, places in a record.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::domain::share::Share;
use crate::domain::time::Span;
use crate::plan::rollout::Source;

/// A span of time: `500ms`, `30m`, `2h`, `1d12h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub Span);

/// A share of traffic: `5%`, or a fraction below 1 such as `0.05`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentage(pub Share);

/// A number from 0 to 1, as such or as a percentage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fraction(pub f64);

/// Shares: one for every candidate, or by version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shares {
    /// The same for each candidate.
    Each(Percentage),
    /// By version, as written.
    Of(Vec<(String, Percentage)>),
}

/// A limit on a metric: a number in its own unit, or a percentage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// A number.
    Number(f64),
    /// A percentage, as a fraction.
    Percent(f64),
}

/// Where a piece of text is read from: `key`, `header:NAME` or `json:/POINTER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(pub Source);

/// A place in a JSON value: `json:/POINTER`; `json` alone is the whole value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(pub String);

/// A place in a JSON value, or `record` for the record's own time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimePlace(pub Option<String>);

/// The error for a share that is written as `1`, which is ambiguous.
const ONE: &str = "`1` can be read as 1% or as 100%\nwrite `1%` or `100%`";

/// Parses a duration such as `1d12h`.
pub fn parse_duration(text: &str) -> Option<Span> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|i| *i > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit_ms = match &rest[..letters] {
            "ms" => 1.0,
            "s" => 1000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return None,
        };
        rest = &rest[letters..];
        total += number * unit_ms;
    }
    // At most about a thousand years: longer than any rollout, and far below an overflow.
    if !total.is_finite() || total > 3.2e13 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the total is at most 3.2e13")]
    Some(Span(total.round() as i64))
}

fn parse_percent(text: &str) -> Option<f64> {
    let number: f64 = text.trim().strip_suffix('%')?.trim_end().parse().ok()?;
    number.is_finite().then_some(number / 100.0)
}

/// Returns whether a text is a JSON pointer.
fn is_pointer(text: &str) -> bool {
    let escapes_are_known = text.split('~').skip(1).all(|t| t.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes_are_known
}

fn pointer<E: Error>(text: &str) -> Result<String, E> {
    let rest = if text == "json" { Some("") } else { text.strip_prefix("json:") };
    match rest {
        Some(value) if is_pointer(value) => Ok(value.to_owned()),
        Some(value) => Err(E::custom(format_args!(
            "`{value}` is not a JSON pointer\nbegin it with a slash: `json:/score`"
        ))),
        None => Err(E::custom(format_args!(
            "`{text}` does not say where to look\nwrite `json:/POINTER`, such as `json:/score`"
        ))),
    }
}

/// A scalar that is written as text or as a number.
trait Scalar: Sized {
    const EXPECTED: &'static str;

    fn of_text<E: Error>(text: &str) -> Result<Self, E>;

    fn of_number<E: Error>(number: f64) -> Result<Self, E> {
        Err(E::custom(format_args!("`{number}` does not fit here\nwrite {}", Self::EXPECTED)))
    }
}

impl Scalar for Duration {
    const EXPECTED: &'static str = "a number with its unit, such as `500ms`, `30m`, `2h` or `14d`";

    fn of_text<E: Error>(text: &str) -> Result<Self, E> {
        parse_duration(text).map(Self).ok_or_else(|| {
            E::custom(format_args!("`{text}` is not a span of time\nwrite {}", Self::EXPECTED))
        })
    }

    fn of_number<E: Error>(number: f64) -> Result<Self, E> {
        Err(E::custom(format_args!("`{number}` has no unit\nwrite {}", Self::EXPECTED)))
    }
}

impl Scalar for Percentage {
    const EXPECTED: &'static str = "a percentage from 0% to 100%, such as `5%`";

    fn of_text<E: Error>(text: &str) -> Result<Self, E> {
        match parse_percent(text) {
            Some(value) => Share::from_fraction(value).map(Self).ok_or_else(|| {
                let side = if value < 0.0 { "below 0%" } else { "over 100%" };
                E::custom(format_args!("`{text}` is {side}\nwrite {}", Self::EXPECTED))
            }),
            None => Err(E::custom(format_args!(
                "`{text}` is not a percentage\nwrite {}",
                Self::EXPECTED
            ))),
        }
    }

    fn of_number<E: Error>(number: f64) -> Result<Self, E> {
        if (1.0..=1.0).contains(&number) {
            return Err(E::custom(ONE));
        }
        Share::from_fraction(number).map(Self).ok_or_else(|| {
            E::custom(format_args!(
                "`{number}` is not a share from 0 to 1\nwrite `{number}%` if you mean a percentage"
            ))
        })
    }
}

impl Scalar for Fraction {
    const EXPECTED: &'static str = "a number from 0 to 1, or a percentage";

    fn of_text<E: Error>(text: &str) -> Result<Self, E> {
        match parse_percent(text) {
            Some(value) => Self::of_number(value),
            None => {
                Err(E::custom(format_args!("`{text}` is not a number\nwrite {}", Self::EXPECTED)))
            }
        }
    }

    fn of_number<E: Error>(number: f64) -> Result<Self, E> {
        if (0.0..=1.0).contains(&number) {
            return Ok(Self(number));
        }
        Err(E::custom(format_args!("`{number}` is not between 0 and 1\nwrite {}", Self::EXPECTED)))
    }
}

impl Scalar for Limit {
    const EXPECTED: &'static str = "a number such as `0.01`, or a percentage such as `0.5%`";

    fn of_text<E: Error>(text: &str) -> Result<Self, E> {
        match parse_percent(text) {
            Some(value) if value >= 0.0 => Ok(Self::Percent(value)),
            Some(_) => Err(E::custom(format_args!(
                "`{text}` is negative\na limit says how much worse is still acceptable"
            ))),
            None => {
                Err(E::custom(format_args!("`{text}` is not a limit\nwrite {}", Self::EXPECTED)))
            }
        }
    }

    fn of_number<E: Error>(number: f64) -> Result<Self, E> {
        if number >= 0.0 {
            return Ok(Self::Number(number));
        }
        Err(E::custom(format_args!(
            "`{number}` is negative\na limit says how much worse is still acceptable"
        )))
    }
}

impl Scalar for Place {
    const EXPECTED: &'static str = "`key`, `header:NAME` or `json:/POINTER`";

    fn of_text<E: Error>(text: &str) -> Result<Self, E> {
        let name = text.strip_prefix("header:").filter(|s| !s.is_empty());
        match (text, name) {
            ("key", _) => Ok(Self(Source::Key)),
            (_, Some(name)) => Ok(Self(Source::Header(name.to_owned()))),
            _ if text == "json" || text.starts_with("json:") => {
                Ok(Self(Source::Json(pointer(text)?)))
            }
            _ => Err(E::custom(format_args!(
                "`{text}` does not say where to look\nwrite {}",
                Self::EXPECTED
            ))),
        }
    }
}

impl Scalar for Pointer {
    const EXPECTED: &'static str = "`json:/POINTER`, such as `json:/score`";

    fn of_text<E: Error>(text: &str) -> Result<Self, E> {
        pointer(text).map(Self)
    }
}

impl Scalar for TimePlace {
    const EXPECTED: &'static str = "`json:/POINTER`, or `record` for the record's own time";

    fn of_text<E: Error>(text: &str) -> Result<Self, E> {
        if text == "record" { Ok(Self(None)) } else { Ok(Self(Some(pointer(text)?))) }
    }
}

struct ScalarVisitor<T>(std::marker::PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::of_text(text)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::of_number(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::of_number(number as f64)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        T::of_number(number)
    }
}

struct SharesVisitor;

impl<'de> Visitor<'de> for SharesVisitor {
    type Value = Shares;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a percentage such as `5%`, or one for each version: `{v2: 10%, v3: 5%}`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Shares, E> {
        Percentage::of_text(text).map(Shares::Each)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Shares, E> {
        Percentage::of_number(number as f64).map(Shares::Each)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Shares, E> {
        Percentage::of_number(number as f64).map(Shares::Each)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Shares, E> {
        Percentage::of_number(number).map(Shares::Each)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Shares, A::Error> {
        let mut shares = Vec::new();
        while let Some(share) = access.next_entry()? {
            shares.push(share);
        }
        Ok(Shares::Of(shares))
    }
}

impl<'de> Deserialize<'de> for Shares {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SharesVisitor)
    }
}

impl JsonSchema for Shares {
    fn schema_name() -> Cow<'static, str> {
        "Shares".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let share = generator.subschema_for::<Percentage>();
        json_schema!({
            "description": "Shares of traffic: one for every candidate, or by version.",
            "anyOf": [share, {"type": "object", "additionalProperties": share, "minProperties": 1}],
        })
    }
}

macro_rules! scalar {
    ($name:ident, $schema:tt) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(ScalarVisitor(std::marker::PhantomData))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

scalar!(Duration, {
    "description": "A span of time: a number with its unit (ms, s, m, h, d), or several of them.",
    "type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$", "examples": ["500ms", "30m", "1d12h"],
});
scalar!(Percentage, {
    "description": "A share of traffic: a percentage, or a fraction below 1. `1` alone could be 1% or 100%, and is refused.",
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*%$", "examples": ["5%"]},
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    ],
});
scalar!(Fraction, {
    "description": "A number from 0 to 1, as such or as a percentage.",
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*%$", "examples": ["5%"]},
        {"type": "number", "minimum": 0, "maximum": 1},
    ],
});
scalar!(Limit, {
    "description": "A limit on a metric: a number in its own unit, or a percentage (points of a rate; of the stable version's value for latency).",
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*%$", "examples": ["0.5%", "20%"]},
        {"type": "number", "minimum": 0},
    ],
});
scalar!(Place, {
    "description": "Where a piece of text is read from: the record's key, a header, or a JSON pointer into the value.",
    "type": "string", "pattern": "^(key|header:.+|json(:(/.*)?)?)$", "examples": ["key", "header:ce_id", "json:/tailnum"],
});
scalar!(Pointer, {
    "description": "A JSON pointer; `json` alone is the whole value.",
    "type": "string", "pattern": "^json(:(/.*)?)?$", "examples": ["json:/score"],
});
scalar!(TimePlace, {
    "description": "A JSON pointer to Unix milliseconds, or `record` for the record's own time.",
    "type": "string", "pattern": "^(record|json(:(/.*)?)?)$", "examples": ["json:/observed_at"],
});

#[cfg(test)]
mod tests {
    use super::parse_duration;
    use crate::domain::time::Span;

    #[test]
    fn durations_read_as_people_write_them() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_duration(text), expected.map(Span), "{text}");
        };
        check("500ms", Some(500));
        check("1.5s", Some(1500));
        check("30m", Some(1_800_000));
        check("1d12h", Some(129_600_000));
        check("0s", Some(0));
        check("5", None);
        check("", None);
        check("m", None);
        check("5 minutes", None);
        check("-5m", None);
        check("1..5s", None);
        check("9999999999d", None);
    }
}
